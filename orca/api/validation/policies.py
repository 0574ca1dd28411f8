"""Validating and mutating admission policies, and their bindings.

Reference: k8s.io/kubernetes ``pkg/apis/admissionregistration/validation``.
"""

from __future__ import annotations

import re

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.admissionregistration import (
    GROUP,
    POLICIES,
    REINVOCATIONS,
    match_conditions,
    match_resources,
)
from orca.api.validation.comparison import plain
from orca.api.validation.registry import Errors, Obj, on_create, on_update

_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")
_MISSING = ("Deny", "Allow")
# Nothing is left to mutate of what is deleted.
_MUTATED = ("*", "CONNECT", "CREATE", "UPDATE")
_MAX_AUDITS = 20
_MAX_AUDIT_BYTES = 5 * 1024
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = frozenset(
    (
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    )
)  # fmt: skip
_BLANK = "must be non-empty if specified"


def _compiles(spec: Obj, old: Obj | None, *, mutating: bool) -> Errors:
    """Expressions are judged when they come: what is stored and does not change stays."""
    if old is not None and spec == old:
        return []
    from orca.api.cel.admission import policy_errors

    return list(policy_errors(spec, mutating=mutating))


def _kind(kind: Obj, path: str, out: Errors) -> None:
    """The kind of the parameters."""
    version, name = kind.get("apiVersion") or "", kind.get("kind") or ""
    at = f"{path}.apiVersion"
    if not version:
        out.append(FieldError.required(at))
    elif version.count("/") > 1:
        out.append(FieldError.invalid(at, version, f"unexpected GroupVersion string: {version}"))
    else:
        group, _, last = version.rpartition("/")
        if wrong := group and names.dns1123_subdomain(group):
            out.append(FieldError.invalid(at, group, ",".join(wrong)))
        if not last:
            out.append(FieldError.invalid(at, version, "version must be specified"))
        elif wrong := names.dns1035_label(last):
            out.append(FieldError.invalid(at, last, ",".join(wrong)))
    if not name:
        out.append(FieldError.required(f"{path}.kind"))
    elif wrong := names.dns1035_label(name.lower()):
        text = f"may have mixed case, but should otherwise match: {','.join(wrong)}"
        out.append(FieldError.invalid(f"{path}.kind", name, text))


def _variables(items: list[Obj], path: str, out: Errors) -> None:
    for i, variable in enumerate(items):
        name = variable.get("name") or ""
        if not name.strip():
            out.append(FieldError.required(f"{path}[{i}].name", "name is not specified"))
        elif not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
            out.append(FieldError.invalid(f"{path}[{i}].name", name, "must be a valid CEL identifier"))
        if not (variable.get("expression") or "").strip():
            out.append(FieldError.required(f"{path}[{i}].expression", "expression is not specified"))


def _begins(spec: Obj, out: Errors, *, conditions: bool, mutating: bool) -> None:
    """What both sorts of policies begin with."""
    common.choice(spec.get("failurePolicy"), POLICIES, "spec.failurePolicy", out, required=True)
    if spec.get("paramKind") is not None:
        _kind(spec["paramKind"], "spec.paramKind", out)
    matched, at = spec.get("matchConstraints"), "spec.matchConstraints"
    if matched is None:
        out.append(FieldError.required(at))
    else:
        match_resources(matched, at, out)
        if not matched.get("resourceRules"):
            out.append(FieldError.required(f"{at}.resourceRules"))
        if mutating:
            _operations(matched, at, out)
    if conditions:
        match_conditions(spec.get("matchConditions") or [], "spec.matchConditions", out)
    _variables(spec.get("variables") or [], "spec.variables", out)


def _operations(matched: Obj, path: str, out: Errors) -> None:
    for rule in matched.get("resourceRules") or ():
        for operation in rule.get("operations") or ():
            common.known(operation, _MUTATED, f"{path}.resourceRules.operations", out)


def _validation(one: Obj, path: str, out: Errors) -> None:
    if not (one.get("expression") or "").strip():
        out.append(FieldError.required(f"{path}.expression", "expression is not specified"))
    told = one.get("messageExpression")
    if told and not told.strip():
        out.append(FieldError.invalid(f"{path}.messageExpression", told, _BLANK))
    message = one.get("message") or ""
    if message and not message.strip():
        out.append(FieldError.invalid(f"{path}.message", message, _BLANK))
    elif "\n" in message.strip() or "\r" in message.strip():
        out.append(FieldError.invalid(f"{path}.message", message, "must not contain line breaks"))
    common.known(one.get("reason"), _REASONS, f"{path}.reason", out)


def _audits(audits: list[Obj], owner: str, out: Errors) -> None:
    at = "spec.auditAnnotations"
    if len(audits) > _MAX_AUDITS:
        text = f"must not have more than {_MAX_AUDITS} auditAnnotations"
        out.append(FieldError.invalid(at, audits, text))
    seen = set()
    for i, audit in enumerate(audits):
        key, expression = audit.get("key") or "", (audit.get("valueExpression") or "").strip()
        if owner:
            common.messages(names.qualified_name(f"{owner}/{key}"), f"{owner}/{key}", f"{at}[{i}].key", out)
        else:
            out.append(FieldError.invalid(f"{at}[{i}].key", key, "requires metadata.name be non-empty"))
        if not expression:
            out.append(FieldError.required(f"{at}[{i}].valueExpression", "valueExpression is not specified"))
        elif len(expression.encode()) > _MAX_AUDIT_BYTES:
            text = f"must not exceed {_MAX_AUDIT_BYTES} bytes in length"
            out.append(FieldError.required(f"{at}[{i}].valueExpression", text))
        if key in seen:
            out.append(FieldError.duplicate(f"{at}[{i}].key", key))
        seen.add(key)


def _validating(obj: Obj, *, conditions: bool) -> Errors:
    out: Errors = []
    spec = obj.get("spec") or {}
    _begins(spec, out, conditions=conditions, mutating=False)
    validations, audits = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not audits:
        text = "validations or auditAnnotations must contain at least one item"
        out.append(FieldError.required("spec.validations", text))
        out.append(FieldError.required("spec.auditAnnotations", text))
    for i, one in enumerate(validations):
        _validation(one, f"spec.validations[{i}]", out)
    _audits(audits, obj["metadata"].get("name") or "", out)
    return out


def _conditions_stay(new: Obj, old: Obj) -> bool:
    now, was = new.get("spec") or {}, old.get("spec") or {}
    return all(plain(now.get(key)) == plain(was.get(key)) for key in ("paramKind", "matchConditions"))


@on_create(GROUP, "ValidatingAdmissionPolicy")
def validating_policy(obj: Obj) -> Errors:
    """A ValidatingAdmissionPolicy."""
    return _validating(obj, conditions=True) + _compiles(obj.get("spec") or {}, None, mutating=False)


@on_update(GROUP, "ValidatingAdmissionPolicy")
def validating_policy_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed ValidatingAdmissionPolicy."""
    if subresource == "status":
        return _state(new.get("status") or {})
    found = _validating(new, conditions=not _conditions_stay(new, old))
    return found + _compiles(new.get("spec") or {}, old.get("spec") or {}, mutating=False)


def _state(state: Obj) -> Errors:
    out: Errors = []
    for i, warning in enumerate((state.get("typeChecking") or {}).get("expressionWarnings") or ()):
        at = f"status.typeChecking.expressionWarnings[{i}]"
        common.required(warning, "warning", at, out)
        if not (warning.get("fieldRef") or "").strip():
            out.append(FieldError.required(f"{at}.fieldRef"))
    common.conditions(state.get("conditions"), "status.conditions", out)
    return out


_PATCHES = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


def _mutation(one: Obj, path: str, out: Errors) -> None:
    kind = one.get("patchType") or ""
    if kind not in _PATCHES:
        common.choice(kind, tuple(_PATCHES), f"{path}.patchType", out, required=True)
        return
    text = f"be specified when patchType is {kind}"
    own = _PATCHES[kind]
    if one.get(own) is None:
        out.append(FieldError.required(f"{path}.{own}", f"must {text}"))
    elif not (one[own].get("expression") or "").strip():
        out.append(FieldError.required(f"{path}.{own}.expression"))
    for other in _PATCHES.values():
        if other != own and one.get(other) is not None:
            out.append(FieldError.invalid(f"{path}.{other}", f"{{{other}}}", f"must not {text}"))


def _mutating(obj: Obj, *, conditions: bool) -> Errors:
    out: Errors = []
    spec = obj.get("spec") or {}
    _begins(spec, out, conditions=conditions, mutating=True)
    mutations = spec.get("mutations") or []
    if not mutations:
        out.append(FieldError.required("spec.mutations", "mutations must contain at least one item"))
    for i, one in enumerate(mutations):
        _mutation(one, f"spec.mutations[{i}]", out)
    common.choice(spec.get("reinvocationPolicy"), REINVOCATIONS, "spec.reinvocationPolicy", out, required=True)
    return out


@on_create(GROUP, "MutatingAdmissionPolicy")
def mutating_policy(obj: Obj) -> Errors:
    """A MutatingAdmissionPolicy."""
    return _mutating(obj, conditions=True) + _compiles(obj.get("spec") or {}, None, mutating=True)


@on_update(GROUP, "MutatingAdmissionPolicy")
def mutating_policy_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed MutatingAdmissionPolicy."""
    del subresource
    found = _mutating(new, conditions=not _conditions_stay(new, old))
    return found + _compiles(new.get("spec") or {}, old.get("spec") or {}, mutating=True)


def _param_ref(ref: Obj, path: str, out: Errors) -> None:
    name, selector = ref.get("name") or "", ref.get("selector")
    text = "name and selector are mutually exclusive"
    if name:
        common.messages(names.path_segment(name), name, f"{path}.name", out)
        if selector is not None:
            out.append(FieldError.forbidden(f"{path}.name", text))
    if selector is not None:
        common.label_selector(selector, f"{path}.selector", out)
        if name:
            out.append(FieldError.forbidden(f"{path}.selector", text))
    if not name and selector is None:
        out.append(FieldError.required(path, "one of name or selector must be specified"))
    at = f"{path}.parameterNotFoundAction"
    common.choice(ref.get("parameterNotFoundAction"), _MISSING, at, out, required=True)


def _actions(actions: list[str], path: str, out: Errors) -> None:
    before = common.there_before(actions)
    for i, action in enumerate(actions):
        common.known(action, _ACTIONS, f"{path}[{i}]", out)
        if before[i]:
            out.append(FieldError.duplicate(f"{path}[{i}]", action))
    if "Deny" in actions and "Warn" in actions:
        text = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the API "
            "response and headers serves no purpose)"
        )
        out.append(FieldError.invalid(path, actions, text))
    if not actions:
        out.append(FieldError.required(path, "at least one validation action is required"))


@on_create(GROUP, "ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicyBinding")
def policy_binding(obj: Obj) -> Errors:
    """A policy binding."""
    out: Errors = []
    spec = obj.get("spec") or {}
    mutating = obj.get("kind") == "MutatingAdmissionPolicyBinding"
    if common.required(spec, "policyName", "spec", out):
        common.messages(names.dns1123_subdomain(spec["policyName"]), spec["policyName"], "spec.policyName", out)
    if spec.get("paramRef") is not None:
        _param_ref(spec["paramRef"], "spec.paramRef", out)
    matched = spec.get("matchResources")
    if matched is not None:
        match_resources(matched, "spec.matchResources", out)
        if mutating:
            _operations(matched, "spec.matchResources", out)
    if not mutating:
        _actions(spec.get("validationActions") or [], "spec.validationActions", out)
    return out
