"""The vocabulary of authentication and authorisation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.api.selectors import ALL_FIELDS, EVERYTHING, FieldSelector, Selector

ANONYMOUS = "system:anonymous"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"
NODES = "system:nodes"
NODE_PREFIX = "system:node:"
SERVICE_ACCOUNTS = "system:serviceaccounts"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
BOOTSTRAPPERS = "system:bootstrappers"
BOOTSTRAP_PREFIX = "system:bootstrap:"


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Who asks. ``extra`` takes no part in decisions."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False, hash=False)

    def to_api(self) -> Obj:
        """As ``authentication.k8s.io/v1`` UserInfo."""
        found: Obj = {"username": self.name}
        if self.uid:
            found["uid"] = self.uid
        if self.groups:
            found["groups"] = list(self.groups)
        if self.extra:
            found["extra"] = {key: list(values) for key, values in self.extra.items()}
        return found


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a connection and a request offer: a certificate the TLS layer has verified, a bearer token."""

    peer_cert_der: bytes | None = None
    bearer: str | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """What is asked for: a resource, or (``path``) something that is none.

    ``fields`` and ``labels`` narrow a list, watch or deletecollection; only the node authorizer and webhooks look at
    them, and only webhooks at ``version``, the group's ("*" for any).
    """

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    namespace: str = ""
    path: str = ""
    fields: FieldSelector = field(default=ALL_FIELDS, compare=False)
    labels: Selector = field(default=EVERYTHING, compare=False)
    version: str = field(default="*", compare=False)

    @property
    def full_resource(self) -> str:
        """``pods/log``."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True, slots=True)
class Decision:
    """``denied`` means no later authorizer may allow it either; ``error`` is what kept one from having an opinion."""

    allowed: bool
    reason: str = ""
    denied: bool = False
    error: str = ""


NO_OPINION = Decision(False)


class Reader(Protocol):
    """The synchronous cached side of the store."""

    def peek(self, resource: Resource, namespace: str, name: str, /) -> Obj | None:
        """One object as the cache shows it."""

    def peek_list(
        self, resource: Resource, namespace: str = "", /, *, hint: tuple[str, str] | None = None
    ) -> list[Obj]:
        """All objects of a namespace, or of the cluster."""

    def last_change(self, resource: Resource, /) -> int:
        """While this stays equal, nothing of the kind changed."""


def header_text(value: str) -> str:
    """A header's value as text that can be encoded: bytes that are no UTF-8 show as U+FFFD, as in Go's JSON."""
    if value.isascii():
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def node_of(user: UserInfo) -> str:
    """The node a kubelet's user name speaks for; "" for everybody else."""
    if user.name.startswith(NODE_PREFIX) and NODES in user.groups:
        return user.name[len(NODE_PREFIX) :]
    return ""


def service_account_of(user_name: str) -> tuple[str, str] | None:
    """(namespace, name) behind ``system:serviceaccount:<namespace>:<name>``."""
    if not user_name.startswith(SERVICE_ACCOUNT_PREFIX):
        return None
    namespace, _, name = user_name[len(SERVICE_ACCOUNT_PREFIX) :].partition(":")
    return (namespace, name) if namespace and name else None
