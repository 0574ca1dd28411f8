"""Discovery: which groups, versions and resources are served, in the legacy lists and in the aggregated document.

Derived from the resource table and rebuilt only when it changes. Reference: k8s.io/api ``apidiscovery/v2`` and
``meta/v1`` APIGroupList, APIResourceList.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson
from aiohttp import web

from orca.api.errors import no_such_page
from orca.api.objects import Obj
from orca.api.resources import Resource, ResourceTable
from orca.server.aggregation.merging import RemoteVersion
from orca.server.negotiation import YAML, Form, negotiate, negotiate_discovery
from orca.server.responses import encode


@dataclass(frozen=True, slots=True)
class _Document:
    body: bytes
    etag: str


class Elsewhere(Protocol):
    """Group versions that other servers have."""

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever they change."""

    def groups(self, local: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
        """``local`` and theirs: group -> versions, preferred first."""

    def version(self, group: str, version: str) -> RemoteVersion | None:
        """One of theirs."""


class Discovery:
    """Answers ``/api``, ``/apis`` and everything of discovery below."""

    def __init__(self, table: ResourceTable, server_address: str, elsewhere: Elsewhere) -> None:
        self._table = table
        self._elsewhere = elsewhere
        elsewhere.subscribe(lambda: self._documents.clear())
        self._address = server_address
        self._documents: dict[str, _Document] = {}
        table.subscribe(lambda _what, _row: self._documents.clear())

    def respond(self, path: str, accept: str, if_none_match: str) -> web.Response:
        """The answer for a discovery path. Raises ApiError 404, 406."""
        parts = path.strip("/").split("/")
        version = negotiate_discovery(accept) if len(parts) == 1 else ""
        if version:
            document = self._aggregated(parts[0], version)
            headers = {
                "Content-Type": f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList",
                "ETag": document.etag,
                "Vary": "Accept",
            }
            if if_none_match and document.etag in if_none_match:
                return web.Response(status=304, headers={"ETag": document.etag})
            return web.Response(body=document.body, headers=headers)
        form = negotiate(accept)
        value = self._legacy(parts)
        # kubectl before 1.27 sends an Accept list whose first served entry has no parameters
        media = form.media if form.media == YAML else "application/json"
        return web.Response(body=encode(value, Form(media)), headers={"Content-Type": media, "Vary": "Accept"})

    # -- legacy

    def _groups(self) -> Mapping[str, Sequence[str]]:
        return self._elsewhere.groups(self._table.groups())

    def _legacy(self, parts: list[str]) -> Obj:
        groups = self._groups()
        if parts == ["api"]:
            return {
                "kind": "APIVersions",
                "versions": groups.get("", []),
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}],
            }
        if parts == ["apis"]:
            shown = [_group(name, versions) for name, versions in groups.items() if name]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": shown}
        if parts[0] == "apis" and len(parts) == 2 and parts[1] in groups:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1], groups[parts[1]])}
        group, version = ("", parts[-1]) if parts[0] == "api" else (parts[1], parts[-1])
        rows = self._table.of_group_version(group, version)
        if len(parts) != (2 if parts[0] == "api" else 3) or not rows:
            raise no_such_page()
        return {
            "kind": "APIResourceList",
            **({"apiVersion": "v1"} if group else {}),
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": [entry for row in rows for entry in _legacy_rows(row)],
        }

    # -- aggregated

    def _aggregated(self, root: str, version: str) -> _Document:
        key = f"{root} {version}"
        found = self._documents.get(key)
        if found is None:
            groups = self._groups()
            names = [name for name in groups if (name == "") == (root == "api")]
            body = orjson.dumps(
                {
                    "kind": "APIGroupDiscoveryList",
                    "apiVersion": f"apidiscovery.k8s.io/{version}",
                    "metadata": {},
                    "items": [self._aggregated_group(name, groups[name]) for name in names],
                }
            )
            etag = '"' + hashlib.sha512(body).hexdigest().upper() + '"'
            found = self._documents[key] = _Document(body, etag)
        return found

    def _aggregated_group(self, name: str, versions: Sequence[str]) -> Obj:
        return {
            "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
            "versions": [self._aggregated_version(name, version) for version in versions],
        }

    def _aggregated_version(self, group: str, version: str) -> Obj:
        theirs = self._elsewhere.version(group, version) if group else None
        if theirs is None:
            resources = [_aggregated_row(row) for row in self._table.of_group_version(group, version)]
            return {"version": version, "resources": resources, "freshness": "Current"}
        shown: Obj = {"version": version, "freshness": "Current" if theirs.fresh else "Stale"}
        if theirs.resources:
            shown["resources"] = list(theirs.resources)
        return shown


_GROWING = ("create", "patch", "update")


def _group(name: str, versions: Sequence[str]) -> Obj:
    shown = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": shown, "preferredVersion": shown[0]}


def _verbs(row: Resource) -> list[str]:
    """Of a kind that is going, what makes it fewer and what reads; as upstream, others are not shown, but served."""
    return [verb for verb in row.verbs if not row.terminating or verb not in _GROWING]


def _legacy_rows(row: Resource) -> list[Obj]:
    main: Obj = {
        "name": row.plural,
        "singularName": row.singular,
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": _verbs(row),
    }
    if row.short_names:
        main["shortNames"] = list(row.short_names)
    if row.categories:
        main["categories"] = list(row.categories)
    if "list" in row.verbs and not row.virtual:
        main["storageVersionHash"] = _storage_hash(row)
    found = [main]
    for sub in row.subresources:
        entry: Obj = {"name": f"{row.plural}/{sub.name}", "singularName": "", "namespaced": row.namespaced}
        if sub.group:
            entry["group"] = sub.group
        if sub.group and sub.version:
            entry["version"] = sub.version
        entry["kind"] = sub.kind or row.kind
        entry["verbs"] = list(sub.verbs)
        found.append(entry)
    return found


def _aggregated_row(row: Resource) -> Obj:
    entry: Obj = {
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.singular,
        "verbs": _verbs(row),
    }
    if row.short_names:
        entry["shortNames"] = list(row.short_names)
    if row.categories:
        entry["categories"] = list(row.categories)
    if row.subresources:
        entry["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {
                    "group": sub.group if sub.kind else row.group,
                    "version": (sub.version or row.version) if sub.kind else row.version,
                    "kind": sub.kind or row.kind,
                },
                "verbs": list(sub.verbs),
            }
            for sub in row.subresources
        ]
    return entry


def _storage_hash(row: Resource) -> str:
    group, _, version = row.stored_as.rpartition("/")
    return b64encode(hashlib.sha256(f"{group}/{version}/{row.kind}".encode()).digest()[:8]).decode()
