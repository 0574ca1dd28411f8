"""Containers that the engine lists but does not describe: it hangs over them, and their pods wait until it answers.

A pod is not touched while something of it may run that nobody knows of; every other pod goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from agents.runtime import Runtime
from agents.runtime.errors import EngineTimeout, NoSuchContainer, RuntimeFailure
from agents.runtime.model import ContainerInfo
from orca.client.clock import Clock

log = structlog.get_logger()

ASK_SECONDS = 5.0


class Silence:
    """``heard`` is called with what is known of a pod's containers once the engine has told of every one of them."""

    def __init__(
        self, runtime: Runtime, clock: Clock, heard: Callable[[str, list[ContainerInfo]], Awaitable[None]]
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._heard = heard
        self._pods: dict[str, set[str]] = {}
        """Ids of all their containers, by uid of the pod."""
        self._any = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Silence over {len(self._pods)} pods>"

    def __contains__(self, pod_uid: str) -> bool:
        return pod_uid in self._pods

    @property
    def pods(self) -> set[str]:
        """Uids of the pods that wait."""
        return set(self._pods)

    def note(self, silent: Mapping[str, str]) -> None:
        """The engine did not tell of these containers (id -> pod's uid)."""
        for container_id, pod_uid in silent.items():
            log.warning("the engine does not tell of a container", container=container_id[:12], pod=pod_uid)
            self._pods.setdefault(pod_uid, set()).add(container_id)
        if silent:
            self._any.set()

    def keep(self, info: ContainerInfo) -> None:
        """A container of a pod that waits for another one."""
        self._pods[info.pod_uid].add(info.id)

    async def run(self) -> None:
        """Ask again until cancelled; costs nothing while there is nothing to ask."""
        while True:
            await self._any.wait()
            await self._clock.sleep(ASK_SECONDS)
            await asyncio.gather(*(self._ask(pod_uid) for pod_uid in list(self._pods)))
            if not self._pods:
                self._any.clear()

    async def _ask(self, pod_uid: str) -> None:
        # All of them anew: what was known of one has become old while the engine was silent about another.
        told: list[ContainerInfo] = []
        for container_id in list(self._pods[pod_uid]):
            try:
                told.append(await self._runtime.inspect(container_id, seconds=ASK_SECONDS))
            except NoSuchContainer:
                continue
            except EngineTimeout:
                return
            except RuntimeFailure as error:
                log.warning("engine cannot be asked", error=str(error))
                return
        del self._pods[pod_uid]
        await self._heard(pod_uid, told)
