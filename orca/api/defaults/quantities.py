"""Quantities as the API writes them back: canonical, and in resource lists no finer than a thousandth."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from orca.api.quantity import Quantity, canonical
from orca.api.remembering import remembered


@remembered(4096)
def _canonical(text: str) -> str:
    return canonical(text)


@remembered(4096)
def _canonical_milli(text: str) -> str:
    found = Quantity.parse(text)
    milli = found.milli
    if found.value * 1000 != milli:
        found = Quantity(Decimal(milli) / 1000, found.form)
    return str(found)


def canonical_value(value: Any) -> Any:
    """*value* in canonical form; what is no quantity is left for validation to name."""
    try:
        return _canonical(value if isinstance(value, str) else str(value))
    except ValueError:
        return value


def canonical_list(values: dict[str, Any] | None) -> None:
    """Make every quantity of a resource list canonical, in place."""
    for key, value in (values or {}).items():
        try:
            text = _canonical_milli(value if isinstance(value, str) else str(value))
        except ValueError:
            continue
        if text != value:
            values[key] = text  # type: ignore[index]
