"""Valid objects, changed until they hardly are: everything follows from a ``random.Random``, so a seed repeats it."""

from __future__ import annotations

import copy
import json
import re
from random import Random
from typing import Any

# What goes where something else belongs. ``Raw`` is JSON text that no encoder would write.


class Raw(str):
    """JSON as it stands."""

    __slots__ = ()


_NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 65536, 2**31, -(2**31) - 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 0.5, -0.0, 1e308,
    Raw("1e400"), Raw("-1e400"), Raw("NaN"), Raw("Infinity"), Raw("1" * 400), Raw("0." + "1" * 400), Raw("1E+2"),
    Raw("-0"), Raw("0x10"), Raw("01"),
)  # fmt: skip
_TEXTS: tuple[Any, ...] = (
    "", " ", "a" * 64, "a" * 254, "a" * 5000, "A", "-a", "a-", "a.b", "a..b", ".", "..", "a/b", "a%2fb",
    "a\nb", "\x00", "\x7f",
    "\u202e", "ü", "💥", "\ufeff", "ß" * 63, "null", "true", "NaN", "0", "-1", "1e999999999", "9" * 400, "1.5.5",
    "1Ki", "1kk", "-5Gi", "0.0000000000001", "999999999999999999Ei", "101%", "-1%", "%", "10.0.0.1", "999.1.1.1", "::1",
    "fe80::1%eth0", "10.0.0.0/33", "http://[::1", "2026-02-30T00:00:00Z", "9999-12-31T23:59:60Z",
    "0000-01-01T00:00:00+24:00",
    "1h1h", "-1s", "* * * * *", "* * * * * *", "@every 1s", "0 0 31 2 *", "Mars/Olympus", "(((((", "[",
    "a{1,99999}", "\\",
    "self.a +", "{.spec[*]..x}", "a=b,c in (d", "!=", "in", "====", "Zm9v====", "eyJ", "-----BEGIN CERTIFICATE-----",
    "$(VAR)", "$$(VAR)", "../../etc/passwd", "/", "//", "C:\\x", "kubernetes.io/x", "example.com/" + "x" * 64,
    "system:masters",
    Raw('"\\ud800"'), Raw('"\\udc00\\ud800"'), Raw('"\\u0000"'), Raw('"\\x"'), Raw('"' + "\t" + '"'),
)  # fmt: skip


def deep(depth: int, kind: str = "object") -> Raw:
    """Nested that many times."""
    return Raw('{"a":' * depth + "1" + "}" * depth if kind == "object" else "[" * depth + "]" * depth)


def junk(random: Random) -> Any:
    """One odd value."""
    choice = random.randrange(12)
    if choice < 3:
        return random.choice(_NUMBERS)
    if choice < 7:
        return random.choice(_TEXTS)
    if choice == 7:
        return random.choice((None, True, False))
    if choice == 8:
        return random.choice(([], [None], [[]], [{}], [1, "a", None], {}, {"": ""}, {"a": None}, {"\x00": 1}))
    if choice == 9:
        return deep(random.choice((3, 60, 400, 2000)), random.choice(("object", "array")))
    if choice == 10:
        return {f"k{n}": n for n in range(random.choice((10, 3000)))}
    return [random.choice(_TEXTS) for _ in range(random.choice((2, 2000)))]


def _places(value: Any, found: list[tuple[Any, Any]]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            found.append((value, key))
            _places(inner, found)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found.append((value, index))
            _places(inner, found)


def mutated(obj: Any, random: Random, others: list[Any]) -> Any:
    """A copy with one to four changes; ``others`` are objects whose parts may be put in."""
    changed = copy.deepcopy(obj)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places: list[tuple[Any, Any]] = []
        _places(changed, places)
        if not places:
            return junk(random)
        where, key = random.choice(places)
        match random.randrange(9):
            case 0 | 1 | 2 | 3:
                where[key] = junk(random)
            case 4:
                del where[key]
            case 5 if isinstance(where, dict):
                where[random.choice(_TEXTS)] = where[key]
            case 5 | 6:
                if isinstance(where, list):
                    where.extend(copy.deepcopy(where) * random.choice((1, 3, 50)) if len(where) < 50 else ())
                else:
                    where[key] = [where[key], where[key]]
            case 7:
                elsewhere: list[tuple[Any, Any]] = []
                _places(random.choice(others), elsewhere)
                there, name = random.choice(elsewhere)
                where[key] = copy.deepcopy(there[name])
                if len(places) > 3000:
                    break
            case _:
                where[key] = {"a": where[key]} if random.random() < 0.5 else [where[key]]
    return changed


def encoded(value: Any) -> bytes:
    """JSON, with ``Raw`` parts as they stand."""
    raws: list[str] = []

    def mark(part: Any) -> Any:
        if isinstance(part, Raw):
            raws.append(str(part))
            return f"\x01raw{len(raws) - 1}\x01"
        if isinstance(part, dict):
            return {str(key): mark(inner) for key, inner in part.items()}
        if isinstance(part, list):
            return [mark(inner) for inner in part]
        return part

    text = re.sub(r'"\\u0001raw(\d+)\\u0001"', lambda found: raws[int(found[1])], json.dumps(mark(value)))
    return text.encode("utf-8", "surrogatepass")
