"""Call from tests what only kernels call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from kvopt import jit


@functools.cache
def called_from_python(part: Any) -> Callable:
    """A kernel that does nothing but call a :func:`kvopt.jit.part` or a :func:`kvopt.jit.piece`."""

    def call(*arguments):
        return part(*arguments)

    return jit.njit()(call)
