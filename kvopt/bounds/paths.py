r"""The cheapest path of every block at given prices, by plain dynamic programming: what certificates rest on.

Between two slots of its own lane nothing that happens to a block depends on the block. So the slots between are
composed into one S x S matrix in the (min, +) algebra for each lane and step, and the program goes from step to step
over all blocks of a lane side by side. A block that is freed before a slot takes the cheapest of its states there:
staying costs nothing, so the free change of the last slot is no move.

**Rounding.** Let u = 2^-53, and write a computed path cost as a sum of the path's prices, each of them 0 or more.
Additions in any order multiply each term by at most (1 + u)^m, where m counts the additions between it and the root;
taking minima is exact. So for the truly cheapest path p, with cost c, the computed minimum is at most the computed cost
of p, and that is at most c (1 + u)^m. A term passes at most

- L + 2 additions while slots are composed: a chain over the lanes before or after, their join, the slot before them;
- 2 N + 1 in the program: a read and a matrix for every step,

which :func:`most_additions` adds up.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kvopt import interrupts
from kvopt.instance import Instance, Rules

TILE_BLOCKS = 1 << 14
"""Blocks worked on together: their arrays stay in a core's cache."""
_THREADS = 2
"""More would mostly wait for the interpreter."""
_MOST_JOBS = 64
"""That lanes are shared out to."""
_TILE_STEP_S, _BLOCK_STEP_S, _SLOT_S = 11e-6, 2e-9, 10e-6
"""Processor seconds of two states by step of a tile, by step of a block's life, and by slot."""
_RUN_S = 50e-9
"""By run."""
_THROUGH = 2.2
"""So many times as long takes a step where moves are read through, and so have two tables."""


def most_additions(instance: Instance) -> int:
    """How many additions any price of a slot passes at most on its way into a path's cost."""
    return 2 * instance.trace.n_steps + instance.trace.n_lanes + 3


def usual_s(instance: Instance) -> float:
    """Processor seconds that :func:`cheapest_paths` takes, where those constants were measured."""
    trace = instance.trace
    tiles = float(np.ceil(np.bincount(trace.lane) / TILE_BLOCKS).sum())
    first = np.maximum(trace.write_step, 0)
    block_steps = float((trace.free_step - first).sum()) + trace.n_blocks
    steps_s = _TILE_STEP_S * tiles * trace.n_steps + _BLOCK_STEP_S * block_steps
    if instance.rules.read_through:
        steps_s *= _THROUGH
    return (len(instance.states) / 2) ** 2 * (steps_s + _SLOT_S * trace.n_slots) + _RUN_S * trace.n_runs


def cheapest_paths(
    instance: Instance,
    rho: np.ndarray,
    omega: np.ndarray,
    sigma: np.ndarray,
    rent: np.ndarray,
    blocks: np.ndarray | None = None,
) -> np.ndarray:
    """Find the cheapest path of each block: float64[b], its cost per byte in the objective's unit.

    Parameters
    ----------
    instance : Instance
    rho, omega, sigma : float64[T, K]
        Price of a byte read from a tier, written to it, and read from it for a move; 0 or more.
    rent : float64[T, S]
        Price of a byte of a block in each state; 0 or more.
    blocks : int64[b], optional
        In ascending order; by default all blocks.
    """
    trace = instance.trace
    table = _SlotPrices.of(instance, rho, omega, sigma, rent)
    prefix, suffix = _chains(table.unread)
    cheapest = np.empty(trace.n_blocks)
    order = np.lexsort((trace.write_step, trace.lane))
    if blocks is not None:
        order = order[np.isin(order, blocks)]
    bounds = np.searchsorted(trace.lane[order], np.arange(trace.n_lanes + 1))
    stopped = threading.Event()

    def work(lane: int) -> None:
        costs = table.of_lane(lane, prefix, suffix)
        mine = order[bounds[lane] : bounds[lane + 1]]
        for tile in np.array_split(mine, -(-len(mine) // TILE_BLOCKS)) if len(mine) else ():
            cheapest[tile] = _Tile(instance, tile, costs).solve(stopped)

    def work_on_some(first: int, stop: int) -> None:
        for lane in range(first, stop):
            if not stopped.is_set():
                work(lane)

    ends = np.linspace(0, trace.n_lanes, min(trace.n_lanes, _MOST_JOBS) + 1).astype(int).tolist()
    jobs = [functools.partial(work_on_some, *part) for part in pairwise(ends)]
    # numpy lets go of the interpreter in its loops. Lanes share nothing but what they read.
    interrupts.side_by_side(jobs, _THREADS, stopped.set)
    if stopped.is_set():
        raise KeyboardInterrupt
    return cheapest if blocks is None else cheapest[blocks]


@dataclass(frozen=True, eq=False)
class _SlotPrices:
    """What a byte of a block costs in each slot, by lane l and step n."""

    reading: np.ndarray
    """float64[S, L, N]"""
    born: np.ndarray
    """float64[S, L, N]: being written in a state."""
    unread: np.ndarray
    """float64[L, S, S, N]: rent of the state in the slot, and the way to that in the next, when nothing is read."""
    through: np.ndarray | None
    """float64[L, S, S, N]: the same when the block is read, where moves are read through."""

    @classmethod
    def of(cls, instance: Instance, rho, omega, sigma, rent) -> _SlotPrices:
        """By slot prices float64[T, K], and rent float64[T, S]."""
        states, rules = instance.states, instance.rules
        shape = (instance.trace.n_steps, instance.trace.n_lanes)
        writing, full = _changes(instance, omega, sigma)

        def by_lane(way: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray((way + rent[:, :, None]).reshape(*shape, *way.shape[1:]).transpose(1, 2, 3, 0))

        reading = np.stack([_served(held, rho, rules) for held in states])
        return cls(
            reading.reshape(-1, *shape).transpose(0, 2, 1),
            (states.astype(float) @ omega.T).reshape(-1, *shape).transpose(0, 2, 1),
            by_lane(full),
            by_lane(writing) if rules.read_through else None,
        )

    def of_lane(self, lane: int, prefix: np.ndarray, suffix: np.ndarray) -> _LaneCosts:
        """What the blocks of a lane pay from one of its slots to the next, as numbers that Python is quick with."""
        # After the lane's slot of step n: the rest of the step, then the next up to the lane's slot there.
        between = suffix[lane].copy()
        between[..., :-1] = _product(suffix[lane][..., :-1], prefix[lane][..., 1:])
        through = None
        if self.through is not None:
            through = _product(self.through[lane], between).transpose(2, 0, 1).tolist()
        return _LaneCosts(
            reading=self.reading[:, lane].T.tolist(),
            born=self.born[:, lane].T,
            unread=_product(self.unread[lane], between).transpose(2, 0, 1).tolist(),
            through=through,
            lead=prefix[lane][..., 0],
        )


@dataclass(frozen=True, eq=False)
class _LaneCosts:
    """A lane's table: by step n, from state z in the lane's slot to state z' in its next one."""

    reading: list[list[float]]
    """[n][z]"""
    born: np.ndarray
    """float64[N, S]"""
    unread: list[list[list[float]]]
    """[n][z][z']"""
    through: list[list[list[float]]] | None
    """[n][z][z']: of blocks that are read, where that makes a difference."""
    lead: np.ndarray
    """float64[S, S]: from slot 0 to the lane's first."""


class _Tile:
    """Some blocks of one lane, by the step that writes them, and the dynamic program over them.

    Parameters
    ----------
    instance : Instance
    blocks : int64[b]
        Ascending in ``write_step``, so that the blocks that exist are the first ones.
    costs : _LaneCosts
    """

    def __init__(self, instance: Instance, blocks: np.ndarray, costs: _LaneCosts) -> None:
        trace = instance.trace
        self.costs, self.n = costs, len(blocks)
        self.write, self.free = trace.write_step[blocks], trace.free_step[blocks]
        begin, count = trace.run_ptr[blocks], np.diff(trace.run_ptr)[blocks]
        owner = np.repeat(np.arange(self.n), count)
        run = np.arange(len(owner)) + np.repeat(begin - np.cumsum(count) + count, count)
        self.begins = _Grouped(owner, trace.run_start[run], trace.n_steps)
        self.ends = _Grouped(owner, trace.run_stop[run], trace.n_steps)
        self.dies = _Grouped(np.arange(self.n), self.free, trace.n_steps)
        n_states = len(instance.states)
        self.here, self.after = np.empty((2, n_states, self.n))
        self.spare = np.empty((2, self.n))
        self.read, self.unread = np.zeros(self.n), np.ones(self.n)
        first = int(np.searchsorted(self.write, 0))
        given = None if instance.initial is None else instance.initial[blocks[:first]]
        self.here[:, :first] = costs.lead.min(axis=0)[:, None] if given is None else costs.lead[given].T

    def solve(self, stopped: threading.Event) -> np.ndarray:
        """float64[b]: cost of the cheapest path of each block; anything, once it is stopped."""
        cheapest = np.empty(self.n)
        born = np.searchsorted(self.write, np.arange(self.free.max() + 1), side="right").tolist()
        n_live, here, after = -1, [], []
        for n in range(max(int(self.write[0]), 0), int(self.free.max()) + 1):
            last = self.dies[n]
            if len(last):
                cheapest[last] = self.here[:, last].min(axis=0)
            if n == len(born) - 1:
                break
            if born[n] != n_live:
                new, n_live = slice(int(np.searchsorted(self.write, n)), born[n]), born[n]
                self.here[:, new] = self.costs.born[n][:, None]
                here, after = [row[:n_live] for row in self.here], [row[:n_live] for row in self.after]
            if stopped.is_set():
                break
            self._turn(n)
            self._step(n, n_live, here, after)
            here, after, self.here, self.after = after, here, self.after, self.here
        return cheapest

    def _turn(self, n: int) -> None:
        """Note which blocks are read from step n on; a run may begin where another ends."""
        for blocks, flag in ((self.ends[n], 0.0), (self.begins[n], 1.0)):
            if len(blocks):
                self.read[blocks] = flag
                self.unread[blocks] = 1.0 - flag

    def _step(self, n: int, n_live: int, here: list[np.ndarray], after: list[np.ndarray]) -> None:
        """From the lane's slot of step n, before its reads, to the next."""
        read, unread, (one, two) = self.read[:n_live], self.unread[:n_live], self.spare[:, :n_live]
        for row, price in zip(here, self.costs.reading[n], strict=True):
            np.multiply(read, price, out=one)
            row += one
        idle, through = self.costs.unread[n], self.costs.through
        for target, out in enumerate(after):
            for z, row in enumerate(here):
                result = out if z == 0 else one
                if through is None:
                    np.add(row, idle[z][target], out=result)
                else:
                    # One of the two is 0, so that their sum is the other, exactly.
                    np.multiply(read, through[n][z][target], out=result)
                    np.multiply(unread, idle[z][target], out=two)
                    result += two
                    result += row
                if z:
                    np.minimum(out, one, out=out)


class _Grouped:
    """Positions by the step in which something happens to them: ``grouped[n]``."""

    def __init__(self, position: np.ndarray, step: np.ndarray, n_steps: int) -> None:
        # numpy sorts 16 bits by radix, ten times as fast as 32.
        key = step.astype(np.min_scalar_type(n_steps))
        self.position = position[np.argsort(key, kind="stable")].astype(np.int64, copy=False)
        self.bounds = np.concatenate([[0], np.cumsum(np.bincount(step, minlength=n_steps + 1))]).tolist()

    def __getitem__(self, n: int) -> np.ndarray:
        return self.position[self.bounds[n] : self.bounds[n + 1]]


def _chains(slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64[L, S, S, N] twice: the slots of a step before each lane's, composed, and those after it."""
    n_lanes, n_states = slots.shape[:2]
    prefix, suffix = np.empty_like(slots), np.empty_like(slots)
    nothing = np.where(np.eye(n_states, dtype=bool), 0.0, np.inf)[:, :, None]
    prefix[0], suffix[-1] = nothing, nothing
    for lane in range(1, n_lanes):
        prefix[lane] = _product(prefix[lane - 1], slots[lane - 1])
        suffix[-1 - lane] = _product(slots[-lane], suffix[-lane])
    return prefix, suffix


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float64[S, S, N]: matrix products in the (min, +) algebra, side by side."""
    return np.stack([np.stack([(row + column).min(axis=0) for column in b.swapaxes(0, 1)]) for row in a])


def _served(held: np.ndarray, rho: np.ndarray, rules: Rules) -> np.ndarray:
    """float64[T]: what a byte read costs from the copy that serves it, of a block in the tiers ``held``."""
    copies = np.flatnonzero(held)
    return rho[:, copies if rules.balanced else copies[:1]].min(axis=1)


def _changes(instance: Instance, omega: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64[T, S, S] twice: what a byte costs from state to state when it is read through, and when it is not."""
    states = instance.states
    new = states[None, :, :] & ~states[:, None, :]
    near = np.argmax(states, axis=1)
    writing = np.einsum("tk,yzk->tyz", omega, new)
    reading = sigma[:, near, None] * new.sum(axis=2)
    if instance.rules.free_moves:
        return np.zeros_like(writing), np.zeros_like(writing)
    return writing, writing + reading
