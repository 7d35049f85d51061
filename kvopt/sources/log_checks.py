"""Checks of what a user says about a request log against the log's own lengths and stamps.

A wrong number of tokens per id scales all blocks, and nothing later would show it.
"""

from __future__ import annotations

import numpy as np

from kvopt.errors import TraceError

_ANYWAY = "check=False (--no-check) takes the log as it is"
_CLEARLY = 10
"""A size is refused when another one leaves at most a tenth as many rows unexplained: some logs count the tokens of a
chat template in the ids and not in the lengths, so that a few rows fit no size."""
_MOST_TOKENS_PER_ID = 1 << 40
_BUSY_PER_S = 100.0
"""Requests per second from which on stamps that are mostly fractions are taken for seconds."""
_IMPOSSIBLE_PER_S, _MANY_ROWS = 2000.0, 1000
"""Requests per second that no log of so many rows has on average."""
_RARE_S, _LONG_S = 120.0, 10 * 86_400.0
"""A gap, on average, and a spread that whole seconds do not have together, and milliseconds do."""
_UNIX_S = (1e9, 1e11)
"""Seconds since 1970 of the years 2001 to 5138; as milliseconds these are days in 1970 to 1973."""
_UNIX_US_IN_MS = 1e14


def check_block_tokens(
    block_tokens: int,
    n_ids: np.ndarray,
    input_length: np.ndarray,
    output_length: np.ndarray,
    line: np.ndarray,
    name: str,
) -> str | None:
    """Compare the tokens of one id with the lengths of the rows that have ids.

    A row of n ids and T tokens fits b tokens per id where n is T / b rounded up, or, in a log that names whole blocks
    only, rounded down; T is the length of the prompt, or that with the answer. One reading must hold for all rows.

    Parameters
    ----------
    block_tokens : int
    n_ids, input_length, output_length, line : int64[Q]
    name : str
        Of the log.

    Returns
    -------
    str or None
        What to tell of rows that do not fit where the log as a whole does not contradict.

    Raises
    ------
    TraceError
        Naming the size that fits, when another one does and this one does not; or when none does.
    """
    has = n_ids > 0
    n, prompt, answer = n_ids[has], input_length[has], output_length[has]
    readings = [(t, up) for t in (prompt, prompt + answer, prompt + np.maximum(answer - 1, 0)) for up in (True, False)]
    wrong = min((_misfits(block_tokens, n, *reading) for reading in readings), key=np.count_nonzero)
    count = int(np.count_nonzero(wrong))
    if count == 0:
        return None
    k = int(np.argmax(wrong))
    problem = (
        f"{count:,} of {len(n):,} requests of {name} do not fit {block_tokens:,} tokens per id; the first of them, on "
        f"line {line[has][k]}, has {n[k]:,} ids for {prompt[k]:,} tokens"
    )
    size, fitting = max((_best_size(n, *reading) for reading in readings), key=lambda best: best[1])
    if (len(n) - fitting) * _CLEARLY <= count:
        rows = "All rows" if fitting == len(n) else f"{fitting:,} rows"
        raise TraceError(
            "block_tokens", problem, f"{rows} fit {size} tokens per id: block_tokens={size} (--block-tokens {size})"
        )
    if 2 * count > len(n):
        raise TraceError("block_tokens", problem, f"No size fits most rows; {_ANYWAY}")
    return problem


def _misfits(size: int, n: np.ndarray, tokens: np.ndarray, up: bool) -> np.ndarray:
    """bool[Q]: whether a row's ids are not its tokens by the size, rounded up or down."""
    if up:
        return ((n - 1) * size >= tokens) | (tokens > n * size)
    return (n * size > tokens) | (tokens >= (n + 1) * size)


def _best_size(n: np.ndarray, tokens: np.ndarray, up: bool) -> tuple[int, int]:
    """(Tokens per id that fit the most rows, how many): where most of the rows' intervals overlap."""
    if up:
        least = -(-tokens // n)
        most = np.where(n > 1, (tokens - 1) // np.maximum(n - 1, 1), _MOST_TOKENS_PER_ID)
    else:
        least, most = tokens // (n + 1) + 1, tokens // n
    some = (least <= most) & (least >= 1)
    least, most = np.sort(least[some]), np.sort(most[some])
    if len(least) == 0:
        return 1, 0
    # Where an interval begins, those overlap that began there or before and have not ended before.
    ended = np.searchsorted(most, least)
    overlap = np.arange(1, len(least) + 1) - ended
    best = int(np.argmax(overlap))
    return _roundest(int(least[best]), int(most[ended[best]])), int(overlap[best])


def _roundest(least: int, most: int) -> int:
    """The least power of two in a range, or the least multiple of the largest power of two that has one there."""
    step = 1 << (least - 1).bit_length()
    while -(-least // step) * step > most:
        step //= 2
    return -(-least // step) * step


def check_time_unit(time_unit: str, stamp_ms: np.ndarray, name: str) -> None:
    """Compare the unit of the stamps, as numbers without a date, with their size and spread.

    Parameters
    ----------
    time_unit : {"ms", "s"}
    stamp_ms : float64[Q]
        Taken in that unit.
    name : str
        Of the log.

    Raises
    ------
    TraceError
        Naming the other unit, when it fits and this one does not.
    """
    first, last = float(stamp_ms.min()), float(stamp_ms.max())
    gaps, spread_s = len(stamp_ms) - 1, (last - first) / 1e3
    rate = gaps / spread_s if spread_s else 0.0
    if last >= _UNIX_US_IN_MS:
        if time_unit == "s" and last / 1e3 < _UNIX_US_IN_MS:
            raise _wrong_unit(name, f"{last / 1e3:.0f} s is no time since 1970", "ms")
        fix = "Convert microseconds and nanoseconds to milliseconds"
        raise TraceError("time_unit", f"{name}: {last:.0f} ms is no time since 1970", fix)
    if time_unit == "ms":
        if _UNIX_S[0] <= first < _UNIX_S[1]:
            raise _wrong_unit(name, f"the first stamp, {first:.0f}, is a time since 1970 in seconds", "s")
        fractions = 2 * np.count_nonzero(stamp_ms % 1) > len(stamp_ms)
        impossible = gaps >= _MANY_ROWS and rate > _IMPOSSIBLE_PER_S
        if rate / 1e3 <= _BUSY_PER_S and (impossible or (fractions and rate > _BUSY_PER_S)):
            also = ", and most have fractions" if fractions else ""
            raise _wrong_unit(name, f"as milliseconds, stamps are of {rate:,.0f} requests per second{also}", "s")
    elif gaps and spread_s > _LONG_S and spread_s / gaps > _RARE_S and bool((stamp_ms % 1e3 == 0).all()):
        days, rare = spread_s / 86_400, spread_s / gaps
        raise _wrong_unit(name, f"as seconds, stamps spread over {days:.0f} days, one in {rare:.0f} s on average", "ms")


def _wrong_unit(name: str, problem: str, unit: str) -> TraceError:
    return TraceError("time_unit", f"{name}: {problem}", f"They fit time_unit={unit!r} (--time-unit {unit}); {_ANYWAY}")
