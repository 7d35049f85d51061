"""A comparison in words and tables, for the terminal and for files.

Everything is first laid out as plain strings (:class:`Table` and lines of text), then drawn either as aligned plain
text or by rich. Each number is named achieved, certified or claimed; an achieved time is never called a bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kvopt.compare import BASELINE, Comparison
from kvopt.describe import header, refuted_text, size_text
from kvopt.instance import Instance
from kvopt.output import encodable
from kvopt.result import Bound, Result, Role, Termination
from kvopt.units import amount_text, bytes_text, percent, rate_text, seconds_text, time_unit

if TYPE_CHECKING:
    from rich.console import Console

    from kvopt.explain import Explanation

_COLUMNS = (
    "method",
    "role",
    "decode time",
    "",  # the rate: tokens/s or requests/s
    "vs static",
    "above bound",
    "KV hits",
    "moved",
    "took",
    "status",
)
_LEFT = {0, 1, 9}
"""Columns of words; numbers are set flush right."""
_FIRST_TO_GO = (8, 7, 9, 3)
"""Columns that a narrow terminal does without, in this order."""


@dataclass(frozen=True)
class Table:
    """Cells as text.

    Parameters
    ----------
    title : str
    columns : tuple of str
    rows : list of tuple of str
    bounds : int
        How many rows at the end are bounds; a rule sets them apart from what was achieved.
    best : int or None
        Row of the best achieved time.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    bounds: int
    best: int | None


def plain(comparison: Comparison) -> str:
    """The whole report as text without escape codes."""
    parts = [header(comparison.instance), _plain_table(table(comparison))]
    if comparison.sub is not None:
        parts.append(_plain_table(table(comparison.sub, sub_title(comparison.sub))))
    parts.append(notes(comparison))
    parts.append(ladder(comparison))
    return "\n\n".join(part if isinstance(part, str) else "\n".join(part) for part in parts if part)


def show(comparison: Comparison, console: Console) -> None:
    """Print the whole report to a terminal.

    Parameters
    ----------
    comparison : Comparison
    console : rich.console.Console
    """
    encoding = console.encoding
    for line in header(comparison.instance):
        console.print(encodable(line, encoding), highlight=False, markup=False)
    console.print(_rich_table(_encodable(table(comparison), encoding), console.width))
    if comparison.sub is not None:
        sub = table(comparison.sub, sub_title(comparison.sub))
        console.print(_rich_table(_encodable(sub, encoding), console.width))
    for line in (*notes(comparison), *ladder(comparison)):
        console.print(encodable(line, encoding), highlight=False, markup=False, soft_wrap=True)


def _encodable(table: Table, encoding: str) -> Table:
    rows = [tuple(encodable(cell, encoding) for cell in row) for row in table.rows]
    columns = tuple(encodable(column, encoding) for column in table.columns)
    return replace(table, title=encodable(table.title, encoding), columns=columns, rows=rows)


def notes(comparison: Comparison) -> list[str]:
    """Say which methods failed and why, and which claims of a solver were refuted by what."""
    parts = [comparison] if comparison.sub is None else [comparison, comparison.sub]
    found = []
    for result in (result for part in parts for result in part.results.values()):
        if result.error is not None:
            found.append(f"note      {result.method} failed: {result.error}")
        if result.refuted is not None:
            found.append(f"note      {result.method}: {refuted_text(result.refuted)}")
    return found


def sub_title(sub: Comparison) -> str:
    """The title of the table on a sub-instance, which states its size."""
    room = bytes_text(sub.instance.capacity_bytes[0])
    return f"exact on a sub-instance: {size_text(sub.instance)}, {room} of {sub.instance.platform.tiers[0].name}"


def table(comparison: Comparison, title: str = "") -> Table:
    """Every method's row, then the bounds'.

    Parameters
    ----------
    comparison : Comparison
    title : str
    """
    instance = comparison.instance
    bounds = bounds_of(comparison)
    times = [row["latency_s"] for row in comparison.rows if row["latency_s"] is not None]
    unit = time_unit([*times, *(b.value for _, b in bounds if instance.timed)])
    fourth = f"{instance.trace.step_unit}s/s" if instance.timed else instance.objective.name
    columns = tuple(c or fourth for c in _COLUMNS)
    rows = [_method_row(row, unit, instance.timed) for row in comparison.rows]
    rows += [_bound_row(instance, name, bound, unit) for name, bound in bounds]
    names = list(comparison.results)
    best = names.index(comparison.best.method) if comparison.best else None
    return Table(title, columns, rows, len(bounds), best)


def bounds_of(comparison: Comparison) -> list[tuple[str, Bound]]:
    """(label, bound) of each distinct lower bound in hand, the weakest first."""
    found = [comparison.ideal, comparison.bound]
    found += [r.bound for r in comparison.results.values() if r.bound is not None and r.bound.role is Role.CLAIMED]
    distinct = {bound.source: bound for bound in found}
    return sorted(((_bound_name(b), b) for b in distinct.values()), key=lambda pair: pair[1].value)


def _bound_name(bound: Bound) -> str:
    if bound.source == "aggregate bandwidth":
        return "bound: ideal bandwidth"
    return f"bound: {bound.source}" + (" (verified)" if bound.verified else "")


def _method_row(row: dict, unit: tuple[float, str], timed: bool) -> tuple[str, ...]:
    speedup = row["speedup_vs_static"]
    return (
        row["method"],
        row["role"] or "nothing found",
        seconds_text(row["latency_s"], unit),
        rate_text(row["tokens_per_s"]) if timed else amount_text(row["objective"], row["objective_unit"]),
        "-" if speedup is None else f"{speedup:.2f} x",
        percent(row["gap"], sign=True),
        percent(row["kv_hit_rate"]),
        bytes_text(row["moved_bytes"]),
        _took(row["elapsed_s"]),
        row["status"],
    )


def _bound_row(instance: Instance, name: str, bound: Bound, unit: tuple[float, str]) -> tuple[str, ...]:
    rate = instance.tokens_per_s(bound.value) if instance.timed and bound.value > 0 else None
    return (
        name,
        bound.role.value,
        f">= {seconds_text(bound.value, unit)}" if instance.timed else "-",
        f"<= {rate_text(rate)}" if instance.timed else f">= {amount_text(bound.value, bound.unit)}",
        *("-",) * 4,
        _took(bound.elapsed_s),
        bound.termination.value,
    )


def _took(elapsed_s: float) -> str:
    return f"{elapsed_s:.2f} s" if elapsed_s < 10 else f"{elapsed_s:.0f} s"


def ladder(comparison: Comparison) -> list[str]:
    """Where the time goes: from what no machine of this bandwidth can beat up to a placement that never adapts.

    Nothing under another objective than the decode time.
    """
    if not comparison.instance.timed:
        return []
    best, bound, ideal = comparison.best, comparison.bound, comparison.ideal
    unit = time_unit(
        [ideal.value, bound.value, *(r.objective for r in comparison.results.values() if r.objective is not None)]
    )
    steps = [
        (ideal.value, "ideal bandwidth, certified", "all channels busy all the time; no capacity limit, no moves"),
        (bound.value, f"{bound.source} bound, {bound.role.value}", _cost_of_limits(bound, ideal)),
    ]
    if best is not None:
        steps.append((best.objective, f"best found, achieved: {best.method}", _left_open(best, bound)))
        steps += _without_adapting(comparison, best)
    width = max(len(name) for _, name, _ in steps)
    lines = [f"  {seconds_text(time, unit):>10}  {name:<{width}}  {words}" for time, name, words in steps]
    return ["Where the time goes", *lines]


def explanation(found: Explanation) -> str:
    """A diagnosis in words: the ladder, and what binds in each phase."""
    unit = time_unit([rung.latency_s for rung in found.rungs])
    width, sources = max(len(r.name) for r in found.rungs), max(len(r.source) for r in found.rungs)
    lines = [*header(found.instance), "", f"Where the time of {found.method.method} goes"]
    for rung, row in zip(found.rungs, found.rows, strict=True):
        over = "" if row["cost_percent"] is None else percent(row["cost_percent"] / 100, sign=True)
        lines.append(
            f"  {seconds_text(rung.latency_s, unit):>10}  {over:>8}  {rung.name:<{width}}  {rung.role.value:<9}  "
            f"{rung.source:<{sources}}".rstrip()
        )
    lines += ["", "What binds, by the prices of the bound (worth: what more of the tier would save at most)"]
    for phase in found.phase_rows:
        tier = ", ".join(_worths(phase)) or "no tier is full"
        steps = f"steps {phase['first_step']}-{phase['last_step']}"
        lines.append(f"  {steps:<18}  {phase['channel']} decides {phase['channel_percent']:.0f} %;  {tier}")
    lines += [f"note      {method} failed: {error}" for method, error in found.failed.items()]
    if found.interrupted:
        lines.append("interrupted: rungs may be looser than they could be")
    return "\n".join(lines)


def _worths(phase: dict) -> list[str]:
    """The tiers whose capacity binds, the worthiest first, at microseconds a megabyte: numbers a person can hold."""
    worth = sorted(phase["tiers_seconds_per_byte"].items(), key=lambda pair: -pair[1])
    # A thousandth of what the first is worth is no reason to name another.
    least = 1e-3 * worth[0][1]
    return [f"{tier}, worth {1e12 * value:.3g} µs/MB" for tier, value in worth if value > 0 and value >= least]


def _cost_of_limits(bound: Bound, ideal: Bound) -> str:
    # Verification takes off an allowance for rounding, which may leave equal bounds in the wrong order.
    extra = max(bound.value / ideal.value - 1, 0.0) if ideal.value > 0 else 0.0
    cost = (
        f"capacity and moving blocks cost at least {percent(extra, sign=True)}"
        if extra > 1e-6
        else "nothing more is proven"
    )
    text = f"no placement is faster; {cost}"
    return text + (" (its search was cut short)" if bound.termination is not Termination.FINISHED else "")


def _left_open(best: Result, bound: Bound) -> str:
    gap = best.objective / bound.value - 1 if bound.value > 0 else math.inf
    if best.termination is Termination.OPTIMAL:
        return f"at most {percent(gap)} above the bound, and the solver claims it optimal"
    return f"at most {percent(gap)} above the bound; whether the rest can be gained is unproven"


def _without_adapting(comparison: Comparison, best: Result) -> list[tuple[float, str, str]]:
    """The steps above the best found: deciding without foresight, and not moving at all."""
    found = [r for r in comparison.results.values() if r.objective is not None]
    online = sorted((r for r in found if r.details.get("clairvoyant") is False), key=lambda r: r.objective)
    static = comparison.results.get(BASELINE)
    steps = []
    if static is not None and static.objective is not None:
        words = f"blocks never move: {_over(static, best)} over the best found is what adapting is worth"
        moving = [r for r in online if not r.method.startswith("static")]
        if online[0] is static and moving:
            words += f"; the moves of {moving[0].method}, {_over(moving[0], best)}, cost more than they save"
        kind = "best online policy" if online[0] is static else "static"
        steps.append((static.objective, f"{kind}, achieved: {BASELINE}", words))
    if online and online[0] is not static:
        words = f"decides without knowing the future: {_over(online[0], best)} over the best found"
        steps.append((online[0].objective, f"best online policy, achieved: {online[0].method}", words))
    return sorted(step for step in steps if step[0] > best.objective)


def _over(result: Result, best: Result) -> str:
    return percent(result.objective / best.objective - 1, sign=True)


def _plain_table(rows: Table) -> str:
    widths = [max(len(cells[i]) for cells in (rows.columns, *rows.rows)) for i in range(len(rows.columns))]

    def line(cells: tuple[str, ...]) -> str:
        pairs = zip(cells, widths, strict=True)
        return "  ".join(c.ljust(w) if i in _LEFT else c.rjust(w) for i, (c, w) in enumerate(pairs)).rstrip()

    rule = "  ".join("-" * w for w in widths)
    achieved, bounds = rows.rows[: len(rows.rows) - rows.bounds], rows.rows[len(rows.rows) - rows.bounds :]
    lines = [rows.title] if rows.title else []
    return "\n".join([*lines, line(rows.columns), rule, *map(line, achieved), rule, *map(line, bounds)])


def _rich_table(rows: Table, width: int):
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown, left_out = _columns_that_fit(rows, width)
    note = f"too narrow for: {', '.join(rows.columns[i] for i in left_out)} (--json has them)" if left_out else None
    drawn = RichTable(
        title=Text(rows.title) if rows.title else None,
        title_justify="left",
        caption=note,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for i in shown:
        # Headers break where numbers must not.
        drawn.add_column(rows.columns[i].replace(" ", "\n"), justify="left" if i in _LEFT else "right", no_wrap=True)
    first_bound = len(rows.rows) - rows.bounds
    for number, cells in enumerate(rows.rows):
        style = "cyan" if number >= first_bound else "bold green" if number == rows.best else ""
        drawn.add_row(*(Text(cells[i]) for i in shown), style=style, end_section=number == first_bound - 1)
    return drawn


def _columns_that_fit(rows: Table, width: int) -> tuple[list[int], list[int]]:
    """Columns to show in a terminal of this width, and those to leave out, the least telling first."""
    shown, left_out = list(range(len(rows.columns))), []
    for candidate in (*_FIRST_TO_GO, None):
        widths = [max(*(len(cells[i]) for cells in rows.rows), *map(len, rows.columns[i].split())) for i in shown]
        # Two blanks or a rule between columns, and the edges.
        if sum(widths) + 3 * len(shown) <= width or candidate is None:
            break
        shown.remove(candidate)
        left_out.append(candidate)
    return shown, left_out
