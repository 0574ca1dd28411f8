"""Bringing together what the engine has and what the API wants: whose a container is, and which pods are unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeAlias

import structlog

from agents.pods.records import PodRecords, PodSource
from agents.pods.silence import Silence
from agents.pods.workers import PodWorkers
from agents.runtime import Runtime, model
from agents.runtime.errors import NoSuchContainer, RuntimeFailure
from agents.runtime.model import ContainerInfo, Survey
from orca.api.errors import ApiError
from orca.api.objects import Obj, uid
from orca.client.clock import Clock

log = structlog.get_logger()

Found: TypeAlias = list[ContainerInfo]


class Adoption:
    """Gives containers to the workers of their pods, and pods that are new a worker."""

    def __init__(
        self, runtime: Runtime, workers: PodWorkers, pods: PodSource, records: PodRecords, clock: Clock
    ) -> None:
        self._runtime = runtime
        self._workers = workers
        self._pods = pods
        self._records = records
        self._unclaimed: dict[str, Found] = {}
        """Containers of pods that exist, but were not seen yet: the API was away, or the watch is behind."""
        self.silence = Silence(runtime, clock, self._heard)
        self._looks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Adoption, {len(self._unclaimed)} pods unclaimed>"

    def present(self) -> set[str]:
        """Uids of pods that have a worker here or may get one."""
        return {*self._workers.uids, *self._unclaimed, *self.silence.pods}

    # Pods

    def seen(self, pod: Obj) -> None:
        """A state of a pod's object."""
        worker = self._workers.get(uid(pod))
        if worker is not None:
            self._workers.update(worker, pod)
        elif not self._workers.had(uid(pod)) and uid(pod) not in self.silence:
            found = self._unclaimed.pop(uid(pod), [])
            worker = self._workers.employ(pod, found)
            for info in found:
                worker.look_at(info.id)

    def gone(self, last: Obj) -> None:
        """A pod's object is gone from the API."""
        self._unclaimed.pop(uid(last), None)  # the next comparison finds them, and nobody who wants them
        self._workers.object_removed(last)

    # Containers

    async def compare(self, survey: Survey) -> None:
        """Everything the engine has, against everything we know."""
        for worker in self._workers:
            for info in worker.memory.everything():
                if info.id not in survey.present:
                    worker.forget(info.id)
        self._note_silent(survey)
        await self._take(survey.containers)

    async def take_changes(self) -> None:
        """What differs between the engine and what is known."""
        known = {info.id: info for worker in self._workers for info in worker.memory.everything()}
        survey = await self._runtime.survey(
            lambda identifier, state: identifier not in known or known[identifier].running != (state == "running")
        )
        self._note_silent(survey)
        await self._take(survey.containers)
        for identifier in known.keys() - survey.present:
            self._forget(identifier)

    def _note_silent(self, survey: Survey) -> None:
        """Pods that nobody tends yet wait until all is known of them; the others know their containers."""
        self.silence.note({one: pod_uid for one, pod_uid in survey.silent.items() if pod_uid not in self._workers})

    async def _heard(self, pod_uid: str, containers: Found) -> None:
        """The engine has told of every container of a pod that waited for that."""
        await self._take(containers)
        for pod in self._pods.list():
            if uid(pod) == pod_uid and pod_uid not in self._workers:
                self.seen(pod)

    async def _take(self, containers: Iterable[ContainerInfo]) -> None:
        """Give containers to their pods' workers; those of unknown pods get one that takes them down."""
        groups: dict[str, Found] = {}
        for info in containers:
            groups.setdefault(info.pod_uid, []).append(info)
        by_uid = {uid(pod): pod for pod in self._pods.list()}
        for pod_uid, group in groups.items():
            worker = self._workers.get(pod_uid)
            if worker is None and pod_uid in self.silence:
                for info in group:
                    self.silence.keep(info)
                continue
            if worker is None:
                pod = by_uid.get(pod_uid)
                if pod is None:
                    if await self._exists(group[0]):
                        self._unclaimed[pod_uid] = group
                        continue
                    worker = self._workers.employ(_remains(group), removed=True)
                else:
                    worker = self._workers.employ(pod, group)
            for info in group:
                known = worker.memory.find(info.id)
                if known is None or known != info:
                    worker.adopt(info)

    async def _exists(self, info: ContainerInfo) -> bool:
        """Whether the pod of a container is in the API and still ours, asked directly: killing is not undone."""
        space, pod_name = info.labels.get(model.POD_NAMESPACE, ""), info.labels.get(model.POD_NAME, "")
        try:
            return await self._records.current_uid(space, pod_name) == info.pod_uid
        except ApiError:
            return True  # until it can be asked

    def look_at_stranger(self, container_id: str) -> None:
        """A container that no worker knows has come."""
        task = asyncio.create_task(self._look(container_id), name=f"look at {container_id[:12]}")
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def _look(self, container_id: str) -> None:
        try:
            await self._take([await self._runtime.inspect(container_id)])
        except NoSuchContainer:
            return
        except RuntimeFailure as error:
            log.warning("cannot look at container", container=container_id[:12], error=str(error))

    def _forget(self, container_id: str) -> None:
        for worker in self._workers:
            if worker.memory.find(container_id) is not None:
                worker.forget(container_id)

    async def aclose(self) -> None:
        """Leave no task behind."""
        for task in self._looks:
            task.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)


def _remains(containers: Found) -> Obj:
    """A pod object for containers whose pod is gone: names and grace period from labels."""
    labels = containers[0].labels
    grace = next((info.labels[model.GRACE_PERIOD] for info in containers if model.GRACE_PERIOD in info.labels), "")
    names = sorted({info.container for info in containers if not info.is_sandbox})
    pod: Obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": labels.get(model.POD_NAME, ""),
            "namespace": labels.get(model.POD_NAMESPACE, ""),
            "uid": labels.get(model.POD_UID, ""),
        },
        "spec": {"containers": [{"name": container, "image": ""} for container in names]},
    }
    if grace.isdigit():
        pod["spec"]["terminationGracePeriodSeconds"] = int(grace)
    return pod
