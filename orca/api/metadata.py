"""``metadata`` of every kind: what the system owns, what may not change, and what is well formed.

Reference: k8s.io/apimachinery ``api/validation/objectmeta.go`` and k8s.io/apiserver ``registry/rest``.
"""

from collections.abc import Callable
from typing import Any

from orca.api import names
from orca.api.errors import FieldError
from orca.api.objects import Obj, ensure_meta, meta
from orca.api.resources import Resource

SYSTEM_FIELDS = frozenset(
    {
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
    }
)
_FOREVER = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
ANNOTATIONS_LIMIT = 256 * 1024
STANDARD_FINALIZERS = ("foregroundDeletion", "orphan", "kubernetes")


def keep_system_fields(new: Obj, old: Obj) -> None:
    """Copy the system's fields from ``old`` where ``new`` leaves them out; contradictions are left for validation."""
    fields, before = ensure_meta(new), meta(old)
    for field in _FOREVER:
        if fields.get(field) is None:
            fields.pop(field, None)
            if before.get(field) is not None:
                fields[field] = before[field]
    for field in ("name", "namespace"):
        if not fields.get(field) and before.get(field):
            fields[field] = before[field]
    if not fields.get("generateName") and before.get("generateName"):
        fields["generateName"] = before["generateName"]
    fields.pop("selfLink", None)


def validate(resource: Resource, obj: Obj, name_rule: Callable[[str], list[str]] | None = None) -> list[FieldError]:
    """Errors of a new object's metadata; names are RFC 1123 subdomains where the kind has no rule of its own."""
    fields = meta(obj)
    rule = name_rule or names.dns1123_subdomain
    found: list[FieldError] = []
    generate = fields.get("generateName") or ""
    if generate:
        # Only the part that is certain to stay is judged: a trailing dash gets covered by the suffix.
        stem = generate[:-1] + "a" if generate.endswith("-") else generate
        found += [FieldError.invalid("metadata.generateName", generate, m) for m in rule(stem)]
    name = fields.get("name") or ""
    if not name:
        found.append(FieldError.required("metadata.name", "name or generateName is required"))
    else:
        found += [FieldError.invalid("metadata.name", name, m) for m in names.path_segment(name) or rule(name)]
    space = fields.get("namespace") or ""
    if resource.namespaced:
        if not space:
            found.append(FieldError.required("metadata.namespace", ""))
        else:
            found += [FieldError.invalid("metadata.namespace", space, m) for m in names.dns1123_label(space)]
    elif space:
        found.append(FieldError.forbidden("metadata.namespace", "not allowed on this type"))
    return found + _common(resource, fields)


def validate_update(resource: Resource, new: Obj, old: Obj) -> list[FieldError]:
    """Errors of a changed object's metadata."""
    fields, before = meta(new), meta(old)
    found: list[FieldError] = []
    for field in ("name", "namespace", *_FOREVER):
        if (fields.get(field) or None) != (before.get(field) or None):
            found.append(FieldError.invalid(f"metadata.{field}", fields.get(field), "field is immutable"))
    if before.get("deletionTimestamp"):
        known = set(before.get("finalizers") or [])
        added = [f for f in fields.get("finalizers") or [] if f not in known]
        if added:
            listed = ", ".join(f'"{finalizer}"' for finalizer in sorted(added))
            text = (
                "no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{listed}}}"
            )
            found.append(FieldError.forbidden("metadata.finalizers", text))
    return found + _common(resource, fields)


def validate_labels(labels: Any, path: str) -> list[FieldError]:
    """Errors of a map of labels."""
    found = []
    for key, value in (labels or {}).items():
        found += [FieldError.invalid(path, key, m) for m in names.qualified_name(key)]
        found += [FieldError.invalid(path, value, m) for m in names.label_value(value or "")]
    return found


def validate_annotations(annotations: Any, path: str) -> list[FieldError]:
    """Errors of a map of annotations."""
    found = []
    size = 0
    for key, value in (annotations or {}).items():
        # Keys are case-insensitive names.
        found += [FieldError.invalid(path, key, m) for m in names.qualified_name(key.lower())]
        size += len(key.encode()) + len((value or "").encode())
    if size > ANNOTATIONS_LIMIT:
        found.append(FieldError.too_long(path, "", ANNOTATIONS_LIMIT))
    return found


def _common(resource: Resource, fields: Obj) -> list[FieldError]:
    found = validate_labels(fields.get("labels"), "metadata.labels")
    found += validate_annotations(fields.get("annotations"), "metadata.annotations")
    if fields.get("ownerReferences"):
        found += _owners(fields["ownerReferences"])
    finalizers = fields.get("finalizers")
    if finalizers:
        # Upstream asks for a path in the names of its own kinds only.
        _finalizers(finalizers, found, own=not resource.custom and resource.group != "apiextensions.k8s.io")
    return found


def _finalizers(finalizers: list[str], found: list[FieldError], *, own: bool) -> None:
    path = "metadata.finalizers"
    for finalizer in finalizers:
        found += [FieldError.invalid(path, finalizer, m) for m in names.qualified_name(finalizer)]
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        text = "finalizer orphan and foregroundDeletion cannot be both set"
        found.append(FieldError.invalid(path, finalizers, text))
    for i, finalizer in enumerate(finalizers):
        if own and "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            text = "name is neither a standard finalizer name nor is it fully qualified"
            found.append(FieldError.invalid(f"{path}[{i}]", finalizer, text))


def _owners(references: list[Obj]) -> list[FieldError]:
    found = []
    controller = ""
    several = False
    path = "metadata.ownerReferences"
    for reference in references:
        for field in ("apiVersion", "kind", "name", "uid"):
            if not reference.get(field):
                text = "version must not be empty" if field == "apiVersion" else "must not be empty"
                found.append(FieldError.invalid(f"{path}.{field}", reference.get(field) or "", text))
        if reference.get("kind") == "Event" and reference.get("apiVersion") == "v1":
            text = "/v1, Kind=Event is disallowed from being an owner"
            found.append(FieldError.invalid(path, reference, text))
        if reference.get("controller"):
            name = f"{reference.get('kind') or ''}/{reference.get('name') or ''}"
            if controller and not several:
                several = True  # once: each such error shows all references, of which there may be thousands
                text = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {name}"
                )
                found.append(FieldError.invalid(path, references, text))
            else:
                controller = controller or name
    return found
