r"""The KV placement problem as a mixed-integer linear program: :func:`build` makes it in Pyomo.

Sets
    ===================  ===================================================================================
    ``i in BLOCKS``      blocks; ``life[i]`` are the slots in which block i exists
    ``k in TIERS``       tiers, fast to slow; the last is the backing tier
    ``k in PLACED``      tiers whose copies are decided on: all, but under inclusive copies written through not
                         the backing tier, where z is 1 and needs no variable
    ``j, k in MOVES``    from tier j to another tier k in PLACED
    ``c in CHANNELS``    anything that moves bytes at a rate
    ``t in SLOTS``       the time axis: one lane's attention in one step; it reads ``reads[t]``, writes ``new[t]``
    ``i, t in SHARED``   reads whose source the model decides on: all, where reads are balanced and for inclusive
                         copies in three tiers or more; none else, as z alone settles it
    ``n in STEPS``       the steps; step n is ``step_slots[n]``, a slot of each lane
    ===================  ===================================================================================

Data
    ===================  ===================================================================================
    ``size[i]``          s_i, size
    ``capacity[k]``      C_k, capacity
    ``given[i,k]``       whether tier k holds prefilled block i in slot 0, where that is given
    ``read[k][c]``       rho[c,k] / B_c, time of channel c per byte read from tier k
    ``write[k][c]``      omega[c,k] / B_c, the same per byte written to tier k
    ``out[j][c]``        sigma[c,j] / B_c, the same per byte that leaves tier j in a move
    ``base[c]``          time of channel c for the weights, in every slot
    ``tail_steps[v]``    m_v, how many of the longest steps tail v is the mean of; not always whole, at least 1
    ``deadline[d]``      D_d, the longest that a step may take and not be late: with the leeway for rounding
    ``longest[n]``       H_n, how long step n takes at most
    ===================  ===================================================================================

    Bytes count in units of ``byte_unit``, the mean block, and times in units of ``time_unit_s``, in which the slowest
    read moves that block: HiGHS's tolerances are absolute, so coefficients must lie near 1.

Variables
    ===================  ===================================================================================
    ``z[i,k,t]``         in {0, 1}: tier k holds block i during slot t; 0 for a block larger than the tier
    ``m[i,j,k,t]``       in [0, 1]: block i is moved from j to k during slot t, usable from slot t + 1
    ``r[i,k,t]``         in [0, 1]: the share of block i that is read from tier k in slot t, for i, t in SHARED
    ``L[t]``             how long slot t lasts
    ``eta[v]``           tail v counts what steps take beyond this: ``excess[v,n]``
    ``late[d,n]``        in {0, 1}: step n misses deadline d
    ===================  ===================================================================================

    Of reads not in SHARED, r is z under exclusive copies; under inclusive ones, in two tiers, it is z for the fast tier
    and what is left to 1 for the other.

Where a block is
    .. math::

        \text{one\_tier}_{it}:\quad & \sum_k z_{ikt} = 1 \quad\text{(exclusive copies)} \\
        \text{some\_tier}_{it}:\quad & \sum_k z_{ikt} \ge 1 \quad\text{(written back)} \\
        \text{given\_start}_{ik}:\quad & z_{ik0} = \text{given}_{ik} \\
        \text{capacity}_{kt}:\quad & \sum_i s_i z_{ikt} \le C_k

    Capacity is written for the slots in which the blocks alive exceed the tier: elsewhere it cannot bind. Where sizes
    are far apart, no solver's tolerances keep such a row to the byte: :mod:`kvopt.exact.capacity` says what the exact
    engine makes of it.

How it gets there
    .. math::

        \text{usable\_from\_next\_slot}_{ikt}:\quad & z_{ik,t+1} \le z_{ikt} + \sum_j m_{ijkt} \\
        \text{source\_holds}_{ijkt}:\quad & m_{ijkt} \le z_{ijt} \\
        \text{source\_is\_nearest}_{ijkht}:\quad & m_{ijkt} \le 1 - z_{iht} \quad\text{for } h \text{ faster than } j,
          \ h \ne k \quad\text{(inclusive copies)}

    Copies are made from the nearest, that is the fastest, tier that holds the block. The last two need no rows while
    there are two tiers: the cheapest m, max(0, z[i,k,t+1] - z[i,k,t]), obeys them by itself, as a block that is not in
    k is in the other tier.

What is read
    .. math::

        \text{read\_once}_{it}:\quad & \sum_k r_{ikt} = 1 \\
        \text{read\_where\_held}_{ikt}:\quad & r_{ikt} \le z_{ikt} \\
        \text{read\_nearest}_{ikt}:\quad & \sum_{j \le k} r_{ijt} \ge z_{ikt} \quad\text{(unless balanced)}

    The last: what tier k holds is read from there or from a faster tier. Balanced reads may split as they like.

How long it takes
    .. math::

        \text{slot\_time}_{ct}:\quad & L_t \ge \text{base}_c
          + \sum_{i \in \text{reads}_t, k} s_i \rho_{ck} r_{ikt}
          + \sum_{i \in \text{new}_t, k} s_i \omega_{ck} z_{ikt}
          + \sum_{i, j, k} s_i (\sigma_{cj} + \omega_{ck}) m_{ijkt} \\
        \text{tail}_{vn}:\quad & \text{excess}_{vn} \ge \sum_{t \in n} L_t - \eta_v \\
        \text{on\_time}_{dn}:\quad & \sum_{t \in n} L_t \le D_d (1 - \text{late}_{dn}) + H_n \text{late}_{dn}

    A new block is written to every tier that holds it in its first slot. Under read-through moves, a block read in slot
    t pays no sigma for its move; free moves pay nothing. H is valid since no placement makes a slot longer than when
    each block, on every channel, is where reading it and moving it on at once takes longest; a late step then has room
    for any placement.

Objective
    .. math:: \min\; w \sum_t L_t + \sum_v w_v \Bigl(\eta_v + \sum_n \text{excess}_{vn} / m_v\Bigr)
          + \sum_{d,n} w_d\, \text{late}_{dn} + \text{what is charged by the byte read, written, moved and held}

    For the decode time, the default, that is the sum of L alone; the expression ``latency_s`` is it in seconds, and
    ``cost`` counts in units of ``cost_unit``. At the best eta, a tail is the mean of the m_v longest steps (Rockafellar
    and Uryasev, 2002). The expressions ``step_s[n]`` are the steps' times in seconds: with ``latency_s`` and the
    variables, what an objective of one's own is made of (``expression`` in :mod:`kvopt.objective`).
"""

from __future__ import annotations

from types import SimpleNamespace

import pyomo.environ as pyo

from kvopt.instance import Instance
from kvopt.models import placement_data


def build(instance: Instance, *, relax: bool = False) -> pyo.ConcreteModel:
    """The model of an instance; the module's docstring states its mathematics.

    Parameters
    ----------
    instance : Instance
    relax : bool
        Let z and late lie anywhere in [0, 1]: the linear relaxation.

    Returns
    -------
    pyomo.environ.ConcreteModel
        With ``byte_unit`` (bytes), ``time_unit_s`` (seconds) and ``cost_unit`` (of the objective) as attributes.
    """
    data = placement_data.of(instance)
    model = pyo.ConcreteModel("placement")
    model.byte_unit, model.time_unit_s, model.cost_unit = data.byte_unit, data.time_unit_s, data.cost_unit
    _declare_variables(model, data, pyo.UnitInterval if relax else pyo.Binary)
    _constrain_residency(model, data)
    _constrain_moves(model, data)
    _constrain_reads(model, data)
    _constrain_slot_times(model, data)
    _constrain_step_times(model, data)
    model.latency_s = pyo.Expression(expr=data.time_unit_s * pyo.quicksum(model.L.values()))
    model.cost = pyo.Objective(expr=_cost(model, data))
    return model


def _declare_variables(model: pyo.ConcreteModel, data: SimpleNamespace, binary) -> None:
    model.z = pyo.Var(
        [(i, k, t) for k in data.PLACED for i in data.BLOCKS for t in data.life[i]],
        domain=binary,
        bounds=lambda _, i, k, t: (0, int(data.fits[i][k])),
    )
    model.m = pyo.Var(
        [(i, j, k, t) for j, k in data.MOVES for i in data.BLOCKS for t in data.life[i][:-1]],
        domain=pyo.UnitInterval,
    )
    model.r = pyo.Var(
        [(i, k, t) for k in data.TIERS for i, t in data.SHARED],
        domain=pyo.UnitInterval,
    )
    model.L = pyo.Var(data.SLOTS, domain=pyo.NonNegativeReals)
    model.eta = pyo.Var(data.TAILS, domain=pyo.NonNegativeReals)
    model.excess = pyo.Var(data.TAILS, data.STEPS, domain=pyo.NonNegativeReals)
    model.late = pyo.Var(data.DEADLINES, data.STEPS, domain=binary)


def _constrain_residency(model: pyo.ConcreteModel, data: SimpleNamespace) -> None:
    """Where a block may be."""
    z = model.z

    @model.Constraint([(i, t) for i in data.BLOCKS for t in data.life[i] if not data.inclusive])
    def one_tier(_, i, t):
        return sum(z[i, k, t] for k in data.PLACED) == 1

    @model.Constraint([(i, t) for i in data.BLOCKS for t in data.life[i] if data.write_back])
    def some_tier(_, i, t):
        return sum(z[i, k, t] for k in data.PLACED) >= 1

    @model.Constraint(list(data.given))
    def given_start(_, i, k):
        return z[i, k, 0] == data.given[i, k]

    @model.Constraint([(k, t) for k in data.PLACED for t in data.SLOTS if data.live[t] > data.capacity[k]])
    def capacity(_, k, t):
        return pyo.quicksum(data.size[i] * z[i, k, t] for i in data.alive[t]) <= data.capacity[k]


def _constrain_moves(model: pyo.ConcreteModel, data: SimpleNamespace) -> None:
    """How it gets there: copied from the nearest tier that holds it."""
    z, m = model.z, model.m
    stays = [(i, t) for i in data.BLOCKS for t in data.life[i][:-1]]
    from_several = data.MOVES if len(data.TIERS) > 2 else []

    @model.Constraint([(i, k, t) for k in data.PLACED for i, t in stays])
    def usable_from_next_slot(_, i, k, t):
        return z[i, k, t + 1] <= z[i, k, t] + sum(m[i, j, to, t] for j, to in data.MOVES if to == k)

    @model.Constraint([(i, j, k, t) for j, k in from_several if j in data.PLACED for i, t in stays])
    def source_holds(_, i, j, k, t):
        return m[i, j, k, t] <= z[i, j, t]

    faster = [(j, k, h) for j, k in from_several for h in data.TIERS[:j] if h != k and data.inclusive]

    @model.Constraint([(i, j, k, h, t) for j, k, h in faster for i, t in stays])
    def source_is_nearest(_, i, j, k, h, t):
        return m[i, j, k, t] <= 1 - z[i, h, t]


def _constrain_reads(model: pyo.ConcreteModel, data: SimpleNamespace) -> None:
    """What is read, where z does not say it by itself."""
    z, r = model.z, model.r

    @model.Constraint(data.SHARED)
    def read_once(_, i, t):
        return sum(r[i, k, t] for k in data.TIERS) == 1

    @model.Constraint([(i, k, t) for k in data.PLACED for i, t in data.SHARED])
    def read_where_held(_, i, k, t):
        return r[i, k, t] <= z[i, k, t]

    @model.Constraint([(i, k, t) for k in data.TIERS[:-1] for i, t in data.SHARED if not data.balanced])
    def read_nearest(_, i, k, t):
        return sum(r[i, j, t] for j in data.TIERS[: k + 1]) >= z[i, k, t]


def _constrain_slot_times(model: pyo.ConcreteModel, data: SimpleNamespace) -> None:
    """A slot lasts as long as its busiest channel takes for reads, new blocks and moves."""
    m, size = model.m, data.size

    held, share_read = _residency(model, data)

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


def _residency(model: pyo.ConcreteModel, data: SimpleNamespace):
    """Two functions of (i, k, t): whether tier k holds the block, and the share read from it."""
    z, r = model.z, model.r

    def held(i, k, t):
        return z[i, k, t] if k in data.PLACED else 1

    def share_read(i, k, t):
        if data.SHARED:
            return r[i, k, t]
        return z[i, k, t] if k == 0 or not data.inclusive else 1 - z[i, 0, t]

    return held, share_read


def _constrain_step_times(model: pyo.ConcreteModel, data: SimpleNamespace) -> None:
    """What single steps take: beyond the threshold of a tail, and beyond a deadline."""
    length = [pyo.quicksum(model.L[t] for t in slots) for slots in data.step_slots]
    model.step_s = pyo.Expression(data.STEPS, rule=lambda _, n: data.time_unit_s * length[n])

    @model.Constraint(data.TAILS, data.STEPS)
    def tail(_, v, n):
        return model.excess[v, n] >= length[n] - model.eta[v]

    @model.Constraint(data.DEADLINES, data.STEPS)
    def on_time(_, d, n):
        return length[n] <= data.deadline[d] * (1 - model.late[d, n]) + data.longest[n] * model.late[d, n]


def _cost(model: pyo.ConcreteModel, data: SimpleNamespace):
    """What the objective makes of it, in cost units."""

    def tail_mean(v):
        return model.eta[v] + sum(model.excess[v, n] for n in data.STEPS) / data.tail_steps[v]

    return (
        data.time_weight * pyo.quicksum(model.L.values())
        + sum(data.tail_weight[v] * tail_mean(v) for v in data.TAILS)
        + sum(data.late_weight[d] * model.late[d, n] for d in data.DEADLINES for n in data.STEPS)
        + (_charged_by_the_byte(model, data) if data.linear else 0.0)
    )


def _charged_by_the_byte(model: pyo.ConcreteModel, data: SimpleNamespace):
    m, size, price = model.m, data.size, data.price

    held, share_read = _residency(model, data)

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
