"""Who changes what is wanted: scales, updates, pauses, deletes and makes again, at random."""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from orca.api.builtin import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    SERVICES,
    STATEFULSETS,
)
from orca.api.errors import ApiError
from orca.api.resources import Resource
from orca.client.base import Client, Propagation
from tests.api.chaos import workloads
from tests.api.chaos.kubelets import NEVER_READY
from tests.api.chaos.recent import LAG
from tests.api.chaos.world import Obj, World, is_active

PAUSE_SECONDS = (0.2, 1.5)
"""Between two changes of one who changes."""
SIDE_BY_SIDE = 4
RETRY_SECONDS = 0.3
PATIENCE_SECONDS = 150.0
"""Leaders come and go meanwhile, and on a slow machine a new one takes its time."""
SIZED = (DEPLOYMENTS, REPLICASETS, REPLICATIONCONTROLLERS, STATEFULSETS)
ROLLED = (DEPLOYMENTS, STATEFULSETS, DAEMONSETS)
SERVED = ("deploy-0", "deploy-1", "deploy-2", "deploy-3", "state-0", "state-1", "state-2", "state-3", "state-4", "rc-0")


class Wishes:
    """`wanted` is the last wish for each workload, as it was acknowledged."""

    def __init__(self, client: Client, world: World, chance: random.Random) -> None:
        self._client = client
        self._world = world
        self._chance = chance
        self._doing: dict[Callable[[], Awaitable[None]], int] = {
            self._scale: 6,
            self._update: 6,
            self._pause: 1,
            self._end_pod: 5,
            self._replace: 2,
            self._job: 5,
            self._doom: 1,
        }
        self.wanted: dict[tuple[Resource, str], Obj] = {}
        self.changes = 0
        self._version = 0
        self._stopped = False
        self._busy: set[tuple[Resource, str]] = set()
        self._dooming = asyncio.Lock()
        self._disrupted: dict[str, float] = {}

    def disrupted(self, uid: str, at: float) -> bool:
        """Whether a pod was ended from here, lately."""
        return self._disrupted.get(uid, -LAG) > at - LAG * 2

    async def begin(self) -> None:
        """Namespaces, the quota, Services and all thirty."""
        for space in (*workloads.SPACES, workloads.DOOMED):
            await self._persist(partial(self._client.create, NAMESPACES, _namespace(space)))
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "few", "namespace": workloads.SPACES[1]},
            "spec": {"hard": {"pods": str(workloads.QUOTA)}},
        }
        await self._persist(lambda: self._client.create(RESOURCEQUOTAS, quota))
        for resource, obj in workloads.thirty(self._chance):
            name = obj["metadata"]["name"]
            if name in SERVED:
                made = workloads.service(obj["metadata"]["namespace"], name)
                await self._persist(partial(self._client.create, SERVICES, made))
            await self._create(resource, obj)
        await self._fill()

    async def run(self) -> None:
        """Several changes at a time, each of a workload of its own, until told to stop."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SIDE_BY_SIDE):
                group.create_task(self._go_on())

    async def _go_on(self) -> None:
        while not self._stopped:
            what = self._chance.choices(list(self._doing), list(self._doing.values()))[0]
            await what()
            self.changes += 1
            await asyncio.sleep(self._chance.uniform(*PAUSE_SECONDS))

    def stop(self) -> None:
        """The change that is under way is the last."""
        self._stopped = True

    async def finish(self) -> None:
        """Wishes that can come true: nothing paused, suspended or broken."""
        for (resource, name), obj in list(self.wanted.items()):
            spec = obj["spec"]
            pod = spec.get("template", {})
            broken = NEVER_READY in (pod.get("metadata", {}).get("labels") or {})
            if spec.get("paused") or spec.get("suspend") or broken:
                await self._change(resource, name, _mend)

    # --- changes -----------------------------------------------------------------------------------------------------

    async def _scale(self) -> None:
        with self._any(*SIZED) as (resource, name):
            count = self._chance.randint(0, 4 if resource is STATEFULSETS else 7)

            def change(obj: Obj) -> None:
                obj["spec"]["replicas"] = count

            await self._change(resource, name, change)

    async def _update(self) -> None:
        self._version += 1
        version = self._chance.choice([str(self._version), "1", "2"])  # an earlier one is a rollback
        with self._any(*ROLLED) as (resource, name):
            broken = resource is DEPLOYMENTS and self._chance.random() < 0.15

            def change(obj: Obj) -> None:
                made = obj["spec"]["template"]
                made["spec"]["containers"][0]["env"] = [{"name": "VERSION", "value": version}]
                made["metadata"]["labels"].pop(NEVER_READY, None)
                if broken:
                    made["metadata"]["labels"][NEVER_READY] = "true"

            await self._change(resource, name, change)

    async def _pause(self) -> None:
        with self._any(DEPLOYMENTS) as (resource, name):
            await self._change(resource, name, partial(_turn, part="paused"))

    async def _end_pod(self) -> None:
        spaces = (*workloads.SPACES, workloads.DOOMED)
        there = [one for one in self._world.all("pods") if one["metadata"]["namespace"] in spaces and is_active(one)]
        if not there:
            return
        metadata = self._chance.choice(there)["metadata"]
        self._disrupted[metadata["uid"]] = time.monotonic() + 1e9
        with suppress(ApiError):
            await self._client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        self._disrupted[metadata["uid"]] = time.monotonic()

    async def _replace(self) -> None:
        """A workload goes, with or without what it has made, and one of its name comes."""
        with self._any(*SIZED, DAEMONSETS) as (resource, name):
            old = self.wanted[resource, name]
            how: Propagation = self._chance.choice(("Background", "Foreground", "Orphan"))
            await self._remove(resource, name, how)
            await self._create(resource, old)

    async def _job(self) -> None:
        """Suspends or resumes one, or deletes it, or makes one of that name anew when it is over."""
        with self._any(JOBS) as (resource, name):
            wanted = self.wanted[resource, name]
            space = wanted["metadata"]["namespace"]
            there = self._world.get("jobs", f"{space}/{name}") or {}
            conditions = (there.get("status") or {}).get("conditions") or ()
            over = any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)
            if not over and self._chance.random() < 0.7:
                await self._change(resource, name, partial(_turn, part="suspend"))
                return
            await self._remove(resource, name, "Background")
            indexed = wanted["spec"].get("completionMode") == "Indexed"
            await self._create(resource, workloads.job(space, name, self._chance, indexed=indexed))

    async def _doom(self) -> None:
        """A namespace with all that is in it goes, and comes again."""
        if self._dooming.locked():
            return
        async with self._dooming:
            await self._persist(lambda: self._client.delete(NAMESPACES, workloads.DOOMED))
            await self._gone(NAMESPACES, "", workloads.DOOMED)
            await self._persist(lambda: self._client.create(NAMESPACES, _namespace(workloads.DOOMED)))
            await self._fill()

    async def _fill(self) -> None:
        for resource, obj in (
            (DEPLOYMENTS, workloads.deployment(workloads.DOOMED, "doomed", self._chance)),
            (STATEFULSETS, workloads.statefulset(workloads.DOOMED, "doomed", self._chance)),
            (JOBS, workloads.job(workloads.DOOMED, "doomed", self._chance, indexed=True)),
            (CRONJOBS, workloads.cronjob(workloads.DOOMED, "doomed", "Allow", 1)),
            (SERVICES, workloads.service(workloads.DOOMED, "doomed")),
        ):
            await self._persist(partial(self._client.create, resource, obj))

    # --- doing -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _any(self, *resources: Resource) -> Iterator[tuple[Resource, str]]:
        """A workload that nobody else changes meanwhile."""
        found = self._chance.choice([one for one in self.wanted if one[0] in resources and one not in self._busy])
        self._busy.add(found)
        try:
            yield found
        finally:
            self._busy.discard(found)

    async def _remove(self, resource: Resource, name: str, how: Propagation) -> None:
        space = self.wanted[resource, name]["metadata"]["namespace"]
        await self._persist(lambda: self._client.delete(resource, name, space, propagation=how))
        await self._gone(resource, space, name)

    async def _create(self, resource: Resource, obj: Obj) -> None:
        clean = {**obj, "metadata": {part: obj["metadata"][part] for part in ("name", "namespace")}}
        clean.pop("status", None)
        await self._persist(lambda: self._client.create(resource, clean))
        self.wanted[resource, obj["metadata"]["name"]] = clean

    async def _change(self, resource: Resource, name: str, change: Callable[[Obj], None]) -> None:
        wanted = copy.deepcopy(self.wanted[resource, name])
        change(wanted)
        space = wanted["metadata"]["namespace"]

        async def write() -> None:
            current = copy.deepcopy(await self._client.get(resource, name, space))
            change(current)
            if "paused" in wanted["spec"]:
                current["spec"]["paused"] = wanted["spec"]["paused"]
            if "suspend" in wanted["spec"]:
                current["spec"]["suspend"] = wanted["spec"]["suspend"]
            await self._client.update(resource, current)

        await self._persist(write)
        self.wanted[resource, name] = wanted

    async def _gone(self, resource: Resource, space: str, name: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                await self._client.get(resource, name, space)
            except ApiError as error:
                if error.code == 404:
                    return
            await asyncio.sleep(0.2)
        there = self._world.get(resource.plural, f"{space}/{name}" if space else name) or {}
        uid = there.get("metadata", {}).get("uid")
        left = {
            kind: named
            for kind, found in self._world.kinds.items()
            if (named := [one for key, one in found.items() if key.startswith(f"{name}/") or _is_owned(one, uid)])
        }
        raise AssertionError(
            f"{resource.plural} {space}/{name} is still there {PATIENCE_SECONDS:.0f} s after its deletion: {there}; "
            f"its dependents, or what is in it: {left}"
        )

    async def _persist(self, write: Callable[[], Awaitable[object]]) -> None:
        """Until the server has done it: 409 AlreadyExists and 404 tell that an earlier try had been heard."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        tried = False
        while True:
            try:
                await write()
                return
            except ApiError as error:
                heard = tried and (error.code == 404 or error.reason == "AlreadyExists")
                if heard:
                    return
                busy = error.code >= 500 or error.code in (409, 429) or "not been created yet" in error.message
                if not busy or time.monotonic() > deadline:
                    raise
                tried = error.code != 409 or tried
                await asyncio.sleep(RETRY_SECONDS)


def _turn(obj: Obj, *, part: str) -> None:
    obj["spec"][part] = not obj["spec"].get(part)


def _mend(obj: Obj) -> None:
    spec = obj["spec"]
    for part in ("paused", "suspend"):
        if spec.get(part):
            spec[part] = False
    if "template" in spec:
        (spec["template"]["metadata"].get("labels") or {}).pop(NEVER_READY, None)


def _namespace(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _is_owned(obj: Obj, uid: str | None) -> bool:
    return any(one["uid"] == uid for one in obj["metadata"].get("ownerReferences") or ())
