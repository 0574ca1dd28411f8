"""`PodNetwork`: the pod network of this host, put together.

    network = PodNetwork(root, "host-1")
    await network.start(node)  # the Node object with spec.podCIDR and its InternalIP; NetworkError says why not
    ips = await network.attach(uid, pid, host_ports=ports, hostname=name)
    await network.reconcile(live_uids)
    asyncio.create_task(network.run(nodes_informer))   # routes to other nodes, healing

Netlink work runs in one thread of its own, rules through subprocesses: the event loop is never held up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from agents.network.addresses import Allocator, HostPort, Lease, LeaseFile, RangeExhausted, render
from agents.network.bandwidth import bandwidth_of
from agents.network.host import HostSide
from agents.network.iptables import Iptables
from agents.network.peering import TunnelEnd
from agents.network.publishing import Publish
from agents.network.routes import (
    NetworkBackend,
    RoutePlan,
    Standing,
    internal_ips,
    plan_routes,
    pod_cidrs,
    published,
    tunnel_hardware,
    tunnel_overhead,
)
from agents.network.wiring import NetworkError, Wiring
from orca.api.objects import Obj, meta
from orca.client.clock import Clock, SystemClock
from orca.client.informer import Informer

log = structlog.get_logger()

HEAL_SECONDS = 3.0


class PodNetwork:
    """See the module. ``local_addresses`` are addresses of the service range that this host answers itself (DNS).

    ``cluster_cidr`` and ``service_cidr`` are a range, or one of each family separated by a comma. Families that the
    host does not carry are left out. ``publish`` tells other hosts, by the Node, how to reach the pods here.
    """

    def __init__(
        self,
        root: Path | str,
        node_name: str,
        *,
        cluster_cidr: str = "10.244.0.0/16",
        service_cidr: str = "10.96.0.0/16",
        local_addresses: Sequence[str] = ("10.96.0.10",),
        iptables: Iptables | None = None,
        clock: Clock | None = None,
        backend: NetworkBackend = NetworkBackend.AUTO,
        publish: Publish | None = None,
    ) -> None:
        self._host = HostSide(
            cluster_cidr=cluster_cidr, service_cidr=service_cidr, local_addresses=local_addresses, iptables=iptables
        )
        self.iptables = self._host.iptables
        self._file = LeaseFile(Path(root) / "network" / "addresses.json")
        self._node_name = node_name
        self._backend = backend
        self._publish = publish
        self._clock = clock or SystemClock()
        self._allocator: Allocator | None = None
        self._saved: str | None = ""
        """What is on disk; None when that could not be written."""
        self.standing = Standing(())
        """What this host is to others."""
        self._underlay_mtu = self._mtu = 1500
        self._known_nodes: list[Obj] | None = None
        self._plan: RoutePlan | None = None
        self._nodes_changed = asyncio.Event()
        self._followed: Informer | None = None
        self.problems: dict[str, str] = {}
        """What keeps pods from reaching pods: other node's name -> why, for the node's NetworkUnavailable condition."""

    def __repr__(self) -> str:
        pods = len(self._allocator.leases) if self._allocator else 0
        return f"<PodNetwork {self._allocator or 'not started'}, {pods} pods>"

    trouble = ""
    """What keeps pods from being wired since the start; nothing does that is not an error of its own."""

    @property
    def ready(self) -> bool:
        return self._allocator is not None

    @property
    def stale_pods(self) -> set[str]:
        """Pods whose address is not of the node's range any more: they have to be made anew to be reachable."""
        if not self._allocator:
            return set()
        return {uid for uid, lease in self._allocator.leases.items() if not self._allocator.serves(lease)}

    async def start(self, node: Obj) -> None:
        """Bridge, service device, rules. May be called again at any time; running pods notice nothing.

        Raises ``NetworkError``: the node has no podCIDR or InternalIP yet, or the host lacks something.
        """
        cidrs, addresses = self._host.usable(pod_cidrs(node)), self._host.usable(internal_ips(node))
        if not cidrs:
            raise NetworkError(f"node {self._node_name} has no spec.podCIDR yet")
        if not addresses:
            raise NetworkError(f"node {self._node_name} has no InternalIP yet")
        hardware = tunnel_hardware(self._node_name)
        self.standing = Standing(addresses, self.standing.segments, self._backend, hardware)
        allocator = Allocator.over(cidrs, *self._file.read())
        try:
            for link in await self._host.in_thread(lambda wiring: wiring.pod_links()):
                allocator.adopt(link.uid, Lease(link.ips, link.name))
            await self._host.in_thread(lambda wiring: self._ensure_links(wiring, allocator))
            text = render(allocator)
            await self._host.in_thread(lambda _: self._save(text))
        except OSError as error:
            raise NetworkError(f"cannot set up the host's links: {error.strerror or error}") from error
        self._allocator = allocator
        await self._sync_rules()
        log.info("pod network is up", ranges=str(allocator), pods=len(allocator.leases), mtu=self._mtu)

    async def attach(
        self,
        pod_uid: str,
        netns_pid: int,
        *,
        host_ports: Sequence[Any] = (),
        hostname: str = "",
        namespace: str = "",
        sandbox_id: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Wire the namespace of process ``netns_pid`` and return the pod's addresses; the same ones when called again.

        ``host_ports``: entries of ``containers[].ports`` that have a ``hostPort`` (others are ignored).
        ``annotations``: the pod's, for its bandwidth. Raises ``NetworkError``.
        """
        allocator = self._started()
        before = allocator.leases.get(pod_uid)
        try:
            ports = tuple(
                HostPort.of(port) for port in host_ports if isinstance(port, HostPort) or port.get("hostPort")
            )
            bandwidth = bandwidth_of(annotations or {})
            lease = allocator.allocate(pod_uid, name=hostname, host_ports=ports)
        except (RangeExhausted, ValueError) as error:  # of a host port, or the BandwidthError of an annotation
            raise NetworkError(str(error)) from error
        gateways, mtu = allocator.gateways, self._mtu
        record = render(allocator)

        def wire(wiring: Wiring) -> None:
            self._save(record)
            wiring.plug(uid=pod_uid, name=hostname, pid=netns_pid, ips=lease.ips, gateways=gateways, mtu=mtu)
            if bandwidth:
                wiring.shape(pod_uid, bandwidth)

        await self._host.in_thread(wire)
        if ports or (before and before.host_ports):
            await self._sync_rules()
        return list(lease.ips)

    async def detach(self, pod_uid: str) -> None:
        """Free everything of the pod; harmless when there is nothing."""
        allocator = self._started()
        await self._host.in_thread(lambda wiring: wiring.unplug(pod_uid))
        # The address is free only once nothing answers to it any more.
        if lease := allocator.release(pod_uid):
            record = render(allocator)
            await self._host.in_thread(lambda _: self._save(record))
            if lease.host_ports:
                await self._sync_rules()

    def _save(self, text: str) -> None:
        """Put the addresses on disk. A disk that is full keeps no pod from starting or, worse, from going: links tell
        the addresses of those that are there, and those of others are freed by the agent that comes next."""
        if text == self._saved:
            return
        try:
            self._file.write(text)
        except OSError as error:
            if self._saved is not None:
                log.warning("addresses of pods cannot be written", file=str(self._file.path), error=str(error))
            self._saved = None
        else:
            self._saved = text

    async def reconcile(self, live: Collection[str]) -> None:
        """Free what belongs to no live pod (uids)."""
        allocator = self._started()
        wired = await self._host.in_thread(lambda wiring: wiring.wired_pods())
        for uid in (wired | set(allocator.leases)) - set(live):
            log.info("removing what a gone pod left", pod=uid)
            await self.detach(uid)

    async def set_nodes(self, nodes: Iterable[Obj]) -> None:
        """Ways to the pods of other nodes. Cheap when nothing changed; ``problems`` says which cannot be had."""
        self._known_nodes = list(nodes)
        before = self._plan
        if self._plan_ways() != before:
            await self._apply_routes()

    async def run(self, nodes: Informer) -> None:
        """Follow the nodes, and put back what somebody else took away. Runs until cancelled; call ``start`` before."""
        changed = self._nodes_changed
        if self._followed is not nodes:
            self._followed = nodes
            nodes.on_change(lambda _: changed.set())
        await nodes.synced()
        await self.set_nodes(nodes.list())
        await self._tell(nodes.get(self._node_name))
        foreign = self.iptables.foreign_changes()
        while True:
            try:
                async with asyncio.timeout(HEAL_SECONDS):
                    await changed.wait()
            except TimeoutError:
                foreign = await self._heal(foreign)
                await self._tell(nodes.get(self._node_name))
            else:
                changed.clear()
                await self.set_nodes(nodes.list())
                await self._follow_own(nodes.get(self._node_name))
                await self._tell(nodes.get(self._node_name))

    async def cleanup(self) -> None:
        """Remove every trace: links, routes, rules, the file of addresses."""
        await self._host.remove_rules()
        await self._host.in_thread(lambda wiring: wiring.remove_everything())
        self._file.path.unlink(missing_ok=True)
        self._allocator = None
        await self.close()

    async def close(self) -> None:
        """Stop the thread; the network itself stays as it is."""
        await self._host.close()

    async def _follow_own(self, node: Obj | None) -> None:
        """A node that was deleted and registered again may have another range: serve that one."""
        if node is None or self._allocator is None:
            return
        cidrs, addresses = self._host.usable(pod_cidrs(node)), self._host.usable(internal_ips(node))
        if not cidrs or not addresses:
            return
        if ",".join(cidrs) != str(self._allocator) or addresses != self.standing.addresses:
            await self.start(node)
            await self._apply_routes()
            if stale := self.stale_pods:
                log.error("pods keep addresses of the node's former range until they are made anew", pods=sorted(stale))

    async def _tell(self, node: Obj | None) -> None:
        """Have the node's annotations say how to reach this host's pods."""
        if self._publish is None or node is None or self.standing.segments is None:
            return
        wanted = published(self.standing)
        have = meta(node).get("annotations") or {}
        if any(have.get(key) != value for key, value in wanted.items()):
            await self._publish(wanted)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _started(self) -> Allocator:
        if not self._allocator:
            raise NetworkError("the pod network of this node is not up yet")
        return self._allocator

    def _ensure_links(self, wiring: Wiring, allocator: Allocator) -> None:
        uplink = wiring.uplink(self.standing.underlay)
        self._underlay_mtu = uplink.mtu
        self.standing = replace(self.standing, segments=uplink.segments)
        self._plan_ways()
        gateways = [(pool.gateway, pool.network.prefixlen) for pool in allocator.pools]
        wiring.ensure_bridge(gateways=gateways, mtu=self._mtu)
        # A host without an address of a family is known by its pods' gateway.
        sources = [*(ip for ip, _ in gateways), *self.standing.addresses]
        self._host.ensure_services(wiring, sources=sources, families={pool.network.version for pool in allocator.pools})

    def _plan_ways(self) -> RoutePlan | None:
        """What the nodes that are known, and what this host is now, come to; also the MTU of new pods: as much as the
        network below carries, less the tunnel when one host at least is behind it."""
        if self._known_nodes is None or self.standing.segments is None:
            return None  # The nodes are not known yet: what a former run has set stays.
        self._plan = plan_routes(self._known_nodes, self._node_name, self.standing, self._host.families)
        self._mtu = self._underlay_mtu
        if self._plan.peers or self._backend is NetworkBackend.VXLAN:
            self._mtu -= tunnel_overhead(self.standing.underlay)
        return self._plan

    async def _apply_routes(self) -> None:
        if (plan := self._plan) is None or (allocator := self._allocator) is None:
            return
        underlay, hardware = self.standing.underlay, self.standing.hardware
        addresses = tuple(str(pool.network.network_address) for pool in allocator.pools)
        end = TunnelEnd(underlay, hardware, addresses, self._underlay_mtu - tunnel_overhead(underlay))
        problems = await self._host.in_thread(lambda wiring: wiring.peering.set_ways(plan, end))
        for node, why in problems.items():
            if self.problems.get(node) != why:
                log.error("pods of a node cannot be reached", node=node, why=why)
        self.problems = problems

    async def _sync_rules(self) -> None:
        await self._host.sync_rules(self._started().leases)

    async def _heal(self, foreign: int) -> int:
        """Put links, routes and rules back; returns the count of foreign changes up to which rules are right."""
        now = self.iptables.foreign_changes()
        try:
            if now != foreign:
                await self._sync_rules()
            if allocator := self._allocator:
                await self._host.in_thread(lambda wiring: self._ensure_links(wiring, allocator))
            await self._apply_routes()
        except (NetworkError, OSError) as error:
            log.warning("the pod network is not as it should be", error=str(error))
            return foreign
        return now
