"""What webhooks and policies have in common: rules, selectors of namespaces and objects, versions of one thing.

Reference: k8s.io/apiserver ``pkg/admission/plugin/webhook/predicates``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orca.admission.chain import CREATE, UPDATE, Attributes, Cluster, find
from orca.api.builtin import NAMESPACES
from orca.api.errors import not_found
from orca.api.objects import Obj, labels, meta
from orca.api.resources import Resource, ResourceTable
from orca.api.selectors import Selector

ADMISSION_GROUP = "admissionregistration.k8s.io"


def exempt(resource: Resource) -> bool:
    """Configurations of webhooks and policies: nothing may keep people from repairing those."""
    return resource.group == ADMISSION_GROUP


_UNSTORED_REVIEWS = frozenset(
    {
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
    }
)


def exempt_from_policies(resource: Resource) -> bool:
    """What policies do not judge: besides, questions who somebody is and what he may, without which nothing works.
    Webhooks are asked about those."""
    return exempt(resource) or (resource.group, resource.plural) in _UNSTORED_REVIEWS


def namespace_of(attrs: Attributes) -> str:
    """The namespace as admission means it: a Namespace is in itself."""
    return attrs.name if attrs.resource is NAMESPACES else attrs.namespace


def request_name(attrs: Attributes) -> str:
    """The object's name, which a create may have got since the request."""
    if attrs.name or attrs.obj is None:
        return attrs.name
    return meta(attrs.obj).get("name") or ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One RuleWithOperations. "*" stands for everything."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]  # (plural, subresource)
    scope: str

    @classmethod
    def parse(cls, rule: Obj) -> Rule:
        """From the API's form."""
        split = (one.partition("/") for one in rule.get("resources") or ())
        return cls(
            frozenset(rule.get("operations") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("apiVersions") or ()),
            tuple((plural, sub) for plural, _, sub in split),
            rule.get("scope") or "*",
        )

    def matches(self, operation: str, row: Resource, subresource: str) -> bool:
        """Whether an operation on a resource (or on its subresource) is meant."""
        return (
            (operation in self.operations or "*" in self.operations)
            and (row.group in self.groups or "*" in self.groups)
            and (row.version in self.versions or "*" in self.versions)
            and self._scope(row)
            and any(plural in ("*", row.plural) and sub in ("*", subresource) for plural, sub in self.resources)
        )

    def _scope(self, row: Resource) -> bool:
        if self.scope == "*":
            return True
        return row.namespaced == (self.scope == "Namespaced")


def matching_row(
    rules: Iterable[Rule],
    operation: str,
    row: Resource,
    subresource: str,
    *,
    equivalent: bool,
    table: ResourceTable,
) -> Resource | None:
    """The row under which rules mean a request: its own, or with ``equivalent`` another version of the same thing."""
    rules = tuple(rules)
    if any(rule.matches(operation, row, subresource) for rule in rules):
        return row
    if not equivalent:
        return None
    others = [one for one in table if one.storage == row.storage and one != row and not one.virtual]
    for rule in rules:
        for other in others:
            if rule.matches(operation, other, subresource):
                return other
    return None


async def namespace_labels(cluster: Cluster, attrs: Attributes) -> Mapping[str, str]:
    """Labels of the request's namespace; of the new object when it is one. Raises ApiError 404 when there is none."""
    if attrs.resource is NAMESPACES and not attrs.subresource and attrs.operation in (CREATE, UPDATE):
        assert attrs.obj is not None
        return labels(attrs.obj)
    where = namespace_of(attrs)
    space = await find(cluster, NAMESPACES, "", where)
    if space is None:
        raise not_found(NAMESPACES, where)
    return labels(space)


async def namespace_selected(cluster: Cluster, selector: Selector, attrs: Attributes) -> bool:
    """Whether the request's namespace is selected; what is in none always is. Raises ApiError 404."""
    if not namespace_of(attrs) and attrs.resource is not NAMESPACES:
        return True
    return selector.matches(await namespace_labels(cluster, attrs))


def object_selected(selector: Selector, attrs: Attributes) -> bool:
    """Whether the new or the old object is selected."""
    return any(
        obj is not None and obj.get("metadata") is not None and selector.matches(labels(obj))
        for obj in (attrs.obj, attrs.old)
    )
