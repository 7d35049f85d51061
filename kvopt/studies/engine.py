"""Run a study: setting by setting, row by row, each written down as soon as it is there."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kvopt import interrupts
from kvopt.anneal.lanes import one_stands_for_all
from kvopt.arguments import check_progress, expect, path_of, real
from kvopt.bounds import dual_bound
from kvopt.errors import KvoptError, MethodError, shown
from kvopt.instance import Instance
from kvopt.output import write_whole
from kvopt.reading import read_json
from kvopt.result import Bound, Progress, Result, Role, Termination, one_line, relative_gap, versions
from kvopt.solve import bound as bound_of
from kvopt.solve import solve
from kvopt.studies.study import Method, Row, Scale, Setting, Study
from kvopt.warmup import load_kernels
from kvopt.workers import run_each

if TYPE_CHECKING:
    import pandas as pd

UNLIMITED, BOUND, ANNEALED = "unlimited", "bound", "annealed"
"""Rows that every setting has."""
FILE = "study.json"
_AGAIN = 0.1
"""Share of a bound's time limit that it takes to go on from its checkpoint, for annealing to start from."""
OnProgress = Callable[[str, Progress], None]
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class StudyRun:
    """What came of it.

    Parameters
    ----------
    study, scale : str
    seed : int
    rows : tuple of dict
        One a setting and method: the setting's key and labels; ``policy``, ``role`` (achieved, certified, or claimed)
        and ``feasible``, whether it is the time of a placement that every rule allows; ``published_s``; ``decode_s``,
        and ``reproduced_s``, the same at the published size (over the square of the scale's share); ``bound_s``, the
        dual bound likewise, and ``gap`` above it; ``kv_hit_rate`` and ``hit_rate_with_weights``; ``took_s``,
        ``details``, ``remark``.
    complete : bool
        Whether no row that was asked for is missing.
    files : tuple of Path
        What was written.
    failed : tuple of str
        Rows that are missing because their method ended in an error: setting, policy and error of each.
    """

    study: str
    scale: str
    seed: int
    rows: tuple[Row, ...]
    complete: bool
    files: tuple[Path, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        head = {"study": self.study, "scale": self.scale, "seed": self.seed, "version": versions()["kvopt"]}
        return {**head, "complete": self.complete, "rows": list(self.rows)}


@dataclass(frozen=True)
class _Failure:
    """A row that is missing, and why."""

    policy: str
    error: str


@dataclass(frozen=True)
class _Job:
    """What all settings of a run share."""

    study: Study
    scale: Scale
    seed: int
    threads: int
    done: dict[tuple[str, str], Row]
    out: Path

    def checkpoint(self, setting: Setting) -> Path | None:
        """Where a bound that takes long keeps its multipliers."""
        if self.scale.side_by_side:
            return None
        return self.out / "bounds" / (re.sub(r"[^a-z0-9]+", "-", setting.key.lower()).strip("-") + ".npz")


@interrupts.interruptible
def run(
    study: Study,
    scale: str,
    out: str | os.PathLike,
    *,
    seed: int = 0,
    only: Sequence[str] | None = None,
    processes: int | None = None,
    fresh: bool = False,
    on_progress: OnProgress | None = None,
) -> StudyRun:
    """Run a study, or what is left of it, and write its tables, figures and page.

    Parameters
    ----------
    study : Study
    scale : str
        One of its scales.
    out : path
        A folder, made if need be. Rows that its ``study.json`` has of an earlier run are not computed again. Where
        settings take long, ``bounds`` in there has the multipliers, which ``kvopt verify`` takes as certificates.
    seed : int
    only : sequence of str, optional
        Keys of the settings to run; all unless given. Rows that are there of others stay.
    processes : int, optional
        Settings worked on side by side; by default as many as there are cores, or one where the scale says so.
    fresh : bool
        Take up neither rows nor bounds.
    on_progress : callable, optional
        Called with a setting's name and its progress.

    Returns
    -------
    StudyRun
        After Ctrl-C, with the rows there are. A method that ends in an error costs its own row, and those that need it.

    Raises
    ------
    KvoptError
        For an unknown scale or setting, and where the folder cannot be written or holds a run of another study, scale
        or seed.
    """
    if scale not in study.scales:
        raise KvoptError("scale", f"{study.name} has no {scale!r}", f"Choose one of: {', '.join(study.scales)}")
    if processes is not None and processes < 1:
        raise KvoptError("processes", f"must be at least 1, got {processes}", "Give the number of processes")
    check_progress(on_progress)
    size, path = study.scales[scale], Path(out) / FILE
    _make(path.parent if size.side_by_side else path.parent / "bounds")
    done = {} if fresh else _rows_of(path, study, scale, seed)
    if fresh:
        for checkpoint in (path.parent / "bounds").glob("*.npz"):
            checkpoint.unlink()
    settings = tuple(study.settings(size))
    wanted = _wanted(settings, only)
    cores = os.cpu_count() or 1
    processes = processes or (cores if size.side_by_side else 1)
    job = _Job(study, size, seed, max(1, cores // processes), done, path.parent)
    found, failed = dict(done), []

    def so_far() -> StudyRun:
        rows = tuple(_with_bound(found, setting, policy) for setting in settings for policy in _policies(setting))
        complete = all((setting.key, policy) in found for setting in wanted for policy in _policies(setting))
        return StudyRun(study.name, scale, seed, tuple(row for row in rows if row is not None), complete)

    def write() -> None:
        text = json.dumps(so_far().to_json(), indent=1)
        write_whole("--out", path, lambda part: part.write_text(text, encoding="utf-8"))

    def take(event: tuple[str, Any]) -> None:
        key, told = event
        if isinstance(told, Progress):
            if on_progress is not None:
                on_progress(key, told)
            return
        if isinstance(told, _Failure):
            failed.append(f"{key}, {told.policy}: {told.error}")
            return
        found[key, told["policy"]] = told
        write()

    left = [setting for setting in wanted if any((setting.key, policy) not in done for policy in _policies(setting))]
    write()
    try:
        run_each(_work, job, left, processes=min(processes, max(len(left), 1)), on_event=take, on_done=lambda _: None)
    except KeyboardInterrupt:
        return so_far()
    ended = so_far()
    files = study.publish(ended.rows, size, path.parent)
    return replace(ended, files=(path, *files), failed=tuple(failed))


def _wanted(settings: Sequence[Setting], only: Sequence[str] | None) -> list[Setting]:
    """The settings of those keys."""
    known = {setting.key: setting for setting in settings}
    for key in only or ():
        if key not in known:
            raise KvoptError("setting", f"there is no {key!r}", f"Choose from: {'; '.join(known)}")
    return [setting for setting in settings if only is None or setting.key in only]


def _policies(setting: Setting) -> list[str]:
    """Names of a setting's rows, in their order."""
    return [UNLIMITED, *(method.policy for method in setting.methods), ANNEALED, BOUND]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"cannot make the folder {folder} ({error.strerror or error})"
        raise KvoptError("--out", problem, "Choose a writable place") from None


def _rows_of(path: Path, study: Study, scale: str, seed: int) -> dict[tuple[str, str], Row]:
    """The rows of an earlier run of the same."""
    if not path.exists():
        return {}
    fix = "Choose another folder, or take up nothing with --fresh"
    data = _read(path, fix)
    for name, mine in (("study", study.name), ("scale", scale), ("seed", seed), ("version", versions()["kvopt"])):
        if data.get(name) != mine:
            raise KvoptError(
                "--out", f"{path} is of another run: its {name} is {shown(data.get(name))}, not {mine!r}", fix
            )
    for row in data["rows"]:
        _check_row(path, row, fix)
    return {(row["setting"], row["policy"]): row for row in data["rows"]}


def _check_row(path: Path, row: Row, fix: str) -> None:
    """Refuse a row that could not be gone on from."""
    where, below = (
        f"row {shown(row['setting'])}, {shown(row['policy'])}",
        "Delete the row, or take up nothing with --fresh",
    )
    for name in ("decode_s", "reproduced_s", "took_s"):
        if name not in row:
            raise KvoptError("--out", f"{path}: {where} has no {name}", below)
        real(f"{path}: {where}: {name}", row[name], below, least=0)
    roles = [role.value for role in Role]
    if row.get("role") not in roles:
        raise KvoptError("--out", f"{path}: {where} has role {shown(row.get('role'))}", below)
    expect(bool, f"{path}: {where}: feasible", row.get("feasible"), below)
    details = expect(dict, f"{path}: {where}: details", row.get("details"), below)
    if "window_steps" in details or "ratio" in details:
        for name in ("window_steps", "ratio"):
            real(f"{path}: {where}: details.{name}", details.get(name), below)


def _read(path: Path, fix: str) -> dict[str, Any]:
    """What the file of a run says, with rows that have settings and policies."""
    data = read_json(path, "--out", fix, kind="no study's")
    rows = data.get("rows") if isinstance(data, dict) else None
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise KvoptError("--out", f"{path} is no study's (it has no rows)", fix)
    if not all(isinstance(row.get(name), str) for row in rows for name in ("setting", "policy")):
        raise KvoptError("--out", f"{path} is no study's (a row's setting or policy is no text)", fix)
    return data


def load(path: str | os.PathLike) -> StudyRun:
    """A run that was written down.

    Parameters
    ----------
    path : path
        The folder given to :func:`run`, or the ``study.json`` in it.

    Raises
    ------
    KvoptError
        When there is no such run.
    """
    given = path_of("--out", path)
    file = given / FILE if os.path.isdir(given) else given
    fix = "Name a folder that kvopt study wrote, or the study.json in it"
    data = _read(file, fix)
    for name, kind in (("study", str), ("scale", str), ("seed", int), ("complete", bool)):
        if name not in data:
            raise KvoptError("--out", f"{file} does not say its {name!r}", fix)
        expect(kind, f"{file}: {name}", data[name], fix)
    return StudyRun(data["study"], data["scale"], data["seed"], tuple(data["rows"]), data["complete"], (file,))


def _with_bound(found: dict[tuple[str, str], Row], setting: Setting, policy: str) -> Row | None:
    """A row with the setting's bound in it, where that is known."""
    row, bound = found.get((setting.key, policy)), found.get((setting.key, BOUND))
    if row is None or bound is None:
        return row
    bound_s = bound["reproduced_s"]
    gap = relative_gap(row["reproduced_s"], bound_s) if row["role"] == Role.ACHIEVED.value else None
    return {**row, "bound_s": bound_s, "gap": gap}


def _work(job: _Job, setting: Setting, tell: Callable[[tuple[str, Any]], None]) -> None:
    """All rows of a setting that are missing."""
    began = time.perf_counter()

    def relay(event: Progress) -> None:
        # One line a setting: its clock is the setting's.
        tell((setting.key, replace(event, elapsed_s=time.perf_counter() - began)))

    def saying(policy: str) -> Callable[[Progress], None]:
        return lambda event: relay(replace(event, detail=f"{policy}: {event.detail}"))

    def missing(policy: str) -> bool:
        return (setting.key, policy) not in job.done

    def attempt(policy: str, make: Callable[[], _Made]) -> _Made | None:
        """Make a row; None where that ends in an error, which is told."""
        try:
            return make()
        except Exception as error:
            tell((setting.key, _Failure(policy, one_line(error))))
            return None

    relay(Progress(0.0, detail="making the trace"))
    instance = job.study.instance(setting, job.scale, job.seed)
    load_kernels(instance)
    if missing(UNLIMITED) and (ideal := attempt(UNLIMITED, lambda: bound_of(instance, method="aggregate"))):
        tell((setting.key, _bound_row(job, setting, UNLIMITED, ideal, setting.ideal_published_s)))
    best: Result | None = None
    best_row: Row | None = None
    rows: dict[str, Row] = {}
    for method in setting.methods:
        row, result = job.done.get((setting.key, method.policy)), None
        if row is None:
            made = attempt(method.policy, partial(_made, job, setting, method, rows, instance, saying(method.policy)))
            if made is None:
                continue
            row, result = made
            tell((setting.key, row))
        rows[method.policy] = row
        better = best_row is None or row["reproduced_s"] < best_row["reproduced_s"]
        # Of a row by one lane there is no placement of all.
        if row["feasible"] and not method.one_lane and better:
            # Where one is gigabytes, the best is rather made again than kept beside all others.
            best, best_row = (result if job.scale.side_by_side else None), row
    if not (missing(ANNEALED) or missing(BOUND)):
        return
    kept = job.checkpoint(setting)
    again = kept is not None and kept.exists() and not missing(BOUND)
    bound = attempt(
        BOUND,
        lambda: dual_bound(
            instance,
            time_limit_s=job.scale.bound_s * (_AGAIN if again else 1.0),
            threads=job.threads,
            checkpoint=kept,
            on_progress=saying(BOUND),
        ),
    )
    if bound is None:  # Annealing begins with its prices.
        return
    _go_on(bound)
    if missing(BOUND):
        tell((setting.key, _bound_row(job, setting, BOUND, bound, None)))
    if not missing(ANNEALED):
        return
    annealed = attempt(
        ANNEALED,
        lambda: solve(
            instance,
            "anneal",
            time_limit=job.scale.anneal_s,
            seed=job.seed,
            bound=bound,
            start=_again(job, setting, instance, best, best_row),
            threads=job.threads,
            on_progress=saying(ANNEALED),
        ),
    )
    if annealed is not None:
        _go_on(annealed)
        tell((setting.key, _row(job, setting, Method(ANNEALED, "anneal"), annealed)))


def _made(
    job: _Job,
    setting: Setting,
    method: Method,
    rows: dict[str, Row],
    instance: Instance,
    on_progress: Callable[[Progress], None],
) -> tuple[Row, Result | None]:
    """A method's row, and its result where there is one."""
    method = _with_found(method, rows)
    if method.slices > 1:
        return _refilled(job, setting, method, instance, on_progress), None
    part = _one_lane(instance, method) if method.one_lane else instance
    result = _solved(job, method, part, on_progress)
    return _row(job, setting, method, result, times=instance.trace.n_lanes // part.trace.n_lanes), result


def _solved(job: _Job, method: Method, instance: Instance, on_progress: Callable[[Progress], None]) -> Result:
    limits = {"time_limit": job.scale.search_s} if method.method == "guided" else {}
    found = solve(instance, method.method, seed=job.seed, on_progress=on_progress, **limits, **dict(method.options))
    _go_on(found)
    return found


def _found_by(row: Row) -> dict[str, Any]:
    """The parameters of the look-ahead policy that a search found."""
    return {name: row["details"][name] for name in ("window_steps", "ratio")}


def _with_found(method: Method, rows: dict[str, Row]) -> Method:
    """With the parameters that another row's search has found, where it asks for them."""
    if not method.searched_by:
        return method
    if method.searched_by not in rows:
        problem = f"{method.policy} takes the parameters that {method.searched_by} finds, which found none"
        raise MethodError("method", problem, f"See what became of {method.searched_by}")
    return replace(method, options=_found_by(rows[method.searched_by]))


def _refilled(
    job: _Job, setting: Setting, method: Method, instance: Instance, on_progress: Callable[[Progress], None]
) -> Row:
    """A row of parts, each of which begins with a fast tier of its own choice."""
    trace = instance.trace
    cuts = [trace.n_steps * k // method.slices for k in range(method.slices + 1)]
    took = seconds = hits = read = 0.0
    for steps in pairwise(cuts):
        if steps[0] == steps[1]:
            continue
        part = replace(instance, trace=trace.window(steps))
        found = _solved(job, method, part, on_progress)
        took, seconds = took + found.elapsed_s, seconds + found.objective
        by_tier = found.evaluation.read_bytes.sum(axis=1)
        hits, read = hits + float(by_tier[0]), read + float(by_tier.sum())
    return {
        **_head(setting, method.policy, Role.CLAIMED, method.published_s, method.remark),
        "feasible": False,
        "decode_s": seconds,
        "reproduced_s": seconds / job.scale.share**2,
        "kv_hit_rate": hits / read if read else None,
        "hit_rate_with_weights": None,
        "took_s": took,
        "details": {"slices": method.slices, **method.options},
    }


def _go_on(found: Result | Bound) -> None:
    """Unless Ctrl-C cut it short: half a row would stay in the file as if it were a whole one."""
    if found.termination is Termination.INTERRUPTED:
        raise KeyboardInterrupt


def _again(job: _Job, setting: Setting, instance: Instance, best: Result | None, row: Row | None):
    """The placement of the best row, which an earlier run may have made."""
    if row is None or best is not None:
        return best
    method = next(method for method in setting.methods if method.policy == row["policy"])
    if method.method == "guided":
        return solve(instance, "look-ahead", **_found_by(row))
    return _solved(job, method, instance, lambda event: None)


def _one_lane(instance: Instance, method: Method) -> Instance:
    """One lane of it, where that stands for all."""
    if not one_stands_for_all(instance):
        raise MethodError("one_lane", f"the lanes of {method.policy!r} are not read alike", "Run it on all of them")
    return instance.with_lanes(1)


def _row(job: _Job, setting: Setting, method: Method, result: Result, times: int = 1) -> Row:
    """The row of a result, which is of one of so many lanes."""
    evaluation, seconds = result.evaluation, result.objective * times
    return {
        **_head(setting, method.policy, Role.ACHIEVED, method.published_s, method.remark),
        "feasible": result.placement is not None,
        "decode_s": seconds,
        "reproduced_s": seconds / job.scale.share**2,
        "kv_hit_rate": evaluation.kv_hit_rate,
        "hit_rate_with_weights": evaluation.hit_rate_with_weights,
        "took_s": result.elapsed_s,
        "details": {k: v for k, v in result.details.items() if isinstance(v, str | int | float)},
    }


def _bound_row(job: _Job, setting: Setting, policy: str, bound: Bound, published_s: float | None) -> Row:
    return {
        **_head(setting, policy, bound.role, published_s, bound.source),
        "feasible": False,
        "decode_s": bound.value_s,
        "reproduced_s": bound.value_s / job.scale.share**2,
        "kv_hit_rate": None,
        "hit_rate_with_weights": None,
        "took_s": bound.elapsed_s,
        "details": {"verified": bound.verified, "termination": bound.termination.value},
    }


def _head(setting: Setting, policy: str, role: Role, published_s: float | None, remark: str) -> Row:
    return {
        "setting": setting.key,
        **setting.labels,
        "policy": policy,
        "role": role.value,
        "published_s": published_s,
        "bound_s": None,
        "gap": None,
        "remark": remark,
    }
