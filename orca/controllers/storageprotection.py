"""Claims that pods use, volumes that claims hold and classes of attributes that either has stay until given up.

Reference: k8s.io/kubernetes ``pkg/controller/volume/pvcprotection``, ``pvprotection`` and ``vacprotection``. A
finalizer, put there at creation by admission and here on objects that lack it, holds a deleted claim while a pod that
was given to a node names it, a deleted volume while it is Bound, and a VolumeAttributesClass while it is named.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable

from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, VOLUMEATTRIBUTESCLASSES
from orca.api.finalizers import IN_USE
from orca.api.objects import Obj, controller_of, is_terminating, name, namespace, uid
from orca.api.volumes import attributes_classes
from orca.controllers import podstate
from orca.controllers.harness import DONE, Context, Controller, Outcome


def claims_of(pod: Obj) -> Iterable[str]:
    """Names of the claims a pod's volumes are, those made for its ephemeral volumes included."""
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"]
        elif "ephemeral" in volume:
            yield f"{name(pod)}-{volume['name']}"


def uses(pod: Obj, claim: Obj) -> bool:
    """Whether the pod holds the claim. One without a node does not: no agent starts a pod whose claim is going."""
    if not pod["spec"].get("nodeName"):
        return False
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            if volume["persistentVolumeClaim"]["claimName"] == name(claim):
                return True
        elif "ephemeral" in volume and not _shut_down(pod) and f"{name(pod)}-{volume['name']}" == name(claim):
            owner = controller_of(claim)
            if owner is not None and owner["uid"] == uid(pod):
                return True
    return False


def _shut_down(pod: Obj) -> bool:
    """Its containers ended, or it was deleted by force; only the object waits, maybe for this very claim."""
    return is_terminating(pod) and pod["metadata"].get("deletionGracePeriodSeconds") == 0


class ProtectionController(Controller):
    """What all have in common; keys are objects of ``resource``."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.finalizer = IN_USE[self.resource]
        self.objects = self.caches.of(self.resource)
        self.objects.informer.on_add(self._seen)
        self.objects.informer.on_update(lambda _, new: self._seen(new))

    def _seen(self, obj: Obj) -> None:
        if is_terminating(obj) == self._held(obj):
            self.enqueue(obj)

    def _held(self, obj: Obj) -> bool:
        return self.finalizer in (obj["metadata"].get("finalizers") or ())

    @abstractmethod
    async def in_use(self, obj: Obj) -> bool:
        """Whether the object must stay."""

    async def sync(self, key: str) -> Outcome:
        """One object: holds what lives, lets go of what is deleted and not used."""
        obj = self.objects.get(key)
        if obj is None or is_terminating(obj) != self._held(obj):
            return DONE
        others = [one for one in obj["metadata"].get("finalizers") or () if one != self.finalizer]
        if not is_terminating(obj):
            others.append(self.finalizer)
        elif await self.in_use(obj):
            return DONE  # looked at again when its user goes
        await self.objects.update({**obj, "metadata": {**obj["metadata"], "finalizers": others}})
        return DONE


class ClaimProtectionController(ProtectionController):
    """PersistentVolumeClaims, held by pods."""

    name = "persistentvolumeclaim-protection-controller"
    resource = PERSISTENTVOLUMECLAIMS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = self.caches.of(PODS)
        self._pods.informer.on_delete(self._pod_ended)
        self._pods.informer.on_update(self._pod_changed)

    def _pod_changed(self, old: Obj, new: Obj) -> None:
        if uid(old) != uid(new):
            self._pod_ended(old)
        elif not new["spec"].get("nodeName") or podstate.is_finished(new) or _shut_down(new):
            self._pod_ended(new)

    def _pod_ended(self, pod: Obj) -> None:
        for claim in claims_of(pod):
            self.queue.add(f"{namespace(pod)}/{claim}")

    async def in_use(self, obj: Obj) -> bool:
        """Asks the cache, and before it says no the server: a pod may have got its node a moment ago."""
        space = namespace(obj)
        if any(uses(pod, obj) for pod in self._pods.by_index("namespace", space)):
            return True
        return any(uses(pod, obj) for pod in (await self.client.list(PODS, space)).items)


class VolumeProtectionController(ProtectionController):
    """PersistentVolumes, held by the claim they are bound to."""

    name = "persistentvolume-protection-controller"
    resource = PERSISTENTVOLUMES

    async def in_use(self, obj: Obj) -> bool:
        """Bound, as its status says."""
        return bool((obj.get("status") or {}).get("phase") == "Bound")


class AttributesClassProtectionController(ProtectionController):
    """VolumeAttributesClasses, held by claims and volumes."""

    name = "volumeattributesclass-protection-controller"
    resource = VOLUMEATTRIBUTESCLASSES

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._users = [self.caches.of(row) for row in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES)]
        for cache in self._users:
            cache.informer.on_delete(self._let_go({}))
            cache.informer.on_update(lambda old, new: self._let_go(new)(old))

    def _let_go(self, new: Obj) -> Callable[[Obj], None]:
        def let_go(old: Obj) -> None:
            for found in attributes_classes(old) - attributes_classes(new):
                self.queue.add(found)

        return let_go

    async def in_use(self, obj: Obj) -> bool:
        """Asks the caches, and before it says no the server."""
        if any(name(obj) in attributes_classes(user) for cache in self._users for user in cache.all()):
            return True
        for cache in self._users:
            if any(name(obj) in attributes_classes(user) for user in (await self.client.list(cache.resource)).items):
                return True
        return False
