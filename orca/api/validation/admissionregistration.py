"""Admission webhooks and policies."""

from __future__ import annotations

from urllib.parse import urlsplit

from orca.api import names
from orca.api.errors import FieldError, quote
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_GROUP = "admissionregistration.k8s.io"
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_POLICIES = ("Fail", "Ignore")
_MATCH = ("Equivalent", "Exact")
_REVIEWS = ("v1", "v1beta1")


def _wildcard_alone(values: list[str], path: str, out: Errors, what: str) -> None:
    if "*" in values and len(values) > 1:
        text = f"if '*' is present, must not specify other {what}"
        out.append(FieldError.invalid(path, values, text))


def rule(obj: Obj, path: str, out: Errors) -> None:
    """One RuleWithOperations."""
    operations = obj.get("operations") or []
    if not operations:
        out.append(FieldError.required(f"{path}.operations"))
    _wildcard_alone(operations, f"{path}.operations", out, "operations")
    for i, operation in enumerate(operations):
        if operation not in _OPERATIONS:
            out.append(FieldError.not_supported(f"{path}.operations[{i}]", operation, _OPERATIONS))
    for key, what in (("apiGroups", "API groups"), ("apiVersions", "API versions"), ("resources", "resources")):
        values = obj.get(key) or []
        if not values:
            out.append(FieldError.required(f"{path}.{key}"))
        if key != "resources":
            _wildcard_alone(values, f"{path}.{key}", out, what)
            for i, value in enumerate(values):
                if key == "apiVersions" and not value:
                    out.append(FieldError.required(f"{path}.{key}[{i}]"))
        for i, value in enumerate(values):
            if key == "resources" and not value:
                out.append(FieldError.required(f"{path}.{key}[{i}]"))
    scope = obj.get("scope")
    if scope is not None:
        common.choice(scope, _SCOPES, f"{path}.scope", out)


def client_config(obj: Obj, path: str, out: Errors) -> None:
    """Where a webhook is: a URL or a service."""
    url, service = obj.get("url"), obj.get("service")
    if (url is None) == (service is None):
        out.append(FieldError.required(path, "exactly one of url or service is required"))
        return
    if url is not None:
        at = f"{path}.url"
        try:
            parts = urlsplit(url)
            _ = parts.port  # raises for what is no number
        except ValueError as error:
            text = f"url must be a valid URL: parse {quote(url)}: {error}; desired format: https://host[/path]"
            out.append(FieldError.required(at, text))
            return
        if parts.scheme != "https":
            shown = parts.scheme
            text = f"'https' is the only allowed URL scheme; desired format: https://host[/path], got {shown!r}"
            out.append(FieldError.invalid(at, url, text))
        if not parts.hostname:
            out.append(FieldError.invalid(at, url, "host must be specified; desired format: https://host[/path]"))
        if parts.username:
            out.append(FieldError.invalid(at, url, "user information is not permitted in the URL"))
        for part, word in ((parts.fragment, "fragments"), (parts.query, "query parameters")):
            if part:
                out.append(FieldError.invalid(at, url, f"{word} are not permitted in the URL"))
        return
    assert service is not None
    at = f"{path}.service"
    common.required(service, "name", at, out, "service name is required")
    common.required(service, "namespace", at, out, "service namespace is required")
    port = service.get("port")
    if port is not None and not 1 <= port <= 65535:
        text = f"port is not valid: {names.in_range(1, 65535)}"
        out.append(FieldError.invalid(f"{at}.port", port, text))
    where = service.get("path")
    if where is not None and not where.startswith("/"):
        out.append(FieldError.invalid(f"{at}.path", where, "must start with a '/'"))


def _match_conditions(items: list[Obj], path: str, out: Errors) -> None:
    seen = set()
    if len(items) > 64:
        out.append(FieldError.too_many(path, len(items), 64))
    for i, condition in enumerate(items):
        name = condition.get("name") or ""
        if not (condition.get("expression") or "").strip():
            out.append(FieldError.required(f"{path}[{i}].expression"))
        if not name:
            out.append(FieldError.required(f"{path}[{i}].name"))
        else:
            common.messages(names.qualified_name(name), name, f"{path}[{i}].name", out)
        if name in seen:
            out.append(FieldError.duplicate(f"{path}[{i}].name", name))
        seen.add(name)


def _webhook(hook: Obj, path: str, out: Errors) -> None:
    name = hook.get("name") or ""
    if not name:
        out.append(FieldError.required(f"{path}.name"))
    else:
        wrong = names.dns1123_subdomain(name)
        common.messages(wrong, name, f"{path}.name", out)
        if not wrong and name.count(".") < 2:
            text = "should be a domain with at least three segments separated by dots"
            out.append(FieldError.invalid(f"{path}.name", name, text))
    for i, one in enumerate(hook.get("rules") or ()):
        rule(one, f"{path}.rules[{i}]", out)
    common.choice(hook.get("failurePolicy"), _POLICIES, f"{path}.failurePolicy", out)
    common.choice(hook.get("matchPolicy"), _MATCH, f"{path}.matchPolicy", out)
    effects = hook.get("sideEffects")
    if effects is None:
        text = f"must specify one of {', '.join(('None', 'NoneOnDryRun'))}"
        out.append(FieldError.required(f"{path}.sideEffects", text))
    else:
        common.choice(effects, ("None", "NoneOnDryRun"), f"{path}.sideEffects", out)
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        out.append(FieldError.invalid(f"{path}.timeoutSeconds", seconds, text))
    for key in ("namespaceSelector", "objectSelector"):
        common.label_selector(hook.get(key), f"{path}.{key}", out)
    client_config(hook.get("clientConfig") or {}, f"{path}.clientConfig", out)
    versions = hook.get("admissionReviewVersions") or []
    at = f"{path}.admissionReviewVersions"
    if not versions:
        out.append(FieldError.required(at, f"must specify one of {', '.join(_REVIEWS)}"))
    else:
        for i, version in enumerate(versions):
            if version in versions[:i]:
                out.append(FieldError.invalid(f"{at}[{i}]", version, "duplicate version"))
            common.messages(names.dns1035_label(version), version, f"{at}[{i}]", out)
        if not set(versions) & set(_REVIEWS):
            text = f"must include at least one of {', '.join(_REVIEWS)}"
            out.append(FieldError.invalid(at, versions, text))
    common.choice(hook.get("reinvocationPolicy"), ("IfNeeded", "Never"), f"{path}.reinvocationPolicy", out)
    _match_conditions(hook.get("matchConditions") or [], f"{path}.matchConditions", out)


@on_create(_GROUP, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
def webhooks(obj: Obj) -> Errors:
    """A webhook configuration: every webhook sound, names unique."""
    out: Errors = []
    seen = set()
    for i, hook in enumerate(obj.get("webhooks") or ()):
        _webhook(hook, f"webhooks[{i}]", out)
        if hook.get("name") in seen:
            out.append(FieldError.duplicate(f"webhooks[{i}].name", hook["name"]))
        seen.add(hook.get("name"))
        out += _conditions_compile(hook, f"webhooks[{i}].matchConditions")
    return out


def _conditions_compile(hook: Obj, path: str) -> Errors:
    if not hook.get("matchConditions"):
        return []
    # Imported here and below: the language is heavy, and few objects hold expressions.
    from orca.api.cel.admission import conditions_errors

    return list(conditions_errors(hook["matchConditions"], path))


def _policy_compiles(spec: Obj, old: Obj | None = None, *, mutating: bool = False) -> Errors:
    """Expressions are judged when they come: what is stored and does not change stays."""
    if old is not None and spec == old:
        return []
    from orca.api.cel.admission import policy_errors

    return list(policy_errors(spec, mutating=mutating))


def _match_resources(obj: Obj | None, path: str, out: Errors, *, rules_needed: bool) -> None:
    if obj is None:
        if rules_needed:
            out.append(FieldError.required(path))
        return
    common.choice(obj.get("matchPolicy"), _MATCH, f"{path}.matchPolicy", out)
    for key in ("namespaceSelector", "objectSelector"):
        if obj.get(key) is None:
            out.append(FieldError.required(f"{path}.{key}"))
        else:
            common.label_selector(obj[key], f"{path}.{key}", out)
    rules = obj.get("resourceRules") or []
    if rules_needed and not rules:
        out.append(FieldError.required(f"{path}.resourceRules"))
    for i, one in enumerate(rules):
        rule(one, f"{path}.resourceRules[{i}]", out)
    for i, one in enumerate(obj.get("excludeResourceRules") or ()):
        rule(one, f"{path}.excludeResourceRules[{i}]", out)


def _param_kind(kind: Obj | None, path: str, out: Errors) -> None:
    if kind is None:
        return
    common.required(kind, "apiVersion", path, out)
    common.required(kind, "kind", path, out)


def _variables(items: list[Obj], path: str, out: Errors) -> None:
    seen = set()
    for i, variable in enumerate(items):
        name = variable.get("name") or ""
        if not name:
            out.append(FieldError.required(f"{path}[{i}].name", "name is not specified"))
        elif not name.isidentifier():
            out.append(FieldError.invalid(f"{path}[{i}].name", name, "name is not a valid CEL identifier"))
        if name in seen:
            out.append(FieldError.duplicate(f"{path}[{i}].name", name))
        seen.add(name)
        if not (variable.get("expression") or "").strip():
            out.append(FieldError.required(f"{path}[{i}].expression", "expression is not specified"))


@on_create(_GROUP, "ValidatingAdmissionPolicy")
def validating_policy(obj: Obj) -> Errors:
    """A ValidatingAdmissionPolicy."""
    return _validating_policy(obj) + _policy_compiles(obj.get("spec") or {})


def _validating_policy(obj: Obj) -> Errors:
    out: Errors = []
    spec = obj.get("spec") or {}
    common.choice(spec.get("failurePolicy"), _POLICIES, "spec.failurePolicy", out, required=True)
    _param_kind(spec.get("paramKind"), "spec.paramKind", out)
    _match_resources(spec.get("matchConstraints"), "spec.matchConstraints", out, rules_needed=True)
    _match_conditions(spec.get("matchConditions") or [], "spec.matchConditions", out)
    _variables(spec.get("variables") or [], "spec.variables", out)
    validations, audits = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not audits:
        text = "validations or auditAnnotations must contain at least one item"
        out.append(FieldError.required("spec.validations", text))
        out.append(FieldError.required("spec.auditAnnotations", text))
    for i, one in enumerate(validations):
        at = f"spec.validations[{i}]"
        if not (one.get("expression") or "").strip():
            out.append(FieldError.required(f"{at}.expression", "expression is not specified"))
        if "\n" in (one.get("message") or "").strip():
            out.append(FieldError.invalid(f"{at}.message", one["message"], "message must not contain line breaks"))
        reasons = ("Unauthorized", "Forbidden", "Invalid", "RequestEntityTooLarge")
        common.choice(one.get("reason"), reasons, f"{at}.reason", out)
    for i, audit in enumerate(audits):
        at = f"spec.auditAnnotations[{i}]"
        if not (audit.get("valueExpression") or "").strip():
            out.append(FieldError.required(f"{at}.valueExpression", "valueExpression is not specified"))
        if not audit.get("key"):
            out.append(FieldError.required(f"{at}.key"))
    return out


@on_update(_GROUP, "ValidatingAdmissionPolicy")
def validating_policy_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ValidatingAdmissionPolicy."""
    if subresource == "status":
        return []
    return _validating_policy(new) + _policy_compiles(new.get("spec") or {}, old.get("spec") or {})


@on_create(_GROUP, "MutatingAdmissionPolicy")
def mutating_policy(obj: Obj) -> Errors:
    """A MutatingAdmissionPolicy."""
    return _mutating_policy(obj) + _policy_compiles(obj.get("spec") or {}, mutating=True)


@on_update(_GROUP, "MutatingAdmissionPolicy")
def mutating_policy_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed MutatingAdmissionPolicy."""
    del subresource
    return _mutating_policy(new) + _policy_compiles(new.get("spec") or {}, old.get("spec") or {}, mutating=True)


def _mutating_policy(obj: Obj) -> Errors:
    out: Errors = []
    spec = obj.get("spec") or {}
    common.choice(spec.get("failurePolicy"), _POLICIES, "spec.failurePolicy", out, required=True)
    common.choice(spec.get("reinvocationPolicy"), ("IfNeeded", "Never"), "spec.reinvocationPolicy", out, required=True)
    _param_kind(spec.get("paramKind"), "spec.paramKind", out)
    _match_resources(spec.get("matchConstraints"), "spec.matchConstraints", out, rules_needed=True)
    _match_conditions(spec.get("matchConditions") or [], "spec.matchConditions", out)
    _variables(spec.get("variables") or [], "spec.variables", out)
    mutations = spec.get("mutations") or []
    if not mutations:
        text = "mutations must contain at least one item"
        out.append(FieldError.required("spec.mutations", text))
    fields = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
    for i, one in enumerate(mutations):
        at, kind = f"spec.mutations[{i}]", one.get("patchType")
        common.choice(kind, tuple(fields), f"{at}.patchType", out, required=True)
        for name, field in fields.items():
            if name == kind and not ((one.get(field) or {}).get("expression") or "").strip():
                out.append(FieldError.required(f"{at}.{field}.expression", "expression is not specified"))
            elif name != kind and one.get(field) is not None:
                text = f"must not be specified when patchType is {kind}"
                out.append(FieldError.forbidden(f"{at}.{field}", text))
    return out


@on_create(_GROUP, "ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicyBinding")
def policy_binding(obj: Obj) -> Errors:
    """A policy binding."""
    out: Errors = []
    spec = obj.get("spec") or {}
    name = spec.get("policyName") or ""
    if not name:
        out.append(FieldError.required("spec.policyName"))
    else:
        common.messages(names.dns1123_subdomain(name), name, "spec.policyName", out)
    ref = spec.get("paramRef")
    if ref is not None:
        if bool(ref.get("name")) == (ref.get("selector") is not None):
            text = "one of name or selector must be specified"
            if ref.get("name"):
                out.append(FieldError.forbidden("spec.paramRef.name", "name and selector are mutually exclusive"))
            else:
                out.append(FieldError.required("spec.paramRef", text))
        at = "spec.paramRef.parameterNotFoundAction"
        common.choice(ref.get("parameterNotFoundAction"), ("Allow", "Deny"), at, out, required=True)
    _match_resources(spec.get("matchResources"), "spec.matchResouces", out, rules_needed=False)
    if obj.get("kind") == "ValidatingAdmissionPolicyBinding":
        actions = spec.get("validationActions") or []
        if not actions:
            out.append(FieldError.required("spec.validationActions"))
        for action in actions:
            if action not in ("Audit", "Deny", "Warn"):
                out.append(FieldError.not_supported("spec.validationActions", action, ("Audit", "Deny", "Warn")))
        if "Deny" in actions and "Warn" in actions:
            text = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"  # noqa: E501
            out.append(FieldError.invalid("spec.validationActions", actions, text))
    return out
