"""Admission webhooks and policies."""

from __future__ import annotations

from orca.api.defaults.registry import Obj, defaults, part, put, put_text

_GROUP = "admissionregistration.k8s.io"


def _scopes(rules: list[Obj] | None) -> None:
    for rule in rules or ():
        put(rule, scope="*")


def _match(resources: Obj) -> None:
    put(resources, matchPolicy="Equivalent")
    part(resources, "namespaceSelector")
    part(resources, "objectSelector")
    _scopes(resources.get("resourceRules"))
    _scopes(resources.get("excludeResourceRules"))


@defaults(_GROUP, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
def webhooks(obj: Obj) -> None:
    """Defaults of every webhook of a configuration."""
    mutating = obj.get("kind") == "MutatingWebhookConfiguration"
    for hook in obj.get("webhooks") or ():
        put(hook, failurePolicy="Fail", matchPolicy="Equivalent", timeoutSeconds=10)
        part(hook, "namespaceSelector")
        part(hook, "objectSelector")
        if mutating:
            put(hook, reinvocationPolicy="Never")
        _scopes(hook.get("rules"))
        service = (hook.get("clientConfig") or {}).get("service")
        if service is not None:
            put(service, port=443)


@defaults(_GROUP, "ValidatingAdmissionPolicy", "MutatingAdmissionPolicy")
def policy(obj: Obj) -> None:
    """Defaults of an admission policy."""
    spec = part(obj, "spec")
    put(spec, failurePolicy="Fail")
    if obj.get("kind") == "MutatingAdmissionPolicy":
        put_text(spec, reinvocationPolicy="Never")
    if spec.get("matchConstraints") is not None:
        _match(spec["matchConstraints"])


@defaults(_GROUP, "ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicyBinding")
def policy_binding(obj: Obj) -> None:
    """Defaults of a policy binding."""
    matched = (obj.get("spec") or {}).get("matchResources")
    if matched is not None:
        _match(matched)
