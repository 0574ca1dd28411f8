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
import ipaddress
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog

from agents.network import firewall
from agents.network.addresses import Allocator, HostPort, Lease, LeaseFile, RangeExhausted, render
from agents.network.iptables import Iptables, IptablesError, difference
from agents.network.routes import NodeRoute, internal_ip, plan_routes, pod_cidr
from agents.network.wiring import NetworkError, Wiring
from orca.api.objects import Obj
from orca.client.clock import Clock, SystemClock
from orca.client.informer import Informer

log = structlog.get_logger()
T = TypeVar("T")

HEAL_SECONDS = 3.0


class PodNetwork:
    """See the module. ``local_addresses`` are addresses of the service range that this host answers itself (DNS)."""

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
    ) -> None:
        self.iptables = iptables or Iptables()
        self._file = LeaseFile(Path(root) / "network" / "addresses.json")
        self._node_name = node_name
        self._cluster_cidr = cluster_cidr
        self._service_cidr = service_cidr
        self._local_addresses = tuple(local_addresses)
        self._clock = clock or SystemClock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pod-network")
        self._wiring: Wiring | None = None
        self._allocator: Allocator | None = None
        self._saved: str | None = ""
        """What is on disk; None when that could not be written."""
        self._node_ip = ""
        self._mtu = 1500
        self._routes: tuple[NodeRoute, ...] | None = None
        self._rules_lock = asyncio.Lock()
        self._nodes_changed = asyncio.Event()
        self._followed: Informer | None = None
        self.problems: dict[str, str] = {}
        """What keeps pods from reaching pods: other node's name -> why, for the node's NetworkUnavailable condition."""

    def __repr__(self) -> str:
        pods = len(self._allocator.leases) if self._allocator else 0
        return f"<PodNetwork {self._allocator.network if self._allocator else 'not started'}, {pods} pods>"

    @property
    def ready(self) -> bool:
        return self._allocator is not None

    @property
    def stale_pods(self) -> set[str]:
        """Pods whose address is not of the node's range any more: they have to be made anew to be reachable."""
        if not self._allocator:
            return set()
        return {uid for uid, lease in self._allocator.leases.items() if not self._allocator.contains(lease.ip)}

    async def start(self, node: Obj) -> None:
        """Bridge, service device, rules. May be called again at any time; running pods notice nothing.

        Raises ``NetworkError``: the node has no podCIDR or InternalIP yet, or the host lacks something.
        """
        cidr, node_ip = pod_cidr(node), internal_ip(node)
        if not cidr:
            raise NetworkError(f"node {self._node_name} has no spec.podCIDR yet")
        if not node_ip:
            raise NetworkError(f"node {self._node_name} has no InternalIP yet")
        self._node_ip = node_ip
        leases, last = self._file.read()
        allocator = Allocator(ipaddress.IPv4Network(cidr), leases, last)
        try:
            for link in await self._in_thread(lambda wiring: wiring.pod_links()):
                allocator.adopt(link.uid, Lease(link.ip, link.name))
            await self._in_thread(lambda wiring: self._ensure_links(wiring, allocator))
            text = render(allocator)
            await self._in_thread(lambda _: self._save(text))
        except OSError as error:
            raise NetworkError(f"cannot set up the host's links: {error.strerror or error}") from error
        self._allocator = allocator
        await self._sync_rules()
        log.info("pod network is up", range=cidr, pods=len(allocator.leases), mtu=self._mtu)

    async def attach(
        self, pod_uid: str, netns_pid: int, *, host_ports: Sequence[Any] = (), hostname: str = ""
    ) -> list[str]:
        """Wire the namespace of process ``netns_pid`` and return the pod's addresses; the same ones when called again.

        ``host_ports``: entries of ``containers[].ports`` that have a ``hostPort`` (others are ignored).
        Raises ``NetworkError``.
        """
        allocator = self._started()
        ports = tuple(HostPort.of(port) for port in host_ports if isinstance(port, HostPort) or port.get("hostPort"))
        before = allocator.leases.get(pod_uid)
        try:
            lease = allocator.allocate(pod_uid, name=hostname, host_ports=ports)
        except RangeExhausted as error:
            raise NetworkError(str(error)) from error
        gateway, mtu = allocator.gateway, self._mtu
        record = render(allocator)

        def wire(wiring: Wiring) -> None:
            self._save(record)
            wiring.plug(uid=pod_uid, name=hostname, pid=netns_pid, ip=lease.ip, gateway=gateway, mtu=mtu)

        await self._in_thread(wire)
        if ports or (before and before.host_ports):
            await self._sync_rules()
        return [lease.ip]

    async def detach(self, pod_uid: str) -> None:
        """Free everything of the pod; harmless when there is nothing."""
        allocator = self._started()
        await self._in_thread(lambda wiring: wiring.unplug(pod_uid))
        # The address is free only once nothing answers to it any more.
        if lease := allocator.release(pod_uid):
            record = render(allocator)
            await self._in_thread(lambda _: self._save(record))
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
        links = await self._in_thread(lambda wiring: wiring.pod_links())
        for uid in ({link.uid for link in links} | set(allocator.leases)) - set(live):
            log.info("removing what a gone pod left", pod=uid)
            await self.detach(uid)

    async def set_nodes(self, nodes: Iterable[Obj]) -> None:
        """Routes to the pods of other nodes. Cheap when nothing changed; ``problems`` says which cannot be had."""
        planned = plan_routes(nodes, self._node_name)
        if planned != self._routes:
            self._routes = planned
            await self._apply_routes()

    async def run(self, nodes: Informer) -> None:
        """Follow the nodes, and put back what somebody else took away. Runs until cancelled; call ``start`` before."""
        changed = self._nodes_changed
        if self._followed is not nodes:
            self._followed = nodes
            nodes.on_change(lambda _: changed.set())
        await nodes.synced()
        await self.set_nodes(nodes.list())
        foreign = self.iptables.foreign_changes()
        while True:
            try:
                async with asyncio.timeout(HEAL_SECONDS):
                    await changed.wait()
            except TimeoutError:
                foreign = await self._heal(foreign)
            else:
                changed.clear()
                await self.set_nodes(nodes.list())
                await self._follow_own(nodes.get(self._node_name))

    async def cleanup(self) -> None:
        """Remove every trace: links, routes, rules, the file of addresses."""
        state = await self.iptables.state(*firewall.TABLES)
        transaction = difference(state, {}, owned=firewall.owned)
        for jump in firewall.JUMPS:
            for _ in range(state[jump.table].get(jump.chain, ()).count(jump.rule)):
                transaction.remove(jump.table, jump.chain, jump.rule)
        await self.iptables.apply(transaction)
        await self._in_thread(lambda wiring: wiring.remove_everything())
        self._file.path.unlink(missing_ok=True)
        self._allocator = None
        await self.close()

    async def close(self) -> None:
        """Stop the thread; the network itself stays as it is."""
        if self._wiring:
            await self._in_thread(lambda wiring: wiring.close())
            self._wiring = None
        self._thread.shutdown(wait=False)

    async def _follow_own(self, node: Obj | None) -> None:
        """A node that was deleted and registered again may have another range: serve that one."""
        if node is None or self._allocator is None or not pod_cidr(node) or not internal_ip(node):
            return
        if pod_cidr(node) != str(self._allocator.network) or internal_ip(node) != self._node_ip:
            await self.start(node)
            if stale := self.stale_pods:
                log.error("pods keep addresses of the node's former range until they are made anew", pods=sorted(stale))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _started(self) -> Allocator:
        if not self._allocator:
            raise NetworkError("the pod network of this node is not up yet")
        return self._allocator

    def _ensure_links(self, wiring: Wiring, allocator: Allocator) -> None:
        self._mtu = wiring.uplink(self._node_ip).mtu
        wiring.ensure_bridge(gateway=allocator.gateway, prefix=allocator.network.prefixlen, mtu=self._mtu)
        wiring.ensure_service_device(
            service_cidr=self._service_cidr, source=self._node_ip, addresses=self._local_addresses
        )
        wiring.set_sysctls()

    async def _apply_routes(self) -> None:
        if (routes := self._routes) is None:
            return  # The nodes are not known yet: what a former run has set stays.
        problems = await self._in_thread(lambda wiring: wiring.set_routes(routes))
        for node, why in problems.items():
            if self.problems.get(node) != why:
                log.error("pods of a node cannot be reached", node=node, why=why)
        self.problems = problems

    async def _sync_rules(self) -> None:
        async with self._rules_lock:
            wanted = firewall.chains(
                cluster_cidr=self._cluster_cidr, service_cidr=self._service_cidr, leases=self._started().leases
            )
            try:
                state = await self.iptables.state(*firewall.TABLES)
                await self.iptables.apply(difference(state, wanted, jumps=firewall.JUMPS, owned=firewall.owned))
            except IptablesError as error:
                raise NetworkError(f"cannot write the pod network's rules: {error}") from error

    async def _heal(self, foreign: int) -> int:
        """Put links, routes and rules back; returns the count of foreign changes up to which rules are right."""
        now = self.iptables.foreign_changes()
        try:
            if now != foreign:
                await self._sync_rules()
            if allocator := self._allocator:
                await self._in_thread(lambda wiring: self._ensure_links(wiring, allocator))
            await self._apply_routes()
        except (NetworkError, OSError) as error:
            log.warning("the pod network is not as it should be", error=str(error))
            return foreign
        return now

    async def _in_thread(self, work: Callable[[Wiring], T]) -> T:
        def call() -> T:
            if self._wiring is None:
                self._wiring = Wiring()
            return work(self._wiring)

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
