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
from numba.core import event, types

from kvopt.errors import KernelCacheWarning

__all__ = ["COMPILES", "KERNELS", "VERSION", "njit", "part", "piece", "tuple_setitem"]

COMPILES = not numba.config.DISABLE_JIT
"""Whether kernels are compiled at all."""

VERSION = numba.__version__
KERNELS: list[Any] = []
"""All that Python can call, compiled or not."""
_DEFAULTS = {"no_cfunc_wrapper": True, "error_model": "numpy"}
"""No kernel is called from C, and none divides by zero: what would be done about either takes time to compile."""
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
        kernel = _made(function, cache, options)
        if COMPILES:
            KERNELS.append(kernel)
        return kernel

    return decorate


def _made(function: Callable, cache: bool, options: dict[str, Any]) -> Any:
    options = _DEFAULTS | options
    try:
        kernel = numba.njit(cache=cache, **options)(function)
    except RuntimeError as error:
        if not (cache and _NO_PLACE in str(error)):
            raise
        _advise_when_compiled()
        kernel = numba.njit(**options)(function)
    if cache:
        _survive_full_disks(kernel)
    _check_calls(kernel, counts=options.get("_nrt", True))
    return kernel


def part(function: Callable | None = None, **options: Any) -> Any:
    """Compile what kernels call and nobody else.

    Python cannot call it when compiled: to take apart what a caller in Python hands over takes longer to compile than
    most parts do.

    Parameters
    ----------
    function : callable, optional
        ``@part`` alone decorates.
    **options
        Of ``numba.njit``.

    Returns
    -------
    callable
        The kernel, or the decorator.
    """

    def decorate(function: Callable) -> Any:
        made = _made(function, True, {"nogil": True, "no_cpython_wrapper": True, **options})
        return _keep_from_python(made)

    return decorate if function is None else decorate(function)


def piece(function: Callable) -> Any:
    """Compile a :func:`part` once, and into each kernel that calls it.

    It makes and returns no array and calls nothing that does, and so counts no references.
    """
    return part(function, _nrt=False, forceinline=True)


def _keep_from_python(kernel: Any) -> Any:
    """Have a kernel without a way in from Python say so: numba would jump to where there is nothing."""
    if COMPILES:

        def refuse(*_: Any, **__: Any) -> None:
            raise TypeError(f"{kernel.__name__} is part of compiled kernels, and only they can call it")

        kernel._compile_for_args = refuse
        kernel._insert = lambda *_: None  # So it stays unknown to the table in which numba looks first.
    return kernel


def _check_calls(kernel: Any, counts: bool) -> None:
    """Have a kernel compiled for the types that others call it with, not for each constant among the arguments.

    And refuse one that counts no references to arrays (``counts``) but returns some: its callers would give back what
    it never took, and free what is in use.
    """
    resolve = getattr(kernel, "get_call_template", None)
    if resolve is None:
        return

    def resolve_types(args: tuple, kws: dict) -> Any:
        found = resolve(tuple(map(types.unliteral, args)), {name: types.unliteral(kind) for name, kind in kws.items()})
        if not counts and any(_holds_arrays(signature.return_type) for signature in kernel.nopython_signatures):
            raise TypeError(f"{kernel.__name__} returns an array but counts no references (_nrt=False)")
        return found

    kernel.get_call_template = resolve_types


def _holds_arrays(kind: types.Type) -> bool:
    if isinstance(kind, types.BaseTuple):
        return any(map(_holds_arrays, kind))
    return isinstance(kind, types.Array)


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
