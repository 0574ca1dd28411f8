"""The rest of the core group."""

from __future__ import annotations

from base64 import b64encode

from orca.api.defaults.pods import PERSISTENT_SOURCES, claim_spec
from orca.api.defaults.quantities import canonical_list
from orca.api.defaults.registry import Obj, defaults, part, put, put_text

NAME_LABEL = "kubernetes.io/metadata.name"


@defaults("", "Namespace")
def namespace(obj: Obj) -> None:
    """The label that names the namespace, its phase and its finalizer.

    The finalizer is only added to a namespace that is not being deleted, so that removing it finishes deletion.
    """
    meta = part(obj, "metadata")
    if meta.get("name"):
        part(meta, "labels")[NAME_LABEL] = meta["name"]
    put_text(part(obj, "status"), phase="Active")


@defaults("", "Secret")
def secret(obj: Obj) -> None:
    """The type, and ``stringData`` folded into ``data``."""
    put_text(obj, type="Opaque")
    plain = obj.pop("stringData", None)
    if plain:
        data = part(obj, "data")
        for key, value in plain.items():
            data[key] = b64encode(value.encode()).decode() if isinstance(value, str) else value


@defaults("", "Node")
def node(obj: Obj) -> None:
    """Allocatable is capacity until the agent says otherwise."""
    status = obj.get("status")
    if status:
        canonical_list(status.get("capacity"))
        if status.get("allocatable") is None and status.get("capacity") is not None:
            status["allocatable"] = dict(status["capacity"])
        canonical_list(status.get("allocatable"))


@defaults("", "PersistentVolume")
def persistent_volume(obj: Obj) -> None:
    """Defaults of a PersistentVolume and of its source."""
    spec = part(obj, "spec")
    put_text(spec, persistentVolumeReclaimPolicy="Retain")
    put(spec, volumeMode="Filesystem")
    canonical_list(spec.get("capacity"))
    for key, fill in PERSISTENT_SOURCES.items():
        source = spec.get(key)
        if source is not None:
            fill(source)
    put_text(part(obj, "status"), phase="Pending")


@defaults("", "PersistentVolumeClaim")
def persistent_volume_claim(obj: Obj) -> None:
    """Defaults of a PersistentVolumeClaim."""
    claim_spec(part(obj, "spec"))
    put_text(part(obj, "status"), phase="Pending")


@defaults("", "LimitRange")
def limit_range(obj: Obj) -> None:
    """Container limits: default limit from max, default request from the limit, then from min."""
    for item in (obj.get("spec") or {}).get("limits") or ():
        for key in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
            canonical_list(item.get(key))
        if item.get("type") != "Container":
            continue
        limit = {**(item.get("max") or {}), **(item.get("default") or {})}
        request = {**(item.get("min") or {}), **limit, **(item.get("defaultRequest") or {})}
        if limit:
            item["default"] = limit
        if request:
            item["defaultRequest"] = request


@defaults("", "ResourceQuota")
def resource_quota(obj: Obj) -> None:
    """Canonical quantities."""
    canonical_list((obj.get("spec") or {}).get("hard"))
    status = obj.get("status") or {}
    canonical_list(status.get("hard"))
    canonical_list(status.get("used"))
