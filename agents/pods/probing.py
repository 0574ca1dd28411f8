"""The probes of one pod's containers: who is probed, and what comes of the results."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from agents.pods.containers import api_status, every_container
from agents.pods.deletion import is_deleting
from agents.pods.memory import ProbeResults
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.probes.handlers import Target
from agents.probes.outcome import Outcome
from agents.probes.prober import ContainerProbes
from agents.probes.tally import Probed
from agents.probes.tracker import Kind, probe_specs
from agents.runtime.model import ContainerInfo
from orca.api.objects import Obj, name, namespace, uid

FIRST_ANSWER_SECONDS = 0.5
"""So long after its start a container may be told of a moment late, so that its readiness is told with it."""


class Probing:
    """``begin`` after each decision; results go to the pod's memory and wake its worker."""

    def __init__(self, subject: Subject, tools: Tools) -> None:
        self._subject = subject
        self._tools = tools
        self._probes: dict[str, ContainerProbes] = {}
        """By container id."""

    def __repr__(self) -> str:
        return f"<Probing of {len(self._probes)} containers>"

    def begin(self) -> None:
        """Probe the running containers that are to be probed and are not yet."""
        pod, memory = self._subject.pod, self._subject.memory
        begins = memory.wired and not is_deleting(pod, memory)
        for container in every_container(pod):
            info = memory.newest(container["name"])
            if info is None or not info.running or info.id in self._probes or not probe_specs(container):
                continue
            if info.id not in memory.probes:
                self._recall(container, info)
            if begins and info.id not in memory.hooks and f"stop:{info.container}" not in memory.in_flight:
                self._begin(container, info)

    def idle(self) -> list[str]:
        """Ids of the containers that are probed and do not run any more."""
        find = self._subject.memory.find
        return [one for one in self._probes if (info := find(one)) is None or not info.running]

    def is_first_asked(self, now: datetime) -> bool:
        """A container that has only just been started is being asked whether it is ready."""
        pod, memory = self._subject.pod, self._subject.memory
        if not self._probes or is_deleting(pod, memory):
            return False
        for container in every_container(pod):
            info = memory.newest(container["name"])
            if info is None or info.id not in self._probes or info.started_at is None:
                continue
            known = memory.probes.get(info.id)
            asked = container.get("readinessProbe") and (known is None or known.readiness is None)
            if asked and (now - info.started_at).total_seconds() < FIRST_ANSWER_SECONDS:
                return True
        return False

    def _begin(self, container: Obj, info: ContainerInfo) -> None:
        memory = self._subject.memory
        probes = ContainerProbes(
            self._tools.handlers,
            self._tools.clock,
            Target(info.id, container, memory.ips[0] if memory.ips else ""),
            info.started_at or self._tools.clock.now(),
            self._verdict,
            self._tell,
            self._count,
        )
        self._probes[info.id] = probes
        known = self._told(info)
        probes.start(started=bool(known.get("started")), spread=bool(known.get("ready")))

    def _told(self, info: ContainerInfo) -> Obj:
        """The API's status of just this container, {} when it has none."""
        known = api_status(self._subject.pod, info.container)
        return known if known.get("containerID") == f"docker://{info.id}" else {}

    def _recall(self, container: Obj, info: ContainerInfo) -> None:
        """An agent that was restarted: what the API was told stays true until a probe says otherwise, and to the end
        of a pod that is being deleted, which is not probed anew."""
        if known := self._told(info):
            self._subject.memory.probes[info.id] = ProbeResults(
                startup=True if known.get("started") and container.get("startupProbe") else None,
                readiness=True if known.get("ready") and container.get("readinessProbe") else None,
            )

    def _verdict(self, container_id: str, kind: Kind, ok: bool) -> None:
        results = self._subject.memory.probes.get(container_id) or ProbeResults()
        match kind:
            case "startup":
                results = replace(results, startup=ok)
            case "liveness":
                results = replace(results, liveness=ok)
            case "readiness":
                results = replace(results, readiness=ok)
        self._subject.memory.probes[container_id] = results
        self._subject.changed()

    def _tell(self, container_id: str, kind: Kind, outcome: Outcome) -> None:
        info = self._subject.memory.find(container_id)
        if info is None or not info.running:
            return
        reason, what = "Unhealthy", "failed"
        if outcome.warning:
            reason, what = "ProbeWarning", "warning"
        elif outcome.unknown:
            what = "errored and resulted in unknown state"
        text = f"{kind.capitalize()} probe {what}: {outcome.text}"
        self._subject.tell(reason, text, container=info.container, warning=True)

    def _count(self, container_id: str, kind: Kind, outcome: Outcome, seconds: float) -> None:
        info = self._subject.memory.find(container_id)
        if info is not None:
            pod = self._subject.pod
            probed = Probed(kind, info.container, name(pod), namespace(pod), uid(pod))
            self._tools.tally.count(probed, outcome, seconds)

    async def stop(self, container_id: str, *kinds: Kind) -> None:
        """End a container's probes of these kinds, all of them when none is named."""
        probes = self._probes.get(container_id) if kinds else self._probes.pop(container_id, None)
        if probes is not None:
            await probes.stop(*kinds)

    async def stop_all(self) -> None:
        """Leave no task behind."""
        for container_id in list(self._probes):
            await self.stop(container_id)
