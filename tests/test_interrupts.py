"""Ctrl-C as a flag: put off while something is computed, heeded between kernels, never lost."""

# ruff: noqa: PT012 - what is raised at the end of a block is what many of these are about.

import os
import signal
import threading
import time

import pytest

import kvopt
from kvopt import interrupts, warmup
from kvopt.policies.lru import Lru
from kvopt.policies.simulate import simulate, simulate_by_slots
from kvopt.sources.synthetic import drifting


@pytest.fixture(autouse=True)
def ctrl_c():
    """Python's own handler, which is not there where tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def instance():
    trace = drifting(60, 20, n_lanes=2, read_share=0.2, seed=3, size_bytes=1024)
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200")).with_hbm_bytes(20e3)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_it_is_put_off_until_heeded():
    reached = []
    with interrupts.heeding():
        press()
        reached.append("after it")
        with pytest.raises(KeyboardInterrupt):
            interrupts.heed()
        interrupts.heed()  # Each is raised once.
    assert reached


def test_what_nobody_heeds_is_raised_at_the_end():
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts.heeding():
        with interrupts.heeding():
            press()
        reached.append("after the inner one")
    assert reached


def test_an_error_does_not_hide_it():
    with pytest.raises(KeyboardInterrupt), interrupts.heeding():
        press()
        raise LookupError


def test_what_comes_while_an_interrupted_engine_ends_is_the_same_wish():
    with interrupts.heeding():
        press()
        with pytest.raises(KeyboardInterrupt):
            interrupts.heed()
        press()


def test_after_what_was_promised_it_is_put_off_no_longer(monkeypatch):
    monkeypatch.setattr(interrupts, "PROMISED_S", -1.0)
    with interrupts.heeding():
        press()
        with pytest.raises(KeyboardInterrupt):
            press()


def test_a_system_error_out_of_a_late_signal_is_what_it_was_meant_to_be():
    with pytest.raises(KeyboardInterrupt), interrupts.heeding():
        press()
        with pytest.raises(KeyboardInterrupt):
            interrupts.heed()
        raise SystemError("returned a result with an exception set")
    with pytest.raises(SystemError), interrupts.heeding():
        raise SystemError("of another kind")


def test_held_and_at_once():
    with interrupts.heeding():
        with interrupts.held():
            press()
            interrupts.heed()
            assert not interrupts.asked()
        assert interrupts.asked()
        with pytest.raises(KeyboardInterrupt), interrupts.at_once():
            raise AssertionError("what was put off comes first")
        with pytest.raises(KeyboardInterrupt), interrupts.at_once():
            press()


def test_the_program_s_own_handler_gets_it_where_it_is_heeded():
    got = []
    signal.signal(signal.SIGINT, lambda *_: got.append("own"))
    try:
        with interrupts.heeding():
            press()
            assert not got
            interrupts.heed()
            assert got == ["own"]
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("action", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_is_ignored_or_left_to_the_system_stays_so(action):
    signal.signal(signal.SIGINT, action)
    try:
        with interrupts.heeding():
            assert signal.getsignal(signal.SIGINT) is action
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_other_threads_hear_of_nothing():
    found = []

    def work() -> None:
        with interrupts.heeding():
            interrupts.heed()
            found.append(interrupts.asked())

    with pytest.raises(KeyboardInterrupt), interrupts.heeding():
        press()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [False]


def test_side_by_side_returns_in_order_and_raises_what_a_job_raises():
    assert interrupts.side_by_side([lambda: 1, lambda: 2, lambda: 3], 2, lambda: None) == [1, 2, 3]

    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        interrupts.side_by_side([fail], 1, lambda: None)


def test_jobs_end_with_what_they_have_when_told_to_stop():
    stopped = threading.Event()
    with interrupts.heeding():
        press()
        found = interrupts.side_by_side([lambda: stopped.wait(60)] * 2, 2, stopped.set)
    assert found == [True, True]


def test_jobs_that_do_not_end_are_left_to_themselves():
    over = threading.Event()
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.heeding():
            press()
            interrupts.side_by_side([lambda: over.wait(60)], 1, lambda: None, patience_s=0.0)
    finally:
        over.set()


def after(seconds: float) -> threading.Timer:
    """Press Ctrl-C some time from now."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.daemon = True
    timer.start()
    return timer


ENGINES = {
    "bound": lambda instance, tell: kvopt.bound(instance, on_progress=tell),
    "anneal": lambda instance, tell: kvopt.solve(instance, "anneal", refine=False, on_progress=tell),
    "windows": lambda instance, tell: kvopt.solve(instance, "anneal", windows=True, refine=False, on_progress=tell),
    "refine": lambda instance, tell: kvopt.solve(instance, "anneal", time_limit=60.0, on_progress=tell),
    "exact": lambda instance, tell: kvopt.solve(instance, "exact", on_progress=tell),
    "guided": lambda instance, tell: kvopt.solve(instance, "guided", on_progress=tell),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_signal_at_the_first_event_gives_an_interrupted_result(engine, instance):
    seen = []

    def tell(event) -> None:
        seen.append(event)
        if len(seen) == 1:
            press()

    found = ENGINES[engine](instance, tell)
    assert found.termination is kvopt.Termination.INTERRUPTED
    placement = getattr(found, "placement", None)
    assert placement is None or not placement.violations(instance)


@pytest.mark.parametrize("at_s", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_signal_at_any_moment_is_heeded_and_breaks_nothing(engine, at_s, instance):
    try:
        timer = after(at_s)
        found = ENGINES[engine](instance, None)
        timer.cancel()
        timer.join()
        time.sleep(0.01)  # Where the engine was done before, it comes here.
    except KeyboardInterrupt:
        return
    assert found.termination in (
        kvopt.Termination.INTERRUPTED,
        kvopt.Termination.FINISHED,
        kvopt.Termination.OPTIMAL,
    )


def test_size_stops_when_annealing_is_cut_short_and_a_policy_is_the_best(instance):
    """It went on to the next size: the interrupted run was not the one it looked at."""
    seen = []

    def tell(end, _event) -> None:
        if end == "upper":
            seen.append(time.perf_counter())
            if len(seen) == 1:
                press()

    target_s = 0.999 * min(kvopt.solve(instance, name).objective for name in ("belady", "look-ahead"))
    found = kvopt.size(instance, target_s, time_limit=60.0, on_progress=tell)
    assert found.termination is kvopt.Termination.INTERRUPTED


def test_explain_owes_a_ladder_after_it_and_no_long_run(instance):
    rungs = []

    def tell(rung, _event) -> None:
        if not rungs:
            press()
        rungs.append(rung)

    found = kvopt.explain(instance, time_limit=600.0, on_progress=tell)
    assert found.interrupted
    assert found.elapsed_s < 300
    assert "best found" not in rungs
    times = [rung.latency_s for rung in found.rungs if rung.role is kvopt.Role.CERTIFIED]
    assert times == sorted(times)


def test_compare_keeps_what_was_finished(instance):
    def tell(method, _event) -> None:
        if method == "lru":
            press()

    found = kvopt.compare(instance, ["static", "lru", "belady", "anneal"], time_limit=5.0, on_progress=tell)
    assert found.interrupted
    assert "static-oldest" in found.results
    assert "anneal" not in found.results


@pytest.mark.parametrize("run", [simulate, simulate_by_slots])
def test_a_policy_is_interrupted_between_two_slots(run, instance):
    with pytest.raises(KeyboardInterrupt):
        run(instance, Lru(), lambda event: press())


def test_verification_is_interrupted_but_not_what_an_interrupted_bound_rests_on(instance):
    certificate = kvopt.bound(instance, tolerance=0.1).certificate
    with pytest.raises(KeyboardInterrupt), interrupts.heeding():
        press()
        kvopt.verify(instance, certificate)
    with interrupts.heeding():
        with interrupts.held():
            press()
            value = kvopt.verify(instance, certificate)
        with pytest.raises(KeyboardInterrupt):
            interrupts.heed()
    assert value == kvopt.verify(instance, certificate)


def test_warming_up_is_not_gone_on_with(monkeypatch):
    made = []

    def bound_of(instance, **options):
        made.append("bound")
        press()
        return kvopt.bound(instance, **options)

    monkeypatch.setattr(warmup, "bound_of", bound_of)
    with pytest.raises(KeyboardInterrupt):
        warmup.warm_up()
    assert made == ["bound"]


def test_a_whole_export_is_written_or_none(tmp_path, monkeypatch, instance):
    """Also by the process that writes large models."""
    from kvopt.exact import writer

    small = kvopt.export_model(instance, tmp_path / "small.lp")
    monkeypatch.setattr(writer, "_FEW_COLUMNS", 0)
    large = kvopt.export_model(instance, tmp_path / "large.lp")
    assert small.columns == large.columns
    assert (tmp_path / "small.lp").read_bytes() == (tmp_path / "large.lp").read_bytes()


def test_the_writer_of_a_large_model_is_ended_and_leaves_nothing(tmp_path, monkeypatch, instance):
    from kvopt.exact import writer

    monkeypatch.setattr(writer, "_FEW_COLUMNS", 0)
    monkeypatch.setattr(writer, "_CODE", "import time; time.sleep(600)")
    after(0.5)
    with pytest.raises(KeyboardInterrupt):
        kvopt.export_model(instance, tmp_path / "o.lp")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_of_the_writer_is_told(tmp_path, monkeypatch, instance):
    from kvopt.exact import writer

    monkeypatch.setattr(writer, "_FEW_COLUMNS", 0)
    monkeypatch.setattr(writer, "_CODE", "import sys; print('no room', file=sys.stderr); sys.exit(1)")
    with pytest.raises(kvopt.KvoptError, match="no room"):
        kvopt.export_model(instance, tmp_path / "o.lp")
    assert list(tmp_path.iterdir()) == []
