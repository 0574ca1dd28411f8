"""The agent of one host, put together: every room is handed its neighbours here, and runs under supervision.

Order of life: identity (join) → Node object and heartbeat → network, once the controller has given the node its podCIDR
→ pods and services. What has no need of another part never waits for it: the lease beats on a client of its own.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from agents import mounts
from agents.explain import TracePages
from agents.images.catalogue import Catalogue
from agents.images.keeping import ImageKeeping
from agents.networking import Networking
from agents.node import facts
from agents.node.addresses import OwnAddresses
from agents.node.join import JoinError, ca_of_kubeconfig, join
from agents.node.keyring import CLIENT, Keyring
from agents.node.lease import LeaseHeart
from agents.node.logind import Logind
from agents.node.model import Image, NodeOptions, allocatable, capacity_amounts, node_reference
from agents.node.shutdown import GracefulShutdown, periods_of
from agents.node.signing import CertificateRefused, Rotation
from agents.node.status import NodeReporter
from agents.node.supervise import Supervisor
from agents.options import AgentOptions, version
from agents.pods import PodManager
from agents.pods.environment import Place
from agents.pods.ports import PodsConfig
from agents.pressure import Pressure
from agents.resources.cgroups import Cgroups
from agents.resources.configured import cgroup_settings, cpu_handout, reservations
from agents.resources.cpus import read_topology
from agents.resources.paths import cgroup_version
from agents.resources.reservations import PROCESSES
from agents.running import RunningPods, Unawaited, has_static_pods
from agents.runtime import Runtime
from agents.runtime.kept_logs import KeptLogs
from agents.serving import Serving
from agents.static.feed import PodFeed
from agents.volumes import VolumeManager
from agents.volumes.reclaim import Reclaimer
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.events import EventRecorder
from orca.client.http import HttpsClient
from orca.client.kubeconfig import Kubeconfig, KubeconfigError
from orca.client.late import LateClient
from orca.client.wallclock import WallClock

JOIN_RETRY_SECONDS = 2.0
PARALLEL_API_CALLS = 16
"""A burst of pods would make a connection for each of its calls; each costs both sides a handshake, and memory."""
REMEMBERED_EVENTS = 1024
"""Some of each pod that a host may have."""

log = structlog.get_logger()


class Agent:
    """Everything that runs on one host. `run` until cancelled; containers outlive it."""

    def __init__(self, options: AgentOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._parts = Supervisor(clock)
        self._keyring = Keyring(options.root / "pki")
        self._networking: Networking | None = None
        self._kept_logs = KeptLogs(Path(options.configuration.pod_logs_dir), clock=clock)
        self._pods: RunningPods | None = None
        self._shutdown: GracefulShutdown | None = None

    def __repr__(self) -> str:
        return f"<Agent of {self._options.node_name}>"

    async def run(self) -> None:
        options = self._options
        # Files other than those made for pods are nobody else's business.
        os.umask(0o022)
        options.root.mkdir(mode=0o750, parents=True, exist_ok=True)
        early = has_static_pods(options.configuration)
        api, heart = LateClient(), LateClient()
        runtime = Runtime(options.docker_socket, kept_logs=self._kept_logs)
        self._parts.add("logs of pods that are gone", self._kept_logs.run)
        try:
            if early:
                self._start(api, heart, runtime)
            kubeconfig = await self._identity()
            api.use(self._connect(kubeconfig))
            heart.use(self._connect(kubeconfig))
            if not early:
                self._start(api, heart, runtime)
            if options.kubeconfig is None and options.configuration.rotate_certificates:
                own = Rotation(api, self._keyring, kind=CLIENT, node_name=options.node_name, clock=self._clock)
                self._parts.add("certificate of the client", own.run)
            await asyncio.Event().wait()
        finally:
            await self._parts.stop()
            await runtime.aclose()
            await api.aclose()
            await heart.aclose()

    def host_goes_down(self) -> None:
        """End the pods as when the host says that it is about to go down; for hosts without systemd-logind."""
        if self._shutdown is not None:
            self._shutdown.trigger()

    async def _identity(self) -> Path:
        """The kubeconfig given, or the one that joining gives; joins until it works."""
        options = self._options
        if options.kubeconfig is not None:
            ca = await asyncio.to_thread(ca_of_kubeconfig, options.kubeconfig)
            self._keyring.write(self._keyring.ca, ca)
            return options.kubeconfig
        failure = ""
        while True:
            try:
                return await join(
                    self._keyring,
                    server=options.server,
                    token=options.token,
                    node_name=options.node_name,
                    clock=self._clock,
                    connect=self._connect,
                )
            except (JoinError, ApiError, CertificateRefused) as error:
                if str(error) != failure:
                    failure = str(error)
                    log.warning("cannot join yet", server=options.server, error=failure)
                await self._clock.sleep(JOIN_RETRY_SECONDS)

    def _connect(self, kubeconfig: Path) -> HttpsClient:
        return HttpsClient.from_kubeconfig(
            kubeconfig, agent="orca-agent", clock=self._clock, parallel=PARALLEL_API_CALLS
        )

    def _server(self) -> str:
        """Host of the API server, "" when nobody says."""
        server = self._options.server
        if self._options.kubeconfig is not None:
            try:
                server = Kubeconfig(self._options.kubeconfig).server()
            except KubeconfigError as error:
                log.warning("the kubeconfig cannot be read", error=str(error))
        return urlsplit(server).hostname or ""

    def _start(self, api: Client, heart: Client, runtime: Runtime) -> None:
        """Make every part and start it."""
        options, clock, parts = self._options, self._clock, self._parts
        configuration = options.configuration
        own = OwnAddresses(options.node_ip, self._server)
        node_options = NodeOptions(
            name=options.node_name,
            addresses=own.current,
            version=version(),
            port=configuration.port,
            max_pods=configuration.max_pods,
            pods_per_core=configuration.pods_per_core,
            provider_id=configuration.provider_id,
            register=configuration.register_node,
            max_images=configuration.node_status_max_images,
            labels=options.labels,
            taints=tuple((taint.key, taint.value, taint.effect) for taint in configuration.register_with_taints),
            reservations=reservations(configuration),
            local_storage=configuration.local_storage_capacity_isolation,
            read_only_in_depth=mounts.can_be_read_only_in_depth(),
        )

        host_facts = facts.read_facts(options.root)
        recorder = EventRecorder(
            api,
            "kubelet",
            options.node_name,
            clock=clock,
            qps=configuration.event_record_qps,
            burst=configuration.event_burst,
            remembered=REMEMBERED_EVENTS,
        )
        recorder.yield_to(lambda: self._pods is not None and self._pods.crowded())

        def tell_of_node(warning: bool, reason: str, message: str) -> None:
            kind = "Warning" if warning else "Normal"
            recorder.event(node_reference(options.node_name), kind, reason, message)

        cgroups = Cgroups(
            cgroup_settings(
                configuration,
                root=options.cgroup_parent,
                capacity={**capacity_amounts(host_facts), PROCESSES: facts.most_processes()},
                version=cgroup_version(),
            ),
            clock=clock,
            tell=tell_of_node,
        )

        # Images: who may use them, what is told of them, and which are thrown away.
        images = ImageKeeping(
            configuration,
            root=options.root,
            runtime=runtime,
            pause_image=options.pause_image,
            clock=clock,
            wanted=lambda: self._pods.wanted_images() if self._pods else (),
            tell=lambda reason, message: tell_of_node(True, reason, message),
            changed=lambda: reporter.poke(),
        )
        parts.add("images", images.catalogue.run)
        parts.add("image garbage", images.collector.run)

        # What is used, and what happens when it is too much.
        pressure = Pressure(
            configuration,
            options.node_name,
            root=options.root,
            runtime=runtime,
            cgroups=cgroups,
            manager=lambda: self._pods.manager if self._pods else None,
            recorder=recorder,
            clock=clock,
            changed=lambda: reporter.poke(),
            reclaims=(self._kept_logs.clear, images.collector.delete_unused),
        )
        parts.add("eviction", pressure.eviction.run)

        cpus = cpu_handout(configuration, options.root, read_topology)

        shutdown = self._shutdown = GracefulShutdown(
            periods_of(configuration),
            options.node_name,
            lambda: self._pods,
            root=options.root,
            clock=clock,
            recorder=recorder,
            connect=Logind,
            changed=lambda: reporter.poke(),
        )
        if periods_of(configuration):
            parts.add("graceful shutdown", shutdown.run)

        # Identity and signs of life.
        reporter = NodeReporter(
            heart,
            node_options,
            root=options.root,
            clock=clock,
            engine_version=lambda: _engine_version(runtime),
            images=lambda: _images(images.catalogue),
            runtimes=lambda: _runtimes(runtime),
            problems=(self._network_problem, shutdown.problem),
            pressure=lambda: pressure.eviction.conditions,
            tell=tell_of_node,
            addresses=own,
            update_seconds=configuration.node_status_update_frequency,
            report_seconds=configuration.node_status_report_frequency,
        )
        parts.add("node", reporter.run)
        lease = LeaseHeart(heart, options.node_name, clock=clock, duration=configuration.node_lease_duration_seconds)
        parts.add("lease", lease.run)

        networking = self._networking = Networking(
            options,
            api,
            lease,
            trust=lambda: Kubeconfig(options.kubeconfig or self._keyring.kubeconfig).load().ssl,
            recorder=recorder,
            pods=lambda: self._pods,
            clock=clock,
            changed=lambda: reporter.poke(),
        )
        for what, part in networking.parts().items():
            parts.add(what, part)

        # Volumes and pods.
        nodes, services = networking.nodes, networking.services
        amounts = allocatable(node_options, host_facts)
        volumes = VolumeManager(
            api,
            root=options.root,
            clock=clock,
            place=lambda pod: Place(options.node_name, own.current, (), amounts),
            node=lambda: nodes.get(options.node_name),
        )
        parts.add("volumes", volumes.run)
        reclaimer = Reclaimer(api, options.node_name, exports=volumes.exports, recorder=recorder, clock=clock)
        parts.add("volume reclaim", reclaimer.run)

        def make_pods(feed: PodFeed) -> PodManager:
            feed.on_update(lambda _, new: volumes.update(new))
            networking.policies.follow(feed.api)
            return PodManager(
                pods=feed,
                records=feed,
                client=api,
                runtime=runtime,
                network=networking.for_pods,
                volumes=volumes,
                traffic=networking.release,
                recorder=recorder,
                config=PodsConfig(
                    node_name=options.node_name,
                    host_ips=own.current,
                    root=options.root,
                    pause_image=options.pause_image,
                    cgroup_parent=options.cgroup_parent,
                    cpu_period=cgroups.settings.rules.period if cgroups.settings.rules.quota else 0,
                    cluster_dns=configuration.cluster_dns,
                    cluster_domain=configuration.cluster_domain,
                    resolv_conf=Path(configuration.resolv_conf) if configuration.resolv_conf else None,
                    seccomp_default=configuration.seccomp_default,
                    unsafe_sysctls=configuration.allowed_unsafe_sysctls,
                    log_max_size=str(configuration.container_log_max_size.integer),
                    log_max_files=configuration.container_log_max_files,
                    resync_seconds=configuration.sync_frequency,
                    longest_restart_delay=configuration.crash_loop_back_off.max_container_restart_period,
                ),
                clock=clock,
                services=Unawaited(services),
                node=lambda: nodes.get(options.node_name),
                cgroups=cgroups,
                cpus=cpus,
                objection=lambda pod: shutdown.objection(pod) or pressure.eviction.objection(pod),
                images=images.services,
                pulled=feed.pulled,
            )

        pods = self._pods = RunningPods(
            api,
            configuration,
            options.node_name,
            make_pods,
            root=options.root,
            clock=clock,
            services=services,
            nodes=nodes,
            recorder=recorder,
        )

        async def run_pods() -> None:
            if not has_static_pods(configuration):
                await networking.up.wait()
            await pods.run()

        parts.add("pods", run_pods)
        parts.add("wall clock", WallClock(clock, pods.clock_moved).run)

        # The server, with its certificate.
        serving = Serving(
            api,
            configuration,
            options.node_name,
            pods,
            runtime,
            self._keyring,
            clock=clock,
            version=version(),
            names=(options.node_name, *own.current),
            pages={
                **pressure.pages(host_facts, lambda: reporter.engine),
                **networking.pages(),
            },
            shutdown=lambda: shutdown.times,
            evictions=lambda: pressure.eviction.evictions,
            claims=pressure.collector.claims,
            debugging=TracePages(
                pods,
                root=options.root,
                proxy=networking.proxy,
                policies=lambda: networking.policies.policies,
                namespaces=networking.namespaces,
            ).routes(),
        )
        for what, part in serving.parts().items():
            parts.add(what, part)
        own.on_change(lambda addresses: serving.rename((options.node_name, *addresses)))
        own.on_change(lambda addresses: pods.manager.host_is_at(addresses) if pods.manager else None)

    def _network_problem(self) -> str | None:
        return self._networking.problem() if self._networking is not None else None


async def _engine_version(runtime: Runtime) -> str:
    answer: Obj = await runtime.engine.call("GET", "/version", seconds=5)
    return str(answer["Version"])


async def _runtimes(runtime: Runtime) -> tuple[str, ...]:
    return (await runtime.abilities()).runtimes


async def _images(catalogue: Catalogue) -> list[Image]:
    return [Image((*image.digests, *image.tags), image.size) for image in await catalogue.images()]
