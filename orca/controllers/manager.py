"""Runs all controllers beside each other while this process is leader."""

import asyncio
from datetime import timedelta
from math import inf

import structlog

from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.wallclock import WallClock
from orca.controllers.admissionpolicies import ValidatingAdmissionPolicyStatusController
from orca.controllers.bootstraptokens import BootstrapTokenCleaner
from orca.controllers.cache import Caches
from orca.controllers.certificates import CertificatesController
from orca.controllers.clusterroles import ClusterRoleAggregationController
from orca.controllers.config import ControllersConfig
from orca.controllers.cronjob import CronJobController
from orca.controllers.daemonset import DaemonSetController
from orca.controllers.deployment import DeploymentController
from orca.controllers.disruption import DisruptionController
from orca.controllers.endpoints import (
    EndpointsController,
    EndpointSliceController,
    EndpointSliceMirroringController,
)
from orca.controllers.ephemeralvolumes import EphemeralVolumeController
from orca.controllers.garbage import GarbageCollector
from orca.controllers.harness import BaseController, Context
from orca.controllers.horizontalpodautoscaler import HorizontalPodAutoscalerController
from orca.controllers.job import JobController
from orca.controllers.legacytokens import LegacyTokenCleaner
from orca.controllers.loadbalancers import LoadBalancerController
from orca.controllers.namespacedefaults import RootCAController, ServiceAccountsController
from orca.controllers.namespaces import NamespaceController
from orca.controllers.nodes import NodeIpamController, NodeLifecycleController, TaintEvictionController
from orca.controllers.persistentvolume import PersistentVolumeBinder, PersistentVolumeClaimBinder
from orca.controllers.podgc import PodGarbageCollector
from orca.controllers.replicaset import ReplicaSetController, ReplicationControllerController
from orca.controllers.resourcequota import ResourceQuotaController
from orca.controllers.servicecidrs import ServiceCIDRController
from orca.controllers.statefulset import StatefulSetController
from orca.controllers.storageprotection import (
    AttributesClassProtectionController,
    ClaimProtectionController,
    VolumeProtectionController,
)
from orca.controllers.tokensecrets import TokenSecretsController
from orca.controllers.ttlafterfinished import TTLAfterFinishedController

log = structlog.get_logger()

FIRST_RESTART, LAST_RESTART = 1.0, 60.0


CONTROLLERS: tuple[type[BaseController], ...] = (
    DeploymentController,
    ReplicaSetController,
    ReplicationControllerController,
    EndpointSliceController,
    EndpointsController,
    NamespaceController,
    ServiceAccountsController,
    RootCAController,
    TokenSecretsController,
    LegacyTokenCleaner,
    GarbageCollector,
    PodGarbageCollector,
    NodeIpamController,
    NodeLifecycleController,
    TaintEvictionController,
    CertificatesController,
    BootstrapTokenCleaner,
    EndpointSliceMirroringController,
    ClusterRoleAggregationController,
    DisruptionController,
    TTLAfterFinishedController,
    DaemonSetController,
    JobController,
    CronJobController,
    StatefulSetController,
    HorizontalPodAutoscalerController,
    ResourceQuotaController,
    EphemeralVolumeController,
    PersistentVolumeClaimBinder,
    PersistentVolumeBinder,
    ClaimProtectionController,
    VolumeProtectionController,
    AttributesClassProtectionController,
    ServiceCIDRController,
    LoadBalancerController,
    ValidatingAdmissionPolicyStatusController,
)


async def run_all(client: Client, *, clock: Clock, config: ControllersConfig) -> None:
    """Runs every controller until cancelled; call it only while holding leadership.

    All work is level-triggered: it may be cancelled at any point and started again here or elsewhere. `client` is an
    administrator's. An error of one controller is logged, and that controller started again with growing pauses; the
    others do not notice. Returns never; raises only CancelledError.
    """
    context = Context(client, clock, config, Caches(client, clock))
    controllers = [kind(context) for kind in CONTROLLERS if kind.name not in config.disabled]

    def clock_set(_by: timedelta) -> None:
        for controller in controllers:
            controller.clock_set()

    async with asyncio.TaskGroup() as group:
        group.create_task(context.caches.run(), name="caches")
        group.create_task(WallClock(clock, clock_set, looking=True).run(), name="wall clock")
        group.create_task(context.awake.keep(), name="awake")
        log.info("controllers start", controllers=[controller.name for controller in controllers])
        for controller in controllers:
            group.create_task(_keep_running(controller, clock), name=controller.name)


async def _keep_running(controller: BaseController, clock: Clock) -> None:
    pause = FIRST_RESTART
    await _filled(controller, clock)
    while True:
        started = clock.monotonic()
        try:
            await controller.run()
            log.error("controller ended, starting it again", controller=controller.name)
        except Exception:
            log.exception("controller crashed, starting it again", controller=controller.name)
        if clock.monotonic() - started > LAST_RESTART:
            pause = FIRST_RESTART
        await clock.sleep(pause)
        pause = min(pause * 2, LAST_RESTART)


async def _filled(controller: BaseController, clock: Clock) -> None:
    """Returns when all caches it uses have their first list; custom kinds are waited for as long as it has patience."""
    if controller.patience == inf:
        await controller.caches.synced()
        return

    async def enough() -> None:
        await clock.sleep(controller.patience)
        await controller.caches.synced(custom=False)

    waits = {asyncio.create_task(controller.caches.synced()), asyncio.create_task(enough())}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    missing = controller.caches.missing()
    if missing:
        log.warning("controller starts without what cannot be read", controller=controller.name, resources=missing)
