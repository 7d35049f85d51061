"""The command line: options in, reports out. The work is done elsewhere."""

from __future__ import annotations

import functools
import inspect
import sys
import time
from pathlib import Path

import click

import kvopt
from kvopt import describe, instances, model_spec, objective_text, output, platforms, policies, report, sweep_file
from kvopt.certificate_io import load_certificate, save_certificate
from kvopt.cli_instance import (
    ACCESSES_OPTION,
    INSTANCE_OPTIONS,
    SEED_OPTION,
    given,
    made,
    named,
    own_unless_given,
    with_instance_options,
)
from kvopt.cli_types import AMOUNT, NAMED_AMOUNT, SPREAD, OneLineErrors, one_at_most
from kvopt.compare import DEFAULT_METHODS, bound_record, check_methods
from kvopt.errors import KvoptError
from kvopt.progress import display
from kvopt.result import Bound, Role, Termination
from kvopt.solve import ALIASES, check_arguments
from kvopt.sources.request_log import LLAMA_3_70B_BYTES_PER_TOKEN, import_mooncake

_DEFAULT_HBM_SHARE = 0.25
"""HBM for the embedded trace, as a share of its peak KV bytes: small enough that placement matters."""
_PICTURES = (".png", ".pdf", ".svg")
_INTERRUPTED = 130
_FREE = "free"
_STDOUT = "-"


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kvopt.__version__, prog_name="kvopt")
def main() -> None:
    """Where each block of an LLM's KV cache should sit in tiered memory, with proof."""


_trace_argument = click.argument("trace", required=False, type=Path)
_trace_before_argument = click.argument("trace", nargs=-1, type=Path, callback=one_at_most)


def _instance_options(command, paging: bool = True, trace_argument=_trace_argument):
    """Give a command the argument TRACE and the options of an instance, and hand it the ``instance``.

    Without ``paging`` the instance is that of tokens, and the command gets ``page_tokens`` too. A command that has a
    parameter ``seed`` gets that as well.
    """
    seeded = "seed" in inspect.signature(command).parameters

    @functools.wraps(command)
    def with_instance(
        trace,
        platform,
        hbm_bytes,
        backing_bytes,
        tier_bytes,
        kv_bytes,
        page_tokens,
        copies,
        moves,
        reads,
        writes,
        initial,
        weight_bytes_per_slot,
        batch,
        objective,
        instance_name,
        accesses,
        seed,
        **rest,
    ):
        own = named(trace, instance_name, accesses, seed)
        rules = {"copies": copies, "moves": moves, "reads": reads, "writes": writes}
        rules = kvopt.Rules(**own_unless_given(own, rules))
        loads = own_unless_given(own, {"weight_bytes_per_slot": weight_bytes_per_slot, "batch": batch})
        base = kvopt.Platform.preset(platform)
        if own is not None:
            base = base.with_capacity(own.capacity_bytes[0]) if given("platform") else own.platform
        loaded = _trace(trace) if own is None else own.trace
        if kv_bytes is not None:
            loaded = loaded.with_size_bytes(kv_bytes)
        base, sized = _with_capacities(base, hbm_bytes, backing_bytes, tier_bytes)
        if trace is None and own is None and base.tiers[0].name not in sized:
            base = base.with_capacity(_DEFAULT_HBM_SHARE * loaded.summary()["peak_live_bytes"])
        instance = kvopt.Instance(
            loaded,
            base,
            rules,
            **loads,
            objective=objective_text.parse(objective),
        )
        if seeded:
            rest["seed"] = seed
        if not paging:
            if page_tokens is not None and initial != _FREE:
                raise KvoptError("--initial", "is of tokens, and pages are placed", f"Leave it at {_FREE}")
            return command(instance=_begun(instance, initial), page_tokens=page_tokens, **rest)
        paged = instance if page_tokens is None else instance.paged(page_tokens)
        return command(instance=_begun(paged, initial), **rest)

    options = [
        trace_argument,
        *INSTANCE_OPTIONS,
        click.option(
            "--platform", default="gh200", show_default=True, help="A preset (`kvopt platforms`) or a .toml file."
        ),
        click.option(
            "--hbm-bytes",
            type=AMOUNT,
            help="HBM for the KV cache, as in 24e9 or 24GB. [default: the platform's; for the embedded trace "
            f"{_DEFAULT_HBM_SHARE:.0%} of its peak KV bytes]",
        ),
        click.option(
            "--backing-bytes", type=AMOUNT, help="Capacity of the backing tier, the last. [default: the platform's]"
        ),
        click.option(
            "--tier-bytes",
            type=NAMED_AMOUNT,
            multiple=True,
            metavar="NAME=SIZE",
            help="Capacity of any tier, as in dram=24GB; for several, again. [default: the platform's]",
        ),
        click.option(
            "--kv-bytes-per-token-layer",
            "kv_bytes",
            type=AMOUNT,
            help="Size of every block, before paging. [default: as in the trace]",
        ),
        click.option(
            "--page-tokens",
            type=click.IntRange(min=1),
            metavar="P",
            help="Place whole pages of P consecutive tokens. [default: the trace's blocks]",
        ),
        click.option("--copies", default="exclusive", show_default=True, help="exclusive or inclusive."),
        click.option("--moves", default="explicit", show_default=True, help="explicit, read-through or free."),
        click.option(
            "--reads", default="nearest", show_default=True, help="nearest, or of inclusive copies balanced over two."
        ),
        click.option(
            "--writes", default="through", show_default=True, help="through, or of inclusive copies back when needed."
        ),
        click.option(
            "--initial",
            default=_FREE,
            show_default=True,
            help="Where prefill leaves the blocks: free to choose, or as in slot 0 of a policy or of a placement that "
            "--save-placement wrote (.parquet).",
        ),
        click.option(
            "--weight-bytes-per-slot", type=AMOUNT, default=0.0, help="Weights read in every slot. [default: 0]"
        ),
        click.option("--batch", type=int, default=1, show_default=True, help="Sequences that decode together."),
        click.option(
            "--objective",
            default="latency",
            show_default=True,
            help="What placements are to be good at, as in 'latency + 0.3*worst_step' (`kvopt objectives`).",
        ),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), with_instance)


def _with_capacities(
    platform: kvopt.Platform, hbm_bytes: float | None, backing_bytes: float | None, tier_bytes: list[tuple[str, float]]
) -> tuple[kvopt.Platform, set[str]]:
    """The platform with the capacities given, and the names of the tiers that were."""
    names = [tier.name for tier in platform.tiers]
    given = [("--hbm-bytes", names[0], hbm_bytes), ("--backing-bytes", names[-1], backing_bytes)]
    given += [("--tier-bytes", name, amount) for name, amount in tier_bytes]
    named: set[str] = set()
    for option, name, amount in given:
        if amount is None:
            continue
        if name not in names:
            raise KvoptError(
                option, f"platform {platform.name!r} has no tier {name!r}", f"Choose from: {', '.join(names)}"
            )
        if name in named:
            raise KvoptError(option, f"tier {name!r} is given twice", "Give its capacity once")
        if not amount > 0:
            raise KvoptError(option, f"must be greater than 0, got {amount:g}", "Give bytes, as in 24e9 or 24GB")
        platform = platform.with_capacity(amount, names.index(name))
        named.add(name)
    return platform, named


def _begun(instance: kvopt.Instance, initial: str) -> kvopt.Instance:
    """The instance with the states in slot 0 that --initial asks for."""
    if initial == _FREE:
        return instance
    if Path(initial).suffix == ".parquet":
        return instance.with_initial(kvopt.load_placement(initial, instance, field="--initial"))
    name = ALIASES.get(initial, initial)
    if name not in policies.names():
        raise KvoptError(
            "--initial",
            f"there is no policy {initial!r}",
            f"Choose from: {_FREE}, {', '.join(policies.names())}, or a .parquet file",
        )
    return instance.with_initial(kvopt.solve(instance, name).placement)


_json_option = click.option("--json", "json_path", type=Path, help="Write the result as JSON; - for standard output.")
_time_option = click.option(
    "--time-limit", type=AMOUNT, default=15.0, show_default=True, help="Seconds for the bound and for each engine."
)


@main.command()
@_instance_options
@click.option("--methods", default=",".join(DEFAULT_METHODS), show_default=True, help="Separated by commas.")
@_time_option
@_json_option
@click.option("--plot", "plot_path", type=Path, help="Draw the comparison: .png, .pdf or .svg.")
def compare(instance, methods, time_limit, seed, json_path, plot_path) -> None:
    """Run methods on TRACE (the embedded example unless given) beside one certified bound."""
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names:
        raise KvoptError("--methods", "names no method", f"Choose from: {', '.join(kvopt.methods())}")
    for name in check_methods(names):
        check_arguments(name, time_limit)
    _check_outputs(json_path, plot_path=plot_path)
    _compile_kernels(instance)
    with display("bound") as show:
        comparison = kvopt.compare(instance, names, time_limit=time_limit, seed=seed, on_progress=show)
    _print_report(comparison, json_path)
    if plot_path is not None:
        output.write_whole("--plot", plot_path, lambda part: _draw("plot_comparison", comparison, part))
    if comparison.interrupted:
        _leave_interrupted(f"{len(comparison.results)} of {len(names)} methods are in the table")


@main.command()
@_instance_options
@click.option("--method", default="anneal", show_default=True, help="anneal, exact or a policy.")
@click.option("--start", help="A policy to start from, or a placement that --save-placement wrote.")
@_time_option
@_json_option
@click.option(
    "--save-placement",
    "placement_path",
    type=Path,
    help="Write the placement as Parquet, for --start or kvopt.load_placement.",
)
def solve(instance, method, start, time_limit, seed, json_path, placement_path) -> None:
    """Find one placement for TRACE and say how far above a certified bound it is."""
    _check_outputs(json_path, placement_path=placement_path)
    if start is not None and Path(start).suffix == ".parquet":
        start = kvopt.load_placement(start, instance, field="--start")
    method = check_arguments(method, time_limit, start)
    _compile_kernels(instance)
    with display("bound") as show:
        ideal = kvopt.bound(instance, method="aggregate")
        bound = kvopt.bound(instance, time_limit=time_limit, on_progress=functools.partial(show, "bound"))
        found = {}
        if bound.termination is not Termination.INTERRUPTED:
            limits = {"time_limit": time_limit, "seed": seed, "start": start, "bound": bound}
            found[method] = kvopt.solve(instance, method, on_progress=functools.partial(show, method), **limits)
    stopped = not found or found[method].termination is Termination.INTERRUPTED
    comparison = kvopt.Comparison(instance, bound, ideal, found, seed=seed, interrupted=stopped)
    _print_report(comparison, json_path)
    if placement_path is not None and comparison.best is not None:
        kvopt.save_placement(comparison.best.placement, placement_path, instance, field="--save-placement")
    if stopped:
        _leave_interrupted("this is what was in hand")


@main.command()
@_instance_options
@click.option("--method", default="dual", show_default=True, help="dual or aggregate.")
@_time_option
@_json_option
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
    _check_outputs(json_path, certificate_path=certificate_path, checkpoint=ascent["checkpoint"])
    ascent = {name: value for name, value in ascent.items() if value is not None}
    _compile_kernels(instance, bound_only=True)
    with display("bound") as show:
        found = kvopt.bound(
            instance, method=method, time_limit=time_limit, on_progress=functools.partial(show, "bound"), **ascent
        )
    lines = [*describe.header(instance), describe.bound_line(instance, found)]
    _print(lines, {"instance": instance.summary(), "bound": bound_record(found)}, json_path)
    if certificate_path is not None:
        save_certificate(found.certificate, certificate_path, instance, field="--save-certificate")
    if found.termination is Termination.INTERRUPTED:
        _leave_interrupted("the bound is the best so far")


@main.command()
@functools.partial(_instance_options, trace_argument=_trace_before_argument)
@click.argument("certificate", type=Path, metavar="CERT.npz")
@_json_option
def verify(instance, certificate, json_path) -> None:
    """Check a proof again: what bound of TRACE the multipliers in CERT.npz certify.

    TRACE and the options must be those of the `kvopt bound --save-certificate` that wrote it.
    """
    _check_outputs(json_path)
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
    _print(lines, {"instance": instance.summary(), "bound": bound_record(found)}, json_path)


@main.command()
@functools.partial(_instance_options, paging=False)
@click.option("--method", default="lru", show_default=True, help="The policy whose time is to be explained.")
@click.option("--phases", type=click.IntRange(min=1), default=8, show_default=True, help="Parts to tell apart.")
@click.option(
    "--time-limit", type=AMOUNT, default=30.0, show_default=True, help="Seconds for bounds and annealing together."
)
@_json_option
@click.option("--plot", "plot_path", type=Path, help="Draw the ladder: .png, .pdf or .svg.")
def explain(instance, page_tokens, method, phases, time_limit, seed, json_path, plot_path) -> None:
    """Say which of capacity, migration, pages and foresight costs a policy how much on TRACE."""
    _check_outputs(json_path, plot_path=plot_path)
    _compile_kernels(instance)
    with display("bound") as show:
        limits = {"time_limit": time_limit, "seed": seed, "phases": phases}
        found = kvopt.explain(instance, method, page_tokens=page_tokens, on_progress=show, **limits)
    _print(report.explanation(found).split("\n"), found.to_json(), json_path)
    if plot_path is not None:
        output.write_whole("--plot", plot_path, lambda part: _draw("plot_ladder", found, part))
    if found.interrupted:
        _leave_interrupted("rungs may be looser than they could be")


@main.command()
@_instance_options
@click.option("--target-latency-s", "target", type=AMOUNT, required=True, help="The decode time to meet, in seconds.")
@click.option(
    "--vary",
    default="hbm_bytes",
    show_default=True,
    help="hbm_bytes, backing_bytes, or a channel; several join by + and are equal.",
)
@click.option("--time-limit", type=AMOUNT, default=60.0, show_default=True, help="Seconds for everything.")
@_json_option
def size(instance, target, vary, time_limit, seed, json_path) -> None:
    """The least memory or bandwidth that meets a decode time on TRACE: proven from below, achieved from above."""
    _check_outputs(json_path)
    _compile_kernels(instance)
    with display("lower") as show:
        found = kvopt.size(instance, target, vary=vary, time_limit=time_limit, seed=seed, on_progress=show)
    _print([*describe.header(instance)[:2], *describe.sizing_lines(found)], found.to_json(), json_path)
    if found.termination is Termination.INTERRUPTED:
        _leave_interrupted("this is the interval so far")


@main.command()
@_instance_options
@click.option(
    "--vary",
    type=SPREAD,
    required=True,
    help="N values from A to B, in equal ratios, of hbm_bytes, backing_bytes, or a channel; several channels join by + "
    "and are equal. As in hbm_bytes=1GB:8GB:10.",
)
@click.option("--processes", type=click.IntRange(min=1), help="Values worked on at a time. [default: all cores]")
@_time_option
@click.option(
    "--json",
    "json_path",
    type=Path,
    help="Write the points as JSON whenever one is finished, and take up those that are there; - for standard output.",
)
@click.option("--fresh", is_flag=True, help="Overwrite the file of --json instead of taking up its points.")
@click.option("--plot", "plot_path", type=Path, help="Draw the curve: .png, .pdf or .svg.")
def sweep(instance, vary, processes, time_limit, seed, json_path, fresh, plot_path) -> None:
    """The curve of the decode time of TRACE over HBM or bandwidth: certified from below, achieved from above."""
    _check_outputs(json_path, plot_path=plot_path)
    name, values = vary
    done = () if fresh else _points_there(json_path, instance, name, seed, time_limit)
    keep = None if str(json_path) == _STDOUT else lambda sweep: _write_json(sweep.to_json(), json_path)
    _compile_kernels(instance)
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
    _print([*describe.header(instance)[:2], *describe.sweep_lines(found)], found.to_json(), json_path)
    if plot_path is not None and found.points:
        output.write_whole("--plot", plot_path, lambda part: _draw("plot_sweep", found, part))
    if found.interrupted:
        again = "" if json_path is None or str(json_path) == _STDOUT else "; the same command goes on from here"
        _leave_interrupted(f"these are the points so far{again}")


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
        _print([line for known in studies.names() for line in describe.study_lines(studies.get(known))], None, None)
        return
    if listed:
        _print(describe.study_lines(studies.get(name), settings=True), None, None)
        return
    chosen = studies.get(name)
    out = out or Path(name)
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
    if not found.complete:
        _leave_interrupted(f"{out / studies.FILE} has {len(found.rows)} rows; the same command goes on from here")
    _print(summary_lines(found), None, None)


def _points_there(json_path: Path | None, instance, vary: str, seed: int, time_limit: float):
    """Points of an earlier run of the same sweep."""
    if json_path is None or not json_path.exists():
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


@main.group()
def trace() -> None:
    """Look at traces and make them."""


@trace.command()
@click.argument("trace", required=False, type=Path)
@with_instance_options
@_json_option
def info(trace, instance_name, accesses, seed, json_path) -> None:
    """Count what is in TRACE (the embedded example unless given) and say where it came from."""
    _check_outputs(json_path)
    own = named(trace, instance_name, accesses, seed)
    loaded = _trace(trace) if own is None else own.trace
    data = {**loaded.summary(), "provenance": dict(loaded.provenance)}
    _print(describe.trace_lines(loaded), data, json_path)


@trace.command()
@click.argument("name")
@ACCESSES_OPTION
@SEED_OPTION
@click.option("-o", "--output", "out", type=Path, required=True, help="The trace to write, as Parquet.")
def make(name, accesses, seed, out) -> None:
    """Write the trace of the named instance NAME (`kvopt instances`)."""
    output.check_writable("--output", out)
    trace = made(name, accesses, seed).trace
    trace.save(out)
    click.echo("\n".join([*describe.trace_lines(trace), f"written to {out}"]))


@trace.group("import")
def import_() -> None:
    """Turn other formats into traces."""


@import_.command()
@click.argument("log", type=Path, metavar="FILE")
@click.option("-o", "--output", "out", type=Path, required=True, help="The trace to write, as Parquet.")
@click.option("--requests", type=int, help="Read only so many requests. [default: all]")
@click.option("--bytes-per-token", type=AMOUNT, default=LLAMA_3_70B_BYTES_PER_TOKEN, show_default=True)
def mooncake(log, out, requests, bytes_per_token) -> None:
    """A Mooncake request log (JSON lines): prefix blocks, read once a request."""
    output.check_writable("--output", out)
    loaded = import_mooncake(
        log, max_requests=requests, bytes_per_token=output.whole("--bytes-per-token", bytes_per_token)
    )
    loaded.save(out)
    click.echo("\n".join([*describe.trace_lines(loaded), f"written to {out}"]))


@main.command("instances")
@_json_option
def instances_(json_path) -> None:
    """List the named instances that --instance takes, with the largest size of each."""
    _check_outputs(json_path)
    families = [instances.describe(name) for name in instances.names()]
    lines = [f"{f.name:16}  up to {f.most_accesses:.2g} accesses: {f.description}" for f in families]
    keys = ("name", "description", "most_accesses")
    records = [{key: getattr(f, key) for key in keys} for f in families]
    _print(lines, records, json_path)


@main.command("platforms")
@_json_option
def platforms_(json_path) -> None:
    """List the platform presets with the source of each number."""
    _check_outputs(json_path)
    presets = [platforms.get(name) for name in platforms.names()]
    lines = "\n\n".join("\n".join(describe.platform_lines(p)) for p in presets).split("\n")
    _print(lines, [describe.platform_record(p) for p in presets], json_path)


@main.command()
@_instance_options
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
    click.echo("\n".join(lines))


@main.command("models")
@_json_option
def models_(json_path) -> None:
    """List the model presets with their sizes and sources."""
    _check_outputs(json_path)
    presets = [model_spec.ModelSpec.preset(name) for name in model_spec.names()]
    lines = "\n\n".join("\n".join(describe.model_lines(m)) for m in presets).split("\n")
    _print(lines, [describe.model_record(m) for m in presets], json_path)


@main.command("objectives")
@_json_option
def objectives_(json_path) -> None:
    """List the objectives that --objective takes, with their parameters."""
    _check_outputs(json_path)
    records = [describe.objective_record(name) for name in objective_text.names()]
    lines = [f"{r['name']}({', '.join(r['parameters'])}): {r['description']}" for r in records]
    _print(lines, records, json_path)


def _trace(path: Path | None) -> kvopt.Trace:
    return kvopt.example_trace() if path is None else kvopt.load_trace(path)


def _check_outputs(
    json_path: Path | None,
    plot_path: Path | None = None,
    placement_path: Path | None = None,
    certificate_path: Path | None = None,
    checkpoint: Path | None = None,
) -> None:
    """Refuse what could not be written at the end, at the beginning."""
    if plot_path is not None and plot_path.suffix.lower() not in _PICTURES:
        raise KvoptError("--plot", f"{plot_path} is no known kind of picture", f"Use one of: {', '.join(_PICTURES)}")
    if json_path is not None and str(json_path) != _STDOUT:
        output.check_writable("--json", json_path)
    for option, path in (
        ("--plot", plot_path),
        ("--save-placement", placement_path),
        ("--save-certificate", certificate_path),
        ("--checkpoint", checkpoint),
    ):
        if path is not None:
            output.check_writable(option, path)


def _compile_kernels(instance: kvopt.Instance, *, bound_only: bool = False) -> None:
    """What a fresh installation compiles is no part of any time limit."""
    from kvopt.warmup import warm_up_once

    warm_up_once(_say, instance, bound_only=bound_only)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _print_report(comparison: kvopt.Comparison, json_path: Path | None) -> None:
    """The report to standard output, or beside JSON that goes there to standard error."""
    stream = sys.stderr if str(json_path) == _STDOUT else sys.stdout
    if stream.isatty():
        from rich.console import Console

        report.show(comparison, Console(file=stream))
    else:
        click.echo(report.plain(comparison), file=stream)
    _write_json(comparison.to_json(), json_path)


def _print(lines: list[str], data, json_path: Path | None) -> None:
    if str(json_path) != _STDOUT:
        click.echo("\n".join(lines))
    _write_json(data, json_path)


def _write_json(data, path: Path | None) -> None:
    if path is None:
        return
    text = output.to_json(data)
    if str(path) == _STDOUT:
        click.echo(text, nl=False)
    else:
        output.write_whole("--json", path, lambda part: part.write_text(text, encoding="utf-8"))


def _draw(picture: str, what, path: Path) -> None:
    # Agg needs no display; the choice is the command's to make, not the library's.
    import matplotlib

    matplotlib.use("Agg")
    from kvopt import plotting

    getattr(plotting, picture)(what).figure.savefig(path, dpi=150)


def _leave_interrupted(what: str) -> None:
    click.echo(f"interrupted: {what}", err=True)
    sys.exit(_INTERRUPTED)
