"""Who asks, and may they: from credentials to a decision, with upstream's wording of refusals."""

from __future__ import annotations

from aiohttp import web

from orca.api.errors import ApiError, forbidden, quote
from orca.api.selectors import ALL_FIELDS, parse_field_selector
from orca.auth import Action, Authenticator, Authorizer, Credentials, UserInfo
from orca.server.connection import connection_of
from orca.server.impersonation import impersonated
from orca.server.paths import Target

# Probes must work before anybody has a credential, as upstream's --authorization-always-allow-paths.
ALWAYS_ALLOWED = frozenset({"/healthz", "/livez", "/readyz"})
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


def credentials_of(request: web.BaseRequest) -> Credentials:
    """Client certificate and bearer token of a request."""
    header = request.headers.get("Authorization", "")
    bearer = None
    if header[:7].lower() == "bearer ":
        bearer = header[7:].strip() or None
    return Credentials(peer_cert_der=connection_of(request).peer_der, bearer=bearer)


def verb_of(method: str, target: Target, *, watching: bool) -> str:
    """Kubernetes' verb for a request on a resource."""
    if method in ("GET", "HEAD"):
        if watching and not target.subresource:
            return "watch"
        return "get" if target.name else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return _VERBS.get(method, method.lower())


class Gate:
    """Authentication and authorisation of every request."""

    def __init__(self, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer

    def user(self, request: web.BaseRequest) -> UserInfo:
        """Raises ApiError 401 for credentials nobody vouches for; no credentials are the anonymous user."""
        user = self._authenticator.authenticate(credentials_of(request))
        for key in request.headers:
            if key[0] in "iI" and key[:12].lower() == "impersonate-":
                return impersonated(user, request.headers, self.check)
        return user

    def check_object(self, user: UserInfo, verb: str, target: Target, fields: str = "") -> None:
        """Raises ApiError 403."""
        object_name, selected = target.name, ALL_FIELDS
        if fields and verb in ("list", "watch", "deletecollection"):
            try:
                selected = parse_field_selector(fields)
            except ApiError:
                selected = ALL_FIELDS  # the verb itself will say what is wrong with it
            object_name = object_name or selected.exact("metadata.name") or ""
        self.check(
            user,
            Action(
                verb=verb,
                group=target.group,
                resource=target.plural,
                subresource=target.subresource,
                name=object_name,
                namespace=target.namespace,
                fields=selected,
            ),
        )

    def check_path(self, user: UserInfo, method: str, path: str) -> None:
        """For paths that are no resource. Raises ApiError 403."""
        if path in ALWAYS_ALLOWED:
            return
        verb = "get" if method == "HEAD" else method.lower()
        self.check(user, Action(verb=verb, group="", resource="", subresource="", name="", namespace="", path=path))

    def check(self, user: UserInfo, action: Action) -> None:
        """Raises ApiError 403 unless the user may."""
        decision = self._authorizer.authorize(user, action)
        if not decision.allowed:
            raise refusal(user, action, decision.reason)


def refusal(user: UserInfo, action: Action, reason: str) -> ApiError:
    """403 as upstream words it."""
    if action.path:
        why = f"User {quote(user.name)} cannot {action.verb} path {quote(action.path)}"
        return forbidden(None, "", why + (f": {reason}" if reason else ""))
    shown = f"{action.resource}/{action.subresource}" if action.subresource else action.resource
    where = f"in the namespace {quote(action.namespace)}" if action.namespace else "at the cluster scope"
    why = (
        f"User {quote(user.name)} cannot {action.verb} resource {quote(shown)} "
        f"in API group {quote(action.group)} {where}"
    )
    if reason:
        why += f": {reason}"
    group_resource = f"{action.resource}.{action.group}" if action.group else action.resource
    name = f" {quote(action.name)}" if action.name else ""
    details = {"name": action.name} if action.name else {}
    if action.group:
        details["group"] = action.group
    details["kind"] = action.resource
    return ApiError(403, "Forbidden", f"{group_resource}{name} is forbidden: {why}", details)
