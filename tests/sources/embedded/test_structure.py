"""Tests of kvopt.sources.embedded.structure."""

import numpy as np

from kvopt.sources.embedded.structure import describe_reads


def test_by_hand():
    # One layer, two prompt tokens, four steps; token 0 is read in steps 0, 1 and 3, token 2 in its first two steps.
    read = np.zeros((4, 1, 6), bool)
    read[[0, 1, 3], 0, 0] = True
    read[[0, 1], 0, 2] = True
    scores = np.zeros((4, 1, 6))
    scores[:, 0, 0] = 0.75
    scores[:, 0, 1] = 0.25
    facts = describe_reads(scores, read)
    assert facts["kept_mass"] == np.round(0.75 * 3 / 4, 4)
    assert facts["sink_mass"] == 1.0
    assert facts["local_mass"] == 1.0
    assert facts["jaccard"] == round((1 + 0 + 0) / 3, 4)
    assert facts["runs"] == 3
    assert facts["mean_run_steps"] == round(5 / 3, 3)
    assert facts["never_read"] == round(4 / 6, 4)
    assert facts["returns"] == 1
    assert facts["gap_steps"]["p50"] == 1.0
    assert facts["by_layer"]["jaccard"] == [facts["jaccard"]]


def test_local_mass_leaves_distant_tokens_out():
    # Step 0 sees the tokens 0..198 and step 1 one more; each pays half its attention to the last but 64th.
    scores = np.zeros((2, 1, 200))
    for step, present in enumerate((199, 200)):
        scores[step, 0, [present - 64, present - 65]] = 0.5
    assert describe_reads(scores, scores > 0)["local_mass"] == 0.5
