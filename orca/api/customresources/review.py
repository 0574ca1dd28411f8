"""ConversionReview: what a conversion webhook is asked, and what of its answer is taken.

Reference: k8s.io/apiextensions-apiserver ``pkg/apiserver/conversion/webhook_converter.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orca.api.errors import quote
from orca.api.objects import Obj, meta


class ConversionFailed(Exception):
    """The message is upstream's."""


def ask(objs: Sequence[Obj], desired: str, version: str, uid: str) -> Obj:
    """The review; ``version`` is v1 or v1beta1."""
    return {
        "kind": "ConversionReview",
        "apiVersion": f"apiextensions.k8s.io/{version}",
        "request": {"uid": uid, "desiredAPIVersion": desired, "objects": list(objs)},
    }


def take(answer: Any, objs: Sequence[Obj], desired: str, version: str, uid: str) -> list[Obj]:
    """The converted objects, with the metadata they had but for labels and annotations. Raises ConversionFailed."""
    what = gvk(objs[0])
    converted = _converted(answer, version, uid, what)
    if len(converted) != len(objs):
        text = f"conversion webhook for {what} returned {len(converted)} objects, expected {len(objs)}"
        raise ConversionFailed(text)
    found = []
    for index, (before, after) in enumerate(zip(objs, converted, strict=True)):
        problem = _judge(before, after, desired)
        if problem:
            text = f"conversion webhook for {what} returned invalid converted object at index {index}: {problem}"
            raise ConversionFailed(text)
        found.append({**after, "metadata": _metadata(before, after)})
    return found


def gvk(obj: Obj) -> str:
    """As Go prints a GroupVersionKind."""
    return f"{obj.get('apiVersion')}, Kind={obj.get('kind')}"


def _converted(answer: Any, version: str, uid: str, what: str) -> list[Any]:
    stem = f"conversion webhook for {what} failed: "
    if not isinstance(answer, dict) or answer.get("kind") != "ConversionReview":
        raise ConversionFailed(f"{stem}expected webhook response to be a ConversionReview")
    wanted = f"apiextensions.k8s.io/{version}"
    if answer.get("apiVersion") != wanted:
        raise ConversionFailed(f"{stem}expected webhook response of {wanted}, Kind=ConversionReview, got {gvk(answer)}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise ConversionFailed(f"{stem}no response provided")
    if version == "v1" and response.get("uid") != uid:
        text = f"expected response.uid={quote(uid)}, got {quote(str(response.get('uid') or ''))}"
        raise ConversionFailed(stem + text)
    result = response.get("result") or {}
    if result.get("status") != "Success":
        raise ConversionFailed(stem + (result.get("message") or f"response.result.status was {result.get('status')!r}"))
    found = response.get("convertedObjects")
    return found if isinstance(found, list) else []


def _judge(before: Obj, after: Any, desired: str) -> str:
    if not isinstance(after, dict):
        return "it is not an object"
    if after.get("apiVersion") != desired:
        return f"invalid apiVersion: {after.get('apiVersion')} != {desired}"
    if after.get("kind") != before.get("kind"):
        return f"must have the same kind: {before.get('kind')} != {after.get('kind')}"
    fields = after.get("metadata")
    if not isinstance(fields, dict):
        return "missing metadata in converted object"
    for field, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        old, new = meta(before).get(field) or "", fields.get(field) or ""
        if old != new:
            return f"must have the same {shown}: {old} != {new}"
    for field in ("labels", "annotations"):
        told = fields.get(field)
        strings = isinstance(told, dict) and all(isinstance(value, str) for value in told.values())
        if told is not None and not strings:
            return f"invalid metadata.{field} in converted object: must be a map of strings"
    return ""


def _metadata(before: Obj, after: Obj) -> Obj:
    kept = {key: value for key, value in meta(before).items() if key not in ("labels", "annotations")}
    told = after["metadata"]
    return kept | {key: told[key] for key in ("labels", "annotations") if told.get(key)}
