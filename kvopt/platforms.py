"""Platforms from TOML files, shipped or the user's own. Every number carries its source.

The schema, one file a platform::

    name = "mine"
    description = "What it is"      # Optional.

    [[tiers]]                       # Fast to slow, any number; Platform says how many it takes.
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
"""

from __future__ import annotations

from pathlib import Path

from kvopt.errors import PlatformError
from kvopt.platform import Channel, Platform, Tier
from kvopt.spec_io import Table, is_path, read, shipped

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
    if is_path(name):
        return from_toml(name)
    files = shipped("platforms")
    if name not in files:
        raise PlatformError(
            "platform",
            f"there is no preset {name!r}",
            f"Choose one of: {', '.join(files)}; or give the path of a .toml file",
        )
    return from_toml(files[name])


def from_toml(path: str | Path) -> Platform:
    """The platform that a file describes.

    Raises
    ------
    PlatformError
        When the file cannot be read or breaks the schema; the message names file and key.
    """
    spec = read(path, PlatformError)
    spec.allow(_KEYS)
    name, description = spec.text("name"), spec.text("description", "")
    tiers = tuple(_tier(table) for table in spec.tables("tiers"))
    channels = tuple(_channel(table) for table in spec.tables("channels"))
    try:
        return Platform(name, tiers, channels, description)
    except PlatformError as wrong:
        raise PlatformError(f"{path}: {wrong.field}", wrong.problem, wrong.fix) from None


def _tier(table: Table) -> Tier:
    table.allow(_TIER_KEYS)
    return Tier(
        name=table.text("name"),
        capacity_bytes=table.amount("capacity_bytes", "bytes", unlimited=True),
        read=table.loads("read"),
        write=table.loads("write"),
        move_out=table.loads("move_out") if "move_out" in table else None,
        source=table.text("source"),
    )


def _channel(table: Table) -> Channel:
    table.allow(_CHANNEL_KEYS)
    return Channel(
        name=table.text("name"),
        bandwidth_bytes_per_s=table.amount("bandwidth_bytes_per_s", "bytes per second"),
        source=table.text("source"),
    )
