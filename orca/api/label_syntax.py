"""The text of label selectors: ``a=b,c!=d,e in (f,g),h,!i,j>1``.

Follows the lexer and the parser of k8s.io/apimachinery ``labels`` step by step, so that what is refused is refused
with the same words.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from orca.api import names

_SPECIAL = "=!(),><"
_SYMBOLS = frozenset({")", ",", "!", "==", "=", ">", "<", "!=", "("})
_WORDS = frozenset({"in", "notin"})
_BINARY = "in, notin, =, ==, !=, gt, lt"
_OPERATORS = {"=": "in", "==": "in", "in": "in", "!=": "notin", "notin": "notin", ">": "gt", "<": "lt"}
_INTEGER = re.compile(r"[+-]?\d+")
_END = ""


class Parsed(NamedTuple):
    """One requirement; ``operator`` is one of ``in notin exists ! gt lt``."""

    key: str
    operator: str
    values: tuple[str, ...]


class _Token(NamedTuple):
    kind: str  # "id", a symbol, or "" at the end
    text: str


def parse(text: str) -> list[Parsed]:
    """All requirements of a selector. Raises ValueError with upstream's words."""
    return _Parser(_scan(text)).parse()


def _scan(text: str) -> list[_Token]:
    found, at = [], 0
    while at < len(text):
        character = text[at]
        if character in " \t\r\n":
            at += 1
        elif character in _SPECIAL:
            # the longest symbol that these characters begin
            end = at + 2 if text[at : at + 2] in _SYMBOLS else at + 1
            found.append(_Token(text[at:end], text[at:end]))
            at = end
        else:
            end = at
            while end < len(text) and text[end] not in _SPECIAL and text[end] not in " \t\r\n":
                end += 1
            found.append(_Token("id", text[at:end]))
            at = end
    return found


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def _look(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _Token(_END, "")

    def _take(self) -> _Token:
        token = self._look()
        self._at += 1
        return token

    def parse(self) -> list[Parsed]:
        found: list[Parsed] = []
        while True:
            token = self._look()
            if token.kind == _END:
                return found
            if token.kind not in ("id", "!"):
                raise ValueError(f"found '{token.text}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._requirement())
            except ValueError as problem:
                raise ValueError(f"unable to parse requirement: {problem}") from None
            token = self._take()
            if token.kind == _END:
                return found
            if token.kind != ",":
                raise ValueError(f"found '{token.text}', expected: ',' or 'end of string'")
            token = self._look()
            if token.kind not in ("id", "!"):
                raise ValueError(f"found '{token.text}', expected: identifier after ','")

    def _requirement(self) -> Parsed:
        token = self._take()
        absent = token.kind == "!"
        if absent:
            token = self._take()
        if token.kind != "id":
            raise ValueError(f"found '{token.text}', expected: identifier")
        key = token.text
        wrong = names.qualified_name(key)
        if wrong:
            raise ValueError(f'key: Invalid value: "{key}": {"; ".join(wrong)}')
        if absent:
            return Parsed(key, "!", ())
        if self._look().kind in (_END, ","):
            return Parsed(key, "exists", ())
        token = self._take()
        operator = _OPERATORS.get(token.text)
        if operator is None or (token.kind == "id" and token.text not in _WORDS):
            raise ValueError(f"found '{token.text}', expected: {_BINARY}")
        values = self._values() if token.text in _WORDS else (self._value(),)
        _check(key, operator, values)
        return Parsed(key, operator, values)

    def _value(self) -> str:
        if self._look().kind in (_END, ","):
            return ""
        token = self._take()
        if token.kind != "id":
            raise ValueError(f"found '{token.text}', expected: identifier")
        return token.text

    def _values(self) -> tuple[str, ...]:
        token = self._take()
        if token.kind != "(":
            raise ValueError(f"found '{token.text}' expected: '('")
        token = self._look()
        if token.kind == ")":
            self._take()
            return ()
        if token.kind not in ("id", ","):
            raise ValueError(f"found '{token.text}', expected: ',', ')' or identifier")
        found = self._listed()
        token = self._take()
        if token.kind != ")":
            raise ValueError(f"found '{token.text}', expected: ')'")
        return tuple(dict.fromkeys(found))

    def _listed(self) -> list[str]:
        found: list[str] = []
        while True:
            token = self._take()
            if token.kind == "id":
                found.append(token.text)
                after = self._look()
                if after.kind == ")":
                    return found
                if after.kind != ",":
                    raise ValueError(f"found '{after.text}', expected: ',' or ')'")
            elif token.kind == ",":
                if not found:
                    found.append("")
                after = self._look()
                if after.kind == ")":
                    return [*found, ""]
                if after.kind == ",":
                    self._take()
                    found.append("")
            else:
                raise ValueError(f"found '{token.text}', expected: ',', or identifier")


def _check(key: str, operator: str, values: tuple[str, ...]) -> None:
    if operator in ("in", "notin") and not values:
        raise ValueError("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    if operator in ("gt", "lt"):
        if not _INTEGER.fullmatch(values[0]):
            text = "for 'Gt', 'Lt' operators, the value must be an integer"
            raise ValueError(f'values[0]: Invalid value: "{values[0]}": {text}')
        return
    for i, value in enumerate(sorted(values)):
        wrong = names.label_value(value)
        if wrong:
            raise ValueError(f'values[{i}][{key}]: Invalid value: "{value}": {"; ".join(wrong)}')
