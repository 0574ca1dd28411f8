"""Each server shows itself as a Lease in kube-system, and takes those away that nobody renews any more.

Reference: k8s.io/kubernetes ``pkg/controlplane/apiserver/server.go`` (APIServerIdentity) and ``apiserverleasegc``.
"""

from __future__ import annotations

import asyncio
import random
import socket
from datetime import datetime, timedelta

import structlog

from orca.api.builtin import LEASES
from orca.api.errors import ApiError, is_already_exists, is_conflict, is_not_found
from orca.api.names import label_value
from orca.api.objects import Obj, name, uid
from orca.api.times import format_micro, parse_time
from orca.client.base import Client
from orca.client.clock import Clock
from orca.server.identifiers import new_uid, server_identity

log = structlog.get_logger()

SPACE = "kube-system"
LABEL, COMPONENT = "apiserver.kubernetes.io/identity", "kube-apiserver"
DURATION_SECONDS = 3600
RENEW_SECONDS = 10.0
JITTER = 0.04
COLLECT_SECONDS = 3600.0
END_SECONDS = 2.0


class IdentityLease:
    """``run`` renews it until cancelled, ``collect`` looks after those of others, ``end`` takes it back."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._name = server_identity()
        self._holder = f"{self._name}_{new_uid()}"
        self._begun = False

    def __repr__(self) -> str:
        return f"<IdentityLease {self._holder}>"

    async def run(self) -> None:
        """Until cancelled."""
        failing = False
        while True:
            try:
                await self._renew()
                failing = False
            except ApiError as error:
                if not failing:
                    log.warning("the lease that shows this server cannot be renewed", error=error.message)
                failing = True
            await self._clock.sleep(RENEW_SECONDS * (1 + JITTER * random.random()))

    async def _renew(self) -> None:
        held = await self._held()
        if held is not None and not self._begun and _holder(held) != self._holder:
            # Of the server that ran here before, whose age is not ours. Another one that runs here as well shares it.
            await self._remove(held)
            held = None
        try:
            if held is None:
                await self._client.create(LEASES, self._lease(), SPACE)
            else:
                renewed = {**held["spec"], **self._renewed()}
                await self._client.update(LEASES, {**held, **_labelled(held), "spec": renewed})
        except ApiError as error:
            if not (is_conflict(error) or is_not_found(error) or is_already_exists(error)):
                raise  # who changed, removed or made it meanwhile sees it renewed in a moment
        self._begun = True

    async def _held(self) -> Obj | None:
        try:
            return await self._client.get(LEASES, self._name, SPACE)
        except ApiError as error:
            if is_not_found(error):
                return None
            raise

    def _lease(self) -> Obj:
        lease: Obj = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": SPACE},
            "spec": {"holderIdentity": self._holder, **self._renewed()},
        }
        return {**lease, **_labelled(lease)}

    def _renewed(self) -> Obj:
        return {"leaseDurationSeconds": DURATION_SECONDS, "renewTime": format_micro(self._clock.now())}

    async def _remove(self, lease: Obj) -> None:
        try:
            await self._client.delete(LEASES, name(lease), SPACE, uid=uid(lease))
        except ApiError as error:
            if not is_not_found(error) and not is_conflict(error):
                raise

    async def collect(self) -> None:
        """Until cancelled, once an hour, as upstream: what is over goes, and what does not say when it is."""
        while True:
            try:
                found = await self._client.list(LEASES, SPACE, labels=f"{LABEL}={COMPONENT}")
                for lease in found.items:
                    if is_over(lease, self._clock.now()):
                        await self._remove(lease)
            except ApiError as error:
                log.warning("leases of servers that are gone could not be removed", error=error.message)
            await self._clock.sleep(COLLECT_SECONDS)

    async def end(self) -> None:
        """This server goes, and says so."""
        try:
            async with asyncio.timeout(END_SECONDS):
                held = await self._held()
                if held is not None and _holder(held) == self._holder:
                    await self._remove(held)
        except (ApiError, TimeoutError) as error:
            log.debug("the lease that shows this server was not removed, it will end by itself", error=str(error))


def is_over(lease: Obj, now: datetime) -> bool:
    """Whether nobody renews it any more."""
    spec = lease.get("spec") or {}
    renewed, seconds = spec.get("renewTime"), spec.get("leaseDurationSeconds")
    if not renewed or seconds is None:
        return True
    try:
        return now - parse_time(renewed) > timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return True  # a time that is none, or of which this calendar knows nothing


def _holder(lease: Obj) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def _labelled(lease: Obj) -> Obj:
    """Its metadata, with labels that say what it is and of which host; of a name that can be a label's value."""
    host = socket.gethostname()
    marks = {LABEL: COMPONENT} | ({} if label_value(host) else {"kubernetes.io/hostname": host})
    metadata = lease["metadata"]
    return {"metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), **marks}}}
