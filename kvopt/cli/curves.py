"""Commands that ask many questions: sizes, curves and studies."""

from __future__ import annotations

from pathlib import Path

import click

import kvopt
from kvopt import describe, sizing, sweep_file
from kvopt.cli.group import main
from kvopt.cli.instance import instance_options
from kvopt.cli.out import (
    STDOUT,
    check_outputs,
    compile_kernels,
    json_option,
    json_target,
    keep_answer,
    leave_interrupted,
    print_lines,
    save_plot,
    time_option,
    write_json,
)
from kvopt.cli.start_times import display
from kvopt.cli.types import AMOUNT, SPREAD
from kvopt.errors import MethodError
from kvopt.result import Termination
from kvopt.sweep import check


@main.command()
@instance_options
@click.option("--target-latency-s", "target", type=AMOUNT, required=True, help="The decode time to meet, in seconds.")
@click.option(
    "--vary",
    default="hbm_bytes",
    show_default=True,
    help="hbm_bytes, backing_bytes, or a channel; several join by + and are equal.",
)
@click.option("--time-limit", type=AMOUNT, default=60.0, show_default=True, help="Seconds for everything.")
@json_option
def size(instance, target, vary, time_limit, seed, json_path) -> None:
    """The least memory or bandwidth that meets a decode time on TRACE: proven from below, achieved from above."""
    check_outputs(json_path)
    sizing.check(instance, target, vary, time_limit)
    compile_kernels(instance)
    keep_answer(instance)
    with display("lower") as show:
        found = kvopt.size(instance, target, vary=vary, time_limit=time_limit, seed=seed, on_progress=show)
    print_lines([*describe.header(instance)[:2], *describe.sizing_lines(found)], found.to_json(), json_path)
    if found.termination is Termination.INTERRUPTED:
        leave_interrupted("this is the interval so far")


@main.command()
@instance_options
@click.option(
    "--vary",
    type=SPREAD,
    required=True,
    help="N values from A to B, in equal ratios, of hbm_bytes, backing_bytes, or a channel; several channels join by + "
    "and are equal. As in hbm_bytes=1GB:8GB:10; from 0, in equal ratios from B/100 on.",
)
@click.option("--processes", type=click.IntRange(min=1), help="Values worked on at a time. [default: all cores]")
@time_option
@click.option(
    "--json",
    "json_path",
    type=json_target,
    help="Write the points as JSON whenever one is finished, and take up those that are there; - for standard output.",
)
@click.option("--fresh", is_flag=True, help="Overwrite the file of --json instead of taking up its points.")
@click.option("--plot", "plot_path", type=Path, help="Draw the curve: .png, .pdf or .svg.")
def sweep(instance, vary, processes, time_limit, seed, json_path, fresh, plot_path) -> None:
    """The curve of the decode time of TRACE over HBM or bandwidth: certified from below, achieved from above."""
    check_outputs(json_path, plot_path=plot_path)
    name, values = vary
    check(instance, name, values, time_limit=time_limit, processes=processes)
    done = () if fresh else _points_there(json_path, instance, name, seed, time_limit)
    # A pipe gets one document, at the end; only a file can be written again and again.
    again_and_again = (
        json_path is not None and str(json_path) != STDOUT and (json_path.is_file() or not json_path.exists())
    )
    keep = (lambda sweep: write_json(sweep.to_json(), json_path)) if again_and_again else None
    compile_kernels(instance)
    keep_answer(instance)
    with display("sweep") as show:
        found = kvopt.sweep(
            instance,
            name,
            values,
            time_limit=time_limit,
            seed=seed,
            processes=processes,
            on_progress=show,
            on_point=keep,
            done=done,
        )
    print_lines([*describe.header(instance)[:2], *describe.sweep_lines(found)], found.to_json(), json_path)
    if plot_path is not None and found.points:
        save_plot("plot_sweep", found, plot_path)
    if found.interrupted:
        again = "" if json_path is None or str(json_path) == STDOUT else "; the same command goes on from here"
        leave_interrupted(f"these are the points so far{again}")


@main.command()
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="The studies there are, or the settings of NAME.")
@click.option("--scale", default="tenth", show_default=True, help="Size, as a share of the published one.")
@click.option("--out", type=Path, help="Folder for rows, tables, figures and the page. [default: the study's name]")
@click.option(
    "--only", multiple=True, metavar="SETTING", help="Run this setting; as often as there are. [default: all]"
)
@click.option("--processes", type=click.IntRange(min=1), help="Settings worked on at a time. [default: the scale's]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--fresh", is_flag=True, help="Overwrite what the folder has instead of taking up its rows.")
def study(name, listed, scale, out, only, processes, seed, fresh) -> None:
    """Do a published evaluation again: NAME, with every number beside the published one and a certified bound."""
    from kvopt import studies
    from kvopt.studies.summary import summary_lines

    if name is None:
        print_lines([line for known in studies.names() for line in describe.study_lines(studies.get(known))])
        return
    if listed:
        print_lines(describe.study_lines(studies.get(name), settings=True))
        return
    chosen = studies.get(name)
    out = out or Path(name)
    keep_answer()
    with display(name) as show:
        found = studies.run(
            chosen,
            scale,
            out,
            seed=seed,
            only=only or None,
            processes=processes,
            fresh=fresh,
            on_progress=show,
        )
    if not (found.complete or found.failed):
        leave_interrupted(f"{out / studies.FILE} has {len(found.rows)} rows; the same command goes on from here")
    print_lines(summary_lines(found))
    if found.failed:
        problem = f"methods ended in an error, and {out / studies.FILE} lacks their rows: {'; '.join(found.failed)}"
        raise MethodError(name, problem, "The same command tries them again, and computes nothing else anew")


def _points_there(json_path: Path | None, instance, vary: str, seed: int, time_limit: float):
    """Points of an earlier run of the same sweep."""
    if json_path is None or str(json_path) == STDOUT or not json_path.is_file():
        return ()
    return sweep_file.load(
        json_path,
        instance,
        vary,
        seed=seed,
        time_limit=time_limit,
        field="--json",
        fix="Choose another file, or overwrite this one with --fresh",
    )
