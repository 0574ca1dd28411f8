"""Quantities: ``500m``, ``1Gi``, ``1e3`` … exact decimals with a family of suffixes.

Reference: k8s.io/apimachinery ``api/resource``.
"""

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

from orca.api.remembering import LONGEST

_FORMAT = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?\d+)?$")
FORMAT_TEXT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
PATTERN = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][-+]?[0-9]+)?$"

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_SUFFIX = {power: suffix for suffix, power in _BINARY.items()}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_NANO = Decimal("1e-9")
_MAX = Decimal((1 << 63) - 1)


@dataclass(frozen=True, order=True)
class Quantity:
    """An exact amount; ``form`` (``binary``, ``decimal``, ``exponent``) only says how it is written."""

    value: Decimal
    form: str = "decimal"

    @classmethod
    def parse(cls, text: str | int | float) -> "Quantity":
        """From the wire. Raises ValueError with upstream's text."""
        text = text if isinstance(text, str) else str(text)
        return _parse(text) if len(text) <= LONGEST else _parse.__wrapped__(text)

    @property
    def milli(self) -> int:
        """Thousandths, rounded up."""
        return _up(self.value * 1000)

    @property
    def integer(self) -> int:
        """Whole units, rounded up."""
        return _up(self.value)

    def __add__(self, other: "Quantity") -> "Quantity":
        return Quantity(self.value + other.value, self.form if self.value else other.form)

    def __sub__(self, other: "Quantity") -> "Quantity":
        return Quantity(self.value - other.value, self.form if self.value else other.form)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __str__(self) -> str:
        """The canonical form: no fraction, the largest suffix that keeps it so."""
        if not self.value:
            return "0"
        if self.form == "binary" and abs(self.value) >= 1024 and self.value == self.value.to_integral_value():
            return self._binary()
        mantissa, exponent = self._thousands()
        if self.form == "exponent":
            return f"{mantissa}e{exponent}" if exponent else str(mantissa)
        return f"{mantissa}{_DECIMAL_SUFFIX[exponent]}"

    def _binary(self) -> str:
        whole, power = int(self.value), 0
        while whole % 1024 == 0 and power < 6:
            whole //= 1024
            power += 1
        return f"{whole}{_BINARY_SUFFIX[power]}" if power else str(whole)

    def _thousands(self) -> tuple[int, int]:
        # Nothing is finer than a nano unit; what is gets rounded up, as upstream does.
        nano = _up(self.value / _NANO)
        exponent = -9
        while nano % 1000 == 0 and exponent < 18:
            nano //= 1000
            exponent += 3
        return nano, exponent


@lru_cache(maxsize=4096)
def _parse(text: str) -> Quantity:
    match = _FORMAT.match(text)
    if match is None or text.endswith("\n"):
        raise ValueError(FORMAT_TEXT)
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix in _BINARY:
        return Quantity(min(max(_bounded(number, 0) * (1 << (10 * _BINARY[suffix])), -_MAX), _MAX), "binary")
    if suffix in _DECIMAL:
        return Quantity(_bounded(number, _DECIMAL[suffix]))
    return Quantity(_bounded(number, int(suffix[1:])), "exponent")


def _bounded(number: Decimal, exponent: int) -> Decimal:
    """``number`` × 10^``exponent`` between a nano unit and 2^63-1, as upstream: ``1e999999999`` fits in no memory."""
    if not number:
        return Decimal(0)
    top = number.adjusted() + exponent
    if top > _MAX.adjusted():
        return _MAX.copy_sign(number)
    if top < _NANO.adjusted():
        return _NANO.copy_sign(number)
    value = number.scaleb(exponent)
    return value if abs(value) <= _MAX else _MAX.copy_sign(number)


def _up(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_CEILING))


def canonical(text: str | int | float) -> str:
    """The form in which the API writes a quantity back. Raises ValueError."""
    return str(Quantity.parse(text))


def parse_cpu_milli(text: str | int | float) -> int:
    """Thousandths of a core, rounded up. Raises ValueError."""
    return Quantity.parse(text).milli


def parse_int(text: str | int | float) -> int:
    """Bytes or pieces, rounded up. Raises ValueError."""
    return Quantity.parse(text).integer
