"""All pods of this host, of every source, as one ``agents.pods.records.PodSource``.

Pods of the API are handed on once they and the Services are known; static pods wait for nobody. Mirror pods are not
handed on: nothing runs for them. A static pod that takes the place of another one of its name is handed on when nothing
of that one runs any more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import structlog

from agents.durable import read_object, write_file
from agents.origin import SEEN, SOURCE, is_mirror, is_static, mirrored
from agents.pods.records import ApiRecords
from agents.static.ends import Ends
from agents.static.latency import Latency
from agents.static.mirrors import MirrorKeeper
from agents.static.sources import Source
from agents.static.starts import Starts
from agents.static.statuses import carried_over, patched
from orca.api.builtin import PODS
from orca.api.objects import Obj, key, meta, uid
from orca.api.objects import annotations as notes
from orca.api.times import format_time
from orca.client.base import Client
from orca.client.clock import Clock, rest
from orca.client.informer import Informer

Objects: TypeAlias = list[Obj]

API_PATIENCE = 2.0
"""How long static pods wait for the API's pods to be known: only that containers of both are adopted in one go."""
_FILE = "static-pods.json"

log = structlog.get_logger()


class PodFeed:
    """``PodSource`` and ``PodRecords`` of this host. Used once, by one pod manager."""

    def __init__(
        self,
        client: Client,
        node_name: str,
        sources: Sequence[Source],
        *,
        root: Path,
        clock: Clock,
        node: Callable[[], Obj | None],
        known: Callable[[], Awaitable[object]],
        vacated: Callable[[str, str], Awaitable[None]],
        running: Callable[[], Iterable[str]],
        starts: Starts | None = None,
        ends: Ends | None = None,
    ) -> None:
        """``known`` returns when pods of the API may start (Services are known); ``vacated`` when no pod of that key
        but the one of that uid runs here; ``running`` tells the uids of all pods of which something runs."""
        self._clock = clock
        self._starts = starts or Starts()
        self._ends = ends if ends is not None else Ends()
        self._first_seen: dict[str, float] = {}
        """Uid -> when a pod that does not run yet was handed on, in monotonic seconds."""
        self._sources = sources
        self._root = root
        self._known = known
        self._vacated = vacated
        self.api = Informer(client, PODS, fields=f"spec.nodeName={node_name}", clock=clock)
        self._latency = Latency(self._starts)
        self.api.on_add(self._watched)
        self.api.on_update(lambda _, new: self._watched(new))
        self.api.on_delete(self._latency.forget)
        self._records = ApiRecords(client)
        self._client = client
        self._mirrors = MirrorKeeper(
            client,
            clock=clock,
            node=node,
            pods=lambda: self._shown,
            running=lambda: {*running(), *(uid(pod) for pods in self._wanted.values() for pod in pods.values())},
            present=self._settled,
        )
        self._released = asyncio.Event()
        self._read: dict[str, bool] = {source.name: False for source in sources}
        self._attached = asyncio.Event()
        """Set once a manager listens: it knows by then what runs here."""
        self._first_read = asyncio.Event()
        """Set once the files are known; a web server may take its time."""
        self._unsaved = asyncio.Event()
        self._wanted: dict[str, dict[str, Obj]] = {}
        self._shown: dict[str, Obj] = {}
        """Static pods that were handed on and not taken back, by key, with the status they have now."""
        self._handing: dict[str, asyncio.Task[None]] = {}
        self._before = _load(root)
        self._added: list[Callable[[Obj], None]] = []
        self._updated: list[Callable[[Obj, Obj], None]] = []
        self._deleted: list[Callable[[Obj], None]] = []
        for source in sources:
            source.take = partial(self._take, source.name)
        if "file" not in self._read:
            self._first_read.set()

    def __repr__(self) -> str:
        return f"<PodFeed {len(self._shown)} static pods, {len(self.api)} of the API>"

    @property
    def static(self) -> Mapping[str, Obj]:
        """Static pods by key, with the status they have now."""
        return self._shown

    # --- PodSource ----------------------------------------------------------------------------------------------------

    def get(self, object_key: str) -> Obj | None:
        static = self._static(object_key)
        if static is not None:
            return static
        pod = self.api.get(object_key) if self._released.is_set() else None
        return None if pod is None or is_mirror(pod) else pod

    def list(self) -> Objects:
        static = {object_key: self._static(object_key) for pods in self._wanted.values() for object_key in pods}
        of_api = [pod for pod in self.api.list() if not is_mirror(pod)] if self._released.is_set() else []
        return [*filter(None, static.values()), *of_api]

    def on_add(self, handler: Callable[[Obj], None]) -> None:
        handler = partial(self._note_and, handler)
        self._added.append(handler)
        if self._released.is_set():
            for pod in self.api.list():
                if not is_mirror(pod):
                    handler(pod)
        for pod in [*self._shown.values()]:
            handler(pod)
        self._attached.set()

    def _note_and(self, handler: Callable[[Obj], None], pod: Obj) -> None:
        if (pod.get("status") or {}).get("phase", "Pending") == "Pending":
            self._first_seen.setdefault(uid(pod), self._clock.monotonic())
        handler(pod)

    def _note_status(self, pod: Obj, phase: str | None) -> None:
        if phase and phase != "Pending":
            seen = self._first_seen.pop(uid(pod), None)
            if seen is not None and phase == "Running":
                self._starts.count(self._clock.monotonic() - seen)

    def _watched(self, pod: Obj) -> None:
        if not is_mirror(pod):
            self._latency.seen(pod, self._clock.now())

    def pulled(self, pod_uid: str, began: float, ended: float) -> None:
        """An image of a pod was pulled in that time, in monotonic seconds."""
        self._latency.pulled(pod_uid, began, ended)

    def on_update(self, handler: Callable[[Obj, Obj], None]) -> None:
        self._updated.append(handler)

    def on_delete(self, handler: Callable[[Obj], None]) -> None:
        self._deleted.append(handler)

    async def synced(self) -> None:
        if not self._sources:
            await self._released.wait()
            return
        await self._first_read.wait()
        await rest(self._clock, API_PATIENCE, self._released)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.api.run(), name="informer pods")
                group.create_task(self._release(), name="pods of the API")
                for source in self._sources:
                    group.create_task(source.run(), name=f"static pods of {source.name}")
                group.create_task(self._mirror(), name="mirror pods")
                group.create_task(self._remember(), name="memory of static pods")
        finally:
            for task in self._handing.values():
                task.cancel()

    async def _release(self) -> None:
        """Hand on what the API has, and from then on what changes there."""
        await self.api.synced()
        await self._known()
        self._released.set()
        self.api.on_add(lambda pod: self._call(self._added, pod))
        self.api.on_update(lambda old, new: self._call(self._updated, old, new))
        self.api.on_delete(lambda pod: self._call(self._deleted, pod))

    async def _mirror(self) -> None:
        await self.api.synced()
        await self._first_read.wait()
        self.api.on_change(lambda pod: self._mirrors.poke() if is_mirror(pod) or key(pod) in self._shown else None)
        await self._mirrors.run()

    def _call(self, handlers: Iterable[Callable[..., None]], *pods: Obj) -> None:
        if not is_mirror(pods[-1]):
            for handler in handlers:
                handler(*pods)

    # --- static pods --------------------------------------------------------------------------------------------------

    def _static(self, object_key: str, *, shown: bool = True) -> Obj | None:
        """What is wanted now; when it was handed on and ``shown`` is set, with its status."""
        for pods in self._wanted.values():
            if object_key in pods:
                wanted, handed_on = pods[object_key], self._shown.get(object_key)
                return handed_on if shown and handed_on is not None and uid(handed_on) == uid(wanted) else wanted
        return None

    def _take(self, source: str, pods: Iterable[Obj]) -> None:
        """All that a source asks for from now on."""
        seen = format_time(self._clock.now())
        wanted: dict[str, Obj] = {}
        for pod in pods:
            if key(pod) in wanted:
                log.warning("two manifests ask for the same static pod; the later one is taken", pod=key(pod))
            marked = {**meta(pod), "annotations": {**notes(pod), SEEN: seen}}
            wanted[key(pod)] = {**pod, "metadata": marked}
        self._wanted[source] = wanted
        self._read[source] = True
        if source == "file":
            self._first_read.set()
        for object_key, shown in list(self._shown.items()):
            now = self._static(object_key, shown=False)
            if now is None or uid(now) != uid(shown):
                del self._shown[object_key]
                for deleted in self._deleted:
                    deleted(shown)
                self._begin(object_key)
            elif now["spec"] != shown["spec"]:
                # Its manifest names its uid.
                self._shown[object_key] = {**now, "status": shown["status"]}
                for updated in self._updated:
                    updated(shown, self._shown[object_key])
        for pods_of_source in self._wanted.values():
            for object_key in pods_of_source.keys() - self._shown.keys():
                self._begin(object_key)
        # What an agent before this one ran: its mirrors go when it has ended.
        for object_key in self._before.keys() - self._handing.keys() - self._shown.keys():
            self._begin(object_key)
        self._mirrors.poke()
        self._unsaved.set()

    def _begin(self, object_key: str) -> None:
        if object_key not in self._handing:
            task = asyncio.ensure_future(self._hand_on(object_key))
            self._handing[object_key] = task
            task.add_done_callback(partial(self._handed_on, object_key))

    def _handed_on(self, object_key: str, task: asyncio.Task[None]) -> None:
        self._handing.pop(object_key, None)
        self._mirrors.poke()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("static pod was not handed on", pod=object_key, error=repr(error))

    async def _hand_on(self, object_key: str) -> None:
        await self._attached.wait()
        while True:
            pod = self._static(object_key)
            wanted = uid(pod) if pod is not None else ""
            await self._vacated(object_key, wanted)
            pod = self._static(object_key)
            if (uid(pod) if pod is not None else "") == wanted:
                break  # else it changed again while it waited
        if pod is None or object_key in self._shown:
            return
        mirror = self.api.get(object_key)
        if mirror is not None and mirrored(mirror) == wanted:
            pod = carried_over(pod, mirror)
        self._shown[object_key] = pod
        for added in self._added:
            added(pod)

    def _settled(self) -> Objects:
        """Pods in the API, but for mirrors of what a source that was not read yet may ask for."""
        unread = {source for source, was_read in self._read.items() if not was_read}
        return [pod for pod in self.api.list() if not (is_mirror(pod) and notes(pod).get(SOURCE) in unread)]

    async def _remember(self) -> None:
        """For the agent after this one: a container of a static pod nobody wants any more is not one of the API's."""
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            names = {
                object_key: (source, uid(pod))
                for source, pods in self._wanted.items()
                for object_key, pod in pods.items()
            }
            for object_key, (source, pod_uid) in self._before.items():
                if source in self._read and not self._read[source]:
                    names.setdefault(object_key, (source, pod_uid))
            try:
                await asyncio.to_thread(write_file, self._root, _FILE, json.dumps(names))
            except OSError as error:
                log.warning("static pods cannot be remembered", error=str(error))

    # --- PodRecords ---------------------------------------------------------------------------------------------------

    async def write_status(self, pod: Obj, patch: Obj) -> Obj:
        self._note_status(pod, patch["status"].get("phase"))
        if not is_static(pod):
            stored = await self._records.write_status(pod, patch)
            self._ends.count(pod.get("status") or {}, stored.get("status") or {})
            return stored
        told: Obj = {**pod, "status": patched(pod.get("status") or {}, patch["status"])}
        shown = self._shown.get(key(pod))
        if shown is not None and uid(shown) == uid(pod):
            self._shown[key(pod)] = told
        self._ends.count(pod.get("status") or {}, told["status"])
        self._mirrors.poke()
        return told

    async def delete(self, pod: Obj) -> None:
        self._first_seen.pop(uid(pod), None)
        if is_static(pod):
            self._mirrors.poke()
        else:
            await self._records.delete(pod)

    async def current_uid(self, pod_namespace: str, pod_name: str) -> str:
        object_key = f"{pod_namespace}/{pod_name}"
        static = self._static(object_key)
        if static is not None:
            return uid(static)
        if object_key in self._before:
            source, pod_uid = self._before[object_key]
            # A URL that did not answer yet may still want it.
            return pod_uid if source in self._read and not self._read[source] else ""
        return await self._records.current_uid(pod_namespace, pod_name)


def _load(root: Path) -> dict[str, tuple[str, str]]:
    """Key -> source and uid of the static pods that the agent before this one knew."""
    try:
        found = read_object(root / _FILE)
        return {str(object_key): (str(source), str(pod_uid)) for object_key, (source, pod_uid) in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("static pods of before are not known", error=str(error))
        return {}
