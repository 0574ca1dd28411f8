"""Handing a request on to the server of its group version, after it was authenticated and authorised here."""

from __future__ import annotations

import structlog
from aiohttp import web

from orca.api.errors import ApiError, bad_request
from orca.api.objects import Obj, name
from orca.server.aggregation.apiservices import is_available
from orca.server.aggregation.backend import Backends, identity_headers
from orca.server.forwarding import Forwarder, upgrades
from orca.server.request import Request
from orca.server.tunnel import Endpoint

log = structlog.get_logger()


async def proxy(request: Request, service: Obj, backends: Backends, forwarder: Forwarder) -> web.StreamResponse:
    """The other server's answer, streamed; 503 in plain text as upstream while it is not there."""
    path = request.http.raw_path
    if any(part in (".", "..") for part in path.partition("?")[0].replace("%2e", ".").replace("%2E", ".").split("/")):
        # What was authorised here must be what the other server understands.
        raise bad_request("the path must not contain . or .. segments")
    if not is_available(service):
        return unavailable("service unavailable")
    try:
        destination = backends.destination(service)
    except (ApiError, ValueError) as error:
        log.warning("an aggregated API cannot be reached", name=name(service), error=str(error))
        return unavailable("service unavailable")
    headers = list(identity_headers(request.user))
    peer = request.http.remote
    if peer:
        before = request.http.headers.get("X-Forwarded-For")
        headers.append(("X-Forwarded-For", f"{before}, {peer}" if before else peer))
    if upgrades(request.http.headers):
        try:
            return await forwarder.upgrade(request, destination.endpoint, path, headers)
        except ApiError as error:
            if error.code < 500:
                raise
            return unavailable(f"error trying to reach service: {error.message}")
    try:
        return await forwarder.forward(request, destination, path, headers, failed=_failed)
    except ApiError as error:
        if error.code != 503:
            raise
        return unavailable(error.message)


def _failed(endpoint: Endpoint, error: BaseException) -> ApiError:
    why = str(error) or type(error).__name__
    return ApiError(503, "ServiceUnavailable", f"error trying to reach service: dial tcp {endpoint.authority}: {why}")


def unavailable(text: str) -> web.Response:
    """Plain text, so that clients say in their own words that the server is currently unable to handle this."""
    return web.Response(status=503, text=text + "\n", headers={"X-Content-Type-Options": "nosniff"})
