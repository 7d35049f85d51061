"""Pages against their definition, token by token, and what tokens and pages prove about each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvopt
from kvopt.errors import TraceError
from kvopt.pages import page_of, with_lives_of_pages
from kvopt.trace import Trace
from kvopt.trace_io import load_trace
from tests.test_trace import accesses, build, reads_of

COLUMNS = ("lane", "size_bytes", "write_step", "free_step", "run_ptr", "run_start", "run_stop")


def pages_by_definition(trace: Trace, p: int) -> list[list[int]]:
    """The tokens of each page, in the order of its first token's number."""
    pages = []
    for lane in range(trace.n_lanes):
        tokens = [i for i in range(trace.n_blocks) if trace.lane[i] == lane]
        tokens.sort(key=lambda i: (trace.write_step[i], i))
        for k, i in enumerate(tokens):
            gone = all(trace.free_step[j] <= trace.write_step[i] for j in tokens[:k])
            if gone or len(pages[-1]) == p:
                pages.append([])
            pages[-1].append(i)
    return sorted(pages, key=lambda page: page[0])


@settings(max_examples=300, deadline=None)
@given(accesses(), st.integers(2, 4))
def test_pages_are_what_the_definition_says(drawn, p):
    columns, reads = drawn
    trace = build(columns, reads)
    pages = pages_by_definition(trace, p)
    made = trace.paged(p)
    assert [np.flatnonzero(page_of(trace, p) == k).tolist() for k in range(len(pages))] == [sorted(g) for g in pages]
    assert made.lane.tolist() == [trace.lane[page[0]] for page in pages]
    assert all(len({trace.lane[i] for i in page}) == 1 for page in pages)
    assert made.size_bytes.tolist() == [sum(trace.size_bytes[i] for i in page) for page in pages]
    assert made.write_step.tolist() == [min(trace.write_step[i] for i in page) for page in pages]
    assert made.free_step.tolist() == [max(trace.free_step[i] for i in page) for page in pages]
    assert reads_of(made) == {(k, n) for k, page in enumerate(pages) for i, n in reads if i in page}
    # Joined: one run for each read without a read of the step before.
    assert made.n_runs == sum((k, n - 1) not in reads_of(made) for k, n in reads_of(made))
    assert made.size_bytes.sum() == trace.size_bytes.sum()
    assert (made.n_steps, made.n_lanes, made.tokens_per_page) == (trace.n_steps, trace.n_lanes, p)


@given(accesses())
@settings(deadline=None)
def test_pages_of_one_token_are_the_trace_itself(drawn):
    trace = build(*drawn)
    made = trace.paged(1)
    assert all(np.array_equal(getattr(made, c), getattr(trace, c)) for c in COLUMNS)
    assert made.summary() == trace.summary()
    assert page_of(trace, 1).tolist() == list(range(trace.n_blocks))


@settings(deadline=None)
@given(accesses(), st.integers(1, 4))
def test_tokens_with_the_lives_of_their_pages_differ_from_them_in_reads_alone(drawn, p):
    trace = build(*drawn)
    made, single = trace.paged(p), with_lives_of_pages(trace, p)
    page = page_of(trace, p)
    assert single.write_step.tolist() == made.write_step[page].tolist()
    assert single.free_step.tolist() == made.free_step[page].tolist()
    assert reads_of(single) == reads_of(trace)
    platform = kvopt.Platform.preset("gh200")
    alive = [kvopt.Instance(t, platform).live_bytes.tolist() for t in (single, made)]
    assert alive[0] == alive[1]


def tokens(write_step, free_step, **changes) -> Trace:
    """Tokens of 10 bytes in one lane over 8 steps, each read in its last step."""
    n = len(write_step)
    columns = {"n_steps": 8, "n_lanes": 1, "lane": np.zeros(n, int), "size_bytes": np.full(n, 10)}
    last = np.array(free_step) - 1
    return Trace.from_accesses(
        np.arange(n), last, **{**columns, "write_step": write_step, "free_step": free_step, **changes}
    )


def test_a_page_with_a_prefilled_token_is_prefilled():
    made = tokens([-1, -1, -1, 0, 1, 2], [8] * 6).paged(4)
    assert made.write_step.tolist() == [-1, 1]
    assert made.size_bytes.tolist() == [40, 20]


def test_a_sliding_window_shares_pages_and_a_page_outlives_its_first_token():
    made = tokens([-1, 0, 1, 2], [2, 3, 4, 5]).paged(2)
    assert made.free_step.tolist() == [3, 5]
    assert list(zip(made.run_start.tolist(), made.run_stop.tolist(), strict=True)) == [(1, 3), (3, 5)]


def test_a_sequence_that_begins_when_the_last_is_gone_shares_no_page_with_it():
    made = tokens([-1, 0, 1, 3, 4], [3, 3, 3, 8, 8]).paged(2)
    assert made.size_bytes.tolist() == [20, 10, 20]
    assert made.free_step.tolist() == [3, 3, 8]


def test_a_trace_never_read_has_pages_without_runs():
    made = Trace.from_accesses([], [], n_steps=2, n_lanes=1, lane=[0] * 3, size_bytes=[1] * 3, write_step=[-1] * 3)
    assert made.paged(2).run_ptr.tolist() == [0, 0, 0]


@pytest.mark.parametrize("p", [0, -4, 2.0, "16", True, None, np.nan])
def test_what_is_no_number_of_tokens_is_refused(p):
    with pytest.raises(TraceError, match=r"tokens_per_page: must be a whole number of at least 1, got .*such as 16"):
        tokens([-1, 0], [8, 8]).paged(p)


def test_blocks_that_are_no_tokens_are_refused():
    trace = tokens([-1, 0, 1], [8, 8, 8])
    for again in (1, 2):
        with pytest.raises(TraceError, match=r"tokens_per_page: the trace is in pages of 2 already"):
            trace.paged(2).paged(again)
    with pytest.raises(TraceError, match=r"tokens_per_page: the steps of 'trace' are requests"):
        tokens([-1, 0, 1], [8, 8, 8], step_unit="request").paged(2)
    with pytest.raises(TraceError, match=r"size_bytes: blocks are pages of up to 2 tokens. Set sizes before paging"):
        trace.paged(2).with_size_bytes(5)


def test_the_number_of_tokens_stays_with_the_trace(tmp_path):
    made = tokens([-1, 0, 1], [8, 8, 8]).paged(np.int64(2))
    assert made.summary()["tokens_per_page"] == 2
    assert made.window((1, 5)).tokens_per_page == 2
    made.save(tmp_path / "pages.parquet")
    read = load_trace(tmp_path / "pages.parquet")
    assert read.summary() == made.summary()
    assert all(np.array_equal(getattr(read, c), getattr(made, c)) for c in COLUMNS)


def test_an_instance_is_paged_with_all_else_kept():
    trace = tokens([-1, 0, 1], [8, 8, 8])
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200"), kvopt.Rules("inclusive"), batch=3)
    made = instance.paged(2)
    assert made.trace.n_blocks == 2
    assert replace(made, trace=trace).summary() == instance.summary()
    assert instance.with_hbm_bytes(10).paged(2).capacity_bytes[0] == 10


def test_the_embedded_trace_loses_no_byte():
    trace = kvopt.example_trace()
    made = trace.paged(16)
    assert made.n_blocks == trace.n_blocks / 16
    assert set(made.size_bytes.tolist()) == {16 * 768}
    assert made.summary()["peak_live_bytes"] == trace.summary()["peak_live_bytes"]
