"""The pods of this host, of all sources, run: one feed and one manager at a time, made anew when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from agents.config import Configuration
from agents.pods import PodManager
from agents.pods.ports import PodView, Tenant
from agents.static.ends import Ends
from agents.static.feed import PodFeed
from agents.static.sources import FileSource, Source, UrlSource
from agents.static.starts import Starts
from orca.api.objects import Obj, key, uid
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.events import EventRecorder
from orca.client.informer import Informer

Views: TypeAlias = Iterable[PodView]
MakeManager = Callable[[PodFeed], PodManager]


def has_static_pods(configuration: Configuration) -> bool:
    """Whether something of this host may ask for pods: then these wait for no server."""
    return bool(configuration.static_pod_path or configuration.static_pod_url)


def static_sources(configuration: Configuration, node_name: str, *, clock: Clock) -> list[Source]:
    """Where this host's own pods are asked for."""
    sources: list[Source] = []
    if configuration.static_pod_path:
        path, seconds = Path(configuration.static_pod_path), configuration.file_check_frequency
        sources.append(FileSource(path, seconds, node_name, clock=clock))
    if configuration.static_pod_url:
        sources.append(
            UrlSource(
                configuration.static_pod_url,
                configuration.static_pod_url_header,
                configuration.http_check_frequency,
                node_name,
                clock=clock,
            )
        )
    return sources


class RunningPods:
    """Answers for the manager of the moment; `run` is a part for a supervisor."""

    def __init__(
        self,
        client: Client,
        configuration: Configuration,
        node_name: str,
        make: MakeManager,
        *,
        root: Path,
        clock: Clock,
        services: Informer,
        nodes: Informer,
        recorder: EventRecorder,
    ) -> None:
        self._client = client
        self._configuration = configuration
        self._node_name = node_name
        self._make = make
        self._root = root
        self._clock = clock
        self._services = services
        self._nodes = nodes
        self._recorder = recorder
        self._starts = Starts()
        self._ends = Ends()
        self._feed: PodFeed | None = None
        self.manager: PodManager | None = None

    def __repr__(self) -> str:
        return f"<RunningPods {self.manager or 'not yet'}>"

    def find(self, namespace: str, name: str) -> PodView | None:
        """The newest pod of that name on this host."""
        return self.manager.find(namespace, name) if self.manager else None

    def object(self, pod_uid: str) -> Obj | None:
        """The pod of that uid, None when there is none on this host."""
        return self.manager.object(pod_uid) if self.manager else None

    def list(self) -> Views:
        """Every pod that has something on this host."""
        return self.manager.list() if self.manager else ()

    def tenants(self) -> Sequence[Tenant]:
        """Every pod that may use something of this host."""
        return self.manager.tenants() if self.manager else ()

    def crowded(self) -> bool:
        """Pods wait for their turn to be started or removed."""
        return self.manager is not None and self.manager.crowded

    def wanted_images(self) -> set[str]:
        """As `PodManager.wanted_images`."""
        return self.manager.wanted_images() if self.manager else set()

    async def evict(self, pod_uid: str, **why: Any) -> bool:
        """As `PodManager.evict`."""
        return self.manager is not None and await self.manager.evict(pod_uid, **why)

    async def stopped(self, pod_uid: str) -> None:
        """Returns once nothing of the pod runs and nothing will."""
        if self.manager is not None:
            await self.manager.stopped(pod_uid)

    @property
    def starts(self) -> Starts:
        """How long pods took to run."""
        return self._starts

    @property
    def ends(self) -> Ends:
        """How containers ended."""
        return self._ends

    @property
    def mirrors(self) -> int:
        """Mirror pods that there should be."""
        return len(self._feed.static) if self._feed is not None else 0

    async def run(self) -> None:
        """Until cancelled. A manager and a feed are used once: those that failed leave handlers in each other."""
        sources = static_sources(self._configuration, self._node_name, clock=self._clock)
        for source in sources:
            source.complain = self._complain
        feed = self._feed = PodFeed(
            self._client,
            self._node_name,
            sources,
            root=self._root,
            clock=self._clock,
            node=self._node,
            known=self._services.synced,
            vacated=self._vacated,
            running=lambda: [uid(view.pod) for view in self.list()],
            starts=self._starts,
            ends=self._ends,
        )
        self.manager = self._make(feed)
        async with asyncio.TaskGroup() as group:
            group.create_task(feed.run(), name="pods of all sources")
            group.create_task(self.manager.run(), name="pod manager")

    def clock_moved(self, by: timedelta) -> None:
        """The host's clock was set."""
        if self.manager is not None:
            self.manager.clock_moved(by)

    async def network_came_up(self) -> None:
        """Pods that went while no agent was there can give their addresses back now."""
        if self.manager is not None:
            await self.manager.clear_leftovers()

    def _node(self) -> Obj | None:
        return self._nodes.get(self._node_name)

    def _complain(self, origin: str, problem: str) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "name": self._node_name, "uid": self._node_name}
        text = f"Static pod of {origin} cannot be used: {problem}"
        self._recorder.event(node, "Warning", "InvalidStaticPod", text)

    async def _vacated(self, object_key: str, pod_uid: str) -> None:
        """Returns when no other pod of that key than the one of that uid runs here."""
        for view in [*self.list()]:
            if key(view.pod) == object_key and uid(view.pod) != pod_uid and self.manager is not None:
                await self.manager.stopped(uid(view.pod))


class Unawaited:
    """Services as pods' environments are made of them; who needs them complete has waited before."""

    def __init__(self, services: Informer) -> None:
        self._services = services

    def list(self) -> Iterable[Obj]:
        return self._services.list()

    async def synced(self) -> None:
        return
