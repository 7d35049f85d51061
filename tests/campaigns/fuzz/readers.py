"""Everything that reads: what it is given, and what must hold of what it accepts.

A reader imports kvopt when it is made, so that the campaign can be pointed at another checkout first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.campaigns.fuzz import files, junk

_ODD_PATHS = 0.003


class Refused(Exception):
    """What the command line did instead of an error of kvopt's."""


@dataclass(frozen=True)
class Reader:
    """One reader under attack.

    Parameters
    ----------
    suffix : str
        Of the file its input is written to; empty where the input is no file.
    make : callable
        Random -> input: bytes of a file, or whatever ``run`` takes.
    run : callable
        Takes the path of the file, or the input, and raises what the reader raises; AssertionError where it accepts
        what it should not.
    """

    suffix: str
    make: Callable[[Random], Any]
    run: Callable[[Any], None]
    pipes: bool = False
    """Whether a named pipe is read, and its writer waited for."""


def odd_paths(folder: Path) -> list[Any]:
    """Paths that are no regular file, or none at all."""
    (folder / "directory.npz").mkdir()
    os.mkfifo(folder / "pipe.toml")
    (folder / "loop.parquet").symlink_to(folder / "loop.parquet")
    (folder / "empty\nname").write_bytes(b"")
    odd = (folder / "directory.npz", folder / "pipe.toml", folder / "loop.parquet", folder / "empty\nname")
    return [*odd, folder / "none.json", Path("/dev/zero"), Path("/dev/null"), "x" * 5000, folder / "a\x00b"]


def tiny() -> Any:
    """The instance that files are of."""
    import kvopt

    trace = kvopt.Trace(6, 2, [0, 1], [3, 4], [-1, -1], [6, 6], [0, 1, 2], [0, 1], [2, 3])
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200"))


def trace(folder: Path) -> Reader:
    """Traces in Parquet: what is loaded can be counted, made an instance of, and saved and loaded again."""
    import kvopt

    instance, saved = tiny(), folder / "saved.parquet"
    instance.trace.save(saved)
    columns, meta = files.columns_of(saved)
    data = saved.read_bytes()

    def run(path: Any) -> None:
        found = kvopt.load_trace(path)
        summary = found.summary()
        if found.n_slots <= 100_000 or found.n_slots > 10**9:
            kvopt.Instance(found, instance.platform.with_capacity(1e300)).summary()
        found.save(folder / "again.parquet")
        again = kvopt.load_trace(folder / "again.parquet").summary()
        assert again == {**summary, "name": found.name}

    return Reader(".parquet", lambda rng: files.parquet(rng, columns, meta, data), run)


def placement(folder: Path) -> Reader:
    """Placements in Parquet: what is loaded keeps the instance's rules."""
    import kvopt

    instance, saved = tiny(), folder / "placed.parquet"
    kvopt.save_placement(kvopt.Placement([0, 1, 2], [0, 1], [4, 9]), saved, instance)
    columns, meta = files.columns_of(saved)
    data = saved.read_bytes()

    def run(path: Any) -> None:
        found = kvopt.load_placement(path, instance)
        assert not found.violations(instance)
        kvopt.evaluate(instance, found)

    return Reader(".parquet", lambda rng: files.parquet(rng, columns, meta, data), run)


def _multipliers(folder: Path, kind: str) -> tuple[Any, dict[str, np.ndarray], Any, bytes]:
    """(instance, arrays, what the file says it is of, bytes) of a certificate or a checkpoint that is right."""
    import kvopt
    from kvopt.bounds.checkpoint import Checkpoint, Reached

    instance, saved = tiny(), folder / f"{kind}.npz"
    channels, tiers, slots = len(instance.platform.channels), len(instance.platform.tiers), instance.n_slots
    right = kvopt.Certificate(np.full((channels, slots), 1 / channels), np.zeros((tiers, slots)))
    if kind == "certificate":
        right.save(saved, instance)
    else:
        Checkpoint(saved, instance).write(Reached(right, right, 1))
    with np.load(saved) as file:
        arrays = dict(file)
    return instance, arrays, json.loads(str(arrays.pop("about"))), saved.read_bytes()


def certificate(folder: Path) -> Reader:
    """Certificates: what is loaded holds arrays of numbers; what they prove is another's business."""
    import kvopt

    instance, arrays, about, data = _multipliers(folder, "certificate")

    def run(path: Any) -> None:
        found = kvopt.Certificate.load(path, instance)
        assert found.channel_price.dtype == float

    return Reader(".npz", lambda rng: files.archive(rng, arrays, about, data), run)


def checkpoint(folder: Path) -> Reader:
    """Checkpoints of an ascent."""
    from kvopt.bounds.checkpoint import Checkpoint

    instance, arrays, about, data = _multipliers(folder, "checkpoint")

    def run(path: Any) -> None:
        found = Checkpoint(Path(path), instance).read()
        assert found is None or found.now.channel_price.dtype == float

    return Reader(".npz", lambda rng: files.archive(rng, arrays, about, data), run)


def _specs(kind: str, load: str) -> Reader:
    import kvopt
    from kvopt.spec_io import shipped

    texts = [path.read_text(encoding="utf-8") for path in shipped(kind).values()]
    read = kvopt.Platform.from_toml if kind == "platforms" else kvopt.ModelSpec.from_toml

    def make(rng: Random) -> bytes:
        text = rng.choice(texts)
        if rng.random() < 0.75:
            return junk.encoded(rng, junk.spoiled_toml(rng, text))
        return junk.spoiled_bytes(rng, text.encode(), rng.choice(texts).encode())

    def run(path: Any) -> None:
        found = read(path)
        if kind == "platforms":
            assert np.isfinite(found.loads("read")).all()
            assert found.with_capacity(1.0) is not None
        else:
            assert found.kv_bytes_per_token_layer(16) > 0
            assert found.weight_bytes_read_per_layer(3) > 0

    return Reader(".toml", make, run)


def platform(folder: Path) -> Reader:
    """Platforms in TOML."""
    return _specs("platforms", "Platform")


def model(folder: Path) -> Reader:
    """Models in TOML."""
    return _specs("models", "ModelSpec")


def objective(folder: Path) -> Reader:
    """Objective lines: what is parsed has prices, and is spelled so that it is parsed to the same."""
    from kvopt import objective_text

    instance = tiny()

    def run(text: str) -> None:
        found = objective_text.parse(text)
        judged = instance.with_objective(found)
        assert judged.summary()["objective_text"] is not None
        again = objective_text.parse(objective_text.spell(found))
        assert objective_text.spell(again) == objective_text.spell(found)

    return Reader("", junk.objective_line, run)


def sweep(folder: Path) -> Reader:
    """Points of a sweep in JSON."""
    from kvopt import sweep_file
    from kvopt.result import Role
    from kvopt.sweep import Sweep, SweepPoint

    instance = tiny()
    points = tuple(SweepPoint(v, 1.0, "dual", Role.CERTIFIED, True, 2.0, "lru", v, v, 0.5) for v in (7.0, 9.0))
    right = Sweep(instance, "hbm_bytes", "bytes", points, 0, 15.0).to_json()

    def run(path: Any) -> None:
        for point in sweep_file.load(path, instance, "hbm_bytes", seed=0, time_limit=15.0):
            assert np.isfinite([point.value, point.bound_s, point.achieved_s, point.elapsed_s]).all()

    return Reader(".json", _json_files(right), run)


def study(folder: Path) -> Reader:
    """Rows of a study in JSON: loaded, and taken up again."""
    from kvopt import studies
    from kvopt.result import versions
    from kvopt.studies import engine

    head = {"setting": "a", "role": "achieved", "published_s": None, "bound_s": None, "gap": None, "remark": ""}
    figures = {"feasible": True, "decode_s": 1.0, "reproduced_s": 100.0, "took_s": 0.5, "kv_hit_rate": 0.5}
    rows = [
        {**head, **figures, "policy": name, "details": {"ratio": 0.5, "window_steps": 3}} for name in ("lru", "bound")
    ]
    right = {"study": "s", "scale": "tenth", "seed": 0, "version": versions()["kvopt"], "complete": True, "rows": rows}
    setting = SimpleNamespace(key="a")

    def run(path: Any) -> None:
        assert engine.load(path).frame is not None
        found = engine._rows_of(Path(path), SimpleNamespace(name="s"), "tenth", 0)
        for setting_key, policy in found:
            engine._with_bound(found, SimpleNamespace(key=setting_key), policy)
        engine._with_bound(found, setting, "lru")
        assert studies is not None

    return Reader(".json", _json_files(right), run)


def _json_files(right: Any) -> Callable[[Random], bytes]:
    text = json.dumps(right).encode()

    def make(rng: Random) -> bytes:
        if rng.random() < 0.25:
            return junk.spoiled_bytes(rng, text, text)
        return junk.encoded(rng, junk.json_text(rng, junk.spoiled_json(rng, right)))

    return make


def request_log(folder: Path) -> Reader:
    """Request logs in JSON lines."""
    from kvopt.sources.request_log import import_mooncake

    right = [
        {"timestamp": 10 * k, "input_length": 1024, "output_length": 5, "hash_ids": [k % 3, 7 + k]} for k in range(5)
    ]

    def make(rng: Random) -> bytes:
        lines = [json.dumps(line) for line in right]
        at = rng.randrange(len(lines))
        lines[at] = junk.json_text(rng, junk.spoiled_json(rng, right[at]))
        data = junk.encoded(rng, "\n".join(lines))
        return junk.spoiled_bytes(rng, data, data) if rng.random() < 0.3 else data

    def run(path: Any) -> None:
        assert import_mooncake(path).summary()["n_blocks"] > 0

    return Reader(".jsonl", make, run, pipes=True)


READERS: dict[str, Callable[[Path], Reader]] = {
    "trace": trace,
    "placement": placement,
    "certificate": certificate,
    "checkpoint": checkpoint,
    "platform": platform,
    "model": model,
    "objective": objective,
    "sweep": sweep,
    "study": study,
    "request-log": request_log,
}


def attacked(reader: Reader, rng: Random, odd: list[Any]) -> Any:
    """An input: at times a path that is no file, where the reader takes files."""
    if reader.suffix and rng.random() < _ODD_PATHS:
        return rng.choice([path for path in odd if not (reader.pipes and str(path).endswith("pipe.toml"))])
    return reader.make(rng)
