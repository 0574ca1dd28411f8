"""OpenAPI of group versions that other servers serve: their v3 documents are handed on, their part of v2 is merged.

Asked for when a client asks, and remembered for a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from aiohttp import web

from orca.api.objects import Obj, name
from orca.client.clock import Clock
from orca.server.aggregation.apiservices import ApiServices, group_version, is_available
from orca.server.aggregation.backend import Backends, Reply, Unreachable

log = structlog.get_logger()

REMEMBER_SECONDS = 60.0
INDEX_SECONDS = 3.0
DOCUMENT_SECONDS = 10.0
_REF = "#/definitions/"


@dataclass(slots=True)
class _Remembered:
    """A document by APIService, and when it was asked for."""

    at: float
    value: Any


@dataclass(frozen=True, slots=True)
class RemoteSwagger:
    """The v2 documents of all other servers; ``tag`` changes with any of them."""

    parts: tuple[tuple[str, Obj], ...] = ()  # (path prefix, whole document)
    tag: str = ""


@dataclass(slots=True)
class RemoteOpenApi:
    """What :class:`orca.server.openapi.OpenApi` asks."""

    services: ApiServices
    backends: Backends
    clock: Clock
    _held: dict[tuple[str, str], _Remembered] = field(default_factory=dict)

    def owner(self, document: str) -> Obj | None:
        """The APIService behind a v3 document ``apis/<group>/<version>``."""
        parts = document.split("/")
        return self.services.remote(parts[1], parts[2]) if len(parts) == 3 and parts[0] == "apis" else None

    async def index(self) -> dict[str, Obj]:
        """Entries of the v3 index."""
        found: dict[str, Obj] = {}
        available = [one for one in self.services.remotes() if is_available(one)]
        indexes = await asyncio.gather(*(self._json(one, "/openapi/v3", INDEX_SECONDS) for one in available))
        for service, answer in zip(available, indexes, strict=True):
            document = "apis/" + "/".join(group_version(service))
            paths = answer.get("paths") if isinstance(answer, dict) else None
            entry = paths.get(document) if isinstance(paths, dict) else None
            if isinstance(entry, dict) and isinstance(entry.get("serverRelativeURL"), str):
                found[document] = {"serverRelativeURL": entry["serverRelativeURL"]}
        return found

    async def document(self, service: Obj, path: str, query: str, accept: str) -> web.Response:
        """A v3 document, as its server has it."""
        try:
            asked = f"{path}?{query}" if query else path
            reply: Reply = await self.backends.get(service, asked, DOCUMENT_SECONDS, accept=accept or "*/*")
        except Unreachable as error:
            log.warning("no OpenAPI from an aggregated API", name=name(service), error=str(error))
            return web.Response(status=503, text="service unavailable\n")
        kind = {"Content-Type": reply.content_type} if reply.content_type else {}
        return web.Response(status=reply.status, body=reply.body, headers=kind)

    async def swagger(self) -> RemoteSwagger:
        """All v2 documents that can be had."""
        available = [one for one in self.services.remotes() if is_available(one)]
        if not available:
            return RemoteSwagger()
        answers = await asyncio.gather(*(self._json(one, "/openapi/v2", DOCUMENT_SECONDS) for one in available))
        parts = []
        digest = hashlib.sha512()
        for service, answer in zip(available, answers, strict=True):
            if isinstance(answer, dict):
                parts.append(("/apis/" + "/".join(group_version(service)), answer))
                digest.update(orjson.dumps(answer))
        return RemoteSwagger(tuple(parts), digest.hexdigest()[:32])

    async def _json(self, service: Obj, path: str, seconds: float) -> Any:
        """A JSON document; None when there is none."""
        key = (name(service), path)
        now = self.clock.monotonic()
        held = self._held.get(key)
        if held is not None and now - held.at < REMEMBER_SECONDS:
            return held.value
        value = None
        try:
            reply = await self.backends.get(service, path, seconds)
            if reply.status == 200:
                value = orjson.loads(reply.body)
        except (Unreachable, orjson.JSONDecodeError) as error:
            log.info("no OpenAPI from an aggregated API", name=name(service), error=str(error))
        self._held[key] = _Remembered(now, value)
        return value


def merge_swagger(document: Obj, parts: Iterable[tuple[str, Obj]]) -> None:
    """Add to a v2 document, in place, the paths below each prefix and the definitions they need.

    A definition whose name is taken by another one gets ``_v2`` behind its name, as upstream renames.
    """
    for prefix, other in parts:
        theirs = other.get("definitions") or {}
        paths = {
            path: item
            for path, item in (other.get("paths") or {}).items()
            if path == prefix or path.startswith(f"{prefix}/")
        }
        needed: dict[str, Any] = {}
        waiting: list[Any] = list(paths.values())
        while waiting:
            for reference in _references(waiting.pop()):
                if reference in theirs and reference not in needed:
                    needed[reference] = theirs[reference]
                    waiting.append(theirs[reference])
        ours = document["definitions"]
        renamed: dict[str, str] = {}
        for key, definition in needed.items():
            number, free = 2, key
            while free in ours and ours[free] != definition:
                free = f"{key}_v{number}"
                number += 1
            if free != key:
                renamed[key] = free
        for key, definition in needed.items():
            ours.setdefault(renamed.get(key, key), _rewritten(definition, renamed))
        for path, item in paths.items():
            document["paths"].setdefault(path, _rewritten(item, renamed))


def _references(value: Any) -> set[str]:
    found: set[str] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            reference = one.get("$ref")
            if isinstance(reference, str) and reference.startswith(_REF):
                found.add(reference[len(_REF) :])
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return found


def _rewritten(value: Any, renamed: dict[str, str]) -> Any:
    if not renamed:
        return value
    if isinstance(value, dict):
        made = {key: _rewritten(inner, renamed) for key, inner in value.items()}
        reference = made.get("$ref")
        if isinstance(reference, str) and reference.startswith(_REF):
            stem = reference[len(_REF) :]
            made["$ref"] = _REF + renamed.get(stem, stem)
        return made
    if isinstance(value, list):
        return [_rewritten(inner, renamed) for inner in value]
    return value
