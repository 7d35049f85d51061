"""A run of a study in a few lines, for the terminal."""

from __future__ import annotations

from kvopt.describe import aligned
from kvopt.studies.engine import ANNEALED, BOUND, StudyRun
from kvopt.units import percent, seconds_text


def summary_lines(found: StudyRun) -> list[str]:
    """A line a setting: what is certified, what was achieved at best, and by the best policy; then the files."""
    rows = [("setting", "certified", "annealed", "above", "best policy", "", "above")]
    for setting in dict.fromkeys(row["setting"] for row in found.rows):
        of = {row["policy"]: row for row in found.rows if row["setting"] == setting}
        policies = [row for policy, row in of.items() if row["feasible"] and policy != ANNEALED]
        best = min(policies, key=lambda row: row["reproduced_s"], default=None)
        bound, annealed = of.get(BOUND), of.get(ANNEALED)
        rows.append(
            (
                setting,
                f">= {seconds_text(bound['reproduced_s'])}" if bound else "-",
                f"<= {seconds_text(annealed['reproduced_s'])}" if annealed else "-",
                percent(annealed["gap"], sign=True) if annealed else "-",
                best["policy"] if best else "-",
                f"<= {seconds_text(best['reproduced_s'])}" if best else "-",
                percent(best["gap"], sign=True) if best else "-",
            )
        )
    return [*aligned(rows, (0, 4)), f"{len(found.rows)} rows", *(str(file) for file in found.files)]
