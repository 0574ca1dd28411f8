"""Bodies that are answered and never stored: access reviews, bindings, evictions."""

from __future__ import annotations

from orca.api.errors import FieldError
from orca.api.validation.registry import Errors, Obj, on_create

_AUTHORIZATION = "authorization.k8s.io"


def _attributes(spec: Obj, out: Errors) -> None:
    given = [key for key in ("resourceAttributes", "nonResourceAttributes") if spec.get(key) is not None]
    if len(given) == 2:
        text = "cannot be specified in combination with resourceAttributes"
        out.append(FieldError.invalid("spec.nonResourceAttributes", spec["nonResourceAttributes"], text))
    elif not given:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        out.append(FieldError.invalid("spec.resourceAttributes", None, text))
    for field in ("fieldSelector", "labelSelector"):
        _selector((spec.get("resourceAttributes") or {}).get(field), f"spec.resourceAttributes.{field}", out)


def _selector(selector: Obj | None, path: str, out: Errors) -> None:
    if selector is None:
        return
    raw, requirements = selector.get("rawSelector") or "", selector.get("requirements") or []
    if raw and requirements:
        text = "may not specified at the same time as requirements"
        out.append(FieldError.invalid(f"{path}.rawSelector", raw, text))
    if not raw and not requirements:
        text = f"when {path} is specified, requirements or rawSelector is required"
        out.append(FieldError.required(f"{path}.requirements", text))
    for index, requirement in enumerate(requirements):
        where = f"{path}.requirements[{index}]"
        if not requirement.get("key"):
            out.append(FieldError.required(f"{where}.key", "must be specified"))
        operator, values = requirement.get("operator") or "", requirement.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be specified when `operator` is 'In' or 'NotIn'"
                out.append(FieldError.required(f"{where}.values", text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                out.append(FieldError.forbidden(f"{where}.values", text))
        else:
            out.append(FieldError.invalid(f"{where}.operator", operator, "not a valid selector operator"))


def _unnamed(obj: Obj, out: Errors, text: str = "must be empty", *, ignored: tuple[str, ...] = ()) -> None:
    """Answers are no objects, so what would identify them means nothing."""
    metadata = obj.get("metadata") or {}
    if any(value for field, value in metadata.items() if field not in ("managedFields", *ignored)):
        out.append(FieldError.invalid("metadata", metadata, text))


def _about_somebody(spec: Obj, out: Errors) -> None:
    _attributes(spec, out)
    if not spec.get("user") and not spec.get("groups"):
        text = "at least one of user or group must be specified"
        out.append(FieldError.invalid("spec.user", spec.get("user") or "", text))


@on_create(_AUTHORIZATION, "SubjectAccessReview")
def subject_access_review(obj: Obj) -> Errors:
    """May someone do something."""
    out: Errors = []
    _about_somebody(obj.get("spec") or {}, out)
    _unnamed(obj, out)
    return out


@on_create(_AUTHORIZATION, "LocalSubjectAccessReview")
def local_subject_access_review(obj: Obj) -> Errors:
    """May someone do something in this namespace."""
    out: Errors = []
    spec = obj.get("spec") or {}
    _about_somebody(spec, out)
    _unnamed(obj, out, "must be empty except for namespace", ignored=("namespace",))
    space = (spec.get("resourceAttributes") or {}).get("namespace") or ""
    if space != (obj["metadata"].get("namespace") or ""):
        text = "must match metadata.namespace"
        out.append(FieldError.invalid("spec.resourceAttributes.namespace", space, text))
    if spec.get("nonResourceAttributes") is not None:
        text = "disallowed on this kind of request"
        out.append(FieldError.invalid("spec.nonResourceAttributes", spec["nonResourceAttributes"], text))
    return out


@on_create(_AUTHORIZATION, "SelfSubjectAccessReview")
def self_subject_access_review(obj: Obj) -> Errors:
    """May I do something."""
    out: Errors = []
    _attributes(obj.get("spec") or {}, out)
    _unnamed(obj, out)
    return out


@on_create("", "Binding")
def binding(obj: Obj) -> Errors:
    """A pod's binding to a node."""
    out: Errors = []
    target = obj.get("target") or {}
    if target.get("kind") and target["kind"] != "Node":
        out.append(FieldError.not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        out.append(FieldError.required("target.name"))
    return out
