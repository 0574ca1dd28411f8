"""The tree of a parsed expression. Reference: cel-spec ``cel/expr/syntax.proto``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class Node:
    """``id`` is the parser's: positions and types are kept by it."""

    id: int


@dataclass(slots=True, eq=False)
class Const(Node):
    """A literal; ``value`` as evaluation uses it."""

    value: Any


@dataclass(slots=True, eq=False)
class Ident(Node):
    """A name; a leading dot means the outermost scope."""

    name: str


@dataclass(slots=True, eq=False)
class Select(Node):
    """``operand.field``, or ``has(operand.field)`` when ``test``."""

    operand: Node
    field: str
    test: bool


@dataclass(slots=True, eq=False)
class Call(Node):
    """``function(args)`` or ``target.function(args)``; operators are functions like ``_+_``."""

    function: str
    target: Node | None
    args: list[Node]


@dataclass(slots=True, eq=False)
class ListLiteral(Node):
    """``[a, ?b]``; ``optional`` holds the indices of those with a question mark."""

    elements: list[Node]
    optional: frozenset[int]


@dataclass(slots=True, eq=False)
class Entry:
    """``key: value`` of a map (``key`` a Node) or of an object (``key`` a name)."""

    id: int
    key: Node | str
    value: Node
    optional: bool


@dataclass(slots=True, eq=False)
class StructLiteral(Node):
    """``{…}`` (``name`` empty) or ``Name{…}``."""

    name: str
    entries: list[Entry]


@dataclass(slots=True, eq=False)
class Comprehension(Node):
    """What macros become: fold ``range`` into ``accumulator``."""

    variable: str
    variable2: str
    range: Node
    accumulator: str
    initial: Node
    condition: Node
    step: Node
    result: Node


@dataclass(slots=True, eq=False)
class Tree:
    """A whole expression with the offsets (in code points) of its nodes."""

    source: str
    root: Node
    positions: dict[int, int]

    def error_at(self, node_id: int, message: str) -> str:
        """The message with its place, as cel-go prints issues."""
        offset = self.positions.get(node_id, 0)
        before = self.source[:offset]
        line = before.count("\n") + 1
        column = offset - (before.rfind("\n") + 1)
        snippet = self.source.split("\n")[line - 1]
        # Wide characters take two columns in upstream's marks.
        dots = "".join("．" if ord(char) > 0x7F else "." for char in snippet[:column])
        mark = "＾" if column < len(snippet) and ord(snippet[column]) > 0x7F else "^"
        return f"ERROR: <input>:{line}:{column + 1}: {message}\n | {snippet}\n | {dots}{mark}"
