"""The published study: its cost model from published numbers alone, and its settings."""

from __future__ import annotations

import numpy as np
import pytest

import kvopt
from kvopt import studies
from kvopt.studies.fang2025 import _BY_SPARSITY, _VARIANTS, LAYERS, STUDY, WEIGHT_BYTES_PER_SLOT, _trace

HUNDREDTH = STUDY.scales["hundredth"]
SETTINGS = STUDY.settings(HUNDREDTH)


def by_formula(sparsity: int, prompt_tokens: int = 31_299) -> float:
    """All bytes over all bandwidth."""
    read = np.ceil((1 - sparsity / 100) * (prompt_tokens + 1 + np.arange(10_239)) - 1e-9)
    return LAYERS * float((WEIGHT_BYTES_PER_SLOT + 16_384 * read).sum()) / (4.9e12 + 450e9)


@pytest.mark.parametrize("sparsity", [40, 50, 60])
def test_ideal_times_are_the_published_ones(sparsity):
    """At the published size, of one layer, times the layers, as all read as many tokens."""
    trace = _trace(_VARIANTS["published"], sparsity / 100, "middle", 1.0, 0, layers=1)
    rules = kvopt.Rules("inclusive", "read-through", "balanced")
    instance = kvopt.Instance(
        trace, kvopt.Platform.preset("fang2025"), rules, weight_bytes_per_slot=WEIGHT_BYTES_PER_SLOT
    )
    ideal_s = LAYERS * kvopt.bound(instance, method="aggregate").value_s
    assert ideal_s == pytest.approx(_BY_SPARSITY[sparsity][-1], rel=1e-3)
    assert ideal_s == pytest.approx(by_formula(sparsity), rel=1e-4)


@pytest.mark.parametrize(("sparsity", "above"), [(80, 0.0236), (85, 0.0403), (90, 0.0148)])
def test_ideal_times_at_high_sparsity_are_not_and_by_how_much(sparsity, above):
    assert by_formula(sparsity) / _BY_SPARSITY[sparsity][-1] - 1 == pytest.approx(above, abs=2e-4)


@pytest.mark.parametrize(("sparsity", "prompt_tokens"), [(80, 29_315), (90, 29_315), (85, 27_319)])
def test_ideal_times_at_high_sparsity_would_be_those_of_shorter_prompts(sparsity, prompt_tokens):
    assert by_formula(sparsity, prompt_tokens) == pytest.approx(_BY_SPARSITY[sparsity][-1], rel=1e-4)


def test_it_is_registered_with_its_paper():
    assert studies.get("fang2025") is STUDY
    assert "arXiv 2508.13231" in STUDY.reference
    assert set(STUDY.scales) == {"full", "tenth", "hundredth"}


def test_settings_have_names_of_their_own_and_published_numbers_where_there_are():
    assert len({setting.key for setting in SETTINGS}) == len(SETTINGS)
    by_key = {setting.key: setting for setting in SETTINGS}
    low = {method.policy: method.published_s for method in by_key["60 %, low"].methods}
    assert low["static"] == 165.315
    assert low["reactive-lru"] == low["reactive-flush"] == 89.113
    assert low["sa-guided"] == 24.932
    assert by_key["60 %, low"].ideal_published_s == 24.592
    changed = by_key["60 %, high, exclusive"]
    assert changed.ideal_published_s is None
    assert all(method.published_s is None for method in changed.methods)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_a_scale_keeps_the_ratios(setting):
    instance = STUDY.instance(setting, HUNDREDTH, 0)
    trace, variant = instance.trace, _VARIANTS[setting.labels["variant"]]
    assert instance.rules == variant.rules
    assert instance.capacity_bytes[0] % trace.size_bytes[0] == 0
    if variant.workload == "captured":
        return
    read = (1 - setting.labels["sparsity"] / 100) * (31_299 + 10_239 / 2) * variant.token_bytes * variant.batch
    shares = np.array(
        [
            trace.n_steps / 10_239,
            trace.n_blocks / (32 * (31_299 + 10_239)),
            trace.summary()["mean_read_bytes_per_slot"] / read,
            instance.capacity_bytes[0] / variant.hbm_bytes,
            instance.weight_bytes_per_slot / 162.9e6,
        ]
    )
    np.testing.assert_allclose(shares, 0.01, rtol=0.02)
