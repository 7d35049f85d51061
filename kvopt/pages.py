"""Pages: tokens that are allocated, read and moved together, as paged attention does it.

A page is up to p tokens of one lane that follow each other in the order of writing (prefill first; of one step, by
block number). Whole pages are what is placed, so paging has three costs, all of which a paged trace shows:

- reading one token reads the page; the runs of a page are the union of its tokens' runs;
- moving one token moves the page;
- room for the whole page is taken from its first token's write until its last token is freed.

A trace does not name requests: the tokens of a lane count as one sequence, also those that are freed at different
steps (a sliding window). Where all earlier tokens of the lane are gone when a token is written, another sequence
begins, and a new page with it. Requests that decode side by side in the same lanes would share pages, which no machine
lets them do: such a trace is to be paged before its requests are put together.

Two things are approximate:

- The write of a whole page is charged in the slot that writes its first token, each token's bytes in truth in its own
  slot. A page that holds a prefilled token counts as prefilled: the tokens decoded into it, fewer than p a sequence,
  are not charged at all.
- A page that is not full yet is read and moved whole.
"""

from __future__ import annotations

import numpy as np

from kvopt.errors import TraceError, shown
from kvopt.trace import Trace
from kvopt.trace_checks import MOST_SLOTS


def paged(trace: Trace, tokens_per_page: int) -> Trace:
    """The trace with pages as its blocks.

    Parameters
    ----------
    trace : Trace
        Its blocks are single tokens.
    tokens_per_page : int
        p, at least 1; 1 is the trace itself. The last page of a sequence may hold fewer.

    Returns
    -------
    Trace
        Pages are numbered in the order of their first tokens' numbers. Sizes are sums over the tokens in a page, writes
        the first, frees the last; a page is read in a step in which any of its tokens is.

    Raises
    ------
    TraceError
        When ``tokens_per_page`` is no whole number of at least 1, or the blocks are no single tokens: pages already, or
        the prefix blocks of a request log.
    """
    page = page_of(trace, tokens_per_page)
    if tokens_per_page == 1:
        return trace
    n_pages = int(page.max()) + 1
    lane, size = np.empty(n_pages, np.int64), np.zeros(n_pages, np.int64)
    lane[page] = trace.lane
    np.add.at(size, page, trace.size_bytes)
    write, free = _lives(trace, page)
    owner, start, stop = _union(page[trace.run_block], trace.run_start, trace.run_stop, trace.n_steps)
    return trace._replace(
        lane=lane,
        size_bytes=size,
        write_step=write,
        free_step=free,
        run_ptr=np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n_pages))]),
        run_start=start,
        run_stop=stop,
        tokens_per_page=int(tokens_per_page),
    )


def with_lives_of_pages(trace: Trace, tokens_per_page: int) -> Trace:
    """The tokens one by one, each written and freed together with its page.

    What is left between it and :func:`paged` is the granularity of reads and moves: any placement of the pages is one
    of these tokens, with the same bytes in every tier and the same writes, and no more reads.

    Parameters
    ----------
    trace, tokens_per_page
        As for :func:`paged`, which raises the same errors.
    """
    page = page_of(trace, tokens_per_page)
    write, free = _lives(trace, page)
    return trace._replace(write_step=write[page], free_step=free[page])


def page_of(trace: Trace, tokens_per_page: int) -> np.ndarray:
    """int64[B]: the page of each token. Arguments and errors as for :func:`paged`."""
    _check(trace, tokens_per_page)
    order = np.lexsort((trace.write_step, trace.lane))
    # Lanes laid end to end on one axis: in the first step of a lane, all tokens of the lane before it are gone.
    origin = trace.lane[order].astype(np.int64) * (trace.n_steps + 1)
    alive_until = np.maximum.accumulate(origin + trace.free_step[order])
    new = np.ones(len(order), bool)
    new[1:] = (origin + trace.write_step[order])[1:] >= alive_until[:-1]
    number = np.arange(len(order))
    opens = (number - np.maximum.accumulate(np.where(new, number, 0))) % tokens_per_page == 0
    rank = np.argsort(np.argsort(order[opens]))
    page = np.empty(len(order), np.int64)
    page[order] = rank[np.cumsum(opens) - 1]
    return page


def _check(trace: Trace, tokens_per_page: int) -> None:
    field = "tokens_per_page"
    whole = isinstance(tokens_per_page, int | np.integer) and not isinstance(tokens_per_page, bool)
    if not (whole and tokens_per_page >= 1):
        problem = f"must be a whole number of at least 1, got {shown(tokens_per_page)}"
        raise TraceError(field, problem, "Give tokens, such as 16")
    if tokens_per_page > MOST_SLOTS:
        raise TraceError(
            field, f"must be at most {MOST_SLOTS}, got {shown(tokens_per_page)}", "Give tokens, such as 16"
        )
    if trace.tokens_per_page is not None:
        raise TraceError(field, f"the trace is in pages of {trace.tokens_per_page} already", "Page the trace of tokens")
    if trace.step_unit != "token":
        raise TraceError(
            field,
            f"the steps of {trace.name!r} are {trace.step_unit}s, so its blocks are no tokens of one sequence",
            "Place its blocks as they are",
        )


def _lives(trace: Trace, page: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64[P] write steps, int64[P] free steps) of the pages: the first and the last of their tokens'."""
    write = np.full(int(page.max()) + 1, trace.n_steps)
    free = np.zeros(len(write), np.int64)
    np.minimum.at(write, page, trace.write_step)
    np.maximum.at(free, page, trace.free_step)
    return write, free


def _union(
    owner: np.ndarray, start: np.ndarray, stop: np.ndarray, n_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(owner, start, stop) of the fewest runs that cover the same steps of each owner, ascending."""
    # Owners laid end to end on one axis, a gap between them, so that one running maximum serves all.
    span = n_steps + 1
    order = np.argsort(owner * span + start)
    origin = owner[order] * span
    start, reach = origin + start[order], np.maximum.accumulate(origin + stop[order])
    first = np.ones(len(order), bool)
    first[1:] = start[1:] > reach[:-1]
    last = np.append(first[1:], True)[: len(first)]
    owner = start[first] // span
    return owner, start[first] - owner * span, reach[last] - owner * span
