"""Hit rates of imported logs, against caches that know the log's lines and nothing of traces."""

import json
import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.policies import hits
from kvopt.sources.request_log import import_mooncake

LOG = Path(os.environ.get("KVOPT_MOONCAKE_TRACE", "conversation_trace.jsonl"))
needs_log = pytest.mark.skipif(not LOG.is_file(), reason=f"no Mooncake log at {LOG} (set KVOPT_MOONCAKE_TRACE)")


def write(path, requests: list[list[int]]):
    rows = [
        {"timestamp": 5 * k, "input_length": 512 * len(ids), "output_length": 1, "hash_ids": ids}
        for k, ids in enumerate(requests)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(path) -> list[int]:
    """The log's ids, request after request, as its lines have them."""
    return [one for line in path.read_text().splitlines() for one in json.loads(line)["hash_ids"]]


def lru(ids: list[int], room: float) -> int:
    held, found = OrderedDict(), 0
    for one in ids:
        found += one in held
        held[one] = None
        held.move_to_end(one)
        if len(held) > room:
            held.popitem(last=False)
    return found


def belady(ids: list[int], room: float) -> int:
    held, found = set(), 0
    for k, one in enumerate(ids):
        found += one in held
        if one not in held and len(held) == room:
            held.remove(max(held, key=lambda c, rest=ids[k + 1 :]: rest.index(c) if c in rest else len(rest)))
        held.add(one)
    return found


@st.composite
def prefix_logs(draw) -> list[list[int]]:
    """Requests whose ids are paths from the root of a random tree, numbered at random."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_nodes = draw(st.integers(1, 25))
    parent = [-1, *(int(rng.integers(-1, k)) for k in range(1, n_nodes))]
    name = rng.permutation(10 * n_nodes)[:n_nodes]

    def path(node: int) -> list[int]:
        return [] if node < 0 else [*path(parent[node]), int(name[node])]

    return [path(int(node)) for node in rng.integers(0, n_nodes, draw(st.integers(1, 20)))]


@settings(max_examples=50, deadline=None)
@given(prefix_logs(), st.integers(1, 12))
def test_hit_rates_are_those_of_the_lines(tmp_path_factory, requests, room):
    path = write(tmp_path_factory.mktemp("log") / "log.jsonl", requests)
    trace, ids = import_mooncake(path), asked(path)
    assert trace.n_block_requests == len(ids)
    assert trace.n_blocks == len(set(ids))
    for blocks in (room, float("inf")):
        assert hits(trace, blocks) == lru(ids, blocks)
        assert hits(trace, blocks, "belady") == belady(ids, blocks)
    assert hits(trace, trace.n_blocks) == len(ids) - len(set(ids))


@pytest.mark.parametrize("policy", ["lru", "belady"])
def test_the_first_request_is_a_miss_and_every_repeat_a_hit(policy, tmp_path):
    trace = import_mooncake(write(tmp_path / "log.jsonl", [[0, 1], [0, 1], [0, 1]]))
    assert (trace.n_accesses, trace.n_block_requests, hits(trace, 10, policy)) == (4, 6, 4)


@needs_log
@pytest.mark.parametrize(
    ("policy", "blocks", "rate"),
    [("lru", float("inf"), 0.3664), ("belady", 1_000, 0.1906), ("belady", 10_000, 0.3664)],
)
def test_hit_rates_of_the_published_log(policy, blocks, rate):
    trace = import_mooncake(LOG)
    assert round(hits(trace, blocks, policy) / trace.n_block_requests, 4) == rate
