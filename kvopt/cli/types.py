"""How the command line reads amounts, and how it reports errors."""

from __future__ import annotations

import warnings

import click
import numpy as np

from kvopt import ctrl_c, interrupts
from kvopt.cli.streams import Commands
from kvopt.errors import KernelCacheWarning, KvoptError, PlatformWarning, shown
from kvopt.units import parse_amount

_USAGE_EXIT = 2
_LEAST_SHARE = 0.01
_MOST_VALUES = 10_000
"""Of a sweep: each takes seconds."""


class Amount(click.ParamType):
    """A finite number, with k, M, G, T or Ki, Mi, Gi, Ti and B after it if the user likes."""

    name = "number"

    def convert(self, value, param, ctx) -> float:
        """The number as a float."""
        if not isinstance(value, str):
            return float(value)
        number = parse_amount(value)
        if number is None:
            self.fail(f"{shown(value)} is not a number. Write it like 20, 24e9 or 24GB", param, ctx)
        return number


AMOUNT = Amount()


class NamedAmount(click.ParamType):
    """A name and an amount, as in dram=24GB."""

    name = "name=number"

    def convert(self, value, param, ctx) -> tuple[str, float]:
        """(name, number)."""
        if not isinstance(value, str):
            return value
        name, equals, amount = value.rpartition("=")
        if not (equals and name.strip()):
            self.fail(f"{shown(value)} names no tier. Write it like dram=24GB", param, ctx)
        return name.strip(), AMOUNT.convert(amount, param, ctx)


NAMED_AMOUNT = NamedAmount()


class Spread(click.ParamType):
    """``PARAM=A:B:N``: a name, and N values from A to B, both included, each as many times the one before it.

    From 0, which nothing is a multiple of, they are 0 and N - 1 others that are spread so from a hundredth of B on.
    """

    name = "PARAM=A:B:N"

    def convert(self, value, param, ctx) -> tuple[str, list[float]]:
        """(PARAM, the values, ascending)."""
        if not isinstance(value, str):
            return value
        name, equals, spread = (part.strip() for part in value.partition("="))
        parts = spread.split(":")
        if not (name and equals and len(parts) == 3):
            self.fail(f"{shown(value)} is not PARAM=A:B:N. Write it like hbm_bytes=1GB:8GB:10", param, ctx)
        first, last = (AMOUNT.convert(text, param, ctx) for text in parts[:2])
        try:
            number = int(parts[2])
        except ValueError:
            self.fail(
                f"{shown(parts[2])} is no number of values. Write it like {name}={parts[0]}:{parts[1]}:10", param, ctx
            )
        wrong = _spread_problem(first, last, number)
        if wrong:
            self.fail(f"{shown(value)} {wrong}", param, ctx)
        # What memory buys is a matter of shares: from 1 to 2 GB as much changes as from 10 to 20.
        if first == 0:
            return name, [0.0, *_rising(_LEAST_SHARE * last, last, number - 1)]
        return name, _rising(first, last, number)


def _rising(first: float, last: float, number: int) -> list[float]:
    """So many values in equal ratios, both ends among them; one is the last."""
    return [last] if number == 1 else np.geomspace(first, last, number).tolist()


def _spread_problem(first: float, last: float, number: int) -> str | None:
    if not first >= 0:
        return f"begins at {first:g}. Begin at 0 or above"
    if not last > first:
        return f"does not rise from {first:g} to {last:g}. Give the smaller end first"
    if number < 2:
        return f"asks for {number} values. Ask for both ends at least: 2 or more"
    if number > _MOST_VALUES:
        return f"asks for {shown(number)} values. Ask for {_MOST_VALUES} or fewer"
    return None


SPREAD = Spread()


def one_at_most(ctx: click.Context, param: click.Parameter, values: tuple):
    """What an argument of any number of values gives when it may have one at most: that, or None.

    An argument that may be missing can only stand before one that may not when it takes any number.
    """
    if len(values) > 1:
        raise click.BadParameter(f"takes one at most, got {len(values)}", ctx, param)
    return values[0] if values else None


class OneLineErrors(Commands):
    """A group that answers every wrong input with one line on standard error and exit code 2.

    A doubtful platform costs one line there as well. Anything unexpected keeps its traceback; Ctrl-C exits with 130.
    """

    def invoke(self, ctx: click.Context):
        """Run the command."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _one_line(warnings.showwarning)
                return self._heeding(ctx)
        except KvoptError as error:
            self._fail(ctx, str(error))
        except click.UsageError as error:
            if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
                raise
            where = error.ctx.command_path if error.ctx else ctx.command_path
            self._fail(ctx, f"{_field(error)}: {_problem(error)}. See {where} --help")
        except KeyboardInterrupt:
            click.echo("interrupted: nothing was finished", err=True)
            ctrl_c.leave(ctrl_c.EXIT)

    def _heeding(self, ctx: click.Context):
        """Run the command; when Ctrl-C comes too late for anything to heed it, only the exit code tells."""
        with interrupts.heeding(), ctrl_c.one_command():
            done = super().invoke(ctx)
            if interrupts.asked():
                ctrl_c.leave(ctrl_c.EXIT)
            return done

    @staticmethod
    def _fail(ctx: click.Context, text: str) -> None:
        click.echo("error: " + " ".join(text.split()), err=True)
        ctx.exit(_USAGE_EXIT)


def _one_line(otherwise):
    """What shows a warning: those meant for the user as one line, others as before."""

    def show(message, category, *rest, **named) -> None:
        if issubclass(category, PlatformWarning | KernelCacheWarning):
            click.echo(f"warning: {message}", err=True)
        else:
            otherwise(message, category, *rest, **named)

    return show


def _field(error: click.UsageError) -> str:
    """What is wrong, as the user spelled it."""
    param = getattr(error, "param", None)
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    if param is not None:
        return param.human_readable_name
    return getattr(error, "option_name", None) or "usage"


def _problem(error: click.UsageError) -> str:
    if isinstance(error, click.MissingParameter):
        return "is missing"
    text = error.message if isinstance(error, click.BadParameter) else error.format_message()
    return text.strip().rstrip(".")
