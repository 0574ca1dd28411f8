"""Admission webhooks and policies."""

from __future__ import annotations

from datetime import datetime

from orca.api.printing import formats
from orca.api.printing.columns import AGE, NAME, Cells, Obj, integer, name, printer, spec, text
from orca.api.printing.duration import since

_GROUP = "admissionregistration.k8s.io"
_WEBHOOKS = integer("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration")
_PARAM_KIND = text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy")
_BINDING = (
    NAME,
    text("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to"),
    text("ParamRef", "ParamRef indicates the param resource which sets the configuration param"),
    AGE,
)


def _age(obj: Obj, now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


@printer(_GROUP, "MutatingWebhookConfiguration", NAME, _WEBHOOKS, AGE)
@printer(_GROUP, "ValidatingWebhookConfiguration", NAME, _WEBHOOKS, AGE)
def webhooks(obj: Obj, now: datetime) -> Cells:
    """One row of either webhook configuration."""
    return [name(obj), len(obj.get("webhooks") or ()), _age(obj, now)]


def _policy(obj: Obj, now: datetime, rules: str) -> Cells:
    kind = spec(obj).get("paramKind")
    shown = f"{kind.get('apiVersion')}/{kind.get('kind')}" if kind else formats.UNSET
    return [name(obj), len(spec(obj).get(rules) or ()), shown, _age(obj, now)]


@printer(
    _GROUP,
    "ValidatingAdmissionPolicy",
    NAME,
    integer("Validations", "Validations indicates the number of validation rules defined in this configuration"),
    _PARAM_KIND,
    AGE,
)
def validating_policy(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get validatingadmissionpolicies``."""
    return _policy(obj, now, "validations")


@printer(
    _GROUP,
    "MutatingAdmissionPolicy",
    NAME,
    integer("Mutations", "Mutation indicates the number of mutations rules defined in this configuration"),
    _PARAM_KIND,
    AGE,
)
def mutating_policy(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get mutatingadmissionpolicies``."""
    return _policy(obj, now, "mutations")


@printer(_GROUP, "ValidatingAdmissionPolicyBinding", *_BINDING)
@printer(_GROUP, "MutatingAdmissionPolicyBinding", *_BINDING)
def policy_binding(obj: Obj, now: datetime) -> Cells:
    """One row of either policy binding; a parameter without a namespace is shown as ``*/name``."""
    ref, shown = spec(obj).get("paramRef") or {}, formats.UNSET
    if ref.get("name"):
        shown = f"{ref.get('namespace') or '*'}/{ref['name']}"
    elif ref.get("selector") is not None:
        shown = formats.selector(ref["selector"])
    return [name(obj), spec(obj).get("policyName") or "", shown, _age(obj, now)]
