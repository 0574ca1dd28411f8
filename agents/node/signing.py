"""Asking the cluster for certificates, and asking again before they expire."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence

import structlog

from agents.aside import AsideError
from agents.node import certificates
from agents.node.certificates import CertificateFacts
from agents.node.keyring import CLIENT, Keyring, covers
from agents.node.requesting import Prepared, prepare
from orca.api.builtin import CERTIFICATESIGNINGREQUESTS
from orca.api.errors import ApiError, is_already_exists, is_not_found
from orca.api.objects import Obj
from orca.client.base import Client
from orca.client.clock import Clock, rest

RETRY_SECONDS = 5.0
LONGEST_SLEEP = 3600.0

Preparing = Callable[[bytes, str, Sequence[str]], Awaitable[Prepared]]
"""See ``requesting.prepare``."""

log = structlog.get_logger()


class CertificateRefused(Exception):
    """The request was denied, or its signer failed; the message is the server's."""


async def request_certificate(
    client: Client,
    keyring: Keyring,
    *,
    kind: str,
    node_name: str,
    signer: str,
    clock: Clock,
    names: Sequence[str] = (),
    prepare: Preparing = prepare,
) -> CertificateFacts:
    """Create the CertificateSigningRequest (or find the one asked before), wait for the answer and store it.

    Raises CertificateRefused; the key is then dropped, so that the next attempt is a new request. Raises AsideError
    when none could be made, ValueError for an answer that is none.
    """
    prepared = await prepare(keyring.pending_key(kind), node_name, names)
    keyring.keep_pending_key(kind, prepared.key)
    name = certificates.request_name(prepared.public_key, node_name, signer, names)
    usages = certificates.CLIENT_USAGES if kind == CLIENT else certificates.SERVING_USAGES
    body: Obj = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "signerName": signer,
            "usages": list(usages),
            "request": base64.b64encode(prepared.request).decode(),
        },
    }
    try:
        await client.create(CERTIFICATESIGNINGREQUESTS, body)
    except ApiError as error:
        if not is_already_exists(error):
            raise
    try:
        issued = await _wait_issued(client, name, clock)
        return keyring.accept(kind, issued)
    except (CertificateRefused, ValueError):
        keyring.drop_pending_key(kind)
        raise


async def _wait_issued(client: Client, name: str, clock: Clock) -> bytes:
    """Follow the request until it carries a certificate. Survives a server that goes away meanwhile."""
    while True:
        try:
            async with client.watch(CERTIFICATESIGNINGREQUESTS, fields=f"metadata.name={name}") as events:
                async for event in events:
                    if event.type == "DELETED":
                        raise CertificateRefused(f"request {name} was deleted")
                    if event.type in ("ADDED", "MODIFIED") and (issued := _issued(event.obj)):
                        return issued
        except ApiError as error:
            if error.code in (401, 403):
                raise
            log.debug("waiting for a certificate", request=name, error=error.message)
        try:
            if issued := _issued(await client.get(CERTIFICATESIGNINGREQUESTS, name)):
                return issued
        except ApiError as error:
            if is_not_found(error):
                raise CertificateRefused(f"request {name} was deleted") from error
        await clock.sleep(1.0)


def _issued(request: Obj) -> bytes | None:
    """The certificate of a request, None while undecided; raises CertificateRefused."""
    status = request.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") in ("Denied", "Failed"):
            reason = condition.get("message") or condition.get("reason") or condition["type"]
            raise CertificateRefused(f"request {request['metadata']['name']}: {reason}")
    encoded = status.get("certificate")
    return base64.b64decode(encoded) if encoded else None


class Rotation:
    """Keeps one certificate fresh: asks when it is missing, is not for `names`, or 70 to 90 % of its life is over."""

    def __init__(
        self,
        client: Client,
        keyring: Keyring,
        *,
        kind: str,
        node_name: str,
        clock: Clock,
        names: Sequence[str] = (),
        on_renewed: Callable[[], None] = lambda: None,
        prepare: Preparing = prepare,
    ) -> None:
        self._client = client
        self._keyring = keyring
        self._kind = kind
        self._node_name = node_name
        self._clock = clock
        self._names = tuple(names)
        self._on_renewed = on_renewed
        self._prepare = prepare
        self._renamed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Rotation {self._kind} of {self._node_name}>"

    def rename(self, names: Sequence[str]) -> None:
        """From now on it has to be for these."""
        self._names = tuple(names)
        self._renamed.set()

    def due_in(self) -> float:
        """Seconds until a new certificate must be asked for; 0 for now."""
        have = self._keyring.certificate(self._kind)
        if have is None or have.common_name != f"system:node:{self._node_name}" or not covers(have, self._names):
            return 0.0
        return max((have.renew_at() - self._clock.now()).total_seconds(), 0.0)

    async def ensure(self) -> None:
        """Ask now when it is due; raises what the server answered."""
        if self.due_in() > 0:
            return
        signer = certificates.CLIENT_SIGNER if self._kind == CLIENT else certificates.SERVING_SIGNER
        facts = await request_certificate(
            self._client,
            self._keyring,
            kind=self._kind,
            node_name=self._node_name,
            signer=signer,
            clock=self._clock,
            names=self._names,
            prepare=self._prepare,
        )
        log.info("certificate issued", kind=self._kind, until=facts.not_after.isoformat())
        self._on_renewed()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.ensure()
                # Never one sleep over months: the wall clock may be set meanwhile.
                await rest(self._clock, min(max(self.due_in(), 1.0), LONGEST_SLEEP), self._renamed)
                self._renamed.clear()
            except (ApiError, AsideError, CertificateRefused, ValueError) as error:
                log.warning("no new certificate yet", kind=self._kind, error=str(error))
                await self._clock.sleep(RETRY_SECONDS)
