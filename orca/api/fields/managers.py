"""``managedFields`` entries: read, identified, ordered, capped; and which fields a door of a kind leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from sys import intern
from typing import Any

import orjson

from orca.api.fields import sets
from orca.api.fields.sets import EMPTY, FieldSet, of
from orca.api.resources import Resource

Entry = dict[str, Any]
"""One entry as the API shows it, frozen."""
Identity = tuple[str, str, str, str]
"""(operation, manager, apiVersion, subresource); appliers are the same whatever version they use."""

APPLY, UPDATE = "Apply", "Update"
BEFORE_FIRST_APPLY = "before-first-apply"
ANCIENT = "ancient-changes"
MAX_UPDATERS = 10
_MAX_NAME = 128
_MAX_SUBRESOURCE = 256


def identity(entry: Entry) -> Identity:
    """Whose entry it is."""
    operation = entry["operation"]
    version = "" if operation == APPLY else entry.get("apiVersion", "")
    return operation, entry.get("manager", ""), version, entry.get("subresource") or ""


def make(who: Identity, api_version: str, fields: FieldSet, time: str | None) -> Entry:
    """An entry in the order upstream writes it."""
    operation, manager, _, subresource = who
    entry: Entry = {}
    if manager:
        entry["manager"] = manager
    entry["operation"] = operation
    entry["apiVersion"] = api_version
    if time:
        entry["time"] = time
    entry["fieldsType"] = "FieldsV1"
    entry["fieldsV1"] = fields
    if subresource:
        entry["subresource"] = subresource
    return entry


def with_fields(entry: Entry, fields: FieldSet) -> Entry:
    """The entry with another set."""
    return {**entry, "fieldsV1": fields}


def ordered(entries: list[Entry]) -> list[Entry]:
    """Appliers first, then by time, name, version and subresource."""
    return sorted(
        entries,
        key=lambda one: (
            one["operation"],
            one.get("time") or "",
            one.get("manager", ""),
            one.get("apiVersion", ""),
            one.get("subresource", ""),
        ),
    )


def decode(entries: Any) -> list[Entry] | None:
    """Entries a client or the store gave; None when they cannot be understood. Of one owner's the last one counts."""
    if not entries:
        return []
    if not isinstance(entries, list):
        return None
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("operation") not in (APPLY, UPDATE) or not entry.get("apiVersion"):
            return None
        if entry.get("fieldsType") != "FieldsV1" or not sets.is_field_set(entry.get("fieldsV1") or {}):
            return None
        if not all(isinstance(entry.get(name) or "", str) for name in ("manager", "apiVersion", "subresource", "time")):
            return None
    return list({identity(entry): _whole(entry) for entry in entries}.values())


def _whole(entry: Entry) -> Entry:
    """An entry of a client as it is stored: with a set, and without a subresource that is none."""
    if entry.get("fieldsV1") is None:
        entry = {**entry, "fieldsV1": {}}
    if entry.get("subresource", True):
        return entry
    return {name: value for name, value in entry.items() if name != "subresource"}


def is_reset(entries: Any) -> bool:
    """``[]`` and ``[{}]`` ask to forget all owners."""
    return entries in ([], [{}])


def problems(entries: Any) -> str:
    """Why entries cannot be stored; "" when they can. Reference: ``ValidateManagedFields``, ``DecodeManagedFields``."""
    if entries is not None and not isinstance(entries, list):
        return "metadata.managedFields: Invalid value: must be a list"
    for index, entry in enumerate(entries or ()):
        path = f"metadata.managedFields[{index}]"
        if not isinstance(entry, dict):
            return f"{path}: Invalid value: must be an object"
        if entry.get("operation") not in (APPLY, UPDATE):
            return f'{path}.operation: Invalid value: "{entry.get("operation", "")}": must be `Apply` or `Update`'
        if entry.get("fieldsType") not in (None, "", "FieldsV1"):
            return f'{path}.fieldsType: Invalid value: "{entry["fieldsType"]}": must be `FieldsV1`'
        if len(entry.get("manager") or "") > _MAX_NAME:
            return f"{path}.manager: Too long: may not be more than {_MAX_NAME} bytes"
        if len(entry.get("subresource") or "") > _MAX_SUBRESOURCE:
            return f"{path}.subresource: Too long: may not be more than {_MAX_SUBRESOURCE} bytes"
        if not entry.get("apiVersion"):
            return "apiVersion must not be empty"
        if not entry.get("fieldsType"):
            return f"missing fieldsType in managed fields entry {index}"
        if decode([entry]) is None:
            return f"error decoding versioned set of managed fields entry {index}"
    return ""


def capped(entries: list[Entry]) -> list[Entry]:
    """At most ten updaters: the oldest of one version are merged under the name ``ancient-changes``."""
    updaters = [entry for entry in entries if entry["operation"] == UPDATE]
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return entries
    updaters.sort(key=lambda one: (one.get("time") or "", orjson.dumps(identity(one))))
    found = {identity(entry): entry for entry in entries}
    first: dict[str, Identity] = {}
    for entry in updaters:
        if excess <= 0:
            break
        version, who = entry["apiVersion"], identity(entry)
        if version not in first:
            first[version] = who
            continue
        bucket: Identity = (UPDATE, ANCIENT, version, "")
        before = found.get(bucket) or found.pop(first[version])
        merged = sets.union(entry["fieldsV1"], before["fieldsV1"])
        found.pop(who, None)
        found[bucket] = make(bucket, version, merged, entry.get("time"))
        excess -= 1
    return list(found.values())


_STRIPPED = of(
    ("f:apiVersion",),
    ("f:kind",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        )
    ),
)
_STATUS = of(("f:status",))
_SPEC = of(("f:spec",))
_META = of(("f:metadata",))
_BY_STATUS = {
    "pods": of(("f:spec",), ("f:metadata", "f:deletionTimestamp"), ("f:metadata", "f:ownerReferences")),
    "deployments.apps": of(("f:spec",), ("f:metadata", "f:labels")),
    "certificatesigningrequests.certificates.k8s.io": of(("f:spec",), ("f:status", "f:conditions")),
}
_WITHOUT_METADATA = frozenset(
    {
        "customresourcedefinitions.apiextensions.k8s.io",
        "apiservices.apiregistration.k8s.io",
        "flowschemas.flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        "volumeattachments.storage.k8s.io",
        "resourceclaims.resource.k8s.io",
    }
)
"""Kinds whose status door resets metadata (``GetResetFields`` of their status strategies)."""


@dataclass(frozen=True, slots=True)
class Door:
    """One way to write a kind. ``ignored`` fields are nobody's through it; with ``only`` all others are.

    Doors live as long as the program: sets are remembered by their identity.
    """

    subresource: str
    ignored: FieldSet
    only: FieldSet | None = None

    def limit(self, fields: FieldSet) -> FieldSet:
        """``fields`` without what this door leaves alone."""
        if self.only is not None:
            fields = sets.keep(fields, self.only)
        return sets.exclude(fields, self.ignored)


_doors: dict[tuple[str, str, bool], Door] = {}


def door(resource: Resource, subresource: str = "") -> Door:
    """The door of a kind (main or subresource)."""
    key = (resource.group_resource, subresource, resource.has("status"))
    found = _doors.get(key)
    if found is None:
        found = _doors[key] = _door(resource, subresource)
    return found


def _door(resource: Resource, subresource: str) -> Door:
    name = resource.group_resource
    only: FieldSet | None = None
    ignored: FieldSet = EMPTY
    if subresource == "status" and resource.custom:
        only = _STATUS
    elif subresource == "status":
        ignored = _BY_STATUS.get(name, sets.union(_SPEC, _META) if name in _WITHOUT_METADATA else _SPEC)
    elif subresource == "approval":
        ignored = of(("f:spec",), ("f:status", "f:certificate"))
    elif subresource == "ephemeralcontainers":
        only = of(("f:spec", "f:ephemeralContainers"))
    elif subresource == "resize":
        only = of(("f:spec", "f:containers"), ("f:spec", "f:initContainers"))
    elif resource.has("status"):
        ignored = _STATUS
    return Door(subresource, sets.union(_STRIPPED, ignored), only)


def manager_of(field_manager: str, user_agent: str) -> str:
    """The manager's name: what the request says, else the printable start of its User-Agent."""
    if field_manager:
        return field_manager
    name = user_agent.partition("/")[0]
    if not name.isprintable():
        name = "".join(character for character in name if character.isprintable())
    return intern(name[:_MAX_NAME])  # objects keep it, and it is the same few over and over
