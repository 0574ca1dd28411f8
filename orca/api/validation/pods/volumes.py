"""Volumes of a pod, and how containers mount them."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError, quote
from orca.api.metadata import validate_annotations
from orca.api.validation import common
from orca.api.validation.claims import claim_spec
from orca.api.validation.pods import projected
from orca.api.validation.pods import volume_sources as sources
from orca.api.validation.registry import Errors, Obj

_TWO = "may not specify more than 1 volume type"
_TEMPLATE_METADATA = ("annotations", "labels")


def _image(source: Obj, path: str, out: Errors) -> None:
    common.choice(
        source.get("pullPolicy"), ("Always", "IfNotPresent", "Never"), f"{path}.pullPolicy", out, required=True
    )


def _ephemeral(source: Obj, path: str, out: Errors) -> None:
    template = source.get("volumeClaimTemplate")
    at = f"{path}.volumeClaimTemplate"
    if template is None:
        out.append(FieldError.required(at))
        return
    meta = template.get("metadata") or {}
    if meta.get("annotations"):
        out += validate_annotations(meta["annotations"], f"{at}.metadata.annotations")
    common.labels(meta.get("labels"), f"{at}.metadata.labels", out)
    for key, value in meta.items():
        if value and key not in _TEMPLATE_METADATA:
            out.append(FieldError.forbidden(f"{at}.metadata.{key}", "cannot be set"))
    claim_spec(template.get("spec") or {}, f"{at}.spec", out)


# In upstream's order: of two kinds in one volume the later one is refused.
_SOURCES: dict[str, sources.Check] = {
    "emptyDir": sources.empty_dir,
    "hostPath": sources.host_path,
    "gitRepo": sources.IN_TREE["gitRepo"],
    "gcePersistentDisk": sources.IN_TREE["gcePersistentDisk"],
    "awsElasticBlockStore": sources.IN_TREE["awsElasticBlockStore"],
    "secret": sources.secret,
    "nfs": sources.nfs,
    **{key: sources.IN_TREE[key] for key in ("iscsi", "glusterfs", "flocker")},
    "persistentVolumeClaim": sources.all_of("claimName"),
    **{key: sources.IN_TREE[key] for key in ("rbd", "cinder", "cephfs", "quobyte")},
    "downwardAPI": projected.downward,
    "fc": sources.IN_TREE["fc"],
    "flexVolume": sources.IN_TREE["flexVolume"],
    "configMap": sources.config_map,
    **{
        key: sources.IN_TREE[key]
        for key in (
            "azureFile",
            "vsphereVolume",
            "photonPersistentDisk",
            "portworxVolume",
            "azureDisk",
            "storageos",
        )
    },
    "projected": projected.projected,
    "scaleIO": sources.IN_TREE["scaleIO"],
    "csi": sources.csi,
    "ephemeral": _ephemeral,
    "image": _image,
}
_ORDER = {kind: i for i, kind in enumerate(_SOURCES)}


def _volume(volume: Obj, at: str, pod_name: str, out: Errors) -> str:
    """Check where *volume* comes from; returns its kind, or ""."""
    name = volume.get("name") or ""
    kinds = [kind for kind, value in volume.items() if value is not None and kind in _ORDER]
    if not kinds:
        out.append(FieldError.required(at, "must specify a volume type"))
        return ""
    if len(kinds) > 1:
        kinds.sort(key=_ORDER.__getitem__)
    first = kinds[0]
    _SOURCES[first](volume[first], f"{at}.{sources.ODD_PATHS.get(first, first)}", out)
    for kind in kinds[1:]:
        out.append(FieldError.forbidden(f"{at}.{sources.ODD_DOUBLES.get(kind, kind)}", _TWO))
    if first == "iscsi" and (text := sources.portal_too_long(volume["iscsi"], name)):
        out.append(FieldError.invalid(f"{at}.name", name, text))
    if first == "ephemeral" and pod_name and name:
        claim = f"{pod_name}-{name}"
        for text in names.dns1123_subdomain(claim):
            out.append(FieldError.invalid(f"{at}.name", name, f"PVC name {quote(claim)}: {text}"))
    return first


def volumes(listed: list[Obj], path: str, out: Errors, *, pod_name: str = "", is_pod: bool = True) -> dict[str, str]:
    """``volumes`` of a pod; returns the kind of each sound one by name, for ``mounts``.

    *pod_name* is that of a real Pod, whose ephemeral volumes become claims named after both.
    """
    found: dict[str, str] = {}
    for i, volume in enumerate(listed):
        at = f"{path}[{i}]"
        before = len(out)
        kind = _volume(volume, at, pod_name, out)
        if is_pod and kind == "image" and not volume["image"].get("reference"):
            out.append(FieldError.required(f"{at}.image.reference"))
        name = volume.get("name")
        if not name:
            out.append(FieldError.required(f"{at}.name"))
        else:
            common.messages(names.dns1123_label(name), name, f"{at}.name", out)
            if name in found:
                out.append(FieldError.duplicate(f"{at}.name", name))
            elif len(out) == before:
                found[name] = kind
    if pod_name and "ephemeral" in found.values():
        _own_claims(listed, path, pod_name, out)
    return found


def _own_claims(listed: list[Obj], path: str, pod_name: str, out: Errors) -> None:
    made = {f"{pod_name}-{volume.get('name')}" for volume in listed if volume.get("ephemeral") is not None}
    for i, volume in enumerate(listed):
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim in made:
            text = "must not reference a PVC that gets created for an ephemeral volume"
            out.append(FieldError.invalid(f"{path}[{i}].persistentVolumeClaim.claimName", claim, text))


def _sub_path(mount: Obj, at: str, path: str, out: Errors) -> None:
    sub, expression = mount.get("subPath"), mount.get("subPathExpr")
    if sub:
        common.relative_path(sub, f"{path}.subPath", out)
    if expression:
        if sub:
            text = "subPathExpr and subPath are mutually exclusive"
            out.append(FieldError.invalid(f"{at}.subPathExpr", expression, text))
        common.relative_path(expression, f"{path}.subPathExpr", out)


def mounts(container: Obj, known: dict[str, str], path: str, out: Errors) -> None:
    """``volumeMounts`` and ``volumeDevices`` of a container; *path* is the container's."""
    mounted = container.get("volumeMounts") or []
    devices = container.get("volumeDevices") or []
    device_paths = {device.get("name"): device.get("devicePath") for device in devices}
    at_list = f"{path}.volumeMounts"
    seen = set()
    for i, mount in enumerate(mounted):
        at = f"{at_list}[{i}]"
        name, where = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            out.append(FieldError.required(f"{at}.name"))
        if name not in known:
            out.append(FieldError.not_found(f"{at}.name", name))
        if not where:
            out.append(FieldError.required(f"{at}.mountPath"))
        if where in seen:
            out.append(FieldError.invalid(f"{at}.mountPath", where, "must be unique"))
        seen.add(where)
        if device_paths:
            if name in device_paths:
                out.append(FieldError.invalid(f"{at}.name", name, "must not already exist in volumeDevices"))
            if where in device_paths.values():
                text = "must not already exist as a path in volumeDevices"
                out.append(FieldError.invalid(f"{at}.mountPath", where, text))
        if "subPath" in mount or "subPathExpr" in mount:
            _sub_path(mount, at, at_list, out)
        if mount.get("mountPropagation") is not None:
            _propagation(mount["mountPropagation"], container, f"{at_list}.mountPropagation", out)
        if mount.get("recursiveReadOnly") is not None:
            _recursive_read_only(mount, f"{at_list}.recursiveReadOnly", out)
    if devices:
        _devices(devices, mounted, known, f"{path}.volumeDevices", out)


def _propagation(value: str, container: Obj, path: str, out: Errors) -> None:
    if value not in ("Bidirectional", "HostToContainer", "None"):
        out.append(FieldError.not_supported(path, value, ("Bidirectional", "HostToContainer", "None")))
    if value == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        text = "Bidirectional mount propagation is available only to privileged containers"
        out.append(FieldError.forbidden(path, text))


def _recursive_read_only(mount: Obj, path: str, out: Errors) -> None:
    value = mount["recursiveReadOnly"]
    if value == "Disabled":
        return
    if value not in ("Enabled", "IfPossible"):
        out.append(FieldError.not_supported(path, value, ("Disabled", "Enabled", "IfPossible")))
        return
    if not mount.get("readOnly"):
        out.append(FieldError.forbidden(path, "may only be specified when readOnly is true"))
    if mount.get("mountPropagation") not in (None, "None"):
        text = "may only be specified when mountPropagation is None or not specified"
        out.append(FieldError.forbidden(path, text))


def _devices(devices: list[Obj], mounted: list[Obj], known: dict[str, str], path: str, out: Errors) -> None:
    mount_paths = {mount.get("name"): mount.get("mountPath") for mount in mounted}
    used_names: set[str] = set()
    used_paths: set[str] = set()
    for i, device in enumerate(devices):
        at = f"{path}[{i}]"
        name, where = device.get("name") or "", device.get("devicePath") or ""
        if not name:
            out.append(FieldError.required(f"{at}.name"))
        if name in used_names:
            out.append(FieldError.invalid(f"{at}.name", name, "must be unique"))
        if name not in known:
            out.append(FieldError.not_found(f"{at}.name", name))
        elif known[name] not in ("persistentVolumeClaim", "ephemeral"):
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            out.append(FieldError.invalid(f"{at}.name", name, text))
        if not where:
            out.append(FieldError.required(f"{at}.devicePath"))
        if where in used_paths:
            out.append(FieldError.invalid(f"{at}.devicePath", where, "must be unique"))
        if ".." in where.split("/"):
            out.append(FieldError.invalid(f"{at}.devicePath", where, "can not contain backsteps ('..')"))
        else:
            used_paths.add(where)
        if name in mount_paths:
            out.append(FieldError.invalid(f"{at}.name", name, "must not already exist in volumeMounts"))
        if where in mount_paths.values():
            text = "must not already exist as a path in volumeMounts"
            out.append(FieldError.invalid(f"{at}.devicePath", where, text))
        if name:
            used_names.add(name)
