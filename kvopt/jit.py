"""The decorator of all kernels: numba's, with what it needs where nothing can be written or compiled.

numba keeps compiled kernels next to their sources, or in the user's cache folder, or where ``NUMBA_CACHE_DIR`` says.
Where none of these can be written (a container's user, a read-only installation), ``numba.njit(cache=True)`` raises
when the module is imported. Here such a kernel is compiled in memory, for the life of the process, and a
:class:`~kvopt.errors.KernelCacheWarning` says so once, when the first of them is compiled. With ``NUMBA_DISABLE_JIT=1``
kernels run as plain Python, for a debugger: the same numbers, some hundred times slower.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numba
from numba.core import event

from kvopt.errors import KernelCacheWarning

__all__ = ["COMPILES", "njit", "tuple_setitem"]

COMPILES = not numba.config.DISABLE_JIT
"""Whether kernels are compiled at all."""

_NO_PLACE = "no locator available"
"""What numba's error says."""
_ADVICE = (
    "compiled kernels cannot be kept, so that each run compiles them anew: "
    "set NUMBA_CACHE_DIR to a folder that can be written"
)


def njit(*, cache: bool = False, **options: Any) -> Callable[[Callable], Any]:
    """Compile a function on its first call, and keep it on disk if asked and possible.

    Parameters
    ----------
    cache : bool
        Whether to keep what is compiled on disk, where a place for it can be written.
    **options
        Of ``numba.njit``.

    Returns
    -------
    callable
        The decorator.
    """

    def decorate(function: Callable) -> Any:
        try:
            kernel = numba.njit(cache=cache, **options)(function)
        except RuntimeError as error:
            if not (cache and _NO_PLACE in str(error)):
                raise
            _advise_when_compiled()
            return numba.njit(**options)(function)
        if cache:
            _survive_full_disks(kernel)
        return kernel

    return decorate


def _survive_full_disks(kernel: Any) -> None:
    """Keep a compiled kernel usable when it cannot be written: a disk may fill after a place was found."""
    store = getattr(kernel, "_cache", None)
    save = getattr(store, "save_overload", None)
    if save is None:
        return

    @functools.wraps(save)
    def save_if_possible(*arguments: Any) -> None:
        try:
            save(*arguments)
        except OSError:
            _advise()

    store.save_overload = save_if_possible


class _FirstCompilation(event.Listener):
    """Gives the advice when the first kernel is compiled: until then nothing is lost."""

    def on_start(self, event: Any) -> None:
        _advise()

    def on_end(self, event: Any) -> None:
        """Nothing more to say."""


@functools.cache
def _advise_when_compiled() -> None:
    event.register("numba:compile", _FirstCompilation())


@functools.cache
def _advise() -> None:
    warnings.warn(_ADVICE, KernelCacheWarning, stacklevel=2)


if not COMPILES:
    # Streams of random numbers count modulo 2^64, as compiled integers do without a word.
    warnings.filterwarnings("ignore", "overflow encountered in scalar", RuntimeWarning)

    def tuple_setitem(values: tuple, index: int, value: Any) -> tuple:
        """Replace one element of a tuple; compiled, it is numba's own."""
        return (*values[:index], value, *values[index + 1 :])

else:
    from numba.cpython.unsafe.tuple import tuple_setitem
