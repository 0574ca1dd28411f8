"""Mirror pods: static pods shown in the API. What has to be done about them is planned purely, then done.

A mirror that somebody deletes is made again and the pod it shows does not notice; one whose pod is no longer asked for
is deleted when nothing of that pod runs any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import structlog

from agents.origin import MIRROR, is_mirror, mirrored
from agents.pods.patch import status_patch
from orca.api.builtin import PODS
from orca.api.errors import ApiError, is_conflict, is_not_found
from orca.api.objects import Obj, key, meta, name, namespace, uid
from orca.api.objects import annotations as notes
from orca.api.podphase import is_finished
from orca.client.base import Client
from orca.client.clock import Clock

FIRST_RETRY = 1.0
LAST_RETRY = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Create:
    pod: Obj


@dataclass(frozen=True, slots=True)
class Delete:
    mirror: Obj


@dataclass(frozen=True, slots=True)
class Tell:
    """The mirror's status is not what the pod's is."""

    mirror: Obj
    patch: Obj


Step = Create | Delete | Tell


def plan(pods: Mapping[str, Obj], running: Collection[str], present: Iterable[Obj]) -> list[Step]:
    """``pods``: static pods by key, with the status they are in, those that are being ended too. ``running``: uids of
    static pods of which something runs or is about to. ``present``: this host's pods in the API."""
    steps: list[Step] = []
    known = {key(pod): pod for pod in present}
    for pod_key, pod in pods.items():
        if pod_key not in known:
            steps.append(Create(pod))
    for pod_key, mirror in known.items():
        if not is_mirror(mirror):
            continue
        shown, own = mirrored(mirror), pods.get(pod_key)
        if meta(mirror).get("deletionTimestamp") or (shown not in running and (own is None or uid(own) != shown)):
            steps.append(Delete(mirror))
        elif own is not None and uid(own) == shown and is_finished(mirror) and not is_finished(own):
            steps.append(Delete(mirror))  # it began anew with the agent: what was said of its end is over, too
        elif own is not None and uid(own) == shown:
            patch = status_patch(mirror, mirror.get("status") or {}, own.get("status") or {})
            if patch is not None:
                steps.append(Tell(mirror, patch))
    return steps


def mirror_of(pod: Obj, node: Obj) -> Obj:
    """The object that shows ``pod``; the node owns it, so that it goes when the node does."""
    metadata = {field: value for field, value in meta(pod).items() if field != "uid"}
    metadata["annotations"] = {**notes(pod), MIRROR: uid(pod)}
    metadata["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Node", "name": name(node), "uid": uid(node), "controller": True}
    ]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}


class MirrorKeeper:
    """Makes the API show what there is, until cancelled. ``poke`` after every change."""

    def __init__(
        self,
        client: Client,
        *,
        clock: Clock,
        node: Callable[[], Obj | None],
        pods: Callable[[], Mapping[str, Obj]],
        running: Callable[[], Collection[str]],
        present: Callable[[], Iterable[Obj]],
    ) -> None:
        self._client = client
        self._clock = clock
        self._node = node
        self._pods = pods
        self._running = running
        self._present = present
        self._changed = asyncio.Event()
        self._problems: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<MirrorKeeper of {len(self._pods())} pods>"

    def poke(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        delay = FIRST_RETRY
        while True:
            self._changed.clear()
            node = self._node()
            failed = False
            for step in plan(self._pods(), self._running(), self._present()):
                if not await self._do(step, node):
                    failed = True
            if not failed and not self._pending():
                delay = FIRST_RETRY
                await self._changed.wait()
                continue
            await self._clock.sleep(delay)
            delay = min(delay * 2, LAST_RETRY)

    def _pending(self) -> bool:
        """Whether there is a mirror that will have to go when its pod has ended."""
        shown = {uid(pod) for pod in self._pods().values()}
        return any(is_mirror(pod) and mirrored(pod) not in shown for pod in self._present())

    async def _do(self, step: Step, node: Obj | None) -> bool:
        """Whether it is done."""
        about = step.pod if isinstance(step, Create) else step.mirror
        try:
            match step:
                case Create(pod) if node is not None:
                    await self._client.create(PODS, mirror_of(pod, node), namespace(pod))
                    log.info("mirror pod created", pod=key(pod))
                case Create():
                    return False  # the Node is not registered yet
                case Delete(mirror):
                    await self._client.delete(PODS, name(mirror), namespace(mirror), uid=uid(mirror), grace_seconds=0)
                    log.info("mirror pod deleted", pod=key(mirror))
                case Tell(mirror, patch):
                    await self._client.patch(
                        PODS, name(mirror), patch, namespace(mirror), kind="strategic", subresource="status"
                    )
        except ApiError as error:
            if not isinstance(step, Create) and (is_not_found(error) or is_conflict(error)):
                return True  # gone, or another one's by now: the watch tells
            if self._problems.get(key(about)) != error.message:
                log.warning("mirror pod is not as it should be", pod=key(about), error=error.message)
                self._problems[key(about)] = error.message
            return False
        self._problems.pop(key(about), None)
        return True
