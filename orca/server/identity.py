"""Who asks, and may they: from credentials to a decision, with upstream's wording of refusals."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

import structlog
from aiohttp import web
from multidict import CIMultiDictProxy

from orca.api.errors import ApiError, unauthorized
from orca.api.selectors import (
    ALL_FIELDS,
    EVERYTHING,
    FieldSelector,
    Selector,
    parse_field_selector,
    parse_label_selector,
)
from orca.auth import Action, Authenticator, Authorizer, Credentials, UserInfo
from orca.auth.authentication import authenticated
from orca.auth.front_proxy import FrontProxy
from orca.auth.identity import SERVICE_ACCOUNT_PREFIX, UNAUTHENTICATED
from orca.server.connection import connection_of
from orca.server.impersonation import Acting, Outcomes, impersonated, mode_of, wanted_user
from orca.server.paths import Target
from orca.server.refusals import Undecided, refusal

log = structlog.get_logger()

# Probes must work before anybody has a credential, as upstream's --authorization-always-allow-paths.
ALWAYS_ALLOWED = frozenset({"/healthz", "/livez", "/readyz"})
WEBSOCKET_TOKEN = "base64url.bearer.authorization.k8s.io."
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


def credentials_of(headers: CIMultiDictProxy[str], peer_der: bytes | None) -> Credentials:
    """Bearer token in the headers of a request, and the verified client certificate of its connection."""
    header = headers.get("Authorization", "")
    bearer = None
    if header[:7].lower() == "bearer ":
        bearer = header[7:].strip() or None
    elif not header and "Sec-WebSocket-Protocol" in headers:
        bearer = websocket_token(headers.getall("Sec-WebSocket-Protocol"))
    return Credentials(peer_cert_der=peer_der, bearer=bearer)


def websocket_token(offered: list[str]) -> str | None:
    """The bearer token among the subprotocols of a WebSocket: browsers cannot set headers on one.

    Reference: k8s.io/apiserver ``pkg/authentication/request/websocket``. Raises ApiError 401 when it is malformed,
    given twice, or the only protocol.
    """
    protocols = [part.strip() for value in offered for part in value.split(",")]
    tokens = [one[len(WEBSOCKET_TOKEN) :] for one in protocols if one.startswith(WEBSOCKET_TOKEN)]
    if not tokens:
        return None
    if len(tokens) > 1 or len(protocols) == 1 or not tokens[0]:
        raise unauthorized()
    try:
        return base64.b64decode(tokens[0] + "=" * (-len(tokens[0]) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise unauthorized() from None


def verb_of(method: str, target: Target, *, watching: bool) -> str:
    """Kubernetes' verb for a request on a resource."""
    if method in ("GET", "HEAD"):
        if watching and not target.subresource:
            return "watch"
        return "get" if target.name else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return _VERBS.get(method, method.lower())


_ANONYMOUS = (UNAUTHENTICATED,)
_MODES = 10_000
RECOGNITION_BOUNDS = tuple(0.001 * 2**step for step in range(15))  # seconds, as upstream's


Notes = Callable[[str], Mapping[str, str]]
"""(bearer token) -> what the audit log says of it"""
Taken = Callable[[str], None]
"""Hears of the bearer token with which a service account was let in, once for each request."""
CaughtUp = Callable[[str], Awaitable[bool]]
"""(bearer token) -> whether it was refused for what was not to be seen yet, and may be now."""


@dataclass(slots=True)
class GateCounts:
    """How often who asked was known (``anonymous`` among them), and might do what they asked for.

    ``refused`` had nobody who allowed it, ``denied`` one who denied it, ``undecided`` one who could not be asked.
    """

    known: int = 0
    unknown: int = 0
    anonymous: int = 0
    allowed: int = 0
    refused: int = 0
    denied: int = 0
    undecided: int = 0


class Recognition:
    """How long it took to know who asks: all together, and how often up to each bound and beyond the last."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.counts = [0] * (len(RECOGNITION_BOUNDS) + 1)

    def note(self, seconds: float) -> None:
        self.seconds += seconds
        self.counts[bisect_left(RECOGNITION_BOUNDS, seconds)] += 1


class Gate:
    """Authentication and authorisation of every request."""

    def __init__(
        self,
        authenticator: Authenticator,
        authorizer: Authorizer,
        front_proxy: FrontProxy | None = None,
        caught_up: CaughtUp | None = None,
        notes: Notes | None = None,
        taken: Taken | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._front_proxy = front_proxy
        self._caught_up = caught_up
        self._notes = notes
        self._taken = taken
        self.counts = GateCounts()
        self.recognised = {result: Recognition() for result in ("success", "failure")}
        self._took = 0.0  # to know who ``admitted`` lets in
        self.attempts, self.questions = Outcomes(), Outcomes()
        """To act as another, and what the authorizers were asked about that."""
        self._modes: dict[str, int] = {}
        """By which mode a user could act as another the last time."""

    async def user(self, request: web.BaseRequest) -> UserInfo:
        """Who sent it, whoever they act as: no credentials are the anonymous user.

        Raises ApiError 401 for credentials nobody vouches for.
        """
        began = perf_counter()
        try:
            remote = self._authenticator.remote
            user = await (self._seen(request) if remote is None else self._recognised(request))
        except ApiError:
            self.counts.unknown += 1
            self.recognised["failure"].note(perf_counter() - began)
            raise
        self.recognised["success"].note(perf_counter() - began)
        self._known(user, request.headers)
        return user

    def _known(self, user: UserInfo, headers: CIMultiDictProxy[str]) -> None:
        self.counts.known += 1
        if user.groups == _ANONYMOUS:
            self.counts.anonymous += 1
        elif self._taken is not None and user.name.startswith(SERVICE_ACCOUNT_PREFIX):
            bearer = credentials_of(headers, None).bearer
            if bearer is not None:
                self._taken(bearer)

    def notes(self, headers: CIMultiDictProxy[str]) -> Mapping[str, str]:
        """What the audit log is to say of the credentials that were taken."""
        bearer = credentials_of(headers, None).bearer if self._notes is not None else None
        return self._notes(bearer) if self._notes is not None and bearer is not None else {}

    async def acting(
        self, user: UserInfo, headers: CIMultiDictProxy[str], asked: Callable[[], Action]
    ) -> Acting | None:
        """Whom ``user`` acts as in a request for what ``asked`` tells; None where the headers mean nobody else.

        Raises ApiError 400 for headers that say nothing, Refused (403) for who may not act as another.
        """
        wanted = wanted_user(headers)
        if wanted is None:
            return None
        counts, began = self.counts, perf_counter()
        try:
            acting, mode = await impersonated(user, wanted, asked(), self._may, self._modes.get(user.name, 0))
        except ApiError:
            counts.refused += 1
            self.attempts.note("", False, perf_counter() - began)
            raise
        counts.allowed += 1
        self.attempts.note(mode_of(acting.constraint), True, perf_counter() - began)
        if len(self._modes) >= _MODES:
            self._modes.clear()
        self._modes[user.name] = mode
        return acting

    def admitted(
        self, headers: CIMultiDictProxy[str], peer_der: bytes | None, action: Action, path: str
    ) -> UserInfo | None:
        """Who asks, when that is known and they may. None when there is more to say: then ``user`` and
        ``check_object`` are to be asked. Nothing is counted yet, see ``let_in``."""
        if acts_as_another(headers):
            return None
        began = perf_counter()
        try:
            user = self._identified(headers, peer_der, path)
        except ApiError:
            return None
        self._took = perf_counter() - began
        decision = self._authorizer.at_once(user, action)
        return user if decision is not None and decision.allowed else None

    def let_in(self, user: UserInfo, headers: CIMultiDictProxy[str]) -> None:
        """What ``admitted`` said is what the request goes by."""
        self.counts.allowed += 1
        self.recognised["success"].note(self._took)
        self._known(user, headers)

    def _original(self, request: web.BaseRequest) -> UserInfo:
        """As far as it is known here. Raises ApiError 401."""
        path = request.path if self._authenticator.anonymous_paths else ""
        return self._identified(request.headers, connection_of(request).peer_der, path)

    async def _seen(self, request: web.BaseRequest) -> UserInfo:
        """:meth:`_original`, also with a token for what was made a moment ago."""
        try:
            return self._original(request)
        except ApiError:
            bearer = credentials_of(request.headers, None).bearer
            if bearer is None or self._caught_up is None or not await self._caught_up(bearer):
                raise
        return self._original(request)

    async def _recognised(self, request: web.BaseRequest) -> UserInfo:
        """:meth:`_original`, after asking those elsewhere about a bearer token that nobody knows here."""
        try:
            user = await self._seen(request)
        except ApiError:
            bearer = credentials_of(request.headers, None).bearer
            remote = self._authenticator.remote
            if bearer is None or remote is None:
                raise
            verdict = await remote.review(bearer)
            if verdict.user is None:
                if verdict.error:
                    log.warning("unable to authenticate the request", error=verdict.error)
                raise
            user = authenticated(verdict.user)
        return user

    def _identified(self, headers: CIMultiDictProxy[str], peer_der: bytes | None, path: str) -> UserInfo:
        credentials = credentials_of(headers, peer_der)
        shown = credentials.peer_cert_der
        if self._front_proxy is None or shown is None or not self._front_proxy.issued(shown):
            return self._authenticator.authenticate(credentials, path)
        user = self._front_proxy.user(shown, headers)
        if user is not None:
            return user
        # The certificate proves who the proxy is, and nothing about its own rights.
        if not credentials.bearer:
            raise unauthorized()
        return self._authenticator.authenticate(Credentials(bearer=credentials.bearer))

    async def check_object(self, user: UserInfo, verb: str, target: Target, fields: str = "", labels: str = "") -> str:
        """Why it is allowed. Raises Refused (403), Undecided (500)."""
        return await self.check(user, object_action(verb, target, fields, labels))

    async def check_path(self, user: UserInfo, method: str, path: str) -> str:
        """For paths that are no resource: why it is allowed. Raises Refused (403), Undecided (500)."""
        return "" if path in ALWAYS_ALLOWED else await self.check(user, path_action(method, path))

    async def check(self, user: UserInfo, action: Action) -> str:
        """The reason why the user may. Raises Refused (403) unless they may, Undecided (500) when that is not known."""
        decision = await self._authorizer.authorize(user, action)
        counts = self.counts
        if decision.allowed:
            counts.allowed += 1
            return decision.reason
        if decision.error:
            counts.undecided += 1
            raise Undecided(decision.error)
        if decision.denied:
            counts.denied += 1
        else:
            counts.refused += 1
        raise refusal(user, action, decision.reason)

    async def _may(self, user: UserInfo, action: Action) -> str:
        began = perf_counter()
        decision = await self._authorizer.authorize(user, action)
        self.questions.note(mode_of(action.verb), decision.allowed, perf_counter() - began)
        if not decision.allowed:
            raise refusal(user, action, decision.reason)
        return decision.reason


def object_action(verb: str, target: Target, fields: str = "", labels: str = "") -> Action:
    """What a request on a resource asks for; ``fields`` and ``labels`` are its selectors."""
    object_name, selected, chosen = target.name, ALL_FIELDS, EVERYTHING
    if fields and verb in ("list", "watch", "deletecollection"):
        try:
            selected = parse_field_selector(fields)
        except ApiError:
            selected = ALL_FIELDS  # the verb itself will say what is wrong with it
        object_name = object_name or selected.exact("metadata.name") or ""
    if labels and verb in ("list", "watch", "deletecollection"):
        with suppress(ApiError):  # as above
            chosen = parse_label_selector(labels)
    return _action(verb, target, object_name, selected, chosen)


def path_action(method: str, path: str) -> Action:
    """What a request for a path that is no resource asks for."""
    return Action(verb="get" if method == "HEAD" else method.lower(), path=path)


def acts_as_another(headers: CIMultiDictProxy[str]) -> bool:
    """Whether a request may want that: it has a header by which it is said."""
    for key in headers:  # noqa: SIM110 - a generator costs as much as all else here
        if key[0] in "iI" and key[:12].lower() == "impersonate-":
            return True
    return False


def _action(
    verb: str, target: Target, object_name: str, selected: FieldSelector, chosen: Selector = EVERYTHING
) -> Action:
    return Action(
        verb=verb,
        group=target.group,
        resource=target.plural,
        subresource=target.subresource,
        name=object_name,
        namespace=target.namespace,
        fields=selected,
        labels=chosen,
        version=target.version,
    )
