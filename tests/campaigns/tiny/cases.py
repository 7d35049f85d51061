"""Instances in plain Python, drawn from a seed: few blocks, few slots, and everything that could go wrong with them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

RATES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 20, 30)
"""Bytes per second, in quarters; their least common multiple is small, so that times are small whole numbers."""
LOADS = (0.5, 1.0, 1.0, 1.0, 1.5, 2.0, 3.0)
_MOST_PAIRS = 40_000
"""Joint states of all blocks in a slot times those in the next, summed over slots, where costs add up over slots."""
_MOST_PAIRS_STEPWISE = 1_500
"""The same where single steps count and ways through them are kept apart."""


@dataclass(frozen=True)
class Block:
    """A block of the trace; ``runs`` are (start, stop) in steps."""

    lane: int
    size: int
    write: int
    free: int
    runs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TierSpec:
    """A tier; ``move_out`` is None where it is as ``read``."""

    name: str
    capacity: float
    read: dict[str, float]
    write: dict[str, float]
    move_out: dict[str, float] | None


@dataclass(frozen=True)
class Term:
    """A term of the objective: weight, name and parameters."""

    weight: float
    name: str
    values: dict[str, object]


@dataclass(frozen=True)
class Case:
    """An instance in plain Python.

    Parameters
    ----------
    seed : int
    kinds : tuple of str
        What is special about it.
    n_steps, n_lanes : int
    blocks : tuple of Block
    tiers : tuple of TierSpec
    rates : dict of str to float
        Channels.
    copies, moves, reads, writes : str
        The rules.
    terms : tuple of Term
        The objective.
    initial : tuple of int or None
        Number of the state of each block in slot 0; entries of blocks that are not prefilled count for nothing.
    weight_bytes, weight_bytes_per_slot : float
    """

    seed: int
    kinds: tuple[str, ...]
    n_steps: int
    n_lanes: int
    blocks: tuple[Block, ...]
    tiers: tuple[TierSpec, ...]
    rates: dict[str, float]
    copies: str
    moves: str
    reads: str
    writes: str
    terms: tuple[Term, ...]
    initial: tuple[int, ...] | None
    weight_bytes: float
    weight_bytes_per_slot: float

    @property
    def n_states(self) -> int:
        """In how many ways tiers can hold a block."""
        n_tiers = len(self.tiers)
        if self.copies == "exclusive":
            return n_tiers
        return 2**n_tiers - 1 if self.writes == "back" else 2 ** (n_tiers - 1)

    @property
    def stepwise(self) -> bool:
        """Whether single steps count."""
        return any(term.name in ("worst_step", "cvar", "late_steps") for term in self.terms)

    def with_tier(self, tier: TierSpec, at: int) -> Case:
        """The same with one more tier before number ``at``, and a free start."""
        return replace(self, tiers=(*self.tiers[:at], tier, *self.tiers[at:]), initial=None)

    def with_capacity(self, capacity: float, k: int) -> Case:
        """The same with another capacity of tier k."""
        changed = replace(self.tiers[k], capacity=capacity)
        return replace(self, tiers=(*self.tiers[:k], changed, *self.tiers[k + 1 :]))


def draw(seed: int, *, most_states: int = 15) -> Case:
    """The case of a seed: the first of its stream that is small enough and means something.

    Parameters
    ----------
    seed : int
    most_states : int
        Engines compile kernels for each number of states of a block; with fewer allowed, other cases are drawn.
    """
    rng = random.Random(f"tiny {seed}")
    while True:
        case = _drawn(rng, seed)
        if case.n_states <= most_states and _small(case) and _meant(case):
            return case


def _drawn(rng: random.Random, seed: int) -> Case:
    n_lanes = rng.choice((1, 1, 1, 2, 2, 3))
    n_steps = rng.randint(1 if n_lanes > 1 else 2, max(6 // n_lanes, 1))
    n_tiers = rng.choice((2, 2, 2, 2, 3, 3, 3, 4))
    copies = rng.choice(("exclusive", "inclusive"))
    inclusive = copies == "inclusive"
    writes = rng.choice(("through", "through", "back")) if inclusive else "through"
    reads = rng.choice(("nearest", "balanced")) if inclusive and n_tiers == 2 else "nearest"
    moves = rng.choice(("explicit", "explicit", "read-through", "read-through", "free"))
    size_kind, sizes = _sizes(rng, rng.randint(1, 5))
    blocks = _blocks(rng, sizes, n_steps, n_lanes, never_read=rng.random() < 0.07)
    shared = not inclusive or writes == "back"
    kinds, capacities = _capacities(rng, sizes, n_tiers, shared)
    rates, tiers, kind = _machine(rng, capacities)
    kinds = [size_kind, *kinds, *kind]
    weight_bytes = float(rng.choice((0, 0, 0, 0, 7)))
    tiers = (replace(tiers[0], capacity=tiers[0].capacity + weight_bytes), *tiers[1:])
    if not any(block.runs for block in blocks):
        kinds.append("no reads")
    case = Case(
        seed,
        tuple(kinds),
        n_steps,
        n_lanes,
        blocks,
        tiers,
        rates,
        copies,
        moves,
        reads,
        writes,
        (Term(1.0, "latency", {}),),
        None,
        weight_bytes,
        rng.choice((0.0, 0.0, 0.0, 2.5, 1000.0)),
    )
    if rng.random() < 0.25:
        case = _begun(rng, case)
    return _with_objective(rng, case)


def _sizes(rng: random.Random, count: int) -> tuple[str, list[int]]:
    kind = rng.choices(("equal", "small", "ratio", "giant", "odd", "huge", "pairs"), (19, 27, 18, 18, 8, 4, 6))[0]
    if kind == "equal":
        return "sizes equal", [rng.choice((1, 4, 1000))] * count
    if kind == "small":
        return "sizes small", [rng.randint(1, 6) for _ in range(count)]
    if kind == "ratio":
        return "sizes to 1e9 apart", [rng.randint(1, 9) * 10 ** rng.randint(0, 9) for _ in range(count)]
    if kind == "giant":
        sizes = [rng.randint(1, 20) for _ in range(count)]
        sizes[rng.randrange(count)] = 10 ** rng.randint(4, 9) + rng.choice((-1, 0, 1))
        return "one giant", sizes
    if kind == "odd":
        return "sizes odd", [rng.randint(10**5, 10**9) for _ in range(count)]
    if kind == "huge":
        return "sizes huge", [2 ** rng.randint(58, 62) - rng.randint(0, 9) for _ in range(count)]
    size = rng.randint(1, 50)
    return "sizes in pairs", [size + rng.choice((0, 0, 1)) for _ in range(count)]


def _blocks(rng: random.Random, sizes: list[int], n_steps: int, n_lanes: int, *, never_read: bool) -> tuple[Block, ...]:
    often, found = rng.choice((0.35, 0.7)), []
    for size in sizes:
        write = -1 if rng.random() < 0.6 else rng.randrange(n_steps)
        free = n_steps if rng.random() < 0.65 else rng.randint(max(write, 0) + 1, n_steps)
        read = [not never_read and rng.random() < often for _ in range(max(write, 0), free)]
        runs: list[tuple[int, int]] = []
        for n, is_read in enumerate(read, max(write, 0)):
            # Now and then a run is cut in two that touch.
            if is_read and runs and runs[-1][1] == n and rng.random() < 0.9:
                runs[-1] = (runs[-1][0], n + 1)
            elif is_read:
                runs.append((n, n + 1))
        found.append(Block(rng.randrange(n_lanes), size, write, free, tuple(runs)))
    return tuple(found)


def _capacities(rng: random.Random, sizes: list[int], n_tiers: int, shared: bool) -> tuple[list[str], list[float]]:
    """What the tiers hold: from nothing to everything, often to the byte, and what is special about it."""
    kinds, found = [], []

    def some() -> int:
        return sum(rng.sample(sizes, rng.randint(1, len(sizes))))

    makers: tuple[tuple[str, float, Callable[[], float]], ...] = (
        ("capacity 0", 10, lambda: 0),
        ("under a byte", 5, lambda: rng.choice((0.25, 0.5, 0.75))),
        ("one block", 15, lambda: rng.choice(sizes)),
        ("a byte short of a block", 12, lambda: rng.choice(sizes) - 1),
        ("", 5, lambda: rng.choice(sizes) + 1),
        ("some blocks", 20, some),
        ("a byte short of some", 6, lambda: some() - 1),
        ("", 4, lambda: some() + 0.5),
        ("all blocks", 6, lambda: sum(sizes)),
        ("", 15, lambda: rng.randint(1, sum(sizes))),
    )
    for k in range(n_tiers - 1):
        name, _, make = rng.choices(makers, [weight for _, weight, _ in makers])[0]
        if k == 0 and rng.random() < 0.4:
            name, make = "", lambda: max(sizes) + rng.choice((0, 0, 1, min(sizes), sum(sizes) // 2))
        kinds.append(name)
        found.append(float(make()))
    if rng.random() < (0.5 if shared else 0.7):
        found.append(math.inf)
    elif rng.random() < 0.1 or not shared:
        found.append(float(sum(sizes) - rng.choice((0, 0, 0, 0, 1))))
    else:
        found.append(float(max(sum(sizes) - int(sum(found)) + rng.choice((0, 0, 1, min(sizes))), some())))
        kinds.append("backing tier full")
    if found[0] < max(sizes):
        kinds.append("block above the fastest tier")
    return [kind for kind in kinds if kind], found


def _machine(rng: random.Random, capacities: list[float]) -> tuple[dict[str, float], tuple[TierSpec, ...], list[str]]:
    """Channels and tiers."""
    kinds = []
    scale = rng.choice((1.0, 1.0, 1e9))
    style = rng.choice(("buses", "buses", "any", "one"))
    n_tiers = len(capacities)
    tiers = []
    if style == "one":
        rates = {"bus": scale * rng.choice(RATES) / 4}
    else:
        names = ("bus", "link", "out", *(f"bus {k}" for k in range(1, n_tiers)))
        rates = {name: scale * rng.choice(RATES) / 4 for name in names}
        rates["bus"] *= rng.choice((1, 4, 4))
    names = list(rates)
    out = "link" if rng.random() < 0.3 else "out"

    def any_loads() -> dict[str, float]:
        return {name: rng.choice(LOADS) for name in names if rng.random() < 1.6 / len(names)}

    for k, capacity in enumerate(capacities):
        if style == "buses":
            slow = {f"bus {k}": 1.0, "link": 1.0} if k else {"bus": 1.0}
            written = {f"bus {k}": rng.choice(LOADS), out: 1.0} if k else {"bus": rng.choice(LOADS)}
            read, write = slow, written
        elif style == "any":
            read, write = any_loads(), any_loads()
        else:
            read, write = {"bus": rng.choice(LOADS) * (k + 1)}, {"bus": rng.choice(LOADS)}
        if k == 0 and rng.random() < 0.1:
            read = {}
        tiers.append(TierSpec(f"tier {k}", capacity, read, write, rng.choice((None, None, any_loads()))))
    if rng.random() < 0.1:
        kinds.append("useless channel")
        rates["idle"] = scale * rng.choice((1.0, 1e-6, 1e6))
    return rates, tuple(tiers), kinds


def _begun(rng: random.Random, case: Case) -> Case:
    """The case with a given start that the tiers hold, if one is found."""
    from tests.campaigns.tiny.page import Page

    page = Page(case)
    for _ in range(30):
        initial = tuple(rng.randrange(case.n_states) for _ in case.blocks)
        held = [
            sum(b.size for b, z in zip(case.blocks, initial, strict=True) if b.write < 0 and page.states[z][k])
            for k in range(len(case.tiers))
        ]
        if all(bytes_ <= room for bytes_, room in zip(held, page.capacity, strict=True)):
            return replace(case, initial=initial, kinds=(*case.kinds, "given start"))
    return case


def _with_objective(rng: random.Random, case: Case) -> Case:
    """The case with an objective: the decode time of nearly half of them."""
    kind = rng.choices(("latency", "term", "sum", "far"), (45, 30, 15, 10))[0]
    if kind == "latency":
        return case
    if kind == "term":
        terms = [_term(rng, case, 1.0)]
    else:
        weight = 10.0 ** -rng.randint(6, 9) if kind == "far" else rng.choice((0.5, 2.0, 1e-3))
        terms = [_term(rng, case, rng.choice((1.0, 0.25))), _term(rng, case, weight)]
        rng.shuffle(terms)
    kinds = (*case.kinds, *(term.name for term in terms), *(["terms far apart"] if kind == "far" else []))
    return replace(case, terms=tuple(terms), kinds=kinds)


def _term(rng: random.Random, case: Case, weight: float) -> Term:
    name = rng.choice(("latency", "energy", "traffic", "worst_step", "cvar", "late_steps", "cost"))
    if name == "energy":
        joules = {
            role: {tier.name: rng.choice((0.0, 1.0, 2.0, 3.0, 10.0)) * 2.0**-30 for tier in case.tiers}
            for role in ("read_j_per_byte", "write_j_per_byte", "hold_j_per_byte_slot")
        }
        if rng.random() < 0.5:
            del joules["hold_j_per_byte_slot"]
        return Term(weight, name, {**joules, "power_w": rng.choice((0.0, 0.0, 4.0))})
    if name == "traffic":
        return Term(weight, name, {"channel": rng.choice(list(case.rates))})
    if name == "cvar":
        return Term(weight, name, {"alpha": rng.choice((0.0, 0.25, 0.5, 0.75, 0.9, 1.0))})
    if name == "late_steps":
        return Term(weight, name, {"deadline_s": _deadline(rng, case)})
    if name == "cost":
        written = {tier.name: rng.choice((0.0, 1.0, 5.0)) * 2.0**-20 for tier in case.tiers}
        return Term(weight, name, {"per_hour": 7200.0, "per_byte_written": written})
    return Term(weight, name, {})


def _deadline(rng: random.Random, case: Case) -> float:
    """About what a step may take: the time of a step of some placement, more or less."""
    from tests.campaigns.tiny.page import Page

    page = Page(case)
    path = [[rng.randrange(case.n_states) for _ in range(page.death[i] - page.birth[i])] for i in range(page.n_blocks)]
    times = [s for s in page.evaluated(path).step_s if s > 0] or [Fraction(1)]
    return float(rng.choice(times)) * rng.choice((1.0, 1.0, 0.5, 0.9, 1.5))


def _small(case: Case) -> bool:
    """Whether the dynamic program over all blocks is quick."""
    from tests.campaigns.tiny.page import Page

    page, pairs = Page(case), 0
    for t in range(page.n_slots):
        alive = page.alive(t)
        goes_on = [i for i in alive if page.death[i] > t + 1]
        pairs += case.n_states ** (len(alive) + len(goes_on))
    return pairs <= (_MOST_PAIRS_STEPWISE if case.stepwise else _MOST_PAIRS)


def _meant(case: Case) -> bool:
    """Whether the objective costs something, and balanced reads have a meaning under it."""
    from tests.campaigns.tiny.page import Page

    page = Page(case)
    prices = page.prices
    if case.reads == "balanced" and case.stepwise and prices.read[0] != prices.read[1]:
        return False
    by_tier = (*prices.read, *prices.write, *prices.move_out, *prices.hold)
    return prices.per_second > 0 or any(by_tier) or case.stepwise
