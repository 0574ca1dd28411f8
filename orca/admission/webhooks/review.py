"""AdmissionReview: what a hook is told, and what its answer means. Pure.

Reference: k8s.io/apiserver ``pkg/admission/plugin/webhook/request`` and ``errors``.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from typing import Any

import orjson

from orca.admission.chain import Attributes
from orca.admission.matching import namespace_of, request_name
from orca.api.errors import ApiError, quote
from orca.api.objects import Obj
from orca.api.resources import Resource

GROUP = "admission.k8s.io"


class BadAnswer(Exception):
    """An answer that is no answer to the question; the text says why."""


@dataclass(slots=True)
class Verdict:
    """What a hook decided. ``patch`` holds JSON patch operations, empty for none."""

    allowed: bool
    patch: list[Any] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    status: Obj | None = None


def kind_of(obj: Obj) -> Obj:
    """GroupVersionKind of a body."""
    group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
    return {"group": group, "version": version, "kind": obj.get("kind") or ""}


def request_fields(attrs: Attributes, row: Resource, shown: Obj) -> Obj:
    """The AdmissionRequest without uid and objects, as CEL expressions see it, too."""
    original = attrs.obj if attrs.obj is not None else attrs.old
    request: Obj = {
        "kind": kind_of(shown),
        "resource": {"group": row.group, "version": row.version, "resource": row.plural},
    }
    if attrs.subresource:
        request["subResource"] = attrs.subresource
    request["requestKind"] = kind_of(original or {})
    mine = attrs.resource
    request["requestResource"] = {"group": mine.group, "version": mine.version, "resource": mine.plural}
    if attrs.subresource:
        request["requestSubResource"] = attrs.subresource
    for key, value in (("name", request_name(attrs)), ("namespace", namespace_of(attrs))):
        if value:
            request[key] = value
    request["operation"] = attrs.operation
    request["userInfo"] = attrs.user.to_api()
    request["dryRun"] = attrs.dry_run
    request["options"] = attrs.options or None
    return request


def request_body(
    attrs: Attributes, version: str, uid: str, row: Resource, obj: bytes | None, old: bytes | None, shown: Obj
) -> bytes:
    """The AdmissionReview of ``version`` for a hook that sees the object as ``row``.

    ``obj`` and ``old`` are encoded in that version, ``shown`` is the new object (or else the old one) in it.
    """
    request: Obj = {"uid": uid, **request_fields(attrs, row, shown)}
    request["object"] = None if obj is None else orjson.Fragment(obj)
    request["oldObject"] = None if old is None else orjson.Fragment(old)
    return orjson.dumps({"kind": "AdmissionReview", "apiVersion": f"{GROUP}/{version}", "request": request})


def read_answer(answer: Any, version: str, uid: str, *, mutating: bool) -> Verdict:
    """Raises BadAnswer."""
    if not isinstance(answer, dict):
        raise BadAnswer(f"json: cannot unmarshal {_json_kind(answer)} into Go value of type AdmissionReview")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise BadAnswer("webhook response was absent")
    if version == "v1":
        _check_v1(answer, response, uid)
    patch = _checked_patch(response, version, mutating=mutating)
    status = response.get("status")
    warnings, annotations = response.get("warnings") or [], response.get("auditAnnotations") or {}
    allowed = response.get("allowed", False)
    if (
        not isinstance(allowed, bool)
        or not (status is None or isinstance(status, dict))
        or not (isinstance(warnings, list) and all(isinstance(one, str) for one in warnings))
        or not (isinstance(annotations, dict) and all(isinstance(one, str) for one in annotations.values()))
    ):
        raise BadAnswer("json: cannot unmarshal a field of response into its Go type")
    return Verdict(allowed, patch, warnings, annotations, status)


def _check_v1(answer: Obj, response: Obj, uid: str) -> None:
    if response.get("uid") != uid:
        raise BadAnswer(f"expected response.uid={quote(uid)}, got {quote(str(response.get('uid') or ''))}")
    said = kind_of(answer)
    if (said["group"], said["version"], said["kind"]) != (GROUP, "v1", "AdmissionReview"):
        got = f"{said['group']}/{said['version']}, Kind={said['kind']}"
        raise BadAnswer(f"expected webhook response of {GROUP}/v1, Kind=AdmissionReview, got {got}")


def _checked_patch(response: Obj, version: str, *, mutating: bool) -> list[Any]:
    text, kind = response.get("patch"), response.get("patchType")
    if not mutating:
        if version == "v1" and text:
            raise BadAnswer("validating webhook may not return response.patch")
        if version == "v1" and kind is not None:
            raise BadAnswer("validating webhook may not return response.patchType")
        return []
    if version == "v1":
        if text and kind is None:
            raise BadAnswer("webhook returned response.patch but not response.patchType")
        if not text and kind is not None:
            raise BadAnswer("webhook returned response.patchType but not response.patch")
    if not text:
        return []
    if kind not in (None, "JSONPatch"):
        raise BadAnswer(f"webhook returned invalid response.patchType of {quote(str(kind))}")
    try:
        operations = orjson.loads(b64decode(str(text), validate=True))
    except (Base64Error, ValueError) as error:
        raise BadAnswer(f"response.patch is no base64 of a JSON patch: {error}") from error
    if operations is None:
        return []
    if not isinstance(operations, list):
        raise BadAnswer(f"json: cannot unmarshal {_json_kind(operations)} into Go value of type jsonpatch.Patch")
    return operations


def denial(hook_name: str, status: Obj | None) -> ApiError:
    """The answer to a request that a hook refused: its own Status, never one that looks like success."""
    told = dict(status or {})
    code = told.get("code")
    told["code"] = code if isinstance(code, int) and code >= 400 else 400
    stem = f"admission webhook {quote(hook_name)} denied the request"
    why = told.get("message") or told.get("reason")
    told["message"] = f"{stem}: {why}" if why else f"{stem} without explanation"
    return ApiError.from_status(told)


def _json_kind(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "bool", type(None): "null"}
    return names.get(type(value), "number")
