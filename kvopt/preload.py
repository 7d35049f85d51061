"""Kernels that an earlier run compiled, by name: loaded from numba's cache without solving anything.

Which kernels an engine calls, and with arguments of which types, shows only when it runs. So when
:mod:`kvopt.warmup` has run engines on tiny instances, what they called is listed in a file beside numba's own, and the
next run loads what is listed: what numba's cache has lost meanwhile is compiled.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kvopt import jit
from kvopt.trellis import rng

_SUFFIX = ".nbk"
"""Like numba's own, so that what clears its files clears these."""


def load(what: tuple) -> bool:
    """Load what :func:`keep` listed; False where it listed nothing.

    Parameters
    ----------
    what : tuple
        Numbers and texts.
    """
    path = _path(what)
    if path is None or not path.exists():
        return False
    try:
        for module, name, signatures in pickle.loads(path.read_bytes()):
            kernel = getattr(importlib.import_module(module), name)
            for signature in signatures:
                kernel.compile(signature)
    except Exception:  # Whatever is wrong with a list, it can be made again.
        return False
    return True


def keep(what: tuple, besides: set) -> None:
    """List the kernels that this process has called so far, if a list can be written.

    Parameters
    ----------
    what : tuple
        As for :func:`load`.
    besides : set
        What other lists have; gets what this one has.
    """
    path = _path(what)
    if path is None:
        return
    listed = []
    for module, name, kernel in _named():
        fresh = [signature for signature in kernel.signatures if (module, name, signature) not in besides]
        besides.update((module, name, signature) for signature in fresh)
        if fresh:
            listed.append((module, name, fresh))
    with suppress(OSError, pickle.PicklingError):
        made = path.with_name(f"{path.name}.{os.getpid()}")
        made.write_bytes(pickle.dumps(listed))
        os.replace(made, path)


def _named() -> Iterator[tuple[str, str, object]]:
    """The kernels that can be found again: their modules and names, and they."""
    for kernel in jit.KERNELS:
        module, name = kernel.py_func.__module__, kernel.py_func.__name__
        if module.startswith("kvopt.") and getattr(sys.modules.get(module), name, None) is kernel:
            yield module, name, kernel


def _path(what: tuple) -> Path | None:
    """Path of the list, if numba keeps anything: another for other sources, and for another numba."""
    folder = getattr(getattr(rng.draw, "stats", None), "cache_path", None)
    if folder is None:
        return None
    here, made = Path(__file__).parent, hashlib.sha256(repr((jit.VERSION, sys.version, what)).encode())
    for folder_of in ("trellis", "anneal", "bounds", "policies/kernels"):
        for source in sorted((here / folder_of).glob("*.py")):
            state = source.stat()
            made.update(repr((source.name, state.st_size, state.st_mtime_ns)).encode())
    return Path(folder) / f"kvopt-{made.hexdigest()[:16]}{_SUFFIX}"
