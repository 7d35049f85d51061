"""The one number of an instance that sizing and sweeps vary: a tier's capacity, or channels' bandwidth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from kvopt.arguments import expect
from kvopt.errors import KvoptError, shown
from kvopt.instance import Instance
from kvopt.platform import Platform
from kvopt.result import Certificate
from kvopt.trace import PREFILL
from kvopt.units import bytes_text

HBM_BYTES, BACKING_BYTES = "hbm_bytes", "backing_bytes"
_CAPACITIES = {HBM_BYTES: 0, BACKING_BYTES: -1}
_SPAN = 1e6
"""A channel this many times faster or slower than it is stands for one without limit, or of no use."""


@dataclass(frozen=True, eq=False)
class Axis:
    """A number of an instance, and the instances that differ in it alone.

    More of it never hurts: every placement stays feasible, and no slot takes longer.

    Parameters
    ----------
    instance : Instance
    name : str
        "hbm_bytes" for the fastest tier, "backing_bytes" for the last, or the names of channels joined by "+", all of
        which get the same bandwidth.
    channels : tuple of int
        Which channels; none of them for a capacity.
    tier : int
        Which tier, for a capacity.
    """

    instance: Instance
    name: str
    channels: tuple[int, ...]
    tier: int = 0

    @property
    def is_capacity(self) -> bool:
        """Whether it counts whole bytes of a tier, rather than bytes per second."""
        return not self.channels

    @property
    def unit(self) -> str:
        """What it is counted in, as the end of a JSON key."""
        return "bytes" if self.is_capacity else "bytes_per_s"

    @property
    def least(self) -> float:
        """The smallest value there is an instance of; for bandwidths, a millionth of what is given.

        Nothing is feasible below what the other tiers leave over of the live bytes, and below what the given states of
        slot 0 put there; where they leave nothing over, a tier may as well be of no bytes.
        """
        if not self.is_capacity:
            return float(self._rates.min()) / _SPAN
        instance, peak = self.instance, int(self.instance.live_bytes.max())
        least = [0]
        if instance.rules.inclusive and not instance.rules.write_back:
            least.append(peak if self.tier == len(instance.capacity_bytes) - 1 else 0)
        else:
            others = sum(c for k, c in enumerate(instance.capacity_bytes) if k != self.tier)
            least.append(math.ceil(max(peak - others, 0)))
        if instance.initial is not None:
            given = instance.states[instance.initial, self.tier] & (instance.trace.write_step == PREFILL)
            least.append(int(instance.trace.size_bytes[given].sum()))
        return float(max(least))

    @property
    def most(self) -> float:
        """The value beyond which more is of no use: all live bytes; for bandwidths, a million times what is given."""
        if not self.is_capacity:
            return float(self._rates.max()) * _SPAN
        return max(float(self.instance.live_bytes.max()), self.least)

    @property
    def neutral(self) -> Instance:
        """The instance with a value that does not depend on its own: the same for all that differ in it alone."""
        return self.at(self.most if self.is_capacity else 1.0)

    @property
    def _rates(self) -> np.ndarray:
        return self.instance.platform.bandwidth_bytes_per_s[list(self.channels)]

    def at(self, value: float) -> Instance:
        """The instance with this value.

        Raises
        ------
        KvoptError
            When the value is not finite, less than 0, for bandwidths 0, or there is no such instance.
        """
        if not (math.isfinite(value) and (value > 0 or (value == 0 and self.is_capacity))):
            most = "0 or more" if self.is_capacity else "greater than 0"
            raise KvoptError(self.name, f"must be finite and {most}, got {shown(value)}", f"Give {self.unit}")
        if self.is_capacity and self.tier == 0:
            return self.instance.with_hbm_bytes(value)
        if self.is_capacity:
            return replace(self.instance, platform=self.instance.platform.with_capacity(value, self.tier))
        channels = tuple(
            replace(c, bandwidth_bytes_per_s=float(value), source="set by the user") if k in self.channels else c
            for k, c in enumerate(self.instance.platform.channels)
        )
        return replace(self.instance, platform=replace(self.instance.platform, channels=channels))

    def rounded(self, value: float) -> float:
        """Capacities are whole bytes; nothing smaller than :attr:`least`."""
        return max(float(math.floor(value)) if self.is_capacity else float(value), self.least)

    def between(self, low: float, high: float) -> float:
        """The geometric mean; of capacities further than a byte apart, neither of the two."""
        middle = self.rounded(math.sqrt(low * high))
        return min(max(middle, low + 1), high - 1) if self.is_capacity else middle

    def above(self, value: float, share: float) -> float:
        """A value larger by a share, by a byte at least."""
        return self.rounded(max(value * (1 + share), value + 1 if self.is_capacity else 0.0))

    def near(self, low: float, high: float, share: float) -> bool:
        """Whether no more than a share, or a byte, lies between two values."""
        return high <= low * (1 + share) or (self.is_capacity and high <= low + 1)

    def without(self, certificate: Certificate) -> Certificate:
        """The certificate with no price on what is varied: what it proves, it proves at every value."""
        lam, mu = certificate.channel_price.copy(), certificate.capacity_price_s_per_byte.copy()
        if self.is_capacity:
            mu[self.tier] = 0.0
        lam[list(self.channels)] = 0.0
        return Certificate(lam, mu)

    def text(self, value: float) -> str:
        """A value for a reader."""
        return bytes_text(value) if self.is_capacity else f"{bytes_text(value)}/s"


def axis(instance: Instance, vary: str) -> Axis:
    """The axis of that name.

    Parameters
    ----------
    instance : Instance
    vary : str
        "hbm_bytes", "backing_bytes", or channels of the platform joined by "+".

    Raises
    ------
    KvoptError
        When the platform has no such channel, or one is named twice.
    """
    expect(Instance, "instance", instance, "Give a kvopt.Instance")
    names = check_name(instance.platform, vary)
    if vary in _CAPACITIES:
        return Axis(instance, vary, (), _CAPACITIES[vary] % len(instance.platform.tiers))
    known = [c.name for c in instance.platform.channels]
    return Axis(instance, "+".join(names), tuple(known.index(name) for name in names))


def check_name(platform: Platform, vary: str) -> list[str]:
    """The channels that a name joins, or the name of a capacity alone; it takes no instance to say that it is wrong.

    Raises
    ------
    KvoptError
        As :func:`axis`.
    """
    expect(str, "vary", vary, f"Give {HBM_BYTES}, {BACKING_BYTES} or channels joined by +")
    if vary in _CAPACITIES:
        return [vary]
    known = [c.name for c in platform.channels]
    names = [name.strip() for name in vary.split("+")]
    for number, name in enumerate(names):
        if name not in known:
            choices = ", ".join([*_CAPACITIES, *known])
            raise KvoptError(
                "vary", f"there is no channel {shown(name)}", f"Choose from: {choices}; channels join by +"
            )
        if name in names[:number]:
            raise KvoptError("vary", f"channel {name!r} is named twice", "Name it once")
    return names
