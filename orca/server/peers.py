"""Servers of one cluster: who lives, and what they must have in common.

Each server holds a key in etcd that vanishes with it, as upstream's lease reconciler has it
(``pkg/controlplane/reconcilers/lease.go``), and leads the Service ``kubernetes`` to all that hold one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from orca.api.errors import ApiError, is_already_exists, is_conflict, is_not_found
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.auth.pki import PkiPaths
from orca.server.identifiers import new_uid
from orca.store import Entry, Fence, Store

log = structlog.get_logger()

TTL_SECONDS = 10
RETRY_SECONDS = 1.0
_IDENTITY = "identity"
_KEY_FILES = ("ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub")


def _internal(plural: str, kind: str) -> Resource:
    return Resource(
        group="orca",
        version="v1",
        plural=plural,
        singular=kind.lower(),
        kind=kind,
        namespaced=False,
        definition="",
        storage=f"/registry/orca/{plural}",
    )


SERVERS = _internal("servers", "Server")
CLUSTERS = _internal("clusters", "Cluster")
TERMS = _internal("terms", "Term")


class WrongCluster(Exception):
    """This server does not fit the cluster that the etcd holds; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Peers:
    """The living servers, this one included."""

    store: Store
    address: str
    port: int

    def living(self) -> list[tuple[str, int]]:
        """(address, port) of each, sorted; this server also before its key has been seen."""
        found = {(one["spec"]["address"], int(one["spec"]["port"])) for one in self.store.peek_list(SERVERS)}
        return sorted(found | {(self.address, self.port)})

    async def announce(self) -> None:
        """Show that this server lives, until cancelled."""
        name = f"{self.address}:{self.port}"
        shown = _object(SERVERS, name, {"address": self.address, "port": self.port})
        await self.store.presence(SERVERS, shown, TTL_SECONDS).run()

    async def follow(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Call ``changed`` whenever servers come or go, until cancelled."""
        while True:
            async with self.store.watch(SERVERS) as events:
                while await events.batch():
                    try:
                        await changed()
                    except ApiError as error:
                        log.warning("the kubernetes Service does not lead to the living servers yet", error=str(error))
            await asyncio.sleep(RETRY_SECONDS)


async def begin_term(store: Store, lease: str, holder: str) -> Fence:
    """Begin to lead by ``lease``: whoever did before can write nothing any more. Raises ApiError 503."""
    return await store.begin_term(TERMS, _object(TERMS, lease, {"holder": holder}))


async def expect_keys(store: Store, directory: Path) -> None:
    """Refuse to make keys for a cluster that has some. Raises WrongCluster."""
    missing = [name for name in _KEY_FILES if not (directory / name).exists() and name != "sa.pub"]
    if missing and await _identity(store) is not None:
        raise WrongCluster(
            f"the cluster in this etcd has keys and certificates already, but {directory} lacks {', '.join(missing)}; "
            f"{_copy(directory)}"
        )


async def agree(store: Store, pki: PkiPaths, service_cidr: str) -> None:
    """Compare what all servers must have in common; the first one records it. Raises WrongCluster, ApiError 503."""
    ours = {
        "ca": _digest(pki.ca.cert),
        "frontProxyCA": _digest(pki.front_proxy_ca.cert),
        "serviceAccountKey": _digest(pki.service_account_public),
        "serviceCIDR": service_cidr,
    }
    while True:
        recorded = await _identity(store)
        try:
            if recorded is None:
                await store.create(CLUSTERS, _object(CLUSTERS, _IDENTITY, ours))
            elif _fits(recorded.obj["spec"], ours, pki):
                # The cluster gets its second family, and every other server the same flag when it is started again.
                await store.replace(CLUSTERS, recorded, {**recorded.obj, "spec": recorded.obj["spec"] | ours})
            return
        except ApiError as error:
            # Another server that starts as well was faster: what it has recorded counts.
            if not is_already_exists(error) and not is_conflict(error):
                raise


def _fits(theirs: Obj, ours: Obj, pki: PkiPaths) -> bool:
    """Whether a server with `ours` belongs to the cluster and adds a family to it. Raises WrongCluster."""
    for what, path in (
        ("ca", pki.ca.cert),
        ("frontProxyCA", pki.front_proxy_ca.cert),
        ("serviceAccountKey", pki.service_account_public),
    ):
        if theirs.get(what) != ours[what]:
            raise WrongCluster(
                f"{path} is not that of the cluster in this etcd; {_copy(path.parent)}. If you have replaced the "
                f"cluster's keys on purpose, stop all servers and delete {CLUSTERS.storage}/{_IDENTITY} from etcd"
            )
    held, wanted = str(theirs.get("serviceCIDR")), str(ours["serviceCIDR"])
    if held != wanted and not wanted.startswith(f"{held},"):
        raise WrongCluster(
            f"--service-cluster-ip-range is {wanted}, but {held} on the other servers of this cluster; give all of "
            "them the same"
        )
    return held != wanted


def _copy(directory: Path) -> str:
    return f"copy {', '.join(_KEY_FILES)} from another server's directory to {directory} and start again"


async def _identity(store: Store) -> Entry | None:
    try:
        return await store.get(CLUSTERS, "", _IDENTITY)
    except ApiError as error:
        if is_not_found(error):
            return None
        raise


def _object(resource: Resource, name: str, spec: Obj) -> Obj:
    metadata = {"name": name, "uid": new_uid()}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes().strip()).hexdigest()
