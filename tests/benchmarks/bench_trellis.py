"""Cost of one evaluation of the dual by run, on the embedded trace: ``python -m tests.benchmarks.bench_trellis``.

One thread, processor time, kernels compiled beforehand. The ratio is the soft minimum with its gradient over the hard
minimum, and each of them over the slot-by-slot dynamic programming of the certificate's check.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import kvopt
from kvopt.bounds.aggregate import slotwise_prices
from kvopt.lowering import lower
from kvopt.result import Certificate
from kvopt.trellis import Trellis, hard_minimum, soft_minimum


def main() -> None:
    trace = kvopt.example_trace()
    peak = trace.summary()["peak_live_bytes"]
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200")).with_hbm_bytes(0.25 * peak)
    low = lower(instance)
    trellis = Trellis(low, threads=1)
    lam = slotwise_prices(low)[1] + 0.02
    lam /= lam.sum(axis=0)
    unit = float(low.op_s_per_byte.max())
    mu = np.zeros((2, low.n_slots))
    mu[0] = 0.01 * unit
    prices = trellis.prices(lam, mu)
    hard = seconds(lambda: hard_minimum(trellis, prices))
    soft = seconds(lambda: soft_minimum(trellis, prices, 0.05 * unit))
    slow = seconds(lambda: kvopt.verify(instance, Certificate(lam, mu)))
    print(f"{trace.n_blocks} blocks, {trace.n_slots} slots, {trace.n_runs} runs")
    for name, took in (("hard minimum", hard), ("soft minimum and gradient", soft), ("slot by slot (verify)", slow)):
        print(f"{name:26} {1e3 * took:8.1f} ms {1e9 * took / trace.n_runs:8.1f} ns a run {slow / took:8.1f}x verify")
    print(f"soft over hard {soft / hard:.2f}")


def seconds(work: Callable[[], object], repeats: int = 7) -> float:
    """Median processor time of a call after one that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return float(np.median(taken))


if __name__ == "__main__":
    main()
