"""Named formats of strings. Reference: k8s.io/apiserver ``pkg/cel/library/format.go``."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from math import ceil
from typing import Any, ClassVar

from orca.api import names
from orca.api.cel.errors import CelError
from orca.api.cel.functions import declare
from orca.api.cel.libraries.times import parse_timestamp
from orca.api.cel.libraries.urls import parse as parse_url
from orca.api.cel.values import Optional, size_of

_UUID = re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Format:
    """A rule for strings; ``weight`` is the length of its expression, for costs."""

    name: str
    check: Callable[[str], list[str]]
    weight: int
    cel_type: ClassVar[str] = "kubernetes.NamedFormat"


def _prefix(check: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """As the check, for what something is generated from: it may end with a dash."""

    def run(text: str) -> list[str]:
        return check(f"{text[:-1]}a" if len(text) > 1 and text.endswith("-") else text)

    return run


def _uri(text: str) -> list[str]:
    try:
        parse_url(text)
    except CelError as error:
        return [str(error).removeprefix("URL parse error during conversion from string: ")]
    return []


def _byte(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return []


def _date(text: str) -> list[str]:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        date.fromisoformat(text)
    except ValueError:
        return ["invalid date"]
    return []


def _datetime(text: str) -> list[str]:
    try:
        parse_timestamp(text)
    except CelError:
        return ["invalid datetime"]
    return []


def _uuid(text: str) -> list[str]:
    return [] if _UUID.fullmatch(text) else ["does not match the UUID format"]


FORMATS = {
    "dns1123Label": Format("DNS1123Label", names.dns1123_label, 30),
    "dns1123Subdomain": Format("DNS1123Subdomain", names.dns1123_subdomain, 60),
    "dns1035Label": Format("DNS1035Label", names.dns1035_label, 30),
    "qualifiedName": Format("QualifiedName", names.qualified_name, 60),
    "dns1123LabelPrefix": Format("DNS1123LabelPrefix", _prefix(names.dns1123_label), 30),
    "dns1123SubdomainPrefix": Format("DNS1123SubdomainPrefix", _prefix(names.dns1123_subdomain), 60),
    "dns1035LabelPrefix": Format("DNS1035LabelPrefix", _prefix(names.dns1035_label), 30),
    "labelValue": Format("LabelValue", names.label_value, 40),
    "uri": Format("URI", _uri, 1000),
    "uuid": Format("uuid", _uuid, 80),
    "byte": Format("byte", _byte, 90),
    "date": Format("date", _date, 90),
    "datetime": Format("datetime", _datetime, 90),
}


def _named(name: str) -> Optional:
    found = FORMATS.get(name)
    return Optional.NONE if found is None else Optional(True, found)


def _validate(rule: Format, text: str) -> Optional:
    wrong = rule.check(text)
    return Optional(True, wrong) if wrong else Optional.NONE


def _cost(args: Sequence[Any], result: Any) -> int:
    return ceil((1 + size_of(args[1])) * 0.1) * ceil(args[0].weight * 0.25)


declare("format.named", "(string) -> optional(kubernetes.NamedFormat)", _named)
for _name, _format in FORMATS.items():
    declare(f"format.{_name}", "() -> kubernetes.NamedFormat", lambda found=_format: found)
declare("validate", "kubernetes.NamedFormat.(string) -> optional(list(string))", _validate, _cost)
