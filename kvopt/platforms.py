"""Platforms from TOML files, shipped or the user's own. Every number carries its source.

The schema, one file a platform::

    name = "mine"
    description = "What it is"      # Optional.

    [[tiers]]                       # Two or more, from fast to slow; the last is the backing tier.
    name = "hbm"
    capacity_bytes = 96e9           # inf for unlimited.
    source = "Where the capacity comes from"
    read = { hbm = 1.0 }            # Bytes each channel carries per byte read from this tier,
    write = { hbm = 1.0 }           # written to it,
    move_out = { hbm = 1.0 }        # or leaving it in a move. Optional: as read.

    [[channels]]
    name = "hbm"
    bandwidth_bytes_per_s = 4e12
    source = "Where the rate comes from"

What to write as channels and loads:

- A memory bus carries reads and writes in turns: one channel for both.
- A link that carries both directions at once is two channels, one a direction.
- Tiers behind the same link load the same channel: it is the sharing that a rate a tier would miss.
- A byte that is staged in another memory loads that memory's bus twice, in and out.
- A move loads ``move_out`` of the tier it leaves and ``write`` of the tier it enters. Between two tiers behind one link
  it therefore crosses the link in both directions, as a copy by the accelerator does.

Tiers name channels and nothing else; they are ordered by their place in the file alone.
"""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path

from kvopt.arguments import expect
from kvopt.errors import PlatformError, PlatformWarning, shown
from kvopt.platform import Channel, Platform, Tier
from kvopt.spec_io import Table, is_path, read, shipped
from kvopt.units import bytes_text

_KEYS = ("name", "description", "tiers", "channels")
_TIER_KEYS = ("name", "capacity_bytes", "source", "read", "write", "move_out")
_CHANNEL_KEYS = ("name", "bandwidth_bytes_per_s", "source")


def names() -> list[str]:
    """The names :func:`get` takes."""
    return list(shipped("platforms"))


def get(name: str | Path) -> Platform:
    """The preset of that name, or the platform in a file when the name ends in ``.toml``.

    Raises
    ------
    PlatformError
        When there is none, or the file breaks the schema.
    """
    expect((str, Path), "platform", name, "Give the name of a preset or the path of a .toml file", PlatformError)
    if is_path(name):
        return from_toml(name)
    files = shipped("platforms")
    if name not in files:
        raise PlatformError(
            "platform",
            f"there is no preset {shown(name)}",
            f"Choose one of: {', '.join(files)}; or give the path of a .toml file",
        )
    return from_toml(files[name])


def from_toml(path: str | Path) -> Platform:
    """The platform that a file describes.

    Raises
    ------
    PlatformError
        When the file cannot be read, breaks the schema, or lists a tier before one that is read faster; the message
        names file and key.

    Warns
    -----
    PlatformWarning
        When the backing tier is smaller than another, or no tier loads a channel.
    """
    spec = read(path, PlatformError)
    spec.allow(_KEYS)
    name, description = spec.text("name"), spec.text("description", "")
    tiers = tuple(_tier(table) for table in spec.tables("tiers"))
    channels = tuple(_channel(table) for table in spec.tables("channels"))
    try:
        platform = Platform(name, tiers, channels, description)
    except PlatformError as wrong:
        raise PlatformError(f"{path}: {wrong.field}", wrong.problem, wrong.fix) from None
    _check_order(path, platform)
    for key, doubt in _doubts(platform):
        warnings.warn(f"{path}: {key}: {doubt}", PlatformWarning, stacklevel=2)
    return platform


def _check_order(path: str | Path, platform: Platform) -> None:
    rates = 1 / (platform.loads("read") / platform.bandwidth_bytes_per_s).max(axis=1)
    for (before, rate_before), (tier, rate) in pairwise(zip(platform.tiers, rates, strict=True)):
        if rate > rate_before:
            raise PlatformError(
                f"{path}: tiers {tier.name!r}: read",
                f"at {bytes_text(rate)}/s it is faster than {before.name!r} before it, at {bytes_text(rate_before)}/s",
                "List the tiers from fast to slow; the last is the backing tier",
            )


def _doubts(platform: Platform) -> list[tuple[str, str]]:
    """(key, words) for what is allowed but was probably not meant."""
    *others, backing = platform.tiers
    doubts = [
        (
            f"tiers {backing.name!r}: capacity_bytes",
            f"the backing tier holds {bytes_text(backing.capacity_bytes)}, less than the "
            f"{bytes_text(tier.capacity_bytes)} of {tier.name!r}. Check both; the last tier is the backing one",
        )
        for tier in others
        if tier.capacity_bytes > backing.capacity_bytes
    ]
    loaded = sum(platform.loads(role).sum(axis=0) for role in ("read", "write", "move_out"))
    return doubts + [
        (f"channels {channel.name!r}", "no tier loads it. Name it in read or write of the tiers whose bytes it carries")
        for channel, load in zip(platform.channels, loaded, strict=True)
        if load == 0
    ]


def _tier(table: Table) -> Tier:
    table.allow(_TIER_KEYS)
    return Tier(
        name=table.text("name"),
        capacity_bytes=table.amount("capacity_bytes", "bytes", unlimited=True),
        read=table.loads("read"),
        write=table.loads("write"),
        move_out=table.loads("move_out", costly=False) if "move_out" in table else None,
        source=table.text("source"),
    )


def _channel(table: Table) -> Channel:
    table.allow(_CHANNEL_KEYS)
    return Channel(
        name=table.text("name"),
        bandwidth_bytes_per_s=table.amount("bandwidth_bytes_per_s", "bytes per second"),
        source=table.text("source"),
    )
