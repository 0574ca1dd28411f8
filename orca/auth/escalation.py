"""Does a user hold every right that a set of rules would give? Nobody may grant more than they have.

Reference: k8s.io/component-helpers ``auth/rbac/validation``.
"""

from collections.abc import Sequence
from typing import Any

from orca.api.objects import Obj
from orca.auth.rbac import Rule

_MAX = 100_000


def uncovered(owned: Sequence[Obj], wanted: Sequence[Obj]) -> list[Obj]:
    """The single rights (one verb, group, resource, name or path each) of ``wanted`` that ``owned`` does not cover."""
    held = [Rule.compile(rule) for rule in owned]
    return [single for rule in wanted for single in _singles(rule) if not any(_covers(one, single) for one in held)]


def _singles(rule: Obj) -> list[Obj]:
    found: list[Obj] = []
    for verb in rule.get("verbs") or ():
        found += [{"verbs": [verb], "nonResourceURLs": [path]} for path in rule.get("nonResourceURLs") or ()]
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                single: dict[str, Any] = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
                names = rule.get("resourceNames") or ()
                found += [{**single, "resourceNames": [name]} for name in names] if names else [single]
        if len(found) > _MAX:
            break
    return found


def _covers(held: Rule, single: Obj) -> bool:
    (verb,) = single["verbs"]
    if not held.verbs & {verb, "*"}:
        return False
    paths = single.get("nonResourceURLs")
    if paths:
        return any(_path_covers(pattern, paths[0]) for pattern in held.paths)
    (group,), (resource,) = single["apiGroups"], single["resources"]
    if not held.groups & {group, "*"}:
        return False
    _, slash, subresource = resource.partition("/")
    if not held.resources & {resource, "*", *({f"*/{subresource}"} if slash else ())}:
        return False
    names = single.get("resourceNames")
    return not held.names or bool(names and names[0] in held.names)


def _path_covers(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.rstrip("*").startswith(pattern.rstrip("*")))


def shown(rules: Sequence[Obj]) -> str:
    """Rules as upstream prints them in refusals."""
    lines = []
    for rule in rules:
        parts = [f"{label}:{_go_list(rule[field])}" for field, label in _FIELDS if rule.get(field)]
        lines.append("{" + ", ".join(parts) + "}")
    return "\n".join(lines)


_FIELDS = (
    ("apiGroups", "APIGroups"),
    ("resources", "Resources"),
    ("resourceNames", "ResourceNames"),
    ("nonResourceURLs", "NonResourceURLs"),
    ("verbs", "Verbs"),
)


def _go_list(values: Sequence[str]) -> str:
    return "[" + " ".join(f'"{value}"' for value in values) + "]"
