"""Pictures: that they draw what they are given, on the axes they are given, with units."""

from __future__ import annotations

import io
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

import kvopt
from kvopt.result import Bound, Progress, Role
from kvopt.sources.synthetic import drifting

mpl.use("Agg")
import matplotlib.pyplot as plt

from kvopt import plotting


@pytest.fixture(scope="module")
def instance():
    trace = drifting(40, 8, n_lanes=2, read_share=0.2, seed=3, size_bytes=1024)
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(30e3))


@pytest.fixture(scope="module")
def comparison(instance):
    bound = kvopt.bound(instance)
    results = {name: kvopt.solve(instance, name, bound=bound) for name in ("static-oldest", "lru", "belady")}
    return kvopt.Comparison(instance, bound, kvopt.bound(instance, method="aggregate"), results)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_names_are_drawn_as_they_are_whatever_is_in_them(comparison):
    odd = replace(comparison.instance, trace=comparison.instance.trace._replace(name="caf\udce9 $x^$ $"))
    ax = plotting.plot_comparison(replace(comparison, instance=odd))
    ax.figure.savefig(io.BytesIO(), format="png")
    assert ax.get_title(loc="left").startswith(r"caf\udce9 \$x^\$ \$ on gh200: ")


def test_comparison_has_a_bar_a_method_and_the_bound_as_a_line(comparison):
    ax = plotting.plot_comparison(comparison)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(comparison.results)
    widths = [bar.get_width() for bar in ax.containers[0]]
    times = [r.objective for r in comparison.results.values()]
    assert np.allclose(np.divide(widths, widths[0]), np.divide(times, times[0]))
    (line,) = ax.get_lines()
    assert np.isclose(line.get_xdata()[0] / widths[0], comparison.bound.value_s / times[0])
    assert "certified" in ax.get_title(loc="left")
    ax.figure.canvas.draw()


def test_given_axes_are_used(comparison, instance):
    _, axes = plt.subplots(2, 2)
    bars, lines, slots, held = axes.flat
    assert plotting.plot_comparison(comparison, ax=bars) is bars
    assert plotting.plot_convergence(comparison.bound, ax=lines) is lines
    assert plotting.plot_slots(instance, comparison.best, ax=slots) is slots
    assert plotting.plot_occupancy(instance, comparison.best, ax=held) is held


def test_convergence_draws_both_sides_and_ends_at_what_was_returned(comparison):
    best = comparison.results["belady"]
    claim = Bound(best.objective * 0.9, "HiGHS MIP", Role.CLAIMED)
    events = (
        Progress(0.5, best.objective * 2, best.objective * 0.5),
        Progress(1.0, best.objective, best.objective * 0.8),
    )
    exact = replace(best, method="exact", bound=claim, history=events, elapsed_s=2.0)
    ax = plotting.plot_convergence(("dual", comparison.bound), exact, comparison.results["lru"])
    drawn = {line.get_label(): line.get_ydata()[-1] for line in ax.get_lines()}
    assert set(drawn) == {
        "dual, certified",
        "exact, achieved",
        "exact: HiGHS MIP bound, claimed",
        "lru, achieved",
    }
    scale = drawn["exact, achieved"] / best.objective
    assert np.isclose(drawn["dual, certified"], comparison.bound.value_s * scale)
    assert np.isclose(drawn["exact: HiGHS MIP bound, claimed"], claim.value_s * scale)
    styles = {line.get_label(): line.get_linestyle() for line in ax.get_lines()}
    assert {label for label, style in styles.items() if style == "--"} == {
        "dual, certified",
        "exact: HiGHS MIP bound, claimed",
    }
    ax.figure.canvas.draw()


def test_slots_draw_every_channel_and_their_shares_add_up(comparison, instance):
    ax = plotting.plot_slots(instance, comparison.results["lru"].placement)
    labels = [line.get_label() for line in ax.get_lines()]
    assert [label.split(":")[0] for label in labels] == [c.name for c in instance.platform.channels]
    shares = [float(label.split("decides ")[1].split(" %")[0]) for label in labels]
    assert sum(shares) == pytest.approx(100, abs=0.2)


def test_long_traces_are_binned_to_their_mean():
    trace = drifting(20, 1000, read_share=0.1, seed=1, size_bytes=64)
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(10e3))
    found = kvopt.evaluate(instance, kvopt.Placement.backing(instance))
    first, mean = plotting._binned(instance, found.slot_s[None])
    widths = np.diff(np.append(first, trace.n_steps))
    assert len(first) == 200
    assert np.isclose((mean[0] * widths).sum(), found.latency_s)


def test_a_result_without_a_placement_cannot_be_drawn(instance, comparison):
    empty = replace(comparison.results["lru"], placement=None, evaluation=None)
    with pytest.raises(ValueError, match="no placement"):
        plotting.plot_slots(instance, empty)


def test_convergence_under_another_objective_names_its_unit(instance):
    from kvopt.objective import traffic

    bound = kvopt.bound(instance, objective=traffic("hbm"))
    result = kvopt.solve(instance, "anneal", objective=traffic("hbm"), time_limit=5)
    for items in ((bound, result), (result, bound)):
        assert plotting.plot_convergence(*items).get_ylabel() == "objective [B]"
    assert plotting.plot_convergence(kvopt.bound(instance)).get_ylabel().startswith("decode time [")


def test_tiers_between_are_stacked_on_the_fastest(instance):
    platform = kvopt.Platform.preset("gh200-cxl").with_capacity(30e3).with_capacity(20e3, tier=1)
    three = replace(instance, platform=platform)
    result = kvopt.solve(three, "lru")
    ax = plotting.plot_occupancy(three, result)
    names = [t.name for t in platform.tiers]
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["alive", f"in {names[0]}", f"capacity of {names[0]}", f"in {names[1]}"]
    tops = [shape.get_paths()[0].vertices[:, 1].max() for shape in ax.collections]
    held = result.evaluation.held_bytes
    assert tops[1] > tops[0] > 0
    assert np.isclose(tops[1] / tops[0], (held[0] + held[1]).max() / held[0].max(), rtol=0.05)
