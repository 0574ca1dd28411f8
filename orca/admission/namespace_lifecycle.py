"""NamespaceLifecycle: nothing is created in a namespace that is missing or going; the system's own ones stay."""

from orca.admission.chain import CREATE, DELETE, Attributes, Cluster, find
from orca.api.builtin import LOCALSUBJECTACCESSREVIEWS, NAMESPACES
from orca.api.errors import not_found
from orca.api.objects import is_terminating

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})


class NamespaceLifecycle:
    """As upstream's plugin of this name."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def admit(self, attrs: Attributes) -> None:
        """Raises ApiError 403 or 404."""
        if attrs.resource is NAMESPACES:
            if attrs.operation == DELETE and not attrs.subresource and attrs.name in IMMORTAL:
                raise attrs.forbidden("this namespace may not be deleted")
            return
        if attrs.operation != CREATE or not attrs.resource.namespaced:
            return
        if attrs.resource is LOCALSUBJECTACCESSREVIEWS:
            return
        space = await find(self._cluster, NAMESPACES, "", attrs.namespace)
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
