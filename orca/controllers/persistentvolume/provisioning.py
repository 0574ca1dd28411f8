"""The volumes that orca makes by itself: directories on a host, and sub-directories of an NFS export. Pure.

Only the PersistentVolume is made here. Its directory is made by the first host that mounts it, and removed by the host
that is named in the label ``orca.io/reclaim-on`` (see ``agents.volumes``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orca.api.finalizers import VOLUME_CONTENT
from orca.api.objects import Obj, labels, meta, name, namespace, uid
from orca.api.volumes import (
    BOUND_BY_CONTROLLER,
    DELETE,
    LOCAL_PATH,
    NFS_BASE,
    NFS_SUBDIR,
    ON_DELETE,
    ON_DELETE_WORDS,
    PROVISIONED_BY,
    mode,
    requested,
)

DEFAULT_PATH = "/var/lib/orca/volumes"
_HOSTNAME = "kubernetes.io/hostname"
_NODE_LOCAL = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})
_PATTERN = re.compile(r"\$\{\.PVC\.((?:labels|annotations)\.(?P<key>[^}]+)|name|namespace)\}")


class ProvisioningError(Exception):
    """What the class or the claim asks for cannot be made; the text names the field."""


def claim_reference(claim: Obj) -> Obj:
    """For ``spec.claimRef``."""
    return {
        "kind": PERSISTENTVOLUMECLAIMS.kind,
        "apiVersion": PERSISTENTVOLUMECLAIMS.api_version,
        "namespace": namespace(claim),
        "name": name(claim),
        "uid": uid(claim),
        "resourceVersion": meta(claim).get("resourceVersion"),
    }


def provision(claim: Obj, storage_class: Obj, node: Obj | None) -> Obj:
    """The PersistentVolume for a claim; ``node`` is where its pod will run, or None. Raises ProvisioningError."""
    make = _SOURCES[storage_class["provisioner"]]
    if mode(claim) != "Filesystem":
        raise ProvisioningError(f"{storage_class['provisioner']} does not support block volume provisioning")
    if any((claim.get("spec") or {}).get(source) for source in ("dataSource", "dataSourceRef")):
        # An empty volume would be taken for the copy that was asked for.
        plugin = f'plugin "{storage_class["provisioner"]}" is not a CSI plugin'
        raise ProvisioningError(f"{plugin}. Only CSI plugin can provision a claim with a datasource")
    if (claim.get("spec") or {}).get("selector"):
        raise ProvisioningError("claim.Spec.Selector is not supported")
    if storage_class.get("mountOptions") and storage_class["provisioner"] == LOCAL_PATH:
        text = f"StorageClass {name(storage_class)!r} has mount options {storage_class['mountOptions']}"
        raise ProvisioningError(f"Mount options are not supported by the provisioner but {text}")
    source = make(claim, dict(storage_class.get("parameters") or {}), node)
    spec: Obj = {
        "capacity": {"storage": str(requested(claim))},
        "accessModes": list(claim["spec"]["accessModes"]),
        "claimRef": claim_reference(claim),
        "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
        "storageClassName": name(storage_class),
        "volumeMode": "Filesystem",
        **source,
    }
    if storage_class.get("mountOptions"):
        spec["mountOptions"] = list(storage_class["mountOptions"])
    annotations = {PROVISIONED_BY: storage_class["provisioner"], BOUND_BY_CONTROLLER: "yes"}
    parameters = storage_class.get("parameters") or {}
    if storage_class["provisioner"] == NFS_SUBDIR:
        annotations[NFS_BASE] = _path("path", parameters.get("path") or "/")
        annotations[ON_DELETE] = parameters.get("onDelete") or DELETE
    metadata: Obj = {"name": volume_name(claim), "annotations": annotations}
    if spec["persistentVolumeReclaimPolicy"] == "Delete":
        metadata["finalizers"] = [VOLUME_CONTENT]
    return {
        "apiVersion": PERSISTENTVOLUMES.api_version,
        "kind": PERSISTENTVOLUMES.kind,
        "metadata": metadata,
        "spec": spec,
    }


def volume_name(claim: Obj) -> str:
    """As upstream's provisioners name volumes: the same for every try."""
    return f"pvc-{uid(claim)}"


def _local_path(claim: Obj, parameters: dict[str, str], node: Obj | None) -> Obj:
    _only(parameters, "path")
    wrong = sorted(set(claim["spec"]["accessModes"]) - _NODE_LOCAL)
    if wrong:
        raise ProvisioningError(
            f"spec.accessModes: {wrong[0]}: a directory of one host only supports ReadWriteOnce and ReadWriteOncePod"
        )
    if node is None:
        raise ProvisioningError("no node is ready to have the volume")
    base = _path("path", parameters.get("path") or DEFAULT_PATH)
    directory = f"{volume_name(claim)}_{namespace(claim)}_{name(claim)}"
    host = labels(node).get(_HOSTNAME) or name(node)
    expression = {"key": _HOSTNAME, "operator": "In", "values": [host]}
    return {
        "local": {"path": f"{base}/{directory}"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
    }


def _nfs_subdir(claim: Obj, parameters: dict[str, str], node: Obj | None) -> Obj:
    del node
    _only(parameters, "server", "path", "pathPattern", "onDelete", "readOnly")
    server = parameters.get("server")
    if not server:
        raise ProvisioningError("parameters.server of the StorageClass is missing: the NFS server")
    on_delete = parameters.get("onDelete")
    if on_delete is not None and on_delete not in ON_DELETE_WORDS:
        raise ProvisioningError(f"parameters.onDelete: {on_delete!r} is none of {', '.join(ON_DELETE_WORDS)}")
    base = _path("path", parameters.get("path") or "/")
    pattern = parameters.get("pathPattern")
    directory = _filled(pattern, claim) if pattern else f"{namespace(claim)}-{name(claim)}-{volume_name(claim)}"
    read_only = parameters.get("readOnly") or "false"
    if read_only not in ("true", "false"):
        raise ProvisioningError(f"parameters.readOnly: {read_only!r} is neither true nor false")
    source: Obj = {"server": server, "path": f"{base.rstrip('/')}/{directory}"}
    return {"nfs": source | ({"readOnly": True} if read_only == "true" else {})}


def _filled(pattern: str, claim: Obj) -> str:
    def value(match: re.Match[str]) -> str:
        if match["key"]:
            field = match[1].partition(".")[0]
            return str((meta(claim).get(field) or {}).get(match["key"]) or "")
        return name(claim) if match[1] == "name" else namespace(claim)

    filled = _PATTERN.sub(value, pattern).strip("/")
    if not filled or "${" in filled:
        raise ProvisioningError(f"parameters.pathPattern: {pattern!r} leads to no directory")
    _path("pathPattern", f"/{filled}")
    return filled


def _path(field: str, text: str) -> str:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or "\0" in text:
        raise ProvisioningError(f"parameters.{field}: {text!r} must be an absolute path without '..'")
    return str(path)


def _only(parameters: dict[str, str], *known: str) -> None:
    unknown = sorted(parameters.keys() - set(known))
    if unknown:
        raise ProvisioningError(f"parameters.{unknown[0]} of the StorageClass is not known; known: {', '.join(known)}")


_SOURCES: dict[str, Callable[[Obj, dict[str, str], Obj | None], Obj]] = {
    LOCAL_PATH: _local_path,
    NFS_SUBDIR: _nfs_subdir,
}
