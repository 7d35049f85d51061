r"""The KV placement problem as a mixed-integer linear program: :func:`build` makes it in Pyomo.

Sets
    ===================  ===================================================================================
    ``i in BLOCKS``      blocks; ``life[i]`` are the slots in which block i exists
    ``k in TIERS``       tiers, fast to slow; the last is the backing tier
    ``k in PLACED``      tiers whose copies are decided on: all under exclusive copies; all but the backing
                         tier under inclusive copies, where z of the backing tier is 1 and needs no variable
    ``j, k in MOVES``    from tier j to another tier k in PLACED
    ``c in CHANNELS``    anything that moves bytes at a rate
    ``t in SLOTS``       the time axis: one lane's attention in one step; it reads ``reads[t]``, writes ``new[t]``
    ===================  ===================================================================================

Data
    ===================  ===================================================================================
    ``size[i]``          s_i, size
    ``capacity[k]``      C_k, capacity
    ``read[k][c]``       rho[c,k] / B_c, time of channel c per byte read from tier k
    ``write[k][c]``      omega[c,k] / B_c, the same per byte written to tier k
    ``out[j][c]``        sigma[c,j] / B_c, the same per byte that leaves tier j in a move
    ``base[c]``          time of channel c for the weights, in every slot
    ===================  ===================================================================================

    Bytes count in units of ``byte_unit``, the mean block, and times in units of ``time_unit_s``, in which the slowest
    read moves that block: HiGHS's tolerances are absolute, so coefficients must lie near 1.

Variables
    ===================  ===================================================================================
    ``z[i,k,t]``         in {0, 1}: tier k holds block i during slot t
    ``m[i,j,k,t]``       in [0, 1]: block i is moved from j to k during slot t, usable from slot t + 1
    ``L[t]``             how long slot t lasts
    ===================  ===================================================================================

Constraints
    .. math::

        \text{one\_tier}_{it}:\quad & \sum_k z_{ikt} = 1 \quad\text{(exclusive copies)} \\
        \text{capacity}_{kt}:\quad & \sum_i s_i z_{ikt} \le C_k \\
        \text{usable\_from\_next\_slot}_{ikt}:\quad & z_{ik,t+1} \le z_{ikt} + \sum_j m_{ijkt} \\
        \text{slot\_time}_{ct}:\quad & L_t \ge \text{base}_c
          + \sum_{i \in \text{reads}_t, k} s_i \rho_{ck} r_{ikt}
          + \sum_{i \in \text{new}_t, k} s_i \omega_{ck} z_{ikt}
          + \sum_{i, j, k} s_i (\sigma_{cj} + \omega_{ck}) m_{ijkt}

    The share r read from a tier is z under exclusive copies; of inclusive copies the nearest is read, so the
    backing tier's share is what no upper tier holds. Under read-through moves, a block read in slot t pays no sigma
    for its move; free moves pay nothing. Capacity is written for the slots in which the blocks alive exceed the
    tier: elsewhere it cannot bind. That the source of a move holds the block, m[i,j,k,t] <= z[i,j,t], needs no rows
    while there are two tiers: the cheapest m, max(0, z[i,k,t+1] - z[i,k,t]), obeys it by itself.

Objective
    .. math:: \min\; w \sum_t L_t + \text{what the objective charges by the byte read, written, moved and held}

    For the decode time, the default, that is the sum of L alone; the expression ``latency_s`` is it in seconds, and
    ``cost`` counts in units of ``cost_unit``.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyomo.environ as pyo

from kvopt.instance import Instance

_PRICED = ("read", "write", "move_out", "hold")


def build(instance: Instance, *, relax: bool = False) -> pyo.ConcreteModel:
    """The model of an instance; the module's docstring states its mathematics.

    Parameters
    ----------
    instance : Instance
    relax : bool
        Let z lie anywhere in [0, 1]: the linear relaxation.

    Returns
    -------
    pyomo.environ.ConcreteModel
        With ``byte_unit`` (bytes) and ``time_unit_s`` (seconds) as attributes.
    """
    data = _data(instance)
    model = pyo.ConcreteModel("placement")
    model.byte_unit, model.time_unit_s = data.byte_unit, data.time_unit_s
    _declare_variables(model, data, relax)
    _constrain_residency(model, data)
    _constrain_slot_times(model, data)
    model.latency_s = pyo.Expression(expr=data.time_unit_s * pyo.quicksum(model.L.values()))
    model.cost_unit = data.cost_unit
    linear = _linear_terms(model, data) if data.linear else 0.0
    model.cost = pyo.Objective(expr=data.time_weight * pyo.quicksum(model.L.values()) + linear)
    return model


def _declare_variables(model: pyo.ConcreteModel, data: SimpleNamespace, relax: bool) -> None:
    model.z = pyo.Var(
        [(i, k, t) for k in data.PLACED for i in data.BLOCKS for t in data.life[i]],
        domain=pyo.UnitInterval if relax else pyo.Binary,
    )
    model.m = pyo.Var(
        [(i, j, k, t) for j, k in data.MOVES for i in data.BLOCKS for t in data.life[i][:-1]],
        domain=pyo.UnitInterval,
    )
    model.L = pyo.Var(data.SLOTS, domain=pyo.NonNegativeReals)


def _constrain_residency(model: pyo.ConcreteModel, data: SimpleNamespace) -> None:
    """Where a block may be, and how it gets there."""
    z, m = model.z, model.m

    @model.Constraint([(i, t) for i in data.BLOCKS for t in data.life[i] if not data.inclusive])
    def one_tier(_, i, t):
        return sum(z[i, k, t] for k in data.PLACED) == 1

    @model.Constraint([(k, t) for k in data.PLACED for t in data.SLOTS if data.live[t] > data.capacity[k]])
    def capacity(_, k, t):
        return pyo.quicksum(data.size[i] * z[i, k, t] for i in data.alive[t]) <= data.capacity[k]

    @model.Constraint([(i, k, t) for k in data.PLACED for i in data.BLOCKS for t in data.life[i][:-1]])
    def usable_from_next_slot(_, i, k, t):
        return z[i, k, t + 1] <= z[i, k, t] + sum(m[i, j, to, t] for j, to in data.MOVES if to == k)


def _constrain_slot_times(model: pyo.ConcreteModel, data: SimpleNamespace) -> None:
    """A slot lasts as long as its busiest channel takes for reads, new blocks and moves."""
    z, m, size = model.z, model.m, data.size

    held, share_read = _residency(z, data)

    def move(i, j, k, c, t):
        passing_by = data.read_through and i in data.reads[t]
        return data.write[k][c] + (0 if passing_by else data.out[j][c])

    @model.Constraint(data.CHANNELS, data.SLOTS)
    def slot_time(_, c, t):
        reads = [(k, i) for k in data.TIERS if data.read[k][c] for i in data.reads[t]]
        writes = [(k, i) for k in data.TIERS if data.write[k][c] for i in data.new[t]]
        loading = [(j, k) for j, k in data.MOVES if not data.free_moves and (data.write[k][c] or data.out[j][c])]
        moves = [(j, k, i) for j, k in loading for i in data.stays[t]]
        return model.L[t] >= (
            data.base[c]
            + pyo.quicksum(size[i] * data.read[k][c] * share_read(i, k, t) for k, i in reads)
            + pyo.quicksum(size[i] * data.write[k][c] * held(i, k, t) for k, i in writes)
            + pyo.quicksum(size[i] * move(i, j, k, c, t) * m[i, j, k, t] for j, k, i in moves)
        )


def _residency(z: pyo.Var, data: SimpleNamespace):
    """Two functions of (i, k, t): whether tier k holds the block, and the share read from it."""

    def held(i, k, t):
        return z[i, k, t] if k in data.PLACED else 1

    def share_read(i, k, t):
        return z[i, k, t] if k in data.PLACED else 1 - sum(z[i, upper, t] for upper in data.PLACED)

    return held, share_read


def _linear_terms(model: pyo.ConcreteModel, data: SimpleNamespace):
    """What the objective charges by the byte, in cost units."""
    z, m, size, price = model.z, model.m, data.size, data.price

    held, share_read = _residency(z, data)

    def move(i, j, k, t):
        passing_by = data.read_through and i in data.reads[t]
        return price["write"][k] + (0 if passing_by else price["move_out"][j])

    terms = [price["weights"] * len(data.SLOTS)]
    for t in data.SLOTS:
        terms += [size[i] * price["read"][k] * share_read(i, k, t) for i in data.reads[t] for k in data.TIERS]
        terms += [size[i] * price["write"][k] * held(i, k, t) for i in data.new[t] for k in data.TIERS]
        terms += [size[i] * price["hold"][k] * held(i, k, t) for i in data.alive[t] for k in data.TIERS]
        if not data.free_moves:
            terms += [size[i] * move(i, j, k, t) * m[i, j, k, t] for i in data.stays[t] for j, k in data.MOVES]
    return pyo.quicksum(terms)


def _data(instance: Instance) -> SimpleNamespace:
    """Sets and data under the names of the module's docstring, as plain Python numbers in the model's units."""
    trace, platform, rules = instance.trace, instance.platform, instance.rules
    read_s, write_s, out_s = (platform.loads(r) / platform.bandwidth_bytes_per_s for r in ("read", "write", "move_out"))
    byte_unit = float(trace.size_bytes.mean())
    time_unit_s = byte_unit * float(read_s.max()) or 1.0
    per_byte = byte_unit / time_unit_s
    prices, unit = instance.prices, cost_unit(instance)
    tiers = range(len(platform.tiers))
    placed = tiers[:-1] if rules.inclusive else tiers
    data = SimpleNamespace(
        byte_unit=byte_unit,
        time_unit_s=time_unit_s,
        inclusive=rules.inclusive,
        read_through=rules.read_through,
        free_moves=rules.free_moves,
        linear=prices.linear,
        cost_unit=unit,
        time_weight=prices.per_second * time_unit_s / unit,
        price={n: (getattr(prices, n) * byte_unit / unit).tolist() for n in _PRICED}
        | {"weights": float(prices.read[0]) * instance.weight_bytes_per_slot / unit},
        BLOCKS=range(trace.n_blocks),
        TIERS=tiers,
        PLACED=placed,
        MOVES=[(j, k) for j in tiers for k in placed if j != k],
        CHANNELS=range(len(platform.channels)),
        SLOTS=range(trace.n_slots),
        life=[range(*span) for span in zip(instance.birth_slot.tolist(), instance.death_slot.tolist(), strict=True)],
        size=(trace.size_bytes / byte_unit).tolist(),
        live=(instance.live_bytes / byte_unit).tolist(),
        capacity=[c / byte_unit for c in instance.capacity_bytes],
        read=(read_s * per_byte).tolist(),
        write=(write_s * per_byte).tolist(),
        out=(out_s * per_byte).tolist(),
        base=(instance.weight_bytes_per_slot * read_s[0] / time_unit_s).tolist(),
    )
    data.reads, data.new, data.alive, data.stays = _blocks_by_slot(instance, data.life)
    return data


def cost_unit(instance: Instance) -> float:
    """What a unit of ``cost`` is in the objective's own unit: the dearest thing that can happen to a mean block."""
    platform, prices = instance.platform, instance.prices
    read_s = float((platform.loads("read") / platform.bandwidth_bytes_per_s).max())
    dearest = max(prices.per_second * read_s, *(float(getattr(prices, n).max()) for n in _PRICED))
    return float(instance.trace.size_bytes.mean()) * dearest or 1.0


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
