"""Admission webhooks and policies.

Reference: k8s.io/kubernetes ``pkg/apis/admissionregistration/validation``.
"""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.comparison import plain
from orca.api.validation.registry import Errors, Obj, on_create, on_update
from orca.api.validation.webhooks import client_config

GROUP = "admissionregistration.k8s.io"
POLICIES = ("Fail", "Ignore")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_MATCH = ("Equivalent", "Exact")
_REVIEWS = ("v1", "v1beta1")
_EFFECTS = ("None", "NoneOnDryRun")
REINVOCATIONS = ("IfNeeded", "Never")
_MAX_CONDITIONS = 64


def _any_alone(values: list[str], path: str, out: Errors, what: str) -> None:
    if "*" in values and len(values) > 1:
        text = f"if '*' is present, must not specify other {what}"
        out.append(FieldError.invalid(path, values, text))


def _resources(values: list[str], path: str, out: Errors) -> None:
    """Resources with their subresources, of which wildcards leave nothing to add."""
    if not values:
        out.append(FieldError.required(path))
    all_of: set[str] = set()
    in_all: set[str] = set()
    last_is_plain = False
    for i, value in enumerate(values):
        resource, slash, sub = value.partition("/")
        if not value:
            out.append(FieldError.required(f"{path}[{i}]"))
        elif not slash:
            # Upstream remembers the last one only.
            last_is_plain = value != "*"
        else:
            if resource in all_of:
                text = f"if '{resource}/*' is present, must not specify {value}"
                out.append(FieldError.invalid(f"{path}[{i}]", value, text))
            if sub in in_all:
                text = f"if '*/{sub}' is present, must not specify {value}"
                out.append(FieldError.invalid(f"{path}[{i}]", value, text))
            if sub == "*":
                all_of.add(resource)
            if resource == "*":
                in_all.add(sub)
    if len(values) > 1 and "*/*" in values:
        text = "if '*/*' is present, must not specify other resources"
        out.append(FieldError.invalid(path, values, text))
    if "*" in values and last_is_plain:
        text = "if '*' is present, must not specify other resources without subresources"
        out.append(FieldError.invalid(path, values, text))


def rule(obj: Obj, path: str, out: Errors) -> None:
    """One RuleWithOperations."""
    operations = obj.get("operations") or []
    if not operations:
        out.append(FieldError.required(f"{path}.operations"))
    _any_alone(operations, f"{path}.operations", out, "operations")
    for i, operation in enumerate(operations):
        common.known(operation, _OPERATIONS, f"{path}.operations[{i}]", out)
    for key, what in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = obj.get(key) or []
        if not values:
            out.append(FieldError.required(f"{path}.{key}"))
        _any_alone(values, f"{path}.{key}", out, what)
    for i, version in enumerate(obj.get("apiVersions") or ()):
        if not version:
            out.append(FieldError.required(f"{path}.apiVersions[{i}]"))
    _resources(obj.get("resources") or [], f"{path}.resources", out)
    common.known(obj.get("scope"), _SCOPES, f"{path}.scope", out)


def match_conditions(items: list[Obj], path: str, out: Errors) -> None:
    """Conditions with an expression and a name of its own each; whether they compile is told elsewhere."""
    seen = set()
    if len(items) > _MAX_CONDITIONS:
        out.append(FieldError.too_many(path, len(items), _MAX_CONDITIONS))
    for i, condition in enumerate(items):
        name = condition.get("name") or ""
        if not (condition.get("expression") or "").strip():
            out.append(FieldError.required(f"{path}[{i}].expression"))
        if not name:
            out.append(FieldError.required(f"{path}[{i}].name"))
            continue
        common.messages(names.qualified_name(name), name, f"{path}[{i}].name", out)
        if name in seen:
            out.append(FieldError.duplicate(f"{path}[{i}].name", name))
        seen.add(name)


def _name(name: str, path: str, out: Errors) -> None:
    if not name:
        out.append(FieldError.required(path))
    elif wrong := names.dns1123_subdomain(name):
        out.append(FieldError.invalid(path, name, ",".join(wrong)))
    elif name.count(".") < 2:
        text = "should be a domain with at least three segments separated by dots"
        out.append(FieldError.invalid(path, name, text))


def _webhook(hook: Obj, path: str, out: Errors, *, conditions: bool) -> None:
    _name(hook.get("name") or "", f"{path}.name", out)
    for i, one in enumerate(hook.get("rules") or ()):
        rule(one, f"{path}.rules[{i}]", out)
    common.known(hook.get("failurePolicy"), POLICIES, f"{path}.failurePolicy", out)
    common.known(hook.get("matchPolicy"), _MATCH, f"{path}.matchPolicy", out)
    if hook.get("sideEffects") is None:
        out.append(FieldError.required(f"{path}.sideEffects", f"must specify one of {', '.join(_EFFECTS)}"))
    common.known(hook.get("sideEffects"), _EFFECTS, f"{path}.sideEffects", out)
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        out.append(FieldError.invalid(f"{path}.timeoutSeconds", seconds, text))
    for key in ("namespaceSelector", "objectSelector"):
        common.label_selector(hook.get(key), f"{path}.{key}", out)
    common.known(hook.get("reinvocationPolicy"), REINVOCATIONS, f"{path}.reinvocationPolicy", out)
    client_config(hook.get("clientConfig") or {}, f"{path}.clientConfig", out)
    if conditions and hook.get("matchConditions"):
        match_conditions(hook["matchConditions"], f"{path}.matchConditions", out)
        # Imported here and in its sister: the language is heavy, and few objects hold expressions.
        from orca.api.cel.admission import conditions_errors

        out += conditions_errors(hook["matchConditions"], f"{path}.matchConditions")
    _versions(hook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions", out)


def _versions(versions: list[str], path: str, out: Errors) -> None:
    if not versions:
        out.append(FieldError.required(path, f"must specify one of {', '.join(_REVIEWS)}"))
        return
    before = common.there_before(versions)
    for i, version in enumerate(versions):
        if before[i]:
            out.append(FieldError.invalid(f"{path}[{i}]", version, "duplicate version"))
            continue
        common.messages(names.dns1035_label(version), version, f"{path}[{i}]", out)
    if not set(versions) & set(_REVIEWS):
        text = f"must include at least one of {', '.join(_REVIEWS)}"
        out.append(FieldError.invalid(path, versions, text))


def _webhooks(obj: Obj, *, conditions: bool) -> Errors:
    out: Errors = []
    seen = set()
    for i, hook in enumerate(obj.get("webhooks") or ()):
        _webhook(hook, f"webhooks[{i}]", out, conditions=conditions)
        name = hook.get("name")
        if name and name in seen:
            out.append(FieldError.duplicate(f"webhooks[{i}].name", name))
        seen.add(name)
    return out


@on_create(GROUP, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
def webhooks(obj: Obj) -> Errors:
    """A webhook configuration: every webhook sound, names unique."""
    return _webhooks(obj, conditions=True)


@on_update(GROUP, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
def webhooks_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed webhook configuration; conditions that stay were judged when they came."""
    del subresource
    now, was = ([plain(hook.get("matchConditions")) for hook in obj.get("webhooks") or ()] for obj in (new, old))
    return _webhooks(new, conditions=now != was)


def match_resources(obj: Obj, path: str, out: Errors) -> None:
    """What a policy or a binding is for."""
    if obj.get("matchPolicy") is None:
        out.append(FieldError.required(f"{path}.matchPolicy"))
    common.known(obj.get("matchPolicy"), _MATCH, f"{path}.matchPolicy", out)
    for key in ("namespaceSelector", "objectSelector"):
        if obj.get(key) is None:
            out.append(FieldError.required(f"{path}.{key}"))
        else:
            common.label_selector(obj[key], f"{path}.{key}", out)
    for key in ("resourceRules", "excludeResourceRules"):
        for i, one in enumerate(obj.get(key) or ()):
            at, wanted = f"{path}.{key}[{i}]", one.get("resourceNames") or []
            again = common.there_before(wanted)
            for j, name in enumerate(wanted):
                common.messages(names.path_segment(name), name, f"{at}.resourceNames[{j}]", out)
                if again[j]:
                    out.append(FieldError.duplicate(f"{at}.resourceNames[{j}]", name))
            rule(one, at, out)
