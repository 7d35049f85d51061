r"""Re-evaluating a dual certificate by a slow, independent path.

For multipliers lambda[c, t] >= 0 with sum_c lambda[c, t] <= 1, and mu[k, t] >= 0, weak duality gives for every
feasible placement

    sum_t max_c load[c, t] / B_c  >=  D(lambda, mu)
        = sum_{c,t} lambda base / B  -  sum_{k,t} mu C_k  +  sum_i s_i * (cheapest path of block i at these prices).

C_k is what blocks can fill of a tier at most, a multiple of the sizes' greatest common divisor: bytes beyond that are
never used, nor any of a tier that is smaller than every block. Paths of a block that is larger than a tier pay for its
states what no path is worth: no feasible placement has the block there, so that none pays any of it.

An objective in which single steps count is the largest of the sums sum_n omega[n] step[n] over a polytope of step
prices omega; any point of it will do, with omega[n] lambda[c, t] in place of lambda. For a tail that counts w in all
and the mean of the m longest steps, the polytope is 0 <= omega[n] <= w / m, sum_n omega[n] <= w; for several, the sum
of theirs, which a vector is in exactly when its k largest entries add up to at most sum_j w_j min(1, k / m_j), for
every k (a sum of polymatroids; Edmonds, 1970).

Counting steps over a deadline is not convex, and no prices a second stand for it. What is certified is that a step is
late whatever the placement: with prices on the channels alone, sum_c lambda load / B of a slot is no less than with all
its reads from the tier where they are cheapest. A count proved so ignores capacity and moves, and may be far below.

This module and :mod:`kvopt.bounds.paths` compute D with numpy, straight from trace and platform. They import no engine
and no kernel; they share with them only the mathematics.

**Rounding.** What :func:`verify` returns is at most D in exact arithmetic, at multipliers that are admissible in exact
arithmetic. Let u = 2^-53; each operation returns its exact result times 1 + d, with abs(d) <= u.

- D falls when prices of channels fall, and any admissible prices will do. So channel prices are divided by a number
  that makes their exact sums at most 1 whatever was rounded, step prices by one that brings them into the polytope.
- Costs and prices below 1e-150 are taken as 0, which lowers D or, of capacity, names other multipliers. No product
  of two others underflows, so relative errors are all there are.
- A price of a byte is a sum over C channels of products of four factors, one of them a quotient, and an objective's
  own price; of a state, a sum over K tiers of such. With the additions of :func:`kvopt.bounds.paths.most_additions` and
  the product with a block's size (each block's costs are summed exactly, by ``fsum``), a term of W, the weights, P, the
  paths, or E, what is surely late, carries at most h = most_additions + C + K + 16 factors 1 + d. All terms are 0 or
  more, and the computed minimum P is at most the computed cost of the truly cheapest paths; so W, P and E are at least
  what was computed, divided by (1 + u)^h, hence at least (1 - h u) times it.
- The rent R of the capacity is computed with 3 roundings, and is at most (1 + 4 u) times that.
- Their sum and the subtraction of what follows round 2 times, by at most u times the sum M = W + P + E + R each.

So (h + 8) u M is taken off: 2e-12 of M at 10,000 steps. M is D where capacity has no price, and never less.
"""

from __future__ import annotations

import math

import numpy as np

from kvopt import interrupts
from kvopt.admissible import admissible
from kvopt.bounds.paths import cheapest_paths, most_additions
from kvopt.instance import Instance
from kvopt.prices import LATE, tail_steps
from kvopt.result import Certificate
from kvopt.tallies import read_bytes

_UNIT_ROUNDOFF = 2.0**-53
_DUST = 1e-150
"""Prices below are taken as 0, so that products do not underflow."""
_KEEPS_OUT = 100.0


@interrupts.interruptible
def verify(instance: Instance, certificate: Certificate) -> float:
    """The lower bound, in the objective's unit, that a certificate proves, less an allowance for rounding.

    Parameters
    ----------
    instance : Instance
    certificate : Certificate

    Returns
    -------
    float

    Raises
    ------
    ValueError
        A :class:`kvopt.errors.MethodError` that names the multipliers that are not admissible; see
        :func:`kvopt.admissible.admissible`.
    """
    lam, mu = _used(instance, admissible(instance, certificate))
    rho, omega, sigma = (_byte_prices(instance, lam, role) for role in ("read", "write", "move_out"))
    capacity = instance.fillable_bytes
    bounded = mu.any(axis=1)
    held = (mu + instance.prices.hold[:, None]).T @ instance.states.T.astype(float)
    paths = _paths(instance, rho, omega, sigma, held) * instance.trace.size_bytes
    gains = (
        math.fsum(_without_dust(rho[:, 0] * instance.weight_bytes_per_slot)),
        math.fsum(paths),
        surely_late(instance, certificate.late_price),
    )
    rent = math.fsum((mu[bounded] * capacity[bounded][:, None]).ravel())
    return math.fsum((*gains, -rent)) - _roundings(instance) * _UNIT_ROUNDOFF * math.fsum((*gains, rent))


def _paths(instance: Instance, rho: np.ndarray, omega: np.ndarray, sigma: np.ndarray, rent: np.ndarray) -> np.ndarray:
    """float64[B]: as :func:`cheapest_paths`, of blocks that are kept out of the tiers that they are larger than."""
    capacity, size = instance.fillable_bytes, instance.trace.size_bytes
    levels = np.unique(np.append(capacity[capacity < size.max(initial=0)], np.inf))
    if len(levels) == 1:
        return cheapest_paths(instance, rho, omega, sigma, rent)
    # A stay of a slot saves a read and what it takes to go elsewhere and back, at the most.
    dearest = _KEEPS_OUT * (rho.max() + omega.max() + sigma.max() + rent.max())
    level, cheapest = np.searchsorted(levels, size), np.empty(len(size))
    for k in np.unique(level):
        blocks = np.flatnonzero(level == k)
        shut = instance.states[:, capacity < size[blocks].min()].any(axis=1)
        cheapest[blocks] = cheapest_paths(instance, rho, omega, sigma, rent + dearest * shut, blocks)
    return cheapest


def _roundings(instance: Instance) -> int:
    """h + 8 of the module's docstring."""
    platform = instance.platform
    return most_additions(instance) + len(platform.channels) + len(platform.tiers) + 24


def _byte_prices(instance: Instance, lam: np.ndarray, role: str) -> np.ndarray:
    """float64[T, K]: a byte's time at the channels' prices, and the objective's own price of it.

    Parameters
    ----------
    instance : Instance
    lam : float64[C, T]
        Units a second of each channel.
    role : str
        "read", "write" or "move_out".
    """
    second = _without_dust(instance.platform.loads(role) / instance.platform.bandwidth_bytes_per_s)
    return lam.T @ second.T + getattr(instance.prices, role)


def _without_dust(costs: np.ndarray) -> np.ndarray:
    return np.where(costs < _DUST, 0.0, costs)


def _used(instance: Instance, certificate: Certificate) -> tuple[np.ndarray, np.ndarray]:
    """Prices of channel-seconds and of capacity, of admissible multipliers.

    Channel prices are scaled down where rounding left them above 1, and step prices alike.
    """
    lam = _shares(certificate.channel_price)
    step = _without_dust(_step_prices(instance, certificate.step_price))
    lam = _without_dust(lam * np.repeat(step, instance.trace.n_lanes))
    return lam, _without_dust(certificate.capacity_price_s_per_byte)


def _shares(lam: np.ndarray) -> np.ndarray:
    """Channel prices that add up to at most 1 in every slot, rounding included."""
    total = lam.sum(axis=0)
    # Sums of C terms round C - 1 times, and the rest here twice.
    room = 1 + 2 * (len(lam) + 4) * _UNIT_ROUNDOFF
    return _without_dust(_without_dust(lam) / np.maximum(1.0, total * room))


def surely_late(instance: Instance, late_price: np.ndarray | None) -> float:
    """What steps that miss a deadline whatever the placement cost, as these channel prices show; 0 without any.

    Parameters
    ----------
    instance : Instance
    late_price : float64[C, T] or None
        Admissible.
    """
    if late_price is None or not instance.prices.deadlines:
        return 0.0
    trace, platform = instance.trace, instance.platform
    lam = _shares(late_price)
    rho = lam.T @ _without_dust(platform.loads("read") / platform.bandwidth_bytes_per_s).T
    cheapest = rho[:, instance.fillable_bytes > 0].min(axis=1)
    slot_s = rho[:, 0] * instance.weight_bytes_per_slot + cheapest * read_bytes(trace)
    step_s = slot_s.reshape(trace.n_steps, trace.n_lanes).sum(axis=1)
    # What rounding could have added is taken off: a step counts as late only if it is late by more than that. A term
    # of a step carries C + 4 roundings of its price, L additions and 3 more.
    step_s *= 1.0 - 2 * (len(platform.channels) + trace.n_lanes + 8) * _UNIT_ROUNDOFF
    return math.fsum(weight * np.count_nonzero(step_s > d * (1 + LATE)) for weight, d in instance.prices.deadlines)


def _step_prices(instance: Instance, given: np.ndarray | None) -> np.ndarray:
    """float64[N]: units a second of each step, less where rounding left them outside the objective's polytope."""
    prices, n_steps = instance.prices, instance.trace.n_steps
    if given is None:
        return np.full(n_steps, prices.per_second)
    # Less of it is valid too: what counts is how far it exceeds what every step counts.
    above = np.sort(np.maximum(given - prices.per_second, 0.0))[::-1]
    count = np.arange(1, n_steps + 1)
    most = np.zeros(n_steps)
    for weight, share in prices.tails:
        most += weight * np.minimum(1.0, count / tail_steps(n_steps, share))
    taken = np.cumsum(above)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.max(np.where(taken > 0, taken / most, 0.0))
    # A sum of up to N terms, each a difference, over a sum of a few for each tail.
    scale = 1.0 / max(1.0, excess * (1 + 2 * (n_steps + 4 * len(prices.tails) + 8) * _UNIT_ROUNDOFF))
    return np.minimum(given, prices.per_second) + np.maximum(given - prices.per_second, 0.0) * scale
