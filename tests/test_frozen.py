"""Arrays stay read-only on their way to other processes, so that kernels are compiled once for all of them."""

import copy
import pickle
from dataclasses import fields

import numpy as np
import pytest
from numba import typeof

import kvopt
from kvopt.anneal.state import make_problem
from kvopt.lowering import lower
from tests.instances import general_instance


def things(rng):
    instance = general_instance(rng)
    return instance, instance.trace, kvopt.Placement.backing(instance)


@pytest.mark.parametrize("send", [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
@pytest.mark.parametrize("seed", range(5))
def test_arrays_that_arrive_are_equal_and_as_read_only_as_they_were(send, seed):
    for thing in things(np.random.default_rng(seed)):
        arrived = send(thing)
        for field in fields(thing):
            given, found = getattr(thing, field.name), getattr(arrived, field.name)
            if isinstance(given, np.ndarray):
                np.testing.assert_array_equal(given, found)
                assert found.flags.writeable == given.flags.writeable


def test_kernels_see_the_same_types_in_another_process():
    instance = general_instance(np.random.default_rng(0))
    arrived = pickle.loads(pickle.dumps(instance))
    assert typeof(make_problem(lower(arrived))) == typeof(make_problem(lower(instance)))
