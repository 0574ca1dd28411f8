"""CustomResourceDefinitions: what is wrong with one, in upstream's words and at upstream's fields.

Upstream judges its internal form, in which what all versions share stands once: errors of a schema are found at
``spec.validation`` when all versions have the same, at ``spec.versions[i].schema`` otherwise; so are they here.
Reference: k8s.io/apiextensions-apiserver ``pkg/apis/apiextensions/validation/validation.go``.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from orca.api import names
from orca.api.customresources import jsonpath, rules, structural
from orca.api.errors import FieldError
from orca.api.objects import Obj, meta
from orca.api.validation import common
from orca.api.validation.registry import Errors
from orca.api.validation.webhooks import client_config

APPROVED: Final = "api-approved.kubernetes.io"
_SEE = "see https://github.com/kubernetes/enhancements/pull/1111"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_ROOT_FIELDS = (
    "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern "
    "MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields "
    "XValidations"
)
_AT_ROOT = {word[0].lower() + word[1:] for word in _ROOT_FIELDS.split() if not word.startswith("X")} | {
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}
MAX_SELECTABLE = 8


def approval(obj: Obj) -> tuple[str, str]:
    """(state, reason) of a protected group's approval: ``approved``, ``bypassed``, ``missing`` or ``invalid``."""
    told = (meta(obj).get("annotations") or {}).get(APPROVED) or ""
    if not told:
        return "missing", f'protected groups must have approval annotation "{APPROVED}", {_SEE}'
    if told.startswith("unapproved"):
        return "bypassed", f'not approved: "{told}"'
    parts = urlsplit(told)
    if parts.scheme and parts.netloc:
        return "approved", f"approved in {told}"
    text = f'protected groups must have approval annotation "{APPROVED}" with either a URL or a reason starting with "unapproved", {_SEE}'  # noqa: E501
    return "invalid", text


def is_protected(group: str) -> bool:
    """Groups of the Kubernetes community."""
    return group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))


def is_established(obj: Obj) -> bool:
    """Whether objects of its kind are served."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)


def check(obj: Obj, old: Obj | None = None) -> Errors:
    """Errors of a definition; ``old`` is the one it replaces."""
    out: Errors = []
    spec, before = obj.get("spec") or {}, (old or {}).get("spec") or {}
    name = meta(obj).get("name") or ""
    wanted = f"{(spec.get('names') or {}).get('plural') or ''}.{spec.get('group') or ''}"
    if old is None and name != wanted:
        out.append(FieldError.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    _spec(spec, before, out)
    if old is not None:
        _changed(obj, old, out)
    _stored(obj, out)
    if old is None or approval(obj)[0] != approval(old)[0]:
        _approval(obj, out)
    if spec.get("preserveUnknownFields") and not before.get("preserveUnknownFields"):
        text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        out.append(FieldError.invalid("spec.preserveUnknownFields", True, text))
    return out


def check_status(obj: Obj) -> Errors:
    """Errors of a definition's status."""
    out: Errors = []
    _name_rules((obj.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames", out)
    return out


def _approval(obj: Obj, out: Errors) -> None:
    if not is_protected((obj.get("spec") or {}).get("group") or ""):
        return
    state, reason = approval(obj)
    at = f"metadata.annotations[{APPROVED}]"
    if state == "missing":
        out.append(FieldError.required(at, reason))
    elif state == "invalid":
        out.append(FieldError.invalid(at, (meta(obj).get("annotations") or {}).get(APPROVED), reason))


def _changed(obj: Obj, old: Obj, out: Errors) -> None:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    now, then = spec.get("names") or {}, before.get("names") or {}
    if is_established(old):
        common.immutable(spec.get("scope"), before.get("scope"), "spec.scope", out)
        common.immutable(now.get("kind"), then.get("kind"), "spec.names.kind", out)
    common.immutable(spec.get("group"), before.get("group"), "spec.group", out)
    common.immutable(now.get("plural"), then.get("plural"), "spec.names.plural", out)


def _stored(obj: Obj, out: Errors) -> None:
    """The versions objects are stored in: the one of now among them, and each still known."""
    stored, at = (obj.get("status") or {}).get("storedVersions") or [], "status.storedVersions"
    versions = (obj.get("spec") or {}).get("versions") or []
    if not stored:
        out.append(FieldError.invalid(at, stored, "must have at least one stored version"))
        return
    for version in versions:
        if version.get("storage") and version.get("name") not in stored:
            text = f"must have the storage version {version.get('name')}"
            out.append(FieldError.invalid(at, stored, text))
    known = {version.get("name") for version in versions}
    for index, name in enumerate(stored):
        if name not in known:
            text = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                "spec.versions until a storage migration ensures no data remains persisted in "
                f"{name} and removes {name} from status.storedVersions"
            )
            out.append(FieldError.invalid(f"{at}[{index}]", name, text))


def _spec(spec: Obj, before: Obj, out: Errors) -> None:
    group = spec.get("group") or ""
    if not group:
        out.append(FieldError.required("spec.group"))
    else:
        problems = names.dns1123_subdomain(group)
        if problems:
            out.append(FieldError.invalid("spec.group", group, ",".join(problems)))
        elif "." not in group:
            out.append(FieldError.invalid("spec.group", group, "should be a domain with at least one dot"))
    common.choice(spec.get("scope"), ("Cluster", "Namespaced"), "spec.scope", out, required=True)
    versions = spec.get("versions") or []
    _versions(before, versions, out)
    wanted = spec.get("names") or {}
    for field in ("plural", "singular", "kind", "listKind"):
        if not wanted.get(field):
            out.append(FieldError.required(f"spec.names.{field}"))
    _name_rules(wanted, "spec.names", out)
    conversion = spec.get("conversion") or {}
    if spec.get("preserveUnknownFields") and conversion.get("strategy", "None") != "None":
        text = "must be None if spec.preserveUnknownFields is true"
        out.append(FieldError.invalid("spec.conversion.strategy", conversion["strategy"], text))
    _conversion(conversion, out)


def _name_rules(told: Obj, path: str, out: Errors) -> None:
    kind, list_kind = told.get("kind") or "", told.get("listKind") or ""
    for field in ("plural", "singular"):
        problems = names.dns1035_label(told[field]) if told.get(field) else []
        if problems:
            out.append(FieldError.invalid(f"{path}.{field}", told[field], ",".join(problems)))
    for field, value in (("kind", kind), ("listKind", list_kind)):
        problems = names.dns1035_label(value.lower()) if value else []
        if problems:
            text = "may have mixed case, but should otherwise match: " + ",".join(problems)
            out.append(FieldError.invalid(f"{path}.{field}", value, text))
    _labels(told.get("shortNames"), f"{path}.shortNames", out)
    if kind and kind == list_kind:
        out.append(FieldError.invalid(f"{path}.listKind", list_kind, "kind and listKind may not be the same"))
    _labels(told.get("categories"), f"{path}.categories", out)


def _labels(told: list[str] | None, path: str, out: Errors) -> None:
    for index, value in enumerate(told or ()):
        problems = names.dns1035_label(value)
        if problems:
            out.append(FieldError.invalid(f"{path}[{index}]", value, ",".join(problems)))


def _shared(versions: list[Obj], field: str) -> bool:
    """Whether all versions say the same: upstream's internal form then says it once."""
    return all(version.get(field) == versions[0].get(field) for version in versions)


def _versions(before: Obj, versions: list[Obj], out: Errors) -> None:
    known_before = {version.get("name"): version for version in before.get("versions") or ()}
    shared = {
        field: bool(versions) and _shared(versions, field)
        for field in ("schema", "subresources", "additionalPrinterColumns", "selectableFields")
    }
    seen: set[str] = set()
    for index, version in enumerate(versions):
        at, name = f"spec.versions[{index}]", version.get("name") or ""
        problems = names.dns1035_label(name)
        if problems:
            out.append(FieldError.invalid(f"{at}.name", name, ",".join(problems)))
        seen.add(name)
        _deprecation(version, f"{at}.deprecationWarning", out)
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            if not before or (known_before.get(name, {}).get("schema") or {}).get("openAPIV3Schema"):
                out.append(FieldError.required(f"{at}.schema.openAPIV3Schema", "schemas are required"))
        elif index == 0 or not shared["schema"]:
            unchanged = known_before.get(name, {}).get("schema") == version.get("schema")
            where = "spec.validation" if shared["schema"] else f"{at}.schema"
            _schema(version, f"{where}.openAPIV3Schema", out, unchanged=unchanged)
        for field, judge in (
            ("subresources", _subresources),
            ("additionalPrinterColumns", _columns),
        ):
            if version.get(field) and (index == 0 or not shared[field]):
                judge(version[field], f"spec.{field}" if shared[field] else f"{at}.{field}", out)
        if version.get("selectableFields") and (index == 0 or not shared["selectableFields"]):
            where = "spec.selectableFields" if shared["selectableFields"] else f"{at}.selectableFields"
            _selectable(version, where, out)
    if len(seen) < len(versions):
        out.append(FieldError.invalid("spec.versions", versions, "must contain unique version names"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "must have exactly one version marked as storage version"
        out.append(FieldError.invalid("spec.versions", versions, text))


def _deprecation(version: Obj, path: str, out: Errors) -> None:
    text = version.get("deprecationWarning")
    if text is None:
        return
    if not version.get("deprecated"):
        out.append(FieldError.invalid(path, text, "can only be set for deprecated versions"))
        return
    if len(text.encode()) > 256:
        out.append(FieldError.invalid(path, text, "must be <= 256 characters long"))
    if not text:
        out.append(FieldError.invalid(path, text, "must not be an empty string"))
    for index, character in enumerate(text):
        if not character.isprintable():
            at = len(text[:index].encode())
            shown = f"must only contain printable UTF-8 characters; non-printable character found at index {at}"
            out.append(FieldError.invalid(path, text, shown))
            break


def _schema(version: Obj, path: str, out: Errors, *, unchanged: bool) -> None:
    schema = version["schema"]["openAPIV3Schema"]
    if unchanged:
        return  # it was judged when it came; judging a large schema again costs seconds
    if "status" in (version.get("subresources") or {}):
        if schema.get("type") and schema["type"] != "object":
            text = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
            out.append(FieldError.invalid(f"{path}.type", schema["type"], text))
        elif any(value and name not in _AT_ROOT for name, value in schema.items()):
            text = (
                f"only [{_ROOT_FIELDS}] fields are allowed at the root of the schema if the status subresource is "
                "enabled"
            )
            out.append(FieldError.invalid(path, schema, text))
    if schema.get("nullable"):
        out.append(FieldError.forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    found = rules.check(schema, path)
    out += found or _expressions(schema, path)


def _expressions(schema: Obj, path: str) -> Errors:
    """Errors of ``x-kubernetes-validations``."""
    if not structural.parse(schema).ruled:
        return []
    # Here, because most definitions have no rules, and what compiles them is large.
    from orca.api.cel.rules import compile_rules

    return compile_rules(schema).errors(path)


def _simple_path(value: str, path: str, out: Errors) -> bool:
    if value.startswith("."):
        return True
    out.append(FieldError.invalid(path, value, "must be a simple json path starting with ."))
    return False


def _subresources(told: Obj, path: str, out: Errors) -> None:
    scale = told.get("scale")
    if scale is None:
        return
    for field, prefixes, needed, where in (
        ("specReplicasPath", (".spec.",), True, ".spec"),
        ("statusReplicasPath", (".status.",), True, ".status"),
        ("labelSelectorPath", (".spec.", ".status."), False, "either .spec or .status"),
    ):
        value, at = scale.get(field) or "", f"{path}.scale.{field}"
        if not value:
            if needed:
                out.append(FieldError.required(at))
        elif _simple_path(value, at, out) and not value.startswith(prefixes):
            out.append(FieldError.invalid(at, value, f"should be a json path under {where}"))


def _columns(told: list[Obj], path: str, out: Errors) -> None:
    for index, column in enumerate(told):
        at = f"{path}[{index}]"
        common.required(column, "name", at, out)
        kind, shape, where = column.get("type") or "", column.get("format") or "", column.get("jsonPath") or ""
        text = f"must be one of {','.join(_COLUMN_TYPES)}"
        if not kind:
            out.append(FieldError.required(f"{at}.type", text))
        elif kind not in _COLUMN_TYPES:
            out.append(FieldError.invalid(f"{at}.type", kind, text))
        if shape and shape not in _COLUMN_FORMATS:
            out.append(FieldError.invalid(f"{at}.format", shape, f"must be one of {','.join(_COLUMN_FORMATS)}"))
        if not where:
            out.append(FieldError.required(f"{at}.JSONPath"))
        elif _simple_path(where, f"{at}.JSONPath", out):
            try:
                jsonpath.parse(where)
            except jsonpath.BadPath as error:
                out.append(FieldError.invalid(f"{at}.JSONPath", where, str(error)))


def _selectable(version: Obj, path: str, out: Errors) -> None:
    schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    seen: set[tuple[str, ...]] = set()
    for index, field in enumerate(version["selectableFields"]):
        at, told = f"{path}[{index}].jsonPath", field.get("jsonPath") or ""
        if not told:
            out.append(FieldError.required(at))
            continue
        try:
            steps, found = _described(told, schema)
        except jsonpath.BadPath as error:
            out.append(FieldError.invalid(at, told, f"is an invalid path: {error}"))
            continue
        if steps[0] == "metadata":
            out.append(FieldError.invalid(at, told, "must not point to fields in metadata"))
        if found.get("type") not in ("string", "boolean", "integer"):
            text = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats "
                "are allowed."
            )
            out.append(FieldError.invalid(at, told, text))
        if steps in seen:
            out.append(FieldError.duplicate(at, told))
        seen.add(steps)
    if len(seen) > MAX_SELECTABLE:
        out.append(FieldError.too_many(path, len(seen), MAX_SELECTABLE))


def _described(told: str, schema: Obj) -> tuple[tuple[str, ...], Obj]:
    """The steps of a path, and the schema of what it points to. Raises BadPath."""
    steps = jsonpath.field_steps(told)
    current: Any = schema
    for step in steps:
        members = current.get("properties") or {}
        if step not in members:
            raise jsonpath.BadPath("does not refer to a valid field")
        current = members[step]
    return steps, current


def _conversion(conversion: Obj, out: Errors) -> None:
    strategy, webhook, at = conversion.get("strategy"), conversion.get("webhook"), "spec.conversion"
    common.choice(strategy, ("None", "Webhook"), f"{at}.strategy", out, required=True)
    if strategy == "Webhook":
        config = (webhook or {}).get("clientConfig")
        if config is None:
            text = "required when strategy is set to Webhook"
            out.append(FieldError.required(f"{at}.webhookClientConfig", text))
        else:
            client_config(config, f"{at}.webhookClientConfig", out)
        _review_versions((webhook or {}).get("conversionReviewVersions") or [], f"{at}.conversionReviewVersions", out)
        return
    text = "should not be set when strategy is not set to Webhook"
    if (webhook or {}).get("clientConfig") is not None:
        out.append(FieldError.forbidden(f"{at}.webhookClientConfig", text))
    if (webhook or {}).get("conversionReviewVersions"):
        out.append(FieldError.forbidden(f"{at}.conversionReviewVersions", text))


def _review_versions(versions: list[str], path: str, out: Errors) -> None:
    if not versions:
        out.append(FieldError.required(path))
        return
    before = common.there_before(versions)
    for index, version in enumerate(versions):
        if before[index]:
            out.append(FieldError.invalid(f"{path}[{index}]", version, "duplicate version"))
            continue
        out += [FieldError.invalid(f"{path}[{index}]", version, text) for text in names.dns1035_label(version)]
    if not {"v1", "v1beta1"} & set(versions):
        out.append(FieldError.invalid(path, versions, "must include at least one of v1, v1beta1"))
