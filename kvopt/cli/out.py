"""What commands write, where, and how they end."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import kvopt
from kvopt import ctrl_c, output, report
from kvopt.cli import start_times, streams
from kvopt.cli.streams import deliver, say
from kvopt.cli.types import AMOUNT
from kvopt.errors import KvoptError

STDOUT = "-"
_PICTURES = (".png", ".pdf", ".svg")


def json_target(value: str) -> Path:
    """The path that --json names; what the system calls standard output is that, however it is spelled."""
    return Path(STDOUT if value in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1") else value)


json_target.__name__ = "path"  # As the help calls it.
json_option = click.option(
    "--json", "json_path", type=json_target, help="Write the result as JSON; - for standard output."
)
time_option = click.option(
    "--time-limit", type=AMOUNT, default=15.0, show_default=True, help="Seconds for the bound and for each engine."
)


def check_outputs(
    json_path: Path | None,
    plot_path: Path | None = None,
    placement_path: Path | None = None,
    certificate_path: Path | None = None,
    checkpoint: Path | None = None,
) -> None:
    """Refuse what could not be written at the end, at the beginning."""
    if plot_path is not None and plot_path.suffix.lower() not in _PICTURES:
        raise KvoptError("--plot", f"{plot_path} is no known kind of picture", f"Use one of: {', '.join(_PICTURES)}")
    if json_path is not None and str(json_path) != STDOUT:
        output.check_writable("--json", json_path)
    for option, path in (
        ("--plot", plot_path),
        ("--save-placement", placement_path),
        ("--save-certificate", certificate_path),
        ("--checkpoint", checkpoint),
    ):
        if path is not None:
            output.check_writable(option, path)


def compile_kernels(instance: kvopt.Instance, *, bound_only: bool = False) -> None:
    """What a fresh installation compiles is no part of any time limit."""
    from kvopt.warmup import warm_up_once

    start_times.ended("importing, and reading what is given")
    warm_up_once(_say, instance, bound_only=bound_only)
    start_times.ended("loading kernels")


def _say(text: str) -> None:
    click.echo(text, err=True)


def keep_answer(instance: kvopt.Instance | None = None) -> None:
    """From now on there is something to lose: Ctrl-C ends the engines, and what they have is written.

    Parameters
    ----------
    instance : Instance, optional
        By whose size the time for that is measured.
    """
    ctrl_c.keep_answer(0 if instance is None else instance.trace.n_runs)


def print_report(comparison: kvopt.Comparison, json_path: Path | None) -> None:
    """The report to standard output, or beside JSON that goes there to standard error."""
    stream = sys.stderr if str(json_path) == STDOUT else streams.stdout()
    if stream is not None and stream.isatty():
        from rich.console import Console

        deliver(lambda: report.show(comparison, Console(file=stream)))
    elif stream is sys.stderr:
        _say(report.plain(comparison))
    else:
        say(report.plain(comparison))
    write_json(comparison.to_json(), json_path)


def print_lines(lines: list[str], data=None, json_path: Path | None = None) -> None:
    """Lines to standard output, unless the JSON of the data goes there."""
    if str(json_path) != STDOUT:
        say("\n".join(lines))
    write_json(data, json_path)


def write_json(data, path: Path | None) -> None:
    """To a file or to standard output, if anywhere."""
    if path is None:
        return
    if str(path) == STDOUT:
        say(output.to_json(data, getattr(streams.stdout(), "encoding", None) or "utf-8").rstrip("\n"))
    else:
        text = output.to_json(data)
        deliver(lambda: output.write_whole("--json", path, lambda part: part.write_text(text, encoding="utf-8")))


def save_plot(picture: str, what, path: Path) -> None:
    """Save what a function of :mod:`kvopt.plotting` makes of it."""
    deliver(lambda: output.write_whole("--plot", path, lambda part: draw(picture, what, part)))


def draw(picture: str, what, path: Path) -> None:
    """Draw a picture into a file."""
    # Agg needs no display; the choice is the command's to make, not the library's.
    import matplotlib

    matplotlib.use("Agg")
    from kvopt import plotting

    getattr(plotting, picture)(what).figure.savefig(path, dpi=150)


def leave_interrupted(what: str) -> None:
    """Say what Ctrl-C left, and exit."""
    click.echo(f"interrupted: {what}", err=True)
    ctrl_c.leave(ctrl_c.EXIT)
