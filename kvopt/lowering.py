"""Instance -> arrays. Every engine works on these; only the evaluator does not, so that it can judge them.

A block in a slot is in one of S *states*, the sets of tiers that may hold it (:mod:`kvopt.residency`). All that one
byte of a block can do to the channels in slot t is then one small table::

    op[r, z, z', c]   seconds of channel c, when the block is read (r = 1) or not (r = 0) in slot t,
                      in state z during slot t and in state z' during slot t + 1

and ``write[z, c]`` for the slot that writes it in state z. A slot lasts max_c (base[c, t] + sum of those). What the
objective charges by the byte, whatever the time, is ``op_price[r, z, z']`` and ``write_price[z]`` beside them; what it
makes of the slots' times is ``per_second``, ``tails`` and ``deadlines``, as in :class:`kvopt.objective.Prices`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kvopt.instance import Instance
from kvopt.objective import Prices
from kvopt.residency import entered, nearest

OF_BLOCKS = ("lane", "first_step", "last_step", "birth_slot", "death_slot", "prefilled", "initial", "shut")
"""Columns of a :class:`Lowered` with an entry for each block, besides its size and its runs."""
_KEEPS_OUT = 100.0
"""The price of a byte in a tier that holds none, in times of the dearest it can do in a slot. Four keep out the
cheapest paths; with a hundred, none is drawn at the temperatures of smoothed ones either."""


@dataclass(frozen=True, eq=False)
class Lowered:
    """The instance as contiguous arrays (B blocks, R runs, T slots, C channels, S states, K tiers).

    Parameters
    ----------
    n_steps, n_lanes : int
    base_s : float64[C, T]
        Seconds each channel is busy whatever the placement: weights, and new blocks' write to tiers that every state
        has them in.
    base_price : float
        What the objective charges for that by the byte.
    op_s_per_byte : float64[2, S, S, C]
        See the module's docstring.
    op_price_per_byte : float64[2, S, S]
    write_s_per_byte : float64[S, C]
    write_price_per_byte : float64[S]
    swap_s_per_byte : float64[C]
        Seconds more that a byte read takes from the backing tier in place of the fast one, where reads are balanced and
        both hold it; else 0.
    swap_price_per_byte : float
    swappable : bool[S]
        The states in which a read may be swapped so.
    holds : bool[S, K]
        The tiers that hold a block in each state.
    capacity_bytes : float64[K]
        What blocks can fill of a tier: infinite where all live blocks together cannot fill it, 0 where it is smaller
        than every block.
    live_bytes : float64[T]
    prices : Prices
        Of the objective; by-the-byte ones are in the tables.
    size_bytes : float64[B]
    lane, first_step, last_step : int64[B]
        The block exists in its lane's slots of steps ``first_step <= n <= last_step``.
    birth_slot, death_slot : int64[B]
    prefilled : bool[B]
        Exists from slot 0 on, and its first placement is not written.
    initial : int8[B]
        State in slot 0 of a prefilled block; -1 where free.
    shut : int64[B]
        The tiers that the block is larger than: 2^k for each, added up.
    run_ptr : int64[B + 1]
    run_start, run_stop : int32[R]
        Steps.
    """

    n_steps: int
    n_lanes: int
    base_s: np.ndarray
    base_price: float
    op_s_per_byte: np.ndarray
    op_price_per_byte: np.ndarray
    write_s_per_byte: np.ndarray
    write_price_per_byte: np.ndarray
    swap_s_per_byte: np.ndarray
    swap_price_per_byte: float
    swappable: np.ndarray
    holds: np.ndarray
    capacity_bytes: np.ndarray
    live_bytes: np.ndarray
    prices: Prices
    size_bytes: np.ndarray
    lane: np.ndarray
    first_step: np.ndarray
    last_step: np.ndarray
    birth_slot: np.ndarray
    death_slot: np.ndarray
    prefilled: np.ndarray
    initial: np.ndarray
    shut: np.ndarray
    run_ptr: np.ndarray
    run_start: np.ndarray
    run_stop: np.ndarray

    @property
    def n_slots(self) -> int:
        """T."""
        return self.n_steps * self.n_lanes

    @property
    def n_blocks(self) -> int:
        """B."""
        return len(self.size_bytes)

    @property
    def n_channels(self) -> int:
        """C."""
        return self.base_s.shape[0]

    @property
    def n_states(self) -> int:
        """S."""
        return self.holds.shape[0]

    @property
    def n_tiers(self) -> int:
        """K."""
        return self.holds.shape[1]

    @cached_property
    def closed(self) -> np.ndarray:
        """bool[K]: the tiers that hold no block."""
        return self.capacity_bytes == 0

    @cached_property
    def keep_out_price(self) -> np.ndarray:
        """float64[K]: a price of a byte and slot at which nothing is worth a stay in a tier that is closed; else 0.

        For a stay of n slots in another tier, a byte pays for n reads at most, and to come to exist there or to move
        there and back. Rent of no capacity costs the dual nothing.
        """
        return np.where(self.closed, self.dearest_price, 0.0)

    @cached_property
    def dearest_price(self) -> float:
        """A price of a byte and slot that no block would pay for any tier while there is another."""
        second = self.prices.per_second + sum(weight for weight, _ in self.prices.tails)
        op = second * self.op_s_per_byte.max(axis=-1) + self.op_price_per_byte
        write = second * self.write_s_per_byte.max(axis=-1) + self.write_price_per_byte
        return _KEEPS_OUT * float(op.max() + write.max() or 1.0)

    def of_blocks(self, kept: np.ndarray) -> Lowered:
        """Some of the blocks, int64[b] ascending; all else as it is."""
        counts, is_kept = np.diff(self.run_ptr), np.zeros(self.n_blocks, bool)
        is_kept[kept] = True
        runs = np.repeat(is_kept, counts)  # A byte a run: there may be hundreds of millions.
        return replace(
            self,
            run_ptr=np.concatenate([[0], np.cumsum(counts[kept])]).astype(np.int64),
            **{name: getattr(self, name)[runs] for name in ("run_start", "run_stop")},
            **{name: getattr(self, name)[kept] for name in ("size_bytes", *OF_BLOCKS)},
        )

    @cached_property
    def occupancy(self) -> np.ndarray:
        """float64[S, K]: entry [z, k] is the bytes a block's byte takes of tier k in state z."""
        return self.holds.astype(float)


def lower(instance: Instance) -> Lowered:
    """Lower an instance under its objective."""
    trace, rules, held = instance.trace, instance.rules, instance.states
    platform, prices = instance.platform, instance.prices
    read, write, out = (platform.loads(role) / platform.bandwidth_bytes_per_s for role in ("read", "write", "move_out"))
    by_time = _Tables.of(instance, read, write, out)
    by_price = _Tables.of(instance, *(getattr(prices, n)[:, None] for n in ("read", "write", "move_out")))
    by_price.op[:] += (held @ prices.hold)[:, None, None]
    written = trace.write_step >= 0
    base_s = np.zeros((len(platform.channels), instance.n_slots))
    base_s += (instance.weight_bytes_per_slot * read[0])[:, None]
    for c in np.flatnonzero(by_time.always):
        np.add.at(base_s[c], instance.birth_slot[written], trace.size_bytes[written] * by_time.always[c])
    base_price = instance.weight_bytes_per_slot * instance.n_slots * prices.read[0]
    live = instance.live_bytes.astype(float)
    capacity = instance.fillable_bytes.copy()
    capacity[held.all(axis=0)] = np.inf  # Holds every live block or the instance would have been refused.
    capacity[capacity >= live.max()] = np.inf
    initial = np.full(trace.n_blocks, -1, np.int8) if instance.initial is None else instance.initial
    swap = float(rules.balanced)
    return Lowered(
        n_steps=trace.n_steps,
        n_lanes=trace.n_lanes,
        base_s=base_s,
        base_price=float(base_price + by_price.always[0] * trace.size_bytes[written].sum()),
        op_s_per_byte=by_time.op,
        op_price_per_byte=by_price.op[..., 0],
        write_s_per_byte=by_time.write,
        write_price_per_byte=by_price.write[..., 0],
        swap_s_per_byte=swap * (read[-1] - read[0]),
        swap_price_per_byte=float(swap * (prices.read[-1] - prices.read[0])),
        swappable=held.all(axis=1) & rules.balanced,
        holds=held,
        capacity_bytes=capacity,
        live_bytes=live,
        prices=prices,
        size_bytes=trace.size_bytes.astype(float),
        lane=trace.lane.astype(np.int64),
        first_step=trace.first_step.astype(np.int64),
        last_step=trace.free_step.astype(np.int64) - 1,
        birth_slot=instance.birth_slot,
        death_slot=instance.death_slot,
        prefilled=~written,
        initial=np.where(written, -1, initial).astype(np.int8),
        shut=((trace.size_bytes[:, None] > capacity) << np.arange(len(capacity))).sum(axis=1),
        run_ptr=trace.run_ptr,
        run_start=trace.run_start,
        run_stop=trace.run_stop,
    )


def unit_per_byte(low: Lowered, second: float | None = None) -> float:
    """What a byte read from the backing tier costs, the scale of temperatures; if that is free or nothing is read, the
    dearest operation; if all are free, 1.

    Parameters
    ----------
    low : Lowered
    second : float, optional
        Units a second; what a second of a step that all tails count costs, unless given.
    """
    if second is None:
        second = low.prices.per_second + sum(weight for weight, _ in low.prices.tails)
    op = second * low.op_s_per_byte.max(axis=-1) + low.op_price_per_byte
    write = second * low.write_s_per_byte.max(axis=-1) + low.write_price_per_byte
    if len(low.run_start) == 0:  # What a read would cost says nothing of what there is.
        return float(max(op[0].max(), write.max()) or 1.0)
    z = backing_state(low)
    return float(op[1, z, z] or op.max() or write.max() or 1.0)


def backing_state(low: Lowered) -> int:
    """The state in which a block is kept when it is not wanted: in the fastest tier but the first that has room for
    all. What comes after that changes nothing.

    Parameters
    ----------
    low : Lowered
    """
    near, room = nearest(low.holds), np.isinf(low.capacity_bytes)
    tier = next((k for k in range(1, low.n_tiers) if room[k]), low.n_tiers - 1)
    return int(np.flatnonzero(near == tier)[-1])


@dataclass(frozen=True, eq=False)
class _Tables:
    """What operations cost, in seconds of each channel or in the objective's unit (then C = 1)."""

    op: np.ndarray
    """float64[2, S, S, C]"""
    write: np.ndarray
    """float64[S, C]: without what every state pays"""
    always: np.ndarray
    """float64[C]: that"""

    @classmethod
    def of(cls, instance: Instance, read: np.ndarray, write: np.ndarray, out: np.ndarray) -> _Tables:
        """From costs by tier, float64[K, C] each."""
        held, rules = instance.states, instance.rules
        near, new = nearest(held), entered(held)
        op = np.zeros((2, len(held), len(held), read.shape[1]))
        op[1] += read[near][:, None]
        if not rules.free_moves:
            writing = new @ write
            reading = new.sum(axis=2)[:, :, None] * out[near][:, None]
            op[0] += writing + reading
            op[1] += writing if rules.read_through else writing + reading
        everywhere = held.all(axis=0)
        return cls(op, (held & ~everywhere) @ write, write[everywhere].sum(axis=0))
