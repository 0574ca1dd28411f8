"""``/openapi/v2`` and ``/openapi/v3``, built from schema and resource table when first asked for.

The v2 document (1.7 MB of JSON, 0.1 s to make) is asked for by old kubectl only; a v3 document is made for the group
version somebody wants, and identified by a hash that clients cache under. Both are made in a thread and kept.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from urllib.parse import urlencode

import orjson
from aiohttp import web

from orca.api.errors import ApiError, no_such_page
from orca.api.objects import Obj
from orca.api.resources import Resource, ResourceTable
from orca.server.aggregation.openapi import RemoteOpenApi, RemoteSwagger, merge_swagger
from orca.server.fairness.turns import Lane
from orca.server.health import KUBERNETES_VERSION, orca_version
from orca.server.negotiation import media_ranges
from orca.server.openapi import documents, gnostic
from orca.server.openapi.operations import group_path
from orca.server.packing import packed, unpacked
from orca.server.responses import GZIP_FROM

_FORMAT = "1"  # raise when the documents' form changes: clients keep them by hash
_FOREVER = "public, max-age=31536000, immutable"
_WILDCARDS = frozenset({"*/*", "application/*"})


class OpenApi:
    """Answers everything below ``/openapi``."""

    def __init__(self, table: ResourceTable, elsewhere: RemoteOpenApi) -> None:
        self._table = table
        self._elsewhere = elsewhere
        self._merged = ""  # the tag of what other servers gave for v2
        self._v2: dict[str, bytes] = {}
        self._v3: dict[str, bytes] = {}
        self._v3_packed: dict[str, bytes] = {}
        self._hashes: dict[str, str] = {}
        self._changes = 0
        self._making = asyncio.Lock()
        table.subscribe(lambda _what, row: self._forget(row))

    def _forget(self, row: Resource) -> None:
        self._changes += 1
        self._hashes.clear()
        self._v2.clear()
        self._v3.pop(group_path(row.group, row.version), None)
        self._v3_packed.pop(group_path(row.group, row.version), None)

    async def respond(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], lane: Lane
    ) -> web.Response:
        """The answer for an OpenAPI path. Raises ApiError 404, 406."""
        parts = path.strip("/").split("/")
        if parts[1:2] == ["v2"] and len(parts) == 2:
            return await self._respond_v2(headers, lane)
        if parts[1:2] == ["v3"]:
            return await self._respond_v3("/".join(parts[2:]), query, headers, lane)
        raise no_such_page()

    # -- v2

    async def _respond_v2(self, headers: Mapping[str, str], lane: Lane) -> web.Response:
        media = _v2_media(headers.get("Accept", ""))
        remote = await self._elsewhere.swagger()
        etag = f'"{self._hash("")}{remote.tag}"'
        if etag in headers.get("If-None-Match", ""):
            return web.Response(status=304, headers={"ETag": etag})
        async with self._making:
            if remote.tag != self._merged:
                self._v2.clear()
                self._merged = remote.tag
            made = self._v2.get(media)
            if made is None:
                changes = self._changes
                made = await asyncio.to_thread(self._make_v2, media, remote)
                if changes == self._changes:  # else it may be out of date already
                    self._v2[media] = made
        shown = {"Content-Type": media, "ETag": etag, "Vary": "Accept, Accept-Encoding"}
        if "gzip" in headers.get("Accept-Encoding", ""):
            return web.Response(body=made, headers=shown | {"Content-Encoding": "gzip"})
        return web.Response(body=await unpacked(made, lane), headers=shown)

    def _make_v2(self, media: str, remote: RemoteSwagger) -> bytes:
        document = documents.swagger(self._table)
        merge_swagger(document, remote.parts)
        body = gnostic.encode(document) if media == gnostic.MEDIA else orjson.dumps(document)
        # Kept packed: with hundreds of custom kinds it is tens of megabytes, and nearly every client takes it so.
        return gzip.compress(body, compresslevel=4)

    # -- v3

    async def _respond_v3(
        self, name: str, query: Mapping[str, str], headers: Mapping[str, str], lane: Lane
    ) -> web.Response:
        if not _accepts_json(headers.get("Accept", "")):
            raise ApiError(406, "NotAcceptable", "only the following media types are accepted: application/json")
        if not name:
            index = self._index()
            paths = index["paths"] | await self._elsewhere.index()
            return web.Response(body=orjson.dumps({"paths": paths}), headers={"Content-Type": "application/json"})
        service = self._elsewhere.owner(name)
        if service is not None:
            text = urlencode({"hash": query["hash"]}) if "hash" in query else ""
            return await self._elsewhere.document(service, f"/openapi/v3/{name}", text, "application/json")
        rows = self._rows().get(name)
        if not rows:
            raise no_such_page()
        current = self._hash(name)
        asked = query.get("hash", "")
        if asked and asked != current:
            location = f"/openapi/v3/{name}?{urlencode({'hash': current})}"
            return web.Response(status=301, headers={"Location": location})
        etag = f'"{current}"'
        if etag in headers.get("If-None-Match", ""):
            return web.Response(status=304, headers={"ETag": etag})
        body = self._v3.get(name)
        if body is None:
            changes = self._changes
            body = await asyncio.to_thread(lambda: orjson.dumps(documents.openapi(rows)))
            if changes == self._changes:
                self._v3[name] = body
        response = web.Response(body=body, headers={"Content-Type": "application/json", "ETag": etag, "Vary": "Accept"})
        if asked:
            response.headers["Cache-Control"] = _FOREVER
        if len(body) < GZIP_FROM or "gzip" not in headers.get("Accept-Encoding", ""):
            return response
        made = self._v3_packed.get(name)
        if made is None:
            made = await packed(body, lane)
            if self._v3.get(name) is body:
                self._v3_packed[name] = made
        response.body = made
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
        return response

    def _index(self) -> Obj:
        found = {
            name: {"serverRelativeURL": f"/openapi/v3/{name}?{urlencode({'hash': self._hash(name)})}"}
            for name in self._rows()
        }
        return {"paths": found}

    def _rows(self) -> dict[str, list[Resource]]:
        found: dict[str, list[Resource]] = {}
        for row in self._table:
            found.setdefault(group_path(row.group, row.version), []).append(row)
        return found

    def _hash(self, name: str) -> str:
        """Identity of a document: what it is made from, without making it. "" is the v2 document."""
        if not self._hashes:
            whole = hashlib.sha512(f"{_FORMAT} {KUBERNETES_VERSION} {orca_version()}".encode())
            seed = whole.copy()
            for group, rows in self._rows().items():
                part = seed.copy()
                for row in rows:
                    part.update(_described(row))
                self._hashes[group] = part.hexdigest().upper()
                whole.update(part.digest())
            self._hashes[""] = whole.hexdigest().upper()
        return self._hashes[name]


def _described(row: Resource) -> bytes:
    return orjson.dumps(
        [
            row.plural,
            row.kind,
            row.namespaced,
            row.verbs,
            [[sub.name, sub.verbs] for sub in row.subresources],
            row.fingerprint,
        ]
    )


def _v2_media(accept: str) -> str:
    if not accept:
        return "application/json"
    for wanted in media_ranges(accept):
        if wanted.media.replace("@", ".") == gnostic.MEDIA:
            return gnostic.MEDIA
        if wanted.media in _WILDCARDS or wanted.media == "application/json":
            return "application/json"
    raise ApiError(
        406, "NotAcceptable", f"only the following media types are accepted: application/json, {gnostic.MEDIA}"
    )


def _accepts_json(accept: str) -> bool:
    return not accept or any(r.media in _WILDCARDS or r.media == "application/json" for r in media_ranges(accept))
