"""ConfigMaps, Secrets, ServiceAccounts and Namespaces."""

from __future__ import annotations

import base64
import binascii
import json

from orca.api import names
from orca.api.errors import FieldError
from orca.api.metadata import STANDARD_FINALIZERS
from orca.api.structure import go_kind
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj, on_create, on_update

MAX_BYTES = 1024 * 1024
_DOCKER_CFG, _DOCKER_JSON = "kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson"
_ACCOUNT = "kubernetes.io/service-account.name"


@on_create("", "ConfigMap")
def config_map(obj: Obj) -> Errors:
    """A ConfigMap: sound keys, each in one map only, 1 MiB altogether."""
    out: Errors = []
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, value in data.items():
        common.messages(names.config_key(key), key, f"data[{key}]", out)
        if key in binary:
            out.append(FieldError.invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value.encode()) if isinstance(value, str) else 0
    for key, value in binary.items():
        common.messages(names.config_key(key), key, f"binaryData[{key}]", out)
        size += len(value or "") * 3 // 4 - (value or "")[-2:].count("=")
    if size > MAX_BYTES:
        out.append(FieldError.too_long("[]", "", MAX_BYTES))
    return out


def _frozen(new: Obj, old: Obj, keys: tuple[str, ...], out: Errors) -> None:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        out.append(FieldError.forbidden("immutable", "field is immutable when `immutable` is set"))
    for key in keys:
        if (new.get(key) or {}) != (old.get(key) or {}):
            out.append(FieldError.forbidden(key, "field is immutable when `immutable` is set"))


@on_update("", "ConfigMap")
def config_map_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ConfigMap; an immutable one stays."""
    out: Errors = []
    _frozen(new, old, ("data", "binaryData"), out)
    return out + config_map(new)


def _decoded(text: str, path: str, out: Errors) -> bytes | None:
    try:
        return base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError) as error:
        out.append(FieldError.invalid(path, "<contents redacted>", f"illegal base64 data: {error}"))
        return None


def _docker(data: dict[str, bytes], key: str, out: Errors) -> None:
    path = f"data[{key}]"
    if key not in data:
        out.append(FieldError.required(path))
        return
    try:
        value = json.loads(data[key])
        text = f"json: cannot unmarshal {go_kind(value)} into Go value of type map[string]interface {{}}"
        wrong = "" if isinstance(value, dict | None) else text
    except ValueError as error:
        wrong = str(error)
    if wrong:
        out.append(FieldError.invalid(path, "<secret contents redacted>", wrong))


@on_create("", "Secret")
def secret(obj: Obj) -> Errors:
    """A Secret: sound keys, 1 MiB altogether, and what its type demands."""
    out: Errors = []
    data: dict[str, bytes] = {}
    for key, value in (obj.get("data") or {}).items():
        common.messages(names.config_key(key), key, f"data[{key}]", out)
        plain = _decoded(value, f"data[{key}]", out)
        if plain is not None:
            data[key] = plain
    if sum(map(len, data.values())) > MAX_BYTES:
        out.append(FieldError.too_long("data", "", MAX_BYTES))
    kind = obj.get("type")
    annotations = obj["metadata"].get("annotations") or {}
    if kind == "kubernetes.io/service-account-token":
        if not annotations.get(_ACCOUNT):
            out.append(FieldError.required(f"metadata.annotations[{_ACCOUNT}]"))
    elif kind == _DOCKER_CFG:
        _docker(data, ".dockercfg", out)
    elif kind == _DOCKER_JSON:
        _docker(data, ".dockerconfigjson", out)
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            out.append(FieldError.required("data[username]"))
            out.append(FieldError.required("data[password]"))
    elif kind == "kubernetes.io/ssh-auth":
        if not data.get("ssh-privatekey"):
            out.append(FieldError.required("data[ssh-privatekey]"))
    elif kind == "kubernetes.io/tls":
        for key in ("tls.crt", "tls.key"):
            if key not in data:
                out.append(FieldError.required(f"data[{key}]"))
    return out


@on_update("", "Secret")
def secret_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Secret; its type stays, and an immutable one stays whole."""
    out: Errors = []
    common.immutable(new.get("type"), old.get("type"), "type", out)
    _frozen(new, old, ("data",), out)
    return out + secret(new)


@on_create("", "Namespace")
def namespace(obj: Obj) -> Errors:
    """A Namespace."""
    out: Errors = []
    for finalizer in (obj.get("spec") or {}).get("finalizers") or ():
        _finalizer(finalizer, "spec.finalizers", out)
    return out


def _finalizer(name: str, path: str, out: Errors) -> None:
    common.messages(names.qualified_name(name), name, path, out)
    if "/" not in name and name not in STANDARD_FINALIZERS:
        text = "name is neither a standard finalizer name nor is it fully qualified"
        out.append(FieldError.invalid(path, name, text))


@on_update("", "Namespace")
def namespace_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed Namespace."""
    if subresource == "status":
        phase = (new.get("status") or {}).get("phase")
        deleted = bool(new["metadata"].get("deletionTimestamp"))
        if deleted != (phase == "Terminating"):
            allowed = "'Terminating' if `deletionTimestamp` is not empty" if deleted else \
                "'Active' if `deletionTimestamp` is empty"  # fmt: skip
            return [FieldError.invalid("status.Phase", phase, f"may only be {allowed}")]
        return []
    out: Errors = []
    if subresource == "finalize":
        for i, finalizer in enumerate((new.get("spec") or {}).get("finalizers") or ()):
            _finalizer(finalizer, f"spec.finalizers[{i}]", out)
    return out


@on_create("", "ServiceAccount")
def service_account(obj: Obj) -> Errors:
    """A ServiceAccount: metadata is all there is to judge."""
    return []
