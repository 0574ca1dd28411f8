"""Checks that many kinds share. Each appends what it finds to ``out``, so that a good object costs no lists."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from orca.api import names
from orca.api.errors import FieldError
from orca.api.metadata import validate_labels
from orca.api.quantity import Quantity
from orca.api.remembering import remembered
from orca.api.selectors import from_label_selector
from orca.api.validation.registry import Errors, Obj

NON_NEGATIVE = "must be greater than or equal to 0"
IMMUTABLE = "field is immutable"
PROTOCOLS = ("SCTP", "TCP", "UDP")


def there_before(values: Iterable[Hashable]) -> list[bool]:
    """Of each value whether an earlier one equals it."""
    seen: set[Hashable] = set()
    found = []
    for value in values:
        found.append(value in seen)
        seen.add(value)
    return found


def choice(value: Any, allowed: Sequence[str], path: str, out: Errors, *, required: bool = False) -> None:
    """*value* is one of *allowed*; an empty one is an error only when *required*."""
    if not value:
        if required:
            out.append(FieldError.required(path))
    elif value not in allowed:
        out.append(FieldError.not_supported(path, value, allowed))


def known(value: Any, allowed: Sequence[str], path: str, out: Errors) -> None:
    """*value*, when it is there, is one of *allowed*; an empty one is not."""
    if value is not None and value not in allowed:
        out.append(FieldError.not_supported(path, value, allowed))


def messages(found: Iterable[str], value: Any, path: str, out: Errors) -> None:
    """One Invalid error for each message."""
    for text in found:
        out.append(FieldError.invalid(path, value, text))


def non_negative(obj: Obj, key: str, path: str, out: Errors) -> None:
    """``obj[key]``, when it is there, is not below 0."""
    value = obj.get(key)
    if value is not None and value < 0:
        out.append(FieldError.invalid(f"{path}.{key}", value, NON_NEGATIVE))


def required(obj: Obj, key: str, path: str, out: Errors, detail: str = "") -> bool:
    """``obj[key]`` is there and not empty; whether it is."""
    if obj.get(key):
        return True
    out.append(FieldError.required(f"{path}.{key}", detail))
    return False


def immutable(new: Any, old: Any, path: str, out: Errors) -> None:
    """*new* equals *old*; null, empty and missing are one."""
    if new != old and (new or old):
        out.append(FieldError.invalid(path, new, IMMUTABLE))


def port(value: Any, path: str, out: Errors) -> None:
    """A port number or an IANA port name."""
    if isinstance(value, str):
        messages(names.port_name(value), value, path, out)
    elif not isinstance(value, int) or not 1 <= value <= 65535:
        out.append(FieldError.invalid(path, value if value is not None else 0, names.in_range(1, 65535)))


def int_or_percent(value: Any, path: str, out: Errors) -> None:
    """A number that is not negative, or a percentage."""
    if isinstance(value, str):
        messages(names.percent(value), value, path, out)
    elif value is not None and value < 0:
        out.append(FieldError.invalid(path, value, NON_NEGATIVE))


def is_percent(value: Any) -> bool:
    """Whether *value* is a well-formed percentage."""
    return isinstance(value, str) and not names.percent(value)


def percent_at_most_100(value: Any, path: str, out: Errors) -> None:
    """A percentage does not exceed 100 %."""
    if is_percent(value) and int(value[:-1]) > 100:
        out.append(FieldError.invalid(path, value, "must not be greater than 100%"))


@remembered(8192)
def parse_quantity(text: str) -> Quantity:
    """The quantity *text* says. Raises ValueError."""
    return Quantity.parse(text)


def quantity(value: Any, path: str, out: Errors) -> Quantity | None:
    """*value* as a quantity, or None after an error."""
    try:
        return parse_quantity(value if isinstance(value, str) else str(value))
    except ValueError as error:
        out.append(FieldError.invalid(path, value, str(error)))
        return None


def non_negative_quantity(value: Any, path: str, out: Errors) -> Quantity | None:
    """*value* as a quantity that is not below 0, or None after an error."""
    found = quantity(value, path, out)
    if found is not None and found.value < 0:
        out.append(FieldError.invalid(path, value, NON_NEGATIVE))
        return None
    return found


def labels(values: Obj | None, path: str, out: Errors) -> None:
    """A map of labels."""
    if values:
        out += validate_labels(values, path)


def label_selector(selector: Obj | None, path: str, out: Errors) -> None:
    """A metav1.LabelSelector."""
    if not selector:
        return
    labels(selector.get("matchLabels"), f"{path}.matchLabels", out)
    for i, rule in enumerate(selector.get("matchExpressions") or ()):
        at = f"{path}.matchExpressions[{i}]"
        operator, values = rule.get("operator"), rule.get("values")
        if operator in ("In", "NotIn"):
            if not values:
                out.append(FieldError.required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                out.append(
                    FieldError.forbidden(
                        f"{at}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    )
                )
        else:
            out.append(FieldError.invalid(f"{at}.operator", operator or "", "not a valid selector operator"))
        messages(names.qualified_name(rule.get("key") or ""), rule.get("key") or "", f"{at}.key", out)
        for j, value in enumerate(values or ()):
            messages(names.label_value(value), value, f"{at}.values[{j}]", out)


def selector_matches(selector: Obj | None, values: Obj | None) -> bool | None:
    """Whether *selector* selects *values*; None when it is malformed or empty."""
    if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return None
    try:
        return from_label_selector(selector).matches(values or {})
    except ValueError:
        return None


def subdomain(value: str | None, path: str, out: Errors) -> None:
    """An RFC 1123 subdomain, when there is one."""
    if value:
        messages(names.dns1123_subdomain(value), value, path, out)


_HTTP_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")


def domain_prefixed_path(value: str, path: str, out: Errors) -> None:
    """A subdomain, a slash and characters of an HTTP path: ``acme.io/foo``."""
    host, _, rest = value.partition("/")
    if not value:
        out.append(FieldError.required(path))
    elif not host or not rest:
        text = 'must be a domain-prefixed path (such as "acme.io/foo")'
        out.append(FieldError.invalid(path, value, text))
    else:
        messages(names.dns1123_subdomain(host), host, path, out)
        if not _HTTP_PATH.fullmatch(rest):
            out.append(FieldError.invalid(path, rest, names.regex_error("Invalid path", _HTTP_PATH.pattern)))


def segment(obj: Obj, key: str, path: str, out: Errors) -> None:
    """``obj[key]`` is there, and can stand in a URL's path."""
    if required(obj, key, path, out):
        messages(names.path_segment(obj[key]), obj[key], f"{path}.{key}", out)


def no_backsteps(value: str, path: str, out: Errors) -> None:
    """A path without ``..`` between its slashes."""
    if ".." in value and ".." in value.split("/"):
        out.append(FieldError.invalid(path, value, "must not contain '..'"))


def relative_path(value: str, path: str, out: Errors) -> None:
    """A path that stays below where it starts."""
    if value.startswith("/"):
        out.append(FieldError.invalid(path, value, "must be a relative path"))
    no_backsteps(value, path, out)


def local_path(value: str, path: str, out: Errors) -> None:
    """As ``relative_path``, and the first name does not begin with ``..``."""
    relative_path(value, path, out)
    if value.startswith("..") and not value.startswith("../"):
        out.append(FieldError.invalid(path, value, "must not start with '..'"))


_CONDITION_STATES = ("False", "True", "Unknown")
_CONDITION_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
_CONDITION_REASON_TEXT = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_'"
)
_REASON_MAX, _MESSAGE_MAX = 1024, 32 * 1024


def conditions(items: list[Obj] | None, path: str, out: Errors) -> None:
    """A list of metav1.Condition, one of each type."""
    seen: set[str] = set()
    for i, condition in enumerate(items or ()):
        kind = condition.get("type") or ""
        if kind in seen:
            out.append(FieldError.duplicate(f"{path}[{i}].type", kind))
        seen.add(kind)
        _condition(condition, kind, f"{path}[{i}]", out)


def _condition(condition: Obj, kind: str, path: str, out: Errors) -> None:
    messages(names.qualified_name(kind), kind, f"{path}.type", out)
    state, reason = condition.get("status") or "", condition.get("reason") or ""
    if state not in _CONDITION_STATES:
        out.append(FieldError.not_supported(f"{path}.status", state, _CONDITION_STATES))
    generation = condition.get("observedGeneration") or 0
    if generation < 0:
        text = "must be greater than or equal to zero"
        out.append(FieldError.invalid(f"{path}.observedGeneration", generation, text))
    if not condition.get("lastTransitionTime"):
        out.append(FieldError.required(f"{path}.lastTransitionTime", "must be set"))
    if not reason:
        out.append(FieldError.required(f"{path}.reason", "must be set"))
    elif not _CONDITION_REASON.fullmatch(reason):
        examples = ("my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB")
        text = names.regex_error(_CONDITION_REASON_TEXT, _CONDITION_REASON.pattern, *examples)
        out.append(FieldError.invalid(f"{path}.reason", reason, text))
    if len(reason.encode()) > _REASON_MAX:
        out.append(FieldError.too_long(f"{path}.reason", "", _REASON_MAX))
    if len((condition.get("message") or "").encode()) > _MESSAGE_MAX:
        out.append(FieldError.too_long(f"{path}.message", "", _MESSAGE_MAX))
