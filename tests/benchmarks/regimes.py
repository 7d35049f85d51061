"""The instances that benchmarks share: three regimes of one synthetic trace, at a stated number of columns."""

from __future__ import annotations

from kvopt import Instance, Platform, Rules
from kvopt.sources.synthetic import drifting

HBM_SHARES = {"backing-bound": 0.10, "knee": 0.18, "balanced": 0.30}
"""Share of the peak live bytes that fits in the fast tier, while each step reads 0.2 of them."""


def regime(name: str, columns: int, *, rules: Rules | None = None, n_lanes: int = 2, seed: int = 0) -> Instance:
    """An instance whose exact model has about that many columns.

    Parameters
    ----------
    name : str
        A key of ``HBM_SHARES``.
    columns : int
    rules : Rules, optional
    n_lanes : int
    seed : int
    """
    rules = rules or Rules()
    n_steps = 40
    slots = n_steps * n_lanes
    per_cell = 2 if rules.inclusive else 4
    tokens = max(columns // (per_cell * slots * n_lanes) - n_steps // 2, 4)
    trace = drifting(tokens, n_steps, n_lanes=n_lanes, read_share=0.2, drift=0.2, skew=0.5, seed=seed)
    hbm = HBM_SHARES[name] * trace.summary()["peak_live_bytes"]
    return Instance(trace, Platform.preset("gh200"), rules).with_hbm_bytes(hbm)
