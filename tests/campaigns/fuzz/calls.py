"""Calls of the API and options of the command line with something nobody means in the place of one argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.campaigns.fuzz import junk
from tests.campaigns.fuzz.readers import READERS, Reader, Refused, tiny


@dataclass(frozen=True)
class Call:
    """A function, arguments that are right, and which of them is spoiled by what."""

    name: str
    function: Callable
    arguments: dict[str, Any]
    spoiled: str
    by: Any

    def __call__(self) -> Any:
        return self.function(**{**self.arguments, self.spoiled: self.by})

    def __repr__(self) -> str:
        try:
            return f"{self.name}(..., {self.spoiled}={self.by!r})"[:500]
        except Exception:
            return f"{self.name}(..., {self.spoiled}=<{type(self.by).__name__}>)"


class _Odd:
    """An object of no use, which cannot even be written."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def _wrong(rng: Random, instance: Any, others: list[Any]) -> Any:
    kind = rng.random()
    if kind < 0.3:
        return junk.number(rng)
    if kind < 0.6:
        return rng.choice(
            (None, "", "x", "3 parsecs", "gh201", [], {}, (), [None], ["a"], [[1], [2, 3]], b"x", object, _Odd())
        )
    if kind < 0.8:
        arrays = (np.zeros(3), np.zeros((2, 2)), np.array(["a"]), np.array([None]), np.array(5), np.array([np.nan, 1]))
        return rng.choice((*arrays, np.array([2**63], np.uint64), np.zeros(0), np.array([1e300]), np.datetime64("now")))
    return rng.choice(others)


def api(folder: Path) -> Reader:
    """The public functions and classes."""
    import kvopt
    from kvopt import objective
    from kvopt.sources.attention import top_share_accesses, trace_from_reads

    instance = tiny()
    result = kvopt.solve(instance, "static-oldest")
    bound = kvopt.bound(instance, method="aggregate")
    saved = folder / "api.parquet"
    instance.trace.save(saved)
    bus, tier = kvopt.Channel("bus", 1.0), kvopt.Tier("a", 10.0, {"bus": 1.0}, {"bus": 1.0})
    slow = kvopt.Tier("b", 10.0, {"bus": 1.0}, {"bus": 1.0})
    columns = {
        n: getattr(instance.trace, n)
        for n in ("lane", "size_bytes", "write_step", "free_step", "run_ptr", "run_start", "run_stop")
    }
    counts = {"n_steps": 6, "n_lanes": 2}
    blocks = {n: columns[n] for n in ("lane", "size_bytes", "write_step", "free_step")}
    scores = np.random.default_rng(0).random((3, 2, 7))
    calls: list[tuple[Callable, dict[str, Any]]] = [
        (
            kvopt.Trace,
            {**counts, **columns, "name": "t", "provenance": {}, "step_unit": "token", "tokens_per_page": None},
        ),
        (kvopt.Trace.from_accesses, {"block": [0, 1], "step": [2, 3], **counts, **blocks}),
        (instance.trace.window, {"steps": (0, 3), "lanes": [0], "blocks": np.ones(2, bool)}),
        (instance.trace.with_size_bytes, {"size_bytes": 3}),
        (instance.trace.save, {"path": saved}),
        (kvopt.load_trace, {"path": saved}),
        (kvopt.Channel, {"name": "bus", "bandwidth_bytes_per_s": 1.0}),
        (kvopt.Tier, {"name": "a", "capacity_bytes": 1.0, "read": {"bus": 1.0}, "write": {}, "move_out": None}),
        (lambda load: kvopt.Platform("p", (kvopt.Tier("c", 1.0, {"bus": load}, {}), slow), (bus,)), {"load": 1.0}),
        (kvopt.Platform, {"name": "p", "tiers": (tier, slow), "channels": (bus,)}),
        (kvopt.Platform.preset, {"name": "gh200"}),
        (kvopt.Platform.from_toml, {"path": "none.toml"}),
        (kvopt.ModelSpec.preset, {"name": "llama-3.1-8b"}),
        (instance.platform.with_capacity, {"capacity_bytes": 3.0, "tier": 0}),
        (kvopt.Rules, {"copies": "inclusive", "moves": "free", "reads": "nearest", "writes": "through"}),
        (
            kvopt.Instance,
            {
                "trace": instance.trace,
                "platform": instance.platform,
                "rules": kvopt.Rules(),
                "weight_bytes": 0.0,
                "weight_bytes_per_slot": 0.0,
                "batch": 1,
                "objective": objective.latency(),
                "initial": np.zeros(2, int),
            },
        ),
        (
            kvopt.Instance.from_specs,
            {
                "model": "llama-3.1-8b",
                "platform": "gh200",
                "trace": instance.trace,
                "batch": 1,
                "kv_bits": 16,
                "weight_bits": 16,
                "rules": None,
                "hbm_bytes": 3e9,
            },
        ),
        (instance.with_hbm_bytes, {"hbm_bytes": 20.0}),
        (instance.with_objective, {"objective": objective.latency()}),
        (instance.with_initial, {"placement": result.placement}),
        (instance.with_lanes, {"count": 1}),
        (kvopt.Placement, {"ptr": [0, 1, 2], "start": [0, 1], "stop": [4, 9], "state": [0, 0]}),
        (kvopt.Placement.from_intervals, {"n_blocks": 2, "block": [0], "start": [1], "stop": [2], "state": [0]}),
        (result.placement.violations, {"instance": instance}),
        (kvopt.evaluate, {"instance": instance, "placement": result.placement}),
        (kvopt.accepts, {"instance": instance, "objective": objective.latency()}),
        (kvopt.verify, {"instance": instance, "certificate": bound.certificate}),
        (kvopt.save_placement, {"placement": result.placement, "path": folder / "p.parquet", "instance": instance}),
        (kvopt.load_placement, {"path": folder / "p.parquet", "instance": instance}),
        (bound.certificate.save, {"path": folder / "c.npz", "instance": instance}),
        (kvopt.Certificate.load, {"path": folder / "c.npz", "instance": instance}),
        (
            kvopt.solve,
            {
                "instance": instance,
                "method": "static-oldest",
                "time_limit": 1.0,
                "seed": 0,
                "start": None,
                "bound": bound,
                "objective": objective.latency(),
            },
        ),
        (
            kvopt.bound,
            {"instance": instance, "method": "aggregate", "time_limit": 1.0, "objective": objective.latency()},
        ),
        (
            objective.energy,
            {"read_j_per_byte": {}, "write_j_per_byte": {"hbm": 1.0}, "power_w": 0.0, "hold_j_per_byte_slot": None},
        ),
        (objective.traffic, {"channel": "hbm"}),
        (objective.cvar, {"alpha": 0.5}),
        (objective.late_steps, {"deadline_s": 0.5}),
        (objective.cost, {"per_hour": 1.0, "per_byte_written": None, "currency": "EUR"}),
        (lambda weight: weight * objective.latency(), {"weight": 0.5}),
        (lambda other: objective.latency() + other, {"other": objective.worst_step()}),
        (objective.WeightedSum, {"terms": ((1.0, objective.latency()),)}),
        (top_share_accesses, {"scores": scores, "share": 0.5}),
        (trace_from_reads, {"read": scores > 0.9, "size_bytes": 3, "provenance": {}}),
    ]
    others = [
        instance,
        instance.trace,
        instance.platform,
        result,
        result.placement,
        bound,
        bound.certificate,
        kvopt.Rules(),
        tier,
        bus,
        objective.latency(),
        {"hbm": "x"},
        {1: 2},
        {"copies": 3},
    ]
    only_wrong = [
        (
            kvopt.solve,
            {"instance": instance, "method": "anneal", "time_limit": 1.0, "start": None, "bound": bound},
            (_Odd(), b"x", -1, [1]),
        ),
        (
            kvopt.bound,
            {
                "instance": instance,
                "method": "dual",
                "time_limit": 1.0,
                "start": None,
                "target_s": None,
                "gap": None,
                "checkpoint": None,
                "threads": None,
            },
            (_Odd(), b"x", [1], result, float("nan")),
        ),
        (
            kvopt.compare,
            {"instance": instance, "methods": ["lru"], "time_limit": 1.0, "objective": None},
            (_Odd(), 5, "lru", [5], float("nan")),
        ),
        (
            kvopt.size,
            {"instance": instance, "target_latency_s": 1.0, "vary": "hbm_bytes", "time_limit": 1.0, "tolerance": 0.1},
            (_Odd(), "x", [1], float("nan"), b"x"),
        ),
        (
            kvopt.sweep,
            {"instance": instance, "vary": "hbm_bytes", "values": [8.0], "time_limit": 1.0, "processes": 1},
            (_Odd(), "x", [None], [float("nan")], float("nan")),
        ),
        (
            kvopt.explain,
            {"instance": instance, "method": "lru", "time_limit": 1.0, "phases": 2},
            (_Odd(), "x", [1], float("nan")),
        ),
    ]

    def make(rng: Random) -> Call:
        if rng.random() < 0.15:
            function, arguments, wrong = rng.choice(only_wrong)
            name = rng.choice(list(arguments))
            by: Any = rng.choice(wrong)
        else:
            function, arguments = rng.choice(calls)
            name = rng.choice(list(arguments))
            by = _wrong(rng, instance, others)
        return Call(getattr(function, "__qualname__", "?"), function, arguments, name, by)

    kvopt.save_placement(result.placement, folder / "p.parquet", instance)
    bound.certificate.save(folder / "c.npz", instance)
    return Reader("", make, lambda call: call())


_AMOUNTS = (
    "1",
    "24e9",
    "24GB",
    "1e400",
    "-1",
    "0",
    "nan",
    "inf",
    "1..2",
    "9" * 400,
    "3 KiB",
    "5 parsecs",
    "",
    "0x10",
    "1_0",
    "٣",
    "1e",
    ".",
    "+5k",
)


def options(folder: Path) -> Reader:
    """Amounts, spreads and options of commands that make an instance."""
    import click

    from kvopt.cli.instance import instance_options
    from kvopt.cli.types import AMOUNT, NAMED_AMOUNT, SPREAD, OneLineErrors

    saved = folder / "options.parquet"
    tiny().trace.save(saved)

    @click.group(cls=OneLineErrors)
    def group() -> None:
        """Commands."""

    @group.command()
    @instance_options
    def made(instance, seed) -> None:
        """Only make the instance."""
        instance.summary()

    texts = (
        *_AMOUNTS,
        "gh200",
        "exclusive",
        "inclusive",
        "balanced",
        "back",
        "through",
        "free",
        "lru",
        "latency",
        "cvar(alpha={})",
        "hbm=5",
        "=5",
        "hbm=",
        "a=b=c",
        "none.parquet",
        str(saved),
        "\n",
        "é",
        "\udcff",
        "9" * 5000,
        "none.toml",
        "exact",
    )
    names = (
        "--platform",
        "--hbm-bytes",
        "--backing-bytes",
        "--tier-bytes",
        "--kv-bytes-per-token-layer",
        "--page-tokens",
        "--copies",
        "--moves",
        "--reads",
        "--writes",
        "--initial",
        "--weight-bytes-per-slot",
        "--batch",
        "--objective",
        "--accesses",
        "--seed",
    )
    parts = (*_AMOUNTS, "hbm_bytes=", ":", "=", "1GB", "10", "vary=1:2:3", "1:2:", "10**9", "99999999999", " ")

    def make(rng: Random) -> Any:
        if rng.random() < 0.5:
            kind = rng.choice((AMOUNT, NAMED_AMOUNT, SPREAD))
            text = "".join(rng.choice(parts) for _ in range(rng.choice((1, 2, 3, 6))))
            if kind is SPREAD and rng.random() < 0.6:
                text = f"hbm_bytes={rng.choice(_AMOUNTS)}:{rng.choice(_AMOUNTS)}:{rng.choice(parts)}"
            return kind, text
        chosen = [rng.choice(names) for _ in range(rng.choice((1, 1, 2)))]
        return [str(saved), *(text for name in chosen for text in (name, rng.choice(texts)))]

    def run(given: Any) -> None:
        if isinstance(given, tuple):
            try:
                given[0].convert(given[1], None, None)
            except click.UsageError as error:
                raise Refused from error
            return
        try:
            group.main(["made", *given], standalone_mode=False, prog_name="kvopt")
        except click.exceptions.Exit as left:
            code = left.exit_code
            assert code == 2, f"exit code {code}"
            raise Refused from None
        except click.UsageError as error:
            raise Refused from error

    return Reader("", make, run)


ALL = {**READERS, "api": api, "options": options}
