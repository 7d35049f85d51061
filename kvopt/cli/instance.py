"""The options that make an instance of a trace, or of nothing."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path

import click

import kvopt
from kvopt import objective_text, policies
from kvopt.cli.named import INSTANCE_OPTIONS, given, named, own_unless_given
from kvopt.cli.types import AMOUNT, NAMED_AMOUNT, one_at_most
from kvopt.errors import KvoptError
from kvopt.instances import LEAST_ACCESSES
from kvopt.solve import ALIASES
from kvopt.vary import check_name

_DEFAULT_HBM_SHARE = 0.25
"""HBM for the embedded trace, as a share of its peak KV bytes: small enough that placement matters."""
_FREE = "free"

_trace_argument = click.argument("trace", required=False, type=Path)
trace_before_argument = click.argument("trace", nargs=-1, type=Path, callback=one_at_most)


def instance_options(command, paging: bool = True, trace_argument=_trace_argument):
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
        check_vary(rest.get("vary"), platform, instance_name)
        own = named(trace, instance_name, accesses, seed)
        rules = {"copies": copies, "moves": moves, "reads": reads, "writes": writes}
        rules = kvopt.Rules(**own_unless_given(own, rules))
        loads = own_unless_given(own, {"weight_bytes_per_slot": weight_bytes_per_slot, "batch": batch})
        base = kvopt.Platform.preset(platform)
        if own is not None:
            base = base.with_capacity(own.capacity_bytes[0]) if given("platform") else own.platform
        loaded = loaded_trace(trace) if own is None else own.trace
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


def check_vary(vary: str | tuple[str, list[float]] | None, platform: str, instance_name: str | None) -> None:
    """Refuse a wrong --vary before a trace is read or an instance made: a typing error should cost no time.

    Parameters
    ----------
    vary : str or (str, list of float), optional
        As the command takes it; None of commands that have no such option.
    platform, instance_name : str
        Of the options.
    """
    if vary is None:
        return
    name = vary if isinstance(vary, str) else vary[0]
    if instance_name is None or given("platform"):
        base = kvopt.Platform.preset(platform)
    else:
        # The least of the family has the platform of all.
        base = kvopt.instances.make(instance_name, LEAST_ACCESSES).platform
    check_name(base, name)


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
        if not amount >= 0:
            raise KvoptError(option, f"must be 0 or more, got {amount:g}", "Give bytes, as in 24e9 or 24GB")
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


def loaded_trace(path: Path | None) -> kvopt.Trace:
    """The trace of a file, or the embedded one."""
    return kvopt.example_trace() if path is None else kvopt.load_trace(path)
