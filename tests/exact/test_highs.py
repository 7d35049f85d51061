"""HiGHS as a library should be: it writes nowhere unless asked, and where it is asked to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvopt.exact import export_model
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
