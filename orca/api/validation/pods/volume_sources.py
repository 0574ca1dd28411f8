"""Where the data of a volume comes from: one check a source, for pods and, where both have it, PersistentVolumes.

Reference: k8s.io/kubernetes ``pkg/apis/core/validation``. ``IN_TREE`` are the drivers that Kubernetes once carried
itself; their paths have oddities (``persistentDisk``), which clients know and so are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

Check = Callable[[Obj, str, Errors], None]

_MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_IQN = re.compile(r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9\-.]+)(:[^,;*&$|\s]+)$")
_EUI = re.compile(r"^eui.[A-Za-z0-9]{16}$")
_NAA = re.compile(r"^naa.[A-Za-z0-9]{32}$")
_PORTAL_TEXT = (
    "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters "
    "if iscsi.initiatorName is specified."
)
_MANAGED_URI = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_BLOB_URI = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"


def mode(obj: Obj, key: str, path: str, out: Errors) -> None:
    """``obj[key]``, when it is there, is a file mode."""
    value = obj.get(key)
    if value is not None and not 0 <= value <= 0o777:
        out.append(FieldError.invalid(f"{path}.{key}", value, _MODE_TEXT))


def items(listed: list[Obj], path: str, out: Errors) -> None:
    """``items`` of a ConfigMap or Secret: keys, and the files they become."""
    for i, item in enumerate(listed):
        at = f"{path}[{i}]"
        common.required(item, "key", at, out)
        if common.required(item, "path", at, out):
            common.local_path(item["path"], f"{at}.path", out)
        mode(item, "mode", at, out)


def all_of(*keys: str) -> Check:
    """A check that every one of *keys* is there."""

    def check(source: Obj, path: str, out: Errors) -> None:
        for key in keys:
            common.required(source, key, path, out)

    return check


def empty_dir(source: Obj, path: str, out: Errors) -> None:
    """``emptyDir``."""
    limit = source.get("sizeLimit")
    if limit is not None:
        found = common.quantity(limit, f"{path}.sizeLimit", out)
        if found is not None and found.value < 0:
            text = "SizeLimit field must be a valid resource quantity"
            out.append(FieldError.forbidden(f"{path}.sizeLimit", text))


def host_path(source: Obj, path: str, out: Errors) -> None:
    """``hostPath``."""
    if not common.required(source, "path", path, out):
        return
    common.no_backsteps(source["path"], f"{path}.path", out)
    kind = source.get("type")
    if kind is not None and kind not in _HOST_PATH_TYPES:
        out.append(FieldError.not_supported(f"{path}.type", kind, _HOST_PATH_TYPES))


def local(source: Obj, path: str, out: Errors) -> None:
    """``local`` of a PersistentVolume."""
    if common.required(source, "path", path, out):
        common.no_backsteps(source["path"], f"{path}.path", out)


def config_map(source: Obj, path: str, out: Errors) -> None:
    """``configMap``."""
    common.required(source, "name", path, out)
    mode(source, "defaultMode", path, out)
    items(source.get("items") or [], f"{path}.items", out)


def secret(source: Obj, path: str, out: Errors) -> None:
    """``secret``."""
    common.required(source, "secretName", path, out)
    mode(source, "defaultMode", path, out)
    items(source.get("items") or [], f"{path}.items", out)


def nfs(source: Obj, path: str, out: Errors) -> None:
    """``nfs``."""
    common.required(source, "server", path, out)
    common.required(source, "path", path, out)
    where = source.get("path") or ""
    if not where.startswith("/"):
        out.append(FieldError.invalid(f"{path}.path", where, "must be an absolute path"))


def driver_name(name: str | None, path: str, out: Errors) -> None:
    """The name of a CSI driver: a subdomain, upper case allowed, of at most 63 bytes."""
    if not name:
        out.append(FieldError.required(path))
        return
    if len(name) > 63:
        out.append(FieldError.too_long(path, name, 63))
    common.messages(names.dns1123_subdomain(name.lower()), name, path, out)


def csi(source: Obj, path: str, out: Errors) -> None:
    """``csi`` of a pod."""
    driver_name(source.get("driver"), f"{path}.driver", out)
    ref = source.get("nodePublishSecretRef")
    if ref is not None and common.required(ref, "name", f"{path}.nodePublishSecretRef", out):
        common.messages(names.dns1123_subdomain(ref["name"]), ref["name"], f"{path}.name", out)


def _secret_ref(source: Obj, path: str, out: Errors, *keys: str) -> None:
    ref = source.get("secretRef")
    if ref is not None:
        for key in keys:
            common.required(ref, key, f"{path}.secretRef", out)


def _git_repo(source: Obj, path: str, out: Errors) -> None:
    common.required(source, "repository", path, out)
    common.relative_path(source.get("directory") or "", f"{path}.directory", out)


def _disk(key: str) -> Check:
    def check(source: Obj, path: str, out: Errors) -> None:
        common.required(source, key, path, out)
        partition = source.get("partition") or 0
        if not 0 <= partition <= 255:
            out.append(FieldError.invalid(f"{path}.partition", partition, names.in_range(1, 255)))

    return check


def _initiator(name: str, path: str, out: Errors, wrong_start: str) -> None:
    rule = {"iqn": _IQN, "eui": _EUI, "naa": _NAA}.get(name[:3])
    if rule is None:
        out.append(FieldError.invalid(path, name, wrong_start))
    elif not rule.search(name):
        out.append(FieldError.invalid(path, name, "must be valid format"))


def iscsi(source: Obj, path: str, out: Errors, *, wrong_start: str) -> None:
    """``iscsi``, names apart that only one of pods and PersistentVolumes checks."""
    common.required(source, "targetPortal", path, out)
    if common.required(source, "iqn", path, out):
        _initiator(source["iqn"], f"{path}.iqn", out, wrong_start)
    lun = source.get("lun") or 0
    if not 0 <= lun <= 255:
        out.append(FieldError.invalid(f"{path}.lun", lun, names.in_range(0, 255)))
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        out.append(FieldError.required(f"{path}.secretRef"))
    initiator = source.get("initiatorName")
    if initiator is not None:
        _initiator(initiator, f"{path}.initiatorname", out, wrong_start)


def portal_too_long(source: Obj, volume: str) -> str:
    """What is wrong with the portal and the name of the volume together, or ""."""
    together = f"{volume}:{source.get('targetPortal') or ''}"
    return _PORTAL_TEXT if source.get("initiatorName") is not None and len(together) > 64 else ""


def _pod_iscsi(source: Obj, path: str, out: Errors) -> None:
    iscsi(source, path, out, wrong_start="must be valid format starting with iqn, eui, or naa")


def _flocker(source: Obj, path: str, out: Errors) -> None:
    name, uid = source.get("datasetName") or "", source.get("datasetUUID")
    if not name and not uid:
        out.append(FieldError.required(path, "one of datasetName and datasetUUID is required"))
    if name and uid:
        text = "datasetName and datasetUUID can not be specified simultaneously"
        out.append(FieldError.invalid(path, "resource", text))
    if "/" in name:
        out.append(FieldError.invalid(f"{path}.datasetName", name, "must not contain '/'"))


def _quobyte(source: Obj, path: str, out: Errors) -> None:
    text = "must be a host:port pair or multiple pairs separated by commas"
    registry = source.get("registry") or ""
    if not registry:
        out.append(FieldError.required(f"{path}.registry", text))
    elif len(source.get("tenant") or "") >= 65:
        limit = "must be a UUID and may not exceed a length of 64 characters"
        out.append(FieldError.required(f"{path}.tenant", limit))
    else:
        for pair in registry.split(","):
            if not re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*):[^:]*", pair):
                out.append(FieldError.invalid(f"{path}.registry", registry, text))
    common.required(source, "volume", path, out)


def _fibre_channel(source: Obj, path: str, out: Errors) -> None:
    targets, ids = source.get("targetWWNs"), source.get("wwids")
    at = f"{path}.targetWWNs"
    if not targets and not ids:
        out.append(FieldError.required(at, "must specify either targetWWNs or wwids, but not both"))
    if targets and ids:
        out.append(FieldError.invalid(at, targets, "targetWWNs and wwids can not be specified simultaneously"))
    if targets:
        lun = source.get("lun")
        if lun is None:
            out.append(FieldError.required(f"{path}.lun", "lun is required if targetWWNs is specified"))
        elif not 0 <= lun <= 255:
            out.append(FieldError.invalid(f"{path}.lun", lun, names.in_range(0, 255)))


def _flex(source: Obj, path: str, out: Errors) -> None:
    common.required(source, "driver", path, out)
    for key in source.get("options") or ():
        owner = "." + key.split("/", 1)[0].lower()
        if owner.endswith((".kubernetes.io", ".k8s.io")):
            text = "kubernetes.io and k8s.io namespaces are reserved"
            out.append(FieldError.invalid(f"{path}.options[{key}]", key, text))


def _azure_disk(source: Obj, path: str, out: Errors) -> None:
    common.required(source, "diskName", path, out)
    common.required(source, "diskURI", path, out)
    uri, caching, kind = source.get("diskURI") or "", source.get("cachingMode"), source.get("kind")
    if caching is not None and caching not in ("None", "ReadOnly", "ReadWrite"):
        out.append(FieldError.not_supported(f"{path}.cachingMode", caching, ("None", "ReadOnly", "ReadWrite")))
    if kind is not None and kind not in ("Dedicated", "Managed", "Shared"):
        out.append(FieldError.not_supported(f"{path}.kind", kind, ("Dedicated", "Managed", "Shared")))
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        out.append(FieldError.not_supported(f"{path}.diskURI", uri, (_MANAGED_URI,)))
    if kind is not None and kind != "Managed" and not uri.startswith("https://"):
        out.append(FieldError.not_supported(f"{path}.diskURI", uri, (_BLOB_URI,)))


def _storage_os(*secret_keys: str) -> Check:
    def check(source: Obj, path: str, out: Errors) -> None:
        if common.required(source, "volumeName", path, out):
            name = source["volumeName"]
            common.messages(names.dns1123_label(name), name, f"{path}.volumeName", out)
        space = source.get("volumeNamespace")
        if space:
            common.messages(names.dns1123_label(space), space, f"{path}.volumeNamespace", out)
        _secret_ref(source, path, out, *secret_keys)

    return check


def _cinder(*secret_keys: str) -> Check:
    def check(source: Obj, path: str, out: Errors) -> None:
        common.required(source, "volumeID", path, out)
        _secret_ref(source, path, out, *secret_keys)

    return check


IN_TREE: dict[str, Check] = {
    "gitRepo": _git_repo,
    "gcePersistentDisk": _disk("pdName"),
    "awsElasticBlockStore": _disk("volumeID"),
    "iscsi": _pod_iscsi,
    "glusterfs": all_of("endpoints", "path"),
    "flocker": _flocker,
    "rbd": all_of("monitors", "image"),
    "cinder": _cinder("name"),
    "cephfs": all_of("monitors"),
    "quobyte": _quobyte,
    "fc": _fibre_channel,
    "flexVolume": _flex,
    "azureFile": all_of("secretName", "shareName"),
    "vsphereVolume": all_of("volumePath"),
    "photonPersistentDisk": all_of("pdID"),
    "portworxVolume": all_of("volumeID"),
    "azureDisk": _azure_disk,
    "storageos": _storage_os("name"),
    "scaleIO": all_of("gateway", "system", "volumeName"),
}
"""The checks of in-tree drivers as pods mount them."""

IN_TREE_PERSISTENT: dict[str, Check] = {
    **{kind: check for kind, check in IN_TREE.items() if kind not in ("gitRepo", "iscsi")},
    "cinder": _cinder("name", "namespace"),
    "storageos": _storage_os("name", "namespace"),
}
"""The same as PersistentVolumes name them; ``iscsi`` and ``glusterfs`` are judged further there."""

ODD_PATHS = {"gcePersistentDisk": "persistentDisk"}
"""Sources whose own errors upstream reports under another name than the field's."""
ODD_DOUBLES = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
"""Sources that, given beside another one, upstream reports under another name than the field's."""
