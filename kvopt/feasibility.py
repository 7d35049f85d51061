"""Whether the tiers can hold the blocks at all, found out before any solver runs.

A placement is feasible when every slot's assignment of blocks to tiers is: capacity is all that a slot asks for, and
nothing ties a slot to the next. A block may change its tier between any two slots, however many others do too: a move
costs time, never feasibility, since during slot t the block counts where it comes from and in slot t + 1 where it
goes; a new block may be written to either tier. So an instance has a placement exactly when each of its slots, looked
at alone, has one, and there is no sequence left to check.

Under inclusive copies written through the backing tier holds every block, and the others may stay empty: a slot is
feasible when its live bytes fit the backing tier. Under exclusive copies, and as well where copies are written back,
the blocks alive must be split over the tiers. Blocks are whole, so that is a question of subset sums, asked only where
the live bytes exceed every tier. Over two tiers, some of the blocks must fill the fast one to at least ``live -
backing`` and at most ``fast`` bytes. Three tests answer it, the cheap ones first:

- Room to spare of nearly the largest block: the fast tier filled until the next block does not fit will do.
- Largest blocks first: enough if it fills the fast tier far enough.
- All reachable sums as the bits of one integer, in units of the sizes' greatest common divisor.

Over three tiers and more it is bin packing, which nothing cheap decides. Room to spare of nearly the largest block for
each tier but one will do, and so will largest blocks first into the fastest tier with room for them. Where neither
does, that proves nothing, and a slot is refused only when it fails one of two tests that do:

- Cut into pieces of any one size, the blocks must not make more pieces than the tiers have room for. With the size of
  a block, that counts the blocks as large as it.
- No tier can be filled beyond the largest sum of blocks that it has room for; together they must reach the live bytes.

What the check does not see: splits over three tiers and more that pass both tests and yet do not exist; slots the sums
are too long for (:data:`MOST_WORK`), which takes many different sizes without a common divisor and the tiers full to
within one block; and whether blocks written in slot 0 find room beside the given states of an instance. The first two
are left to the engines, of which the exact one says infeasible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kvopt.errors import Infeasible

if TYPE_CHECKING:
    from kvopt.instance import Instance

MOST_WORK = 4_000_000_000
"""Bits shifted in all, before a slot is left to the engines: about a second."""
_WORK_PER_BLOCK = 100
"""Bits that are shifted in the time it takes to look at one block in one slot."""


_MOST_PIECES = 1000
"""Sizes of blocks, of the largest ones, that blocks are cut into the pieces of."""


def check(instance: Instance) -> None:
    """Refuse an instance that has no placement.

    Parameters
    ----------
    instance : Instance

    Raises
    ------
    Infeasible
        When the blocks alive in some slot exceed what the tiers hold, or cannot be split over them. A tier, the
        fastest too, may be smaller than a block, which is then never there, and of no bytes at all.
    """
    _check_total(instance)
    if not _spread(instance):
        return
    # No tier is infinite where a slot is tight.
    tight = np.flatnonzero(instance.live_bytes > max(instance.capacity_bytes))
    if len(tight):
        (_check_splits if len(instance.capacity_bytes) == 2 else _check_packing)(instance, tight)


def _spread(instance: Instance) -> bool:
    """Whether tiers share the blocks between them; else the backing tier holds them all."""
    return not instance.rules.inclusive or instance.rules.write_back


def _check_total(instance: Instance) -> None:
    room = sum(instance.capacity_bytes) if _spread(instance) else instance.capacity_bytes[-1]
    peak = int(np.argmax(instance.live_bytes))
    if instance.live_bytes[peak] > room:
        raise _short(instance, peak, int(instance.live_bytes[peak]) - int(room), f"the tiers hold {room:.6g}")


def _short(instance: Instance, slot: int, shortfall_bytes: int, why: str) -> Infeasible:
    bytes_ = f"{shortfall_bytes} byte{'s' if shortfall_bytes > 1 else ''}"
    step, lane = divmod(slot, instance.trace.n_lanes)
    name, copies = instance.platform.tiers[-1].name, instance.rules.copies.value
    copies += " copies written back" if instance.rules.write_back else " copies"
    others = "" if len(instance.platform.tiers) == 2 else ", or another (--tier-bytes),"
    return Infeasible(
        "capacity_bytes",
        f"{instance.live_bytes[slot]} bytes are alive in slot {slot} (step {step}, lane {lane}), but {why} under "
        f"{copies}; tier {name!r} is short of {bytes_}",
        f"Give the backing tier more capacity (--backing-bytes){others} or use smaller blocks",
        tier=name,
        slot=slot,
        shortfall_bytes=shortfall_bytes,
    )


def _check_splits(instance: Instance, tight: np.ndarray) -> None:
    """Whether the blocks alive in the tight slots can be split over two tiers that hold their sum."""
    size = instance.trace.size_bytes
    unit = int(np.gcd.reduce(size))
    fast, backing = (int(c) // unit for c in instance.capacity_bytes)
    live = instance.live_bytes[tight] // unit
    unsure = fast + backing - live < int(size.max()) // unit - 1
    work, known = 0, {}
    worst = (0, 0, 0)
    for slot, least in zip(tight[unsure].tolist(), (live - backing)[unsure].tolist(), strict=True):
        most = fast
        work += _WORK_PER_BLOCK * len(size)
        if work <= MOST_WORK:
            alive = (instance.birth_slot <= slot) & (instance.death_slot > slot)
            sizes, counts = np.unique(size[alive] // unit, return_counts=True)
            key = (least, sizes.tobytes(), counts.tobytes())
            if key not in known:
                known[key], spent = _most_held(_pieces(sizes, counts), fast, least, MOST_WORK - work)
                work += spent
            most = known[key]
        worst = max(worst, (least - most, -slot, most * unit))
    short, slot, most = worst[0], -worst[1], worst[2]
    if short > 0:
        name, capacity = instance.platform.tiers[0].name, instance.capacity_bytes
        why = f"no choice of them fills more than {most} of the {capacity[0]:.6g} bytes of tier {name!r}"
        raise _short(instance, slot, int(instance.live_bytes[slot]) - most - int(capacity[1]), why)


def _check_packing(instance: Instance, tight: np.ndarray) -> None:
    """Whether anything proves that the blocks alive in the tight slots cannot be split over three tiers and more."""
    size, n_tiers = instance.trace.size_bytes, len(instance.capacity_bytes)
    unit = int(np.gcd.reduce(size))
    capacity = [int(c) // unit for c in instance.capacity_bytes]
    spare = sum(capacity) - instance.live_bytes[tight] // unit
    # Where first fit fails, every tier has less room than the block left over.
    unsure = spare <= (n_tiers - 1) * (int(size.max()) // unit) - n_tiers
    work, known = 0, {}
    worst = (0, 0, "")
    for slot in tight[unsure].tolist():
        work += _WORK_PER_BLOCK * len(size)
        if work > MOST_WORK:
            break
        alive = (instance.birth_slot <= slot) & (instance.death_slot > slot)
        sizes, counts = np.unique(size[alive] // unit, return_counts=True)
        key = (sizes.tobytes(), counts.tobytes())
        if key not in known:
            known[key], spent = _needed(sizes, counts, capacity, unit, MOST_WORK - work)
            work += spent
        needed, why = known[key]
        worst = max(worst, (needed * unit - int(instance.capacity_bytes[-1]), -slot, why))
    short, slot, why = worst[0], -worst[1], worst[2]
    if short > 0:
        raise _short(instance, slot, short, why)


def _needed(
    sizes: np.ndarray, counts: np.ndarray, capacity: list[int], unit: int, work: int
) -> tuple[tuple[int, str], int]:
    """What the last tier must hold at least for all that can be proven, and the proof in words; and the work done.

    Sizes and capacities are in the unit.
    """
    if _packs(sizes, counts, capacity):
        return (0, ""), len(sizes)
    proofs = [(0, "")]
    for piece in (1, *sizes[-_MOST_PIECES:].tolist()):
        made, room = int(counts @ (sizes // piece)), sum(c // piece for c in capacity)
        if made > room:
            words = f"the tiers have room for {room} pieces of {piece * unit} bytes, and the blocks make {made}"
            proofs.append(((capacity[-1] // piece + made - room) * piece, words))
    pieces, most, spent = _pieces(sizes, counts), [], 0
    for c in capacity:
        held, more = _most_held(pieces, c, c, work - spent)
        most.append(held)
        spent += more
    live = int(counts @ sizes)
    if sum(most) < live:
        words = f"no choice of them fills more than {sum(most) * unit} of the tiers' bytes"
        proofs.append((max(live - sum(most[:-1]), capacity[-1] + 1), words))
    return max(proofs, key=lambda proof: proof[0]), spent + len(sizes) * min(len(sizes), _MOST_PIECES)


def _packs(sizes: np.ndarray, counts: np.ndarray, capacity: list[int]) -> bool:
    """Whether the blocks fit when they are put, the largest first, into the first tier with room."""
    room = list(capacity)
    for size, count in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        for k in range(len(room)):
            fitting = min(count, room[k] // size)
            room[k] -= fitting * size
            count -= fitting
        if count:
            return False
    return True


def _pieces(sizes: np.ndarray, counts: np.ndarray) -> list[int]:
    """Sums of 1, 2, 4, ... and a rest of equal blocks, largest first: subsets of them make every number of blocks."""
    pieces = []
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        share = 1
        while count > 0:
            pieces.append(size * min(share, count))
            count -= share
            share *= 2
    return sorted(pieces, reverse=True)


def _most_held(pieces: list[int], capacity: int, enough: int, work: int) -> tuple[int, int]:
    """The largest subset sum up to the capacity, or any from ``enough`` on; and the work done.

    When the work allowed does not suffice, the capacity: no subset holds more.
    """
    held = 0
    for piece in pieces:
        if held + piece <= capacity:
            held += piece
    if held >= enough:
        return held, len(pieces)
    # Ten pieces at least, so that a few of them do not make an integer of gigabytes.
    cost = capacity * max(len(pieces), 10)
    if cost > work:
        return capacity, len(pieces)
    reachable, mask = 1, (1 << capacity + 1) - 1
    for piece in pieces:
        reachable |= reachable << piece & mask
    return reachable.bit_length() - 1, cost
