"""The node's sign of life: a Lease in kube-node-lease, renewed four times in its duration (every 10 s).

It runs on a client of its own and waits for nobody: a pod, image or engine that hangs must not make the node look dead.
A host that announces addresses for the cluster renews more often (`LeaseHeart.hurry`), so that they move in seconds.
"""

from __future__ import annotations

import asyncio
import copy

import structlog

from orca.api.builtin import LEASES, NODES
from orca.api.errors import ApiError, is_already_exists, is_conflict, is_not_found
from orca.api.objects import Obj
from orca.api.times import format_micro
from orca.client.base import Client
from orca.client.clock import Clock, rest

NAMESPACE = "kube-node-lease"
RENEWED_AFTER = 0.25
"""Part of the lease's duration."""
RETRY_SECONDS = 1.0
HURRIED_SECONDS = 2.0

log = structlog.get_logger()


class LeaseHeart:
    """Keeps the Lease renewed until cancelled."""

    def __init__(self, client: Client, node_name: str, *, clock: Clock, duration: int = 40) -> None:
        """``duration``: seconds after which a node that was not heard of may be taken for lost."""
        self._client = client
        self._node_name = node_name
        self._clock = clock
        self._duration = duration
        self._last: Obj | None = None
        self._hurried = False
        self._wake = asyncio.Event()
        self._renewed_at = clock.monotonic()

    def __repr__(self) -> str:
        return f"<LeaseHeart {self._node_name}>"

    def hurry(self, wanted: bool) -> None:
        """Renew every two seconds from now on, or no more often than usual again."""
        if wanted and not self._hurried:
            self._wake.set()
        self._hurried = wanted

    @property
    def silent_seconds(self) -> float:
        """Since the last renewal that succeeded began (before the first: since the start)."""
        return self._clock.monotonic() - self._renewed_at

    async def run(self) -> None:
        failing = False
        while True:
            try:
                began = self._clock.monotonic()
                await self.beat()
                self._renewed_at = began
                if failing:
                    log.info("the node's lease is renewed again", node=self._node_name)
                failing, pause = False, self._duration * RENEWED_AFTER
                pause = min(pause, HURRIED_SECONDS) if self._hurried else pause
            except ApiError as error:
                self._last = None
                if not failing:
                    log.warning("cannot renew the node's lease", node=self._node_name, error=error.message)
                failing, pause = True, RETRY_SECONDS
            self._wake.clear()
            await rest(self._clock, pause, self._wake)

    async def beat(self) -> None:
        """Renew once; makes the Lease when there is none. Raises ApiError."""
        if self._last is None:
            try:
                self._last = await self._client.get(LEASES, self._node_name, NAMESPACE)
            except ApiError as error:
                if not is_not_found(error):
                    raise
        renewed = await self._renewed()
        try:
            if self._last is None:
                self._last = await self._client.create(LEASES, renewed, NAMESPACE)
            else:
                self._last = await self._client.update(LEASES, renewed)
        except ApiError as error:
            if not (is_conflict(error) or is_already_exists(error) or is_not_found(error)):
                raise
            # Somebody else wrote or removed it: look again at once.
            self._last = None
            raise

    async def _renewed(self) -> Obj:
        lease: Obj = (
            copy.deepcopy(self._last)
            if self._last
            else {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._node_name, "namespace": NAMESPACE},
                "spec": {},
            }
        )
        lease["spec"] |= {
            "holderIdentity": self._node_name,
            "leaseDurationSeconds": self._duration,
            "renewTime": format_micro(self._clock.now()),
        }
        if not lease["metadata"].get("ownerReferences"):
            # Owned by the Node, so that it goes when the node is removed. No Node yet: no owner yet.
            try:
                node = await self._client.get(NODES, self._node_name)
            except ApiError as error:
                if not is_not_found(error):
                    raise
            else:
                lease["metadata"]["ownerReferences"] = [
                    {"apiVersion": "v1", "kind": "Node", "name": self._node_name, "uid": node["metadata"]["uid"]}
                ]
        return lease
