"""Volumes of a pod, and how containers mount them."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.pods import env
from orca.api.validation.registry import Errors, Obj

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


def _mode(obj: Obj, key: str, path: str, out: Errors) -> None:
    value = obj.get(key)
    if value is not None and not 0 <= value <= 0o777:
        out.append(FieldError.invalid(f"{path}.{key}", value, _MODE_TEXT))


def _items(items: list[Obj], path: str, out: Errors) -> None:
    for i, item in enumerate(items):
        at = f"{path}[{i}]"
        common.required(item, "key", at, out)
        if common.required(item, "path", at, out):
            common.local_path(item["path"], f"{at}.path", out)
        _mode(item, "mode", at, out)


def _downward_items(items: list[Obj], path: str, out: Errors) -> None:
    for i, item in enumerate(items):
        at = f"{path}[{i}]"
        if common.required(item, "path", at, out):
            common.local_path(item["path"], f"{at}.path", out)
        field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        if field is not None:
            env.field_ref(field, env.VOLUME_PATHS, f"{at}.fieldRef", out)
            if resource is not None:
                text = "fieldRef and resourceFieldRef can not be specified simultaneously"
                out.append(FieldError.invalid(at, "resource", text))
        elif resource is not None:
            env.resource_ref(resource, f"{at}.resourceFieldRef", out, in_volume=True)
        else:
            out.append(FieldError.required(at, "one of fieldRef and resourceFieldRef is required"))
        _mode(item, "mode", at, out)


def _empty_dir(source: Obj, path: str, out: Errors) -> None:
    limit = source.get("sizeLimit")
    if limit is not None:
        found = common.quantity(limit, f"{path}.sizeLimit", out)
        if found is not None and found.value < 0:
            text = "SizeLimit field must be a valid resource quantity"
            out.append(FieldError.forbidden(f"{path}.sizeLimit", text))


def _host_path(source: Obj, path: str, out: Errors) -> None:
    if common.required(source, "path", path, out) and ".." in source["path"].split("/"):
        out.append(FieldError.invalid(f"{path}.path", source["path"], "must not contain '..'"))
    kind = source.get("type")
    if kind is not None and kind not in _HOST_PATH_TYPES:
        out.append(FieldError.not_supported(f"{path}.type", kind, _HOST_PATH_TYPES))


def _config_map(source: Obj, path: str, out: Errors) -> None:
    common.required(source, "name", path, out)
    _mode(source, "defaultMode", path, out)
    _items(source.get("items") or [], f"{path}.items", out)


def _secret(source: Obj, path: str, out: Errors) -> None:
    common.required(source, "secretName", path, out)
    _mode(source, "defaultMode", path, out)
    _items(source.get("items") or [], f"{path}.items", out)


def _claim(source: Obj, path: str, out: Errors) -> None:
    common.required(source, "claimName", path, out)


def _downward(source: Obj, path: str, out: Errors) -> None:
    _mode(source, "defaultMode", path, out)
    _downward_items(source.get("items") or [], f"{path}.items", out)


def _token(source: Obj, path: str, out: Errors) -> None:
    seconds = source.get("expirationSeconds")
    if seconds is not None:
        if seconds < 600:
            text = "may not specify a duration less than 10 minutes"
            out.append(FieldError.invalid(f"{path}.expirationSeconds", seconds, text))
        elif seconds > 1 << 32:
            text = "may not specify a duration larger than 2^32 seconds"
            out.append(FieldError.invalid(f"{path}.expirationSeconds", seconds, text))
    if common.required(source, "path", path, out):
        common.local_path(source["path"], f"{path}.path", out)


def _projected(source: Obj, path: str, out: Errors) -> None:
    _mode(source, "defaultMode", path, out)
    for i, one in enumerate(source.get("sources") or ()):
        at = f"{path}.sources[{i}]"
        kinds = [kind for kind, value in one.items() if value is not None]
        for kind in kinds[1:]:
            out.append(FieldError.forbidden(f"{at}.{kind}", "may not specify more than 1 volume type"))
        if not kinds:
            continue
        kind = kinds[0]
        value = one[kind]
        if kind in ("secret", "configMap"):
            common.required(value, "name", f"{at}.{kind}", out)
            _items(value.get("items") or [], f"{at}.{kind}.items", out)
        elif kind == "downwardAPI":
            _downward_items(value.get("items") or [], f"{at}.{kind}.items", out)
        elif kind == "serviceAccountToken":
            _token(value, f"{at}.{kind}", out)


def _nfs(source: Obj, path: str, out: Errors) -> None:
    common.required(source, "server", path, out)
    if common.required(source, "path", path, out) and not source["path"].startswith("/"):
        out.append(FieldError.invalid(f"{path}.path", source["path"], "must be an absolute path"))


def _csi(source: Obj, path: str, out: Errors) -> None:
    if common.required(source, "driver", path, out):
        common.messages(names.dns1123_subdomain(source["driver"].lower()), source["driver"], f"{path}.driver", out)


def _image(source: Obj, path: str, out: Errors) -> None:
    common.required(source, "reference", path, out)
    common.choice(source.get("pullPolicy"), ("Always", "IfNotPresent", "Never"), f"{path}.pullPolicy", out)


def _ephemeral(source: Obj, path: str, out: Errors) -> None:
    template = source.get("volumeClaimTemplate")
    if template is None:
        out.append(FieldError.required(f"{path}.volumeClaimTemplate"))
        return
    at = f"{path}.volumeClaimTemplate.spec"
    spec = template.get("spec") or {}
    if not spec.get("accessModes"):
        out.append(FieldError.required(f"{at}.accessModes", "at least 1 access mode is required"))
    if "storage" not in ((spec.get("resources") or {}).get("requests") or {}):
        out.append(FieldError.required(f"{at}.resources[storage]"))


_SOURCES = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "configMap": _config_map,
    "secret": _secret,
    "persistentVolumeClaim": _claim,
    "downwardAPI": _downward,
    "projected": _projected,
    "nfs": _nfs,
    "csi": _csi,
    "image": _image,
    "ephemeral": _ephemeral,
}


def volumes(items: list[Obj], path: str, out: Errors) -> dict[str, str]:
    """``volumes`` of a pod; returns the kind of each by name, for ``mounts``."""
    found: dict[str, str] = {}
    for i, volume in enumerate(items):
        at = f"{path}[{i}]"
        name = volume.get("name")
        kinds = [kind for kind, value in volume.items() if value is not None and kind != "name"]
        for kind in kinds[:1]:
            check = _SOURCES.get(kind)
            if check is not None:
                check(volume[kind], f"{at}.{kind}", out)
        for kind in kinds[1:]:
            out.append(FieldError.forbidden(f"{at}.{kind}", "may not specify more than 1 volume type"))
        if not kinds:
            out.append(FieldError.required(at, "must specify a volume type"))
        if not name:
            out.append(FieldError.required(f"{at}.name"))
            continue
        common.messages(names.dns1123_label(name), name, f"{at}.name", out)
        if name in found:
            out.append(FieldError.duplicate(f"{at}.name", name))
        found[name] = kinds[0] if kinds else ""
    return found


def _sub_path(mount: Obj, path: str, out: Errors) -> None:
    sub, expression = mount.get("subPath"), mount.get("subPathExpr")
    if sub:
        common.relative_path(sub, f"{path}.subPath", out)
    if expression:
        if sub:
            text = "subPathExpr and subPath are mutually exclusive"
            out.append(FieldError.invalid(f"{path}.subPathExpr", expression, text))
        common.relative_path(expression, f"{path}.subPathExpr", out)


def mounts(container: Obj, known: dict[str, str], path: str, out: Errors) -> None:
    """``volumeMounts`` and ``volumeDevices`` of a container; *path* is the container's."""
    devices = container.get("volumeDevices") or ()
    device_paths = {device.get("devicePath") for device in devices}
    seen = set()
    privileged = (container.get("securityContext") or {}).get("privileged")
    for i, mount in enumerate(container.get("volumeMounts") or ()):
        at = f"{path}.volumeMounts[{i}]"
        name, where = mount.get("name"), mount.get("mountPath")
        if not name:
            out.append(FieldError.required(f"{at}.name"))
        elif name not in known:
            out.append(FieldError.not_found(f"{at}.name", name))
        if not where:
            out.append(FieldError.required(f"{at}.mountPath"))
        elif where in seen:
            out.append(FieldError.invalid(f"{at}.mountPath", where, "must be unique"))
        elif where in device_paths:
            out.append(
                FieldError.invalid(f"{at}.mountPath", where, "must not already exist as a path in volumeDevices")
            )
        seen.add(where)
        if "subPath" in mount or "subPathExpr" in mount:
            _sub_path(mount, at, out)
        propagation = mount.get("mountPropagation")
        if propagation is not None:
            common.choice(propagation, ("Bidirectional", "HostToContainer", "None"), f"{at}.mountPropagation", out)
            if propagation == "Bidirectional" and not privileged:
                text = "Bidirectional mount propagation is available only to privileged containers"
                out.append(FieldError.forbidden(f"{at}.mountPropagation", text))
        _recursive_read_only(mount, at, out)
    names_seen = set()
    for i, device in enumerate(devices):
        at = f"{path}.volumeDevices[{i}]"
        name = device.get("name")
        if not name:
            out.append(FieldError.required(f"{at}.name"))
        elif name not in known:
            out.append(FieldError.not_found(f"{at}.name", name))
        elif known[name] not in ("persistentVolumeClaim", "ephemeral"):
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            out.append(FieldError.invalid(f"{at}.name", name, text))
        if name in names_seen:
            out.append(FieldError.invalid(f"{at}.name", name, "must be unique"))
        names_seen.add(name)
        if not device.get("devicePath"):
            out.append(FieldError.required(f"{at}.devicePath"))


def _recursive_read_only(mount: Obj, path: str, out: Errors) -> None:
    value = mount.get("recursiveReadOnly")
    if value is None or value == "Disabled":
        return
    at = f"{path}.recursiveReadOnly"
    if value not in ("IfPossible", "Enabled"):
        out.append(FieldError.not_supported(at, value, ("Disabled", "IfPossible", "Enabled")))
    elif not mount.get("readOnly"):
        out.append(FieldError.forbidden(at, "may only be specified when readOnly is true"))
