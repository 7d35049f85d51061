r"""The certified bound: Lagrangian dual, ascended through its entropic smoothing.

With a price lambda[c, t] on each channel in each slot (0 or more, summing to 1: the max is the largest such average)
and a price mu[k, t] >= 0 on each byte of capacity, every block chooses its own cheapest path, and

    D(lambda, mu) = sum lambda base - sum mu C + sum_i s_i * (cheapest path of i)  <=  optimum.

D is concave and piecewise linear. At a temperature tau > 0 the soft minimum in place of the minimum gives a smooth
D_tau <= D whose gradient is the expected load and the expected excess over capacity, so a quasi-Newton method climbs
it; tau falls by a fixed factor from stage to stage, and each stage ends with evaluations at tau = 0, which are what
counts.

lambda is written as nu / sum(nu) with nu >= 0, so that box constraints are all the solver sees and prices can be
exactly 0.

Where single steps count, the price omega of each step is one more multiplier, and lambda is shared out under it. The
share of a tail's weight that a step takes is written as a logistic function of one variable a step, of which all but m
in the sum are free (:class:`_Tail`): smooth, and inside the tail's polytope whatever the variables are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import special

from kvopt.bounds.aggregate import slotwise_prices, uniform_step_price
from kvopt.bounds.certificate import surely_late, verify
from kvopt.bounds.descent import Descent
from kvopt.bounds.sample import thinned
from kvopt.instance import Instance
from kvopt.lowering import Lowered, lower, unit_per_byte
from kvopt.prices import tail_steps
from kvopt.result import Bound, Certificate, Guide, OnProgress, Progress, Role, Termination
from kvopt.trellis import Trellis, hard_minimum, soft_minimum

_FIRST_TAU = 0.1
"""First temperature, in units of the dearest channel-second a byte read from the backing tier takes."""
_TAU_FACTOR = 0.5
_STAGES = 16
_SAMPLED_STAGES = 3
"""The first stages ask a sample of the blocks, where there are many."""
_SAMPLE_RUNS, _MOST_THINNED = 80_000, 16
"""A sample has at least so many runs, and at least one block in so many."""
_GUIDE_STAGES = 9
"""The first so many stages leave their multipliers as guides for an annealer (tau = 0.1 to 0.0004)."""
_SETTLED = 0.0025
"""A stage is over when a step gains less than this share of tau, relative to the value. Measured on 50k-100k columns: a
tenth of it takes a third more evaluations, ten times as much leaves stages so far from their top that some never
recover."""
_MOST_STEPS = 100
"""Steps a temperature at most."""
_CAPACITY_UNIT = 10.0
"""Capacity prices are counted in this many mean slot times over the capacity. Measured on 50k-100k columns: 0.1 and 100
need several times the evaluations that 10 does, which gives both kinds of price like curvature."""
_LEAST_SHARE = 1e-6
"""Steps that take less of a tail than this are not told apart."""
_LEAST_PRICE = 0.02
"""Prices start at least this large, so that no channel starts where its price has no slope."""


@dataclass(frozen=True)
class _Tail:
    """How a tail of the objective shares its weight out over the steps.

    Parameters
    ----------
    weight : float
        Units a second, in all.
    steps : float
        m: no step gets more than ``weight / m``.
    """

    weight: float
    steps: float

    def shares(self, a: np.ndarray) -> np.ndarray:
        """float64[N] in (0, 1), summing to m: logistic functions of a - eta, for the eta at which they do."""
        low, high = a.min() - 50.0, a.max() + 50.0
        for _ in range(80):
            eta = 0.5 * (low + high)
            low, high = (eta, high) if special.expit(a - eta).sum() > self.steps else (low, eta)
        return special.expit(a - low)

    def price(self, a: np.ndarray) -> np.ndarray:
        """float64[N]: units a second of each step."""
        share = self.shares(a)
        return self.weight * share / share.sum()

    def gradient(self, a: np.ndarray, by_price: np.ndarray) -> np.ndarray:
        """The derivatives by a from those by the steps' prices."""
        share = self.shares(a)
        slope = share * (1.0 - share)
        mean = float(slope @ by_price) / max(float(slope.sum()), 1e-300)
        return self.weight / self.steps * slope * (by_price - mean)

    def variables(self, share: np.ndarray) -> np.ndarray:
        """float64[N], 0 or more: an ``a`` with these shares."""
        a = special.logit(np.clip(share, _LEAST_SHARE, 1.0 - _LEAST_SHARE))
        return a - special.logit(_LEAST_SHARE)


@dataclass
class _Ascent:
    """The dual as a function of one vector x = (nu, u, a), scaled so that every slot's term is near 1.

    nu are the unnormalised channel prices; u the capacity prices in ``_CAPACITY_UNIT`` mean slot times over C_k; a, for
    each tail of the objective, what its steps' prices are written in.
    """

    low: Lowered
    trellis: Trellis
    slot_s: float
    deadline: float
    objective_unit: str
    tau: float = 0.0
    evaluations: int = 0
    guides: list[Guide] = field(default_factory=list)
    last_end: np.ndarray | None = None
    descent: Descent | None = None

    def __post_init__(self) -> None:
        self.asked, self.share = self.trellis, 1.0
        every = min(len(self.low.run_start) // _SAMPLE_RUNS, _MOST_THINNED)
        if every > 1:
            part, self.share = thinned(self.low, every)
            self.asked = replace(self.trellis, lowered=part)
        self.tiers = np.flatnonzero(np.isfinite(self.low.capacity_bytes))
        self.capacity = self.low.capacity_bytes[self.tiers][:, None]
        self.capacity_unit = _CAPACITY_UNIT * self.slot_s / self.capacity
        self.n_prices = self.low.n_channels * self.low.n_slots
        self.n_rents = len(self.tiers) * self.low.n_slots
        self.unit = unit_per_byte(self.low, uniform_step_price(self.low))
        prices, n_steps = self.low.prices, self.low.n_steps
        counts = [(weight, tail_steps(n_steps, share)) for weight, share in prices.tails if weight > 0]
        self.tails = [_Tail(weight, steps) for weight, steps in counts if steps < n_steps]
        # Tails of all steps are means of them: nothing to choose.
        self.second = prices.per_second + sum(weight / n_steps for weight, steps in counts if steps >= n_steps)

    def ask_all(self) -> None:
        """Go on with all blocks, where a sample of them was asked so far."""
        self.asked, self.share = self.trellis, 1.0

    def vector(self, certificate: Certificate) -> np.ndarray:
        """x of given multipliers; their tails, which the sum of prices does not tell apart, as they are now."""
        u = certificate.capacity_price_s_per_byte[self.tiers] / self.capacity_unit
        return np.concatenate([certificate.channel_price.ravel(), u.ravel(), *self._tail_variables()])

    def _tail_variables(self) -> list[np.ndarray]:
        if self.descent is None:
            n_steps = self.low.n_steps
            return [tail.variables(np.full(n_steps, tail.steps / n_steps)) for tail in self.tails]
        return [
            tail.variables(tail.shares(a)) for tail, a in zip(self.tails, self._tail_parts(self.descent.x), strict=True)
        ]

    def _tail_parts(self, x: np.ndarray) -> list[np.ndarray]:
        """The variables of each tail."""
        return np.split(x[self.n_prices + self.n_rents :], len(self.tails)) if self.tails else []

    def _step_price(self, x: np.ndarray) -> np.ndarray:
        """float64[N]: omega."""
        tails = zip(self.tails, self._tail_parts(x), strict=True)
        return self.second + sum((tail.price(a) for tail, a in tails), np.zeros(self.low.n_steps))

    def cool(self, tau: float, start: Certificate) -> Descent:
        """The descent of -D at the next temperature, begun at ``start`` if it is the first."""
        self.tau = tau * self.unit
        if self.descent is None:
            x = self.vector(start)
            x[: self.n_prices] = np.maximum(x[: self.n_prices], _LEAST_PRICE)
            self.descent = Descent(self.smooth, x)
        else:
            # As multipliers again: the scale of nu is free, and left alone it drifts until steps are all wrong.
            self.descent.sharpen(self.vector(self.certificate(self.descent.x)), 1.0 / _TAU_FACTOR)
        return self.descent

    def multipliers(self, start: Certificate) -> Certificate:
        """Where the ascent is."""
        return start if self.descent is None else self.certificate(self.descent.x)

    def certificate(self, x: np.ndarray) -> Certificate:
        """Multipliers of x."""
        low = self.low
        nu = x[: self.n_prices].reshape(low.n_channels, low.n_slots)
        mu = np.zeros((low.n_tiers, low.n_slots))
        u = x[self.n_prices : self.n_prices + self.n_rents]
        mu[self.tiers] = u.reshape(len(self.tiers), low.n_slots) * self.capacity_unit
        return Certificate(nu / self._total(nu), mu, self._step_price(x) if low.prices.stepwise else None)

    def smooth(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """-D_tau and its gradient by x, for a minimiser."""
        if time.perf_counter() > self.deadline:
            raise TimeoutError
        self.evaluations += 1
        low = self.low
        multipliers = self.certificate(x)
        lam, second = multipliers.channel_price, self._second_price(multipliers)
        prices = self.asked.prices(second, multipliers.capacity_price_s_per_byte, self.tau)
        soft = soft_minimum(self.asked, prices, self.tau)
        load_s, held = self.asked.expected(prices, soft.slot_bytes, soft.write_bytes)
        slot_s = (lam * load_s).sum(axis=0)
        omega = self.second if multipliers.step_price is None else np.repeat(multipliers.step_price, low.n_lanes)
        total = self._total(x[: self.n_prices].reshape(low.n_channels, low.n_slots))
        unit = self.slot_s * self.share
        by_nu = omega * (load_s - slot_s) / total / unit
        by_u = (held[self.tiers] - self.capacity * self.share) * self.capacity_unit / unit
        by_omega = slot_s.reshape(low.n_steps, low.n_lanes).sum(axis=1) / unit
        by_a = [tail.gradient(a, by_omega) for tail, a in zip(self.tails, self._tail_parts(x), strict=True)]
        value = (prices.constant + soft.value.sum()) / unit
        return -value, -np.concatenate([by_nu.ravel(), by_u.ravel(), *by_a])

    def _second_price(self, certificate: Certificate) -> np.ndarray:
        return certificate.second_price(self.low.prices.per_second)

    def hard(self, certificate: Certificate) -> float:
        """D at tau = 0, in the objective's unit."""
        prices = self.trellis.prices(self._second_price(certificate), certificate.capacity_price_s_per_byte)
        return prices.constant + float(hard_minimum(self.trellis, prices).sum())

    def hardest(self, certificate: Certificate) -> tuple[float, Certificate]:
        """D at a stage's last multipliers, or where the next stage should end if that is higher, and which they are.

        The maximiser moves about in proportion to tau: having come from x(2 tau) to x(tau), it has half that way to
        x(tau / 2), for the price of one evaluation.
        """
        x = self.vector(certificate)
        before, self.last_end = self.last_end, x
        value = self.hard(certificate)
        if before is None:
            return value, certificate
        ahead = self.certificate(np.maximum(x + _TAU_FACTOR * (x - before), 0.0))
        return max((value, certificate), (self.hard(ahead), ahead), key=lambda pair: pair[0])

    @staticmethod
    def _total(nu: np.ndarray) -> np.ndarray:
        # A trial step may reach nu = 0 on all channels of a slot; prices of 0 are valid there, 0 / 0 is not.
        return np.maximum(nu.sum(axis=0), 1e-12)


def dual_bound(
    instance: Instance,
    *,
    time_limit_s: float | None = None,
    start: Certificate | None = None,
    target_s: float | None = None,
    tolerance: float = 2e-5,
    on_progress: OnProgress | None = None,
    threads: int | None = None,
) -> Bound:
    """The best Lagrangian bound found, verified.

    Parameters
    ----------
    instance : Instance
    time_limit_s : float, optional
        The best multipliers so far are kept when it is over, or at Ctrl-C.
    start : Certificate, optional
        Multipliers to start from; else the slot-wise prices of the aggregate bound.
    target_s : float, optional
        An achieved time; progress events report the gap to it.
    tolerance : float
        Stop when two temperatures in a row each change the bound by less than this share.
    on_progress : callable, optional
    threads : int, optional
        The value does not depend on it.

    Returns
    -------
    Bound
        Source "dual", with its certificate; ``value_s`` is what :func:`kvopt.bounds.certificate.verify` recomputed.

    References
    ----------
    Everett (1963), generalized Lagrange multipliers; Nesterov (2005), smooth minimization of non-smooth functions;
    Bertsekas (1982), projected Newton methods; Liu and Nocedal (1989), L-BFGS.
    """
    began = time.perf_counter()
    low = lower(instance)
    trellis = Trellis(low, **({} if threads is None else {"threads": threads}))
    slotwise_s, slotwise = slotwise_prices(low)
    step_price = np.full(low.n_steps, uniform_step_price(low)) if low.prices.stepwise else None
    first = Certificate(slotwise, np.zeros((low.n_tiers, low.n_slots)), step_price)
    late_price = slotwise_prices(low, seconds_only=True)[1] if low.prices.deadlines else None
    deadline = began + (np.inf if time_limit_s is None else time_limit_s)
    slot_s = float(slotwise_s.mean())
    if slot_s <= 0:
        # Where one tier's reads are free, no slot need cost anything by itself; moves may.
        slot_s = unit_per_byte(low, uniform_step_price(low)) * float(low.size_bytes.sum()) / low.n_slots
    if slot_s <= 0:  # Nothing ever costs anything: the bound is 0, and there is no scale to climb in.
        return _finished(instance, first, low.base_price, Termination.OPTIMAL, began, (), late_price)
    ascent = _Ascent(low, trellis, slot_s, deadline, instance.objective.unit)
    best, termination, history = _climb(ascent, start or first, tolerance, target_s, on_progress, began)
    best = max((best, (ascent.hard(first), first)), key=lambda found: found[0])
    found = _finished(instance, best[1], best[0], termination, began, history, late_price)
    return replace(found, guides=tuple(ascent.guides))


def _climb(
    ascent: _Ascent,
    start: Certificate,
    tolerance: float,
    target_s: float | None,
    on_progress: OnProgress | None,
    began: float,
) -> tuple[tuple[float, Certificate], Termination, tuple[Progress, ...]]:
    """Stages of falling temperature; returns the best hard value and its multipliers."""
    best = (ascent.hard(start), start)
    history: list[Progress] = []
    termination, quiet, last = Termination.FINISHED, 0, np.inf
    for stage in range(_STAGES):
        tau = _FIRST_TAU * _TAU_FACTOR**stage
        if stage == _SAMPLED_STAGES:
            ascent.ask_all()
        termination = _settle(ascent, tau, start)
        if stage < _GUIDE_STAGES and ascent.descent is not None:
            ascent.guides.append(Guide(tau, ascent.multipliers(start)))
        value, multipliers = ascent.hardest(ascent.multipliers(start))
        # Each halving of tau halves the loss, so what a stage has gained is about what is left to gain.
        quiet = quiet + 1 if abs(value - last) <= tolerance * abs(value) else 0
        last = value
        best = max(best, (value, multipliers), key=lambda pair: pair[0])
        event = Progress(
            time.perf_counter() - began,
            target_s,
            best[0],
            f"tau {tau:.2g}, {ascent.evaluations} evaluations",
            ascent.objective_unit,
        )
        history.append(event)
        try:
            if on_progress:
                on_progress(event)
        except KeyboardInterrupt:
            termination = Termination.INTERRUPTED
        if termination is not Termination.FINISHED or quiet == 2:
            break
    return best, termination, tuple(history)


def _settle(ascent: _Ascent, tau: float, start: Certificate) -> Termination:
    """One temperature: ascend until the last few steps gained less than cooling would."""
    fell: list[float] = []
    try:
        descent = ascent.cool(tau, start)
        while len(fell) < _MOST_STEPS:
            fell.append(descent.step())
            if len(fell) >= 3 and sum(fell[-3:]) < 3 * _SETTLED * tau * abs(descent.value):
                break
    except TimeoutError:
        return Termination.TIME_LIMIT
    except KeyboardInterrupt:
        return Termination.INTERRUPTED
    return Termination.FINISHED


def _finished(
    instance: Instance,
    certificate: Certificate,
    value_s: float,
    termination: Termination,
    began: float,
    history: tuple[Progress, ...],
    late_price: np.ndarray | None,
) -> Bound:
    """Verify, and refuse to return a number on which the kernel and the slow path differ."""
    certificate = replace(certificate, late_price=late_price)
    value_s += surely_late(instance, late_price)
    verified_s = verify(instance, certificate)
    mu, capacity = certificate.capacity_price_s_per_byte, np.array(instance.capacity_bytes)[:, None]
    # Rent and paths may be far larger than their difference, and it is they that are rounded.
    rent_s = float(np.sum(np.multiply(mu, capacity, out=np.zeros_like(mu), where=mu > 0)))
    if abs(verified_s - value_s) > 1e-8 * (abs(verified_s) + rent_s):
        raise AssertionError(f"the kernel says {value_s!r} s, verification {verified_s!r} s")
    return Bound(
        value=verified_s,
        unit=instance.objective.unit,
        source="dual",
        role=Role.CERTIFIED,
        verified=True,
        certificate=certificate,
        termination=termination,
        elapsed_s=time.perf_counter() - began,
        history=history,
    )
