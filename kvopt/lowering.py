"""Instance -> arrays. Every engine works on these; only the evaluator does not, so that it can judge them.

With two tiers a block in a slot is in *state* 0 (in the fast tier) or 1 (in the backing tier only). All that one byte
of a block can do to the channels in slot t is then one small table::

    op[r, z, z', c]   seconds of channel c, when the block is read (r = 1) or not (r = 0) in slot t,
                      in state z during slot t and in state z' during slot t + 1

and ``write[z, c]`` for the slot that writes it in state z. A slot lasts max_c (base[c, t] + sum of those).

Under another objective than the decode time, seconds are that objective's units: the table then holds the time's weight
times the seconds, and its linear terms on every channel (:mod:`kvopt.objective` says why that is the same).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvopt.instance import Instance

FAST, BACKING = 0, 1


@dataclass(frozen=True, eq=False)
class Lowered:
    """The instance as contiguous arrays (B blocks, R runs, T slots, C channels, 2 states, 2 tiers).

    Parameters
    ----------
    n_steps, n_lanes : int
    base_s : float64[C, T]
        Seconds each channel is busy whatever the placement: weights, and under inclusive copies the new blocks'
        write to the backing tier.
    op_s_per_byte : float64[2, 2, 2, C]
        See the module's docstring.
    write_s_per_byte : float64[2, C]
    capacity_bytes : float64[2]
        Infinite for a tier that all live blocks together cannot fill.
    live_bytes : float64[T]
    inclusive : bool
    size_bytes : float64[B]
    lane, first_step, last_step : int64[B]
        The block exists in its lane's slots of steps ``first_step <= n <= last_step``.
    birth_slot, death_slot : int64[B]
    prefilled : bool[B]
        Exists from slot 0 on, and its first placement is free.
    run_ptr : int64[B + 1]
    run_start, run_stop : int32[R]
        Steps.
    """

    n_steps: int
    n_lanes: int
    base_s: np.ndarray
    op_s_per_byte: np.ndarray
    write_s_per_byte: np.ndarray
    capacity_bytes: np.ndarray
    live_bytes: np.ndarray
    inclusive: bool
    size_bytes: np.ndarray
    lane: np.ndarray
    first_step: np.ndarray
    last_step: np.ndarray
    birth_slot: np.ndarray
    death_slot: np.ndarray
    prefilled: np.ndarray
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
    def occupancy(self) -> np.ndarray:
        """float64[2, 2]: entry [z, k] is the bytes a block's byte takes of tier k in state z."""
        return np.array([[1.0, float(self.inclusive)], [0.0, 1.0]])


def lower(instance: Instance) -> Lowered:
    """Lower an instance under its objective."""
    trace, rules = instance.trace, instance.rules
    op, write, always = _operations(instance)
    base_s = np.zeros((len(instance.platform.channels), instance.n_slots))
    base_s += (instance.weight_bytes_per_slot * _costs(instance)[0][FAST])[:, None]
    written = trace.write_step >= 0
    for c in np.flatnonzero(always):
        np.add.at(base_s[c], instance.birth_slot[written], trace.size_bytes[written] * always[c])
    live = instance.live_bytes.astype(float)
    capacity = np.array(instance.capacity_bytes, float)
    if rules.inclusive:
        capacity[BACKING] = np.inf  # Holds every live block or the instance would have been refused.
    capacity[capacity >= live.max()] = np.inf
    return Lowered(
        n_steps=trace.n_steps,
        n_lanes=trace.n_lanes,
        base_s=base_s,
        op_s_per_byte=op,
        write_s_per_byte=write,
        capacity_bytes=capacity,
        live_bytes=live,
        inclusive=rules.inclusive,
        size_bytes=trace.size_bytes.astype(float),
        lane=trace.lane.astype(np.int64),
        first_step=trace.first_step.astype(np.int64),
        last_step=trace.free_step.astype(np.int64) - 1,
        birth_slot=instance.birth_slot,
        death_slot=instance.death_slot,
        prefilled=~written,
        run_ptr=trace.run_ptr,
        run_start=trace.run_start,
        run_stop=trace.run_stop,
    )


def unit_per_byte(low: Lowered) -> float:
    """What a byte read from the backing tier costs, the scale of temperatures; if that is free, the dearest operation;
    if all are, 1."""
    op, write = low.op_s_per_byte, low.write_s_per_byte
    return float(op[1, BACKING, BACKING].max() or op.max() or write.max() or 1.0)


def _costs(instance: Instance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float64[K, C] each: what a byte read, written or moved out costs on every channel, linear terms on all alike."""
    platform, prices = instance.platform, instance.prices
    rate = platform.bandwidth_bytes_per_s
    return tuple(
        prices.per_second * platform.loads(role) / rate + getattr(prices, role)[:, None]
        for role in ("read", "write", "move_out")
    )


def _operations(instance: Instance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """op[r, z, z', c], write[z, c] and the write that happens in every state, all in the objective's unit per byte."""
    rules = instance.rules
    read, write, out = _costs(instance)
    op = np.zeros((2, 2, 2, read.shape[1]))
    fast, backing = instance.prices.hold
    for z, hold in ((FAST, fast + backing * rules.inclusive), (BACKING, backing)):
        op[:, z] += hold
        op[1, z] += read[z]
    for source, target in ((BACKING, FAST), (FAST, BACKING)):
        if rules.free_moves or (rules.inclusive and target == BACKING):
            continue  # Under inclusive copies the copy is dropped; nothing moves.
        op[0, source, target] += out[source] + write[target]
        op[1, source, target] += write[target] if rules.read_through else out[source] + write[target]
    if rules.inclusive:
        return op, np.array([write[FAST], np.zeros_like(write[FAST])]), write[BACKING]
    return op, write, np.zeros_like(write[FAST])
