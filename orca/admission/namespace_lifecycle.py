"""NamespaceLifecycle: nothing is created in a namespace that is missing or going; the system's own ones stay."""

from orca.admission.chain import CREATE, DELETE, Attributes, Cluster, find
from orca.api.builtin import LOCALSUBJECTACCESSREVIEWS, NAMESPACES
from orca.api.errors import not_found
from orca.api.objects import Obj, is_terminating
from orca.client.clock import Clock

LOOK_CLOSELY_SECONDS = 30.0
"""How long after a deletion was asked for the cache is not believed that the namespace lives on."""
IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class NamespaceLifecycle:
    """As upstream's plugin of this name."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._asked: dict[str, float] = {}  # namespace -> until when it is read afresh

    async def admit(self, attrs: Attributes) -> None:
        """Raises ApiError 403 or 404."""
        if attrs.resource is NAMESPACES:
            if attrs.operation == DELETE and not attrs.subresource and attrs.name in IMMORTAL:
                raise attrs.forbidden("this namespace may not be deleted")
            if attrs.operation == DELETE:
                now = self._clock.monotonic()
                self._asked = {name: until for name, until in self._asked.items() if until > now}
                self._asked[attrs.name] = now + LOOK_CLOSELY_SECONDS
            return
        if attrs.operation != CREATE or not attrs.resource.namespaced:
            return
        if attrs.resource is LOCALSUBJECTACCESSREVIEWS:
            return
        space = await self._space(attrs.namespace)
        if space is None:
            raise not_found(NAMESPACES, attrs.namespace)
        if is_terminating(space) or (space.get("status") or {}).get("phase") == "Terminating":
            why = f"unable to create new content in namespace {attrs.namespace} because it is being terminated"
            error = attrs.forbidden(why)
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {attrs.namespace} is being terminated",
                "field": "metadata.namespace",
            }
            error.details = {**(error.details or {}), "causes": [cause]}
            raise error

    async def _space(self, name: str) -> Obj | None:
        """The namespace; after its deletion was asked for here not as the cache shows it, which is a moment behind."""
        if name in self._asked and self._asked[name] > self._clock.monotonic():
            await self._cluster.fresh()
        return await find(self._cluster, NAMESPACES, "", name)
