"""Volumes of several sources in one directory, and files that tell a container of its pod."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.certificates import signer_name
from orca.api.validation.pods import env
from orca.api.validation.pods.volume_sources import items, mode
from orca.api.validation.registry import Errors, Obj

_KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
_CERTIFICATE_PATHS = ("credentialBundlePath", "keyPath", "certificateChainPath")
_HOUR, _DAY = 3600, 86400
_DOUBLE = "conflicting duplicate paths"


class _Paths:
    """The files made so far; a second one of a name is an error of the whole volume."""

    def __init__(self, path: str, out: Errors) -> None:
        self._seen: set[str] = set()
        self._path, self._out = path, out

    def add(self, where: str, value: str) -> None:
        if where in self._seen:
            self._out.append(FieldError.invalid(self._path, value, _DOUBLE))
        self._seen.add(where)


def downward_file(item: Obj, path: str, out: Errors) -> None:
    """One file of the downward API; upstream names the list's owner, not the item, in errors."""
    if common.required(item, "path", path, out):
        common.local_path(item["path"], f"{path}.path", out)
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        env.field_ref(field, env.VOLUME_PATHS, f"{path}.fieldRef", out)
        if resource is not None:
            text = "fieldRef and resourceFieldRef can not be specified simultaneously"
            out.append(FieldError.invalid(path, "resource", text))
    elif resource is not None:
        env.resource_ref(resource, f"{path}.resourceFieldRef", out, in_volume=True)
    else:
        out.append(FieldError.required(path, "one of fieldRef and resourceFieldRef is required"))
    mode(item, "mode", path, out)


def downward(source: Obj, path: str, out: Errors) -> None:
    """``downwardAPI``."""
    mode(source, "defaultMode", path, out)
    for item in source.get("items") or ():
        downward_file(item, path, out)


def _keys(source: Obj, path: str, out: Errors, paths: _Paths) -> None:
    common.required(source, "name", path, out)
    listed = source.get("items") or []
    items(listed, f"{path}.items", out)
    for item in listed:
        if item.get("path"):
            paths.add(item["path"], source.get("name") or "")


def _token(source: Obj, path: str, out: Errors, volume: str) -> None:
    seconds = source.get("expirationSeconds")
    if seconds is not None:
        if seconds < 600:
            text = "may not specify a duration less than 10 minutes"
            out.append(FieldError.invalid(f"{path}.expirationSeconds", seconds, text))
        if seconds > 1 << 32:
            text = "may not specify a duration larger than 2^32 seconds"
            out.append(FieldError.invalid(f"{path}.expirationSeconds", seconds, text))
    if common.required(source, "path", volume, out):
        common.local_path(source["path"], f"{volume}.path", out)


def _bundle_name(name: str) -> list[str]:
    """The rule of ClusterTrustBundles: with a signer its name, colons for slashes, stands before the last colon."""
    _, colon, rest = name.rpartition(":")
    if colon and not rest:
        return names.path_segment(name)
    if colon:
        return names.path_segment(name) or names.dns1123_subdomain(rest)
    return names.path_segment(name) or names.dns1123_subdomain(name)


def _trust_bundle(source: Obj, path: str, out: Errors, paths: _Paths) -> None:
    name, signer = source.get("name"), source.get("signerName")
    if name is not None and signer is not None:
        out.append(FieldError.invalid(path, source, "only one of name and signerName may be used"))
    elif name is not None:
        if not name:
            out.append(FieldError.required(f"{path}.name", "must be a valid object name"))
        for text in _bundle_name(name):
            out.append(FieldError.invalid(f"{path}.name", name, f"not a valid clustertrustbundlename: {text}"))
        if source.get("labelSelector") is not None:
            text = "labelSelector must be unset if name is specified"
            out.append(FieldError.invalid(f"{path}.labelSelector", source["labelSelector"], text))
    elif signer is not None:
        if not signer:
            out.append(FieldError.required(f"{path}.signerName", "must be a valid signer name"))
        signer_name(signer, f"{path}.signerName", out)
        common.label_selector(source.get("labelSelector"), f"{path}.labelSelector", out)
    else:
        out.append(FieldError.required(path, "either name or signerName must be specified"))
    common.required(source, "path", path, out)
    where = source.get("path") or ""
    common.local_path(where, f"{path}.path", out)
    paths.add(where, where)


def _certificate(source: Obj, path: str, out: Errors, paths: _Paths) -> None:
    signer = source.get("signerName") or ""
    signer_name(signer, f"{path}.signerName", out)
    kind = source.get("keyType") or ""
    if kind not in _KEY_TYPES:
        out.append(FieldError.not_supported(f"{path}.keyType", kind, _KEY_TYPES))
    seconds = source.get("maxExpirationSeconds")
    if seconds is not None:
        most = _DAY if signer.startswith("kubernetes.io/") else 91 * _DAY
        at = f"{path}.maxExpirationSeconds"
        if seconds < _HOUR:
            out.append(FieldError.invalid(at, seconds, f"if provided, maxExpirationSeconds must be >= {_HOUR}"))
        if seconds > most:
            out.append(FieldError.invalid(at, seconds, f"if provided, maxExpirationSeconds must be <= {most}"))
    used = [key for key in _CERTIFICATE_PATHS if source.get(key)]
    for key in used:
        common.local_path(source[key], f"{path}.{key}", out)
        paths.add(source[key], source[key])
    if not used:
        text = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
        out.append(FieldError.required(path, text))


def projected(volume: Obj, path: str, out: Errors) -> None:
    """``projected``: every source well formed, no two making one file."""
    mode(volume, "defaultMode", path, out)
    paths = _Paths(path, out)
    for i, one in enumerate(volume.get("sources") or ()):
        at = f"{path}.sources[{i}]"
        for kind in ("secret", "configMap"):
            if one.get(kind) is not None:
                _keys(one[kind], f"{at}.{kind}", out, paths)
        if one.get("downwardAPI") is not None:
            for item in one["downwardAPI"].get("items") or ():
                downward_file(item, f"{at}.downwardAPI", out)
                if item.get("path"):
                    paths.add(item["path"], item["path"])
        if one.get("serviceAccountToken") is not None:
            _token(one["serviceAccountToken"], f"{at}.serviceAccountToken", out, path)
        if one.get("clusterTrustBundle") is not None:
            _trust_bundle(one["clusterTrustBundle"], f"{at}.clusterTrustBundle", out, paths)
        if one.get("podCertificate") is not None:
            _certificate(one["podCertificate"], f"{at}.podCertificate", out, paths)
        if sum(value is not None for value in one.values()) > 1:
            out.append(FieldError.forbidden(at, "may not specify more than 1 volume type per source"))
