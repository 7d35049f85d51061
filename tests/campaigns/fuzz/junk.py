"""Values and texts nobody means, and ways to spoil bytes, JSON, TOML and objective lines."""

from __future__ import annotations

import copy
import json
import math
from random import Random
from typing import Any

DEEP = "<deep>"
HUGE = "<huge>"
_NUMBERS = (-1, 0, 1, 2, 0.5, -0.5, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**400, -(10**400), 1e308, math.inf, math.nan)
_PLAIN = (None, True, False, "", "x", "nan", "9" * 400, "\x00", "\ud800", "ü\n", [], {}, [1, "a"], {"a": 1}, [[1], 2])
_TOKENS = (
    b"\x00",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80" * 9,
    b"\x7f" + b"\xff" * 7,
    b"PK\x03\x04",
)
_LITERALS = (
    *(
        "inf",
        "-inf",
        "nan",
        "-1",
        "0",
        "0.5",
        "1e400",
        "9" * 400,
        "9" * 5000,
        "0x1" + "0" * 4000,
        "1979-05-27",
        "07:32:00",
    ),
    *(
        "true",
        '""',
        '"x"',
        '"""a\nb"""',
        "'c'",
        "[]",
        "{}",
        "[1, 'a']",
        "{ hbm = 'x' }",
        "{ hbm = nan }",
        "{ hbm = -1 }",
    ),
    *("{ hbm = " + "9" * 400 + " }", "[" * 200 + "]" * 200, "[" * 5000, "{a=" * 300, '"' + "y" * 5000 + '"', "[[1]]"),
)
_KEYS = (
    "a.b = 1",
    "a" + ".a" * 500 + " = 1",
    "[[tiers]]",
    "[tiers]",
    "[moe]",
    "name = 1",
    "'' = 1",
    "x = 1",
    "= 1",
    "[" * 99,
)


def number(rng: Random) -> Any:
    """A number at some limit."""
    return rng.choice(_NUMBERS)


def value(rng: Random) -> Any:
    """Anything that JSON can hold, or nearly."""
    kind = rng.random()
    if kind < 0.5:
        return number(rng)
    if kind < 0.9:
        return rng.choice(_PLAIN)
    return rng.choice((DEEP, HUGE, "y" * 20_000, [0] * 3000))


def spoiled_bytes(rng: Random, data: bytes, other: bytes = b"") -> bytes:
    """The bytes after one to three changes: flips, cuts, insertions, repetitions, splices with other bytes."""
    spoiled = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        size = len(spoiled)
        at = rng.randrange(size + 1) if rng.random() < 0.7 else max(size - rng.randrange(1, 1000), 0)
        end = min(at + rng.choice((1, 1, 2, 4, 8, 64)), size)
        kind = rng.randrange(8)
        if kind == 0 and size:
            spoiled[min(at, size - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1 and size:
            spoiled[min(at, size - 1)] = rng.randrange(256)
        elif kind == 2:
            del spoiled[at:end]
        elif kind == 3:
            spoiled[at:at] = rng.choice(_TOKENS)
        elif kind == 4:
            token = rng.choice(_TOKENS)
            spoiled[at : at + len(token)] = token
        elif kind == 5:
            spoiled[at:at] = spoiled[at:end]
        elif kind == 6:
            del spoiled[at:]
        else:
            spoiled[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(spoiled)


def spoiled_json(rng: Random, data: Any) -> Any:
    """A copy of JSON data in which something is another value, missing or there twice."""
    if rng.random() < 0.03:
        return copy.deepcopy(value(rng))
    data = json.loads(json.dumps(data))
    for _ in range(rng.choice((1, 1, 2))):
        _spoil(rng, data)
    return data


def _spoil(rng: Random, data: Any) -> None:
    while isinstance(data, dict | list) and data:
        keys = list(data) if isinstance(data, dict) else range(len(data))
        key = rng.choice(keys)
        inner = data[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.75:
            data = inner
            continue
        if rng.random() < 0.85:
            data[key] = copy.deepcopy(value(rng))  # What is drawn next may spoil that, too.
        elif isinstance(data, list) and rng.random() < 0.5:
            data.append(copy.deepcopy(inner))
        else:
            del data[key]
        return


def json_text(rng: Random, data: Any) -> str:
    """JSON with the marks in it made nests and numbers that ``json.dumps`` would not write."""
    depth = rng.choice((60, 900, 3000))
    nest = "[" * depth + "]" * depth if rng.random() < 0.5 else '{"a":' * depth + "1" + "}" * depth
    text = json.dumps(data, ensure_ascii=rng.random() < 0.9).replace(f'"{DEEP}"', nest)
    return text.replace(f'"{HUGE}"', rng.choice(("1e400", "-1e400", "9" * 5000, "NaN", "-Infinity")))


def encoded(rng: Random, text: str) -> bytes:
    """Text as bytes: mostly UTF-8, at times with a byte order mark, other ends of lines, or in another encoding."""
    kind = rng.random()
    if kind < 0.02:
        return text.encode("utf-16", "surrogatepass")
    if kind < 0.04:
        return b"\xef\xbb\xbf" + text.encode("utf-8", "surrogatepass")
    return text.replace("\n", "\r\n" if kind < 0.08 else "\n").encode("utf-8", "surrogatepass")


def spoiled_toml(rng: Random, text: str) -> str:
    """A TOML file with values, lines or keys that are other ones, missing, or there twice."""
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(lines))
        kind = rng.random()
        if kind < 0.6 and "=" in lines[at]:
            lines[at] = lines[at].split("=")[0] + "= " + rng.choice(_LITERALS)
        elif kind < 0.75:
            lines.insert(at, rng.choice(_KEYS))
        elif kind < 0.85:
            lines.insert(at, lines[at])
        elif kind < 0.95:
            del lines[at]
        else:
            lines.insert(at, f"# {'z' * rng.choice((10, 300_000))}")
        lines = lines or [""]
    return "\n".join(lines)


_NAMES = (
    "latency",
    "worst_step",
    "worst-step",
    "cvar",
    "late_steps",
    "traffic",
    "energy",
    "cost",
    "nothing",
    "_",
    "é",
    "None",
)
_PARAMS = (
    "alpha",
    "deadline_s",
    "channel",
    "read_j_per_byte",
    "write_j_per_byte",
    "power_w",
    "per_hour",
    "currency",
    "name",
    "**",
)
_ARGUMENTS = (
    *(
        "0.95",
        "0",
        "-1",
        "2",
        "1e400",
        "9" * 400,
        "None",
        "True",
        "'hbm'",
        "'x'",
        "[]",
        "{}",
        "{[]: 1}",
        "{'hbm': 1e-9}",
    ),
    *(
        "{'hbm': 'x'}",
        "{'hbm': None}",
        "{1: 2}",
        "1j",
        "1+1j",
        "b'x'",
        "...",
        "lambda: 0",
        "__import__('os')",
        "[1] * 9",
        "f'{1}'",
    ),
    *(
        "{'hbm': " + "9" * 400 + "}",
        "{'hbm': float('nan')}",
        "(" * 60 + "1" + ")" * 60,
        "1" + "+1" * 300,
        "'" + "q" * 3000 + "'",
        "{*()}",
    ),
)
_USUAL = {
    "cvar": (("alpha", "0.9"),),
    "late_steps": (("deadline_s", "0.05"),),
    "traffic": (("channel", "'hbm'"),),
    "energy": (("read_j_per_byte", "{'hbm': 1e-9}"), ("write_j_per_byte", "{}"), ("power_w", "700")),
    "cost": (("per_hour", "3"),),
}
_JOINTS = (" + ", "+", "*", " - ", "/", "**", "@", ",", ";", "\n", " if 1 else ", ".", "++", "")


def objective_line(rng: Random) -> str:
    """A line that is nearly an objective."""
    count = rng.choice((1, 1, 2, 2, 3, 5, 150, 500, 3000)) if rng.random() < 0.2 else rng.choice((1, 2, 3))
    joint = rng.choice(_JOINTS) if rng.random() < 0.3 else " + "
    few = [_term(rng) for _ in range(min(count, 3))]
    line = joint.join(few[k % len(few)] for k in range(count))
    kind = rng.random()
    if kind < 0.05:
        depth = rng.choice((50, 150, 250, 4000))
        return "(" * depth + line + ")" * depth
    if kind < 0.1:
        return rng.choice(("-", "~", "not ", "2*", "1e-3*")) * rng.choice((3, 90, 2000, 100_000)) + line
    if kind < 0.2:
        return spoiled_bytes(rng, line.encode(), b"latency()").decode("utf-8", "replace")
    return line


def _term(rng: Random) -> str:
    name = rng.choice(_NAMES)
    given = ", ".join(f"{rng.choice(_PARAMS)}={rng.choice(_ARGUMENTS)}" for _ in range(rng.choice((0, 1, 1, 2, 3))))
    if rng.random() < 0.7:
        given = ", ".join(
            f"{p}={rng.choice((usual, usual, rng.choice(_ARGUMENTS)))}" for p, usual in _USUAL.get(name, ())
        )
    call = f"{name}({given})" if given or rng.random() < 0.3 else name
    return rng.choice(("", "", "0.5*", "1e400*", "-1*", "x*", "0*", "True*", "'a'*", "2*3*")) + call
