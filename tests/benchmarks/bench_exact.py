"""Pyomo against arrays on the exact model: ``python -m tests.benchmarks.bench_exact [columns ...]``.

Both hand HiGHS the same program, so only the time to build it differs; ``kvopt.exact.solver.PYOMO_COLUMNS`` is read
off this table. The column "of solve" is what Pyomo's build takes of HiGHS's time: a page to read must not cost more
than :data:`MOST_OF_SOLVE` times solving what it says, and the largest size says so when it does.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import kvopt
from kvopt.exact import Backend, column_count, solve_exact
from kvopt.exact.solver import PYOMO_COLUMNS
from kvopt.result import Termination

COLUMNS = (2_000, PYOMO_COLUMNS, 10_000, 50_000, 200_000)
MOST_OF_SOLVE = 2.0
_N_STEPS = 40
_BLOCK_BYTES = 2**20


def dram_bound_instance(columns: int, seed: int = 0) -> kvopt.Instance:
    """About so many columns: uniform blocks in one lane, half of them prefilled, and HBM for a twentieth of them.

    A tenth of the blocks alive is read in each step; a block's chance of being read keeps for eight steps.
    """
    rng = np.random.default_rng(seed)
    n_blocks = round(columns / (4 * 0.75 * _N_STEPS))
    write_step = np.where(rng.random(n_blocks) < 0.5, -1, rng.integers(0, _N_STEPS, n_blocks))
    block, step = [], []
    for n in range(_N_STEPS):
        if n % 8 == 0:
            heat = rng.random(n_blocks) ** 6
        alive = np.flatnonzero(write_step <= n)
        read = rng.choice(alive, max(len(alive) // 10, 1), replace=False, p=heat[alive] / heat[alive].sum())
        block.append(read)
        step.append(np.full(len(read), n))
    trace = kvopt.Trace.from_accesses(
        np.concatenate(block),
        np.concatenate(step),
        n_steps=_N_STEPS,
        n_lanes=1,
        lane=np.zeros(n_blocks, int),
        size_bytes=np.full(n_blocks, _BLOCK_BYTES),
        write_step=write_step,
    )
    hbm_bytes = max(n_blocks // 20, 1) * _BLOCK_BYTES
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200")).with_hbm_bytes(hbm_bytes)


def main(columns: list[int]) -> None:
    """Print one line a size."""
    import kvopt.exact.pyomo_driver  # noqa: F401  # Pyomo's import, about a second, is not what is measured.

    print(
        f"{'columns':>9} {'build s: pyomo':>15} {'arrays':>8} {'ratio':>6} {'solve s: pyomo':>15} {'arrays':>8} "
        f"{'of solve':>9}  result"
    )
    differ = False
    for wanted in columns:
        instance = dram_bound_instance(wanted)
        results = {}
        for backend in (Backend.PYOMO, Backend.ARRAYS):
            results[backend] = solve_exact(instance, backend=backend, time_limit_s=300.0)
        pyomo, arrays = (results[b].details for b in (Backend.PYOMO, Backend.ARRAYS))
        same = np.isclose(results[Backend.PYOMO].objective, results[Backend.ARRAYS].objective, rtol=1e-9, atol=0.0)
        differ |= not same and all(one.termination is Termination.OPTIMAL for one in results.values())
        of_solve = pyomo["build_s"] / pyomo["solve_s"]
        missed = wanted == COLUMNS[-1] and of_solve > MOST_OF_SOLVE
        print(
            f"{column_count(instance):9,} {pyomo['build_s']:15.3f} {arrays['build_s']:8.3f} "
            f"{pyomo['build_s'] / arrays['build_s']:6.0f} {pyomo['solve_s']:15.3f} {arrays['solve_s']:8.3f} "
            f"{of_solve:9.2f}  {results[Backend.ARRAYS].termination.value}, {'equal' if same else 'DIFFERENT'}"
            f"{f', MORE THAN {MOST_OF_SOLVE:g} times solving' if missed else ''}",
            flush=True,
        )
    if differ:
        sys.exit("the two programs have different optima")


if __name__ == "__main__":
    began = time.perf_counter()
    main([int(a) for a in sys.argv[1:]] or list(COLUMNS))
    print(f"{time.perf_counter() - began:.0f} s in all")
