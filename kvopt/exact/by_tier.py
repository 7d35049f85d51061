"""What one byte does tier by tier, out of :mod:`kvopt.lowering`'s tables of what it does from state to state.

The model's variables speak of tiers, one at a time: read from k, moved from j to k. Those are entries of the tables, of
the states in which a tier is the nearest copy and as few others as may be hold one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvopt.exact.layout import Layout
from kvopt.lowering import Lowered
from kvopt.residency import nearest


@dataclass(frozen=True, eq=False)
class ByTier:
    """Seconds of each channel, or with C = 1 the objective's charges, for a byte (K tiers, V moves of the layout).

    Parameters
    ----------
    read, write, hold : float64[K, C]
        ``write`` is of a new block, and like ``hold`` of what a tier adds to what every state has.
    everywhere : float64[C]
        What every state is charged for being held.
    move : float64[2, V, C]
        While the block is not read in that slot [0], or is [1].
    """

    read: np.ndarray
    write: np.ndarray
    hold: np.ndarray
    everywhere: np.ndarray
    move: np.ndarray

    @classmethod
    def seconds(cls, low: Lowered, layout: Layout) -> ByTier:
        """Of each channel."""
        return cls._of(low.op_s_per_byte, low.write_s_per_byte, layout)

    @classmethod
    def charges(cls, low: Lowered, layout: Layout) -> ByTier:
        """Of the objective, whatever the time."""
        return cls._of(low.op_price_per_byte[..., None], low.write_price_per_byte[:, None], layout)

    @classmethod
    def _of(cls, op: np.ndarray, write: np.ndarray, layout: Layout) -> ByTier:
        holds, near = layout.holds, nearest(layout.holds)
        # Of the states with the same nearest copy, the last has the fewest others.
        alone = [int(np.flatnonzero(near == k)[-1]) for k in range(layout.n_tiers)]

        def joined(j: int, k: int) -> int:
            if layout.exclusive:
                return alone[k]
            wanted = holds[alone[j]].copy()
            wanted[k] = True
            return int(np.flatnonzero((holds == wanted).all(axis=1))[0])

        held = op[0, alone, alone]
        everywhere = np.zeros(op.shape[-1]) if layout.n_tiers - 1 in layout.placed else held[-1]
        moved = [(alone[j], joined(j, k)) for j, k in layout.moves]
        return cls(
            read=op[1, alone, alone] - held,
            write=write[alone],
            hold=held - everywhere,
            everywhere=everywhere,
            move=np.array([[op[r, here, there] - op[r, here, here] for here, there in moved] for r in (0, 1)]),
        )
