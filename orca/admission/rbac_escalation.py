"""Nobody grants more than they hold, unless they may ``escalate`` (rules) or ``bind`` (bindings).

Upstream checks this in the storage of the RBAC kinds ("policy based"); here it is a plugin like others.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from orca.admission.chain import CREATE, UPDATE, Attributes, Cluster, find
from orca.api.builtin import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from orca.api.errors import not_found
from orca.api.objects import Obj, meta, name
from orca.api.resources import Resource
from orca.auth.authorization import Authorizer
from orca.auth.escalation import shown, uncovered
from orca.auth.identity import MASTERS, Action
from orca.auth.rbac import Rbac, effective_rules

_GROUP = "rbac.authorization.k8s.io"
_EVERYTHING: Sequence[Obj] = (
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    {"nonResourceURLs": ["*"], "verbs": ["*"]},
)
_COLLECTED = frozenset({"finalizers", "managedFields", "ownerReferences", "selfLink"})
"""Metadata that changes when an object is collected, and who wrote it."""


def _as_before(new: Obj, old: Obj) -> bool:
    """Whether they differ in nothing but what the garbage collector changes (upstream: IsOnlyMutatingGCFields). Labels
    count: by them a role becomes part of those that aggregate it."""
    return _alike(new, old, {"metadata"}) and _alike(meta(new), meta(old), _COLLECTED)


def _alike(new: Obj, old: Obj, apart: AbstractSet[str]) -> bool:
    """Empty and missing are the same."""
    return all((new.get(field) or None) == (old.get(field) or None) for field in (new.keys() | old.keys()) - apart)


class RbacEscalation:
    """Second pass only: judges what would be stored."""

    kinds = frozenset({ROLES, CLUSTERROLES, ROLEBINDINGS, CLUSTERROLEBINDINGS})

    def __init__(self, cluster: Cluster, authorizer: Authorizer) -> None:
        self._cluster = cluster
        self._authorizer = authorizer
        self._rbac = Rbac(cluster)

    async def validate(self, attrs: Attributes) -> None:
        """Raises ApiError 403."""
        if attrs.resource.group != _GROUP or attrs.obj is None or attrs.subresource:
            return
        if attrs.operation not in (CREATE, UPDATE) or MASTERS in attrs.user.groups:
            return
        if attrs.old is not None and _as_before(attrs.obj, attrs.old):
            return
        if attrs.resource in (ROLES, CLUSTERROLES):
            await self._role(attrs, attrs.obj)
        elif attrs.resource in (ROLEBINDINGS, CLUSTERROLEBINDINGS):
            await self._binding(attrs, attrs.obj)

    async def _role(self, attrs: Attributes, role: Obj) -> None:
        old = attrs.old or {}
        if await self._may(attrs, "escalate", attrs.resource, name(role)):
            return
        self._refuse_beyond(attrs, role.get("rules") or [])
        # What such a role will take in is anybody's guess, so only who holds everything may say so, or change one.
        if (role.get("aggregationRule") or old.get("aggregationRule")) and self._missing(attrs, _EVERYTHING):
            raise attrs.forbidden("must have cluster-admin privileges to use the aggregationRule")

    async def _binding(self, attrs: Attributes, binding: Obj) -> None:
        reference = binding.get("roleRef") or {}
        resource = ROLES if reference.get("kind") == "Role" else CLUSTERROLES
        wanted = reference.get("name") or ""
        if await self._may(attrs, "bind", resource, wanted):
            return
        role = await find(self._cluster, resource, attrs.namespace if resource is ROLES else "", wanted)
        if role is None:
            raise not_found(resource, wanted)
        rules = role.get("rules") or []
        if role.get("aggregationRule"):
            rules = effective_rules(role, {name(one): one for one in self._cluster.peek_list(CLUSTERROLES)})
        self._refuse_beyond(attrs, rules)

    async def _may(self, attrs: Attributes, verb: str, resource: Resource, wanted: str) -> bool:
        action = Action(verb, _GROUP, resource.plural, "", wanted, attrs.namespace)
        return (await self._authorizer.authorize(attrs.user, action)).allowed

    def _missing(self, attrs: Attributes, rules: Sequence[Obj]) -> list[Obj]:
        return uncovered(self._rbac.rules_for(attrs.user, attrs.namespace), rules)

    def _refuse_beyond(self, attrs: Attributes, rules: list[Obj]) -> None:
        missing = self._missing(attrs, rules)
        if missing:
            groups = " ".join(f'"{group}"' for group in attrs.user.groups)
            raise attrs.forbidden(
                f'user "{attrs.user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions '
                f"not currently held:\n{shown(missing)}"
            )
