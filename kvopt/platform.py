"""Memory tiers and the channels that move bytes between them.

A :class:`Tier` holds blocks; a :class:`Channel` moves bytes at a rate. Which channels an operation loads, and how much
per byte, is written at the tier: ``read`` (rho in the mathematics), ``write`` (omega) and ``move_out`` (sigma, the
source's half of a move; the destination's half is its ``write``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kvopt.arguments import amount, expect, items, real, whole
from kvopt.errors import PlatformError, shown

_ROLES = ("read", "write", "move_out")
_LOADS_FIX = "Give a mapping of channel name to bytes per byte, usually 1"


@dataclass(frozen=True)
class Channel:
    """Anything that moves bytes at a rate: a memory bus, one direction of a link.

    Parameters
    ----------
    name : str
    bandwidth_bytes_per_s : float
        Sustained rate, greater than 0.
    source : str
        Where the number comes from.
    """

    name: str
    bandwidth_bytes_per_s: float
    source: str = ""

    def __post_init__(self) -> None:
        expect(str, "channel name", self.name, "Give a text", PlatformError)
        field = f"channel {shown(self.name)} bandwidth_bytes_per_s"
        fix = "Give bytes per second, for example 4e12 or '4TB' for 4 TB/s"
        rate = amount(field, self.bandwidth_bytes_per_s, fix, PlatformError, above=0)
        object.__setattr__(self, "bandwidth_bytes_per_s", rate)


@dataclass(frozen=True)
class Tier:
    """A memory that can hold blocks.

    Parameters
    ----------
    name : str
    capacity_bytes : float
        May be infinite.
    read, write : mapping of channel name to float
        Bytes each channel carries per byte read from, or written to, this tier.
    move_out : mapping of channel name to float, optional
        The same for a byte that leaves this tier in a move. Defaults to ``read``.
    source : str
        Where the capacity comes from.
    """

    name: str
    capacity_bytes: float
    read: Mapping[str, float]
    write: Mapping[str, float]
    move_out: Mapping[str, float] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        expect(str, "tier name", self.name, "Give a text", PlatformError)
        where = f"tier {shown(self.name)}"
        fix = "Give bytes, for example 96e9 or '96GB'; float('inf') for unlimited"
        capacity = self.capacity_bytes
        capacity = amount(f"{where} capacity_bytes", capacity, fix, PlatformError, least=0, unlimited=True)
        object.__setattr__(self, "capacity_bytes", capacity)
        if self.move_out is None:
            object.__setattr__(self, "move_out", self.read)
        for role in _ROLES:
            loads = expect(Mapping, f"{where} {role}", getattr(self, role), _LOADS_FIX, PlatformError)
            object.__setattr__(self, role, dict(loads))


@dataclass(frozen=True)
class Platform:
    """Tiers from fast to slow, the channels they share, and what each operation loads.

    Parameters
    ----------
    name : str
    tiers : tuple of Tier
        Fast to slow; the last is the backing tier.
    channels : tuple of Channel
    description : str

    Raises
    ------
    PlatformError
        On duplicate names, a tier that names an unknown channel, a load that is negative, or fewer than two tiers.
    """

    name: str
    tiers: tuple[Tier, ...]
    channels: tuple[Channel, ...]
    description: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        expect(str, "platform name", self.name, "Give a text", PlatformError)
        for name, kind in (("tiers", Tier), ("channels", Channel)):
            object.__setattr__(self, name, _all_of(kind, f"platform {self.name!r} {name}", getattr(self, name)))
        for kind, names in (
            ("tiers", [t.name for t in self.tiers]),
            ("channels", [c.name for c in self.channels]),
        ):
            if len(set(names)) != len(names):
                raise PlatformError(
                    f"platform {self.name!r} {kind}", f"names repeat: {names}", "Give each its own name"
                )
        if len(self.tiers) < 2:
            raise PlatformError(
                f"platform {self.name!r} tiers",
                f"blocks are placed over two tiers or more, got {len(self.tiers)}",
                "Describe a fast tier and a backing tier",
            )
        known = {c.name for c in self.channels}
        for tier in self.tiers:
            for role in _ROLES:
                for channel, load in getattr(tier, role).items():
                    where = f"tier {tier.name!r} {role}[{shown(channel)}]"
                    if channel not in known:
                        raise PlatformError(where, "no such channel", f"Known channels: {', '.join(sorted(known))}")
                    real(where, load, "Give bytes per byte, usually 1", PlatformError, least=0)

    @property
    def bandwidth_bytes_per_s(self) -> np.ndarray:
        """float64[C]: the rate of each channel."""
        return np.array([c.bandwidth_bytes_per_s for c in self.channels])

    def loads(self, role: str) -> np.ndarray:
        """float64[K, C]: bytes channel c carries per byte that tier k reads, writes or moves out.

        Parameters
        ----------
        role : {"read", "write", "move_out"}
        """
        return np.array([[getattr(t, role).get(c.name, 0.0) for c in self.channels] for t in self.tiers])

    def with_capacity(self, capacity_bytes: float, tier: int = 0) -> Platform:
        """The same platform with another capacity for one tier (the fastest unless told), as in 24e9 or "24GB"."""
        fix = f"Give the number of a tier, 0 to {len(self.tiers) - 1}"
        tier = whole("tier", tier, fix, PlatformError, least=-len(self.tiers), most=len(self.tiers) - 1)
        tiers = list(self.tiers)
        tiers[tier] = replace(tiers[tier], capacity_bytes=capacity_bytes, source="set by the user")
        return replace(self, tiers=tuple(tiers))

    @staticmethod
    def preset(name: str) -> Platform:
        """A named platform, or one in a file that ends in ``.toml``; :func:`kvopt.platforms.names` lists the names.

        Raises
        ------
        PlatformError
            When there is no preset of that name, or the file breaks the schema.
        """
        from kvopt import platforms

        return platforms.get(name)

    @staticmethod
    def from_toml(path: str | Path) -> Platform:
        """The platform that a file describes; :mod:`kvopt.platforms` documents the schema.

        Raises
        ------
        PlatformError
            When the file cannot be read or breaks the schema; the message names file and key.
        """
        from kvopt import platforms

        return platforms.from_toml(path)


def _all_of(kind: type, field: str, values: Any) -> tuple:
    """The values as a tuple, after refusing one of another class."""
    fix = f"Give a tuple of kvopt.{kind.__name__}"
    given = None if isinstance(values, Mapping) else items(values)
    if given is None:
        raise PlatformError(field, f"must be a tuple of {kind.__name__}, got {shown(values)}", fix)
    for number, value in enumerate(given):
        expect(kind, f"{field}[{number}]", value, fix, PlatformError)
    return tuple(given)
