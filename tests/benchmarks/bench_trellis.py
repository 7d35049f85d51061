"""Cost of one evaluation of the dual by run, on the embedded trace: ``python -m tests.benchmarks.bench_trellis``.

One thread, processor time, kernels compiled beforehand; best of several, all taken in turns. Two tiers and three
exclusive ones (a device with its own channel below the two): by run, beside the step-by-step dynamic programming of the
certificate's check, and three states over two. At the end the elapsed time of traces of a single lane, whose blocks two
threads share, over that of one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

import kvopt
from kvopt.bounds.aggregate import slotwise_prices
from kvopt.lowering import Lowered, lower, unit_per_byte
from kvopt.result import Certificate
from kvopt.sources.published import recent_and_scattered
from kvopt.trellis import Trellis, hard_minimum, soft_minimum


def main() -> None:
    trace = kvopt.example_trace()
    peak = trace.summary()["peak_live_bytes"]
    two = kvopt.Platform.preset("gh200").with_capacity(0.25 * peak)
    device = kvopt.Tier("device", np.inf, {"device": 1.0}, {"device": 1.0})
    three = replace(
        two,
        tiers=(*two.tiers[:1], replace(two.tiers[1], capacity_bytes=0.5 * peak), device),
        channels=(*two.channels, kvopt.Channel("device", 20e9)),
    )
    found = best({(n, name): work for n, p in ((2, two), (3, three)) for name, work in works(trace, p).items()})
    print(f"{trace.n_blocks} blocks, {trace.n_slots} slots, {trace.n_runs} runs")
    for (n, name), took in found.items():
        slow, ratio = found[n, "step by step (verify)"] / took, took / found[2, name]
        print(
            f"S = {n} {name:26} {1e3 * took:8.1f} ms {1e9 * took / trace.n_runs:8.1f} ns a run "
            f"{slow:8.1f}x verify {ratio:6.2f} of S = 2"
        )
    for n in (2, 3):
        print(f"S = {n} soft over hard {found[n, 'soft minimum and gradient'] / found[n, 'hard minimum']:.2f}")
    of_two_threads()


def of_two_threads() -> None:
    """A lane of few runs a step, and one of many."""
    log = kvopt.instances.make("request-log", accesses=4e5, seed=0)
    many = recent_and_scattered(4000, 4000, read_share=0.4, swap_share=0.05, seed=0)
    room = 0.4 * many.summary()["peak_live_bytes"]
    dense = kvopt.Instance(many, kvopt.Platform.preset("gh200").with_capacity(room))
    for instance in (log, dense):
        low = lower(instance)
        took = best({threads: soft_work(low, threads) for threads in (1, 2)}, clock=time.perf_counter)
        runs = instance.trace.n_runs
        print(
            f"one lane, {runs} runs, {runs / instance.trace.n_steps:.1f} a step: soft minimum and gradient "
            f"{1e3 * took[2]:.1f} ms with two threads, {took[1] / took[2]:.2f} times as fast as with one"
        )


def soft_work(low: Lowered, threads: int) -> Callable[[], object]:
    """A soft evaluation."""
    lam, mu, unit = multipliers(low)
    trellis = Trellis(low, threads=threads)
    return lambda: soft_minimum(trellis, trellis.prices(lam, mu), 0.05 * unit)


def works(trace: kvopt.Trace, platform: kvopt.Platform) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    instance = kvopt.Instance(trace, platform)
    low = lower(instance)
    trellis = Trellis(low, threads=1)
    lam, mu, unit = multipliers(low)
    prices = trellis.prices(lam, mu)
    return {
        "hard minimum": lambda: hard_minimum(trellis, prices),
        "soft minimum and gradient": lambda: soft_minimum(trellis, prices, 0.05 * unit),
        "step by step (verify)": lambda: kvopt.verify(instance, Certificate(lam, mu)),
    }


def multipliers(low: Lowered) -> tuple[np.ndarray, np.ndarray, float]:
    """(prices of channels, prices of capacity, their unit) in the midst of an ascent's."""
    lam = slotwise_prices(low)[1] + 0.02
    lam /= lam.sum(axis=0)
    unit = unit_per_byte(low)
    mu = np.zeros((low.n_tiers, low.n_slots))
    mu[:-1] = 0.01 * unit
    return lam, mu, unit


def best(
    works: dict[object, Callable[[], object]], repeats: int = 7, clock: Callable[[], float] = time.process_time
) -> dict[object, float]:
    """Least time of each after one call that is not counted, in turns so that all meet the same machine."""
    found = dict.fromkeys(works, np.inf)
    for repeat in range(repeats + 1):
        for name, work in works.items():
            began = clock()
            work()
            if repeat:
                found[name] = min(found[name], clock() - began)
    return found


if __name__ == "__main__":
    main()
