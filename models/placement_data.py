"""The sets and data of :mod:`kvopt.models.placement`: plain Python numbers, in the model's units."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from kvopt.instance import Instance
from kvopt.objective import LATE, tail_steps

_PRICED = ("read", "write", "move_out", "hold")


def of(instance: Instance) -> SimpleNamespace:
    """Everything under the names of the model's page."""
    trace, platform, rules = instance.trace, instance.platform, instance.rules
    read_s, write_s, out_s = (platform.loads(r) / platform.bandwidth_bytes_per_s for r in ("read", "write", "move_out"))
    byte_unit = float(trace.size_bytes.mean())
    time_unit_s = byte_unit * float(read_s.max()) or 1.0
    per_byte = byte_unit / time_unit_s
    tiers = range(len(platform.tiers))
    placed = tiers[:-1] if rules.inclusive and not rules.write_back else tiers
    data = SimpleNamespace(
        byte_unit=byte_unit,
        time_unit_s=time_unit_s,
        inclusive=rules.inclusive,
        write_back=rules.write_back,
        balanced=rules.balanced,
        read_through=rules.read_through,
        free_moves=rules.free_moves,
        BLOCKS=range(trace.n_blocks),
        TIERS=tiers,
        PLACED=placed,
        MOVES=[(j, k) for j in tiers for k in placed if j != k],
        CHANNELS=range(len(platform.channels)),
        SLOTS=range(trace.n_slots),
        STEPS=range(trace.n_steps),
        step_slots=[range(n * trace.n_lanes, (n + 1) * trace.n_lanes) for n in range(trace.n_steps)],
        life=[range(*span) for span in zip(instance.birth_slot.tolist(), instance.death_slot.tolist(), strict=True)],
        given=_given(instance, placed),
        size=(trace.size_bytes / byte_unit).tolist(),
        live=(instance.live_bytes / byte_unit).tolist(),
        capacity=[c / byte_unit for c in instance.fillable_bytes.tolist()],
        fits=[[size <= c for c in instance.capacity_bytes] for size in trace.size_bytes.tolist()],
        read=(read_s * per_byte).tolist(),
        write=(write_s * per_byte).tolist(),
        out=(out_s * per_byte).tolist(),
        base=(instance.weight_bytes_per_slot * read_s[0] / time_unit_s).tolist(),
    )
    data.reads, data.new, data.alive, data.stays = _blocks_by_slot(instance, data.life)
    shared = rules.balanced or (rules.inclusive and len(tiers) > 2)
    data.SHARED = [(i, t) for i in data.BLOCKS for t in data.life[i] if shared and i in data.reads[t]]
    _add_prices(data, instance)
    return data


def _given(instance: Instance, placed: range) -> dict[tuple[int, int], int]:
    """Whether tier k holds prefilled block i in slot 0, where that is given."""
    if instance.initial is None:
        return {}
    prefilled = np.flatnonzero(instance.trace.write_step < 0)
    held = instance.states[instance.initial].astype(int)
    return {(i, k): int(held[i, k]) for k in placed for i in prefilled.tolist()}


def _blocks_by_slot(instance: Instance, life: list[range]) -> tuple[list, list, list, list]:
    """For each slot: the blocks read in it, written in it, alive in it, and alive in the next one too.

    Each slot's blocks are a dict without values: ordered as a list, and searched as a set.
    """
    trace = instance.trace
    reads, new, alive, stays = ([{} for _ in range(trace.n_slots)] for _ in range(4))
    for i, start, stop in zip(*(a.tolist() for a in (trace.run_block, trace.run_start, trace.run_stop)), strict=True):
        for n in range(start, stop):
            reads[n * trace.n_lanes + int(trace.lane[i])][i] = None
    for i in np.flatnonzero(trace.write_step >= 0).tolist():
        new[life[i].start][i] = None
    for i, slots in enumerate(life):
        for t in slots:
            alive[t][i] = None
        for t in slots[:-1]:
            stays[t][i] = None
    return reads, new, alive, stays


def _add_prices(data: SimpleNamespace, instance: Instance) -> None:
    """What the objective charges, in cost units."""
    prices = instance.prices
    unit = data.cost_unit = cost_unit(instance)
    data.time_weight = prices.per_second * data.time_unit_s / unit
    data.linear = prices.linear
    data.price = {n: (getattr(prices, n) * data.byte_unit / unit).tolist() for n in _PRICED}
    data.price["weights"] = float(prices.read[0]) * instance.weight_bytes_per_slot / unit
    tails, deadlines = ([(w, at) for w, at in found if w > 0] for found in (prices.tails, prices.deadlines))
    data.TAILS, data.DEADLINES = range(len(tails)), range(len(deadlines))
    data.tail_weight = [weight * data.time_unit_s / unit for weight, _ in tails]
    data.tail_steps = [tail_steps(len(data.STEPS), share) for _, share in tails]
    data.late_weight = [weight / unit for weight, _ in deadlines]
    data.deadline = [seconds * (1 + LATE) / data.time_unit_s for _, seconds in deadlines]
    data.longest = [sum(_longest(data, t) for t in slots) for slots in data.step_slots] if deadlines else []


def cost_unit(instance: Instance) -> float:
    """What a unit of ``cost`` is in the objective's own unit: the dearest thing that can happen to a mean block.

    Where only late steps count, one such step.
    """
    platform, prices = instance.platform, instance.prices
    read_s = float((platform.loads("read") / platform.bandwidth_bytes_per_s).max())
    second = prices.per_second + sum(weight for weight, _ in prices.tails)
    dearest = max(second * read_s, *(float(getattr(prices, n).max()) for n in _PRICED))
    return (
        float(instance.trace.size_bytes.mean()) * dearest or max((w for w, _ in prices.deadlines), default=0.0) or 1.0
    )


def _longest(data: SimpleNamespace, t: int) -> float:
    """How long slot t lasts when, on every channel, each block is where that takes longest, and moved from there to
    wherever it can go at once."""

    def moved(i, j, c):
        if i not in data.stays[t] or data.free_moves:
            return 0.0
        out = 0.0 if data.read_through and i in data.reads[t] else data.out[j][c]
        loads = [out + data.write[k][c] for source, k in data.MOVES if source == j]
        return sum(loads) if data.inclusive else max(loads)

    def used(i, c):
        return max((data.read[j][c] if i in data.reads[t] else 0.0) + moved(i, j, c) for j in data.TIERS)

    def written(c):
        return (sum if data.inclusive else max)(data.write[k][c] for k in data.TIERS)

    return max(
        data.base[c]
        + sum(data.size[i] * used(i, c) for i in data.alive[t])
        + sum(data.size[i] * written(c) for i in data.new[t])
        for c in data.CHANNELS
    )
