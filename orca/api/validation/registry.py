"""How a kind declares its rules: functions found by group and kind, and the rule its names follow.

Rules return the errors they find. A kind without an update rule is judged on update by its create rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orca.api.errors import FieldError

Obj = dict[str, Any]
Errors = list[FieldError]
CreateRule = Callable[[Obj], Errors]
UpdateRule = Callable[[Obj, Obj, str], Errors]
"""(new, old, subresource) -> errors."""

_CREATE: dict[tuple[str, str], CreateRule] = {}
_UPDATE: dict[tuple[str, str], UpdateRule] = {}


def on_create(group: str, *kinds: str) -> Callable[[CreateRule], CreateRule]:
    """Register the decorated function as create rule of *kinds*."""

    def register(rule: CreateRule) -> CreateRule:
        for kind in kinds:
            _CREATE[group, kind] = rule
        return rule

    return register


def on_update(group: str, *kinds: str) -> Callable[[UpdateRule], UpdateRule]:
    """Register the decorated function as update rule of *kinds*."""

    def register(rule: UpdateRule) -> UpdateRule:
        for kind in kinds:
            _UPDATE[group, kind] = rule
        return rule

    return register


def create_rule(group: str, kind: str) -> CreateRule | None:
    """The create rule of *kind*, or None."""
    return _CREATE.get((group, kind))


def update_rule(group: str, kind: str) -> UpdateRule | None:
    """The update rule of *kind*, or None."""
    return _UPDATE.get((group, kind))


def kinds() -> Iterable[tuple[str, str]]:
    """Every (group, kind) with rules."""
    return _CREATE.keys() | _UPDATE.keys()
