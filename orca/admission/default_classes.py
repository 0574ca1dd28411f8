"""DefaultStorageClass and DefaultIngressClass: claims and ingresses that name no class get the cluster's default."""

from collections.abc import Iterable

from orca.admission.chain import CREATE, Attributes, Cluster
from orca.api.builtin import INGRESSCLASSES, INGRESSES, PERSISTENTVOLUMECLAIMS, STORAGECLASSES
from orca.api.objects import Obj, annotations, meta, name

STORAGE_DEFAULT = "storageclass.kubernetes.io/is-default-class"
STORAGE_DEFAULT_BETA = "storageclass.beta.kubernetes.io/is-default-class"
_STORAGE_BETA = "volume.beta.kubernetes.io/storage-class"
INGRESS_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_INGRESS_OLD = "kubernetes.io/ingress.class"


def newest_default(classes: Iterable[Obj], *marks: str) -> Obj | None:
    """The youngest class annotated as default; among equals the first by name."""
    marked = [one for one in classes if any(annotations(one).get(mark) == "true" for mark in marks)]
    marked.sort(key=name)
    return max(marked, key=lambda one: meta(one).get("creationTimestamp") or "", default=None)


class DefaultStorageClass:
    """As upstream's plugin of this name."""

    kinds = frozenset({PERSISTENTVOLUMECLAIMS})

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def admit(self, attrs: Attributes) -> None:
        """Fills ``spec.storageClassName``; an empty string asks for none."""
        if not attrs.of(PERSISTENTVOLUMECLAIMS, CREATE) or attrs.obj is None:
            return
        spec = attrs.obj.setdefault("spec", {})
        if spec.get("storageClassName") is not None or _STORAGE_BETA in annotations(attrs.obj):
            return
        found = newest_default(self._cluster.peek_list(STORAGECLASSES), STORAGE_DEFAULT, STORAGE_DEFAULT_BETA)
        if found is not None:
            spec["storageClassName"] = name(found)


class DefaultIngressClass:
    """As upstream's plugin of this name."""

    kinds = frozenset({INGRESSES})

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def admit(self, attrs: Attributes) -> None:
        """Fills ``spec.ingressClassName``."""
        if not attrs.of(INGRESSES, CREATE) or attrs.obj is None:
            return
        spec = attrs.obj.setdefault("spec", {})
        if spec.get("ingressClassName") is not None or _INGRESS_OLD in annotations(attrs.obj):
            return
        found = newest_default(self._cluster.peek_list(INGRESSCLASSES), INGRESS_DEFAULT)
        if found is not None:
            spec["ingressClassName"] = name(found)
