"""What this host and its pods use, and what follows when it is too much: measuring, eviction and their pages, wired."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from agents.config import Configuration
from agents.eviction.manager import EvictionManager
from agents.eviction.notifier import MemoryNotifiers
from agents.eviction.settings import Settings
from agents.eviction.thresholds import Signal
from agents.node.facts import HostFacts
from agents.pods import PodManager
from agents.resources.cgroups import Cgroups
from agents.resources.usage import V1
from agents.runtime import Runtime
from agents.stats.collector import Collector
from agents.stats.engine import engine_of
from agents.stats.groups import Machine
from agents.stats.host import memory
from agents.stats.pages import Page, StatsPages
from orca.client.clock import Clock
from orca.client.events import EventRecorder


class Pressure:
    """``manager`` answers the pod manager of the moment; ``reclaims`` free disk besides what it keeps of pods that are
    over; ``changed`` is called when the node's conditions did. Raises ``ConfigurationError``."""

    def __init__(
        self,
        configuration: Configuration,
        node_name: str,
        *,
        root: Path,
        runtime: Runtime,
        cgroups: Cgroups,
        manager: Callable[[], PodManager | None],
        recorder: EventRecorder,
        clock: Clock,
        changed: Callable[[], None],
        reclaims: Sequence[Callable[[], Awaitable[object]]] = (),
    ) -> None:
        self._manager = manager
        self._cgroups = cgroups
        self.collector = Collector(
            node_name=node_name,
            root=root,
            tenants=lambda: pods.tenants() if (pods := manager()) else (),
            engine=engine_of(runtime),
            clock=clock,
            pods_cgroup=self._pods_cgroup,
            disk_age=configuration.volume_stats_agg_period,
        )
        self.eviction = EvictionManager(
            node_name=node_name,
            settings=Settings.of(configuration),
            meters=self.collector,
            pods=manager,
            recorder=recorder,
            clock=clock,
            reclaims=(self._remove_remains, *reclaims),
            changed=changed,
            notifiers=MemoryNotifiers(self._memory_cgroup) if configuration.kernel_memcg_notification else None,
        )

    def __repr__(self) -> str:
        return f"<Pressure {self.eviction!r}>"

    def pages(self, host: HostFacts, engine: Callable[[], str]) -> dict[str, Page]:
        """For the agent's server; ``engine`` answers its version."""

        def machine() -> Machine:
            return Machine(
                cores=host.cpus,
                memory=host.memory,
                swap=memory().swap_total,
                boot_id=host.boot_id,
                machine_id=host.machine_id,
                system_uuid=host.system_uuid,
            )

        def version() -> dict[str, str]:
            return {
                "cadvisorRevision": "",
                "cadvisorVersion": "",
                "dockerVersion": engine().removeprefix("docker://"),
                "kernelVersion": host.kernel,
                "osVersion": host.os_image,
            }

        pages = StatsPages(
            self.collector,
            tally=lambda: pods.tally if (pods := self._manager()) else (),
            machine=machine,
            version=version,
        )
        return pages.routes()

    def _pods_cgroup(self) -> str:
        layout = self._cgroups.layout
        return layout.path(layout.pods_name) if layout is not None and layout.by_quality else ""

    def _memory_cgroup(self, signal: Signal) -> Path | None:
        """Where the memory of the host, or of all pods, is accounted for; version 2 notifies of neither."""
        hierarchy = self.collector.meter.hierarchy
        if not isinstance(hierarchy, V1):
            return None
        location = "" if signal is Signal.MEMORY else self._pods_cgroup()
        return hierarchy.memory_directory(location) if signal is Signal.MEMORY or location else None

    async def _remove_remains(self) -> None:
        pods = self._manager()
        if pods is not None:
            await pods.remove_remains()
