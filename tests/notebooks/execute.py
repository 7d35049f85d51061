"""``python -m tests.notebooks.execute``: run every notebook from top to bottom and fail if a cell does.

What a notebook prints is thrown away: in the repository notebooks carry no outputs, which is checked as well.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
_CELL_TIMEOUT_S = 600


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in a kernel of its own.

    Parameters
    ----------
    path : Path

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        When a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    # The kernel of this very interpreter, whatever kernel specifications the machine has.
    client = NotebookClient(notebook, timeout=_CELL_TIMEOUT_S, resources={"metadata": {"path": str(path.parent)}})
    client.create_kernel_manager()
    launch = ["-m", "ipykernel_launcher", "--log-level=40", "-f", "{connection_file}"]
    client.km.kernel_spec.argv = [sys.executable, *launch]
    return client.execute()


def outputs_left(path: Path) -> list[int]:
    """Numbers of the cells that carry outputs or a count of executions."""
    cells = nbformat.read(path, as_version=4).cells
    return [n for n, c in enumerate(cells) if c.cell_type == "code" and (c.outputs or c.execution_count is not None)]


def main() -> int:
    """Check and run all notebooks; the number of those that carry outputs."""
    dirty = 0
    for path in sorted(FOLDER.glob("*.ipynb")):
        began = time.perf_counter()
        execute(path)
        print(f"{path.name}: ran in {time.perf_counter() - began:.0f} s")
        cells = outputs_left(path)
        if cells:
            print(f"{path.name}: cells {cells} carry outputs; strip them", file=sys.stderr)
            dirty += 1
    return dirty


if __name__ == "__main__":
    sys.exit(main())
