"""RBAC on the cached roles and bindings.

An index from subject to compiled rules is rebuilt when a role or binding changed; decisions are kept until then.
"""

from dataclasses import dataclass, replace
from typing import Any

from orca.api.builtin import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from orca.api.objects import Obj, labels, name, namespace
from orca.api.remembering import LONGEST
from orca.api.selectors import ALL_FIELDS, EVERYTHING, from_label_selector
from orca.auth.identity import SERVICE_ACCOUNT_PREFIX, Action, Decision, Reader, UserInfo

_REMEMBERED = 50_000
_KINDS = (CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES)
_ALL = "*"
_NO = Decision(False)

Subject = tuple[str, str]
"""("User" | "Group", name); service accounts are users."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A PolicyRule with sets instead of lists."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str]
    paths: tuple[str, ...]

    @classmethod
    def compile(cls, rule: Obj) -> "Rule":
        """From the API's form."""
        return cls(
            frozenset(rule.get("verbs") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("resources") or ()),
            frozenset(rule.get("resourceNames") or ()),
            tuple(rule.get("nonResourceURLs") or ()),
        )

    def allows(self, action: Action) -> bool:
        """Whether the rule covers an action."""
        if action.verb not in self.verbs and _ALL not in self.verbs:
            return False
        if action.path:
            return any(_path_matches(pattern, action.path) for pattern in self.paths)
        if action.group not in self.groups and _ALL not in self.groups:
            return False
        if self.names and action.name not in self.names:
            return False
        return self._has_resource(action)

    def _has_resource(self, action: Action) -> bool:
        resources = self.resources
        if _ALL in resources or action.full_resource in resources:
            return True
        return bool(action.subresource) and f"*/{action.subresource}" in resources


def _path_matches(pattern: str, path: str) -> bool:
    if pattern in (_ALL, path):
        return True
    return pattern.endswith(_ALL) and path.startswith(pattern.rstrip(_ALL))


@dataclass(frozen=True, slots=True)
class Grant:
    """The rules one binding gives; ``text`` is the reason of decisions it makes."""

    rules: tuple[Rule, ...]
    text: str


class Rbac:
    """Authorizer over ClusterRoleBindings, RoleBindings and the roles they name."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._version: tuple[int, ...] = ()
        self._cluster: dict[Subject, list[Grant]] = {}
        self._namespaced: dict[str, dict[Subject, list[Grant]]] = {}
        self._decisions: dict[tuple[str, tuple[str, ...], Action], Decision] = {}

    def authorize(self, user: UserInfo, action: Action) -> Decision:
        """Allowed, or no opinion."""
        self._refresh()
        key = (user.name, user.groups, action)
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._decide(user, action)
            self._remember(user, action, decision)
        return decision

    def _remember(self, user: UserInfo, action: Action, decision: Decision) -> None:
        """Unless it is about what strangers make up: a path or a name may be as long as a request's line."""
        if len(action.path) + len(action.name) + len(action.namespace) > LONGEST:
            return
        if len(action.group) + len(action.resource) + len(action.subresource) > LONGEST:
            return
        if len(self._decisions) >= _REMEMBERED:
            self._decisions.clear()
        if action.fields is not ALL_FIELDS or action.labels is not EVERYTHING:
            action = replace(action, fields=ALL_FIELDS, labels=EVERYTHING)  # nothing of it depends on them
        self._decisions[user.name, user.groups, action] = decision

    def rules_for(self, user: UserInfo, in_namespace: str) -> list[Obj]:
        """The API's rules that apply to a user in a namespace, for SelfSubjectRulesReview."""
        self._refresh()
        found: dict[Rule, None] = {}
        for subject in _subjects(user):
            for grant in (*self._cluster.get(subject, ()), *self._namespaced.get(in_namespace, {}).get(subject, ())):
                found.update(dict.fromkeys(grant.rules))
        return [_as_api(rule) for rule in found]

    def _decide(self, user: UserInfo, action: Action) -> Decision:
        local = self._namespaced.get(action.namespace) if action.namespace else None
        for subject in _subjects(user):
            for grant in self._cluster.get(subject, ()):
                if any(rule.allows(action) for rule in grant.rules):
                    return Decision(True, f'RBAC: allowed by {grant.text} of "{subject[1]}"')
            for grant in local.get(subject, ()) if local else ():
                if any(rule.allows(action) for rule in grant.rules):
                    return Decision(True, f'RBAC: allowed by {grant.text} of "{subject[1]}"')
        return _NO

    def _refresh(self) -> None:
        version = tuple(map(self._reader.last_change, _KINDS))
        if version == self._version:
            return
        self._version = version
        self._decisions = {}
        cluster_roles = {name(role): role for role in self._reader.peek_list(CLUSTERROLES)}
        compiled = {role: _compile(effective_rules(obj, cluster_roles)) for role, obj in cluster_roles.items()}
        roles = {(namespace(r), name(r)): _compile(r.get("rules") or ()) for r in self._reader.peek_list(ROLES)}
        self._cluster = {}
        for binding in self._reader.peek_list(CLUSTERROLEBINDINGS):
            rules = compiled.get((binding.get("roleRef") or {}).get("name") or "", ())
            _index(self._cluster, binding, rules, f'ClusterRoleBinding "{name(binding)}"')
        self._namespaced = {}
        for binding in self._reader.peek_list(ROLEBINDINGS):
            reference = binding.get("roleRef") or {}
            role = reference.get("name") or ""
            own = reference.get("kind") == "Role"
            rules = roles.get((namespace(binding), role), ()) if own else compiled.get(role, ())
            index = self._namespaced.setdefault(namespace(binding), {})
            _index(index, binding, rules, f'RoleBinding "{name(binding)}/{namespace(binding)}"')


def effective_rules(role: Obj, cluster_roles: dict[str, Obj]) -> list[Any]:
    """A ClusterRole's rules; an aggregated one's are those of the roles it selects, besides its own.

    Aggregated roles may themselves be selected: admin takes edit, which takes view. Each is looked at once, however
    many select each other.
    """
    rules = list(role.get("rules") or ())
    seen, due = {id(role)}, [role]
    while due:
        for raw in (due.pop().get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
            selector = from_label_selector(raw)
            for other in cluster_roles.values():
                if id(other) not in seen and selector.matches(labels(other)):
                    seen.add(id(other))
                    due.append(other)
                    rules += other.get("rules") or ()
    return rules


def _compile(rules: Any) -> tuple[Rule, ...]:
    return tuple(dict.fromkeys(Rule.compile(rule) for rule in rules))


def _index(index: dict[Subject, list[Grant]], binding: Obj, rules: tuple[Rule, ...], text: str) -> None:
    if not rules:
        return
    grant = Grant(rules, text)
    for subject in binding.get("subjects") or ():
        kind, who = subject.get("kind"), subject.get("name") or ""
        if kind == "ServiceAccount":
            space = subject.get("namespace") or namespace(binding)
            kind, who = "User", f"{SERVICE_ACCOUNT_PREFIX}{space}:{who}"
        index.setdefault((str(kind), who), []).append(grant)


def _subjects(user: UserInfo) -> list[Subject]:
    return [("User", user.name), *(("Group", group) for group in user.groups)]


def _as_api(rule: Rule) -> Obj:
    if rule.paths:
        return {"verbs": sorted(rule.verbs), "nonResourceURLs": list(rule.paths)}
    found: Obj = {
        "verbs": sorted(rule.verbs),
        "apiGroups": sorted(rule.groups),
        "resources": sorted(rule.resources),
    }
    if rule.names:
        found["resourceNames"] = sorted(rule.names)
    return found
