"""Who may use the agent's server, as with a kubelet: a client certificate of the cluster's CA or a bearer token that
the API server knows says who asks (401 otherwise), and the API server says what that user may do (403 otherwise).

A request for anything is a request for `nodes/proxy` of this node; some paths may be granted by themselves:
`nodes/stats`, `nodes/metrics`, `nodes/log`, `nodes/healthz`, `nodes/configz` and `nodes/pods`. Members of
system:masters, among whom is the API server itself, may do everything: nobody is asked for them.
Reference: k8s.io/kubernetes ``pkg/kubelet/server/auth.go``.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from agents.config.model import Authentication, Authorization
from agents.server.tls import TlsSettings, server_context
from orca.api.builtin import SUBJECTACCESSREVIEWS, TOKENREVIEWS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.client.base import Client
from orca.client.clock import Clock, SystemClock

__all__ = ["Guard", "TlsSettings", "User", "server_context"]

MASTERS = "system:masters"
NODES = "system:nodes"
FOR_NODES = frozenset({"/proxy/released"})
"""What agents ask each other, and nobody has to be asked about."""
AUTHENTICATED = "system:authenticated"
ANONYMOUS = "system:anonymous"
UNAUTHENTICATED = "system:unauthenticated"
REMEMBERED = 1024

_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_ALONE = (
    ("/stats", "stats"),
    ("/metrics", "metrics"),
    ("/logs", "log"),
    ("/checkpoint", "checkpoint"),
)
_ALSO = (("/healthz", "healthz"), ("/configz", "configz"), ("/pods", "pods"), ("/runningpods", "pods"))

log = structlog.get_logger()

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict, hash=False)


Certificate = Mapping[str, Any]
"""A verified client certificate as ``ssl.SSLObject.getpeercert`` tells of it: what knows more takes 8 MB of memory."""


def user_of_certificate(certificate: Certificate) -> User:
    """CommonName and Organizations."""
    parts = [part for names in certificate.get("subject", ()) for part in names]
    names = [value for what, value in parts if what == "commonName"]
    groups = [value for what, value in parts if what == "organizationName"]
    return User(names[0] if names else "", (*groups, AUTHENTICATED))


def subresources_of(path: str) -> tuple[str, ...]:
    """What of `nodes` a path belongs to: one of these is enough."""
    for prefix, subresource in _ALONE:
        if _below(path, prefix):
            return (subresource,)
    return (*(subresource for prefix, subresource in _ALSO if _below(path, prefix)), "proxy")


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


class _Kept(Generic[V]):
    """Answers for a while; the oldest go first when there are too many."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def get(self, key: str) -> V | None:
        until, value = self._kept.get(key, (0.0, None))
        return value if until > self._clock.monotonic() else None

    def put(self, key: str, value: V, seconds: float) -> None:
        self._kept[key] = (self._clock.monotonic() + seconds, value)
        self._kept.move_to_end(key)
        if len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)


class Guard:
    """Authentication and authorization of one agent's server; `middleware` goes into the application."""

    def __init__(
        self,
        client: Client | None,
        node_name: str,
        *,
        clock: Clock | None = None,
        authentication: Authentication | None = None,
        authorization: Authorization | None = None,
    ) -> None:
        """Without a client nobody is known by a token, and only members of system:masters may do anything."""
        self._client = client
        self._node_name = node_name
        self._authentication = authentication or Authentication()
        self._authorization = authorization or Authorization()
        clock = clock or SystemClock()
        self._users: _Kept[User] = _Kept(clock)
        self._decisions: _Kept[bool] = _Kept(clock)

    def __repr__(self) -> str:
        return f"<Guard of {self._node_name}, {self._authorization.mode}>"

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
            refused = await self.refusal(request)
            if refused:
                code, text = refused
                return web.Response(status=code, text=text)
            return await handler(request)

        return authorize

    async def refusal(self, request: web.Request) -> tuple[int, str] | None:
        """(code, text) for a request that may not be answered."""
        tls = request.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if tls is not None else None
        user = await self.user(certificate, request.headers.get("Authorization", ""))
        if user is None:
            return 401, "Unauthorized"
        return await self.objection(user, request.method, request.path)

    async def user(self, certificate: Certificate | None, authorization: str) -> User | None:
        """Who asks; None when nobody who is known."""
        if certificate:
            return user_of_certificate(certificate)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token.strip() and self._authentication.webhook.enabled:
            return await self._user_of_token(token.strip())
        if not authorization and self._authentication.anonymous.enabled:
            return User(ANONYMOUS, (UNAUTHENTICATED,))
        return None

    async def _user_of_token(self, token: str) -> User | None:
        if not token.isascii():
            return None  # no token that anybody hands out, and nothing that JSON could carry
        key = hashlib.sha256(token.encode()).hexdigest()
        known = self._users.get(key)
        if known is not None or self._client is None:
            return known
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        try:
            status = (await self._client.create(TOKENREVIEWS, review)).get("status") or {}
        except ApiError as error:
            log.warning("a token cannot be verified", error=error.message)
            return None
        if not status.get("authenticated"):
            return None
        told = status.get("user") or {}
        user = User(
            str(told.get("username") or ""),
            tuple(told.get("groups") or ()),
            str(told.get("uid") or ""),
            dict(told.get("extra") or {}),
        )
        self._users.put(key, user, self._authentication.webhook.cache_ttl)
        return user

    async def objection(self, user: User, method: str, path: str) -> tuple[int, str] | None:
        """(code, text) when the user may not."""
        if MASTERS in user.groups or self._authorization.mode == "AlwaysAllow":
            return None
        if path in FOR_NODES and method == "GET" and NODES in user.groups:
            return None
        verb, subresources = _VERBS.get(method, ""), subresources_of(path)
        asked = f"user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(subresources)}]"
        for subresource in subresources:
            try:
                if await self._may(user, verb, subresource):
                    return None
            except ApiError as error:
                log.warning("cannot ask whether a user may", user=user.name, error=error.message)
                return 500, f"Authorization error ({asked})"
        return 403, f"Forbidden ({asked})"

    async def _may(self, user: User, verb: str, subresource: str) -> bool:
        if self._client is None:
            return False
        key = repr((user.name, user.groups, user.uid, sorted(user.extra.items()), verb, subresource))
        known = self._decisions.get(key)
        if known is not None:
            return known
        spec: Obj = {
            "user": user.name,
            "groups": list(user.groups),
            "uid": user.uid,
            "extra": user.extra,
            "resourceAttributes": {
                "verb": verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": subresource,
                "name": self._node_name,
            },
        }
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        allowed = bool(((await self._client.create(SUBJECTACCESSREVIEWS, review)).get("status") or {}).get("allowed"))
        webhook = self._authorization.webhook
        self._decisions.put(key, allowed, webhook.cache_authorized_ttl if allowed else webhook.cache_unauthorized_ttl)
        return allowed
