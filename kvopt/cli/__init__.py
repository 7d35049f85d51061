"""The command line: options in, reports out. The work is done elsewhere."""

from kvopt.cli import answers, curves, lists, traces
from kvopt.cli.group import main

__all__ = ["answers", "curves", "lists", "main", "traces"]
