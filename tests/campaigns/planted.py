"""Readers with faults planted in them, each of which the fuzz campaign must see, tell apart and survive."""

from __future__ import annotations

import os
import time

from kvopt.errors import KvoptError
from tests.campaigns.fuzz.readers import Reader

FAULTS = {3: "bare", 5: "bare", 7: "crash", 8: "slow"}


def _run(number: int) -> None:
    if number == 3:
        raise KeyError("planted")
    if number == 5:
        raise MemoryError
    if number == 7:
        os.abort()
    if number == 8:
        end = time.process_time() + 1.5
        while time.process_time() < end:
            pass
    if number == 9:
        raise KvoptError("field", "problem", "fix")


ALL = {"planted": lambda folder: Reader("", lambda rng: rng.randrange(10), _run)}
