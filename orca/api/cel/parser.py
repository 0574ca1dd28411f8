"""Text to tree, with Google's parser: the same grammar, and so the same syntax errors, as upstream's.

The library hands its tree out as a serialised ``cel.expr.ParsedExpr``; this module reads those bytes. Macros of one
variable come expanded, those of two variables the library does not know, so they are expanded here.

Reference: cel-spec ``cel/expr/syntax.proto``; cel-go ``ext/comprehensions.go``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

from orca.api.cel.errors import CelCompileError
from orca.api.cel.tree import (
    Call,
    Comprehension,
    Const,
    Entry,
    Ident,
    ListLiteral,
    Node,
    Select,
    StructLiteral,
    Tree,
)
from orca.api.cel.values import Uint

_ACCUMULATOR = "@result"
_TWO_VARIABLES = {"all", "exists", "existsOne", "exists_one", "transformList", "transformMap", "transformMapEntry"}
_TRAILER = re.compile(r" \[INVALID_ARGUMENT\]$")


@cache
def _library() -> Any:
    # Some 9 MB; only who uses expressions pays for it.
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_optional

    return cel.NewEnv(extensions=[ext_optional.ExtOptional()])


def parse(source: str) -> Tree:
    """The tree of ``source``. Raises CelCompileError with the syntax errors."""
    try:
        data = _library().compile(source, disable_check=True).serialize()
    except (RuntimeError, ValueError, UnicodeEncodeError) as error:
        text = str(error).removeprefix("INVALID_ARGUMENT: ")
        raise CelCompileError(_TRAILER.sub("", text)) from None
    return _Reader(source).read(data)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and raw value (an int, or bytes) of each field of a protobuf message."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value: Any
            value, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            value = data[at : at + size]
            at += size
        elif kind == 1:
            value = data[at : at + 8]
            at += 8
        else:
            value = data[at : at + 4]
            at += 4
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._positions: dict[int, int] = {}
        self._next = 0

    def read(self, data: bytes) -> Tree:
        # google.protobuf.Any around a ParsedExpr
        parsed = next(value for number, value in _fields(data) if number == 2)
        parts = dict(_fields(parsed))
        for number, value in _fields(parts.get(3, b"")):
            if number == 4:
                entry = dict(_fields(value))
                self._positions[entry.get(1, 0)] = entry.get(2, 0)
        self._next = max(self._positions, default=0) + 1
        return Tree(self._source, self._node(parts[2]), self._positions)

    def _node(self, data: bytes) -> Node:
        node_id, kind, body = 0, 0, b""
        for number, value in _fields(data):
            if number == 2:
                node_id = value
            else:
                kind, body = number, value
        if kind == 3:
            return Const(node_id, _constant(body))
        if kind == 4:
            return Ident(node_id, _text(dict(_fields(body)).get(1, b"")))
        if kind == 5:
            parts = dict(_fields(body))
            return Select(node_id, self._node(parts[1]), _text(parts[2]), bool(parts.get(3)))
        if kind == 6:
            return self._call(node_id, body)
        if kind == 7:
            return self._list(node_id, body)
        if kind == 8:
            return self._struct(node_id, body)
        parts = dict(_fields(body))
        return Comprehension(
            node_id,
            _text(parts.get(1, b"")),
            _text(parts.get(8, b"")),
            self._node(parts[2]),
            _text(parts[3]),
            self._node(parts[4]),
            self._node(parts[5]),
            self._node(parts[6]),
            self._node(parts[7]),
        )

    def _call(self, node_id: int, body: bytes) -> Node:
        target: Node | None = None
        function, args = "", []
        for number, value in _fields(body):
            if number == 1:
                target = self._node(value)
            elif number == 2:
                function = _text(value)
            else:
                args.append(self._node(value))
        if target is not None and function in _TWO_VARIABLES and len(args) in (3, 4):
            expanded = self._two_variables(node_id, function, target, args)
            if expanded is not None:
                return expanded
        if target is not None and function == "sortBy" and len(args) == 2 and isinstance(args[0], Ident):
            return self._sort_by(node_id, target, args[0].name, args[1])
        return Call(node_id, function, target, args)

    def _list(self, node_id: int, body: bytes) -> Node:
        elements, optional = [], set()
        for number, value in _fields(body):
            if number == 1:
                elements.append(self._node(value))
            elif isinstance(value, int):
                optional.add(value)
            else:
                at = 0
                while at < len(value):
                    index, at = _varint(value, at)
                    optional.add(index)
        return ListLiteral(node_id, elements, frozenset(optional))

    def _struct(self, node_id: int, body: bytes) -> Node:
        name, entries = "", []
        for number, value in _fields(body):
            if number == 1:
                name = _text(value)
                continue
            parts = dict(_fields(value))
            key: Node | str = self._node(parts[3]) if 3 in parts else _text(parts[2])
            entries.append(Entry(parts.get(1, node_id), key, self._node(parts[4]), bool(parts.get(5))))
        return StructLiteral(node_id, name, entries)

    def _new(self, like: int) -> int:
        self._next += 1
        self._positions[self._next] = self._positions.get(like, 0)
        return self._next

    def _sort_by(self, at: int, target: Node, variable: str, key: Node) -> Node:
        """``list.sortBy(x, key)``: the list is held under a name, and sorted by the list of its keys."""
        held, empty = "@__sortBy_input__", frozenset[int]()

        def call(function: str, *operands: Node) -> Node:
            return Call(self._new(at), function, None, list(operands))

        def ident(name: str) -> Node:
            return Ident(self._new(at), name)

        append = call("_+_", ident(_ACCUMULATOR), ListLiteral(self._new(at), [key], empty))
        nothing, always = ListLiteral(self._new(at), [], empty), Const(self._new(at), True)
        keys = Comprehension(
            self._new(at), variable, "", ident(held), _ACCUMULATOR, nothing, always, append, ident(_ACCUMULATOR)
        )
        result = Call(self._new(at), "@sortByAssociatedKeys", ident(held), [keys])
        never, none = Const(self._new(at), False), ListLiteral(self._new(at), [], empty)
        return Comprehension(at, "#unused", "", none, held, target, never, ident(held), result)

    def _two_variables(self, at: int, macro: str, target: Node, args: list[Node]) -> Node | None:
        """The comprehension of a macro with two variables. Raises CelCompileError for names that are none."""
        three = macro in ("all", "exists", "existsOne", "exists_one")
        if three and len(args) != 3:
            return None
        for arg in args[:2]:
            if not isinstance(arg, Ident):
                tree = Tree(self._source, target, self._positions)
                raise CelCompileError(tree.error_at(arg.id, "argument must be a simple name"))
        first, second = args[0], args[1]
        assert isinstance(first, Ident)
        assert isinstance(second, Ident)
        if first.name == second.name:
            tree = Tree(self._source, target, self._positions)
            raise CelCompileError(tree.error_at(second.id, f"duplicate variable name: {second.name}"))

        def accu() -> Node:
            return Ident(self._new(at), _ACCUMULATOR)

        def call(function: str, *operands: Node) -> Node:
            return Call(self._new(at), function, None, list(operands))

        def const(value: Any) -> Node:
            return Const(self._new(at), value)

        condition: Node = const(True)
        result = accu()
        if macro == "all":
            initial, condition = const(True), call("@not_strictly_false", accu())
            step = call("_&&_", accu(), args[2])
        elif macro == "exists":
            initial, condition = const(False), call("@not_strictly_false", call("!_", accu()))
            step = call("_||_", accu(), args[2])
        elif three:
            initial = const(0)
            step = call("_?_:_", args[2], call("_+_", accu(), const(1)), accu())
            result = call("_==_", accu(), const(1))
        else:
            if macro == "transformList":
                initial = ListLiteral(self._new(at), [], frozenset())
                step = call("_+_", accu(), ListLiteral(self._new(at), [args[-1]], frozenset()))
            else:
                initial = StructLiteral(self._new(at), "", [])
                if macro == "transformMap":
                    step = call("cel.@mapInsert", accu(), Ident(self._new(at), first.name), args[-1])
                else:
                    step = call("cel.@mapInsert", accu(), args[-1])
            if len(args) == 4:
                step = call("_?_:_", args[2], step, accu())
        return Comprehension(at, first.name, second.name, target, _ACCUMULATOR, initial, condition, step, result)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _constant(body: bytes) -> Any:
    for number, value in _fields(body):
        if number == 1:
            return None
        if number == 2:
            return bool(value)
        if number == 3:
            return _signed(value)
        if number == 4:
            return Uint(value)
        if number == 5:
            return struct.unpack("<d", value)[0]
        if number == 6:
            return _text(value)
        if number == 7:
            return value
    return None
