"""When pods' failures fail a Job, and when some successes are enough.

Reference: k8s.io/kubernetes ``pkg/apis/batch/validation`` validatePodFailurePolicy, validateSuccessPolicy.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATES = ("False", "True", "Unknown")
_MOST_RULES, _MOST_CODES, _MOST_PATTERNS = 20, 255, 20
_MOST_INDEXES = 64 * 1024


class IndexesError(ValueError):
    """A list of indexes that is none; its text says where."""


def _valid(values: tuple[str, ...]) -> str:
    return "valid values: [" + " ".join(f'"{value}"' for value in values) + "]"


def _choice(value: str | None, allowed: tuple[str, ...], path: str, out: Errors) -> None:
    if not value:
        out.append(FieldError.required(path, _valid(allowed)))
    elif value not in allowed:
        out.append(FieldError.not_supported(path, value, allowed))


def _codes(codes: Obj, path: str, out: Errors, containers: set[str]) -> None:
    operator, name, values = codes.get("operator"), codes.get("containerName"), codes.get("values") or []
    _choice(operator, _OPERATORS, f"{path}.operator", out)
    if name is not None and name not in containers:
        text = "must be one of the container or initContainer names in the pod template"
        out.append(FieldError.invalid(f"{path}.containerName", name, text))
    at = f"{path}.values"
    if not values:
        out.append(FieldError.invalid(at, values, "at least one value is required"))
    elif len(values) > _MOST_CODES:
        out.append(FieldError.too_many(at, len(values), _MOST_CODES))
    seen = set()
    for i, value in enumerate(values):
        if operator == "In" and value == 0:
            out.append(FieldError.invalid(f"{at}[{i}]", value, "must not be 0 for the In operator"))
        if value in seen:
            out.append(FieldError.duplicate(f"{at}[{i}]", value))
        seen.add(value)
    if any(left > right for left, right in pairwise(values)):
        out.append(FieldError.invalid(at, values, "must be ordered"))


def _conditions(patterns: list[Obj], path: str, out: Errors) -> None:
    if len(patterns) > _MOST_PATTERNS:
        out.append(FieldError.too_many(path, len(patterns), _MOST_PATTERNS))
    for i, pattern in enumerate(patterns):
        kind = pattern.get("type") or ""
        common.messages(names.qualified_name(kind), kind, f"{path}[{i}].type", out)
        _choice(pattern.get("status"), _STATES, f"{path}[{i}].status", out)


def failure(spec: Obj, path: str, out: Errors) -> None:
    """``podFailurePolicy``; *path* is the job spec's."""
    policy = spec.get("podFailurePolicy")
    if policy is None:
        return
    rules = policy.get("rules") or []
    at = f"{path}.podFailurePolicy.rules"
    if len(rules) > _MOST_RULES:
        out.append(FieldError.too_many(at, len(rules), _MOST_RULES))
    pod = (spec.get("template") or {}).get("spec") or {}
    containers = {one.get("name") for key in ("containers", "initContainers") for one in pod.get(key) or ()}
    for i, rule in enumerate(rules):
        where, action = f"{at}[{i}]", rule.get("action")
        if action == "FailIndex":
            if spec.get("backoffLimitPerIndex") is None:
                text = "requires the backoffLimitPerIndex to be set"
                out.append(FieldError.invalid(f"{where}.action", action, text))
        else:
            _choice(action, _ACTIONS, f"{where}.action", out)
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
        if codes is not None:
            _codes(codes, f"{where}.onExitCodes", out, containers)
        if conditions:
            _conditions(conditions, f"{where}.onPodConditions", out)
        if codes is not None and conditions:
            text = "specifying both OnExitCodes and OnPodConditions is not supported"
            out.append(FieldError.invalid_without_value(where, text))
        if codes is None and not conditions:
            text = "specifying one of OnExitCodes and OnPodConditions is required"
            out.append(FieldError.invalid_without_value(where, text))


def _number(text: str, what: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit():
        raise IndexesError(f'cannot convert {what} to integer for index: "{text}"')
    return int(text)


def intervals(text: str, completions: int) -> Iterator[tuple[int, int]]:
    """First and last of each interval of *text* (``1,3-5``). Raises IndexesError."""
    last = -1
    for part in text.split(",") if text else ():
        limits = part.split("-")
        if len(limits) > 2:
            raise IndexesError(
                f'the fragment "{part}" violates the requirement that an index interval can have at most two parts '
                "separated by '-'"
            )
        first = _number(limits[0], "string")
        if first >= completions:
            raise IndexesError(f'too large index: "{limits[0]}"')
        end = first
        if len(limits) == 2:
            end = _number(limits[1], "string")
            if end >= completions:
                raise IndexesError(f'too large index: "{limits[1]}"')
            if first >= end:
                raise IndexesError(f"non-increasing order, previous: {first}, current: {end}")
        if last >= first:
            raise IndexesError(f"non-increasing order, previous: {last}, current: {first}")
        yield first, end
        last = end


def success(spec: Obj, path: str, out: Errors) -> None:
    """``successPolicy``; *path* is the job spec's."""
    policy = spec.get("successPolicy")
    if policy is None:
        return
    at = f"{path}.successPolicy"
    if spec.get("completionMode") != "Indexed":
        out.append(FieldError.invalid(at, policy, "requires indexed completion mode"))
        return
    rules = policy.get("rules") or []
    if not rules:
        text = "at least one rules must be specified when the successPolicy is specified"
        out.append(FieldError.required(f"{at}.rules", text))
    if len(rules) > _MOST_RULES:
        out.append(FieldError.too_many(f"{at}.rules", len(rules), _MOST_RULES))
    for i, rule in enumerate(rules):
        _success_rule(rule, f"{at}.rules[{i}]", out, spec.get("completions") or 0)


def _success_rule(rule: Obj, path: str, out: Errors, completions: int) -> None:
    count, indexes = rule.get("succeededCount"), rule.get("succeededIndexes")
    if count is None and indexes is None:
        text = "at least one of succeededCount or succeededIndexes must be specified"
        out.append(FieldError.required(path, text))
    total = 0
    if indexes is not None:
        at = f"{path}.succeededIndexes"
        if len(indexes) > _MOST_INDEXES:
            out.append(FieldError.too_long(at, "", _MOST_INDEXES))
        try:
            total = sum(end - first + 1 for first, end in intervals(indexes, completions))
        except IndexesError as error:
            out.append(FieldError.invalid(at, indexes, f"error parsing succeededIndexes: {error}"))
    if count is None:
        return
    at = f"{path}.succeededCount"
    common.non_negative(rule, "succeededCount", path, out)
    if count > completions:
        text = f"must be less than or equal to {completions} (the number of specified completions)"
        out.append(FieldError.invalid(at, count, text))
    if indexes is not None and count > total:
        text = f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        out.append(FieldError.invalid(at, count, text))
