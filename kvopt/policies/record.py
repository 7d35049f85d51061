"""From levels to states, and from states to a placement: which copies there are, and since when."""

from __future__ import annotations

import numpy as np

from kvopt.instance import Instance
from kvopt.placement import Placement
from kvopt.policies.tiers import Tiers


class Record:
    """The state of every block, and the intervals that are over.

    Parameters
    ----------
    instance : Instance
    """

    def __init__(self, instance: Instance) -> None:
        self.last = len(instance.states) - 1
        self.state = np.full(instance.trace.n_blocks, self.last, np.int8)
        self.since = np.zeros(instance.trace.n_blocks, np.int64)
        self._rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._stops: list[int] = []

    def set(self, blocks: np.ndarray, state: np.ndarray | int, slot: int) -> None:
        """Blocks are in a state from a slot on; the last one also stands for not being there."""
        before = self.state[blocks]
        over = before != self.last
        ended = blocks[over]
        self._rows.append((ended, self.since[ended], before[over]))
        self._stops.append(slot)
        self.state[blocks] = state
        self.since[blocks] = slot

    def placement(self, n_slots: int) -> Placement:
        """What was recorded; what goes on does so to the end."""
        self.set(np.flatnonzero(self.state != self.last), self.last, n_slots)
        block, start, state = (np.concatenate(column) for column in zip(*self._rows, strict=True))
        stop = np.repeat(self._stops, [len(row[0]) for row in self._rows])
        return Placement.from_intervals(len(self.state), block, start, stop, state)


class Copies:
    """Which blocks have a copy in the backing tier beside their level, and so their states.

    Parameters
    ----------
    instance : Instance
    tiers : Tiers
        As it is now, at every call.
    """

    def __init__(self, instance: Instance, tiers: Tiers) -> None:
        rules = instance.rules
        self.tiers = tiers
        self.always, self.write_back = rules.inclusive and not rules.write_back, rules.write_back
        self.kept = np.zeros(instance.trace.n_blocks if self.write_back else 0, bool)
        self.kept_bytes = 0
        self._state = _states(instance.states)
        number = self._state[int(self.always)]
        self._same = not self.write_back and number.tolist() == list(range(len(number)))

    def states(self, blocks: np.ndarray) -> np.ndarray:
        """int8[...]: the state of each block that exists."""
        level = self.tiers.level[blocks]
        if self._same:
            return level
        return self._state[self.kept[blocks].astype(int) if self.write_back else int(self.always), level]

    def keep(self, blocks: np.ndarray) -> None:
        """Blocks leave a copy behind in the backing tier, or come to exist with one."""
        if self.write_back:
            blocks = blocks[~self.kept[blocks]]
            self.kept[blocks] = True
            self.kept_bytes += int(self.tiers.size[blocks].sum())

    def drop(self, blocks: np.ndarray) -> None:
        """Blocks have no copy beside their level any more."""
        if self.write_back:
            blocks = blocks[self.kept[blocks]]
            self.kept[blocks] = False
            self.kept_bytes -= int(self.tiers.size[blocks].sum())

    def make_room(self, last_use: np.ndarray) -> np.ndarray:
        """Drop copies that the backing tier has no room for; int64[...]: which.

        Those of the most recently used blocks go first: it is longest until they would serve.
        """
        excess = self.tiers.used[-1] + self.kept_bytes - self.tiers.capacity[-1] if self.write_back else 0
        if excess <= 0:
            return np.zeros(0, np.int64)
        kept = np.flatnonzero(self.kept)[::-1]
        latest = kept[np.argsort(-last_use[kept], kind="stable")]
        dropped = latest[: np.searchsorted(np.cumsum(self.tiers.size[latest]), excess) + 1]
        self.drop(dropped)
        return dropped


def _states(held: np.ndarray) -> np.ndarray:
    """int8[2, K]: the state of a block of each level without [0] and with [1] a copy in the backing tier as well.

    A state that the rules do not know is -1.

    Parameters
    ----------
    held : bool[S, K]
    """
    n_tiers = held.shape[1]
    number = {tuple(row): z for z, row in enumerate(held.tolist())}
    found = np.full((2, n_tiers), -1, np.int8)
    for level in range(n_tiers):
        for backed in (0, 1):
            row = [k == level or (backed == 1 and k == n_tiers - 1) for k in range(n_tiers)]
            found[backed, level] = number.get(tuple(row), -1)
    return found
