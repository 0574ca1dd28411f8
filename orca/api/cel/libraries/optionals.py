"""Optional values. Reference: cel-go ``cel/libraries.go`` (OptionalTypes)."""

from __future__ import annotations

from typing import Any

from orca.api.cel.errors import CelError
from orca.api.cel.functions import declare
from orca.api.cel.values import Duration, Optional, Timestamp


def _of_non_zero(value: Any) -> Optional:
    zero = value is None or value is False
    if isinstance(value, int | float | str | bytes | list | dict):
        zero = not value
    elif isinstance(value, Duration):
        zero = value.nanos == 0
    elif isinstance(value, Timestamp):
        zero = False
    return Optional.NONE if zero else Optional(True, value)


def _value(optional: Optional) -> Any:
    if optional.present:
        return optional.value
    raise CelError("optional.none() dereference")


declare("optional.of", "(A) -> optional(A)", lambda value: Optional(True, value))
declare("optional.ofNonZeroValue", "(A) -> optional(A)", _of_non_zero)
declare("optional.none", "() -> optional(A)", lambda: Optional.NONE)
declare("hasValue", "optional(A).() -> bool", lambda optional: optional.present)
declare("value", "optional(A).() -> A", _value)
declare("or", "optional(A).(optional(A)) -> optional(A)", lambda one, other: one if one.present else other)
declare("orValue", "optional(A).(A) -> A", lambda optional, other: optional.value if optional.present else other)
