"""Memory tiers and the channels that move bytes between them.

A :class:`Tier` holds blocks; a :class:`Channel` moves bytes at a rate. Which channels an operation loads, and how much
per byte, is written at the tier: ``read`` (rho in the mathematics), ``write`` (omega) and ``move_out`` (sigma, the
source's half of a move; the destination's half is its ``write``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kvopt.errors import PlatformError


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
        rate = self.bandwidth_bytes_per_s
        if not (math.isfinite(rate) and rate > 0):
            raise PlatformError(
                f"channel {self.name!r} bandwidth_bytes_per_s",
                f"must be finite and greater than 0, got {rate!r}",
                "Give bytes per second, for example 4e12 for 4 TB/s",
            )


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
        if not self.capacity_bytes >= 0:
            raise PlatformError(
                f"tier {self.name!r} capacity_bytes",
                f"must be 0 or more, got {self.capacity_bytes!r}",
                "Give bytes, for example 96e9 for 96 GB",
            )
        if self.move_out is None:
            object.__setattr__(self, "move_out", dict(self.read))


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
            for role in ("read", "write", "move_out"):
                for channel, load in getattr(tier, role).items():
                    where = f"tier {tier.name!r} {role}[{channel!r}]"
                    if channel not in known:
                        raise PlatformError(where, "no such channel", f"Known channels: {', '.join(sorted(known))}")
                    if not (math.isfinite(load) and load >= 0):
                        raise PlatformError(where, f"must be 0 or more, got {load!r}", "Give bytes per byte, usually 1")

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
        """The same platform with another capacity for one tier (the fastest unless told)."""
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
