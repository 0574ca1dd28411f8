"""What a definition adds to the resource table: one row for each version it serves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson

from orca.api.builtin import SCALE
from orca.api.customresources.definition import is_established
from orca.api.objects import Obj, is_terminating
from orca.api.resources import READ_WRITE, Resource, Subresource, version_order

_STATUS = Subresource("status", READ_WRITE)


@dataclass(frozen=True, slots=True)
class Served:
    """One version a definition serves: its row, where it stands in ``spec.versions``, and what it says there."""

    row: Resource
    index: int
    version: Obj


def definition_name(group: str, version: str, kind: str) -> str:
    """The schema's name, as upstream publishes it: ``com.example.stable.v1.CronTab``."""
    return ".".join([*reversed(group.split(".")), version, kind])


def rows_of(obj: Obj) -> list[Served]:
    """The rows of a definition; none until it is established."""
    if not is_established(obj):
        return []
    spec, names = obj["spec"], obj["status"]["acceptedNames"]
    group, plural, kind = spec["group"], names.get("plural") or "", names.get("kind") or ""
    if not plural or not kind:
        return []
    versions = spec["versions"]
    stored = next(version["name"] for version in versions if version.get("storage"))
    shared = [names, spec["scope"], stored, spec.get("conversion"), is_terminating(obj)]
    if len(versions) > 1:
        # Objects are read in the version they are stored in.
        schemas = {version["name"]: version.get("schema") for version in versions}
        shared.append(hashlib.sha256(orjson.dumps(schemas)).hexdigest())
    found = []
    for index, version in enumerate(versions):
        if not version.get("served"):
            continue
        told = version.get("subresources") or {}
        subresources = [sub for key, sub in (("status", _STATUS), ("scale", SCALE)) if told.get(key) is not None]
        warning = _warning(spec, version)
        row = Resource(
            group=group,
            version=version["name"],
            plural=plural,
            singular=names.get("singular") or kind.lower(),
            kind=kind,
            namespaced=spec["scope"] == "Namespaced",
            definition=definition_name(group, version["name"], kind),
            storage=f"/registry/{group}/{plural}",
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            subresources=tuple(subresources),
            stored_as=f"{group}/{stored}",
            list_kind=names.get("listKind") or f"{kind}List",
            custom=True,
            fingerprint=hashlib.sha256(orjson.dumps([*shared, version, warning])).hexdigest(),
            warning=warning,
            terminating=is_terminating(obj),
        )
        found.append(Served(row, index, version))
    return sorted(found, key=lambda served: version_order(served.row.version))


def stored_row(obj: Obj) -> Resource:
    """The storage version's row, also when that version is not served: all objects can be found by it."""
    spec = obj["spec"]
    version = next(version["name"] for version in spec["versions"] if version.get("storage"))
    names = spec["names"]
    return Resource(
        group=spec["group"],
        version=version,
        plural=names["plural"],
        singular=names.get("singular") or "",
        kind=names["kind"],
        namespaced=spec["scope"] == "Namespaced",
        definition=definition_name(spec["group"], version, names["kind"]),
        storage=f"/registry/{spec['group']}/{names['plural']}",
        custom=True,
    )


def _warning(spec: Obj, version: Obj) -> str:
    """The text of the definition, or one that names the best version to use instead."""
    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning"):
        return str(version["deprecationWarning"])
    group, kind = spec["group"], spec["names"]["kind"]
    least = version_order(version["name"])
    good = [one["name"] for one in spec["versions"] if one.get("served") and not one.get("deprecated")]
    better = sorted(order for name in good if (order := (version_order(name), name)) < (least, ""))
    instead = f"; use {group}/{better[0][1]} {kind}" if better else ""
    return f"{group}/{version['name']} {kind} is deprecated{instead}"
