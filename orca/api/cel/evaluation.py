"""From a checked tree to closures that evaluate it, counting what it costs.

Every node becomes one function of a ``Frame``. Costs are those of cel-go's ``interpreter/runtimecost.go``: one for an
identifier and a selection, what a function says for a call, nothing for logic and literals of scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orca.api.cel.checker import Checked
from orca.api.cel.errors import CelCostError, CelError, no_such_overload
from orca.api.cel.functions import Function, Overload
from orca.api.cel.library.standard import is_in, optional_index
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
from orca.api.cel.values import Optional, Struct, TypeValue, type_name

_LIST_COST, _MAP_COST, _STRUCT_COST = 10, 30, 40
_EXCEEDED = "operation cancelled: actual cost limit exceeded"
_MISSING = object()
_CONVERSIONS = frozenset(("bool", "bytes", "double", "duration", "int", "string", "timestamp", "uint"))

Run = Callable[["Frame"], Any]


class Frame:
    """One evaluation: variables, and what it has cost so far."""

    __slots__ = ("cost", "limit", "variables")

    def __init__(self, variables: dict[str, Any], limit: int) -> None:
        self.variables = variables
        self.cost = 0
        self.limit = limit


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
        if value is not _MISSING:
            return _constant(value)
        return _PLANS[type(node)](self, node)

    def _folded(self, node: Node) -> Any:
        """The value of what is constant and so costs nothing: literals, and conversions of them; else ``_MISSING``."""
        if isinstance(node, Const):
            return node.value
        if isinstance(node, ListLiteral) and not node.optional:
            values = [self._folded(element) for element in node.elements]
            return _MISSING if any(value is _MISSING for value in values) else values
        if isinstance(node, StructLiteral) and not node.name:
            return self._folded_map(node)
        if isinstance(node, Call) and node.function in _CONVERSIONS and node.target is None and len(node.args) == 1:
            value = self._folded(node.args[0])
            if value is not _MISSING:
                try:
                    return self._checked.overloads[node.id][0].choose([value]).run(value)
                except CelError:
                    return _MISSING  # it is evaluated when its turn comes, and fails then
        return _MISSING

    def _folded_map(self, node: StructLiteral) -> Any:
        made: dict[Any, Any] = {}
        for entry in node.entries:
            key = self._folded(entry.key) if isinstance(entry.key, Node) else _MISSING
            value = self._folded(entry.value)
            plain = isinstance(key, str | int) and key not in made
            if value is _MISSING or not plain or entry.optional:
                return _MISSING
            made[key] = value
        return made

    def _free(self, node: Node) -> Run:
        """As ``node``, but a plain attribute costs nothing: upstream does not see those inside of others."""
        run = self.node(node)
        return _uncounted(run) if _is_attribute(node) else run

    def _const(self, node: Const) -> Run:
        value = node.value
        return lambda frame: value

    def _ident(self, node: Ident) -> Run:
        name = node.name
        if name in self._accumulators:
            return _accumulator(name)
        bound = self._checked.types[node.id]
        if bound.name == "type" and name not in self._declared and not self._is_local(name):
            value = TypeValue(name)
            return lambda frame: value
        return _variable(name.lstrip("."))

    def _is_local(self, name: str) -> bool:
        return name in self._locals

    _locals: frozenset[str] = frozenset()

    def _select(self, node: Select) -> Run:
        name = self._checked.names.get(node.id)
        if name is not None:
            if name in self._declared:
                return _variable(name)
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
            return _has(operand, field, null=not declared)
        return _present(_select(operand, field), field) if declared else _select(operand, field)

    def _call(self, node: Call) -> Run:
        name = node.function
        if name == "_?_:_":
            condition, one, other = node.args
            return _conditional(self.node(condition), self._free(one), self._free(other))
        if name in _LOGIC:
            return _LOGIC[name](*[self.node(arg) for arg in node.args])
        if name == "@in":
            known = self._folded(node.args[1])
            if isinstance(known, list):
                return _member(self.node(node.args[0]), known)
        if name == "_?._":
            field = node.args[1].value  # type: ignore[attr-defined]
            type_ = self._checked.types[node.args[0].id]
            inner = type_.params[0] if type_.name == "optional_type" else type_
            if isinstance(inner, ObjectType):
                field = inner.real.get(field, field)
            return _optional_select(
                self.node(node.args[0]), field, null=not isinstance(inner, ObjectType) or inner.nullable
            )
        if name == "_+_" and self._appends(node):
            accumulator, addition = node.args
            assert isinstance(accumulator, Ident)
            assert isinstance(addition, ListLiteral)
            return _append(accumulator.name, self.node(addition.elements[0]))
        if name == "cel.@mapInsert":
            return _insert(*[self.node(arg) for arg in node.args])
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
            return _static(first, args)
        return _dynamic(function, chosen, args)

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
                frame.cost += _LIST_COST
                return [element(frame) for element in elements]

            return run
        optional = node.optional

        def run_optional(frame: Frame) -> Any:
            frame.cost += _LIST_COST
            made = []
            for at, element in enumerate(elements):
                value = element(frame)
                if at in optional:
                    if not _optional(value).present:
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
                key = _constant(real.get(entry.key, entry.key))
            entries.append((key, self.node(entry.value), entry.optional))
        name = node.name.lstrip(".")
        cost = _STRUCT_COST if name else _MAP_COST

        def run(frame: Frame) -> Any:
            frame.cost += cost
            made: dict[Any, Any] = {}
            for key, value, optional in entries:
                at = key(frame)
                found = value(frame)
                if optional:
                    if not _optional(found).present:
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
        initial = _fresh(type(self._folded(node.initial))) if empty else self.node(node.initial)
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
        return _fold(
            over, initial, condition, step, result, node.variable, node.variable2, node.accumulator, always=always
        )


def _constant(value: Any) -> Run:
    return lambda frame: value


def _fresh(kind: type) -> Run:
    return lambda frame: kind()


def _is_attribute(node: Node) -> bool:
    """A variable, or a part of one."""
    if isinstance(node, Select):
        return not node.test and _is_attribute(node.operand)
    if isinstance(node, Call) and node.function == "_[_]":
        return _is_attribute(node.args[0]) and (isinstance(node.args[1], Const) or _is_attribute(node.args[1]))
    return isinstance(node, Ident)


def _uncounted(run: Run) -> Run:
    def free(frame: Frame) -> Any:
        before = frame.cost
        value = run(frame)
        frame.cost = before
        return value

    return free


def _member(wanted: Run, known: list[Any]) -> Run:
    return lambda frame: is_in(wanted(frame), known)


def _variable(name: str) -> Run:
    def run(frame: Frame) -> Any:
        frame.cost += 1
        value = frame.variables.get(name, _MISSING)
        if value is _MISSING:
            raise CelError(f"no such attribute(s): {name}")
        return value

    return run


def _accumulator(name: str) -> Run:
    def run(frame: Frame) -> Any:
        frame.cost += 1
        value = frame.variables[name]
        if isinstance(value, CelError):
            raise value
        return value

    return run


def _select(operand: Run, field: str) -> Run:
    def run(frame: Frame) -> Any:
        value = operand(frame)
        frame.cost += 1
        try:
            if isinstance(value, dict):
                return value[field]
        except KeyError:
            raise CelError(f"no such key: {field}") from None
        if isinstance(value, Optional):
            return optional_index(value, field)
        raise no_such_overload()

    return run


def _present(select: Run, field: str) -> Run:
    def run(frame: Frame) -> Any:
        value = select(frame)
        if value is None:
            raise CelError(f"no such key: {field}")
        return value

    return run


def _has(operand: Run, field: str, *, null: bool) -> Run:
    def run(frame: Frame) -> Any:
        value = operand(frame)
        if isinstance(value, Optional):
            if not value.present:
                return False
            value = value.value
        if isinstance(value, dict):
            return field in value and (null or value[field] is not None)
        raise no_such_overload()

    return run


def _optional_select(operand: Run, field: str, *, null: bool) -> Run:
    def run(frame: Frame) -> Any:
        value = operand(frame)
        frame.cost += 1
        found = optional_index(value, field)
        return found if null or found.value is not None else Optional.NONE

    return run


def _optional(value: Any) -> Optional:
    if isinstance(value, Optional):
        return value
    raise no_such_overload()


def _append(accumulator: str, element: Run) -> Run:
    def run(frame: Frame) -> Any:
        values = frame.variables[accumulator]
        if isinstance(values, CelError):
            raise values
        frame.cost += _LIST_COST + 2
        values.append(element(frame))
        return values

    return run


def _insert(accumulator: Run, key: Run, value: Run | None = None) -> Run:
    def run(frame: Frame) -> Any:
        made = accumulator(frame)
        frame.cost += 1
        pairs = key(frame).items() if value is None else ((key(frame), value(frame)),)
        for at, found in pairs:
            if at in made:
                raise CelError(f"insert failed: key {at} already exists")
            made[at] = found
        return made

    return run


def _static(overload: Overload, args: list[Run]) -> Run:
    run, cost = overload.run, overload.cost
    if len(args) == 1:
        only = args[0]

        def one(frame: Frame) -> Any:
            value = only(frame)
            result = run(value)
            frame.cost += 1 if cost is None else cost((value,), result)
            return result

        return one
    if len(args) == 2:
        left, right = args

        def two(frame: Frame) -> Any:
            a, b = left(frame), right(frame)
            result = run(a, b)
            frame.cost += 1 if cost is None else cost((a, b), result)
            if frame.cost > frame.limit:
                raise CelCostError(_EXCEEDED)
            return result

        return two

    def many(frame: Frame) -> Any:
        values = [arg(frame) for arg in args]
        result = run(*values)
        frame.cost += 1 if cost is None else cost(values, result)
        if frame.cost > frame.limit:
            raise CelCostError(_EXCEEDED)
        return result

    return many


def _dynamic(function: Function, chosen: list[Overload], args: list[Run]) -> Run:
    def run(frame: Frame) -> Any:
        values = [arg(frame) for arg in args]
        for overload in chosen:
            if overload.takes(values):
                result = overload.run(*values)
                cost = overload.cost
                frame.cost += 1 if cost is None else cost(values, result)
                if frame.cost > frame.limit:
                    raise CelCostError(_EXCEEDED)
                return result
        raise no_such_overload()

    return run


def _and(left: Run, right: Run) -> Run:
    return _logic(left, right, decides=False)


def _or(left: Run, right: Run) -> Run:
    return _logic(left, right, decides=True)


def _logic(left: Run, right: Run, *, decides: bool) -> Run:
    """An error on one side does not matter when the other decides."""
    other = not decides

    def run(frame: Frame) -> Any:
        failed: CelError | None = None
        try:
            value = left(frame)
            if value is decides:
                return decides
            if value is not other:
                failed = no_such_overload()
        except CelCostError:
            raise
        except CelError as error:
            failed = error
        try:
            value = right(frame)
        except CelCostError:
            raise
        except CelError as error:
            raise failed or error from None
        if value is decides:
            return decides
        if failed is not None:
            raise failed
        if value is other:
            return other
        raise no_such_overload()

    return run


def _conditional(condition: Run, one: Run, other: Run) -> Run:
    def run(frame: Frame) -> Any:
        value = condition(frame)
        if value is True:
            return one(frame)
        if value is False:
            return other(frame)
        raise no_such_overload()

    return run


def _not_strictly_false(operand: Run) -> Run:
    def run(frame: Frame) -> Any:
        frame.cost += 1
        try:
            return operand(frame) is not False
        except CelCostError:
            raise
        except CelError:
            return True

    return run


def _fold(
    over: Run,
    initial: Run,
    condition: Run,
    step: Run,
    result: Run,
    variable: str,
    variable2: str,
    accumulator: str,
    *,
    always: bool,
) -> Run:
    names = tuple(name for name in (accumulator, variable, variable2) if name)

    def run(frame: Frame) -> Any:
        values = over(frame)
        items: Iterable[Any]
        if isinstance(values, list):
            items = enumerate(values) if variable2 else values
        elif isinstance(values, dict):
            items = values.items() if variable2 else values
        else:
            raise no_such_overload()
        variables = frame.variables
        start = initial(frame)
        outer = [(name, variables.get(name, _MISSING)) for name in names]
        variables[accumulator] = start
        try:
            for item in items:
                if variable2:
                    variables[variable], variables[variable2] = item
                else:
                    variables[variable] = item
                if not always and not condition(frame):
                    break
                try:
                    variables[accumulator] = step(frame)
                except CelCostError:
                    raise
                except CelError as error:
                    # An error is a value here: `all` and `exists` may yet be decided by another element.
                    if always:
                        raise
                    variables[accumulator] = error
                if frame.cost > frame.limit:
                    raise CelCostError(_EXCEEDED)
            # What an error left in the accumulator is raised by reading it.
            return result(frame)
        finally:
            for name, value in outer:
                if value is _MISSING:
                    variables.pop(name, None)
                else:
                    variables[name] = value

    return run


_LOGIC: dict[str, Callable[..., Run]] = {
    "_&&_": _and,
    "_||_": _or,
    "@not_strictly_false": _not_strictly_false,
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
