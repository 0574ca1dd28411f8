"""Whom to ask for names that are not the cluster's: the host's resolv.conf, and the ConfigMap ``kube-system/kube-dns``.

The ConfigMap has the keys that kube-dns reads, each of them JSON:

    stubDomains: '{"corp.example": ["10.0.0.53", "10.0.0.54:5353"]}'   # these ask for names below that domain
    upstreamNameservers: '["192.0.2.1", "192.0.2.2"]'                  # instead of those in the host's resolv.conf

Reference: kubernetes.io "Customizing DNS Service"; kubernetes/dns ``pkg/dns/config``.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca.api.builtin import CONFIGMAPS
from orca.client.base import Client
from orca.client.clock import Clock
from orca.client.informer import Informer

SETTINGS = "kube-system/kube-dns"
MAX_NAMESERVERS = 3
LOOK_SECONDS = 1.0
PORT = 53


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a nameserver listens."""

    ip: str
    port: int = PORT

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


def settings_informer(client: Client, clock: Clock) -> Informer:
    """Follows that one ConfigMap."""
    space, _, name = SETTINGS.partition("/")
    return Informer(client, CONFIGMAPS, namespace=space, fields=f"metadata.name={name}", clock=clock)


class SettingsInvalid(Exception):
    """The ConfigMap cannot be used; says which part of it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the ConfigMap says. Domains in lower case without dots around them."""

    stubs: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    upstream: tuple[Address, ...] = ()

    @classmethod
    def parse(cls, data: Mapping[str, str], *, own: Sequence[str] = ()) -> Settings:
        """From the ConfigMap's ``data``; ``own`` addresses are no nameservers. Raises SettingsInvalid."""
        stubs: dict[str, tuple[Address, ...]] = {}
        domains = _json(data, "stubDomains", dict)
        for domain, servers in domains.items():
            key = str(domain).strip(".").lower()
            if not key or not isinstance(servers, list) or not servers:
                raise SettingsInvalid(f"stubDomains: {domain!r} needs a list of addresses")
            stubs[key] = _addresses(servers, f"stubDomains: {domain}", own)
        upstream = _addresses(_json(data, "upstreamNameservers", list), "upstreamNameservers", own)
        if len(upstream) > MAX_NAMESERVERS:
            raise SettingsInvalid(f"upstreamNameservers: at most {MAX_NAMESERVERS} addresses")
        return cls(stubs, upstream)

    def stub_of(self, name: str) -> tuple[Address, ...]:
        """Nameservers of the longest domain that a name is in; none for a name in none."""
        if not self.stubs:
            return ()
        while name:
            found = self.stubs.get(name)
            if found:
                return found
            name = name.partition(".")[2]
        return ()


class ResolvConf:
    """The nameservers in a resolv.conf, read again when the file changes. Own addresses are no nameservers."""

    def __init__(
        self,
        path: Path = Path("/etc/resolv.conf"),
        *,
        own: Sequence[str] = (),
        now: Callable[[], float] | None = None,
    ) -> None:
        self._path = path
        self._own = frozenset(own)
        self._now = now
        self._looked = float("-inf")
        self._seen: tuple[int, int] = (0, 0)
        self._servers: tuple[Address, ...] = ()

    def servers(self) -> tuple[Address, ...]:
        if self._now is not None:
            if self._now() < self._looked + LOOK_SECONDS:
                return self._servers
            self._looked = self._now()
        try:
            stat = self._path.stat()
            if (stat.st_mtime_ns, stat.st_ino) != self._seen:
                self._seen = (stat.st_mtime_ns, stat.st_ino)
                words = [line.split() for line in self._path.read_text(errors="replace").splitlines()]
                named = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
                unique = dict.fromkeys(ip for ip in named if ip not in self._own)
                self._servers = tuple(Address(ip) for ip in unique)[:MAX_NAMESERVERS]
        except OSError:
            self._servers, self._seen = (), (0, 0)
        return self._servers


def _json(data: Mapping[str, str], key: str, kind: type) -> Any:
    text = data.get(key) or ""
    if not text.strip():
        return kind()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SettingsInvalid(f"{key}: not JSON: {error}") from error
    if not isinstance(value, kind):
        raise SettingsInvalid(f"{key}: must be a JSON {'object' if kind is dict else 'array'}")
    return value


def _addresses(values: Sequence[Any], where: str, own: Sequence[str]) -> tuple[Address, ...]:
    found = []
    for value in values:
        try:
            address = parse_address(str(value))
        except ValueError as error:
            raise SettingsInvalid(f"{where}: {value!r} is not an address, nor an address and a port") from error
        if address.ip in own and address.port == PORT:
            raise SettingsInvalid(f"{where}: {value} is the cluster's DNS itself")
        found.append(address)
    return tuple(dict.fromkeys(found))


def parse_address(text: str) -> Address:
    """``1.2.3.4``, ``1.2.3.4:5353``, ``fd00::1`` or ``[fd00::1]:5353``. Raises ValueError."""
    try:
        return Address(str(ipaddress.ip_address(text)))
    except ValueError:
        host, colon, port = text.rpartition(":")
        if not colon or not 0 < int(port) < 65536:
            raise
        return Address(str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), int(port))
