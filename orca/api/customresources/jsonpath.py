"""JSONPath as printer columns and field selectors use it: Kubernetes' dialect, without its templates.

Reference: k8s.io/client-go ``util/jsonpath``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_NAME = re.compile(r"(?:[^.\[\]\\(){}'\"\s]|\\.)+")
_SLICE = re.compile(r"^(-?\d+)?(?::(-?\d+)?(?::(-?\d+)?)?)?$")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<=": lambda a, b: bool(a <= b),
    ">=": lambda a, b: bool(a >= b),
    "<": lambda a, b: bool(a < b),
    ">": lambda a, b: bool(a > b),
}
_COMPARISON = re.compile(r"^(.*?)\s*(==|!=|<=|>=|<|>)\s*(.*)$", re.DOTALL)

Step = Callable[[Any], Iterator[Any]]


class BadPath(ValueError):
    """Not a path."""


@dataclass(frozen=True, slots=True)
class Path:
    """A parsed path."""

    steps: tuple[Step, ...]

    def find(self, value: Any) -> list[Any]:
        """Everything it points to, in order; nothing when a step is missing."""
        found = [value]
        for step in self.steps:
            found = [inner for one in found for inner in step(one)]
            if not found:
                break
        return found


@lru_cache(maxsize=4096)
def parse(text: str) -> Path:
    """``.spec.hosts[0].name`` and the like. Raises BadPath."""
    return Path(tuple(_steps(text)))


def field_steps(text: str) -> tuple[str, ...]:
    """The names in a path of fields only, without arrays. Raises BadPath."""
    if not text.startswith("."):
        raise BadPath("must be a simple json path starting with .")
    steps: list[str] = []
    rest = text
    while rest:
        quoted = re.match(r"^\.?\['((?:[^'\\]|\\.)*)'\]", rest)
        plain = re.match(r"^\.([A-Za-z_][A-Za-z0-9_-]*)", rest)
        match = quoted or plain
        if match is None:
            raise BadPath("does not refer to a valid field")
        steps.append(re.sub(r"\\(.)", r"\1", match[1]))
        rest = rest[match.end() :]
    return tuple(steps)


def _steps(text: str) -> Iterator[Step]:
    rest = text.strip().removeprefix("$").removeprefix("@")
    while rest:
        if rest.startswith(".."):
            rest = rest[2:]
            yield _descend
            if rest and rest[0] != "[":
                rest = "." + rest
        elif rest.startswith("["):
            inside, rest = _bracket(rest)
            yield _bracketed(inside)
        elif rest.startswith("."):
            rest = rest[1:]
            if not rest or rest[0] == "[":
                continue
            if rest[0] == "*":
                rest = rest[1:]
                yield _all
                continue
            match = _NAME.match(rest)
            if match is None:
                raise BadPath(f"unrecognized character in {text!r}")
            rest = rest[match.end() :]
            yield _member(re.sub(r"\\(.)", r"\1", match[0]))
        else:
            raise BadPath(f"unrecognized character in {text!r}")


def _bracket(text: str) -> tuple[str, str]:
    """What is inside the bracket that ``text`` begins with, and what follows it."""
    depth, quote = 0, ""
    index = 0
    while index < len(text):
        character = text[index]
        if quote:
            if character == "\\":
                index += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
            if not depth:
                return text[1:index].strip(), text[index + 1 :]
        index += 1
    raise BadPath("unterminated array")


def _bracketed(inside: str) -> Step:
    if inside == "*":
        return _all
    if inside.startswith("?(") and inside.endswith(")"):
        return _filter(inside[2:-1].strip())
    if "," in inside and not (inside[:1] in "'\"" and inside.count(inside[0]) == 2):
        return _union([_bracketed(part.strip()) for part in _split(inside)])
    if len(inside) >= 2 and inside[0] == inside[-1] and inside[0] in "'\"":
        return _member(re.sub(r"\\(.)", r"\1", inside[1:-1]))
    match = _SLICE.match(inside)
    if match is None or not inside:
        raise BadPath(f"invalid array index {inside}")
    if ":" not in inside:
        return _index(int(inside))
    first, last, step = (int(part) if part else None for part in match.groups())
    return _slice(first, last, step)


def _split(text: str) -> list[str]:
    return re.findall(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^,\s][^,]*", text)


def _member(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _index(at: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= at < len(value):
            yield value[at]

    return step


def _slice(first: int | None, last: int | None, every: int | None) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and every != 0:
            yield from value[first:last:every]

    return step


def _union(steps: list[Step]) -> Step:
    def step(value: Any) -> Iterator[Any]:
        for one in steps:
            yield from one(value)

    return step


def _all(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _descend(value: Any) -> Iterator[Any]:
    yield value
    for inner in _all(value):
        yield from _descend(inner)


def _filter(text: str) -> Step:
    match = _COMPARISON.match(text)
    if match is None:
        wanted = parse(text)

        def exists(value: Any) -> Iterator[Any]:
            for item in _all(value):
                if wanted.find(item):
                    yield item

        return exists
    left, right, compare = _operand(match[1]), _operand(match[3]), _OPERATORS[match[2]]

    def matching(value: Any) -> Iterator[Any]:
        for item in _all(value):
            a, b = left(item), right(item)
            try:
                if a and b and compare(a[0], b[0]):
                    yield item
            except TypeError:
                continue

    return matching


def _operand(text: str) -> Callable[[Any], list[Any]]:
    text = text.strip()
    if text.startswith(("@", "$", ".")):
        return parse(text).find
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        literal: Any = re.sub(r"\\(.)", r"\1", text[1:-1])
    elif text in ("true", "false"):
        literal = text == "true"
    else:
        try:
            literal = int(text) if re.match(r"^[-+]?\d+$", text) else float(text)
        except ValueError as error:
            raise BadPath(f"unrecognized operand {text!r}") from error
    return lambda _: [literal]
