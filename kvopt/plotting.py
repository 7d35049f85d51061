"""Pictures of comparisons, of convergence, and of where a placement's time goes.

Every function draws on the axes it is given, or on a new figure, and returns the axes; saving and showing are the
caller's. Achieved times are solid, lower bounds dashed, the zone below a certified bound is shaded: out of reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kvopt.compare import Comparison
from kvopt.evaluate import Evaluation, evaluate
from kvopt.instance import Instance
from kvopt.output import encodable
from kvopt.placement import Placement
from kvopt.result import Bound, Progress, Result, Role
from kvopt.units import amount_text, bytes_unit, percent, seconds_text, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kvopt.explain import Explanation
    from kvopt.sweep import Sweep

# Okabe and Ito's palette, which colour-blind readers tell apart.
_BLUE, _ORANGE, _GREEN, _RED, _PURPLE, _SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
_LINES = (_BLUE, _RED, _GREEN, _PURPLE, _ORANGE, _SKY)
_GREY = "#8A8A8A"
_MOST_BINS = 200


def plot_comparison(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """Decode time of every method over the certified bound.

    Parameters
    ----------
    comparison : Comparison
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or _new_axes((8.0, 4.4))
    found = [r for r in comparison.results.values() if r.objective is not None]
    names = [r.method for r in found]
    bound = comparison.bound
    timed = comparison.instance.timed
    size, unit = time_unit([bound.value, *(r.objective for r in found)]) if timed else (1.0, bound.unit)
    times = np.array([r.objective for r in found]) / size
    limit = bound.value / size
    ax.barh(names, times, color=[_colour(r) for r in found], height=0.68, zorder=2)
    ax.invert_yaxis()
    right = max([limit, *times]) * 1.16
    for y, (time, result) in enumerate(zip(times, found, strict=True)):
        gap = percent(result.objective / bound.value - 1, sign=True) if bound.value > 0 else "no bound"
        ax.annotate(gap, (time, y), (4, 0), textcoords="offset points", va="center", fontsize=9)
    # The zone lies over the bars: what sticks out of it is what a better placement might still gain.
    ax.axvspan(0, limit, facecolor="white", alpha=0.45, zorder=3)
    ax.axvspan(0, limit, facecolor="none", edgecolor=_GREY, alpha=0.25, hatch="//", linewidth=0, zorder=3)
    ax.axvline(limit, color="black", linestyle="--", linewidth=1.4, zorder=4)
    ax.set_xlim(0, right)
    what = "decode time" if timed else comparison.instance.objective.name
    ax.set_xlabel(f"{what} [{unit}]; labels: how far above the bound")
    ax.set_title(
        f"{_name(comparison.instance.trace)} on {_name(comparison.instance.platform)}: "
        f"no placement is {'faster' if timed else 'less'} than {amount_text(bound.value, bound.unit)} "
        f"({bound.source} bound, {bound.role.value})",
        fontsize=10,
        loc="left",
    )
    _legend(
        ax, {"without foresight": _ORANGE, "knows the future": _SKY, "optimised": _BLUE}, {_colour(r) for r in found}
    )
    _strip(ax)
    ax.tick_params(axis="y", length=0)
    return ax


def plot_ladder(explanation: Explanation, ax: Axes | None = None) -> Axes:
    """Where the time goes: a bar a rung, what it adds to the one before it in strong colour.

    Parameters
    ----------
    explanation : Explanation
        Of :func:`kvopt.explain`.
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or _new_axes((8.0, 0.5 * len(explanation.rungs) + 1.6))
    size, unit = time_unit([rung.latency_s for rung in explanation.rungs])
    last = 0.0
    for number, rung in enumerate(explanation.rungs):
        strong = _GREY if rung.role is Role.CERTIFIED else _BLUE
        ax.barh(number, min(last, rung.latency_s) / size, color=strong, alpha=0.25, height=0.7)
        ax.barh(number, (rung.latency_s - last) / size, left=last / size, color=strong, height=0.7)
        cost = f"  {percent(rung.latency_s / last - 1, sign=True)}" if last else ""
        ax.text(max(last, rung.latency_s) / size, number, cost, va="center", fontsize=9)
        last = rung.latency_s
    labels = [f"{rung.name}\n{rung.role.value}: {rung.source}" for rung in explanation.rungs]
    ax.set_yticks(range(len(labels)), labels, fontsize=9)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel(f"decode time [{unit}]; labels: over the rung above")
    trace, platform = explanation.instance.trace, explanation.instance.platform
    ax.set_title(
        f"{_name(trace)} on {_name(platform)}: what {explanation.method.method} spends its time on",
        fontsize=10,
        loc="left",
    )
    _strip(ax)
    ax.tick_params(axis="y", length=0)
    return ax


def plot_sweep(sweep: Sweep, ax: Axes | None = None) -> Axes:
    """The band in which the optimum lies: achieved times above, certified bounds below, both as stairs.

    Between two values the optimum is no less than the bound of the larger and no more than what the smaller achieved:
    that is what the stairs are, and a straight line from point to point would claim more.

    Parameters
    ----------
    sweep : Sweep
        Of :func:`kvopt.sweep`, with one point at least.
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or _new_axes((8.0, 4.6))
    size, unit = time_unit([p.achieved_s for p in sweep.points])
    value_size, value_unit = bytes_unit(sweep.points[-1].value)
    value = np.array([p.value for p in sweep.points]) / value_size
    lower, upper = (np.array([getattr(p, end) for p in sweep.points]) / size for end in ("bound_s", "achieved_s"))
    methods, sources = ({getattr(p, by) for p in sweep.points} for by in ("method", "bound_source"))
    stairs = np.repeat(value, 2)[1:-1]
    ax.fill_between(stairs, np.repeat(lower[1:], 2), np.repeat(upper[:-1], 2), color=_SKY, alpha=0.3, linewidth=0)
    ax.plot(value, upper, drawstyle="steps-post", color=_BLUE, marker="o", label=f"achieved: {_listed(methods)}")
    label = f"{sweep.points[0].bound_role.value} bound: {_listed(sources)}"
    ax.plot(value, lower, drawstyle="steps-pre", color="black", linestyle="--", marker="^", label=label)
    if value[0] > 0:
        ax.set_xscale("log")
    elif value[-1] > 0:  # A logarithmic axis has no 0: up to the first other value it is an even one.
        ax.set_xscale("symlog", linthresh=value[value > 0][0])
    _plain_ticks(ax, value)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(f"{sweep.vary} [{value_unit}{'/s' if sweep.unit.endswith('per_s') else ''}]")
    ax.set_ylabel(f"decode time [{unit}]")
    trace, platform = sweep.instance.trace, sweep.instance.platform
    ax.set_title(
        f"{_name(trace)} on {_name(platform)}: the least decode time lies in the band", fontsize=10, loc="left"
    )
    ax.legend(frameon=False, fontsize=9)
    _strip(ax)
    return ax


def _name(thing) -> str:
    """The name of something as Matplotlib can draw it: characters that there are, and dollars that begin no formula."""
    return encodable(thing.name, "utf-8").replace("$", r"\$")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _plain_ticks(ax: Axes, value: np.ndarray) -> None:
    """Ticks at the values themselves, as many as there is room for, in plain digits."""
    shown = value[np.unique(np.linspace(0, len(value) - 1, min(len(value), 10)).astype(int))]
    ax.set_xticks(shown, [f"{v:.3g}" for v in shown])
    ax.set_xticks([], minor=True)


def _colour(result: Result) -> str:
    clairvoyant = result.details.get("clairvoyant")
    return _BLUE if clairvoyant is None else _SKY if clairvoyant else _ORANGE


def _legend(ax: Axes, colours: dict[str, str], used: set[str]) -> None:
    """A legend below the axes: what colours mean, and the shaded zone."""
    from matplotlib.patches import Patch

    entries = [Patch(facecolor=colour, label=name) for name, colour in colours.items() if colour in used]
    entries.append(Patch(facecolor="white", edgecolor=_GREY, hatch="//", label="out of reach (bound)"))
    ax.legend(
        handles=entries, ncols=len(entries), loc="upper left", bbox_to_anchor=(0, -0.14), frameon=False, fontsize=9
    )


def plot_convergence(
    *labelled: Result | Bound | tuple[str, Result | Bound], ax: Axes | None = None, log_time: bool = True
) -> Axes:
    """Both sides over time: achieved times come down, lower bounds come up, and the optimum lies between.

    Parameters
    ----------
    *labelled : Result, Bound or (label, Result or Bound)
        A result draws its achieved times, and dashed the claimed bound of its own solver if it reported one.
    ax : matplotlib Axes, optional
    log_time : bool
        Whether the time axis is logarithmic.

    Returns
    -------
    Axes
    """
    ax = ax or _new_axes((8.0, 4.6))
    given = [item if isinstance(item, tuple) else (_label(item), item) for item in labelled]
    counted = _unit(given[0][1])
    size, unit = time_unit([_final(item) for _, item in given]) if counted == "s" else (1.0, counted)
    lines = [line for number, (label, item) in enumerate(given) for line in _sides(label, item, _LINES[number % 6])]
    end = max((time[-1] for _, _, _, time, _ in lines if len(time)), default=1.0)
    for label, colour, dashed, time, value in lines:
        # What is in hand stays in hand: steps, held until the last event of all.
        time, value = np.append(time, end), np.append(value, value[-1]) / size
        style = (
            {"linestyle": "--"} if dashed else {"linestyle": "-", "marker": "o", "markersize": 3, "markevery": [0, -2]}
        )
        ax.plot(time, value, drawstyle="steps-post", color=colour, label=label, linewidth=1.6, **style)
    _zoom(ax, [value[-1] / size for *_, value in lines])
    certified = [item.value / size for _, item in given if isinstance(item, Bound) and item.role is Role.CERTIFIED]
    if certified:
        ax.axhspan(ax.get_ylim()[0], max(certified), facecolor=_GREY, alpha=0.15, zorder=0)
    if log_time and lines:
        ax.set_xscale("log")
    ax.set_xlabel("time since the method began [s]")
    ax.set_ylabel(f"{'decode time' if counted == 's' else 'objective'} [{unit}]")
    ax.set_title(
        "The optimum lies between: achieved (solid) from above, bounds (dashed) from below", fontsize=10, loc="left"
    )
    ax.legend(frameon=False, fontsize=9)
    _strip(ax)
    return ax


def _label(item: Result | Bound) -> str:
    return item.method if isinstance(item, Result) else f"{item.source} bound"


def _unit(item: Result | Bound) -> str:
    if isinstance(item, Bound):
        return item.unit
    return item.bound.unit if item.bound is not None else item.history[-1].unit if item.history else "s"


def _final(item: Result | Bound) -> float:
    return item.value if isinstance(item, Bound) else item.objective or 0.0


def _sides(label: str, item: Result | Bound, colour: str) -> list[tuple[str, str, bool, np.ndarray, np.ndarray]]:
    """(label, colour, whether a bound, times, values in seconds) of the lines one item draws: the best so far."""
    if isinstance(item, Bound):
        # An early stage may lie in the last digits above what was certified in the end.
        last = Progress(item.elapsed_s, None, item.value)
        time, value = _best_so_far([*item.history, last], "bound", np.maximum)
        return [(f"{label}, {item.role.value}", colour, True, time, np.minimum(value, item.value))]
    lines = []
    if item.objective is not None:
        last = Progress(item.elapsed_s, item.objective)
        lines.append(
            (f"{label}, achieved", colour, False, *_best_so_far([*item.history, last], "objective", np.minimum))
        )
    if item.bound is not None and item.bound.role is Role.CLAIMED:
        time, value = _best_so_far(
            [*item.history, Progress(item.elapsed_s, None, item.bound.value)], "bound", np.maximum
        )
        lines.append((f"{label}: {item.bound.source} bound, claimed", colour, True, time, value))
    return lines


def _best_so_far(events: list[Progress], side: str, better: np.ufunc) -> tuple[np.ndarray, np.ndarray]:
    points = [(e.elapsed_s, getattr(e, side)) for e in events if getattr(e, side) is not None]
    time, value = np.array(sorted(points)).T
    # A logarithmic axis has no 0.
    return np.maximum(time, 1e-3), better.accumulate(value)


def _zoom(ax: Axes, ends: list[float]) -> None:
    """Show the last stretch: a first incumbent ten times too slow would flatten everything that matters."""
    if not ends:
        return
    low, high = min(ends), max(ends)
    room = max(high - low, 0.01 * high)
    if room == 0:  # Everything is 0, which any axis shows.
        return
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(bottom, low - 1.0 * room), min(top, high + 2.0 * room))


def plot_slots(instance: Instance, placed: Placement | Evaluation | Result, ax: Axes | None = None) -> Axes:
    """What each channel is busy with over the decode, and which one decides.

    The line of a channel is the time it needs for its bytes, a step at a time (slots of one step added up, long traces
    averaged in bins); the filled outline is the step's time, to which the slowest channel of each slot adds.

    Parameters
    ----------
    instance : Instance
    placed : Placement, Evaluation or Result
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or _new_axes((8.0, 4.2))
    found = _evaluation(instance, placed)
    busy = found.load_bytes / instance.platform.bandwidth_bytes_per_s[:, None]
    step, per_step = _binned(instance, np.vstack([busy, found.slot_s]))
    size, unit = time_unit([float(np.median(per_step[-1]))])
    ax.fill_between(
        step, per_step[-1] / size, color=_GREY, alpha=0.2, linewidth=0, label="step (slowest channel of each slot)"
    )
    decides = np.bincount(busy.argmax(axis=0), weights=found.slot_s, minlength=len(busy)) / max(found.latency_s, 1e-300)
    for number, channel in enumerate(instance.platform.channels):
        label = f"{_name(channel)}: decides {percent(float(decides[number]))} of the time"
        ax.plot(step, per_step[number] / size, color=_LINES[number % 6], linewidth=1.4, label=label)
    _step_axis(ax, step)
    _crop(ax, per_step[-1] / size, unit)
    ax.set_ylabel(f"busy per step [{unit}]")
    whose = f"{placed.method}, " if isinstance(placed, Result) else ""
    title = f"What binds: {whose}decode time {seconds_text(found.latency_s)}, achieved"
    ax.set_title(title, fontsize=10, loc="left")
    ax.legend(frameon=False, fontsize=9, ncols=2, loc="upper left")
    _strip(ax)
    return ax


def _crop(ax: Axes, per_step: np.ndarray, unit: str) -> None:
    """Room for the legend; a few steps far above all others are cropped, and the picture says so."""
    top, usual = float(per_step.max()), float(np.quantile(per_step, 0.98))
    if 0 < 2.5 * usual < top:
        ax.text(
            1, 1.01, f"cropped: up to {top:.3g} {unit}", transform=ax.transAxes, fontsize=8, ha="right", color=_GREY
        )
        top = usual
    ax.set_ylim(bottom=0, top=1.35 * top if top > 0 else None)


def plot_occupancy(instance: Instance, placed: Placement | Evaluation | Result, ax: Axes | None = None) -> Axes:
    """Bytes in the fastest tier against its capacity and all that is alive.

    Where there are more than two tiers, those between are stacked on it.

    Parameters
    ----------
    instance : Instance
    placed : Placement, Evaluation or Result
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes
    """
    ax = ax or _new_axes((8.0, 3.4))
    found = _evaluation(instance, placed)
    lanes = instance.trace.n_lanes
    step, per_step = _binned(instance, np.vstack([instance.live_bytes, found.held_bytes[:-1]]) / lanes)
    size, unit = bytes_unit(float(per_step.max()))
    ax.plot(step, per_step[0] / size, color=_GREY, linewidth=1.4, label="alive")
    below = np.zeros(per_step.shape[1])
    for k, held in enumerate(per_step[1:]):
        tier, capacity = _name(instance.platform.tiers[k]), instance.capacity_bytes[k]
        colour = _LINES[k % 6]
        ax.fill_between(
            step, below / size, (below + held) / size, color=colour, alpha=0.35, linewidth=0, label=f"in {tier}"
        )
        below = below + held
        if k == 0 and capacity <= 1.5 * per_step.max():
            ax.axhline(capacity / size, color="black", linestyle="--", linewidth=1.2, label=f"capacity of {tier}")
    _step_axis(ax, step)
    ax.set_ylim(bottom=0)
    ax.set_ylabel(f"KV cache [{unit}]")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _strip(ax)
    return ax


def _evaluation(instance: Instance, placed: Placement | Evaluation | Result) -> Evaluation:
    if isinstance(placed, Result):
        if placed.evaluation is None:
            raise ValueError(f"the result of {placed.method!r} has no placement to draw")
        return placed.evaluation
    return placed if isinstance(placed, Evaluation) else evaluate(instance, placed)


def _binned(instance: Instance, per_slot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first step of each bin, float64[rows, bins]): slots of a step added up, then averaged over bins of steps."""
    n_steps = instance.trace.n_steps
    per_step = per_slot.reshape(len(per_slot), n_steps, instance.trace.n_lanes).sum(axis=2)
    first = np.unique(np.linspace(0, n_steps, min(n_steps, _MOST_BINS), endpoint=False).astype(int))
    width = np.diff(np.append(first, n_steps))
    return first, np.add.reduceat(per_step, first, axis=1) / width


def _new_axes(size_inches: tuple[float, float]) -> Axes:
    """Axes on a figure of their own."""
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=size_inches, layout="constrained")
    return ax


def _step_axis(ax: Axes, step: np.ndarray) -> None:
    ax.set_xlim(step[0], step[-1] if len(step) > 1 else step[0] + 1)
    ax.set_xlabel("step")


def _strip(ax: Axes) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(axis="x" if "; labels:" in ax.get_xlabel() else "y", linewidth=0.5, alpha=0.5, zorder=0)
    ax.set_axisbelow(True)
