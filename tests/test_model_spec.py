"""Models: published parameter counts, bytes of KV cache and weights, bad specs, instances made from specs."""

import re
from itertools import combinations, product
from math import comb

import numpy as np
import pytest

from kvopt import Instance, Platform, Rules, Trace, model_spec
from kvopt.errors import InstanceError, ModelError
from kvopt.model_spec import Latent, ModelSpec, Moe

PUBLISHED_PARAMETERS = {
    "deepseek-v3": 671e9,
    "gpt3-175b": 175e9,
    "llama-2-70b": 68.98e9,
    "llama-2-7b": 6.74e9,
    "llama-3.1-405b": 405.9e9,
    "llama-3.1-70b": 70.6e9,
    "llama-3.1-8b": 8.03e9,
    "mixtral-8x22b": 141e9,
    "mixtral-8x7b": 46.7e9,
    "qwen3-235b-a22b": 235e9,
    "qwen3-32b": 32.8e9,
    "qwen3-8b": 8.2e9,
}
KV_BYTES = {
    "deepseek-v3": 576 * 2,
    "gpt3-175b": 2 * 96 * 128 * 2,
    "llama-2-70b": 4096,
    "llama-2-7b": 2 * 32 * 128 * 2,
    "llama-3.1-405b": 4096,
    "llama-3.1-70b": 4096,
    "llama-3.1-8b": 2 * 8 * 128 * 2,
    "mixtral-8x22b": 4096,
    "mixtral-8x7b": 4096,
    "qwen3-235b-a22b": 2 * 4 * 128 * 2,
    "qwen3-32b": 4096,
    "qwen3-8b": 4096,
}
SMALL = {
    "name": "small",
    "layers": 2,
    "hidden_size": 64,
    "attention_heads": 4,
    "kv_heads": 2,
    "head_size": 16,
    "vocabulary": 100,
    "intermediate_size": 128,
}

GOOD = """
name = "mine"
source = "config.json"
layers = 2
hidden_size = 64
attention_heads = 4
kv_heads = 2
head_size = 16
vocabulary = 100
intermediate_size = 128

[bits]
weights = 16
kv = 8
source = "a choice"

[moe]
experts = 4
active_experts = 2
intermediate_size = 32
source = "config.json"
"""


def small(**changes) -> ModelSpec:
    return ModelSpec(**{**SMALL, **changes})


def trace(n_lanes: int = 2) -> Trace:
    """One block a lane, read in both steps."""
    block, step = np.repeat(np.arange(n_lanes), 2), np.tile([0, 1], n_lanes)
    return Trace.from_accesses(
        block,
        step,
        n_steps=2,
        n_lanes=n_lanes,
        lane=np.arange(n_lanes),
        size_bytes=np.ones(n_lanes, np.int64),
        write_step=np.full(n_lanes, -1),
    )


@pytest.mark.parametrize("name", model_spec.names())
def test_parameters_are_those_published(name):
    assert ModelSpec.preset(name).parameters == pytest.approx(PUBLISHED_PARAMETERS[name], rel=0.005)


@pytest.mark.parametrize("name", model_spec.names())
def test_kv_bytes_by_token_and_layer(name):
    found = ModelSpec.preset(name).kv_bytes_per_token_layer()
    assert found == KV_BYTES[name]
    assert isinstance(found, int)


def test_the_active_parameters_of_mixtures_are_those_published():
    """Read for one token: the layers' share, plus embeddings and head as the publications count them."""
    for name, published in (("mixtral-8x7b", 12.9e9), ("deepseek-v3", 37e9), ("qwen3-235b-a22b", 22e9)):
        model = ModelSpec.preset(name)
        active = model.layers * model.weight_bytes_read_per_layer(weight_bits=8)
        active += 2 * model.vocabulary * model.hidden_size
        assert active == pytest.approx(published, rel=0.02), name


def test_weights_of_a_small_model_counted_by_hand():
    attention = 64 * 64 + 2 * 64 * 32 + 64 * 64
    layer = attention + 3 * 64 * 128
    assert small().parameters == 2 * layer + 2 * 100 * 64
    assert small(tied_embeddings=True, positions=10).parameters == 2 * layer + 100 * 64 + 10 * 64
    assert small(mlp_matrices=2).parameters == small().parameters - 2 * 64 * 128
    assert small().weight_bytes() == 2 * small().parameters
    assert small().weight_bytes(4) == small().parameters / 2
    assert small().weight_bytes_per_layer(8) == small().weight_bytes_read_per_layer(7, 8) == layer
    sparse = small(moe=Moe(experts=4, active_experts=1, intermediate_size=32, shared_experts=1, dense_layers=1))
    layers = layer + attention + 64 * 4 + 5 * 3 * 64 * 32
    assert sparse.weight_bytes_per_layer(8) * 2 == layers
    assert sparse.weight_bytes_read_per_layer(1, 8) * 2 == layers - 3 * 3 * 64 * 32
    assert sparse.weight_bytes_read_per_layer(10_000, 8) == pytest.approx(layers / 2)


@pytest.mark.parametrize(("experts", "active", "batch"), [(4, 2, 1), (4, 2, 3), (5, 1, 4), (3, 3, 2), (6, 2, 2)])
def test_expected_experts_against_every_routing(experts, active, batch):
    choices = list(combinations(range(experts), active))
    total = sum(len(set().union(*routing)) for routing in product(choices, repeat=batch))
    expected = total / comb(experts, active) ** batch
    assert Moe(experts, active, 1).expected_experts(batch) == pytest.approx(expected, rel=1e-12)


def test_quantised_caches_take_whole_bytes():
    assert small().kv_bytes_per_token_layer(8) == 64
    assert small(kv_bits=4).kv_bytes_per_token_layer() == 32
    latent = small(kv_heads=None, latent=Latent(kv_size=5, rope_size=2, query_size=8))
    assert latent.kv_bytes_per_token_layer() == 14
    with pytest.raises(ModelError, match=r"kv_bits: 7 numbers of 4 bits are no whole bytes"):
        latent.kv_bytes_per_token_layer(4)
    with pytest.raises(ModelError, match="kv_bits: must be greater than 0, got 0"):
        small().kv_bytes_per_token_layer(0)


def test_batch_and_bits_must_be_positive():
    with pytest.raises(ModelError, match="batch: must be at least 1"):
        small().weight_bytes_read_per_layer(0)
    with pytest.raises(ModelError, match="weight_bits: must be greater than 0"):
        small().weight_bytes(-1)


def test_a_file_of_ones_own_becomes_a_model(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    expected = small(name="mine", kv_bits=8, moe=Moe(4, 2, 32))
    assert ModelSpec.from_toml(path) == ModelSpec.preset(str(path)) == expected


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ("layers = 2\n", "", "layers", "is missing. Give a whole number, 1 or more"),
        ("layers = 2", "layers = 2.5", "layers", "must be a whole number, 1 or more, got 2.5"),
        ("layers = 2", 'layers = "2"', "layers", "must be a whole number, 1 or more, got '2'"),
        ("layers = 2", "layers = true", "layers", "must be a whole number, 1 or more, got True"),
        ("layers = 2", "layers = 0", "layers", "must be a whole number, 1 or more, got 0"),
        ("layers = 2", "layers = " + "9" * 400, "layers", "9999... is too large. Give a whole number, 1 to 1000000000"),
        ("layers = 2", "layers = [2]", "layers", "must be a whole number, 1 or more, got [2]"),
        ("kv_heads = 2", "kv_heads = 0", "kv_heads", "must be a whole number, 1 or more, got 0"),
        ("kv = 8", "kv = 1024", "bits: kv", "1024 is too large. Give a whole number, 1 to 64"),
        ('name = "mine"', "name = 3", "name", "must be a string, got 3"),
        ('source = "config.json"', 'source = ""', "source", "is empty. Say where the numbers come from"),
        ("experts = 4\n", "", "moe: experts", "is missing"),
        ("experts = 4", "experts = 4\nexpert = 4", "moe: expert", "no such key. Known keys: experts, active_experts"),
        ("kv_heads = 2\n", "", "kv_heads", "is missing. Give the number of KV heads, or a table [latent]"),
        ("kv_heads = 2", "kv_heads = 3", "kv_heads", "3 does not divide the 4 attention heads"),
        ("kv_heads", "key_value_heads", "key_value_heads", "no such key. Known keys: name, description, source"),
        ('source = "config.json"\n', "", "source", "is missing"),
        ("[bits]", "[bit]", "bit", "no such key"),
        ("[bits]", "bits = 3\n[moe.x]", "bits", "must be a table, got 3. Write it as [bits]"),
        ("kv = 8", "kv = -8", "bits: kv", "must be a whole number, 1 or more, got -8"),
        ("active_experts = 2", "active_experts = 5", "moe: active_experts", "5 of 4 experts cannot be active"),
        ("experts = 4", "experts = 4\ndense_layers = 3", "moe: dense_layers", "3 of 2 layers"),
        ("layers = 2", "layers = 2\nmlp_matrices = 4", "mlp_matrices", "must be 2 or 3, got 4"),
        ("layers = 2", "layers = 2\ntied_embeddings = 1", "tied_embeddings", "must be true or false, got 1"),
        ("[moe]", '[latent]\nkv_size=1\nrope_size=1\nquery_size=1\nsource="s"\n[moe]', "kv_heads", "has none"),
    ],
)
def test_a_bad_model_is_refused_by_file_and_key(tmp_path, old, new, key, words):
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ModelError, match=re.escape(words)) as caught:
        ModelSpec.from_toml(path)
    assert caught.value.field == f"{path}: {key}"


def test_an_unknown_model_names_the_known_ones():
    with pytest.raises(ModelError, match=r"no preset 'gpt5'. Choose one of: deepseek-v3, .*\.toml file"):
        ModelSpec.preset("gpt5")


def test_an_instance_from_specs_has_the_models_sizes():
    model = small(moe=Moe(4, 2, 32))
    instance = Instance.from_specs(
        model, "gh200", trace(), batch=3, kv_bits=8, weight_bits=4, rules=Rules("inclusive"), hbm_bytes=1e6
    )
    assert instance.trace.size_bytes.tolist() == [64 * 3, 64 * 3]
    assert instance.weight_bytes == model.weight_bytes(4)
    assert instance.weight_bytes_per_slot == model.weight_bytes_read_per_layer(3, 4)
    assert instance.batch == 3
    assert instance.rules.inclusive
    assert instance.capacity_bytes[0] == 1_000_000
    plain = Instance.from_specs(model, Platform.preset("u280"), trace())
    assert plain.trace.size_bytes.tolist() == [128, 128]
    assert plain.capacity_bytes[0] == 8e9 - model.weight_bytes()


def test_specs_by_name_and_by_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert Instance.from_specs(path, "gh200", trace()).weight_bytes_per_slot > 0
    instance = Instance.from_specs("llama-3.1-8b", "gh200", trace(32))
    assert instance.weight_bytes == pytest.approx(16.06e9, rel=0.001)


@pytest.mark.parametrize(
    ("model", "lanes", "words"),
    [
        ("llama-3.1-8b", 6, "trace: has 6 lanes, but llama-3.1-8b has 32 layers. Give a trace of 32 lanes"),
        ("llama-3.1-70b", 80, "weight_bytes: 1.41105e+11 bytes of weights do not fit in tier 'hbm' of 9.6e+10 bytes"),
    ],
)
@pytest.mark.parametrize("hbm_bytes", [None, 1e9])
def test_specs_that_do_not_fit_together_are_refused(model, lanes, words, hbm_bytes):
    with pytest.raises(InstanceError, match=re.escape(words)):
        Instance.from_specs(model, "gh200", trace(lanes), hbm_bytes=hbm_bytes)


def test_the_kv_budget_may_be_nothing_and_no_less():
    assert Instance.from_specs(small(), "gh200", trace(), hbm_bytes=0).capacity_bytes[0] == 0
    with pytest.raises(InstanceError, match="hbm_bytes: must be 0 or more, got -1"):
        Instance.from_specs(small(), "gh200", trace(), hbm_bytes=-1)
