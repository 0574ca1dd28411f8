"""Compile an expression once, evaluate it often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orca.api.cel.budget import PER_CALL_LIMIT, Budget
from orca.api.cel.checker import Checked, check
from orca.api.cel.environment import Environment
from orca.api.cel.errors import CelCompileError, CelError, no_such_overload
from orca.api.cel.evaluation import Frame, plan
from orca.api.cel.parser import parse
from orca.api.cel.types import DYN, Type


class Program:
    """A compiled expression. Immutable, and safe to use from several threads at once."""

    def __init__(self, source: str, checked: Checked, environment: Environment) -> None:
        self.source = source
        self.checked = checked
        self._run = plan(checked, environment.variables)

    def __repr__(self) -> str:
        return f"Program({self.source!r})"

    @property
    def result(self) -> Type:
        """The type of its result as far as it is known before evaluating."""
        return self.checked.result

    def uses(self, variable: str) -> bool:
        """Whether the expression refers to this variable."""
        return self.checked.uses(variable)

    def evaluate(
        self, variables: Mapping[str, Any], *, budget: Budget | None = None, limit: int = PER_CALL_LIMIT
    ) -> Any:
        """The value. ``variables`` need hold only those that are used; values are plain JSON and are not changed.

        Stops at ``limit`` and at what ``budget`` has left, which is charged also for evaluations that fail.

        Raises CelCostError at the limit, CelError for whatever else has no result.
        """
        if budget is not None and budget.remaining < limit:
            limit = max(budget.remaining, 0)
        frame = Frame(dict(variables), limit)
        try:
            return self._run(frame)
        except (TypeError, AttributeError):
            # A value that is not of the type it was declared with: found out by the function that uses it.
            raise no_such_overload() from None
        except RecursionError:
            raise CelError("the expression or its data is nested too deeply") from None
        finally:
            if budget is not None:
                budget.charge(frame.cost)


def compile(expression: str, environment: Environment, *, expects: Type | tuple[Type, ...] = DYN) -> Program:
    """Parse and check; ``expects`` says which types the result may have (``DYN``: any).

    Raises CelCompileError with upstream's text.
    """
    try:
        checked = check(parse(expression), environment)
        program = Program(expression, checked, environment)
    except RecursionError:
        raise CelCompileError("ERROR: <input>:1:1: expression is nested too deeply") from None
    allowed = expects if isinstance(expects, tuple) else (expects,)
    if DYN not in allowed and checked.result not in allowed:
        names = [_spoken(type_) for type_ in allowed]
        raise CelCompileError(
            f"must evaluate to {names[0]}" if len(names) == 1 else f"must evaluate to one of [{' '.join(names)}]"
        )
    return program


def _spoken(type_: Type) -> str:
    return str(type_)
