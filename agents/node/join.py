"""How a host becomes a node: from a join token to a kubeconfig with the node's own client certificate.

The token `<id>.<secret>.<sha256 of the CA's public key>` proves both sides: the hash pins the cluster's CA, which is
first fetched without verification from ConfigMap kube-public/cluster-info (as `kubeadm join` does with
--discovery-token-ca-cert-hash); `<id>.<secret>` is a bootstrap token that may ask for a client certificate and nothing
else. Everything here may be repeated: what is there already is used.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import structlog
import yaml

from agents.aside import AsideError
from agents.node import certificates
from agents.node.keyring import CLIENT, Keyring
from agents.node.signing import request_certificate
from orca.client.base import Client
from orca.client.clock import Clock

TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})\.(?:sha256:)?([0-9a-f]{64})")
CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"

log = structlog.get_logger()


class JoinError(Exception):
    """The host cannot join as asked; the message says what a person should check."""


class Untrusted(JoinError):
    """Somebody answers whom the CA does not vouch for."""


@dataclass(frozen=True, slots=True)
class JoinToken:
    """The three parts of the string that `orca token create` prints."""

    token_id: str
    secret: str
    ca_hash: str

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Raises JoinError for anything else than `<id>.<secret>.<hash>`."""
        if not text.strip():
            raise JoinError("this host has not joined before; give --token, as `orca token create` prints it")
        match = TOKEN.fullmatch(text.strip())
        if match is None:
            raise JoinError("the join token must look like <id>.<secret>.<sha256 of the CA>; see: orca token create")
        return cls(*match.groups())

    @property
    def bearer(self) -> str:
        return f"{self.token_id}.{self.secret}"


async def join(
    keyring: Keyring,
    *,
    server: str,
    token: str,
    node_name: str,
    clock: Clock,
    connect: Callable[[Path], Client],
) -> Path:
    """Path of a kubeconfig that is good for this node, asking for a certificate when there is none yet, or only one of
    another cluster.

    `connect` makes a client from a kubeconfig. Raises JoinError, or ApiError for what the server refused.
    """
    have = keyring.certificate(CLIENT)
    if have and have.common_name == f"system:node:{node_name}" and have.not_after > clock.now():
        if not await _is_of_another_cluster(keyring, server, token):
            _write_own_kubeconfig(keyring, server)
            return keyring.kubeconfig
        log.warning("what this host has is of another cluster than its server and token; joining theirs", server=server)
    parsed = JoinToken.parse(token)
    keyring.write(keyring.ca, await fetch_ca(server, parsed.ca_hash))
    bootstrap = keyring.directory / "bootstrap-kubeconfig"
    keyring.write_kubeconfig(bootstrap, server, {"token": parsed.bearer})
    client = connect(bootstrap)
    try:
        log.info("asking for a client certificate", node=node_name, server=server)
        issued = await request_certificate(
            client, keyring, kind=CLIENT, node_name=node_name, signer=certificates.CLIENT_SIGNER, clock=clock
        )
    except (AsideError, ValueError) as error:
        raise JoinError(f"no client certificate yet: {error}") from error
    finally:
        await client.aclose()
    _write_own_kubeconfig(keyring, server)
    bootstrap.unlink(missing_ok=True)
    log.info("joined", node=node_name, until=issued.not_after.isoformat())
    return keyring.kubeconfig


async def _is_of_another_cluster(keyring: Keyring, server: str, token: str) -> bool:
    """Whether the server is one that the CA this host keeps does not vouch for, and the one of the token does: somebody
    made the cluster anew, or brought the host to this one. A CA that cannot be read vouches for nobody."""
    try:
        kept = keyring.ca.read_bytes()
        known = certificates.certificates_by_key(kept)
    except (OSError, ValueError) as error:
        log.warning("the CA cannot be read", file=str(keyring.ca), error=str(error))
        known = {}
    if not known:
        return True
    if not token or (pinned := JoinToken.parse(token).ca_hash) in known:
        return False
    try:
        await _cluster_info(server, ssl.create_default_context(cadata=kept.decode()))
    except Untrusted:
        pass
    except JoinError:
        return False  # nobody can be asked now
    else:
        return False  # its CA has changed since the token was made
    try:
        await fetch_ca(server, pinned)
    except JoinError:
        return False
    return True


def _write_own_kubeconfig(keyring: Keyring, server: str) -> None:
    pair = str(keyring.pair(CLIENT))
    keyring.write_kubeconfig(keyring.kubeconfig, server, {"client-certificate": pair, "client-key": pair})


async def fetch_ca(server: str, ca_hash: str) -> bytes:
    """The cluster's CA (PEM), accepted only when its public key has the pinned hash.

    The first connection is not verified: the hash is what makes the answer trustworthy. It does so for one certificate
    only, and a bundle may hold more (of a CA that is being replaced, or of somebody in between who added one): those
    are taken from a second connection, to a server that the one certificate vouches for.
    """
    found = await _cluster_info(server, False)
    try:
        pinned = certificates.certificates_by_key(found).get(ca_hash)
    except ValueError as error:
        raise JoinError(f"{server} does not answer as it should: {error}") from error
    if pinned is None:
        raise JoinError(
            f"the CA of {server} is not the one this token was made for: the token is of another cluster, "
            "or somebody answers in the server's place"
        )
    return await _cluster_info(server, ssl.create_default_context(cadata=pinned.decode()))


async def _cluster_info(server: str, trust: ssl.SSLContext | Literal[False]) -> bytes:
    """The CA in ConfigMap cluster-info, asked without credentials, and of anybody where trust is False. Raises
    JoinError."""
    timeout = aiohttp.ClientTimeout(total=15)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(server.rstrip("/") + CLUSTER_INFO, ssl=trust) as response,
        ):
            if response.status == 401:
                text = f"{server} answers nobody without credentials, and hosts begin with none; let {CLUSTER_INFO}"
                raise JoinError(f"{text} be asked for anonymously (--anonymous-auth, or conditions of anonymous)")
            if response.status != 200:
                raise JoinError(f"{server} answered {response.status} for cluster-info: is it an orca server?")
            return ca_of_cluster_info(await response.json())
    except aiohttp.ClientSSLError as error:
        raise Untrusted(f"{server} is not trusted by the CA this token was made for: {error}") from error
    except aiohttp.ClientConnectorError as error:
        reason = os.strerror(error.errno) if error.errno else error.strerror
        raise JoinError(f"cannot reach {server}: {reason}") from error
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise JoinError(f"{server} does not answer as it should: {error or type(error).__name__}") from error


def ca_of_kubeconfig(kubeconfig: Path) -> bytes:
    """The CA in a kubeconfig, by which the agent's server knows the API server. Raises JoinError."""
    try:
        parsed = yaml.safe_load(kubeconfig.read_text()) or {}
        for entry in parsed.get("clusters") or []:
            cluster = entry.get("cluster") or {}
            if cluster.get("certificate-authority-data"):
                return base64.b64decode(cluster["certificate-authority-data"])
            if cluster.get("certificate-authority"):
                return (kubeconfig.parent / cluster["certificate-authority"]).read_bytes()
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:  # AttributeError: a list where a map belongs
        raise JoinError(f"--kubeconfig {kubeconfig}: {error}") from error
    raise JoinError(f"--kubeconfig {kubeconfig} names no CA")


def ca_of_cluster_info(config_map: dict[str, Any]) -> bytes:
    """The CA bundle in a cluster-info ConfigMap: in its `kubeconfig` as kubeadm writes it, or plainly as `ca.crt`."""
    data = config_map.get("data") or {}
    if "kubeconfig" in data:
        for cluster in (yaml.safe_load(data["kubeconfig"]) or {}).get("clusters") or []:
            encoded = (cluster.get("cluster") or {}).get("certificate-authority-data")
            if encoded:
                return base64.b64decode(encoded)
    if "ca.crt" in data:
        return str(data["ca.crt"]).encode()
    raise JoinError("cluster-info holds no CA certificate")
