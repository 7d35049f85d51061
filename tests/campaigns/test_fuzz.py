"""A sample of the fuzz campaign, and that it notices what it is there to notice."""

from __future__ import annotations

from random import Random

import pytest

from tests.campaigns.fuzz import __main__ as command
from tests.campaigns.fuzz import campaign, junk
from tests.campaigns.fuzz.calls import ALL
from tests.campaigns.planted import FAULTS

SAMPLE = 100


def test_a_sample_of_every_reader_is_accepted_or_refused(tmp_path):
    tallies = campaign.run(dict.fromkeys(ALL, SAMPLE), 1, 1, tmp_path)
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    assert not faults, "\n".join(map(str, faults))
    assert all(tally.inputs == SAMPLE == tally.accepted + tally.refused for tally in tallies.values())
    # Where nothing or everything were accepted, the inputs would test little.
    assert all(tally.refused > 0 for tally in tallies.values())
    assert sum(tally.accepted > 0 for tally in tallies.values()) >= len(ALL) - 1


def test_planted_faults_are_seen_told_apart_and_survived(tmp_path):
    drawn = [Random(f"0:planted:{k}").randrange(10) for k in range(20)]
    wrong = {k: FAULTS[number] for k, number in enumerate(drawn) if number in FAULTS}
    assert set(wrong.values()) == {"bare", "crash", "slow"}
    tally = campaign.run({"planted": 20}, 0, 1, tmp_path, readers="tests.campaigns.planted")["planted"]
    assert {fault.index: fault.kind for fault in tally.faults} == wrong
    assert tally.inputs == 20
    assert {path.name for path in tmp_path.iterdir()} == {f"planted-0-{k}.txt" for k in wrong if wrong[k] != "crash"}
    counts = [list(wrong.values()).count(kind) for kind in command.KINDS]
    assert command.table({"planted": tally})[1].split()[4:] == [str(count) for count in counts]


@pytest.mark.parametrize("name", ["trace", "certificate", "platform", "objective", "sweep", "request-log"])
def test_inputs_depend_on_seed_and_number_alone(name, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (ALL[name](tmp_path / folder) for folder in "ab")
    first = [one.make(Random(f"7:{k}")) for k in range(20)]
    assert [other.make(Random(f"7:{k}")) for k in reversed(range(20))][::-1] == first
    assert len(set(map(repr, first))) > 10


def test_spoiling_changes_most_inputs():
    data = bytes(range(256)) * 4
    assert sum(junk.spoiled_bytes(Random(k), data, data) != data for k in range(100)) > 90
