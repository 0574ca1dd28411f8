"""``Policy`` (audit.k8s.io/v1): parsed strictly, checked as upstream checks it, asked once a request.

Reference: k8s.io/apiserver ``pkg/audit/policy`` and ``pkg/apis/audit/validation``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import yaml

from orca.api import names
from orca.api.errors import FieldError
from orca.api.objects import Obj
from orca.auth.identity import UserInfo
from orca.server.paths import Target

API_VERSION = "audit.k8s.io/v1"
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")


class Level(IntEnum):
    """How much is logged. Names are the API's."""

    NONE = 0
    Metadata = 1
    Request = 2
    RequestResponse = 3


LEVELS: dict[str, Level] = {"None": Level.NONE, "Metadata": Level.Metadata, "Request": Level.Request,
          "RequestResponse": Level.RequestResponse}  # fmt: skip
_RULE_FIELDS: dict[str, type] = {
    "level": str,
    "users": list,
    "userGroups": list,
    "verbs": list,
    "resources": list,
    "namespaces": list,
    "nonResourceURLs": list,
    "omitStages": list,
    "omitManagedFields": bool,
}
_RESOURCE_FIELDS: dict[str, type] = {"group": str, "resources": list, "resourceNames": list}
_POLICY_FIELDS: dict[str, type] = {"apiVersion": str, "kind": str, "metadata": dict, "rules": list, "omitStages": list,
                  "omitManagedFields": bool}  # fmt: skip


_OBJECTS = ("rules", "resources")
"""Lists of objects; all others are lists of strings. The resources of a resource rule are checked as the others are."""


class PolicyInvalid(ValueError):
    """The file cannot be used; the message lists every problem with its field."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy wants of one request."""

    level: Level
    omit_stages: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


_NOTHING = Verdict(Level.NONE)


@dataclass(frozen=True, slots=True)
class _Rule:
    verdict: Verdict
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    namespaces: frozenset[str]
    resources: tuple[tuple[str, tuple[str, ...], frozenset[str]], ...]
    """(group, resources, names)"""
    paths: tuple[str, ...]

    def matches(self, user: UserInfo, verb: str, target: Target) -> bool:
        if self.users and user.name not in self.users:
            return False
        if self.groups and self.groups.isdisjoint(user.groups):
            return False
        if self.verbs and verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return bool(target.plural) and self._matches_resource(target)
        if self.paths:
            return not target.plural and any(_path_matches(path, target.path) for path in self.paths)
        return True

    def _matches_resource(self, target: Target) -> bool:
        if self.namespaces and target.namespace not in self.namespaces:
            return False
        if not self.resources:
            return True
        whole = f"{target.plural}/{target.subresource}" if target.subresource else target.plural
        wanted = {whole, "*", f"{target.plural}/*"}
        if target.subresource:
            wanted.add(f"*/{target.subresource}")
        for group, resources, object_names in self.resources:
            if group not in ("*", target.group):
                continue
            if not resources:
                return True
            if (not object_names or target.name in object_names) and not wanted.isdisjoint(resources):
                return True
        return False


def _path_matches(pattern: str, path: str) -> bool:
    if pattern in ("*", path):
        return True
    return pattern.endswith("*") and path.startswith(pattern[:-1])


class Policy:
    """Rules in order; the first that matches decides."""

    def __init__(self, rules: list[_Rule]) -> None:
        self._rules = rules

    @classmethod
    def parse(cls, text: str | bytes) -> Policy:
        """Raises PolicyInvalid."""
        try:
            loaded = yaml.load(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError as error:
            raise PolicyInvalid(f"malformed YAML: {error}") from None
        problems = list(check(loaded))
        if problems:
            raise PolicyInvalid("; ".join(map(str, problems)))
        return cls([_rule(one, loaded) for one in loaded["rules"]])

    def verdict(self, user: UserInfo, verb: str, target: Target) -> Verdict:
        """What is to be logged of a request; ``verb`` is the lower-case method for what is no resource."""
        for rule in self._rules:
            if rule.matches(user, verb, target):
                return rule.verdict
        return _NOTHING


def load_policy(path: Path) -> Policy:
    """Raises PolicyInvalid, also for a file that cannot be read."""
    try:
        return Policy.parse(path.read_bytes())
    except OSError as error:
        raise PolicyInvalid(str(error.strerror)) from error


def _rule(rule: Obj, policy: Obj) -> _Rule:
    omitted = frozenset(rule.get("omitStages") or ()) | frozenset(policy.get("omitStages") or ())
    managed = rule.get("omitManagedFields")
    if managed is None:
        managed = bool(policy.get("omitManagedFields"))
    return _Rule(
        verdict=Verdict(LEVELS[rule["level"]], omitted, managed),
        users=frozenset(rule.get("users") or ()),
        groups=frozenset(rule.get("userGroups") or ()),
        verbs=frozenset(rule.get("verbs") or ()),
        namespaces=frozenset(rule.get("namespaces") or ()),
        resources=tuple(
            (one.get("group") or "", tuple(one.get("resources") or ()), frozenset(one.get("resourceNames") or ()))
            for one in rule.get("resources") or ()
        ),
        paths=tuple(rule.get("nonResourceURLs") or ()),
    )


def check(policy: Any) -> Iterator[FieldError]:
    """Everything that is wrong with a parsed file."""
    if not isinstance(policy, dict):
        yield FieldError.invalid("", type(policy).__name__, "must be an object of kind Policy")
        return
    if policy.get("apiVersion") != API_VERSION:
        yield FieldError.not_supported("apiVersion", policy.get("apiVersion") or "", (API_VERSION,))
    if policy.get("kind") != "Policy":
        yield FieldError.not_supported("kind", policy.get("kind") or "", ("Policy",))
    wrong = list(_shape(policy, _POLICY_FIELDS, ""))
    yield from wrong
    if wrong:
        return
    yield from _stages(policy, "")
    rules = policy.get("rules")
    if not rules:
        yield FieldError.required("rules", "a policy without rules logs nothing; give at least one")
    for i, rule in enumerate(rules or ()):
        yield from _check_rule(rule, f"rules[{i}]")


def _check_rule(rule: Any, path: str) -> Iterator[FieldError]:
    if not isinstance(rule, dict):
        yield FieldError.invalid(path, type(rule).__name__, "must be an object")
        return
    wrong = list(_shape(rule, _RULE_FIELDS, f"{path}."))
    yield from wrong
    if wrong:
        return
    level = rule.get("level")
    if not level:
        yield FieldError.required(f"{path}.level")
    elif level not in LEVELS:
        yield FieldError.not_supported(f"{path}.level", level, LEVELS)
    yield from _stages(rule, f"{path}.")
    paths = rule.get("nonResourceURLs") or []
    if paths and (rule.get("resources") or rule.get("namespaces")):
        text = "rules cannot apply to both regular resources and non-resource URLs"
        yield FieldError.invalid(f"{path}.nonResourceURLs", paths, text)
    for i, url in enumerate(paths):
        at = f"{path}.nonResourceURLs[{i}]"
        if url == "*":
            continue
        if not url.startswith("/"):
            yield FieldError.invalid(at, url, "non-resource URL rules must begin with a '/' character")
        if "*" in url[:-1]:
            yield FieldError.invalid(at, url, "non-resource URL wildcards '*' must be the final character of the rule")
    for i, one in enumerate(rule.get("resources") or ()):
        at = f"{path}.resources[{i}]"
        if not isinstance(one, dict):
            yield FieldError.invalid(at, type(one).__name__, "must be an object with group and resources")
            continue
        yield from _shape(one, _RESOURCE_FIELDS, f"{at}.")
        group = one.get("group")
        if isinstance(group, str) and group not in ("", "*"):
            for why in names.dns1123_subdomain(group):
                yield FieldError.invalid(f"{at}.group", group, why)
        if one.get("resourceNames") and not one.get("resources"):
            text = "using resourceNames requires at least one resource"
            yield FieldError.invalid(f"{at}.resourceNames", one["resourceNames"], text)


def _stages(part: Obj, path: str) -> Iterator[FieldError]:
    for i, stage in enumerate(part.get("omitStages") or ()):
        if stage not in STAGES:
            yield FieldError.not_supported(f"{path}omitStages[{i}]", stage, STAGES)


def _shape(found: dict[Any, Any], known: dict[str, type], path: str) -> Iterator[FieldError]:
    value: Any
    for name, value in found.items():
        wanted = known.get(name)
        if wanted is None:
            yield FieldError.forbidden(f"{path}{name}", f"unknown field; known are {', '.join(known)}")
        elif value is None:
            continue
        elif not isinstance(value, wanted):
            yield FieldError.invalid(f"{path}{name}", value, f"must be a {wanted.__name__}")
        elif isinstance(value, list) and name not in _OBJECTS and not all(isinstance(one, str) for one in value):
            yield FieldError.invalid(f"{path}{name}", value, "must be a list of strings")
