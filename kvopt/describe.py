"""Traces, platforms, instances and bounds in a few lines of words."""

from __future__ import annotations

import inspect
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kvopt import objective_text
from kvopt.instance import Instance
from kvopt.model_spec import ModelSpec
from kvopt.platform import Platform
from kvopt.result import Bound, Termination
from kvopt.trace import Trace
from kvopt.units import amount_text, bytes_text, count, percent, rate_text, seconds_text, time_unit

if TYPE_CHECKING:
    from kvopt.sizing import Sizing
    from kvopt.studies import Study
    from kvopt.sweep import Sweep, SweepPoint

_WORDS = (2, 5, 7)
"""Columns of a sweep that are set flush left."""


def header(instance: Instance) -> list[str]:
    """What was compared on: trace, platform, rules and how much of the KV cache the fast tier holds."""
    trace, rules = instance.trace, instance.rules
    fast = instance.platform.tiers[0].name
    room, peak = instance.capacity_bytes[0], float(instance.live_bytes.max())
    several = "both" if len(instance.platform.tiers) == 2 else "all"
    alive = f"the {bytes_text(peak)} alive at the peak"
    lines = [
        f"trace     {size_text(instance)}",
        f"platform  {instance.platform.name}, {rules.copies.value} copies, {rules.moves.value} moves"
        + (", balanced reads" if rules.balanced else "")
        + (", written back" if rules.write_back else "")
        + ("" if instance.initial is None else ", from a given start")
        + (f", batch {instance.batch}" if instance.batch > 1 else ""),
        f"{fast:<9} {bytes_text(room)} for the KV cache, {percent(room / peak) if room < peak else 'all'} of {alive}",
    ]
    for tier, capacity in zip(instance.platform.tiers[1:-1], instance.capacity_bytes[1:-1], strict=True):
        share = percent(capacity / peak) if capacity < peak else "all"
        lines.append(f"{tier.name:<9} {bytes_text(capacity)}, {share} of what is alive at the peak")
    if not instance.timed:
        lines.append(f"objective {instance.objective.name} [{instance.objective.unit}]")
    if instance.weight_bytes_per_slot:
        lines.append(f"weights   {bytes_text(instance.weight_bytes_per_slot)} read in every slot of {trace.n_slots:,}")
    if room >= peak:
        lines.append(
            f"note      everything fits in {fast}: placement is moot but for using {several} tiers' bandwidth at once; "
            f"less than {bytes_text(peak)} makes it matter"
        )
    return lines


def size_text(instance: Instance) -> str:
    """A trace in one line: its name, steps, lanes and blocks."""
    trace = instance.trace
    return (
        f"{trace.name}: {count(trace.n_steps, 'step')} x {count(trace.n_lanes, 'lane')}, "
        f"{_blocks_text(trace)}, {count(trace.n_accesses, 'read')}"
    )


def _blocks_text(trace: Trace) -> str:
    if trace.tokens_per_page is None:
        return count(trace.n_blocks, "block")
    return f"{count(trace.n_blocks, 'page')} of {count(trace.tokens_per_page, 'token')}"


def bound_line(instance: Instance, bound: Bound) -> str:
    """What a bound says, and on what authority; or that it says nothing, and why."""
    if bound.refuted_by is not None:
        return f"bound     {refuted_text(bound)}"
    rate = (
        f", at most {rate_text(instance.tokens_per_s(bound.value))} {instance.trace.step_unit}s/s"
        if instance.timed and bound.value > 0
        else ""
    )
    proof = f"{bound.role.value}, verified" if bound.verified else bound.role.value
    stopped = "" if bound.termination is Termination.FINISHED else f", {bound.termination.value}"
    least = amount_text(bound.value, bound.unit)
    return f"bound     at least {least} for any placement{rate} ({bound.source}, {proof}{stopped})"


def refuted_text(claim: Bound) -> str:
    """A claim beside what refutes it."""
    by = claim.refuted_by
    said = f"at least {amount_text(claim.value, claim.unit)}" if math.isfinite(claim.value) else "no placement at all"
    achieved = amount_text(by.value, claim.unit)
    return f"claimed {said} ({claim.source}); refuted by {by.source}, which achieves {achieved}"


def sizing_lines(found: Sizing) -> list[str]:
    """Between which values the least one lies, and on what authority."""
    if found.lower is None:
        lower = "at least   nothing is proven"
    elif math.isinf(found.lower):
        lower = f"no value meets the target ({found.lower_source})"
    else:
        lower = f"more than  {_value_text(found.unit, found.lower)} ({found.lower_source})"
    lines = [f"target    {seconds_text(found.target_s)} decode time, by the least {found.vary}", f"needs     {lower}"]
    if found.upper is not None:
        lines.append(f"          at most    {_value_text(found.unit, found.upper)} ({found.upper_source})")
    elif found.lower is None or math.isfinite(found.lower):
        lines.append("          at most    nothing was found that meets the target")
    took = f"{found.elapsed_s:.0f} s, {count(len(found.probes), 'probe')}, {found.termination.value}"
    return [*lines, f"took      {took}"]


def sweep_lines(found: Sweep) -> list[str]:
    """The band, a line a value; ends that come from another value say from which."""
    if not found.points:
        return ["points    none was finished"]
    unit = time_unit([p.achieved_s for p in found.points])
    rows = [("", "certified", "", "achieved", "above", "by", "took", "")]
    rows += [
        (
            _value_text(found.unit, p.value),
            f">= {seconds_text(p.bound_s, unit)}",
            f"({p.bound_source})",
            f"<= {seconds_text(p.achieved_s, unit)}",
            percent(p.gap, sign=True),
            p.method,
            f"{p.elapsed_s:.0f} s",
            _taken_over(found.unit, p),
        )
        for p in found.points
    ]
    return [f"decode time by {found.vary}", *aligned(rows, _WORDS)]


def aligned(rows: list[tuple[str, ...]], words: tuple[int, ...]) -> list[str]:
    """Rows in columns, those of words set flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: tuple[str, ...]) -> str:
        cells = enumerate(zip(row, widths, strict=True))
        return "  ".join(cell.ljust(w) if i in words else cell.rjust(w) for i, (cell, w) in cells).rstrip()

    return [f"  {line(row)}" for row in rows]


def _taken_over(unit: str, point: SweepPoint) -> str:
    ends = (("bound", point.lower_from), ("placement", point.upper_from))
    return ", ".join(f"{end} of {_value_text(unit, value)}" for end, value in ends if value != point.value)


def _value_text(unit: str, value: float) -> str:
    return bytes_text(value) + ("/s" if unit.endswith("per_s") else "")


def trace_lines(trace: Trace) -> list[str]:
    """Counts, sizes and provenance."""
    has = trace.summary()
    lines = [
        f"trace     {has['name']}",
        f"time      {count(has['n_steps'], 'step')} of one {has['step_unit']}, {count(has['n_lanes'], 'lane')}",
        f"blocks    {has['n_blocks']:,}{_pages_note(trace)}, of which {has['n_prefill_blocks']:,} were there before "
        f"step 0; {bytes_text(has['peak_live_bytes'])} alive at the peak",
        f"reads     {has['n_accesses']:,} in {count(has['n_runs'], 'run')} of {has['mean_run_steps']:.1f} steps on "
        f"average; {bytes_text(has['mean_read_bytes_per_slot'])} in a mean slot",
        f"requests  {has['n_block_requests']:,} for blocks, as hit rates of a plain cache count them: the reads, and "
        f"{count(has['n_block_requests'] - has['n_accesses'], 'write')}",
    ]
    return lines + [f"made by   {key}: {_one_line(value)}" for key, value in trace.provenance.items()]


def _pages_note(trace: Trace) -> str:
    return "" if trace.tokens_per_page is None else f" pages of up to {count(trace.tokens_per_page, 'token')}"


def _one_line(value: Any, most: int = 100) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= most else text[: most - 3] + "..."


def objective_record(name: str) -> dict[str, Any]:
    """A registered objective as plain data; a parameter with a default is written with it."""
    make = objective_text.registered(name)
    signature = inspect.signature(make)
    required = inspect.Parameter.empty
    return {
        "name": name,
        "parameters": [
            p.name if p.default is required else f"{p.name}={p.default!r}" for p in signature.parameters.values()
        ],
        "description": (inspect.getdoc(make) or "").split("\n")[0].split("; see")[0].rstrip("."),
    }


def platform_lines(platform: Platform) -> list[str]:
    """Tiers and channels, each number with its source."""
    lines = [f"{platform.name}: {platform.description}"]
    figures = [("tier", t.name, bytes_text(t.capacity_bytes), t.source) for t in platform.tiers]
    figures += [("channel", c.name, f"{bytes_text(c.bandwidth_bytes_per_s)}/s", c.source) for c in platform.channels]
    return lines + [f"  {kind:<7}  {name:<9} {figure:>10}    {source}" for kind, name, figure, source in figures]


def platform_record(platform: Platform) -> dict[str, Any]:
    """A platform as plain data; an unlimited capacity is None."""
    return {
        "name": platform.name,
        "description": platform.description,
        "tiers": [
            {
                "name": tier.name,
                "capacity_bytes": tier.capacity_bytes if math.isfinite(tier.capacity_bytes) else None,
                "read": dict(tier.read),
                "write": dict(tier.write),
                "move_out": dict(tier.move_out),
                "source": tier.source,
            }
            for tier in platform.tiers
        ],
        "channels": [
            {"name": c.name, "bandwidth_bytes_per_s": c.bandwidth_bytes_per_s, "source": c.source}
            for c in platform.channels
        ],
    }


def model_lines(model: ModelSpec) -> list[str]:
    """Layers, KV bytes and weights of a model, with their sources."""
    weights = f"{bytes_text(model.weight_bytes())} at {model.weight_bits} bits"
    if model.moe is not None:
        weights += f", {bytes_text(model.weight_bytes_read_per_layer() * model.layers)} read a token by its layers"
    figures = [
        ("layers", f"{model.layers}", model.source),
        ("kv", f"{model.kv_bytes_per_token_layer():,} B a token and layer at {model.kv_bits} bits", model.bits_source),
        ("weights", weights, model.bits_source),
    ]
    width = max(len(figure) for _, figure, _ in figures)
    lines = [f"{model.name}: {model.description}"]
    return lines + [f"  {what:<8} {figure:<{width}}    {source}" for what, figure, source in figures]


def model_record(model: ModelSpec) -> dict[str, Any]:
    """A model as plain data, with the sizes derived from it."""
    return {
        **asdict(model),
        "parameters": model.parameters,
        "kv_bytes_per_token_layer": model.kv_bytes_per_token_layer(),
        "weight_bytes": model.weight_bytes(),
        "weight_bytes_per_layer": model.weight_bytes_per_layer(),
    }


def study_lines(study: Study, settings: bool = False) -> list[str]:
    """A study, its paper and its scales; and its settings, if wanted."""
    scales = ", ".join(f"{name} ({scale.share:g} of the published size)" for name, scale in study.scales.items())
    lines = [f"{study.name}: {study.title}", f"  {study.reference}", f"  scales: {scales}"]
    if settings:
        keys = {setting.key for scale in study.scales.values() for setting in study.settings(scale)}
        lines += ["  settings:", *(f"    {key}" for key in sorted(keys))]
    return lines
