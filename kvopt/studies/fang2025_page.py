"""The page of the study: published, reproduced and certified numbers side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvopt.output import write_whole
from kvopt.studies.engine import ANNEALED, BOUND, UNLIMITED
from kvopt.studies.page import Cells, Figure, Heading, Part, Words, write_page
from kvopt.studies.study import Row, Scale
from kvopt.units import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kvopt.studies.fang2025 import Fang2025

_POLICIES = {
    "static": "#8A8A8A",
    "reactive-lru": "#56B4E9",
    "reactive-flush": "#E69F00",
    "page-all-layers": "#CC79A7",
    "page": "#D55E00",
    "sa-guided": "#0072B2",
    ANNEALED: "#009E73",
}
"""Those drawn, and their colours (Okabe and Ito's)."""
_READINGS = {
    "static": ("static",),
    "reactive": ("reactive-lru", "reactive-flush", "reactive-flush-own"),
    "page": ("page", "page-whole", "page-all-layers"),
    "SA-guided": ("sa-guided", "sa-start", "sa-guided-refilled"),
}
"""Published policies, and ours that read the publication's words for them; the likeliest reading first."""
_WORTH_A_CAUSE = 0.1
_PUBLISHED_HITS = {
    ("middle", policy): hits
    for policies, hits in (
        (("static",), 0.5834),
        (("reactive-lru", "reactive-flush", "reactive-flush-own"), 0.7553),
        (("page", "page-whole", "page-all-layers"), 0.8873),
        (("sa-guided", "sa-guided-refilled"), 0.9133),
    )
    for policy in policies
}
"""Share of all bytes read from HBM, the weights' among them; published of the recorded trace alone."""
_PUBLISHED = "published"
_VARIATIONS = ("low", "middle", "high")


class _Rows:
    """Rows by setting and policy."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.all = list(rows)
        self._found = {(r["sparsity"], r["variation"], r["variant"], r["policy"]): r for r in rows}

    def get(self, policy: str, sparsity: int = 60, variation: str = "middle", variant: str = _PUBLISHED) -> Row | None:
        return self._found.get((sparsity, variation, variant, policy))

    def seconds(self, policy: str, *setting) -> float | None:
        row = self.get(policy, *setting)
        return row["reproduced_s"] if row else None

    @property
    def sparsities(self) -> list[int]:
        """Of the published variant's middle variation."""
        return sorted({r["sparsity"] for r in self.all if (r["variation"], r["variant"]) == ("middle", _PUBLISHED)})

    @property
    def settings(self) -> list[tuple[int, str, str]]:
        """In the order of their rows."""
        return list(dict.fromkeys((r["sparsity"], r["variation"], r["variant"]) for r in self.all))

    def of(self, setting: tuple[int, str, str]) -> list[Row]:
        return [r for r in self.all if (r["sparsity"], r["variation"], r["variant"]) == setting]


def write(study: Fang2025, rows: Sequence[Row], scale: Scale, out: Path) -> list[Path]:
    """Write everything there are rows for; the files written."""
    found = _Rows(rows)
    parts: list[Part] = [Words(_introduction(study, scale))]
    for section in _sections(found):
        filled = [part for part in section if not isinstance(part, Cells) or part.rows]
        if any(isinstance(part, Cells) for part in filled):
            parts += filled
    files = []
    for part in parts:
        if isinstance(part, Figure):
            files.append(out / part.file)
            write_whole("--out", files[-1], lambda path, draw=_FIGURES[part.file]: _save(draw, found, path))
    return [*files, *write_page(study.title, parts, out, "study")]


def _sections(found: _Rows) -> list[list[Part]]:
    """Heading, words, tables and figures of each."""
    return [
        [
            Heading("Ideal bandwidth"),
            Words(
                "All reads of a slot, split over both memories as their bandwidths are. It ignores capacity and moves: "
                "a certified bound, not a policy. The published rows at 80-90 % lie below what the published cost "
                "model gives for the stated sparsity. They are what it gives, within rounding, for prompts of 29,315 "
                "tokens at 80 and 90 % and 27,319 at 85 %; whether those rows had shorter prompts is not told, so they "
                "stay unexplained."
            ),
            _ideal(found),
        ],
        [
            Heading("The published policies at 60 %"),
            Words(
                "Each by the likeliest reading of the publication's words, and by the reading that comes nearest to "
                "its number. Reproduced seconds are at the published size. Low and high are synthetic in the "
                "publication too; the middle one is a recorded trace there, which is not public, and a synthetic one "
                "here. What is more than a tenth off is looked into by runs with something changed: below, or at a "
                "tenth of the size where this page has none of them."
            ),
            _families(found),
        ],
        [
            Heading("At 60 %, by variation"),
            *[_variation(found, name) for name in _VARIATIONS],
            Figure("by_variation.png", "Decode time over ideal bandwidth at 60 %, by variation"),
            Figure("hit_rates.png", "Share of the KV bytes read from HBM at 60 %, by variation"),
        ],
        [
            Heading("Where they are further apart than a tenth"),
            Words(
                "Each published time of synthetic traces that is more than 10 % off, and the runs of the same policy, "
                "or of another reading of it, with one thing changed or two: the one that comes nearest, and the range "
                "of all. Where moves are paid, what moves up is read once more for it, as the published simulator's "
                "sum of external seconds may be read. A published time inside the range is within what generator, "
                "capacity, moves and policies may mean; NO marks what none of these runs explains. The publication "
                "tells of swaps up to a tenth of the set: runs with 20 % swapped show what it would have to be. None "
                "was chosen to hit a number."
            ),
            _causes(found),
        ],
        [
            Heading("By sparsity"),
            _sparsity(found),
            Figure("throughput_by_sparsity.png", "Throughput over static placement, by sparsity"),
        ],
        [
            Heading("How much faster than static, at most"),
            Words(
                "The publication claims up to 5.87 times static placement, and 4 to 5 times over baselines. No "
                "placement at all can be faster than static by more than the last column but one says, and no machine "
                "of this bandwidth by more than the last. A fair static rule keeps the tokens that are read most."
            ),
            _headline(found),
        ],
        [
            Heading("In order"),
            Words("Bound <= annealed <= SA-guided at every point; gaps are to the dual bound."),
            _order(found),
        ],
        [
            Heading("What the assumptions are worth"),
            Words("At 60 %, with one thing changed, or two, at a time."),
            *[_variants(found, variation) for variation in ("high", "low")],
        ],
    ]


def _introduction(study: Fang2025, scale: Scale) -> str:
    sized = (
        "at the published size"
        if scale.share == 1
        else f"at {scale.share:g} of the published steps, tokens, weights and HBM, times scaled up to the whole"
    )
    return (
        f"{study.reference}, done again {sized}. Achieved: the time of a placement that every rule was checked on; "
        "certified: a bound with a verified certificate, which no placement beats; published: a number of the paper's "
        "authors. What the publication calls ideal is a bound, and its SA-guided policy an achieved time, best of a "
        "family of two parameters with knowledge of the future."
    )


def _s(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3f}"


def _off(reproduced: float | None, published: float | None) -> str:
    return "-" if not (reproduced and published) else f"{100 * (reproduced / published - 1):+.1f} %"


def _ratio(upper: float | None, lower: float | None) -> str:
    return "-" if not (upper and lower) else f"{upper / lower:.2f}"


def _ideal(found: _Rows) -> Cells:
    rows = []
    for setting in [(s, "middle", _PUBLISHED) for s in found.sparsities] + [
        (60, v, _PUBLISHED) for v in ("low", "high")
    ]:
        row = found.get(UNLIMITED, *setting)
        if row:
            off = f"{100 * (row['reproduced_s'] / row['published_s'] - 1):+.3f} %"
            rows.append((f"{setting[0]} %, {setting[1]}", _s(row["published_s"]), _s(row["reproduced_s"]), off))
    return Cells("ideal", "Ideal seconds", ("setting", "published", "reproduced", "deviation"), rows)


def _variation(found: _Rows, variation: str) -> Cells:
    rows = [
        (
            row["policy"],
            row["role"],
            "yes" if row["feasible"] else "no",
            _s(row["published_s"]),
            _s(row["reproduced_s"]),
            _off(row["reproduced_s"], row["published_s"]),
            percent(row["gap"], sign=True),
            percent(row["kv_hit_rate"]),
            percent(row["hit_rate_with_weights"]),
            percent(_PUBLISHED_HITS.get((variation, row["policy"]))),
            row["remark"],
        )
        for row in found.of((60, variation, _PUBLISHED))
    ]
    columns = (
        "policy",
        "role",
        "feasible",
        "published s",
        "reproduced s",
        "deviation",
        "above bound",
        "KV hits",
        "hits, weights too",
        "published",
        "remark",
    )
    return Cells(f"variation_{variation}", f"60 %, {variation} variation", columns, rows)


def _families(found: _Rows) -> Cells:
    rows = []
    for variation in _VARIATIONS:
        for family, readings in _READINGS.items():
            runs = [row for policy in readings if (row := found.get(policy, 60, variation))]
            if not runs or runs[0]["policy"] != readings[0]:
                continue
            published, likeliest = runs[0]["published_s"], runs[0]
            nearest = min(runs, key=lambda row: abs(row["reproduced_s"] / published - 1))
            cells = [text for row in (likeliest, nearest) for text in _reading(row)]
            rows.append((f"{family}, {variation}", _s(published), *cells))
    columns = ["policy", "published s"]
    for which in ("likeliest", "nearest"):
        columns += [f"{which} reading", f"{which}: s", f"{which}: deviation"]
    return Cells("published_policies", "Published and reproduced seconds at 60 %", tuple(columns), rows)


def _reading(row: Row) -> tuple[str, str, str]:
    return row["policy"], _s(row["reproduced_s"]), _off(row["reproduced_s"], row["published_s"])


def _causes(found: _Rows) -> Cells:
    rows = []
    for variation in ("low", "high"):
        for family, readings in _READINGS.items():
            first = found.get(readings[0], 60, variation)
            if first is None or abs(first["reproduced_s"] / first["published_s"] - 1) <= _WORTH_A_CAUSE:
                continue
            published = first["published_s"]
            runs = [
                (row["reproduced_s"], " ".join([row["policy"], *(() if row is first else (f"({row['variant']})",))]))
                for row in found.all
                if (row["sparsity"], row["variation"]) == (60, variation)
                and row["policy"] in readings
                and row["published_s"] is not None
            ]
            if len(runs) <= len(readings):  # None of anything changed.
                continue
            nearest = min(runs, key=lambda run: abs(run[0] / published - 1))
            lowest, highest = min(runs), max(runs)
            rows.append(
                (
                    f"{family}, {variation}",
                    _s(published),
                    _s(first["reproduced_s"]),
                    _off(first["reproduced_s"], published),
                    f"{nearest[1]}: {_s(nearest[0])}",
                    _off(nearest[0], published),
                    f"{_s(lowest[0])} {lowest[1]} to {_s(highest[0])} {highest[1]}",
                    "yes" if lowest[0] <= published <= highest[0] else "NO",
                )
            )
    columns = ("policy", "published s", "reproduced s", "deviation", "nearest run", "its deviation", "range", "inside")
    return Cells("causes", "Published times that are more than 10 % off", columns, rows)


def _sparsity(found: _Rows) -> Cells:
    policies = [p for p in (*_POLICIES, BOUND, UNLIMITED) if all(found.get(p, s) for s in found.sparsities)]
    rows = []
    for sparsity in found.sparsities:
        cells = []
        for policy in policies:
            row = found.get(policy, sparsity)
            cells.append("-" if row is None else f"{_s(row['published_s'])} / {_s(row['reproduced_s'])}")
        rows.append((f"{sparsity} %", *cells))
    return Cells("sparsity", "Published / reproduced seconds, middle variation", ("sparsity", *policies), rows)


def _headline(found: _Rows) -> Cells:
    rows = []
    for setting in found.settings:
        if setting[2] != _PUBLISHED:
            continue
        static, fair = found.get("static", *setting), found.seconds("static-hottest", *setting)
        guided = found.get("sa-guided", *setting)
        if not (static and guided):
            continue
        at = static["reproduced_s"]
        rows.append(
            (
                f"{setting[0]} %, {setting[1]}",
                _ratio(static["published_s"], guided["published_s"]),
                _ratio(at, guided["reproduced_s"]),
                _ratio(at, found.seconds(ANNEALED, *setting)),
                _ratio(fair, found.seconds(ANNEALED, *setting)),
                _ratio(at, found.seconds(BOUND, *setting)),
                _ratio(at, found.seconds(UNLIMITED, *setting)),
            )
        )
    columns = (
        "setting",
        "published: SA-guided",
        "SA-guided",
        "annealed",
        "annealed over fair static",
        "at most, by the dual bound",
        "at most, by bandwidth",
    )
    return Cells("headline", "Times static placement's throughput", columns, rows)


def _order(found: _Rows) -> Cells:
    rows = []
    for setting in found.settings:
        bound, annealed, guided = (found.get(policy, *setting) for policy in (BOUND, ANNEALED, "sa-guided"))
        if bound and annealed and guided:
            times = [row["reproduced_s"] for row in (bound, annealed, guided)]
            rows.append(
                (
                    ", ".join([f"{setting[0]} %", *setting[1:]]),
                    *map(_s, times),
                    percent(annealed["gap"], sign=True),
                    percent(guided["gap"], sign=True),
                    "yes" if times == sorted(times) else "NO",
                )
            )
    columns = ("setting", "bound s", "annealed s", "SA-guided s", "annealed above", "SA-guided above", "in order")
    return Cells("order", "Bound, annealed and SA-guided", columns, rows)


def _variants(found: _Rows, variation: str) -> Cells:
    policies = ["static", "static-hottest", "reactive-lru", "reactive-flush", "page", "sa-guided", ANNEALED, BOUND]
    rows = []
    settings = [setting for setting in found.settings if setting[:2] == (60, variation)]
    # One alone has nothing to be compared with.
    for setting in settings if len(settings) > 1 else ():
        cells = [_s(found.seconds(policy, *setting)) for policy in policies]
        rows.append((setting[2], *cells, percent((found.get(ANNEALED, *setting) or {}).get("gap"), sign=True)))
    columns = ("variant", *policies, "annealed above bound")
    return Cells(f"variants_{variation}", f"Reproduced seconds, {variation} variation", columns, rows)


def _save(draw: Callable[[_Rows, Axes], None], found: _Rows, path: Path) -> None:
    # A figure of its own, not pyplot's: nothing of a notebook's state is touched.
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(8.0, 4.4), layout="constrained")
    ax = figure.add_subplot()
    draw(found, ax)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(axis="y", linewidth=0.5, alpha=0.5)
    ax.set_axisbelow(True)
    ax.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def _by_sparsity(found: _Rows, ax: Axes) -> None:
    sparsities = found.sparsities
    for policy, colour in _POLICIES.items():
        _line(ax, sparsities, (_over_static(found, policy, s, "reproduced_s") for s in sparsities), colour, "-", policy)
        told = [_over_static(found, policy, s, "published_s") for s in sparsities]
        _line(ax, sparsities, told, colour, ":", None)
    most = [_over_static(found, BOUND, s, "reproduced_s") for s in sparsities]
    _line(ax, sparsities, most, "black", "--", "at most (dual bound)")
    ax.plot([], [], ":", color="grey", label="published")
    ax.set_xlabel("tokens not read, %")
    ax.set_ylabel("throughput over static")


def _over_static(found: _Rows, policy: str, sparsity: int, key: str) -> float | None:
    static, row = found.get("static", sparsity), found.get(policy, sparsity)
    return static[key] / row[key] if static and row and row[key] else None


def _line(ax: Axes, x: Sequence[float], y: Iterable[float | None], colour: str, style: str, label: str | None) -> None:
    points = [(a, b) for a, b in zip(x, y, strict=True) if b is not None]
    if points:
        ax.plot(*zip(*points, strict=True), style, marker="o", markersize=3, color=colour, label=label)


def _by_variation(found: _Rows, ax: Axes) -> None:
    def over_ideal(policy: str, variation: str) -> float | None:
        ideal, row = found.get(UNLIMITED, 60, variation), found.get(policy, 60, variation)
        return row["reproduced_s"] / ideal["reproduced_s"] if ideal and row else None

    _bars(found, ax, over_ideal)
    ax.set_ylabel("decode time over ideal bandwidth")


def _hit_rates(found: _Rows, ax: Axes) -> None:
    def hits(policy: str, variation: str) -> float | None:
        row = found.get(policy, 60, variation)
        return 100 * row["kv_hit_rate"] if row else None

    _bars(found, ax, hits)
    ax.set_ylabel("KV bytes read from HBM, %")


def _bars(found: _Rows, ax: Axes, value: Callable[[str, str], float | None]) -> None:
    variations = [name for name in _VARIATIONS if found.of((60, name, _PUBLISHED))]
    policies = [p for p in _POLICIES if any(found.get(p, 60, variation) for variation in variations)]
    width = 0.8 / max(len(policies), 1)
    for k, policy in enumerate(policies):
        heights = [value(policy, variation) or 0.0 for variation in variations]
        ax.bar(
            [x + (k + 0.5) * width - 0.4 for x in range(len(heights))],
            heights,
            width,
            color=_POLICIES[policy],
            label=policy,
        )
    ax.set_xticks(range(len(variations)), [f"{name} variation" for name in variations])


_FIGURES = {
    "by_variation.png": _by_variation,
    "hit_rates.png": _hit_rates,
    "throughput_by_sparsity.png": _by_sparsity,
}
"""What draws each."""
