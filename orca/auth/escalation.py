"""Does a user hold every right that a set of rules would give? Nobody may grant more than they have.

Reference: k8s.io/component-helpers ``auth/rbac/validation``.
"""

from collections.abc import Sequence
from typing import Any

from orca.api.objects import Obj
from orca.auth.rbac import Rule

_MOST = 20_000
"""Single rights that are looked at; nobody needs more in what one role would add to what its author holds."""


def uncovered(owned: Sequence[Obj], wanted: Sequence[Obj]) -> list[Obj]:
    """The single rights (one verb, group, resource, name or path each) of ``wanted`` that ``owned`` does not cover.

    Of rules with so many combinations that they cannot all be looked at, those that no single rule covers count as
    uncovered as a whole.
    """
    held = [Rule.compile(rule) for rule in owned]
    found: list[Obj] = []
    room = _MOST
    for rule in wanted:
        if any(_covers_all(one, rule) for one in held):
            continue
        room -= _count(rule)
        if room < 0:
            found.append(rule)
        else:
            found += [single for single in _singles(rule) if not any(_covers(one, single) for one in held)]
    return found


def _covers_all(held: Rule, rule: Obj) -> bool:
    """Whether one rule gives all that another would. False where only a closer look could tell."""
    verbs, paths = rule.get("verbs") or (), rule.get("nonResourceURLs") or ()
    if "*" not in held.verbs and not held.verbs.issuperset(verbs):
        return False
    if not all(any(_path_covers(pattern, path) for pattern in held.paths) for path in paths):
        return False
    groups, resources, names = rule.get("apiGroups") or (), rule.get("resources") or (), rule.get("resourceNames") or ()
    if not groups or not resources:
        return True
    return (
        ("*" in held.groups or held.groups.issuperset(groups))
        and ("*" in held.resources or held.resources.issuperset(resources))
        and (not held.names or bool(names and held.names.issuperset(names)))
    )


def _count(rule: Obj) -> int:
    verbs, paths = len(rule.get("verbs") or ()), len(rule.get("nonResourceURLs") or ())
    groups, resources = len(rule.get("apiGroups") or ()), len(rule.get("resources") or ())
    return verbs * (paths + groups * resources * (len(rule.get("resourceNames") or ()) or 1))


def _singles(rule: Obj) -> list[Obj]:
    found: list[Obj] = []
    for verb in rule.get("verbs") or ():
        found += [{"verbs": [verb], "nonResourceURLs": [path]} for path in rule.get("nonResourceURLs") or ()]
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                single: dict[str, Any] = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
                names = rule.get("resourceNames") or ()
                found += [{**single, "resourceNames": [name]} for name in names] if names else [single]
    return found


def _covers(held: Rule, single: Obj) -> bool:
    (verb,) = single["verbs"]
    if verb not in held.verbs and "*" not in held.verbs:
        return False
    paths = single.get("nonResourceURLs")
    if paths:
        return any(_path_covers(pattern, paths[0]) for pattern in held.paths)
    (group,), (resource,) = single["apiGroups"], single["resources"]
    if group not in held.groups and "*" not in held.groups:
        return False
    if resource not in held.resources and "*" not in held.resources:
        _, slash, subresource = resource.partition("/")
        if not slash or f"*/{subresource}" not in held.resources:
            return False
    names = single.get("resourceNames")
    return not held.names or bool(names and names[0] in held.names)


def _path_covers(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.rstrip("*").startswith(pattern.rstrip("*")))


def shown(rules: Sequence[Obj]) -> str:
    """Rules as upstream prints them in refusals; of very many only the first."""
    lines = []
    for rule in rules[:_SHOWN]:
        parts = [f"{label}:{_go_list(rule[field])}" for field, label in _FIELDS if rule.get(field)]
        lines.append("{" + ", ".join(parts) + "}")
    if len(rules) > _SHOWN:
        lines.append(f"and {len(rules) - _SHOWN} more")
    return "\n".join(lines)


_SHOWN = 100
_FIELDS = (
    ("apiGroups", "APIGroups"),
    ("resources", "Resources"),
    ("resourceNames", "ResourceNames"),
    ("nonResourceURLs", "NonResourceURLs"),
    ("verbs", "Verbs"),
)


def _go_list(values: Sequence[str]) -> str:
    more = [f"and {len(values) - _SHOWN} more"] if len(values) > _SHOWN else []
    return "[" + " ".join([f'"{value}"' for value in values[:_SHOWN]] + more) + "]"
