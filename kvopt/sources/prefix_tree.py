"""Synthetic request logs: conversations that share prefixes, of any size and reproducible from a seed.

A stand-in for a recorded log (:mod:`kvopt.sources.request_log`), with blocks of the same size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvopt import interrupts
from kvopt.errors import TraceError
from kvopt.sources.lanes import LaneRuns, TraceBuilder
from kvopt.sources.request_log import LLAMA_3_70B_BYTES_PER_TOKEN
from kvopt.trace import Trace
from kvopt.trace_checks import block_chunks

BLOCK_TOKENS = 512
_READS_PER_CONVERSATION = 50
"""Fewer than there are on average, so that the first number of conversations nearly always suffices."""
_CONVERSATIONS_PER_DOCUMENT = 8
_DOCUMENTS_PER_APPLICATION = 8
_MEAN_BLOCKS = {"application": 5, "document": 11, "turn": 2}
_MEAN_TURNS = 4
_THINKING = 1 / 40
"""Mean time from turn to turn, as a share of the time in which the conversations begin."""


@dataclass(frozen=True)
class _Log:
    """Requests in the order of their arrival, and what they read: segments, which are blocks that go together.

    Segments are the applications, then the documents, then the turns of the conversations.
    """

    application: np.ndarray
    """int32[Q]: its segment."""
    document: np.ndarray
    """int32[Q]: its segment."""
    first_turn: np.ndarray
    """int32[Q]: the segment of the first turn of the request's conversation."""
    turn: np.ndarray
    """int32[Q]: the segment of the request's own turn."""
    blocks: np.ndarray
    """int64[segments]: blocks of each."""

    def reads(self) -> np.ndarray:
        """int64[Q]: blocks that each request finds."""
        before = np.concatenate([[0], np.cumsum(self.blocks)])
        found = before[self.turn] - before[self.first_turn]
        for shared in (self.application, self.document):
            again = np.ones(len(shared), bool)
            again[np.unique(shared, return_index=True)[1]] = False
            found += again * self.blocks[shared]
        return found

    def head(self, n_requests: int) -> _Log:
        """The first requests alone."""
        cut = (self.application, self.document, self.first_turn, self.turn)
        return _Log(*(column[:n_requests] for column in cut), self.blocks)


def prefix_tree(reads: int, *, size_bytes: int = BLOCK_TOKENS * LLAMA_3_70B_BYTES_PER_TOKEN, seed: int) -> Trace:
    """A request log in which a step is a request and a block is a prefix block.

    The prompt of a request is the prefix of an application (5 blocks on average), that of one of its documents (11),
    and all turns of the conversation so far (2 each, the request's own among them). Conversations begin at random
    times, take a random document by Zipf's law, and have 4 turns on average, with exponential times between them, so
    that turns of many conversations are mixed. Numbers of blocks and of turns are geometric. There is a document for
    every 8 conversations and an application for every 8 documents, and times between turns are in proportion to the
    whole log: the larger the log, the larger are all of these and the distances between reads. Blocks that no earlier
    request brought are written, and not read in that step; none is freed.

    Parameters
    ----------
    reads : int
        Blocks found by all requests together; the log ends with the request that comes nearest. At least 1.
    size_bytes : int
        Of every block; that of 512 tokens of Llama 3 70B unless given.
    seed : int

    Returns
    -------
    Trace
        One lane, ``step_unit`` "request". The same for the same arguments.

    Raises
    ------
    TraceError
        When a number is out of range.
    """
    if reads < 1:
        raise TraceError("reads", f"must be at least 1, got {reads!r}", "Give a number of reads")
    conversations = 2 + reads // _READS_PER_CONVERSATION
    while True:
        log = _drawn(conversations, np.random.default_rng([seed, conversations]))
        found = np.cumsum(log.reads())
        if found[-1] >= reads:
            break
        conversations *= 2
    ends = int(np.searchsorted(found, reads))
    nearer = ends > 0 and reads - found[ends - 1] < found[ends] - reads
    log = log.head(ends if nearer else ends + 1)
    builder = TraceBuilder(len(log.turn), 1)
    for segment, request in _pairs(log):
        interrupts.heed()
        _add(builder, log.blocks, segment, request, size_bytes)
    return builder.finish(
        name=f"prefix-tree-{seed}",
        step_unit="request",
        provenance={
            "generator": "kvopt.sources.prefix_tree.prefix_tree",
            "seed": seed,
            "reads": reads,
            "conversations": conversations,
            "size_bytes": size_bytes,
        },
    )


def _drawn(conversations: int, rng: np.random.Generator) -> _Log:
    """A log of so many conversations, to their ends."""
    documents = -(-conversations // _CONVERSATIONS_PER_DOCUMENT)
    applications = -(-documents // _DOCUMENTS_PER_APPLICATION)
    turns = rng.geometric(1 / _MEAN_TURNS, conversations)
    first = np.concatenate([[0], np.cumsum(turns)[:-1]])
    # Each turn waits for the one before it; sums within a conversation are differences of sums over all.
    pause = rng.standard_exponential(turns.sum()) * (_THINKING * conversations)
    pause[first] = rng.random(conversations) * conversations
    until = np.cumsum(pause)
    arrival = until - np.repeat(until[first] - pause[first], turns)
    order = np.argsort(arrival, kind="stable")
    zipf = np.cumsum(1 / np.arange(1, documents + 1))
    chosen = np.searchsorted(zipf, zipf[-1] * rng.random(conversations)).clip(0, documents - 1)
    document = np.repeat(chosen, turns)[order]
    n_shared = applications + documents
    kinds = zip(_MEAN_BLOCKS.values(), (applications, documents, len(order)), strict=True)
    return _Log(
        application=(document % applications).astype(np.int32),
        document=(applications + document).astype(np.int32),
        first_turn=(n_shared + np.repeat(first, turns)[order]).astype(np.int32),
        turn=(n_shared + order).astype(np.int32),
        blocks=np.concatenate([rng.geometric(1 / mean, count) for mean, count in kinds]),
    )


def _pairs(log: _Log):
    """(int[n] segments, int[n] requests) that belong together, in parts: all that belongs to a segment is in one."""
    request = np.arange(len(log.turn), dtype=np.int32)
    yield log.application, request
    yield log.document, request
    # By conversation and turn: a turn is in the prompts of its own request and of the later ones.
    request = np.argsort(log.turn).astype(np.int32)
    first, turn = log.first_turn[request], log.turn[request]
    begins = np.flatnonzero(np.diff(first, prepend=-1))
    until = np.concatenate([[0], np.cumsum(turn - first + 1, dtype=np.int64)])
    limits = np.append(begins, len(turn))
    for conversations, _ in block_chunks(until[limits]):
        part = slice(limits[conversations.start], limits[conversations.stop])
        number = turn[part] - first[part] + 1
        back = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        yield np.repeat(first[part], number) + back, np.repeat(request[part], number)


def _add(builder: TraceBuilder, blocks: np.ndarray, segment: np.ndarray, request: np.ndarray, size_bytes: int) -> None:
    """Add the blocks of segments that the requests bring and find."""
    key = segment.astype(np.int64) * builder.n_steps + request
    key.sort()
    segment, request = np.divmod(key, builder.n_steps)
    written = np.diff(segment, prepend=-1) != 0
    # What is found in the request after one that found it is found in one run.
    goes_on = np.zeros(len(key), bool)
    goes_on[1:] = ~written[1:] & ~written[:-1] & (np.diff(request) == 1)
    opens = ~written & ~goes_on
    closes = ~written & ~np.append(goes_on[1:], False)
    start, stop = request[opens].astype(np.int32), request[closes].astype(np.int32) + 1
    first = np.flatnonzero(written)
    ptr = np.concatenate([np.cumsum(opens)[first] - opens[first], [len(start)]])
    copies = blocks[segment[first]]
    whole = np.concatenate([[0], np.cumsum(copies * np.diff(ptr))])
    for part, _ in block_chunks(whole):
        counts = np.repeat(np.diff(ptr[part.start : part.stop + 1]), copies[part])
        ends = np.cumsum(counts)
        run = np.arange(ends[-1]) + np.repeat(np.repeat(ptr[part], copies[part]) - ends + counts, counts)
        builder.add(
            0,
            LaneRuns(np.repeat(np.arange(len(counts)), counts), start[run], stop[run]),
            size_bytes=size_bytes,
            write_step=np.repeat(request[first[part]], copies[part]),
        )
