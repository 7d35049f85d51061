"""The embedded example: a trace of a trained decoder's own attention, and the code that made it.

``python_decoder.parquet`` is the trace, ``python_decoder.json`` says how it was made, and
``python -m kvopt.sources.embedded.make`` makes another one; only that command needs PyTorch.
"""

from __future__ import annotations

from pathlib import Path

from kvopt.trace import Trace
from kvopt.trace_io import load_trace


def example_trace() -> Trace:
    """The embedded trace: attention of a decoder trained on Python sources, captured while it decoded.

    Returns
    -------
    Trace
        One block a token and layer; see its ``provenance`` for the model, its loss, seed and date.
    """
    return load_trace(Path(__file__).with_name("python_decoder.parquet"))
