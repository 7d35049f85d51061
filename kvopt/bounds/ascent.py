r"""The dual as a smooth function of one vector, for a minimiser.

With a price lambda[c, t] on each channel in each slot (0 or more, summing to 1: the max is the largest such average)
and a price mu[k, t] >= 0 on each byte of capacity, every block chooses its own cheapest path, and

    D(lambda, mu) = sum lambda base - sum mu C + sum_i s_i * (cheapest path of i)  <=  optimum.

D is concave and piecewise linear. At a temperature tau > 0 the soft minimum in place of the minimum gives a smooth
D_tau <= D whose gradient is the expected load and the expected excess over capacity.

lambda is written as nu / sum(nu) with nu >= 0, so that box constraints are all the minimiser sees and prices can be
exactly 0. Where single steps count, the price omega of each step is one more multiplier, and lambda is shared out under
it (:mod:`kvopt.bounds.tails`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from kvopt import interrupts
from kvopt.bounds.aggregate import uniform_step_price
from kvopt.bounds.clock import Clock
from kvopt.bounds.descent import Descent
from kvopt.bounds.sample import thinned
from kvopt.bounds.scale import capacity_units
from kvopt.bounds.tails import Tail
from kvopt.lowering import Lowered, unit_per_byte
from kvopt.prices import tail_steps
from kvopt.result import Certificate
from kvopt.trellis import Trellis, hard_minimum, soft_minimum

TAU_FACTOR = 0.5
"""From each temperature to the next."""
_LEAST_PRICE = 0.02
"""Prices start at least this large, so that no channel starts where its price has no slope."""
_LEAST_TOTAL = 0.1
"""Sum of nu over the channels of a slot."""
_ROUNDING = 1e-12
"""Share of what all blocks' reads cost that a smoothed value may be off: it comes from logarithms near 0."""
_TABLE_RUNS = 24
"""Making a slot's tables and reading them back takes as long as so many runs."""


@dataclass
class Ascent:
    """The dual as a function of one vector x = (nu, u, a), scaled so that every slot's term is near 1.

    nu are the unnormalised channel prices; u the capacity prices in the units of :mod:`kvopt.bounds.scale`; a, for each
    tail of the objective, what its steps' prices are written in.

    Parameters
    ----------
    low : Lowered
    trellis : Trellis
        Of ``low``.
    slot_s : float
        The scale: about what a slot costs, greater than 0.
    clock : Clock
        Evaluations that would not be over in time raise TimeoutError.
    """

    low: Lowered
    trellis: Trellis
    slot_s: float
    clock: Clock
    tau: float = 0.0
    every: int = 1
    """One block in so many is asked."""
    evaluations: int = 0
    last_end: np.ndarray | None = None
    descent: Descent | None = None

    def __post_init__(self) -> None:
        self.asked, self.share = self.trellis, 1.0
        self.tiers = np.flatnonzero(np.isfinite(self.low.capacity_bytes) & ~self.low.closed)
        self.capacity = self.low.capacity_bytes[self.tiers][:, None]
        self.n_prices = self.low.n_channels * self.low.n_slots
        self.n_rents = len(self.tiers) * self.low.n_slots
        second = uniform_step_price(self.low)
        self.unit = unit_per_byte(self.low, second)
        self.rounding_s = _ROUNDING * self.unit * float(self.low.size_bytes.sum())
        self.capacity_unit = capacity_units(self.low, self.slot_s, second)[self.tiers][:, None]
        prices, n_steps = self.low.prices, self.low.n_steps
        counts = [(weight, tail_steps(n_steps, share)) for weight, share in prices.tails if weight > 0]
        self.tails = [Tail(weight, steps) for weight, steps in counts if steps < n_steps]
        # Tails of all steps are means of them: nothing to choose.
        self.second = prices.per_second + sum(weight / n_steps for weight, steps in counts if steps >= n_steps)

    def ask(self, every: int) -> None:
        """From now on, ask one block in so many; 1 for all."""
        if every == self.every:
            return
        before = self._work()
        self.asked, self.share, self.every = self.trellis, 1.0, every
        if every > 1:
            part, self.share = thinned(self.low, every)
            self.asked = replace(self.trellis, lowered=part)
        self.clock.soft_s *= self._work() / before

    def whole_s(self) -> float:
        """What an evaluation of all blocks takes, judged by the last of those asked."""
        return self.clock.soft_s * self._work(self.low) / self._work()

    def _work(self, low: Lowered | None = None) -> int:
        """What an evaluation takes, in runs; of the blocks asked unless others are given."""
        low = self.asked.lowered if low is None else low
        return len(low.run_start) + _TABLE_RUNS * self.low.n_slots

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

    def cool(self, tau: float, start: Certificate, *, lift: bool = True) -> Descent:
        """The descent of -D at the next temperature, begun at ``start`` if it is the first.

        Parameters
        ----------
        tau : float
            In units of what a byte read from the backing tier costs.
        start : Certificate
        lift : bool
            Whether to begin with every channel's price above 0.
        """
        self.tau = tau * self.unit
        if self.descent is None:
            x = self.vector(start)
            if lift:
                x[: self.n_prices] = np.maximum(x[: self.n_prices], _LEAST_PRICE)
            self.descent = Descent(self.smooth, x, admit=self.admit)
        else:
            # As multipliers again: the scale of nu is free, and left alone it drifts until steps are all wrong.
            self.descent.sharpen(self.vector(self.certificate(self.descent.x)), 1.0 / TAU_FACTOR)
        return self.descent

    def multipliers(self, start: Certificate) -> Certificate:
        """Where the ascent is."""
        return start if self.descent is None else self.certificate(self.descent.x)

    def admit(self, x: np.ndarray, before: np.ndarray) -> None:
        """Keep the sum of nu in every slot away from 0, where lambda would be anything and its slope infinite.

        Only ratios count, so small ones are scaled up. Where a step leads to 0 on all channels, there is none.
        """
        shape = self.low.n_channels, self.low.n_slots
        nu, old = (v[: self.n_prices].reshape(shape) for v in (x, before))
        total = nu.sum(axis=0)
        small = np.flatnonzero(total < _LEAST_TOTAL)
        if len(small) == 0:
            return
        gone = total[small] < _LEAST_TOTAL**2
        scaled = nu[:, small] * (_LEAST_TOTAL / np.where(gone, 1.0, total[small]))
        nu[:, small] = np.where(gone, old[:, small], scaled)

    def soft_value(self) -> float:
        """D_tau there, in the objective's unit; where a sample is asked, an estimate of it, which bounds nothing."""
        return -self.descent.value * self.slot_s

    def certificate(self, x: np.ndarray) -> Certificate:
        """Multipliers of x."""
        low = self.low
        nu = x[: self.n_prices].reshape(low.n_channels, low.n_slots)
        mu = np.repeat(low.keep_out_price[:, None], low.n_slots, axis=1)
        u = x[self.n_prices : self.n_prices + self.n_rents]
        mu[self.tiers] = u.reshape(len(self.tiers), low.n_slots) * self.capacity_unit
        return Certificate(nu / nu.sum(axis=0), mu, self._step_price(x) if low.prices.stepwise else None)

    def smooth(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """-D_tau and its gradient by x, for a minimiser.

        Raises
        ------
        TimeoutError
            When the clock does not allow another evaluation.
        KeyboardInterrupt
            When Ctrl-C has come.
        """
        interrupts.heed()
        if not self.clock.allows(self.clock.soft_s):
            raise TimeoutError
        began = time.perf_counter()
        self.evaluations += 1
        low = self.low
        multipliers = self.certificate(x)
        lam, second = multipliers.channel_price, self._second_price(multipliers)
        prices = self.asked.prices(second, multipliers.capacity_price_s_per_byte, self.tau)
        soft = soft_minimum(self.asked, prices, self.tau)
        load_s, held = self.asked.expected(prices, soft.slot_bytes, soft.write_bytes)
        slot_s = (lam * load_s).sum(axis=0)
        omega = self.second if multipliers.step_price is None else np.repeat(multipliers.step_price, low.n_lanes)
        total = x[: self.n_prices].reshape(low.n_channels, low.n_slots).sum(axis=0)
        unit = self.slot_s * self.share
        by_nu = omega * (load_s - slot_s) / total / unit
        by_u = (held[self.tiers] - self.capacity * self.share) * self.capacity_unit / unit
        by_omega = slot_s.reshape(low.n_steps, low.n_lanes).sum(axis=1) / unit
        by_a = [tail.gradient(a, by_omega) for tail, a in zip(self.tails, self._tail_parts(x), strict=True)]
        value = (prices.constant + soft.value.sum()) / unit
        self.clock.soft_s = time.perf_counter() - began
        return -value, -np.concatenate([by_nu.ravel(), by_u.ravel(), *by_a])

    def _second_price(self, certificate: Certificate) -> np.ndarray:
        return certificate.second_price(self.low.prices.per_second)

    def hard(self, certificate: Certificate) -> float:
        """D at tau = 0, in the objective's unit.

        Raises
        ------
        KeyboardInterrupt
            When Ctrl-C has come.
        """
        interrupts.heed()
        began = time.perf_counter()
        value = self._hard(self.trellis, certificate)
        self.clock.note_hard(time.perf_counter() - began)
        return value

    def _hard(self, trellis: Trellis, certificate: Certificate) -> float:
        prices = trellis.prices(self._second_price(certificate), certificate.capacity_price_s_per_byte)
        return prices.constant + float(hard_minimum(trellis, prices).sum())

    def hardest(self, certificate: Certificate) -> tuple[float, Certificate]:
        """D at a stage's last multipliers, or where the next stage should end if that is higher, and which they are.

        The maximiser moves about in proportion to tau: having come from x(2 tau) to x(tau), it has half that way to
        x(tau / 2), for the price of one evaluation. Where a sample is asked, it says which of the two is the higher.
        """
        x = self.vector(certificate)
        before, self.last_end = self.last_end, x
        if before is None:
            return self.hard(certificate), certificate
        ahead = self.certificate(np.maximum(x + TAU_FACTOR * (x - before), 0.0))
        if self.every == 1:
            return max(((self.hard(c), c) for c in (certificate, ahead)), key=lambda pair: pair[0])
        chosen = max((certificate, ahead), key=lambda c: self._hard(self.asked, c))
        return self.hard(chosen), chosen
