"""A case as kvopt takes it, and placements there and back; only public names are used."""

from __future__ import annotations

import kvopt
from kvopt import objective
from tests.campaigns.tiny.cases import Case
from tests.campaigns.tiny.page import Page, Path


def instance_of(case: Case) -> kvopt.Instance:
    """The instance of a case."""
    blocks = case.blocks
    ptr = [0]
    for block in blocks:
        ptr.append(ptr[-1] + len(block.runs))
    trace = kvopt.Trace(
        n_steps=case.n_steps,
        n_lanes=case.n_lanes,
        lane=[block.lane for block in blocks],
        size_bytes=[block.size for block in blocks],
        write_step=[block.write for block in blocks],
        free_step=[block.free for block in blocks],
        run_ptr=ptr,
        run_start=[start for block in blocks for start, _ in block.runs],
        run_stop=[stop for block in blocks for _, stop in block.runs],
    )
    tiers = tuple(kvopt.Tier(t.name, t.capacity, t.read, t.write, t.move_out) for t in case.tiers)
    channels = tuple(kvopt.Channel(name, rate) for name, rate in case.rates.items())
    rules = kvopt.Rules(case.copies, case.moves, case.reads, case.writes)
    return kvopt.Instance(
        trace,
        kvopt.Platform("tiny", tiers, channels),
        rules,
        weight_bytes=case.weight_bytes,
        weight_bytes_per_slot=case.weight_bytes_per_slot,
        objective=objective_of(case),
        initial=case.initial,
    )


def objective_of(case: Case):
    """The objective of a case."""
    terms = []
    for term in case.terms:
        name, values = term.name, term.values
        made = getattr(objective, name)(**values)
        terms.append(made if term.weight == 1.0 else term.weight * made)
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def placement_of(page: Page, paths: list[Path]) -> kvopt.Placement:
    """Paths of all blocks as a placement: the intervals that are not of the last state."""
    ptr, start, stop, state = [0], [], [], []
    for birth, path in zip(page.birth, paths, strict=True):
        for t, z in enumerate(path, birth):
            if z == len(page.states) - 1:
                continue
            if len(stop) > ptr[-1] and stop[-1] == t and state[-1] == z:
                stop[-1] = t + 1
            else:
                start.append(t)
                stop.append(t + 1)
                state.append(z)
        ptr.append(len(start))
    return kvopt.Placement(ptr, start, stop, state)


def paths_of(page: Page, placement: kvopt.Placement) -> list[list[int]]:
    """The states of every block in the slots of its life.

    Raises
    ------
    ValueError
        When an interval lies outside a life, overlaps another or is of a state that there is not.
    """
    paths = [[len(page.states) - 1] * (d - b) for b, d in zip(page.birth, page.death, strict=True)]
    ptr, start, stop, state = (getattr(placement, name).tolist() for name in ("ptr", "start", "stop", "state"))
    for i, path in enumerate(paths):
        reached = page.birth[i]
        for v in range(ptr[i], ptr[i + 1]):
            if not (reached <= start[v] < stop[v] <= page.death[i] and 0 <= state[v] < len(page.states) - 1):
                raise ValueError(f"block {i} is in state {state[v]} in [{start[v]}, {stop[v]})")
            reached = stop[v]
            path[start[v] - page.birth[i] : stop[v] - page.birth[i]] = [state[v]] * (stop[v] - start[v])
    return paths
