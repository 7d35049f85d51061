"""Commands that ask one question of one instance."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import click

import kvopt
from kvopt import describe, report
from kvopt.certificate_io import load_certificate, save_certificate
from kvopt.cli.group import main
from kvopt.cli.instance import instance_options, trace_before_argument
from kvopt.cli.out import (
    check_outputs,
    compile_kernels,
    json_option,
    keep_answer,
    leave_interrupted,
    print_lines,
    print_report,
    save_plot,
    time_option,
)
from kvopt.cli.start_times import display
from kvopt.cli.streams import deliver, say
from kvopt.cli.types import AMOUNT
from kvopt.compare import DEFAULT_METHODS, bound_record, check_methods
from kvopt.errors import KvoptError
from kvopt.result import Bound, Role, Termination
from kvopt.solve import check_arguments


@main.command()
@instance_options
@click.option("--methods", default=",".join(DEFAULT_METHODS), show_default=True, help="Separated by commas.")
@time_option
@json_option
@click.option("--plot", "plot_path", type=Path, help="Draw the comparison: .png, .pdf or .svg.")
def compare(instance, methods, time_limit, seed, json_path, plot_path) -> None:
    """Run methods on TRACE (the embedded example unless given) beside one certified bound."""
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names:
        raise KvoptError("--methods", "names no method", f"Choose from: {', '.join(kvopt.methods())}")
    for name in check_methods(names):
        check_arguments(name, time_limit)
    check_outputs(json_path, plot_path=plot_path)
    compile_kernels(instance)
    keep_answer(instance)
    with display("bound") as show:
        comparison = kvopt.compare(instance, names, time_limit=time_limit, seed=seed, on_progress=show)
    print_report(comparison, json_path)
    if plot_path is not None:
        save_plot("plot_comparison", comparison, plot_path)
    if comparison.interrupted:
        leave_interrupted(f"{len(comparison.results)} of {len(names)} methods are in the table")


@main.command()
@instance_options
@click.option("--method", default="anneal", show_default=True, help="anneal, exact or a policy.")
@click.option("--start", help="A policy to start from, or a placement that --save-placement wrote.")
@time_option
@json_option
@click.option(
    "--save-placement",
    "placement_path",
    type=Path,
    help="Write the placement as Parquet, for --start or kvopt.load_placement.",
)
def solve(instance, method, start, time_limit, seed, json_path, placement_path) -> None:
    """Find one placement for TRACE and say how far above a certified bound it is."""
    check_outputs(json_path, placement_path=placement_path)
    if start is not None and Path(start).suffix == ".parquet":
        start = kvopt.load_placement(start, instance, field="--start")
    method = check_arguments(method, time_limit, start)
    compile_kernels(instance)
    keep_answer(instance)
    with display("bound") as show:
        ideal = kvopt.bound(instance, method="aggregate")
        bound = kvopt.bound(instance, time_limit=time_limit, on_progress=functools.partial(show, "bound"))
        found = {}
        if bound.termination is not Termination.INTERRUPTED:
            limits = {"time_limit": time_limit, "seed": seed, "start": start, "bound": bound}
            found[method] = kvopt.solve(instance, method, on_progress=functools.partial(show, method), **limits)
    stopped = not found or found[method].termination is Termination.INTERRUPTED
    comparison = kvopt.Comparison(instance, bound, ideal, found, seed=seed, interrupted=stopped)
    print_report(comparison, json_path)
    if placement_path is not None and comparison.best is not None:
        best = comparison.best.placement
        deliver(lambda: kvopt.save_placement(best, placement_path, instance, field="--save-placement"))
    if stopped:
        leave_interrupted("this is what was in hand")


@main.command()
@instance_options
@click.option("--method", default="dual", show_default=True, help="dual or aggregate.")
@time_option
@json_option
@click.option(
    "--save-certificate",
    "certificate_path",
    type=Path,
    help="Write the multipliers that prove the bound (.npz), for `kvopt verify`.",
)
@click.option(
    "--checkpoint", type=Path, help="Write the multipliers there now and then (.npz), and go on from it if it exists."
)
@click.option("--target", "target_s", type=AMOUNT, help="What a placement achieved, to report the gap to it.")
@click.option("--gap", type=AMOUNT, help="Stop when the target is above the bound by no more than this share.")
def bound(instance, method, time_limit, json_path, certificate_path, **ascent) -> None:
    """Certify a decode time that no placement of TRACE can beat."""
    check_outputs(json_path, certificate_path=certificate_path, checkpoint=ascent["checkpoint"])
    ascent = {name: value for name, value in ascent.items() if value is not None}
    if method != "aggregate":  # It needs none.
        compile_kernels(instance, bound_only=True)
    keep_answer(instance)
    with display("bound") as show:
        found = kvopt.bound(
            instance, method=method, time_limit=time_limit, on_progress=functools.partial(show, "bound"), **ascent
        )
    lines = [*describe.header(instance), describe.bound_line(instance, found)]
    print_lines(lines, {"instance": instance.summary(), "bound": bound_record(found)}, json_path)
    if certificate_path is not None:
        field = "--save-certificate"
        deliver(lambda: save_certificate(found.certificate, certificate_path, instance, field=field))
    if found.termination is Termination.INTERRUPTED:
        leave_interrupted("the bound is the best so far")


@main.command()
@functools.partial(instance_options, trace_argument=trace_before_argument)
@click.argument("certificate", type=Path, metavar="CERT.npz")
@json_option
def verify(instance, certificate, json_path) -> None:
    """Check a proof again: what bound of TRACE the multipliers in CERT.npz certify.

    TRACE and the options must be those of the `kvopt bound --save-certificate` that wrote it.
    """
    check_outputs(json_path)
    began = time.perf_counter()
    multipliers = load_certificate(certificate, instance, field="CERT.npz")
    try:
        value = kvopt.verify(instance, multipliers)
    except ValueError as error:
        raise KvoptError("CERT.npz", f"{certificate} proves nothing: {error}", "Have it made again") from None
    found = Bound(
        value,
        "certificate",
        Role.CERTIFIED,
        verified=True,
        certificate=multipliers,
        elapsed_s=time.perf_counter() - began,
        unit=instance.objective.unit,
    )
    lines = [*describe.header(instance), describe.bound_line(instance, found)]
    print_lines(lines, {"instance": instance.summary(), "bound": bound_record(found)}, json_path)


@main.command()
@functools.partial(instance_options, paging=False)
@click.option("--method", default="lru", show_default=True, help="The policy whose time is to be explained.")
@click.option("--phases", type=click.IntRange(min=1), default=8, show_default=True, help="Parts to tell apart.")
@click.option(
    "--time-limit", type=AMOUNT, default=30.0, show_default=True, help="Seconds for bounds and annealing together."
)
@json_option
@click.option("--plot", "plot_path", type=Path, help="Draw the ladder: .png, .pdf or .svg.")
def explain(instance, page_tokens, method, phases, time_limit, seed, json_path, plot_path) -> None:
    """Say which of capacity, migration, pages and foresight costs a policy how much on TRACE."""
    check_outputs(json_path, plot_path=plot_path)
    compile_kernels(instance)
    keep_answer(instance)
    with display("bound") as show:
        limits = {"time_limit": time_limit, "seed": seed, "phases": phases}
        found = kvopt.explain(instance, method, page_tokens=page_tokens, on_progress=show, **limits)
    print_lines(report.explanation(found).split("\n"), found.to_json(), json_path)
    if plot_path is not None:
        save_plot("plot_ladder", found, plot_path)
    if found.interrupted:
        leave_interrupted("rungs may be looser than they could be")


@main.command()
@instance_options
@click.option(
    "-o", "--output", "out", type=Path, required=True, help="The file: .lp or .mps, .gz after it if you like."
)
@click.option("--backend", default="arrays", show_default=True, help="What writes it: arrays (HiGHS) or pyomo.")
@click.option("--sub", is_flag=True, help="Only the part that `kvopt compare` solves exactly.")
def export(instance, out, backend, sub) -> None:
    """Write the exact model of TRACE for any solver, as an LP or MPS file."""
    if sub:
        instance = kvopt.sub_instance(instance)
    made = kvopt.export_model(instance, out, backend=backend, field="--output")
    sizes = f"{made.columns:,} columns ({made.integers:,} integer), {made.rows:,} rows, {made.nonzeros:,} nonzeros"
    lines = [
        *describe.header(instance),
        f"model     {sizes}",
        f"unit      {made.unit!r} {made.objective_unit}",
        f"written to {out}",
    ]
    say("\n".join(lines))
