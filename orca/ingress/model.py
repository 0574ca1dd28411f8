"""What nginx is to serve, free of the API's shapes and of nginx's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from orca.ingress.settings import DEFAULTS, Settings


class Match(Enum):
    """How a location's path is compared with the path of a request, which nginx has decoded and straightened."""

    EXACT = "="
    START = ""
    """Begins with these characters; the longest wins."""
    REGEX = "~"
    REGEX_ANY_CASE = "~*"


@dataclass(frozen=True, slots=True)
class Pool:
    """Endpoints of one port of one Service, found and changed without a new configuration.

    ``name`` is ``namespace/service:port`` with the port as the Ingress says it, ``peers`` are ``address:port``.
    """

    name: str
    peers: tuple[str, ...]
    service: str = ""
    """``namespace/name``, when its EndpointSlices say who the peers are."""
    port: str = ""
    """The name of the port in EndpointSlices."""


@dataclass(frozen=True, slots=True)
class External:
    """A Service of type ExternalName: nginx looks the name up."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Location:
    """One ``location`` of a server. ``backend`` is a pool's name, an external host, or None: nothing answers there."""

    match: Match
    path: str
    backend: str | External | None
    ingress: str = ""
    """``namespace/name`` of whose it is; "" for what no Ingress asked for."""
    service: str = ""
    settings: Settings = DEFAULTS
    status: int = 503
    """What is answered when there is no backend."""
    rewrite: str = ""
    """The expression that a rewrite matches the path with."""


@dataclass(frozen=True, slots=True)
class Server:
    """One host. ``name`` "" takes what no other takes, ``*.example.com`` one more label."""

    name: str
    locations: tuple[Location, ...]
    certificate: str = ""
    """File name of the pair; "" for the default one."""
    tls: bool = False
    """An Ingress lists the host under ``tls``."""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of an Ingress that is not as its owner asked, for an event.

    ``settling`` ones are normal for moments, while a manifest is being applied.
    """

    ingress: str
    reason: str
    message: str
    settling: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """A usable pair of a TLS Secret. ``file`` is named for its content, ``names`` are the hosts it is good for,
    ``expires`` is in Unix time."""

    file: str
    pem: bytes = field(repr=False)
    names: tuple[str, ...] = ()
    expires: float = 0.0

    def covers(self, host: str) -> bool:
        """Whether a client that asks for ``host`` (may be a wildcard itself) accepts it."""
        wanted = host.lower()
        above = "*." + wanted.partition(".")[2]
        return any(name in (wanted, above) for name in self.names)


@dataclass(frozen=True, slots=True)
class Users:
    """A file of htpasswd made of a Secret; ``file`` is named for its content."""

    file: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Routing:
    """Everything nginx is told. ``served`` are the Ingresses that are ours, by ``namespace/name``."""

    servers: tuple[Server, ...]
    pools: Mapping[str, Pool]
    problems: tuple[Problem, ...] = ()
    served: frozenset[str] = frozenset()
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    """By file name: those that servers name."""
    default_certificate: str = ""
    """File name of the pair for servers without one; "" for the self-signed one."""
    users: Mapping[str, Users] = field(default_factory=dict)
    """By Secret ``namespace/name``: those that locations ask for."""
