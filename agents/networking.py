"""All that is between the pods of this host and everybody else: network, services, policies, names, addresses.

Made and wired here; each part has its own room. The network starts when the node has its podCIDR, everything else at
once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
from aiohttp import web

from agents.balancer import Announcer
from agents.dns import METRICS_PATH as DNS_METRICS_PATH
from agents.dns import DnsPages, DnsServer, settings_informer
from agents.network import NetworkError, PodNetwork, make_network, node_annotations
from agents.network.wiring import LINK_PREFIX
from agents.node.lease import LeaseHeart
from agents.node.memory import NodeMemory
from agents.node.model import node_reference
from agents.options import AgentOptions
from agents.policy.keeper import NetworkPolicies
from agents.policy.kernel import Nft
from agents.proxy import Proxy
from agents.proxy.healthz import ProxyHealth
from agents.proxy.pages import METRICS_PATH as PROXY_METRICS_PATH
from agents.proxy.pages import ProxyPages
from agents.proxy.release import PATH as RELEASED_PATH
from agents.proxy.release import Release
from agents.proxy.status import ProxyStatus
from agents.proxy.tracking import keep_connections
from agents.running import RunningPods
from orca.api.builtin import ENDPOINTSLICES, NAMESPACES, NODES, SERVICES
from orca.api.objects import name
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.events import EventRecorder
from orca.client.informer import Informer

RETRY_SECONDS = 0.5
NODE_PATIENCE_SECONDS = 3.0

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


class Networking:
    """``up`` is set once pods can be wired; ``for_pods`` wires them, ``release`` takes them out of services.

    ``trust`` is what this agent proves itself with to other agents, ``changed`` is called when ``problem`` may say
    something new.
    """

    def __init__(
        self,
        options: AgentOptions,
        api: Client,
        lease: LeaseHeart,
        *,
        trust: Callable[[], ssl.SSLContext | None],
        recorder: EventRecorder,
        pods: Callable[[], RunningPods | None],
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        configuration = options.configuration
        self._options = options
        self._pods = pods
        self._clock = clock
        self._changed = changed
        self._problem: str | None = None
        self.up = asyncio.Event()
        # Caches that several parts read.
        self.nodes, self.services, self.slices, self.namespaces = (
            Informer(api, resource, clock=clock) for resource in (NODES, SERVICES, ENDPOINTSLICES, NAMESPACES)
        )
        self._dns_settings = settings_informer(api, clock)
        self._network = make_network(
            options.network,
            options.root,
            options.node_name,
            cluster_cidr=options.cluster_cidr,
            service_cidr=options.service_cidr,
            local_addresses=configuration.cluster_dns,
            clock=clock,
            publish=node_annotations(api, options.node_name),
            changed=changed,
        )
        self.proxy = Proxy(
            self.services,
            self.slices,
            options.node_name,
            mode=options.proxy_mode,
            host=options.services,
            nodes=self.nodes,
            local_addresses=configuration.cluster_dns,
            iptables=self._network.iptables,
            clock=clock,
        )
        self._proxy_health = ProxyHealth(
            lambda: self.proxy.standing, lambda: self.nodes.get(options.node_name), clock=clock
        )
        self._proxy_pages = ProxyPages(self.proxy)
        self._proxy_status = ProxyStatus(lambda: self.proxy.mode, self._proxy_pages.metrics, clock=clock)
        self.policies = NetworkPolicies(
            api,
            self.namespaces,
            kernel=Nft(self._network.iptables.own_commits),
            dns=configuration.cluster_dns,
            ports=LINK_PREFIX if isinstance(self._network, PodNetwork) else "",
            find=lambda pod_uid: found.object(pod_uid) if (found := pods()) is not None else None,
            recorder=recorder,
            node=node_reference(options.node_name),
            clock=clock,
        )
        self.for_pods = self.policies.guarding(self._network)
        self._balancer = Announcer(self.services, options.node_name, lease, root=options.root, clock=clock)
        self.release = Release(self.proxy, self.nodes, options.node_name, trust=trust, clock=clock)
        self._dns = DnsServer(
            self.services,
            self.slices,
            namespaces=self.namespaces,
            settings=self._dns_settings,
            addresses=configuration.cluster_dns,
            domain=configuration.cluster_domain,
            local_ranges=f"{options.cluster_cidr},{options.service_cidr}".split(","),
            resolv_conf=Path(configuration.resolv_conf or "/etc/resolv.conf"),
            keep=options.root / "dns",
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"<Networking {self._network!r}, {self.proxy!r}>"

    def parts(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """What runs, by name."""
        informers = (self.nodes, self.services, self.slices, self.namespaces, self._dns_settings)
        return {
            **{f"informer {informer.resource.plural}": informer.run for informer in informers},
            "network": self._run_network,
            "proxy": self.proxy.run,
            "health of the proxy": self._proxy_health.run,
            "mode of the proxy": self._proxy_status.run,
            "connection tracking": self._keep_connections,
            "network policies": self.policies.run,
            "announcing": self._balancer.run,
            "dns": self._dns.run,
        }

    def pages(self) -> Mapping[str, Page]:
        """What the agent's server answers from here, by path."""
        return {
            RELEASED_PATH: self.release.serve,
            DNS_METRICS_PATH: DnsPages(self._dns).metrics,
            PROXY_METRICS_PATH: self._proxy_pages.metrics,
        }

    def problem(self) -> str | None:
        """Why pods cannot be wired, "" when they can; None until the first attempt to start the network is over."""
        problem = self._network.trouble if self._problem == "" else self._problem
        if not problem:
            return problem
        return (
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
            f"message:docker: network plugin is not ready: {problem}"
        )

    async def _keep_connections(self) -> None:
        """By then rules look at connections, so that the kernel has the settings."""
        await self.proxy.synced()
        await asyncio.to_thread(keep_connections)
        await asyncio.Event().wait()

    async def _run_network(self) -> None:
        """Start the network as soon as the node has what it needs, then keep it."""
        nodes, network = self.nodes, self._network
        kept = NodeMemory(self._options.root)
        try:
            async with asyncio.timeout(NODE_PATIENCE_SECONDS):
                await nodes.synced()
        except TimeoutError:
            log.warning("the server does not tell of this node; the pod network starts as it was last")
        while not network.ready:
            node = nodes.get(self._options.node_name) or (None if nodes.is_synced else await kept.read())
            try:
                if node is not None:
                    await network.start(node)
                    break
            except NetworkError as error:
                if str(error) != self._problem:
                    log.info("the pod network is not up yet", reason=str(error))
                    self._changed()
                self._problem = str(error)
            await self._clock.sleep(RETRY_SECONDS)
        self._problem = ""
        self.up.set()
        self._changed()
        pods = self._pods()
        if pods is not None:
            await pods.network_came_up()
        nodes.on_change(lambda node: kept.keep(node) if name(node) == self._options.node_name else None)
        await network.run(nodes)
