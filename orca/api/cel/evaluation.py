"""From a checked tree to closures that evaluate it, counting what it costs.

Every node becomes one function of a ``Frame``. Costs are those of cel-go's ``interpreter/runtimecost.go``: one for an
identifier and a selection, what a function says for a call, nothing for logic and literals of scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orca.api.cel import closures
from orca.api.cel.checker import Checked
from orca.api.cel.closures import LIST_COST, MAP_COST, MISSING, STRUCT_COST, Frame, Run
from orca.api.cel.errors import CelError
from orca.api.cel.tree import (
    Call,
    Comprehension,
    Const,
    Ident,
    ListLiteral,
    Node,
    Select,
    StructLiteral,
)
from orca.api.cel.types import ObjectType
from orca.api.cel.values import Struct, TypeValue, type_name

_CONVERSIONS = frozenset(("bool", "bytes", "double", "duration", "int", "string", "timestamp", "uint"))


def plan(checked: Checked, variables: Mapping[str, Any]) -> Run:
    """The closure of the whole expression. ``variables`` are the declared ones."""
    return _Planner(checked, variables).node(checked.tree.root)


class _Planner:
    def __init__(self, checked: Checked, variables: Mapping[str, Any]) -> None:
        self._checked = checked
        self._declared = variables
        self._accumulators: list[str] = []

    def node(self, node: Node) -> Run:
        value = self._folded(node)
        if value is not MISSING:
            return closures.constant(value)
        return _PLANS[type(node)](self, node)

    def _folded(self, node: Node) -> Any:
        """The value of what is constant and so costs nothing: literals, and conversions of them; else ``MISSING``."""
        if isinstance(node, Const):
            return node.value
        if isinstance(node, ListLiteral) and not node.optional:
            values = [self._folded(element) for element in node.elements]
            return MISSING if any(value is MISSING for value in values) else values
        if isinstance(node, StructLiteral) and not node.name:
            return self._folded_map(node)
        if isinstance(node, Call) and node.function in _CONVERSIONS and node.target is None and len(node.args) == 1:
            value = self._folded(node.args[0])
            if value is not MISSING:
                try:
                    return self._checked.overloads[node.id][0].choose([value]).run(value)
                except CelError:
                    return MISSING  # it is evaluated when its turn comes, and fails then
        return MISSING

    def _folded_map(self, node: StructLiteral) -> Any:
        made: dict[Any, Any] = {}
        for entry in node.entries:
            key = self._folded(entry.key) if isinstance(entry.key, Node) else MISSING
            value = self._folded(entry.value)
            plain = isinstance(key, str | int) and key not in made
            if value is MISSING or not plain or entry.optional:
                return MISSING
            made[key] = value
        return made

    def _free(self, node: Node) -> Run:
        """As ``node``, but a plain attribute costs nothing: upstream does not see those inside of others."""
        run = self.node(node)
        return closures.uncounted(run) if closures.is_attribute(node) else run

    def _const(self, node: Const) -> Run:
        value = node.value
        return lambda frame: value

    def _ident(self, node: Ident) -> Run:
        name = node.name
        if name in self._accumulators:
            return closures.accumulator(name)
        bound = self._checked.types[node.id]
        if bound.name == "type" and name not in self._declared and not self._is_local(name):
            value = TypeValue(name)
            return lambda frame: value
        return closures.variable(name.lstrip("."))

    def _is_local(self, name: str) -> bool:
        return name in self._locals

    _locals: frozenset[str] = frozenset()

    def _select(self, node: Select) -> Run:
        name = self._checked.names.get(node.id)
        if name is not None:
            if name in self._declared:
                return closures.variable(name)
            value = TypeValue(name)
            return lambda frame: value
        operand = self.node(node.operand)
        field = node.field
        type_ = self._checked.types[node.operand.id]
        if isinstance(type_, ObjectType):
            field = type_.real.get(field, field)
        # A field that is null is an absent one; an entry of a map may well be null.
        declared = isinstance(type_, ObjectType) and not type_.nullable
        if node.test:
            return closures.has(operand, field, null=not declared)
        return closures.present(closures.select(operand, field), field) if declared else closures.select(operand, field)

    def _call(self, node: Call) -> Run:
        name = node.function
        if name == "_?_:_":
            condition, one, other = node.args
            return closures.conditional(self.node(condition), self._free(one), self._free(other))
        if name in _LOGIC:
            return _LOGIC[name](*[self.node(arg) for arg in node.args])
        if name == "@in":
            known = self._folded(node.args[1])
            if isinstance(known, list):
                return closures.member(self.node(node.args[0]), known)
        if name == "_?._":
            field = node.args[1].value  # type: ignore[attr-defined]
            type_ = self._checked.types[node.args[0].id]
            inner = type_.params[0] if type_.name == "optional_type" else type_
            if isinstance(inner, ObjectType):
                field = inner.real.get(field, field)
            return closures.optional_select(
                self.node(node.args[0]), field, null=not isinstance(inner, ObjectType) or inner.nullable
            )
        if name == "_+_" and self._appends(node):
            accumulator, addition = node.args
            assert isinstance(accumulator, Ident)
            assert isinstance(addition, ListLiteral)
            return closures.append(accumulator.name, self.node(addition.elements[0]))
        if name == "cel.@mapInsert":
            return closures.insert(*[self.node(arg) for arg in node.args])
        function, chosen = self._checked.overloads[node.id]
        nodes = list(node.args)
        if node.target is not None and node.id not in self._checked.qualified:
            nodes.insert(0, node.target)
        args = [self.node(arg) for arg in nodes]
        if name == "_[_]":
            args[1] = self._free(nodes[1])
        dynamic = any(self._checked.types[arg.id].name == "dyn" for arg in nodes)
        first = chosen[0]
        if all(other.run is first.run and other.cost is first.cost for other in chosen) and (
            first.checks or (len(chosen) == 1 and not dynamic)
        ):
            return closures.static(first, args)
        return closures.dynamic(function, chosen, args)

    def _appends(self, node: Call) -> bool:
        """``accumulator + [x]``: nobody else holds that list, so it may grow in place."""
        one, other = node.args
        return (
            isinstance(one, Ident)
            and one.name in self._accumulators
            and isinstance(other, ListLiteral)
            and len(other.elements) == 1
            and not other.optional
        )

    def _list(self, node: ListLiteral) -> Run:
        elements = [self.node(element) for element in node.elements]
        if not node.optional:

            def run(frame: Frame) -> Any:
                frame.cost += LIST_COST
                return [element(frame) for element in elements]

            return run
        optional = node.optional

        def run_optional(frame: Frame) -> Any:
            frame.cost += LIST_COST
            made = []
            for at, element in enumerate(elements):
                value = element(frame)
                if at in optional:
                    if not closures.optional(value).present:
                        continue
                    value = value.value
                made.append(value)
            return made

        return run_optional

    def _struct(self, node: StructLiteral) -> Run:
        entries: list[tuple[Run, Run, bool]] = []
        type_ = self._checked.types[node.id]
        real: Mapping[str, str] = type_.real if isinstance(type_, ObjectType) else {}
        for entry in node.entries:
            if isinstance(entry.key, Node):
                key = self.node(entry.key)
            else:
                key = closures.constant(real.get(entry.key, entry.key))
            entries.append((key, self.node(entry.value), entry.optional))
        name = node.name.lstrip(".")
        cost = STRUCT_COST if name else MAP_COST

        def run(frame: Frame) -> Any:
            frame.cost += cost
            made: dict[Any, Any] = {}
            for key, value, optional in entries:
                at = key(frame)
                found = value(frame)
                if optional:
                    if not closures.optional(found).present:
                        continue
                    found = found.value
                if type(at) is not str and (isinstance(at, float | list | dict) or at is None):
                    raise CelError(f"unsupported key type: {type_name(at)}")
                if at in made:
                    raise CelError(f"Failed with repeated key: {at}")
                made[at] = found
            return Struct(made, name) if name else made

        return run

    def _comprehension(self, node: Comprehension) -> Run:
        over = self.node(node.range)
        # Not a constant: accumulators grow in place.
        empty = isinstance(node.initial, ListLiteral | StructLiteral) and self._folded(node.initial) in ([], {})
        initial = closures.fresh(type(self._folded(node.initial))) if empty else self.node(node.initial)
        outer, outer_locals = self._accumulators, self._locals
        names = {node.variable, node.variable2} - {""}
        self._accumulators = [*(name for name in outer if name not in names), node.accumulator]
        self._locals = self._locals | names
        condition = self.node(node.condition)
        step = self.node(node.step)
        self._locals = outer_locals
        result = self.node(node.result)
        self._accumulators = outer
        always = isinstance(node.condition, Const) and node.condition.value is True
        return closures.fold(
            over, initial, condition, step, result, node.variable, node.variable2, node.accumulator, always=always
        )


_LOGIC: dict[str, Callable[..., Run]] = {
    "_&&_": closures.conjunction,
    "_||_": closures.disjunction,
    "@not_strictly_false": closures.not_strictly_false,
}

_PLANS: dict[type, Callable[..., Run]] = {
    Const: _Planner._const,
    Ident: _Planner._ident,
    Select: _Planner._select,
    Call: _Planner._call,
    ListLiteral: _Planner._list,
    StructLiteral: _Planner._struct,
    Comprehension: _Planner._comprehension,
}
