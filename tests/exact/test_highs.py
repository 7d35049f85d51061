"""HiGHS as a library should be: it writes nowhere unless asked, and where it is asked to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kvopt
from kvopt.exact import export_model
from kvopt.sources.synthetic import drifting
from tests.models.test_placement import two_blocks

_SOLVE_AND_WRITE = """
import sys
import kvopt
from kvopt.exact import lp_bound
from tests.models.test_placement import two_blocks
instance = two_blocks("exclusive", "explicit")
for backend in ("arrays", "pyomo"):
    kvopt.solve(instance, "exact", backend=backend)
    kvopt.export_model(instance, f"{sys.argv[1]}/{backend}.lp", backend=backend)
lp_bound(instance)
"""


@pytest.mark.parametrize("backend", ["arrays", "pyomo"])
@pytest.mark.parametrize("copies", ["exclusive", "inclusive"])
def test_where_nothing_is_left_to_decide_the_value_is_proved(backend, copies):
    """Without integer columns it is a linear program to HiGHS, whose bound as a mixed-integer one is 0."""
    trace = drifting(6, 4, n_lanes=2, read_share=0.4, seed=2, size_bytes=1024)
    instance = kvopt.Instance(trace, "gh200", {"copies": copies}).with_hbm_bytes(0)
    found = kvopt.solve(instance, "exact", backend=backend)
    assert found.termination is kvopt.Termination.OPTIMAL
    assert found.bound.value == pytest.approx(found.objective, rel=1e-9)
    assert found.details["runs"] == 1


def test_standard_output_stays_empty(tmp_path):
    """The first use in a process counts, and what C++ writes: so in a process of its own, at its file descriptor."""
    command = [sys.executable, "-c", _SOLVE_AND_WRITE, tmp_path]
    done = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2], check=True)
    assert done.stdout == b""
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are text there")
@pytest.mark.parametrize("backend", ["arrays", "pyomo"])
def test_a_folder_whose_name_is_text_in_no_encoding(backend, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    made = export_model(two_blocks("exclusive", "explicit"), folder / "model.lp", backend=backend)
    assert made.path.read_text("ascii").startswith("\\ kvopt")
