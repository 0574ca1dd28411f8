"""The type checker: which function each call means, which type each node has, and every mistake with its place.

Reference: cel-spec ``doc/langdef.md`` (type checking); cel-go ``checker``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from orca.api.cel.environment import Environment
from orca.api.cel.errors import CelCompileError, CelError
from orca.api.cel.functions import Function, Overload, table
from orca.api.cel.libraries.regex import compiled
from orca.api.cel.libraries.times import parse_duration, parse_timestamp
from orca.api.cel.tree import (
    Call,
    Comprehension,
    Const,
    Ident,
    ListLiteral,
    Node,
    Select,
    StructLiteral,
    Tree,
)
from orca.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    NULL,
    STRING,
    TYPE,
    UINT,
    ObjectType,
    Type,
    is_param,
    list_of,
    map_of,
    optional_of,
)
from orca.api.cel.values import Uint

ERROR = Type("!error!")
_CONSTANTS: dict[type, Type] = {
    type(None): NULL,
    bool: BOOL,
    int: INT,
    Uint: UINT,
    float: DOUBLE,
    str: STRING,
    bytes: BYTES,
}
_NULLABLE = ("timestamp", "duration", "optional_type")
_TYPE_NAMES = {
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
    "optional_type",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
}


@dataclass(slots=True)
class Checked:
    """What the checker found out, by node id."""

    tree: Tree
    types: dict[int, Type]
    names: dict[int, str] = field(default_factory=dict)
    """Identifiers and selections that mean a variable (qualified or not), or a type."""
    overloads: dict[int, tuple[Function, list[Overload]]] = field(default_factory=dict)
    qualified: set[int] = field(default_factory=set)
    """Calls whose target is only a part of the function's name."""

    @property
    def result(self) -> Type:
        """The type of the whole."""
        return self.types[self.tree.root.id]

    def uses(self, name: str) -> bool:
        """Whether the expression refers to that variable."""
        return name in self.names.values()


def check(tree: Tree, environment: Environment) -> Checked:
    """Raises CelCompileError with all mistakes."""
    checker = _Checker(tree, environment)
    checker.visit(tree.root)
    if checker.errors:
        raise CelCompileError("\n".join(checker.errors))
    return checker.finish()


class _Checker:
    def __init__(self, tree: Tree, environment: Environment) -> None:
        self._tree = tree
        self._environment = environment
        self._functions = table()
        self._scopes: list[dict[str, Type]] = []
        self._bound: dict[str, Type] = {}
        self._fresh = 0
        self._out = Checked(tree, {})
        self.errors: list[str] = []

    def finish(self) -> Checked:
        types = self._out.types
        for node_id in types:
            types[node_id] = self._substitute(types[node_id], dyn=True)
        return self._out

    def _error(self, node_id: int, message: str) -> Type:
        self.errors.append(self._tree.error_at(node_id, message))
        return ERROR

    # nodes

    def visit(self, node: Node) -> Type:
        type_ = _VISITS[type(node)](self, node)
        self._out.types[node.id] = type_
        return type_

    def _const(self, node: Const) -> Type:
        return _CONSTANTS[type(node.value)]

    def _ident(self, node: Ident) -> Type:
        found = self._lookup(node.name)
        if found is None:
            return self._error(node.id, f"undeclared reference to '{node.name}' (in container '')")
        self._out.names[node.id] = node.name
        return found

    def _lookup(self, name: str) -> Type | None:
        if name[:1] == ".":
            return self._environment.variables.get(name[1:])
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        found = self._environment.variables.get(name)
        if found is None and name in _TYPE_NAMES:
            return Type("type", (_type_of_name(name),))
        return found

    def _qualified_name(self, node: Node) -> str | None:
        if isinstance(node, Ident):
            return node.name
        if isinstance(node, Select) and not node.test:
            operand = self._qualified_name(node.operand)
            return None if operand is None else f"{operand}.{node.field}"
        return None

    def _local(self, name: str) -> bool:
        return any(name in scope for scope in self._scopes)

    def _select(self, node: Select) -> Type:
        name = self._qualified_name(node)
        if name is not None and not self._local(name.split(".")[0]):
            found = self._environment.variables.get(name) or (
                Type("type", (_type_of_name(name),)) if name in _TYPE_NAMES else None
            )
            if found is not None:
                self._out.names[node.id] = name
                return found
        operand = self._substitute(self.visit(node.operand))
        type_ = self._field(node.id, operand, node.field, optional=False)
        return BOOL if node.test else type_

    def _field(self, node_id: int, operand: Type, name: str, *, optional: bool) -> Type:
        if operand.name == "optional_type":
            return optional_of(self._field(node_id, self._substitute(operand.params[0]), name, optional=optional))
        if isinstance(operand, ObjectType):
            found = operand.fields.get(name)
            return self._error(node_id, f"undefined field '{name}'") if found is None else found
        if operand.name == "map":
            return operand.params[1]
        if operand.name in ("dyn", "!error!") or is_param(operand):
            return DYN
        return self._error(node_id, f"type '{_shown(operand)}' does not support field selection")

    def _call(self, node: Call) -> Type:
        if node.function in ("_?._",):
            return self._optional_select(node)
        target = node.target
        if target is not None:
            name = self._qualified_name(target)
            if name is not None and not self._local(name.split(".")[0]):
                function = self._functions.get(f"{name}.{node.function}")
                if function is not None:
                    self._out.qualified.add(node.id)
                    return self._resolve(node, function, [self.visit(arg) for arg in node.args], member=False)
        function = self._functions.get(node.function)
        types = [self.visit(arg) for arg in ([target] if target is not None else []) + node.args]
        if function is None:
            return self._error(node.id, f"undeclared reference to '{node.function}' (in container '')")
        return self._resolve(node, function, types, member=target is not None)

    def _resolve(self, node: Call, function: Function, types: list[Type], *, member: bool) -> Type:
        if ERROR in types:
            return ERROR
        result: Type | None = None
        chosen: list[Overload] = []
        for overload in function.overloads:
            if overload.member is not member or len(overload.params) != len(types):
                continue
            renames: dict[str, Type] = {}
            params = [self._instance(param, renames) for param in overload.params]
            if not self._all_assignable(types, params):
                continue
            chosen.append(overload)
            made = self._substitute(self._instance(overload.result, renames))
            if result is None:
                result = made
            elif result.name != "dyn" and made != result:
                result = DYN
        if result is None:
            shown = [_shown(self._substitute(type_, dyn=True)) for type_ in types]
            text = f"{shown[0]}.({', '.join(shown[1:])})" if member else f"({', '.join(shown)})"
            return self._error(node.id, f"found no matching overload for '{function.name}' applied to '{text}'")
        self._out.overloads[node.id] = (function, chosen)
        self._check_literals(node, function.name)
        return result

    def _check_literals(self, node: Call, name: str) -> None:
        """Literals that can only fail are refused now, as upstream's AST validators do."""
        validate = _LITERALS.get(name)
        if validate is None:
            return
        place, what, run = validate
        args = node.args
        at = place - 1 if node.target is not None and node.id not in self._out.qualified else place
        if not 0 <= at < len(args):
            return
        literal = args[at]
        if isinstance(literal, Const) and isinstance(literal.value, str):
            try:
                run(literal.value)
            except CelError:
                self._error(literal.id, f"invalid {what} argument")

    def _optional_select(self, node: Call) -> Type:
        operand, literal = node.args
        assert isinstance(literal, Const)
        type_ = self._substitute(self.visit(operand))
        self.visit(literal)
        found = self._field(node.id, type_, str(literal.value), optional=True)
        function = self._functions["_[?_]"]
        self._out.overloads[node.id] = (function, function.overloads)
        return found if found.name == "optional_type" else optional_of(found)

    def _list(self, node: ListLiteral) -> Type:
        element: Type | None = None
        for at, child in enumerate(node.elements):
            type_ = self.visit(child)
            if at in node.optional:
                type_ = self._unwrap(child, type_)
            element = self._join(child, element, type_)
        return list_of(self._new_param() if element is None else element)

    def _unwrap(self, node: Node, type_: Type) -> Type:
        type_ = self._substitute(type_)
        if type_.name == "optional_type":
            return type_.params[0]
        if type_.name in ("dyn", "!error!"):
            return DYN
        return self._error(node.id, f"expected type 'optional_type' but found '{_shown(type_)}'")

    def _join(self, node: Node, known: Type | None, type_: Type) -> Type:
        """Elements of a literal have one type (upstream: HomogeneousAggregateLiterals)."""
        if known is None or self._substitute(known).name == "dyn":
            return type_ if known is None else known
        if self._substitute(type_).name == "dyn":
            return DYN
        if self._assignable(type_, known) or self._assignable(known, type_):
            return known
        self._error(
            node.id, f"expected type '{_shown(self._substitute(known))}' but found '{_shown(self._substitute(type_))}'"
        )
        return known

    def _struct(self, node: StructLiteral) -> Type:
        if node.name:
            return self._object(node)
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            assert isinstance(entry.key, Node)
            key = self._join(entry.key, key, self.visit(entry.key))
            type_ = self.visit(entry.value)
            value = self._join(entry.value, value, self._unwrap(entry.value, type_) if entry.optional else type_)
        return map_of(key or self._new_param(), value or self._new_param())

    def _object(self, node: StructLiteral) -> Type:
        type_ = self._environment.constructible.get(node.name.lstrip("."))
        if type_ is None:
            return self._error(node.id, f"undeclared reference to '{node.name}' (in container '')")
        for entry in node.entries:
            name = str(entry.key)
            found = self.visit(entry.value)
            if entry.optional:
                found = self._unwrap(entry.value, found)
            wanted = type_.fields.get(name)
            if wanted is None:
                self._error(entry.id, f"undefined field '{name}'")
            elif not self._assignable(found, wanted):
                self._error(
                    entry.id,
                    f"expected type of field '{name}' is '{_shown(wanted)}' but provided type is "
                    f"'{_shown(self._substitute(found))}'",
                )
        return type_

    def _comprehension(self, node: Comprehension) -> Type:
        over = self._substitute(self.visit(node.range))
        accumulator = self.visit(node.initial)
        if over.name == "list":
            first, second = (INT, over.params[0]) if node.variable2 else (over.params[0], DYN)
        elif over.name == "map":
            first, second = over.params
        elif over.name in ("dyn", "!error!") or is_param(over):
            first = second = DYN
        else:
            self._error(
                node.range.id,
                f"expression of type '{_shown(over)}' cannot be range of a comprehension "
                "(must be list, map, or dynamic)",
            )
            first = second = ERROR
        variables = {node.variable: first}
        if node.variable2:
            variables[node.variable2] = second
        self._scopes.append({node.accumulator: accumulator})
        self._scopes.append(variables)
        condition = self.visit(node.condition)
        if not self._assignable(condition, BOOL):
            self._error(node.condition.id, f"expected type 'bool' but found '{_shown(self._substitute(condition))}'")
        step = self.visit(node.step)
        if step is not ERROR and not self._assignable(step, accumulator):
            self._error(
                node.step.id,
                f"expected type '{_shown(self._substitute(accumulator))}' but found '{_shown(self._substitute(step))}'",
            )
        self._scopes.pop()
        result = self.visit(node.result)
        self._scopes.pop()
        return result

    # types

    def _new_param(self) -> Type:
        self._fresh += 1
        return Type(f"%{self._fresh}")

    def _instance(self, type_: Type, renames: dict[str, Type]) -> Type:
        if is_param(type_):
            found = renames.get(type_.name)
            if found is None:
                found = renames[type_.name] = self._new_param()
            return found
        if type_.params:
            return Type(type_.name, tuple(self._instance(param, renames) for param in type_.params))
        return type_

    def _substitute(self, type_: Type, *, dyn: bool = False) -> Type:
        bound = self._bound
        if not bound and not dyn:
            return type_
        while type_.name in bound:
            type_ = bound[type_.name]
        if type_.params:
            return Type(type_.name, tuple(self._substitute(param, dyn=dyn) for param in type_.params))
        return DYN if dyn and is_param(type_) else type_

    def _all_assignable(self, types: Sequence[Type], params: Sequence[Type]) -> bool:
        before = dict(self._bound)
        if all(self._unify(type_, param) for type_, param in zip(types, params, strict=True)):
            return True
        self._bound = before
        return False

    def _assignable(self, type_: Type, param: Type) -> bool:
        return self._all_assignable([type_], [param])

    def _unify(self, type_: Type, param: Type) -> bool:
        """Whether ``type_`` can stand where ``param`` is wanted; binds type parameters."""
        bound = self._bound
        while param.name in bound:
            param = bound[param.name]
        while type_.name in bound:
            type_ = bound[type_.name]
        if type_ is param or type_ == param:
            return True
        if is_param(param):
            if _mentions(type_, param.name):
                return False
            bound[param.name] = type_
            return True
        if is_param(type_):
            if _mentions(param, type_.name):
                return False
            bound[type_.name] = param
            return True
        if type_.name in ("dyn", "!error!") or param.name in ("dyn", "!error!"):
            return True
        if type_.name == "null_type":
            return isinstance(param, ObjectType) or param.name in _NULLABLE or "." in param.name
        if isinstance(type_, ObjectType) or isinstance(param, ObjectType):
            return False
        if type_.name == param.name == "type":
            return True
        if type_.name != param.name or len(type_.params) != len(param.params):
            return False
        return all(self._unify(one, other) for one, other in zip(type_.params, param.params, strict=True))


def _mentions(type_: Type, name: str) -> bool:
    return type_.name == name or any(_mentions(param, name) for param in type_.params)


def _type_of_name(name: str) -> Type:
    short = {"google.protobuf.Timestamp": "timestamp", "google.protobuf.Duration": "duration"}.get(name, name)
    if short == "list":
        return list_of(DYN)
    if short == "map":
        return map_of(DYN, DYN)
    if short == "type":
        return TYPE
    return Type(short)


def _shown(type_: Type) -> str:
    if type_.name == "null_type":
        return "null"
    if type_.name == "timestamp":
        return "google.protobuf.Timestamp"
    if type_.name == "duration":
        return "google.protobuf.Duration"
    if type_.params:
        return f"{type_.name}({', '.join(_shown(param) for param in type_.params)})"
    return type_.name


_LITERALS: dict[str, tuple[int, str, Callable[[str], Any]]] = {
    "timestamp": (0, "timestamp", parse_timestamp),
    "duration": (0, "duration", parse_duration),
    "matches": (1, "matches", compiled),
}

_VISITS: dict[type, Callable[..., Type]] = {
    Const: _Checker._const,
    Ident: _Checker._ident,
    Select: _Checker._select,
    Call: _Checker._call,
    ListLiteral: _Checker._list,
    StructLiteral: _Checker._struct,
    Comprehension: _Checker._comprehension,
}
