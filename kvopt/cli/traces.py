"""Commands that look at traces and make them."""

from __future__ import annotations

from pathlib import Path

import click

from kvopt import describe, output
from kvopt.cli.group import main
from kvopt.cli.instance import loaded_trace
from kvopt.cli.named import ACCESSES_OPTION, SEED_OPTION, made, named, with_instance_options
from kvopt.cli.out import check_outputs, json_option, print_lines
from kvopt.cli.streams import say
from kvopt.cli.types import AMOUNT
from kvopt.sources.log_rows import MS_PER_UNIT
from kvopt.sources.request_log import BLOCK_TOKENS, LLAMA_3_70B_BYTES_PER_TOKEN, import_mooncake


@main.group()
def trace() -> None:
    """Look at traces and make them."""


@trace.command()
@click.argument("trace", required=False, type=Path)
@with_instance_options
@json_option
def info(trace, instance_name, accesses, seed, json_path) -> None:
    """Count what is in TRACE (the embedded example unless given) and say where it came from."""
    check_outputs(json_path)
    own = named(trace, instance_name, accesses, seed)
    loaded = loaded_trace(trace) if own is None else own.trace
    data = {**loaded.summary(), "provenance": dict(loaded.provenance)}
    print_lines(describe.trace_lines(loaded), data, json_path)


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
    say("\n".join([*describe.trace_lines(trace), f"written to {out}"]))


@trace.group("import")
def import_() -> None:
    """Turn other formats into traces."""


@import_.command()
@click.argument("log", type=Path, metavar="FILE")
@click.option("-o", "--output", "out", type=Path, required=True, help="The trace to write, as Parquet.")
@click.option("--requests", type=int, help="Read only this number of requests. [default: all]")
@click.option(
    "--block-tokens", type=AMOUNT, default=BLOCK_TOKENS, show_default=True, help="Tokens of the prompt for each id."
)
@click.option(
    "--time-unit", type=click.Choice(list(MS_PER_UNIT)), default="ms", show_default=True, help="Of timestamps."
)
@click.option("--model", help="A model of `kvopt models`, or a .toml file: gives the bytes per token.")
@click.option(
    "--bytes-per-token", type=AMOUNT, help=f"KV bytes over all layers. [default: {LLAMA_3_70B_BYTES_PER_TOKEN}]"
)
@click.option("--licence", help="Of the log, kept in the trace. [default: unknown]")
@click.option("--skip-bad", type=int, default=0, show_default=True, metavar="N", help="Leave out at most N bad lines.")
@click.option(
    "--check/--no-check", default=True, show_default=True, help="Compare tokens per id and time unit with the log."
)
def mooncake(log, out, requests, block_tokens, time_unit, model, bytes_per_token, licence, skip_bad, check) -> None:
    """A Mooncake request log (JSON lines, plain, .gz or .zst; - for standard input): prefix blocks, once a request."""
    output.check_writable("--output", out)
    loaded = import_mooncake(
        log,
        max_requests=requests,
        bytes_per_token=None if bytes_per_token is None else output.whole("--bytes-per-token", bytes_per_token),
        block_tokens=output.whole("--block-tokens", block_tokens),
        time_unit=time_unit,
        model=model,
        licence=licence,
        skip_bad=skip_bad,
        check=check,
    )
    loaded.save(out)
    say("\n".join([*describe.trace_lines(loaded), f"written to {out}"]))
