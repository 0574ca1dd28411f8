"""The short way of the commonest request: one stored object, as JSON, for somebody who may see it now.

Such a GET waits for nothing, so it needs no task, no deadline and no response object: it is answered where its bytes
arrive. The short way decides nothing by itself. It asks the same gate, the same priority and fairness and the same
store as the long one, and whatever it cannot answer with 200 at once takes the long way, uncounted.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_parser import RawRequestMessage

from orca.api.errors import ApiError
from orca.api.resources import Resource
from orca.auth import Action
from orca.server.fairness import Flow
from orca.server.identifiers import new_uid
from orca.server.identity import object_action
from orca.server.metrics import Kind
from orca.server.negotiation import JSON, negotiate
from orca.server.paths import Target
from orca.server.request import for_people
from orca.server.responses import GZIP_FROM
from orca.server.verbs.serving import ready

if TYPE_CHECKING:
    from orca.server.app import Parts

_WAYS = 2048
"""Paths whose way is remembered."""


@dataclass(frozen=True, slots=True)
class _Way:
    """What a path means, worked out once: where its object is, what is asked for, and where that is counted."""

    target: Target
    resource: Resource
    space: str
    action: Action
    counted: Kind


class Shortcut:
    """``targets`` are the paths whose meaning is known, as the application keeps them."""

    def __init__(self, parts: Parts, targets: dict[str, Target]) -> None:
        self._parts = parts
        self._targets = targets
        self._ways: dict[str, _Way] = {}
        parts.table.subscribe(lambda _what, _row: self._ways.clear())
        self._open = parts.audit is None and parts.fairness is not None

    def answer(self, message: RawRequestMessage, peer_der: bytes | None) -> bytes | None:
        """The whole answer to a request without a body; None when it has to go the long way. ``peer_der`` is the
        verified client certificate."""
        if message.method != "GET" or not self._open:
            return None
        way = self._ways.get(message.path) or self._way(message.path)
        if way is None:
            return None
        headers = message.headers
        if "Audit-ID" in headers or for_people(headers.get("User-Agent", "")):
            return None
        parts, target, resource = self._parts, way.target, way.resource
        fairness = parts.fairness
        assert fairness is not None
        try:
            accept = headers.get("Accept", JSON)
            if accept != JSON and not negotiate(accept).plain_json:
                return None
            if target.group and parts.aggregator.remote(target.group, target.version) is not None:
                return None
            held = parts.verbs.core.store.held(resource, way.space, target.name)
            entry = ready(resource, held) if held is not None else None
        except ApiError:
            return None
        if entry is None or entry.size >= GZIP_FROM:
            return None
        user = parts.gate.admitted(headers, peer_der, way.action, target.path)
        if user is None:
            return None
        began = perf_counter()
        flow = fairness.classify(user, "get", target)
        if not fairness.enter(flow, 1, began):
            return None
        parts.gate.let_in(user, headers)
        size = entry.size
        told = f"{new_uid()}\r\nDate: {rfc822_formatted_time()}\r\nContent-Length: {size}\r\n\r\n"
        answer = b"".join((_head(flow), told.encode(), *entry.parts))
        fairness.leave(flow, 1, None, began)
        way.counted.count(200, perf_counter() - began, size)
        return answer

    def _way(self, path: str) -> _Way | None:
        target = self._targets.get(path)
        if target is None or target.resource is None or not _is_plain_get(target):
            return None
        resource = target.resource
        space = target.namespace if resource.namespaced else ""
        counted = self._parts.metrics.kind("get", target)
        way = _Way(target, resource, space, object_action("get", target), counted)
        if len(self._ways) >= _WAYS:
            self._ways.clear()
        self._ways[path] = way
        return way


def _is_plain_get(target: Target) -> bool:
    resource = target.resource
    return (
        resource is not None
        and bool(target.name)
        and not target.subresource
        and not target.watch
        and not resource.virtual
        and not resource.warning
        and "get" in resource.verbs
        and resource.namespaced == target.within
    )


def _head(flow: Flow) -> bytes:
    """The answer up to the identifier of the request: the same for all of a flow."""
    found = flow.head
    if not found:
        found = flow.head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-cache, private\r\n"
            f"X-Kubernetes-PF-FlowSchema-UID: {flow.schema.uid}\r\n"
            f"X-Kubernetes-PF-PriorityLevel-UID: {flow.level.uid}\r\nAudit-Id: "
        ).encode()
    return found
