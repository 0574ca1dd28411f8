"""Quantities. Reference: k8s.io/apiserver ``pkg/cel/library/quantity.go``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from orca.api.cel.errors import CelError
from orca.api.cel.functions import declare, fixed, traverse
from orca.api.quantity import FORMAT_TEXT, Quantity


@dataclass(frozen=True, slots=True)
class QuantityValue:
    """An exact amount; equal when the amounts are."""

    amount: Quantity
    cel_type: ClassVar[str] = "kubernetes.Quantity"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuantityValue) and self.amount.value == other.amount.value

    def __hash__(self) -> int:
        return hash(self.amount.value)


def parse(text: str) -> QuantityValue:
    """Raises CelError with upstream's text."""
    try:
        return QuantityValue(Quantity.parse(text))
    except ValueError:
        raise CelError(FORMAT_TEXT) from None


def _is_quantity(text: str) -> bool:
    try:
        Quantity.parse(text)
    except ValueError:
        return False
    return True


def _whole(value: QuantityValue) -> bool:
    number = value.amount.value
    return number == number.to_integral_value() and -(1 << 63) <= number < 1 << 63


def _integer(value: QuantityValue) -> int:
    if not _whole(value):
        raise CelError("cannot convert value to integer")
    return int(value.amount.value)


def _compare(one: QuantityValue, other: QuantityValue) -> int:
    return (one.amount.value > other.amount.value) - (one.amount.value < other.amount.value)


def _of_int(number: int) -> Quantity:
    return Quantity.parse(str(number))


declare("quantity", "(string) -> kubernetes.Quantity", parse, traverse())
declare("isQuantity", "(string) -> bool", _is_quantity, traverse())
declare("sign", "kubernetes.Quantity.() -> int", lambda q: (q.amount.value > 0) - (q.amount.value < 0), fixed(1))
declare("isInteger", "kubernetes.Quantity.() -> bool", _whole, fixed(1))
declare("asInteger", "kubernetes.Quantity.() -> int", _integer, fixed(1))
declare("asApproximateFloat", "kubernetes.Quantity.() -> double", lambda q: float(q.amount.value), fixed(1))
_PAIR = "kubernetes.Quantity.(kubernetes.Quantity)"
declare("isGreaterThan", f"{_PAIR} -> bool", lambda one, other: _compare(one, other) > 0, fixed(1))
declare("isLessThan", f"{_PAIR} -> bool", lambda one, other: _compare(one, other) < 0, fixed(1))
declare("compareTo", f"{_PAIR} -> int", _compare, fixed(1))
declare("add", f"{_PAIR} -> kubernetes.Quantity", lambda a, b: QuantityValue(a.amount + b.amount), fixed(1))
declare("sub", f"{_PAIR} -> kubernetes.Quantity", lambda a, b: QuantityValue(a.amount - b.amount), fixed(1))
_INT = "kubernetes.Quantity.(int) -> kubernetes.Quantity"
declare("add", _INT, lambda a, b: QuantityValue(a.amount + _of_int(b)), fixed(1))
declare("sub", _INT, lambda a, b: QuantityValue(a.amount - _of_int(b)), fixed(1))
