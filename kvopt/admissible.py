"""What multipliers must be before anything is computed with them, wherever they come from.

Kernels take arrays as they are: of a wrong shape they read beside them, and what is not finite becomes an index. So
every certificate that enters, by an argument or from a file, is looked at here first.
"""

from __future__ import annotations

import math

import numpy as np

from kvopt.errors import MethodError, shown
from kvopt.instance import Instance
from kvopt.prices import tail_steps
from kvopt.result import Bound, Certificate, Guide

MOST_PRICE = 1e150
"""Sums of higher prices would overflow."""
ROUNDING = 1e-9
"""Share by which sums may exceed what they must not."""
_FIX = "Give multipliers that a bound of this instance has"
_MOST_TAU, _LEAST_TAU = 1e3, 1e-12


def admissible(instance: Instance, certificate: Certificate, field: str = "certificate") -> Certificate:
    """The certificate, after refusing what proves nothing of the instance.

    Parameters
    ----------
    instance : Instance
    certificate : Certificate
    field : str
        What names it in errors.

    Raises
    ------
    MethodError
        When it is no certificate, or multipliers have the wrong shape or sign, are no finite numbers or too large for
        sums of them, when channel prices add up to more than 1 in a slot, step prices to more than the objective
        counts, or when a tier of infinite capacity has a price.
    """
    if not isinstance(certificate, Certificate):
        raise MethodError(field, f"is a {type(certificate).__name__}, no certificate", "Give a kvopt.Certificate")
    n_channels, n_slots = len(instance.platform.channels), instance.n_slots
    _check_array(field, "channel_price", certificate.channel_price, (n_channels, n_slots))
    _check_sums(field, "channel_price", certificate.channel_price)
    rent = certificate.capacity_price_s_per_byte
    _check_array(field, "capacity_price_s_per_byte", rent, (len(instance.platform.tiers), n_slots))
    if not np.isfinite(np.array(instance.capacity_bytes, float)[rent.any(axis=1)]).all():
        problem = "a tier of infinite capacity has a price: the dual value is minus infinity"
        raise MethodError(f"{field} capacity_price_s_per_byte", problem, "Set its prices to 0")
    if certificate.step_price is not None:
        _check_array(field, "step_price", certificate.step_price, (instance.trace.n_steps,))
        _check_steps(field, certificate.step_price, instance)
    if certificate.late_price is not None:
        _check_array(field, "late_price", certificate.late_price, (n_channels, n_slots))
        _check_sums(field, "late_price", certificate.late_price)
    return certificate


def admissible_guides(instance: Instance, guides: object, field: str = "guides") -> tuple[Guide, ...]:
    """The guides, each looked at as :func:`admissible` does.

    Raises
    ------
    MethodError
    """
    try:
        found = tuple(guides)
    except TypeError:
        found = (None,)
    for guide in found:
        if not isinstance(guide, Guide):
            raise MethodError(field, "must be guides of a bound", "Give bound.guides")
        checked_tau(guide.tau, field)
        admissible(instance, guide.certificate, field)
    return found


def checked_tau(tau: object, field: str) -> float:
    """A temperature of the dual, after refusing what no ascent has."""
    if isinstance(tau, bool) or not isinstance(tau, int | float | np.floating) or not _LEAST_TAU <= tau <= _MOST_TAU:
        raise MethodError(f"{field} tau", f"must be from {_LEAST_TAU:g} to {_MOST_TAU:g}, got {shown(tau)}", _FIX)
    return float(tau)


def admissible_bound(instance: Instance, bound: Bound, field: str) -> Bound:
    """A bound that is gone on from or followed, its multipliers looked at as :func:`admissible` does.

    Raises
    ------
    MethodError
    """
    if not isinstance(bound, Bound):
        raise MethodError(field, f"is a {type(bound).__name__}", "Give a Bound, as kvopt.bound returns")
    if isinstance(bound.value, str | bool) or not math.isfinite(bound.value):
        raise MethodError(f"{field} value", f"must be a finite number, got {shown(bound.value)}", "Give a bound")
    if bound.certificate is not None:
        admissible(instance, bound.certificate, field)
    admissible_guides(instance, bound.guides, f"{field} guides")
    if bound.reached is not None:
        admissible_guides(instance, (bound.reached,), f"{field} reached")
        if bound.certificate is None:
            raise MethodError(f"{field} certificate", "is missing, and an ascent goes on from it", _FIX)
    return bound


def _check_array(field: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise MethodError(f"{field} {name}", f"has shape {array.shape}, the instance needs {shape}", _FIX)
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise MethodError(f"{field} {name}", "has negative or non-finite entries: no certificate", _FIX)
    if (array > MOST_PRICE).any():
        raise MethodError(f"{field} {name}", f"has entries above {MOST_PRICE:g}: sums of them would overflow", _FIX)


def _check_sums(field: str, name: str, array: np.ndarray) -> None:
    if (array.sum(axis=0) > 1 + ROUNDING).any():
        raise MethodError(f"{field} {name}", "adds up to more than 1 in some slot: no certificate", _FIX)


def _check_steps(field: str, step_price: np.ndarray, instance: Instance) -> None:
    """Refuse step prices outside the polytope that :mod:`kvopt.bounds.certificate` describes."""
    prices, n_steps = instance.prices, len(step_price)
    above = np.sort(np.maximum(step_price - prices.per_second, 0.0))[::-1]
    count = np.arange(1, n_steps + 1)
    most = np.zeros(n_steps)
    for weight, share in prices.tails:
        most += weight * np.minimum(1.0, count / tail_steps(n_steps, share))
    # A tail may weigh next to nothing beside a second of every step, whose rounding is then what is above.
    rounded = count * 4 * np.finfo(float).eps * prices.per_second
    if (np.cumsum(above) > most * (1 + ROUNDING) + rounded).any():
        raise MethodError(f"{field} step_price", "lies outside what the objective counts: no certificate", _FIX)
