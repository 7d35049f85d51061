"""A tiny counter-seeded generator for kernels: one stream a block, so results do not depend on the number of threads.

SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np

from kvopt.jit import njit, piece

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_UNIT = 1.0 / 9007199254740992.0


@piece
def _mix(x):
    x = (x ^ (x >> _S30)) * _MIX1
    x = (x ^ (x >> _S27)) * _MIX2
    return x ^ (x >> _S31)


@njit(cache=True, nogil=True)
def stream(seed, number):
    """State of stream ``number`` under ``seed``: uint64[1], advanced in place by :func:`uniform`."""
    state = np.empty(1, np.uint64)
    state[0] = _mix(_mix(np.uint64(seed)) + np.uint64(number) * _GAMMA)
    return state


@njit(cache=True, nogil=True, _nrt=False)
def draw(state):
    """:func:`uniform`, called from Python."""
    return uniform(state)


@piece
def uniform(state):
    """Next double in [0, 1)."""
    state[0] += _GAMMA
    return (_mix(state[0]) >> _S11) * _UNIT
