"""The command that all others are part of."""

from __future__ import annotations

import click

import kvopt
from kvopt.cli.start_times import measure
from kvopt.cli.types import OneLineErrors


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kvopt.__version__, prog_name="kvopt")
@click.option("--start-times", is_flag=True, help="Tell how long the command takes to its first event.")
def main(start_times: bool) -> None:
    """Where each block of an LLM's KV cache should sit in tiered memory, with proof."""
    measure(start_times)
