"""What the first notebook says its pictures show."""

import json
from pathlib import Path

import numpy as np
import pytest

import kvopt

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


@pytest.mark.parametrize("method", ["static-oldest", "belady"])
def test_the_channel_that_decides_is_the_one_it_names(method):
    text = "".join("".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"])
    trace = kvopt.example_trace()
    assert "hbm_bytes = 0.25 *" in text
    hbm_bytes = 0.25 * trace.summary()["peak_live_bytes"]
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(hbm_bytes))
    found = kvopt.solve(instance, method).evaluation
    busy_s = found.load_bytes / instance.platform.bandwidth_bytes_per_s[:, None]
    decides = np.bincount(busy_s.argmax(axis=0), weights=found.slot_s, minlength=len(busy_s)) / found.latency_s
    channel = instance.platform.channels[int(decides.argmax())].name
    assert decides.max() > 0.99
    assert f"In both pictures that is `{channel}`" in text
