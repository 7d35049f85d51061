"""Memory that work would need against what the machine has, asked before anything is allocated."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from kvopt.errors import KvoptError
from kvopt.units import bytes_text

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def most_bytes() -> float:
    """The most memory this process may have: the machine's, or less where it is limited (ulimit -v, a container).

    Infinite where the system does not say.
    """
    limits = [math.inf]
    with suppress(AttributeError, ValueError, OSError):
        limits.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE"))
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            limits.append(float(soft))
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            limits.append(float(Path(path).read_text()))
    return min(limit for limit in limits if limit > 0)


def check_fits(needed_bytes: float, field: str, what: str, fix: str, error: type[KvoptError] = KvoptError) -> None:
    """Refuse work that needs more memory than there is.

    Parameters
    ----------
    needed_bytes : float
        An estimate from below.
    field : str
    what : str
        What needs it, for the message: "2147483647 steps".
    fix : str
    error : type
        What to raise.
    """
    there = most_bytes()
    if needed_bytes > there:
        problem = f"{what} would take {bytes_text(needed_bytes)} of memory or more, and there are {bytes_text(there)}"
        raise error(field, problem, fix)
