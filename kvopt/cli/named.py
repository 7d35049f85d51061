"""How the command line takes named instances (:mod:`kvopt.instances`) in the place of a trace."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from kvopt import instances, output
from kvopt.cli.types import AMOUNT
from kvopt.errors import KvoptError
from kvopt.instance import Instance

DEFAULT_ACCESSES = 400_000
SEED_OPTION = click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
ACCESSES_OPTION = click.option(
    "--accesses", type=AMOUNT, help=f"Size of a named instance, as in 4e6. [default: {DEFAULT_ACCESSES}]"
)
INSTANCE_OPTIONS = (
    click.option(
        "--instance",
        "instance_name",
        metavar="NAME",
        help="A named instance (`kvopt instances`) in the place of TRACE. Platform, capacities, rules and weights are "
        "its own unless given.",
    ),
    ACCESSES_OPTION,
    SEED_OPTION,
)


def with_instance_options(command):
    """Give a command ``instance_name``, ``accesses`` and ``seed``."""
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(INSTANCE_OPTIONS), command)


def named(trace: Path | None, name: str | None, accesses: float | None, seed: int) -> Instance | None:
    """The instance that --instance names, if it is there.

    Raises
    ------
    KvoptError
        When there is a TRACE as well, or --accesses without --instance, or no such instance.
    """
    if name is None:
        if accesses is not None:
            raise KvoptError("--accesses", "is the size of a named instance, and none is named", "Add --instance NAME")
        return None
    if trace is not None:
        raise KvoptError("--instance", f"takes the place of TRACE, and {trace} is given too", "Give one of them")
    return made(name, accesses, seed)


def made(name: str, accesses: float | None, seed: int) -> Instance:
    """A named instance, of the default size unless given."""
    size = DEFAULT_ACCESSES if accesses is None else output.whole("--accesses", accesses)
    return instances.make(name, size, seed)


def own_unless_given(instance: Instance | None, values: dict[str, Any]) -> dict[str, Any]:
    """The values of options, or where the user gave none, what a named instance has of its own.

    Parameters
    ----------
    instance : Instance, optional
        Without one, the values are returned as they are.
    values : dict
        Of rules, ``weight_bytes_per_slot`` and ``batch``, by the names of the options.
    """
    if instance is None:
        return values
    own = {name: getattr(instance if hasattr(instance, name) else instance.rules, name) for name in values}
    return {name: value if given(name) else own[name] for name, value in values.items()}


def given(option: str) -> bool:
    """Whether the user gave an option of the running command."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE
