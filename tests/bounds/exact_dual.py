"""The dual value in rational arithmetic, block by block and slot by slot, by the definition: nothing is rounded."""

from __future__ import annotations

import math
from fractions import Fraction

from kvopt import Certificate, Instance
from tests.truth import TierSet, reads, state_sets


class ExactDual:
    """D of the admissible multipliers that a certificate's are scaled to.

    Attributes
    ----------
    value : Fraction
    magnitude : Fraction
        Sum of all its terms as if rent were added.
    """

    def __init__(self, instance: Instance, certificate: Certificate) -> None:
        self.instance = instance
        self.mu = [[Fraction(x) for x in row] for row in certificate.capacity_price_s_per_byte.tolist()]
        self.second = _second_prices(instance, certificate)
        self.read = reads(instance)
        weight = Fraction(instance.weight_bytes_per_slot)
        gain = sum((self.price("read", 0, t) * weight for t in range(instance.n_slots)), Fraction(0))
        gain += sum(self.path(i) * int(instance.trace.size_bytes[i]) for i in range(instance.trace.n_blocks))
        priced = [(row, capacity) for row, capacity in zip(self.mu, instance.capacity_bytes, strict=True) if any(row)]
        sizes = [int(size) for size in instance.trace.size_bytes]
        unit = math.gcd(*sizes)
        # Whole blocks fill no more of a tier than this.
        usable = [int(capacity) // unit * unit if capacity >= min(sizes) else 0 for _, capacity in priced]
        rent = sum((sum(row) * held for (row, _), held in zip(priced, usable, strict=True)), Fraction(0))
        self.value, self.magnitude = gain - rent, gain + rent

    def price(self, role: str, tier: int, t: int) -> Fraction:
        """What a byte costs in slot t."""
        platform = self.instance.platform
        loads = getattr(platform.tiers[tier], role)
        total = Fraction(float(getattr(self.instance.prices, role)[tier]))
        for c, channel in enumerate(platform.channels):
            per_byte = Fraction(loads.get(channel.name, 0.0)) / Fraction(channel.bandwidth_bytes_per_s)
            total += self.second[c][t] * per_byte
        return total

    def path(self, i: int) -> Fraction:
        """What the cheapest path of block i costs by the byte."""
        instance, sets = self.instance, state_sets(self.instance)
        birth, death = int(instance.birth_slot[i]), int(instance.death_slot[i])
        written = instance.trace.write_step[i] >= 0
        size, capacity = int(instance.trace.size_bytes[i]), instance.capacity_bytes
        # It is never where it does not fit.
        sets = {z: held for z, held in enumerate(sets) if all(capacity[k] >= size for k in held)}
        cost = {
            z: sum((self.price("write", k, birth) for k in held), Fraction(0)) if written else Fraction(0)
            for z, held in sets.items()
            if written or instance.initial is None or instance.initial[i] == z
        }
        for t in range(birth, death):
            cost = {z: c + self.staying(sets[z], i, t) for z, c in cost.items()}
            if t + 1 < death:
                cost = {
                    w: min(c + self.moving(sets[z], target, i, t) for z, c in cost.items())
                    for w, target in sets.items()
                }
        return min(cost.values())

    def staying(self, held: TierSet, i: int, t: int) -> Fraction:
        """Rent, and the read if there is one."""
        total = sum((self.mu[k][t] + Fraction(float(self.instance.prices.hold[k])) for k in held), Fraction(0))
        if self.read[i, t]:
            copies = held if self.instance.rules.reads.value == "balanced" else [min(held)]
            total += min(self.price("read", k, t) for k in copies)
        return total

    def moving(self, held: TierSet, target: TierSet, i: int, t: int) -> Fraction:
        """From one set of tiers in slot t to another in the next."""
        moves = self.instance.rules.moves.value
        if moves == "free":
            return Fraction(0)
        total = Fraction(0)
        for k in target - held:
            total += self.price("write", k, t)
            if not (moves == "read-through" and self.read[i, t]):
                total += self.price("move_out", min(held), t)
        return total


def _second_prices(instance: Instance, certificate: Certificate) -> list[list[Fraction]]:
    """[c][t]: units a second of each channel, where prices above what is admissible are scaled down to it."""
    lam = [[Fraction(x) for x in row] for row in certificate.channel_price.tolist()]
    step = _step_prices(instance, certificate)
    for t in range(instance.n_slots):
        total = max(Fraction(1), sum(row[t] for row in lam))
        for row in lam:
            row[t] *= step[t // instance.trace.n_lanes] / total
    return lam


def _step_prices(instance: Instance, certificate: Certificate) -> list[Fraction]:
    """[n]: the same for the prices of steps."""
    n_steps, prices = instance.trace.n_steps, instance.prices
    base = Fraction(prices.per_second)
    if certificate.step_price is None:
        return [base] * n_steps
    given = [Fraction(x) for x in certificate.step_price.tolist()]
    above = sorted((max(x - base, Fraction(0)) for x in given), reverse=True)
    excess, taken = Fraction(1), Fraction(0)
    for count, x in enumerate(above, 1):
        taken += x
        most = Fraction(0)
        for weight, share in prices.tails:
            steps = max(Fraction(1), Fraction(share) * n_steps)
            most += Fraction(weight) * min(Fraction(1), count / steps)
        if taken > 0:
            excess = max(excess, taken / most)
    return [min(x, base) + max(x - base, Fraction(0)) / excess for x in given]
