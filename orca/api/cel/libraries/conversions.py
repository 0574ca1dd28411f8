"""Conversions: ``int``, ``string`` and so on. Reference: cel-spec ``doc/langdef.md``."""

from __future__ import annotations

import re
from decimal import Decimal
from math import isfinite, isinf, isnan
from typing import Any

from orca.api.cel.errors import CelError
from orca.api.cel.functions import declare, traverse
from orca.api.cel.libraries.times import show_duration, show_timestamp
from orca.api.cel.values import TypeValue, Uint, checked_int, checked_uint, type_name

_INT = re.compile(r"[+-]?\d+")
_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}


def _int_of_double(value: float) -> int:
    if not isfinite(value) or not -(2.0**63) < value < 2.0**63:
        raise CelError("integer overflow")
    return int(value)


def _int_of_string(text: str) -> int:
    if not _INT.fullmatch(text):
        raise CelError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return checked_int(int(text)) if len(text) < 25 else checked_int(1 << 64)


def _uint_of_double(value: float) -> Uint:
    if not isfinite(value) or not 0 <= value < 2.0**64:
        raise CelError("unsigned integer overflow")
    return Uint(int(value))


def _uint_of_string(text: str) -> Uint:
    if not text.isascii() or not text.isdigit():
        raise CelError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return checked_uint(int(text)) if len(text) < 25 else checked_uint(-1)


def _double_of_string(text: str) -> float:
    try:
        if text != text.strip() or "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        raise CelError(f'strconv.ParseFloat: parsing "{text}": invalid syntax') from None


def show_double(value: float) -> str:
    """As Go's ``FormatFloat(value, 'g', -1, 64)``: an exponent from a million on."""
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if str(value)[0] == "-" else "0"
    # The fewest digits that tell the number, and where the point stands among them.
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    shown = "".join(map(str, digits)).rstrip("0")
    place = len(digits) + exponent - 1
    minus = "-" if sign else ""
    if not -4 <= place < 6:
        fraction = f".{shown[1:]}" if len(shown) > 1 else ""
        return f"{minus}{shown[0]}{fraction}e{'-' if place < 0 else '+'}{abs(place):02d}"
    if place < 0:
        return f"{minus}0.{'0' * (-place - 1)}{shown}"
    whole, rest = shown[: place + 1].ljust(place + 1, "0"), shown[place + 1 :]
    return f"{minus}{whole}.{rest}" if rest else f"{minus}{whole}"


def _bool_of_string(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise CelError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def _string_of_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None


def show_bool(value: bool) -> str:
    """``true`` or ``false``."""
    return "true" if value else "false"


def _same(value: Any) -> Any:
    return value


declare("int", "(int) -> int", _same)
declare("int", "(uint) -> int", lambda value: checked_int(int(value)))
declare("int", "(double) -> int", _int_of_double)
declare("int", "(string) -> int", _int_of_string)
declare("int", "(timestamp) -> int", lambda value: value.nanos // 1_000_000_000)
declare("int", "(duration) -> int", lambda value: value.nanos)
declare("uint", "(uint) -> uint", _same)
declare("uint", "(int) -> uint", checked_uint)
declare("uint", "(double) -> uint", _uint_of_double)
declare("uint", "(string) -> uint", _uint_of_string)
declare("double", "(double) -> double", _same)
declare("double", "(int) -> double; (uint) -> double", float)
declare("double", "(string) -> double", _double_of_string)
declare("string", "(string) -> string", _same)
declare("string", "(bool) -> string", show_bool)
declare("string", "(int) -> string; (uint) -> string", lambda value: str(int(value)))
declare("string", "(double) -> string", show_double)
declare("string", "(bytes) -> string", _string_of_bytes, traverse())
declare("string", "(timestamp) -> string", show_timestamp)
declare("string", "(duration) -> string", show_duration)
declare("bytes", "(bytes) -> bytes", _same)
declare("bytes", "(string) -> bytes", lambda text: text.encode("utf-8", "surrogatepass"), traverse())
declare("bool", "(bool) -> bool", _same)
declare("bool", "(string) -> bool", _bool_of_string)
declare("dyn", "(A) -> dyn", _same)
declare("type", "(A) -> type(A)", lambda value: TypeValue(type_name(value)))
