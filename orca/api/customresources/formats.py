"""String formats that are checked; others are shown in schemas and mean nothing.

Reference: k8s.io/kube-openapi ``pkg/validation/strfmt``, k8s.io/apiextensions-apiserver ``validation/formats.go``.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date
from typing import Final
from urllib.parse import urlsplit

from orca.api import names

_DATE_TIME = re.compile(
    r"^(\d{4})-(\d\d)-(\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$"
)
_DURATION = re.compile(r"^((\d+)\s*([A-Za-zµ]+))+$")
_UNIT_WORDS = (
    "ns nano nanos nanosecond nanoseconds us µs micro micros microsecond microseconds ms milli millis millisecond "
    "milliseconds s sec secs second seconds m min mins minute minutes h hr hrs hour hours d day days w wk wks week "
    "weeks"
)
_UNITS = frozenset(_UNIT_WORDS.split(" "))
_GO_DURATION = re.compile(r"^[-+]?((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$")
_EMAIL = re.compile(r"^[^@\s<>()\[\],;:\\\"]+@[^@\s<>()\[\],;:\\\"]+$")
_HOSTNAME = re.compile(r"^([a-zA-Z0-9\u00a1-\uffff]([a-zA-Z0-9\-\u00a1-\uffff]{0,61}[a-zA-Z0-9\u00a1-\uffff])?\.?)+$")
_MAC = re.compile(
    r"^([0-9a-fA-F]{2}([:-])([0-9a-fA-F]{2}\2){4,6}[0-9a-fA-F]{2}|([0-9a-fA-F]{4}\.){2,3}[0-9a-fA-F]{4})$"
)
_CARDS = re.compile(
    r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|"
    r"3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$"
)


def _matcher(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.match(text) is not None


def _uuid(version: str) -> Callable[[str], bool]:
    body = version if version else "[0-9a-f]"
    variant = "[89ab]" if version in ("4", "5") else "[0-9a-f]"
    return _matcher(rf"(?i)^[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{body}[0-9a-f]{{3}}-?{variant}[0-9a-f]{{3}}-?[0-9a-f]{{12}}$")


def _date_time(text: str) -> bool:
    found = _DATE_TIME.match(text)
    return found is not None and _is_date(f"{found[1]}-{found[2]}-{found[3]}")


def _is_date(text: str) -> bool:
    if not re.match(r"^\d{4}-\d\d-\d\d$", text, re.ASCII):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _duration(text: str) -> bool:
    if text == "0" or _GO_DURATION.match(text):
        return True
    if not _DURATION.match(text):
        return False
    return all(unit.lower() in _UNITS for unit in re.findall(r"[A-Za-zµ]+", text))


def _byte(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _address(version: int) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            return ipaddress.ip_address(text).version == version
        except ValueError:
            return False

    return check


def _network(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return "/" in text


def _uri(text: str) -> bool:
    if not text or any(character in text for character in " \t\r\n"):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return text.startswith("/") or bool(parts.scheme)


def _isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if not re.match(r"^\d{9}[\dX]$", digits):
        return False
    return sum((10 - i) * (10 if c == "X" else int(c)) for i, c in enumerate(digits)) % 11 == 0


def _isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if not re.match(r"^\d{13}$", digits):
        return False
    return sum(int(c) * (3 if i % 2 else 1) for i, c in enumerate(digits)) % 10 == 0


def _credit_card(text: str) -> bool:
    digits = re.sub(r"[^0-9]+", "", text)
    if not _CARDS.match(digits):
        return False
    total = 0
    for index, character in enumerate(reversed(digits)):
        number = int(character) * (2 if index % 2 else 1)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "bsonobjectid": _matcher(r"^[0-9a-fA-F]{24}$"),
    "byte": _byte,
    "cidr": _network,
    "creditcard": _credit_card,
    "date": _is_date,
    "date-time": _date_time,
    "datetime": _date_time,
    "duration": _duration,
    "email": lambda text: _EMAIL.match(text) is not None,
    "hexcolor": _matcher(r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    "hostname": lambda text: len(text) <= 255 and _HOSTNAME.match(text) is not None,
    "ipv4": _address(4),
    "ipv6": _address(6),
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "k8s-long-name": lambda text: not names.dns1123_subdomain(text),
    "k8s-short-name": lambda text: not names.dns1123_label(text),
    "mac": lambda text: _MAC.match(text) is not None,
    "password": lambda text: True,
    "rgbcolor": _matcher(
        r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,"
        r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$"
    ),
    "ssn": _matcher(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"),
    "uri": _uri,
    "uuid": _uuid(""),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4"),
    "uuid5": _uuid("5"),
}
"""Format -> whether a string has it."""
