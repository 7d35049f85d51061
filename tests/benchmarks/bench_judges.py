"""Time and memory of the judges as traces grow: ``python -m tests.benchmarks.bench_judges [RUNS ...]``.

Traces of the published shape, 32 lanes and 150 runs a block, at a hundred thousand to ten million runs unless given;
2e8 runs are 1.3 million blocks over 10,239 steps. Steps and blocks grow alike until there are 10,239 steps, then blocks
alone. A quarter as many intervals are placed at random. Each size runs in a process of its own; memory is the most that
a judge had at a time beside the trace and the placement. The last lines are exponents fitted over all sizes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import kvopt
from kvopt.bounds import verify
from kvopt.result import Certificate

LANES, RUNS_A_BLOCK, MOST_STEPS, FULL_RUNS = 32, 150, 10_239, 2e8
SIZES = (1e5, 1e6, 1e7)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", type=float, default=SIZES)
    sizes = parser.parse_args(arguments).runs
    context = multiprocessing.get_context("spawn")
    points = []
    print(f"{'runs':>12} {'intervals':>12} {'blocks':>10} {'steps':>7}  judge         seconds      GB")
    for runs in sizes:
        with context.Pool(1) as pool:
            counts, found = pool.apply(measured, (runs,))
        points.append((counts[0], found))
        for name, (took, most) in found.items():
            print("{:12,} {:12,} {:10,} {:7,}".format(*counts), f" {name:12} {took:8.2f} {most:7.2f}", flush=True)
    for name in points[0][1] if len(points) > 1 else ():
        took = [found[name][0] for _, found in points]
        exponent = np.polyfit(np.log([runs for runs, _ in points]), np.log(took), 1)[0]
        print(f"{name:12} time grows as runs^{exponent:.2f}")


def measured(runs: float) -> tuple[tuple[int, int, int, int], dict[str, tuple[float, float]]]:
    """(runs, intervals, blocks, steps), and by judge seconds and GB, at about so many runs."""
    trace = random_trace(runs)
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(1e12))
    placement = random_placement(instance)
    certificate = random_certificate(instance)
    judges = {
        "verify": lambda: verify(instance, certificate),
        "evaluate": lambda: kvopt.evaluate(instance, placement),
        "violations": lambda: placement.violations(instance),
    }
    counts = (trace.n_runs, placement.n_intervals, trace.n_blocks, trace.n_steps)
    return counts, {name: _timed(judge) for name, judge in judges.items()}


def random_trace(runs: float) -> kvopt.Trace:
    """Three quarters of each lane's blocks from prefill, the others written on the way; nothing is freed."""
    rng = np.random.default_rng(0)
    n_steps = min(MOST_STEPS, max(4 * RUNS_A_BLOCK, int(MOST_STEPS * (runs / FULL_RUNS) ** 0.5)))
    a_lane = max(int(runs / RUNS_A_BLOCK / LANES), 1)
    written = np.sort(rng.integers(0, n_steps, a_lane // 4))
    write_step = np.tile(np.append(np.full(a_lane - len(written), -1), written), LANES)
    begins = np.maximum(write_step, 0)
    ptr, start, stop = _stretches(rng, begins, n_steps - begins, RUNS_A_BLOCK, np.int32)
    return kvopt.Trace(
        n_steps,
        LANES,
        np.repeat(np.arange(LANES), a_lane),
        np.full(len(write_step), 4096),
        write_step,
        np.full(len(write_step), n_steps),
        ptr,
        start,
        stop,
    )


def random_placement(instance: kvopt.Instance) -> kvopt.Placement:
    """A quarter as many intervals as runs, at random in the blocks' lives; capacity is not looked at."""
    birth = instance.birth_slot
    life = instance.death_slot - birth
    found = _stretches(np.random.default_rng(1), birth, life, RUNS_A_BLOCK // 4, np.int64)
    return kvopt.Placement(*found)


def random_certificate(instance: kvopt.Instance) -> Certificate:
    """Channel prices at random, and small ones on the fast tier."""
    rng = np.random.default_rng(2)
    lam = rng.dirichlet(np.ones(len(instance.platform.channels)), instance.n_slots).T
    mu = np.zeros((len(instance.platform.tiers), instance.n_slots))
    mu[0] = rng.random(instance.n_slots) * 1e-20
    return Certificate(lam, mu)


def _stretches(rng: np.random.Generator, begins: np.ndarray, life: np.ndarray, most: int, dtype: type):
    """(ptr, start, stop) of at most so many disjoint stretches a life, each in a cell of its own."""
    count = np.minimum(most, np.maximum(life // 4, 1))
    ptr = np.concatenate([[0], np.cumsum(count)])
    start, stop = np.empty(ptr[-1], dtype), np.empty(ptr[-1], dtype)
    for blocks in np.array_split(np.arange(len(life)), max(int(ptr[-1]) >> 22, 1)):
        part, n = slice(ptr[blocks[0]], ptr[blocks[-1] + 1]), count[blocks]
        k = np.arange(part.start, part.stop) - np.repeat(ptr[blocks], n)
        cell = np.repeat(life[blocks] / n, n)
        low, high = np.floor(k * cell), np.floor((k + 1) * cell)
        length = np.maximum(1, np.floor((high - low) * 0.4 * rng.random(len(k))))
        start[part] = low + np.floor(rng.random(len(k)) * (high - low - length)) + np.repeat(begins[blocks], n)
        stop[part] = start[part] + length
    start.setflags(write=False)
    stop.setflags(write=False)
    return ptr, start, stop


def _timed(judge: Callable[[], object]) -> tuple[float, float]:
    """(seconds, GB more than before at the peak)."""
    before, most, done = _resident_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.01):
            most = max(most, _resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    judge()
    took = time.perf_counter() - began
    done.set()
    watcher.join()
    return took, max(most - before, 0) / 1e9


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
