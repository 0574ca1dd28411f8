"""What every pod's worker on this host shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agents.images.services import ImageServices
from agents.pods.environment import Place
from agents.pods.files import Resolver, parse_resolver
from agents.pods.gate import Gate
from agents.pods.ports import Network, PodsConfig, Recorder, Traffic, Volumes
from agents.pods.records import PodRecords
from agents.pods.sources import SourceReader
from agents.probes.handlers import Handlers
from agents.probes.tally import Tally
from agents.resources.cgroups import Cgroups
from agents.resources.handout import CpuHandout
from agents.runtime import Runtime
from orca.api.objects import Obj
from orca.api.quantity import parse_int
from orca.client.clock import Clock


@dataclass(slots=True)
class Tools:
    """Neighbours and limits; ``services`` and ``node`` answer from caches."""

    records: PodRecords
    runtime: Runtime
    images: ImageServices
    network: Network
    volumes: Volumes
    traffic: Traffic | None
    recorder: Recorder
    clock: Clock
    config: PodsConfig
    handlers: Handlers
    sources: SourceReader
    services: Callable[[], Iterable[Obj]]
    node: Callable[[], Obj | None]
    gate: Gate
    removals: Gate
    cgroups: Cgroups
    cpus: CpuHandout | None
    """Who has cpus alone; None where all share all."""
    freed: Callable[[str], None]
    """Told the uid of a pod that holds nothing of this host any more."""
    pulled: Callable[[str, float, float], None]
    """Told the uid of a pod, and when a pull of an image of it began and ended, in monotonic seconds."""
    tally: Tally = field(default_factory=Tally)

    def place(self, pod_ips: tuple[str, ...]) -> Place:
        """Where pods of this host are, for the downward API."""
        node = self.node() or {}
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        return Place(self.config.node_name, self.config.host_ips, pod_ips, allocatable)

    def node_memory(self) -> int:
        """Bytes the node has, 0 while unknown."""
        node = self.node() or {}
        amount = ((node.get("status") or {}).get("capacity") or {}).get("memory")
        return parse_int(amount) if amount is not None else 0

    def host_resolver(self) -> Resolver | None:
        """The host's resolv.conf, as it is now; None when it is not to be used."""
        if self.config.resolv_conf is None:
            return None
        try:
            return parse_resolver(self.config.resolv_conf.read_text())
        except OSError:
            return Resolver()
