"""Standard output as a promise: on it stands what a command says, all of it, and nothing else.

- What a library prints, by Python or by C, goes to standard error: while a command runs, ``sys.stdout`` is
  ``sys.stderr``, and file descriptor 1 is another name of 2. Commands themselves speak through :func:`say`.
- Any encoding takes any text: what it lacks is written in ASCII.
- One output that cannot be written (a full disk, a closed pipe) costs no other: the command ends with an error, but
  not before the rest is written. Standard error that cannot be written costs nothing.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import click

from kvopt import ctrl_c
from kvopt.errors import KvoptError
from kvopt.output import PLAIN

_STDOUT, _FAILED = "kvopt.stdout", "kvopt.failed"
"""Keys of what a command's context holds: the stream, and the errors of outputs that could not be written."""
_BROKEN_PIPE_EXIT = 141
"""128 and SIGPIPE: what shells report of a command whose reader went away."""
_USAGE_EXIT = 2
_GONE = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.ENXIO, errno.EDQUOT, errno.EFBIG)


class Speaking(click.Command):
    """A command whose standard output holds what it says and nothing else."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; outputs that could not be written are its error at the end."""
        failed: list[KvoptError | BrokenPipeError] = []
        ctx.meta[_STDOUT], ctx.meta[_FAILED] = sys.stdout, failed
        try:
            with contextlib.redirect_stdout(sys.stderr):
                result = super().invoke(ctx)
        except (KvoptError, SystemExit, KeyboardInterrupt):
            _tell(failed)
            raise
        _tell(failed[:-1])
        if failed and isinstance(failed[-1], KvoptError):
            raise failed[-1]
        if failed:
            ctx.exit(_BROKEN_PIPE_EXIT)
        return result


class Commands(click.Group):
    """A group of commands that speak, in a process whose standard streams are made fit for that."""

    command_class = Speaking
    group_class = type

    def main(self, *args, **kwargs) -> Any:
        """Run the command line."""
        with _fit_streams():
            try:
                return super().main(*args, **kwargs)
            except OSError as error:
                # What click writes by itself: help and the version.
                if error.filename is not None or error.errno not in _GONE:
                    raise
                _abandon(sys.stdout)
                click.echo(f"error: {_cannot_write(error)}", err=True)
                sys.exit(_USAGE_EXIT)


def _tell(failed: list[KvoptError | BrokenPipeError]) -> None:
    for error in failed:
        if isinstance(error, KvoptError):
            click.echo("error: " + " ".join(str(error).split()), err=True)


def stdout() -> TextIO | None:
    """The stream that is standard output for the running command; None where the process was given none."""
    context = click.get_current_context(silent=True)
    return sys.stdout if context is None else context.meta.get(_STDOUT, sys.stdout)


def say(text: str) -> None:
    """Write a text and an end of line to standard output."""

    def write() -> None:
        stream = stdout()
        if stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        stream.write(text + "\n")
        stream.flush()

    deliver(write)


def deliver(write: Callable[[], Any]) -> None:
    """Make one of a command's outputs. If that fails, the command goes on to the others and ends with the error.

    Parameters
    ----------
    write : callable
        An :class:`OSError` that it raises is of standard output, a :class:`~kvopt.errors.KvoptError` of a file.
    """
    context = click.get_current_context(silent=True)
    failed = None if context is None else context.meta.get(_FAILED)
    try:
        with ctrl_c.whole_output():
            write()
    except (KvoptError, OSError) as error:
        told = error
        if isinstance(error, OSError):
            _abandon(stdout())
            told = error if isinstance(error, BrokenPipeError) else _cannot_write(error)
        if failed is None:
            raise told from None
        if str(told) not in map(str, failed):
            failed.append(told)


def _cannot_write(error: OSError) -> KvoptError:
    reason = error.strerror or str(error)
    return KvoptError("standard output", f"cannot be written ({reason})", "Send it to a place that takes it")


def _abandon(stream: TextIO | None) -> None:
    """Let the stream's last bytes, which Python would write at its end, go nowhere."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def _fit_streams() -> Iterator[None]:
    """Streams that take any text, the second one without ever failing, and file descriptor 1 an alias of 2.

    Only where they are the process's own: what a test puts in their place is left alone.
    """
    _open_missing_descriptors()
    before = sys.stdout, sys.stderr
    own_stdout, own_stderr = _is(sys.stdout, 1), sys.stderr is None or _is(sys.stderr, 2)
    kept = None
    if own_stderr:
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        raw = io.BufferedWriter(_NeverFailing(), 1)
        sys.stderr = io.TextIOWrapper(raw, encoding, PLAIN, line_buffering=True, write_through=True)
    if own_stdout:
        before[0].flush()
        kept = os.dup(1)
        os.dup2(2, 1)
        sys.stdout = open(kept, "w", encoding=before[0].encoding, errors=PLAIN)  # noqa: SIM115
    try:
        yield
    finally:
        if own_stdout:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os.dup2(kept, 1)
            _abandon(sys.stdout)
        sys.stdout, sys.stderr = before


class _NeverFailing(io.RawIOBase):
    """Standard error, whose loss is no reason to lose what a command does."""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(2)

    def fileno(self) -> int:
        return 2

    def write(self, data) -> int:
        with contextlib.suppress(OSError):
            return os.write(2, data)
        return len(data)


def _is(stream: TextIO | None, descriptor: int) -> bool:
    try:
        return stream is not None and stream.fileno() == descriptor
    except (OSError, ValueError, AttributeError):
        return False


def _open_missing_descriptors() -> None:
    """Give a closed standard stream's number to nothing, so that no file that is opened later gets it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one.
            os.open(os.devnull, os.O_RDWR)
