"""The policies and their bindings, parsed once, and which of them a kind of request may concern."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orca.admission.chain import Attributes, Cluster
from orca.admission.matching import (
    Rule,
    exempt_from_policies,
    matching_row,
    namespace_selected,
    object_selected,
    request_name,
)
from orca.api.objects import Obj, name
from orca.api.resources import Resource, ResourceTable
from orca.api.selectors import Selector, from_label_selector

if TYPE_CHECKING:
    from orca.admission.policies.compiled import Compiled


@dataclass(frozen=True, slots=True)
class Named:
    """A rule with resourceNames; none of those means all."""

    rule: Rule
    names: frozenset[str]

    @classmethod
    def parse(cls, rule: Obj) -> Named:
        """From a NamedRuleWithOperations."""
        return cls(Rule.parse(rule), frozenset(rule.get("resourceNames") or ()))


@dataclass(frozen=True, slots=True)
class Match:
    """MatchResources: what a policy constrains, or what a binding narrows it to."""

    rules: tuple[Named, ...]
    excluded: tuple[Named, ...]
    equivalent: bool
    namespaces: Selector
    objects: Selector

    @classmethod
    def parse(cls, obj: Obj) -> Match:
        """From the API's form, which has been validated and defaulted."""
        return cls(
            tuple(Named.parse(rule) for rule in obj.get("resourceRules") or ()),
            tuple(Named.parse(rule) for rule in obj.get("excludeResourceRules") or ()),
            obj.get("matchPolicy") != "Exact",
            from_label_selector(obj.get("namespaceSelector") or {}),
            from_label_selector(obj.get("objectSelector") or {}),
        )

    def row(self, attrs: Attributes, table: ResourceTable) -> Resource | None:
        """The row under which the rules mean this very request; without rules the request's own."""
        if self._row(self.excluded, attrs, table) is not None:
            return None
        return self._row(self.rules, attrs, table) if self.rules else attrs.resource

    def _row(self, rules: tuple[Named, ...], attrs: Attributes, table: ResourceTable) -> Resource | None:
        wanted = [one.rule for one in rules if not one.names or request_name(attrs) in one.names]
        if not wanted:
            return None
        return matching_row(
            wanted, attrs.operation, attrs.resource, attrs.subresource, equivalent=self.equivalent, table=table
        )

    def may_concern(self, operation: str, row: Resource, subresource: str, table: ResourceTable) -> bool:
        """Whether any rule means the operation on the resource, whatever the object's name."""
        rules = [one.rule for one in self.rules]
        return matching_row(rules, operation, row, subresource, equivalent=self.equivalent, table=table) is not None

    async def selects(self, cluster: Cluster, attrs: Attributes) -> bool:
        """Whether the request's namespace and object are selected. Raises ApiError 404 for a missing namespace."""
        if not self.namespaces.empty and not await namespace_selected(cluster, self.namespaces, attrs):
            return False
        return self.objects.empty or object_selected(self.objects, attrs)


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding. ``match`` narrows the policy further."""

    name: str
    match: Match | None
    param_ref: Obj | None
    actions: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Policy:
    """One policy with its bindings, in order of their names."""

    name: str
    spec: Obj
    match: Match
    fail: bool
    reinvocable: bool
    mutating: bool
    bindings: list[Binding] = field(default_factory=list)
    _compiled: Compiled | None = None

    @property
    def compiled(self) -> Compiled:
        """The expressions, compiled when a request first meets them."""
        if self._compiled is None:
            # Imported here: CEL is heavy, and nothing needs it without a policy.
            from orca.admission.policies.compiled import Compiled

            self._compiled = Compiled(self.spec, mutating=self.mutating)
        return self._compiled


def parse_policy(obj: Obj) -> Policy:
    """From the API's form."""
    spec = obj.get("spec") or {}
    return Policy(
        name=name(obj),
        spec=spec,
        match=Match.parse(spec.get("matchConstraints") or {}),
        fail=spec.get("failurePolicy") != "Ignore",
        reinvocable=spec.get("reinvocationPolicy") == "IfNeeded",
        mutating=obj.get("kind") == "MutatingAdmissionPolicy",
    )


def parse_binding(obj: Obj) -> Binding:
    """From the API's form."""
    spec = obj.get("spec") or {}
    told = spec.get("matchResources")
    return Binding(
        name=name(obj),
        match=None if told is None else Match.parse(told),
        param_ref=spec.get("paramRef"),
        actions=tuple(spec.get("validationActions") or ()),
    )


class ConfiguredPolicies:
    """All policies of one sort that are bound, as the cache shows them."""

    def __init__(self, cluster: Cluster, table: ResourceTable, policies: Resource, bindings: Resource) -> None:
        self._cluster = cluster
        self._table = table
        self._kinds = (policies, bindings)
        self._seen = (-1, -1)
        self._known: dict[tuple[str, str], Policy] = {}
        self._bound: tuple[Policy, ...] = ()
        self._candidates: dict[tuple[str, Resource, str], tuple[Policy, ...]] = {}
        table.subscribe(lambda _what, _row: self._candidates.clear())

    def candidates(self, attrs: Attributes) -> tuple[Policy, ...]:
        """Bound policies whose rules may mean the request, in order of their names."""
        policies, bindings = self._kinds
        change = (self._cluster.last_change(policies), self._cluster.last_change(bindings))
        if change != self._seen:
            self._load(change)
        if not self._bound:
            return ()
        key = (attrs.operation, attrs.resource, attrs.subresource)
        found = self._candidates.get(key)
        if found is None:
            found = self._candidates[key] = (
                ()
                if exempt_from_policies(attrs.resource)
                else tuple(policy for policy in self._bound if policy.match.may_concern(*key, self._table))
            )
        return found

    def _load(self, change: tuple[int, int]) -> None:
        known: dict[tuple[str, str], Policy] = {}
        by_name: dict[str, Policy] = {}
        policies, bindings = self._kinds
        for obj in self._cluster.peek_list(policies):
            meta = obj["metadata"]
            key = (meta["uid"], str(meta.get("generation")))
            # What is compiled stays while the policy's generation does.
            policy = known[key] = self._known.get(key) or parse_policy(obj)
            policy.bindings = []
            by_name[policy.name] = policy
        for obj in sorted(self._cluster.peek_list(bindings), key=name):
            policy_named = by_name.get((obj.get("spec") or {}).get("policyName") or "")
            if policy_named is not None:
                policy_named.bindings.append(parse_binding(obj))
        self._known = known
        self._bound = tuple(policy for _, policy in sorted(by_name.items()) if policy.bindings)
        self._candidates.clear()
        self._seen = change
