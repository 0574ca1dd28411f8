"""`CniNetwork`: pods wired by the plugins of a directory; the methods of `agents.network.PodNetwork`.

Ways between hosts, addresses, host ports and bandwidth are the plugins' business. The device behind the services and
the rules that let pods' packets pass are ours, as with the own network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from agents.inotify import DirectoryWatch
from agents.network.addresses import HostPort
from agents.network.bandwidth import Bandwidth, bandwidth_of
from agents.network.cni import chain
from agents.network.cni.configs import NetworkConfig, first_network
from agents.network.cni.flannel import FlannelError
from agents.network.cni.plugins import PluginError, Plugins
from agents.network.cni.records import Record, Records, inode_of, netns_path
from agents.network.host import HostSide
from agents.network.iptables import Iptables
from agents.network.options import NetworkOptions
from agents.network.ranges import family_of
from agents.network.routes import internal_ips, pod_cidrs
from agents.network.wiring import NetworkError, Wiring
from orca.api.objects import Obj
from orca.client.informer import Informer

HEAL_SECONDS = 3.0
NOT_INITIALIZED = "cni plugin not initialized"
_NO_BURST_LIMIT = (1 << 31) - 1

log = structlog.get_logger()


class CniNetwork:
    """See the module. ``options`` say where configurations and programs are; records are kept below ``root``.
    ``changed`` is called when ``trouble`` has changed."""

    def __init__(
        self,
        root: Path | str,
        node_name: str,
        *,
        options: NetworkOptions,
        cluster_cidr: str = "10.244.0.0/16",
        service_cidr: str = "10.96.0.0/16",
        local_addresses: Sequence[str] = ("10.96.0.10",),
        iptables: Iptables | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._tell = changed
        self._host = HostSide(
            cluster_cidr=cluster_cidr,
            service_cidr=service_cidr,
            local_addresses=local_addresses,
            iptables=iptables,
            masquerade=False,
        )
        self.iptables = self._host.iptables
        self._node_name = node_name
        self._directory = options.cni_conf_dir
        self._plugins = Plugins(options.cni_bin_dirs)
        self._records = Records(Path(root))
        self._loaded = False
        self._config: NetworkConfig | None = None
        self._told: dict[str, str] = {}
        self._pod_locks: dict[str, asyncio.Lock] = {}
        self._standing: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        """(the node's addresses, its pod ranges)"""
        self._started = False
        self._changed = asyncio.Event()
        self._watch: DirectoryWatch | None = None
        self._followed: Informer | None = None
        self.problems: dict[str, str] = {}

    def __repr__(self) -> str:
        network = self._config.name if self._config else "no network"
        return f"<CniNetwork {network}, {len(self._records.by_uid)} pods>"

    @property
    def ready(self) -> bool:
        return self._started

    @property
    def trouble(self) -> str:
        """Why no pod can be wired now, "" when one can: for the node's Ready condition."""
        return "" if self._config else NOT_INITIALIZED

    @property
    def stale_pods(self) -> set[str]:
        """None: addresses are the plugins' business."""
        return set()

    async def start(self, node: Obj) -> None:
        """May be called again at any time. Raises ``NetworkError``: there is no network yet, or the host lacks
        something."""
        if not self._loaded:
            await asyncio.to_thread(self._records.load)
            self._loaded = True
        addresses = self._host.usable(internal_ips(node))
        if not addresses:
            raise NetworkError(f"node {self._node_name} has no InternalIP yet")
        self._standing = (addresses, pod_cidrs(node))
        try:
            await self._host.in_thread(self._ensure_links)
        except OSError as error:
            raise NetworkError(f"cannot set up the host's links: {error.strerror or error}") from error
        await self._host.sync_rules({})
        await self._load()
        if self._config is None:
            raise NetworkError(NOT_INITIALIZED)
        self._started = True

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
        """Have the plugins wire the namespace of process ``netns_pid``; the pod's addresses, the same ones when called
        again for the same sandbox. Raises ``NetworkError``."""
        async with self._pod_locks.setdefault(pod_uid, asyncio.Lock()):
            path = netns_path(netns_pid)
            inode = await asyncio.to_thread(inode_of, path)
            if not inode:
                raise NetworkError(f"the sandbox process {netns_pid} is gone")
            held = self._records.by_uid.get(pod_uid)
            same = held is not None and (held.sandbox, held.inode) == (sandbox_id, inode)
            if held is not None and same and held.result is not None and await self._is_right(pod_uid, held):
                return self._ordered(held.result)
            if held is not None:
                # Of a sandbox that is gone, or not done when an agent ended.
                await self._take_away(pod_uid, held)
            try:
                capabilities = self._capabilities(host_ports, bandwidth_of(annotations or {}), annotations or {})
            except ValueError as error:  # of a host port, or the BandwidthError of an annotation
                raise NetworkError(str(error)) from error
            return await self._add(pod_uid, netns_pid, inode, sandbox_id, (hostname, namespace), capabilities)

    async def detach(self, pod_uid: str) -> None:
        """Have the plugins take everything of the pod away; harmless when there is nothing. Raises ``NetworkError``."""
        async with self._pod_locks.setdefault(pod_uid, asyncio.Lock()):
            if held := self._records.by_uid.get(pod_uid):
                await self._take_away(pod_uid, held)
            else:
                await self._host.in_thread(lambda wiring: wiring.unplug(pod_uid))  # one of the own network's
        self._pod_locks.pop(pod_uid, None)

    async def reconcile(self, live: Collection[str]) -> None:
        """Free what belongs to no live pod (uids)."""
        for uid in set(self._records.by_uid) - set(live):
            log.info("removing what a gone pod left", pod=uid)
            try:
                await self.detach(uid)
            except NetworkError as error:
                log.warning("what a gone pod left cannot be removed", pod=uid, error=str(error))
        # Of pods that the own network wired before this host was changed to CNI.
        await self._host.in_thread(lambda wiring: wiring.retire(live))

    async def run(self, nodes: Informer) -> None:
        """Follow the directory, and put back what is ours. Runs until cancelled; call ``start`` before."""
        if self._followed is not nodes:
            self._followed = nodes
            nodes.on_change(lambda _: self._changed.set())
        foreign = self.iptables.foreign_changes()
        try:
            while True:
                self._watch_directory()
                try:
                    async with asyncio.timeout(HEAL_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    foreign = await self._heal(foreign)
                else:
                    self._changed.clear()
                    await self._load()
                    if node := nodes.get(self._node_name):
                        self._standing = (self._standing[0], pod_cidrs(node))
        finally:
            self._unwatch()

    async def cleanup(self) -> None:
        """Remove every trace: what plugins made, links and rules of ours, records."""
        await asyncio.to_thread(self._records.load)
        await self.reconcile(())
        await self._host.remove_rules()
        await self._host.in_thread(lambda wiring: wiring.remove_everything())
        await self.close()

    async def close(self) -> None:
        """Stop the thread; the network itself stays as it is."""
        await self._host.close()

    # --- pods --------------------------------------------------------------------------------------------------------

    async def _add(
        self,
        uid: str,
        pid: int,
        inode: int,
        sandbox: str,
        names: tuple[str, str],
        capabilities: Mapping[str, Any],
    ) -> list[str]:
        pod, namespace = names
        if self._config is None:
            raise NetworkError(NOT_INITIALIZED)
        try:
            network = await asyncio.to_thread(chain.resolved, self._config, self._plugins)
            # Before anything is made that could not be taken away again.
            await asyncio.to_thread(self._plugins.require, [str(plugin["type"]) for plugin in network.plugins])
            record = Record(network, sandbox, pod, namespace, pid, inode, capabilities)
            await asyncio.to_thread(self._records.save, uid, record)
            await self._host.in_thread(lambda wiring: wiring.loopback_up(pid))
            result = await chain.add(self._plugins, network, record.attachment(uid))
            addresses = self._ordered(result)
            await asyncio.to_thread(self._records.save, uid, record.done(result))
        except (PluginError, FlannelError, OSError) as error:
            if held := self._records.by_uid.get(uid):
                await self._undo(uid, held)
            raise NetworkError(
                f'networkPlugin cni failed to set up pod "{pod}_{namespace}" network: {error}'
            ) from error
        return addresses

    async def _undo(self, uid: str, record: Record) -> None:
        """Take back half a pod; what resists is tried again before the next try, or when the pod goes."""
        try:
            await self._take_away(uid, record)
        except NetworkError as error:
            log.warning("half of a pod's network cannot be taken back yet", pod=record.pod, error=str(error))

    async def _take_away(self, uid: str, record: Record) -> None:
        try:
            await chain.delete(self._plugins, record.network, record.attachment(uid), record.result)
            await asyncio.to_thread(self._records.forget, uid)
        except (PluginError, OSError) as error:
            raise NetworkError(
                f'networkPlugin cni failed to teardown pod "{record.pod}_{record.namespace}" network: {error}'
            ) from error

    async def _is_right(self, uid: str, record: Record) -> bool:
        """False when a plugin says that something is not as it left it. One that crashes says nothing (that of
        bandwidth does, in version 1.1.1, for pods without), and running pods are not disturbed for that."""
        try:
            await chain.check(self._plugins, record.network, record.attachment(uid), record.result or {})
        except PluginError as error:
            event = "a pod's network is not as it was made; it is made anew"
            log.warning(event if error.verdict else "a CNI plugin cannot check", pod=record.pod, error=str(error))
            return not error.verdict
        return True

    def _capabilities(
        self, host_ports: Sequence[Any], bandwidth: Bandwidth, annotations: Mapping[str, str]
    ) -> dict[str, Any]:
        """What plugins get that ask for it, as kubelets' runtimes hand it on."""
        found: dict[str, Any] = {"io.kubernetes.cri.pod-annotations": dict(annotations)}
        ports = [HostPort.of(port) for port in host_ports if isinstance(port, HostPort) or port.get("hostPort")]
        if ports:
            found["portMappings"] = [
                {
                    "hostPort": port.host_port,
                    "containerPort": port.container_port,
                    "protocol": port.protocol.lower(),
                    "hostIP": port.host_ip,
                }
                for port in ports
            ]
        if bandwidth:
            limits: dict[str, int] = {}
            for direction, rate in (("ingress", bandwidth.ingress), ("egress", bandwidth.egress)):
                if rate:
                    limits |= {f"{direction}Rate": rate, f"{direction}Burst": _NO_BURST_LIMIT}
            found["bandwidth"] = limits
        if self._standing[1]:
            found["ipRanges"] = [[{"subnet": cidr}] for cidr in self._standing[1]]
        return found

    def _ordered(self, result: Obj) -> list[str]:
        """A pod's addresses, those of the node's primary family first. Raises ``PluginError``."""
        addresses = chain.addresses_in(result)
        if not addresses:
            raise PluginError("the network's result has no address")
        primary = family_of(self._standing[0][0]) if self._standing[0] else 4
        return sorted(addresses, key=lambda ip: family_of(ip) != primary)

    # --- the host ----------------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        """Look at the directory again."""
        config, problems = await asyncio.to_thread(first_network, self._directory)
        if problems != self._told:
            self._told = problems
            for file, why in problems.items():
                log.warning("a network configuration cannot be used", file=str(self._directory / file), error=why)
        if config is not None and config != self._config:
            try:
                await chain.status(self._plugins, config)
            except PluginError as error:
                log.warning("the network's plugins are not ready", network=config.name, error=str(error))
                config = None
            else:
                log.info("pods are wired by CNI plugins", network=config.name, version=config.version)
        before, self._config = self._config, config
        if (before is None) != (config is None):
            self._tell()

    def _watch_directory(self) -> None:
        """Be told of changes; a directory that is not there yet is looked for at every round."""
        if self._watch is not None and self._directory.is_dir():
            return
        self._unwatch()
        try:
            self._watch = DirectoryWatch(self._directory, self._changed.set)
        except OSError:
            return
        self._changed.set()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _ensure_links(self, wiring: Wiring) -> None:
        wiring.retire()
        addresses = self._standing[0]
        families = {family_of(ip) for ip in (*addresses, *self._host.usable(self._standing[1]))}
        self._host.ensure_services(wiring, sources=addresses, families=families)

    async def _heal(self, foreign: int) -> int:
        """Put links and rules of ours back; returns the count of foreign changes up to which rules are right."""
        now = self.iptables.foreign_changes()
        try:
            if now != foreign:
                await self._host.sync_rules({})
            await self._host.in_thread(self._ensure_links)
        except (NetworkError, OSError) as error:
            log.warning("the host's network is not as it should be", error=str(error))
            return foreign
        if self._config is None:
            await self._load()
        return now
