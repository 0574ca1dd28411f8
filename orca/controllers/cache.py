"""Shared caches that never lag behind this process's own writes.

A controller that creates three pods and looks again before its watch has reported them would create three more.
kube-controller-manager prevents that with counters of expected events ("expectations"), which have to be balanced on
every path and expire after five minutes when they are not. Here the cache itself remembers what this process wrote:
every answer of the server carries a resourceVersion, and until the watch has come that far, readers see the answer
instead of the cached state. What is remembered needs no expiry: the watch always gets there, or lists again.
"""

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from orca.api.builtin import ENDPOINTSLICES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, SERVICES
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, controller_of, key, labels, namespace, resource_version, uid
from orca.api.resources import Resource
from orca.api.volumes import PROVISIONED_BY, annotation, class_of
from orca.client.base import Client, Patch, PatchKind, Propagation
from orca.client.clock import Clock
from orca.client.informer import Indexer, Informer

log = structlog.get_logger()

RESTART = 1.0
SERVICE_NAME_LABEL = "kubernetes.io/service-name"


def _by_namespace(obj: Obj) -> Iterable[str]:
    return (namespace(obj),)


def _by_owner(obj: Obj) -> Iterable[str]:
    """The uid of the controller; `orphan:<namespace>` for objects without one, which may be adopted."""
    controller = controller_of(obj)
    return (controller["uid"],) if controller else (f"orphan:{namespace(obj)}",)


def _by_node(pod: Obj) -> Iterable[str]:
    node = pod.get("spec", {}).get("nodeName")
    return (node,) if node else ()


def _by_label(obj: Obj) -> Iterable[str]:
    space = namespace(obj)
    return [f"{space}/{name}={value}" for name, value in labels(obj).items()]


def selector_pair(service: Obj) -> str | None:
    """`namespace/key=value` of the first pair of a service's selector: the bucket in which services are looked up."""
    selector = service.get("spec", {}).get("selector")
    if not selector:
        return None
    name = min(selector)
    return f"{namespace(service)}/{name}={selector[name]}"


def _by_selector(service: Obj) -> Iterable[str]:
    pair = selector_pair(service)
    return (pair,) if pair else ()


def _by_service(obj: Obj) -> Iterable[str]:
    service = labels(obj).get(SERVICE_NAME_LABEL)
    return (f"{namespace(obj)}/{service}",) if service else ()


def _by_claim(volume: Obj) -> Iterable[str]:
    """The claim that a volume is set aside for."""
    reference = volume["spec"].get("claimRef")
    return (f"{reference.get('namespace')}/{reference.get('name')}",) if reference else ()


def _free(volume: Obj) -> Iterable[str]:
    """The class of a volume that is nobody's."""
    return () if volume["spec"].get("claimRef") else (class_of(volume),)


def _by_provisioner(volume: Obj) -> Iterable[str]:
    made_by = annotation(volume, PROVISIONED_BY)
    return (made_by,) if made_by else ()


def _by_volume(claim: Obj) -> Iterable[str]:
    wanted = claim["spec"].get("volumeName")
    return (wanted,) if wanted else ()


def _waiting(claim: Obj) -> Iterable[str]:
    """The class of a claim that has no volume."""
    return () if claim["spec"].get("volumeName") else (class_of(claim),)


_COMMON: Mapping[str, Indexer] = {"namespace": _by_namespace, "owner": _by_owner}
_OF_RESOURCE: Mapping[Resource, Mapping[str, Indexer]] = {
    PODS: {"node": _by_node, "label": _by_label},
    SERVICES: {"selector": _by_selector},
    ENDPOINTSLICES: {"service": _by_service},
    PERSISTENTVOLUMES: {"claim": _by_claim, "free": _free, "provisioner": _by_provisioner},
    PERSISTENTVOLUMECLAIMS: {"volume": _by_volume, "waiting": _waiting},
}


class Cache:
    """All objects of one resource, read from a shared informer, written through the client.

    Objects are keyed "namespace/name" (or "name") and frozen.
    """

    def __init__(self, client: Client, resource: Resource, clock: Clock) -> None:
        self.resource = resource
        self._client = client
        self._indexers: dict[str, Indexer] = {**_COMMON, **_OF_RESOURCE.get(resource, {})}
        self.informer = Informer(client, resource, indexers=self._indexers, clock=clock)
        self._written: dict[str, Obj] = {}
        self._removed: dict[str, str] = {}  # key -> uid, deletions acknowledged without a version
        self._caught_up = ""

    def __repr__(self) -> str:
        return f"<Cache of {self.informer!r}, {len(self._written) + len(self._removed)} own writes ahead>"

    # --- reading -----------------------------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether there are none."""
        return not len(self.informer) and not self._written

    def get(self, object_key: str) -> Obj | None:
        """The object or None."""
        self._catch_up()
        return self._newest(object_key, self.informer.get(object_key))

    def all(self) -> list[Obj]:
        """All objects."""
        return self._merge(self.informer.list(), None, "")

    def by_index(self, index: str, value: str) -> list[Obj]:
        """Objects by `namespace`, `owner` (see `orphan:`), and for some resources node, label, selector, service."""
        return self._merge(self.informer.by_index(index, value), self._indexers[index], value)

    def _merge(self, cached: list[Obj], indexer: Indexer | None, value: str) -> list[Obj]:
        self._catch_up()
        if not self._written and not self._removed:
            return cached
        found: list[Obj] = []
        seen: set[str] = set()
        for obj in cached:
            object_key = key(obj)
            seen.add(object_key)
            newest = self._newest(object_key, obj)
            if newest is not None and (newest is obj or indexer is None or value in indexer(newest)):
                found.append(newest)
        for object_key, written in self._written.items():
            if object_key not in seen and (indexer is None or value in indexer(written)):
                newest = self._newest(object_key, self.informer.get(object_key))
                if newest is written:
                    found.append(written)
        return found

    def _newest(self, object_key: str, cached: Obj | None) -> Obj | None:
        if cached is not None and self._removed.get(object_key) == uid(cached):
            return None
        written = self._written.get(object_key)
        if written is None or (cached is not None and _version(cached) >= _version(written)):
            return cached
        return written

    def _catch_up(self) -> None:
        """Forgets own writes that the watch has passed."""
        version = self.informer.resource_version
        if version == self._caught_up:
            return
        self._caught_up = version
        if self._written:
            reached = int(version or 0)
            for object_key in [k for k, obj in self._written.items() if _version(obj) <= reached]:
                del self._written[object_key]
        if self._removed:
            for object_key, gone in list(self._removed.items()):
                cached = self.informer.get(object_key)
                if cached is None or uid(cached) != gone:
                    del self._removed[object_key]

    # --- writing -----------------------------------------------------------------------------------------------------

    async def create(self, obj: Obj, namespace: str = "") -> Obj:
        """As `Client.create`."""
        return self._wrote(await self._client.create(self.resource, obj, namespace))

    async def update(self, obj: Obj, *, subresource: str = "") -> Obj:
        """As `Client.update`."""
        return self._wrote(await self._client.update(self.resource, obj, subresource=subresource))

    async def update_status(self, obj: Obj, status: Obj) -> Obj | None:
        """Writes a status; None when the object is gone meanwhile, which is no failure of whoever watches over it."""
        try:
            return await self.update({**obj, "status": status}, subresource="status")
        except ApiError as error:
            if is_not_found(error):
                return None
            raise

    async def patch(self, obj: Obj, patch: Patch, *, kind: PatchKind = "merge", subresource: str = "") -> Obj:
        """Patches the object of that name, as `Client.patch`."""
        metadata = obj["metadata"]
        return self._wrote(
            await self._client.patch(
                self.resource,
                metadata["name"],
                patch,
                metadata.get("namespace", ""),
                kind=kind,
                subresource=subresource,
            )
        )

    async def delete(self, obj: Obj, *, grace_seconds: int | None = None, propagation: Propagation = "") -> None:
        """Deletes exactly this object (its uid is a precondition); fine when it is gone already."""
        metadata = obj["metadata"]
        try:
            answer = await self._client.delete(
                self.resource,
                metadata["name"],
                metadata.get("namespace", ""),
                uid=metadata["uid"],
                grace_seconds=grace_seconds,
                propagation=propagation,
            )
        except ApiError as error:
            if not is_not_found(error):
                raise
            answer = {}
        if uid(answer) == metadata["uid"] and answer["metadata"].get("deletionTimestamp"):
            self._wrote(answer)
        else:
            self._written.pop(key(obj), None)
            self._removed[key(obj)] = metadata["uid"]

    async def fetch(self, obj: Obj) -> Obj:
        """The object of that name as the server has it now. ApiError 404."""
        metadata = obj["metadata"]
        return await self._client.get(self.resource, metadata["name"], metadata.get("namespace", ""))

    def _wrote(self, obj: Obj) -> Obj:
        if _version(obj) > int(self.informer.resource_version or 0):
            self._written[key(obj)] = obj
        return obj


def _version(obj: Obj) -> int:
    return int(resource_version(obj) or 0)


class Caches:
    """One cache a resource, shared by all controllers; `run` keeps them all current."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._caches: dict[Resource, Cache] = {}
        self._tasks: dict[Resource, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def of(self, resource: Resource) -> Cache:
        """The cache of a resource; its watch starts with the first to ask."""
        cache = self._caches.get(resource)
        if cache is None:
            cache = self._caches[resource] = Cache(self._client, resource, self._clock)
            if self._group is not None:
                self._start(resource, cache)
        return cache

    def drop(self, resource: Resource) -> None:
        """Stops watching a resource that is no longer served."""
        self._caches.pop(resource, None)
        task = self._tasks.pop(resource, None)
        if task is not None:
            task.cancel()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for resource, cache in self._caches.items():
                    self._start(resource, cache)
                await asyncio.Event().wait()
        finally:
            self._group = None

    def view(self) -> "CacheView":
        """For one controller, which waits for the caches it uses and for no others."""
        return CacheView(self)

    def _start(self, resource: Resource, cache: Cache) -> None:
        assert self._group is not None
        work = self._keep_watching(cache)
        self._tasks[resource] = self._group.create_task(work, name=f"watch-{resource.group_resource}")

    async def _keep_watching(self, cache: Cache) -> None:
        """An informer survives what the server does; a fault of its own must not end all other watches."""
        while True:
            try:
                await cache.informer.run()
            except Exception:
                log.exception("watch crashed, starting it again", resource=cache.resource.group_resource)
            await self._clock.sleep(RESTART)


class CacheView:
    """The shared caches as one controller uses them."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._used: dict[Resource, Cache] = {}

    def of(self, resource: Resource) -> Cache:
        """The cache of a resource."""
        return self._used.setdefault(resource, self._caches.of(resource))

    def drop(self, resource: Resource) -> None:
        """The resource is no longer served."""
        self._used.pop(resource, None)
        self._caches.drop(resource)

    async def synced(self, *, custom: bool = True) -> None:
        """Returns once every cache used here has its first list: a resource that cannot be read holds up only those
        who need it. Without ``custom`` those of custom kinds are not waited for."""
        for cache in list(self._used.values()):
            if custom or not cache.resource.custom:
                await cache.informer.synced()

    def missing(self) -> list[str]:
        """The resources whose caches have no first list yet, as group resources."""
        return sorted(one.resource.group_resource for one in self._used.values() if not one.informer.is_synced)
