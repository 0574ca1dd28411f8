"""Kinds of other servers, for controllers that have to look after everything there is: a namespace that is emptied."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from orca.api.errors import ApiError, service_unavailable
from orca.api.objects import Obj, is_terminating, name
from orca.api.resources import Resource
from orca.client.hooks import refusal_text
from orca.server.aggregation.apiservices import ApiServices
from orca.server.aggregation.availability import Availability
from orca.server.aggregation.backend import Backends, Reply, Unreachable
from orca.server.aggregation.merging import RemoteVersion

SECONDS = 30.0


@dataclass(slots=True)
class RemoteKinds:
    """As ``orca.controllers.config.RemoteKinds`` says."""

    services: ApiServices
    backends: Backends
    availability: Availability

    def failing(self) -> Sequence[str]:
        """Group versions whose discovery is stale, in client-go's words."""
        return sorted(
            f"{one.group}/{one.version}: stale GroupVersion discovery: {one.group}/{one.version}"
            for one in self.availability.versions
            if not one.fresh
        )

    def deletable(self) -> Sequence[Resource]:
        """Rows of namespaced kinds that can be listed and deleted."""
        return [
            _row(one, entry)
            for one in self.availability.versions
            if one.fresh
            for entry in one.resources
            if entry.get("scope") == "Namespaced" and {"list", "delete"} <= set(entry.get("verbs") or ())
        ]

    async def empty(self, resource: Resource, namespace: str) -> list[Obj]:
        """Delete all objects of a kind in a namespace; what is left. Raises ApiError."""
        path = f"/apis/{resource.api_version}/namespaces/{namespace}/{resource.plural}"
        found = await self._list(resource, path)
        if all(is_terminating(obj) for obj in found):
            return found
        if "deletecollection" in resource.verbs:
            await self._ask("DELETE", resource, path)
        else:
            await asyncio.gather(*(self._ask("DELETE", resource, f"{path}/{name(obj)}") for obj in found))
        return await self._list(resource, path)

    async def _list(self, resource: Resource, path: str) -> list[Obj]:
        reply = await self._ask("GET", resource, path)
        try:
            items = orjson.loads(reply.body).get("items") or []
        except (orjson.JSONDecodeError, AttributeError) as error:
            raise service_unavailable(f"{path} gave no list") from error
        return [item for item in items if isinstance(item, dict) and isinstance(item.get("metadata"), dict)]

    async def _ask(self, method: str, resource: Resource, path: str) -> Reply:
        """Raises ApiError, but not for what is gone."""
        service = self.services.remote(resource.group, resource.version)
        if service is None:
            raise service_unavailable(f"nobody serves {resource.api_version} any more")
        try:
            reply = await self.backends.ask(method, service, path, SECONDS)
        except Unreachable as error:
            raise service_unavailable(str(error)) from error
        if reply.status >= 400 and not (method == "DELETE" and reply.status == 404):
            raise ApiError(reply.status, "", refusal_text(reply.status, reply.body))
        return reply


def _row(version: RemoteVersion, entry: Obj) -> Resource:
    plural = entry["resource"]
    return Resource(
        group=version.group,
        version=version.version,
        plural=plural,
        singular=entry.get("singularResource") or "",
        kind=(entry.get("responseKind") or {}).get("kind") or "",
        namespaced=True,
        definition="",
        storage=f"elsewhere/{version.group}/{plural}",
        verbs=tuple(entry.get("verbs") or ()),
    )
