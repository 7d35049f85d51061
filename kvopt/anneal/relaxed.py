r"""Rounds in which the rules of a placement are prices: the method of multipliers, with paths drawn at a temperature.

A sample of the dual has paths that are nearly the cheapest at its prices, yet its slots are out of balance and its
tiers too full here and there, both by the noise of sampling. Mended at once, by exact slot times and full tiers, that
costs many times what it need: a block that happens to come first moves, whatever that costs it. (Measured on the
balanced family: the paths of the sample cost 0.3 % more than the cheapest at the dual's prices, and the imbalance of
its slots 2.2 %; one round by exact costs leaves 0.06 % of imbalance, and paths 0.84 % above the cheapest.) So before
the annealer takes the rules as they are, it does some rounds in which

- a slot's time is *smoothed*: prices p of its channels, adding up to 1, may leave those of the dual, ``lean``, at a
  quadratic cost, ``max_p sum_c p[c] busy[c] - width / 2 |p - lean|^2``. For an infinite width that is the dual's linear
  price, for none the exact maximum. The width shrinks from round to round, and ``lean`` follows the prices;
- a tier holds what it is given, at a *price that follows its occupancy*: ``slope`` times what it holds above its
  ``room``, and the sum of that over time. The slope rises from round to round, and the room is its capacity less
  what occupancy has lately been seen to exceed it by, so that the last of these rounds end with placements that fit.

References
----------
Hestenes (1969) and Powell (1969) on the method of multipliers; Bertsekas, Constrained Optimization and Lagrange
Multiplier Methods (1982).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kvopt.jit import njit, part, piece
from kvopt.lowering import Lowered
from kvopt.result import Guide

NO_LIMIT = 1e300
"""Capacity of a tier that is priced instead."""
ROUNDS = 16
"""Rounds by prices, where there is time for them."""
_WIDTHS = 3.0, 0.01
"""In the first and in the last round, in times of a slot."""
_SLOPES = 1.0, 5.0
"""Likewise: how many temperatures dearer one block too many makes it to stay as long as a block is worth holding."""
_COOLING = 0.2
"""The last round's temperature by the first one's."""
_GAIN = 5.0
"""How much of the slope's price a sweep adds to the price itself."""
_LEARNING = 0.3
"""How far the channels' prices follow in a round."""
_SURE, _MARGIN = 0.99, 1.1
"""Share of the slots whose excess counts, and how many times it is kept free ..."""
_MARGIN_FROM = 0.5
"""... from this share of the rounds on."""


class Relaxed(NamedTuple):
    """What takes the place of the rules in some slots (T of them, C channels, K tiers that may be full)."""

    lean: np.ndarray
    """float64[T, C]: prices of the channels."""
    width: np.ndarray
    """float64[T]: seconds; 0 where the slot's time is the exact one."""
    price: np.ndarray
    """float64[T, K]: of a byte in each tier that may be full; changed in place."""
    slope: np.ndarray
    """float64[K]: of that price, by the byte."""
    room: np.ndarray
    """float64[K]: bytes."""
    gain: float
    """Share of the slope's price that is added to the price whenever it is looked at."""

    def cut(self, slots: slice, gain: float) -> Relaxed:
        """The part in some slots."""
        return Relaxed(self.lean[slots], self.width[slots], self.price[slots], self.slope, self.room, gain)


def strict(problem) -> Relaxed:
    """The rules as they are."""
    n_slots, n_channels = problem.base.shape
    n_tiers = len(problem.capacity)
    return Relaxed(
        np.zeros((n_slots, n_channels)),
        np.zeros(n_slots),
        np.zeros((n_slots, n_tiers)),
        np.zeros(n_tiers),
        problem.capacity,
        0.0,
    )


class Relaxation:
    """What the rounds by prices follow.

    Parameters
    ----------
    problem : Problem
    low : Lowered
    guides : sequence of Guide
        The dual's multipliers at several temperatures; at least one.
    tau : float
        Temperature of the first round; the start is a sample at that of the nearest guide.
    unit : float
        Of temperatures, by the byte.
    load : float64[T, C]
        Seconds each channel is busy at the start.
    """

    def __init__(
        self, problem, low: Lowered, guides: Sequence[Guide], tau: float, unit: float, load: np.ndarray
    ) -> None:
        self.problem, self.guides, self.tau, self.unit = problem, guides, tau, unit
        self.tiers = np.flatnonzero(np.isfinite(low.capacity_bytes))
        self.guide = self._nearest(tau)
        self.lean, self.price = self._prices(self.guide)
        # A balanced read goes wherever the slot is least busy, so nothing is out of balance for long.
        self.slot_s = np.zeros(len(load)) if problem.balanced else (self.lean * load).sum(axis=1)
        self.size = float(problem.size.mean())
        self.worth = np.minimum(unit / np.maximum(self.price.mean(axis=0), 1e-300), len(load))
        """Slots for which holding a byte costs what it saves when read."""
        self.room = problem.capacity.copy()
        self.excess: np.ndarray | None = None

    def _nearest(self, tau: float) -> Guide:
        return min(self.guides, key=lambda guide: abs(math.log(guide.tau / tau)))

    def _prices(self, guide: Guide) -> tuple[np.ndarray, np.ndarray]:
        share = guide.certificate.channel_price.T
        total = share.sum(axis=1, keepdims=True)
        even = 1.0 / share.shape[1]
        lean = np.where(total > 0, share / np.where(total > 0, total, 1.0), even)
        return np.ascontiguousarray(lean), guide.certificate.capacity_price_s_per_byte[self.tiers].T.copy()

    def temperature(self, done: float) -> float:
        """By the byte, in units, when that share of the rounds is done."""
        return self.tau * _COOLING**done

    def at(self, done: float) -> Relaxed:
        """What to go by when that share of the rounds is done."""
        tau = self.temperature(done)
        guide = self._nearest(tau)
        if guide is not self.guide:
            # What was learned since stays.
            (lean, price), (lean_before, price_before) = self._prices(guide), self._prices(self.guide)
            self.price[:] = np.maximum(self.price + price - price_before, 0.0)
            self.lean = np.maximum(self.lean + lean - lean_before, 0.0)
            self.lean /= self.lean.sum(axis=1, keepdims=True)
            self.guide = guide
        width = _between(_WIDTHS, done) * self.slot_s
        slope = _between(_SLOPES, done) * tau * self.unit / (self.size * self.worth)
        return Relaxed(self.lean, width, self.price, slope, self.room, _GAIN)

    def learn(self, done: float, relaxed: Relaxed, load: np.ndarray, held: np.ndarray) -> None:
        """Follow the loads and the occupancy that a round has come to.

        Parameters
        ----------
        done : float
            As :meth:`at` was asked.
        relaxed : Relaxed
            What it said.
        load : float64[T, C]
        held : float64[K, T]
        """
        smoothed = relaxed.width > 0
        prices_of_channels(load[smoothed], relaxed.width[smoothed], self.lean[smoothed], share := load[smoothed] * 0.0)
        self.lean[smoothed] += _LEARNING * (share - self.lean[smoothed])
        excess = np.quantile(np.maximum(held - self.room[:, None], 0.0), _SURE, axis=1)
        self.excess = excess if self.excess is None else 0.5 * (self.excess + excess)
        if done >= _MARGIN_FROM:
            self.room = np.maximum(self.problem.capacity - _MARGIN * self.excess, 0.0)


def _between(ends: tuple[float, float], done: float) -> float:
    first, last = ends
    return first * (last / first) ** done


@njit(cache=True, nogil=True, _nrt=False)
def prices_of_channels(load, width, lean, share):
    """Fill ``share`` with the prices at which smoothed slots count their channels; shapes as in :class:`Relaxed`."""
    for t in range(load.shape[0]):
        level = _level(load, t, 0.0, lean[t], lean[t], width[t])
        for c in range(load.shape[1]):
            share[t, c] = max(lean[t, c] + (load[t, c] - level) / width[t], 0.0)


@piece
def _level(load, t, size, extra, lean, width):
    """The level at which the positive parts of ``lean[c] + (busy[c] - level) / width`` add up to 1.

    Newton's method from below, on a convex piecewise linear function: with every step fewer parts are positive, until
    they stay as many. By rounding they might become more again, which must not go on for ever.
    """
    n_channels = load.shape[1]
    most = load[t, 0] + size * extra[0] + width * lean[0]
    for c in range(1, n_channels):
        most = max(most, load[t, c] + size * extra[c] + width * lean[c])
    level, active = most - width, 0
    while True:
        total, count = 0.0, 0
        for c in range(n_channels):
            reach = load[t, c] + size * extra[c] + width * lean[c]
            if reach > level:
                total += reach
                count += 1
        if count == 0 or 0 < active <= count:
            return level
        level, active = (total - width) / count, count


@part(_nrt=False)
def smooth_time(load, t, size, extra, lean, width):
    """The largest of ``sum_c p[c] busy[c] - width / 2 |p - lean|^2`` over prices p that add up to 1.

    Parameters
    ----------
    load : float64[T, C]
    t : int
    size, extra : float, float64[C]
        busy[c] = load[t, c] + size extra[c], in seconds.
    lean : float64[C]
        Prices that add up to 1.
    width : float
        Seconds, more than 0.
    """
    level = _level(load, t, size, extra, lean, width)
    value = 0.0
    for c in range(load.shape[1]):
        busy = load[t, c] + size * extra[c]
        share = max(lean[c] + (busy - level) / width, 0.0)
        value += share * busy - 0.5 * width * (share - lean[c]) ** 2
    return value


@part(_nrt=False)
def recharge(problem, window, tables):
    """Charge every slot of a window for how full its tiers are, and let the tables be made anew."""
    n_slots, n_states = window.charge.shape
    charge, charged, held = window.charge, window.charged, window.held
    price, slope, room, gain = window.relaxed.price, window.relaxed.slope, window.relaxed.room, window.relaxed.gain
    for t in range(n_slots):
        for z in range(n_states):
            charge[t, z] = problem.idle_price[z]
        for k in range(held.shape[0]):
            push = slope[k] * (held[k, t] - room[k])
            now = max(price[t, k] + push, 0.0)
            price[t, k] = max(price[t, k] + gain * push, 0.0)
            for z in range(n_states):
                if problem.inside[k] >> z & 1:
                    charge[t, z] += now
        least = charge[t, 0]
        for z in range(1, n_states):
            least = min(least, charge[t, z])
        for z in range(n_states):
            charge[t, z] -= least
            charged[t + 1, z] = charged[t, z] + charge[t, z]
    dirty, which = tables.dirty, tables.dirty_steps
    for n in range(dirty.shape[0]):
        dirty[n] = True
        which[n + 1] = n
    which[0] = dirty.shape[0]
