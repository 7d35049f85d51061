r"""One kernel, read three ways: the trellis of a block's residency.

For given prices a block's residency is a path through the S states (:mod:`kvopt.residency`) over the slots of its
life. Three engines read the same trellis at a temperature tau:

- **hard minimum**, tau = 0: the block's term of the dual bound, and its cheapest path (:func:`hard_minimum`,
  :func:`cheapest_placement`);
- **soft minimum**, ``-tau log sum exp(-cost / tau)``, at most the hard one, hence a valid bound itself, with the
  expected reads, moves and occupancy as its gradient (:func:`soft_minimum`);
- **sampling** of a path from its Boltzmann distribution (:func:`sample_placement`).

A slot is an S x S matrix (state before -> state after) in the (min, +) algebra or as probabilities, one for "idle" and
one for "read". Both depend only on the slot, per byte, and not on the block. Seen from lane l, the L slots from its own
to the next of its own are one *lane step*, and a run or a gap of a block is a product over a range of lane steps. A
*disjoint sparse table* of those products (after Alon and Schieber, 1987, on range queries over any semigroup)
answers a range with at most two entries, so a block costs its number of runs, however long it lives. The gradient is
reverse-mode differentiation of just that: each block adds its posterior to the entries it used, and one backward pass
over the table spreads them over the slots.

The temperature is per byte: a block of s bytes has temperature s * tau, and so all sizes share one table.

There is one source for all S. Every kernel takes a tuple of S (:attr:`Trellis.states`): its length is part of its type,
so numba compiles, and keeps on disk, a version for each S whose loops over states unroll. Measured, when it was made,
beside kernels written out by hand for two states: hard minimum and soft minimum with gradient both 1.07 times; three
states take 1.1 and 1.9 times as long as two, four 1.3 and 2.7, seven 3 and 6.4.
"""

from kvopt.trellis.hard import cheapest_placement, hard_minimum
from kvopt.trellis.prepare import Prices, Trellis
from kvopt.trellis.sample import sample_placement
from kvopt.trellis.soft import SoftMinimum, soft_minimum

__all__ = [
    "Prices",
    "SoftMinimum",
    "Trellis",
    "cheapest_placement",
    "hard_minimum",
    "sample_placement",
    "soft_minimum",
]
