"""Tests of the embedded example's decoder, training and capture; they need PyTorch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from kvopt.sources.embedded import train as training  # noqa: E402
from kvopt.sources.embedded.capture import decode  # noqa: E402
from kvopt.sources.embedded.decoder import Decoder, DecoderShape, KVCache  # noqa: E402

SHAPE = DecoderShape(layers=2, heads=2, width=16, positions=24)


@pytest.fixture
def model():
    torch.manual_seed(0)
    decoder = Decoder(SHAPE)
    for parameter in decoder.parameters():
        if parameter.ndim > 1:
            parameter.data *= 10  # Far from uniform attention, so that a wrong position or mask shows.
    return decoder.eval()


def test_shape_refuses_odd_heads():
    with pytest.raises(ValueError, match="multiple"):
        DecoderShape(heads=3, width=16)


def test_kv_bytes_are_two_vectors_of_two_bytes_a_feature():
    assert SHAPE.kv_bytes == 64


@torch.inference_mode()
def test_cached_steps_equal_the_whole_sequence(model):
    tokens = torch.randint(0, 256, (1, 20))
    whole = model(tokens)[0]
    cache = KVCache.empty(SHAPE)
    logits, _ = model.step(tokens[:, :12], cache)
    assert torch.allclose(logits, whole[11], atol=1e-4)
    for position in range(12, 20):
        logits, attention = model.step(tokens[:, position : position + 1], cache)
        assert torch.allclose(logits, whole[position], atol=1e-4)
        assert attention.shape == (2, position + 1)
        assert torch.allclose(attention.sum(dim=1), torch.ones(2), atol=1e-5)
    assert cache.length == 20


@torch.inference_mode()
def test_later_tokens_do_not_change_earlier_logits(model):
    tokens = torch.randint(0, 256, (1, 20))
    changed = tokens.clone()
    changed[0, 15] = (changed[0, 15] + 1) % 256
    assert torch.equal(model(tokens)[0, :15], model(changed)[0, :15])


def test_too_many_tokens_are_refused(model):
    with pytest.raises(ValueError, match="positions"):
        model.step(torch.zeros(1, 25, dtype=torch.int64), KVCache.empty(SHAPE))


def test_decode_records_every_step_and_repeats_by_seed(model, tmp_path):
    first = decode(model, b"0123456789abcdef", 8, temperature=0.8, seed=3)
    again = decode(model, b"0123456789abcdef", 8, temperature=0.8, seed=3)
    assert first.scores.shape == (8, 2, 24)
    assert len(first.generated) == 8
    np.testing.assert_allclose(first.scores.sum(axis=2), 1, atol=1e-5)
    for step in range(8):
        assert not first.scores[step, :, 16 + step + 1 :].any()
        assert (first.scores[step, :, : 16 + step + 1] > 0).any(axis=0).all()
    assert first.generated == again.generated
    first.save(tmp_path / "capture.npz")
    with np.load(tmp_path / "capture.npz") as archive:
        assert archive["generated"].tobytes() == first.generated
        assert np.array_equal(archive["scores"], first.scores)


def test_steps_lower_the_loss():
    text = np.frombuffer(b"the cat sat on the mat. " * 40, np.uint8)
    run = training.start(SHAPE, seed=1)
    assert training.bits_per_byte(run.model, text) == pytest.approx(8, abs=0.3)
    for step in range(100):
        training.learn(run, training.draw(text, training.Phase(1.0, 8, 16), seed=1, step=step))
    assert (run.steps, run.tokens) == (100, 100 * 8 * 16)
    assert training.bits_per_byte(run.model, text) < 5


def test_a_checkpoint_continues_where_training_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "PHASES", (training.Phase(1.0, 4, 16),))
    text = np.arange(256, dtype=np.uint8)
    run, resumed = training.start(SHAPE, seed=1), training.start(SHAPE, seed=2)
    training.train(run, text, 0.2, seed=1, checkpoint=tmp_path / "checkpoint.pt")
    assert run.steps > 0
    assert run.seconds >= 0.2
    resumed.restore(tmp_path / "checkpoint.pt")
    assert (resumed.steps, resumed.tokens, resumed.seconds) == (run.steps, 64 * run.steps, run.seconds)
    batch = training.draw(text, training.PHASES[0], seed=1, step=run.steps)
    assert training.learn(run, batch) == training.learn(resumed, batch)
    assert training.learn(run, batch) == training.learn(resumed, batch)


def test_batches_depend_on_seed_and_step_alone():
    text = np.arange(256, dtype=np.uint8)
    phase = training.Phase(1.0, 3, 10)
    batch = training.draw(text, phase, seed=1, step=4)
    assert batch.shape == (3, 11)
    assert torch.equal(batch, training.draw(text, phase, seed=1, step=4))
    assert not torch.equal(batch, training.draw(text, phase, seed=1, step=5))
    assert (batch[:, 1:] - batch[:, :-1] == 1).all()


def test_rate_warms_up_stays_and_decays():
    assert training.learning_rate(0, 0.0) < training.learning_rate(10, 0.0) < training.PEAK_RATE
    assert training.learning_rate(1000, training.DECAY_FROM) == training.PEAK_RATE
    assert training.learning_rate(1000, 1.0) == pytest.approx(training.PEAK_RATE * training.FINAL_RATE_SHARE)
