"""What the nodes of an expression become: functions of a ``Frame`` that count what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orca.api.cel.errors import EXCEEDED, CelCostError, CelError, no_such_overload
from orca.api.cel.functions import Function, Overload
from orca.api.cel.libraries.standard import is_in, optional_index
from orca.api.cel.tree import Call, Const, Ident, Node, Select
from orca.api.cel.values import Optional

LIST_COST, MAP_COST, STRUCT_COST = 10, 30, 40
MISSING = object()

Run = Callable[["Frame"], Any]


class Frame:
    """One evaluation: variables, and what it has cost so far."""

    __slots__ = ("cost", "limit", "variables")

    def __init__(self, variables: dict[str, Any], limit: int) -> None:
        self.variables = variables
        self.cost = 0
        self.limit = limit


def constant(value: Any) -> Run:
    """A value that costs nothing."""
    return lambda frame: value


def fresh(kind: type) -> Run:
    """An empty list or map of its own each time: accumulators grow in place."""
    return lambda frame: kind()


def is_attribute(node: Node) -> bool:
    """A variable, or a part of one."""
    if isinstance(node, Select):
        return not node.test and is_attribute(node.operand)
    if isinstance(node, Call) and node.function == "_[_]":
        return is_attribute(node.args[0]) and (isinstance(node.args[1], Const) or is_attribute(node.args[1]))
    return isinstance(node, Ident)


def uncounted(run: Run) -> Run:
    """The same, without its cost."""

    def free(frame: Frame) -> Any:
        before = frame.cost
        value = run(frame)
        frame.cost = before
        return value

    return free


def member(wanted: Run, known: list[Any]) -> Run:
    """``in`` over a constant list, which costs nothing."""
    return lambda frame: is_in(wanted(frame), known)


def variable(name: str) -> Run:
    """A variable of the environment or of a macro."""

    def run(frame: Frame) -> Any:
        frame.cost += 1
        value = frame.variables.get(name, MISSING)
        if value is MISSING:
            raise CelError(f"no such attribute(s): {name}")
        return value

    return run


def accumulator(name: str) -> Run:
    """What a fold has so far; an error that was kept there is raised now."""

    def run(frame: Frame) -> Any:
        frame.cost += 1
        value = frame.variables[name]
        if isinstance(value, CelError):
            raise value
        return value

    return run


def select(operand: Run, field: str) -> Run:
    """``operand.field``."""

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


def present(select: Run, field: str) -> Run:
    """A field of an object, where null means that it is not there."""

    def run(frame: Frame) -> Any:
        value = select(frame)
        if value is None:
            raise CelError(f"no such key: {field}")
        return value

    return run


def has(operand: Run, field: str, *, null: bool) -> Run:
    """``has(operand.field)``; ``null`` says whether a null counts as there."""

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


def optional_select(operand: Run, field: str, *, null: bool) -> Run:
    """``operand.?field``."""

    def run(frame: Frame) -> Any:
        value = operand(frame)
        frame.cost += 1
        found = optional_index(value, field)
        return found if null or found.value is not None else Optional.NONE

    return run


def optional(value: Any) -> Optional:
    """The value, which has to be an optional one. Raises CelError."""
    if isinstance(value, Optional):
        return value
    raise no_such_overload()


def append(accumulator: str, element: Run) -> Run:
    """``accumulator + [element]``, in place."""

    def run(frame: Frame) -> Any:
        values = frame.variables[accumulator]
        if isinstance(values, CelError):
            raise values
        frame.cost += LIST_COST + 2
        values.append(element(frame))
        return values

    return run


def insert(accumulator: Run, key: Run, value: Run | None = None) -> Run:
    """An entry (or with one argument, entries) into the map of a fold, in place."""

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


def static(overload: Overload, args: list[Run]) -> Run:
    """A call whose overload is known."""
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
                raise CelCostError(EXCEEDED)
            return result

        return two

    def many(frame: Frame) -> Any:
        values = [arg(frame) for arg in args]
        result = run(*values)
        frame.cost += 1 if cost is None else cost(values, result)
        if frame.cost > frame.limit:
            raise CelCostError(EXCEEDED)
        return result

    return many


def dynamic(function: Function, chosen: list[Overload], args: list[Run]) -> Run:
    """A call whose overload the values decide."""

    def run(frame: Frame) -> Any:
        values = [arg(frame) for arg in args]
        for overload in chosen:
            if overload.takes(values):
                result = overload.run(*values)
                cost = overload.cost
                frame.cost += 1 if cost is None else cost(values, result)
                if frame.cost > frame.limit:
                    raise CelCostError(EXCEEDED)
                return result
        raise no_such_overload()

    return run


def conjunction(left: Run, right: Run) -> Run:
    """``&&``."""
    return logic(left, right, decides=False)


def disjunction(left: Run, right: Run) -> Run:
    """``||``."""
    return logic(left, right, decides=True)


def logic(left: Run, right: Run, *, decides: bool) -> Run:
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


def conditional(condition: Run, one: Run, other: Run) -> Run:
    """``condition ? one : other``."""

    def run(frame: Frame) -> Any:
        value = condition(frame)
        if value is True:
            return one(frame)
        if value is False:
            return other(frame)
        raise no_such_overload()

    return run


def not_strictly_false(operand: Run) -> Run:
    """Whether a fold of ``all`` or ``exists`` goes on: errors do not end it."""

    def run(frame: Frame) -> Any:
        frame.cost += 1
        try:
            return operand(frame) is not False
        except CelCostError:
            raise
        except CelError:
            return True

    return run


def fold(
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
    """A comprehension. ``always``: its condition is ``true``."""
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
        outer = [(name, variables.get(name, MISSING)) for name in names]
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
                    raise CelCostError(EXCEEDED)
            # What an error left in the accumulator is raised by reading it.
            return result(frame)
        finally:
            for name, value in outer:
                if value is MISSING:
                    variables.pop(name, None)
                else:
                    variables[name] = value

    return run
