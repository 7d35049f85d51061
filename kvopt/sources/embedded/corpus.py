"""The text the embedded example is trained on: Python's standard library.

Every interpreter carries it, so the example needs no download. Directories
named in :data:`SKIPPED` are left out: the test suites are several times as
large as the library and full of literal data.
"""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SKIPPED = frozenset({"test", "tests", "idle_test", "__pycache__", "site-packages", "dist-packages"})
"""Directory names whose files are not part of the corpus."""

SEPARATOR = 0
"""Byte put after every file; it does not occur in Python source."""

HELD_OUT_EVERY = 20
"""One file in so many, in path order, is held out of training."""


@dataclass(frozen=True)
class Corpus:
    """Files of the library, split into a trained-on and a held-out part.

    Parameters
    ----------
    train, held_out : dict of str to bytes
        Contents by path relative to the library's root, in path order.
    """

    train: dict[str, bytes]
    held_out: dict[str, bytes]


def read_corpus(root: Path | None = None) -> Corpus:
    """Read and split the ``*.py`` files of a library.

    Parameters
    ----------
    root : Path, optional
        Directory to read; the running interpreter's standard library if absent.

    Returns
    -------
    Corpus
        Every :data:`HELD_OUT_EVERY`-th file of the sorted paths is held out.
    """
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    paths = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.py"))
    paths = [path for path in paths if not SKIPPED.intersection(path.split("/")[:-1])]
    train, held_out = {}, {}
    for index, path in enumerate(paths):
        part = held_out if index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else train
        part[path] = (root / path).read_bytes()
    return Corpus(train, held_out)


def join(files: dict[str, bytes]) -> np.ndarray:
    """Concatenate files, each followed by the separator.

    Parameters
    ----------
    files : dict of str to bytes
        Contents by path.

    Returns
    -------
    numpy.ndarray
        uint8, one element per byte.
    """
    end = bytes([SEPARATOR])
    return np.frombuffer(b"".join(text + end for text in files.values()), dtype=np.uint8)
