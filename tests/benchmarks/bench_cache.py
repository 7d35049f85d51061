"""A plain cache beside libCacheSim's: ``python -m tests.benchmarks.bench_cache [--accesses N] [--json F]``.

Both simulate the same stream of requests, block after block in each slot, those that it reads and those that it writes,
on one thread, in processor time. libCacheSim reads it in its binary format from a file that is in memory, kvopt takes a
``Trace``; best of several rounds, kernels compiled beforehand. Hits must be equal: blocks of one byte, all admitted,
none freed. The last rows make placements instead (``simulate``), which is more than counting. Needs the package
``libcachesim``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import kvopt
from kvopt import policies
from kvopt.sources.synthetic import drifting
from tests.benchmarks.plan import SKIPPED

_RECORD = np.dtype([("time", "<u4"), ("block", "<u8"), ("size", "<u4"), ("next", "<i8")])
_SHARES = (0.05, 0.15, 0.3, 0.6)
_POLICIES = {"lru": "LRU", "belady": "Belady"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accesses", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    given = parser.parse_args()
    try:
        import libcachesim
    except ImportError as error:
        print(f"skipped: libcachesim is not to be had ({error}); pip install 'kvopt[bench]'")
        sys.exit(SKIPPED)
    trace = trace_of(given.accesses)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.oracleGeneral"
        records(trace).tofile(path)
        print(
            f"{trace.n_block_requests:,} requests, {trace.n_runs:,} runs, {trace.n_blocks:,} blocks, "
            f"{trace.n_slots} slots"
        )
        print("in requests a second:")
        print(f"{'policy':8} {'blocks':>8} {'hits':>12} {'libcachesim':>12} {'kvopt':>12} {'ratio':>7}")
        for policy, name in _POLICIES.items():
            for share in _SHARES:
                room = int(share * trace.n_blocks)
                rows.append(row(trace, policy, room, path, libcachesim, name, given.rounds))
    row_of_placements(trace)
    if given.json:
        Path(given.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if any(one["hits"] != one["libcachesim_hits"] for one in rows):
        sys.exit("hits differ")


def trace_of(accesses: int) -> kvopt.Trace:
    """A drifting trace of about so many accesses in 8 lanes.

    A step reads about a sixth of a lane's blocks, each for about 20 steps on end, as in the published traces.
    """
    tokens = max(int((accesses / 8) ** 0.5), 16)
    return drifting(2 * tokens, 2 * tokens, n_lanes=8, read_share=1 / 6, drift=0.05, seed=0)


def records(trace: kvopt.Trace) -> np.ndarray:
    """Every request in order, with that of the same block's next one: libCacheSim's ``oracleGeneral``."""
    length = (trace.run_stop - trace.run_start).astype(np.int64)
    read = np.repeat(trace.run_block, length)
    step = np.arange(len(read)) - np.repeat(np.cumsum(length) - length - trace.run_start, length)
    born = np.flatnonzero(trace.write_step >= 0)
    # What a step both reads and writes it asks for once.
    key = np.concatenate([read * trace.n_steps + step, born * trace.n_steps + trace.write_step[born]])
    block, step = np.divmod(np.unique(key), trace.n_steps)
    order = np.lexsort((block, step * trace.n_lanes + trace.lane[block]))
    place = np.empty(len(block), np.int64)
    place[order] = np.arange(len(block))
    # Requests for a block lie in a row, so the next one of a block is the next one, unless it is another block's.
    following = np.full(len(block), np.iinfo(np.int64).max)
    same = block[1:] == block[:-1]
    following[:-1][same] = place[1:][same] + 1
    found = np.zeros(len(block), _RECORD)
    found["block"], found["size"], found["next"] = block[order] + 1, 1, following[order]
    return found


def row(trace, policy: str, room: int, path: Path, libcachesim, name: str, rounds: int) -> dict:
    """Measure and print one policy at one capacity."""
    policies.hits(trace.window((0, 2)), room, policy)
    ours, theirs = [], []
    for _ in range(rounds):
        began = time.process_time()
        hits = policies.hits(trace, room, policy)
        ours.append(time.process_time() - began)
        reader = libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
        cache = getattr(libcachesim, name)(room)
        began = time.process_time()
        missed, _ = cache.process_trace(reader)
        theirs.append(time.process_time() - began)
    n = trace.n_block_requests
    found = {
        "policy": policy,
        "capacity_blocks": room,
        "hits": hits,
        "libcachesim_hits": round((1 - missed) * n),
        "libcachesim_accesses_per_s": n / min(theirs),
        "kvopt_accesses_per_s": n / min(ours),
    }
    found["ratio"] = found["kvopt_accesses_per_s"] / found["libcachesim_accesses_per_s"]
    equal = "" if hits == found["libcachesim_hits"] else f"  DIFFERENT: {found['libcachesim_hits']:,}"
    print(
        f"{policy:8} {room:8,} {hits:12,} {found['libcachesim_accesses_per_s']:12,.0f} "
        f"{found['kvopt_accesses_per_s']:12,.0f} {found['ratio']:6.1f}x{equal}",
        flush=True,
    )
    return found


def row_of_placements(trace: kvopt.Trace) -> None:
    """Accesses a second of whole placements."""
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200"))
    instance = instance.with_hbm_bytes(_SHARES[2] * trace.size_bytes.sum())
    for name in policies.names():
        policies.simulate(kvopt.Instance(trace.window((0, 2)), instance.platform), policies.get(name))
        began = time.process_time()
        policies.simulate(instance, policies.get(name))
        took = time.process_time() - began
        print(f"placement by {name:16} {trace.n_accesses / took:14,.0f} accesses a second")


if __name__ == "__main__":
    main()
