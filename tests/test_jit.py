"""Kernels where nothing can be kept or compiled: the same numbers, and one line of advice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest


def in_a_process(code: str, **environment: str) -> subprocess.CompletedProcess:
    """The finished run of some code; a function of it has no file, so that numba finds no place to keep it."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=600, check=True
    )


def test_a_kernel_that_cannot_be_kept_is_compiled_in_memory():
    done = in_a_process("""
        from kvopt.jit import njit
        kernels = [njit(cache=True)(lambda x: 2 * x), njit(cache=True, nogil=True)(lambda x: 3 * x)]
        print("before")
        print(*(type(kernel).__name__ for kernel in kernels), *(kernel(x) for kernel in kernels for x in (3, 2.5)))
    """)
    assert done.stdout.split() == ["before", "CPUDispatcher", "CPUDispatcher", "6", "5.0", "9", "7.5"]
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1


def test_a_disk_that_fills_costs_the_cache_alone(tmp_path):
    (tmp_path / "kept.py").write_text(
        "from kvopt.jit import njit\n@njit(cache=True)\ndef twice(x):\n    return 2 * x\n"
    )
    done = in_a_process(
        """
        import os, numba.core.caching as caching
        import kept
        def full(*arguments): raise OSError(28, "No space left on device")
        caching.IndexDataCacheFile.save = full
        print(kept.twice(3))
        """,
        PYTHONPATH=str(tmp_path),
    )
    assert done.stdout.split() == ["6"]
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1


PARTS = """
    import numpy as np
    from kvopt.jit import njit, part, piece

    @piece
    def twice(x): return 2 * x

    @part
    def doubled(row):
        out = np.empty(len(row))
        for k in range(len(row)): out[k] = twice(row[k])
        return out

    @njit()
    def called(row): return doubled(row), twice(1), twice(2)

    for _ in range(2):
        for part_of in (twice, doubled):
            try:
                part_of(np.ones(2))
            except TypeError as error:
                print(error)
        print(called(np.ones(2)))
    print(len(twice.signatures))

    @part(_nrt=False)
    def same(row): return row

    @njit()
    def returns(row): return same(row)[0]

    try:
        returns(np.ones(2))
    except Exception as error:
        print("counts no references" in str(error))
"""


def test_parts_are_called_by_kernels_alone_and_compiled_for_types(tmp_path):
    """Two specialisations, for a float and an integer, none for a constant; arrays returned need counted references."""
    (tmp_path / "parts.py").write_text(textwrap.dedent(PARTS))
    done = in_a_process("import parts", PYTHONPATH=str(tmp_path))
    refusals = [f"{name} is part of compiled kernels, and only they can call it" for name in ("twice", "doubled")]
    assert done.stdout.splitlines() == 2 * [*refusals, "(array([2., 2.]), 2, 4)"] + ["2", "True"]


SMALL = """
    import json, warnings
    import numpy as np, kvopt
    from kvopt.anneal import Schedule
    rng = np.random.default_rng(5)
    block, step = np.nonzero(rng.random((6, 5)) < 0.5)
    blocks = {"lane": np.zeros(6, int), "size_bytes": rng.integers(1, 5, 6), "write_step": np.full(6, -1)}
    trace = kvopt.Trace.from_accesses(block, step, n_steps=5, n_lanes=1, **blocks)
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200")).with_hbm_bytes(6)
    bound = kvopt.bound(instance, tolerance=0.1)
    found = [bound.value, *(kvopt.solve(instance, name).objective for name in ("lru", "belady", "look-ahead", "page"))]
    for windows in (False, True):
        how = {"schedule": Schedule(sweeps=4), "windows": windows, "refine": False}
        found.append(kvopt.solve(instance, "anneal", bound=bound, seed=3, **how).objective)
    print(json.dumps(found))
"""


def test_uncompiled_kernels_give_the_same_numbers():
    """Streams of random numbers included, which wrap around."""
    compiled, plain = (json.loads(in_a_process(SMALL, NUMBA_DISABLE_JIT=disabled).stdout) for disabled in ("0", "1"))
    assert plain == pytest.approx(compiled, rel=1e-12)
