"""What a URL path asks for: one parser for every kind, derived from the resource table.

``/api/v1/namespaces/default/pods/web-1/log`` becomes a ``Target``; everything that is not an object
path (``/healthz``, ``/apis``, ``/openapi/v3``) is a ``Target`` without a resource.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from orca.api.resources import Resource, ResourceTable

# Subresources under which the rest of the path belongs to somebody else.
_TAILED = frozenset({"proxy"})
# Subresources of a Namespace; every other word in that place is a resource inside the namespace.
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


@dataclass(slots=True)
class Target:
    """The parts of a request path.

    ``group`` and ``version`` are set for discovery paths too; ``resource`` is None when the table has no such
    row, ``plural`` then tells what was asked for. ``tail`` is the rest of the path after ``proxy``, with its
    leading slash. ``watch`` is true for the deprecated ``/api/v1/watch/...`` prefix.
    """

    path: str
    group: str = ""
    version: str = ""
    plural: str = ""
    resource: Resource | None = None
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    tail: str = ""
    watch: bool = False
    within: bool = False
    """Whether the path has ``/namespaces/<namespace>/`` before the plural."""

    @property
    def is_object_path(self) -> bool:
        return self.plural != ""


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")


def origin_form(target: str) -> str:
    """Path and query of a request's target in absolute form (``https://host/path?query``), which every server has to
    take (RFC 9112, 3.2.2); any other target as it is."""
    found = _SCHEME.match(target)
    if found is None:
        return target
    rest = target[found.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


def parse_path(path: str, table: ResourceTable) -> Target:
    """Split ``path`` (already without its query, still percent-encoded) into a Target."""
    parts = path.split("/")  # "/api/v1/pods" -> ["", "api", "v1", "pods"]
    if len(parts) > 1 and parts[-1] == "" and "proxy" not in parts:
        parts.pop()
    target = Target(path)
    if len(parts) < 3:
        return target
    if parts[1] == "api":
        target.version, rest = parts[2], parts[3:]
    elif parts[1] == "apis" and len(parts) >= 4:
        target.group, target.version, rest = parts[2], parts[3], parts[4:]
    elif parts[1] == "apis":
        target.group = parts[2]
        return target
    else:
        return target
    if not rest:
        return target
    if "%" in path:
        rest = [unquote(part) for part in rest]
    if rest[0] == "watch" and len(rest) > 1:
        target.watch = True
        rest = rest[1:]
    _objects(target, rest)
    target.resource = served_at(target, table)
    return target


def served_at(target: Target, table: ResourceTable) -> Resource | None:
    """The row that is served at this path: below a namespace only what belongs into one, else a right in that
    namespace would reach everything; and single objects of those kinds nowhere else."""
    row = table.lookup(target.group, target.version, target.plural)
    if row is None or row.namespaced == target.within:
        return row if row is None or not target.within or target.namespace else None
    return row if row.namespaced and not target.name else None


def _objects(target: Target, rest: list[str]) -> None:
    if (
        rest[0] == "namespaces"
        and len(rest) >= 3
        and not (target.group == "" and len(rest) == 3 and rest[2] in _NAMESPACE_SUBRESOURCES)
    ):
        target.namespace, target.within = rest[1], True
        rest = rest[2:]
    target.plural = rest[0]
    if len(rest) > 1:
        target.name = rest[1]
    if len(rest) > 2:
        target.subresource = rest[2]
    if len(rest) > 3:
        if target.subresource in _TAILED:
            target.tail = "/" + "/".join(rest[3:])
        else:
            target.subresource = "/".join(rest[2:])
    # A Namespace is its own namespace for authorisation and admission.
    if target.plural == "namespaces" and target.group == "" and target.namespace == "":
        target.namespace = target.name
