"""Connections to the members of an etcd cluster: addresses, TLS, and which member is asked next.

Without TLS gRPC balances between addresses itself. It checks certificates against one name for all of them, though, so
with TLS every member has a channel of its own, under the name it was given by.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from aetcd import rpc

UNLIMITED = -1
_OPTIONS = [
    ("grpc.max_receive_message_length", UNLIMITED),
    ("grpc.max_send_message_length", UNLIMITED),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3000),  # which is how long a connection may take to be made
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.lb_policy_name", "round_robin"),
    # Another etcd at the same address must not be reached over a connection shared with its predecessor.
    ("grpc.use_local_subchannel_pool", 1),
]
_DOWN = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


class EtcdTlsInvalid(ValueError):
    """The files for TLS to etcd cannot be used; the message names the flag."""


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """PEM bytes. ``ca`` None: the authorities this machine trusts; ``certificate`` and ``key`` None: we show none."""

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None

    def __repr__(self) -> str:
        return "<EtcdTls>"  # never the key

    @classmethod
    def load(cls, ca: Path | None, certificate: Path | None, key: Path | None) -> EtcdTls:
        """From files, as ``--etcd-cafile``, ``--etcd-certfile`` and ``--etcd-keyfile`` name them. Raises
        EtcdTlsInvalid."""
        if (certificate is None) != (key is None):
            given, missing = ("certfile", "keyfile") if certificate is not None else ("keyfile", "certfile")
            raise EtcdTlsInvalid(f"--etcd-{given} needs --etcd-{missing}, too")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca is not None:
            try:
                context.load_verify_locations(ca)
            except (ssl.SSLError, OSError) as error:
                raise EtcdTlsInvalid(f"--etcd-cafile {ca}: no certificates in PEM can be read: {error}") from error
        if certificate is not None and key is not None:
            try:
                context.load_cert_chain(certificate, key, password=_no_password)
            except (ssl.SSLError, OSError, ValueError) as error:
                reason = getattr(error, "reason", None) or str(error)
                why = "the key does not belong to the certificate" if reason == "KEY_VALUES_MISMATCH" else reason
                raise EtcdTlsInvalid(f"--etcd-certfile {certificate}, --etcd-keyfile {key}: {why}") from error
        return cls(*(path.read_bytes() if path is not None else None for path in (ca, certificate, key)))


def _no_password() -> str:
    raise ValueError("the key is encrypted; it must be stored without a password")


def tls_for(endpoints: Sequence[str], given: EtcdTls | None) -> EtcdTls | None:
    """What to speak with these endpoints; None: no TLS. Raises EtcdTlsInvalid for what cannot be meant."""
    schemes = {endpoint.partition("://")[0] for endpoint in endpoints if "://" in endpoint}
    unknown = schemes - {"http", "https", "unix"}
    if unknown:
        raise EtcdTlsInvalid(f"--etcd-servers: {min(unknown)}:// is no scheme of etcd; use https:// or http://")
    if len(schemes) > 1:
        raise EtcdTlsInvalid("--etcd-servers: name all members by https:// or all by http://")
    if "https" in schemes:
        return given or EtcdTls()
    if schemes and given is not None:
        raise EtcdTlsInvalid("--etcd-servers names http://, but files for TLS are given; use https://")
    return given


class Member:
    """What can be asked over one channel."""

    __slots__ = ("channel", "kv", "lease", "maintenance", "watch")

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.kv = rpc.KVStub(channel)
        self.watch = rpc.WatchStub(channel)
        self.lease = rpc.LeaseStub(channel)
        self.maintenance = rpc.MaintenanceStub(channel)


class Members:
    """Open channels to ``addresses`` ("host:port"). Raises ValueError for what is no address."""

    def __init__(self, addresses: Sequence[str], tls: EtcdTls | None) -> None:
        if tls is None:
            self._all = [Member(rpc.insecure_channel(_target(addresses), options=_OPTIONS))]
        else:
            credentials = grpc.ssl_channel_credentials(tls.ca or _trusted(), tls.key, tls.certificate)
            self._all = [Member(rpc.secure_channel(one, credentials, options=_OPTIONS)) for one in addresses]
        self._next = 0

    def pick(self) -> Member:
        """The next in turn of those that can be reached, as far as known."""
        if len(self._all) == 1:
            return self._all[0]
        self._next += 1
        turn = [self._all[(self._next + offset) % len(self._all)] for offset in range(len(self._all))]
        states = [member.channel.get_state(try_to_connect=True) for member in turn]
        for wanted in (lambda state: state is grpc.ChannelConnectivity.READY, lambda state: state not in _DOWN):
            for member, state in zip(turn, states, strict=True):
                if wanted(state):
                    return member
        return turn[0]

    async def close(self) -> None:
        for member in self._all:
            await member.channel.close()


def _trusted() -> bytes:
    """The authorities that programs of this machine trust, as PEM."""
    context = ssl.create_default_context()
    return "".join(map(ssl.DER_cert_to_PEM_cert, context.get_ca_certs(binary_form=True))).encode()


def _target(addresses: Sequence[str]) -> str:
    """All members as gRPC names them. It takes several addresses, but only one name: names are looked up here."""
    if len(addresses) == 1:
        return addresses[0]
    found = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            known = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            raise ValueError(f"{address} is no address of etcd: {error}") from error
        family, _, _, _, place = known[0]
        number = str(place[0])
        found.append((family, f"[{number}]:{port}" if family == socket.AF_INET6 else f"{number}:{port}"))
    if len({family for family, _ in found}) > 1:
        raise ValueError(f"{', '.join(addresses)}: name all members of etcd by IPv4 or all by IPv6")
    return ("ipv6:" if found[0][0] == socket.AF_INET6 else "ipv4:") + ",".join(place for _, place in found)
