"""Roles and bindings."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj, on_create, on_update

GROUP = "rbac.authorization.k8s.io"


def _rule(rule: Obj, path: str, out: Errors, *, namespaced: bool) -> None:
    urls, groups, resources = (rule.get(key) or [] for key in ("nonResourceURLs", "apiGroups", "resources"))
    if not rule.get("verbs"):
        out.append(FieldError.required(f"{path}.verbs", "verbs must contain at least one value"))
    if urls:
        if namespaced:
            text = "namespaced rules cannot apply to non-resource URLs"
            out.append(FieldError.invalid(f"{path}.nonResourceURLs", urls, text))
        if groups or resources or rule.get("resourceNames"):
            text = "rules cannot apply to both regular resources and non-resource URLs"
            out.append(FieldError.invalid(f"{path}.nonResourceURLs", urls, text))
        return
    if not groups:
        text = "resource rules must supply at least one api group"
        out.append(FieldError.required(f"{path}.apiGroups", text))
    if not resources:
        text = "resource rules must supply at least one resource"
        out.append(FieldError.required(f"{path}.resources", text))


@on_create(GROUP, "Role")
def role(obj: Obj) -> Errors:
    """A Role."""
    out: Errors = []
    for i, rule in enumerate(obj.get("rules") or ()):
        _rule(rule, f"rules[{i}]", out, namespaced=True)
    return out


@on_create(GROUP, "ClusterRole")
def cluster_role(obj: Obj) -> Errors:
    """A ClusterRole, aggregated or not."""
    out: Errors = []
    for i, rule in enumerate(obj.get("rules") or ()):
        _rule(rule, f"rules[{i}]", out, namespaced=False)
    aggregation = obj.get("aggregationRule")
    if aggregation is not None:
        selectors = aggregation.get("clusterRoleSelectors") or []
        if not selectors:
            text = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            out.append(FieldError.required("aggregationRule.clusterRoleSelectors", text))
        for i, selector in enumerate(selectors):
            at = f"aggregationRule.clusterRoleSelectors[{i}]"
            common.label_selector(selector, at, out)
    return out


def _subject(subject: Obj, path: str, out: Errors, *, namespaced: bool) -> None:
    name, kind, group = subject.get("name") or "", subject.get("kind") or "", subject.get("apiGroup") or ""
    if not name:
        out.append(FieldError.required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            common.messages(names.dns1123_subdomain(name), name, f"{path}.name", out)
        if group:
            out.append(FieldError.not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            out.append(FieldError.required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if not name:
            out.append(FieldError.invalid(f"{path}.name", name, f"{kind.lower()} name cannot be empty"))
        if group != GROUP:
            out.append(FieldError.not_supported(f"{path}.apiGroup", group, (GROUP,)))
    else:
        out.append(FieldError.not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))


def _binding(obj: Obj, kinds: tuple[str, ...], *, namespaced: bool) -> Errors:
    out: Errors = []
    ref = obj.get("roleRef") or {}
    group, kind, name = ref.get("apiGroup") or "", ref.get("kind") or "", ref.get("name") or ""
    if group != GROUP:
        out.append(FieldError.not_supported("roleRef.apiGroup", group, (GROUP,)))
    if kind not in kinds:
        out.append(FieldError.not_supported("roleRef.kind", kind, kinds))
    if not name:
        out.append(FieldError.required("roleRef.name"))
    else:
        common.messages(names.path_segment(name), name, "roleRef.name", out)
    for i, subject in enumerate(obj.get("subjects") or ()):
        _subject(subject, f"subjects[{i}]", out, namespaced=namespaced)
    return out


@on_create(GROUP, "RoleBinding")
def role_binding(obj: Obj) -> Errors:
    """A RoleBinding."""
    return _binding(obj, ("Role", "ClusterRole"), namespaced=True)


@on_create(GROUP, "ClusterRoleBinding")
def cluster_role_binding(obj: Obj) -> Errors:
    """A ClusterRoleBinding."""
    return _binding(obj, ("ClusterRole",), namespaced=False)


@on_update(GROUP, "RoleBinding", "ClusterRoleBinding")
def binding_update(new: Obj, old: Obj, subresource: str) -> Errors:
    """A changed binding; the role it grants stays."""
    out = role_binding(new) if new.get("kind") == "RoleBinding" else cluster_role_binding(new)
    if new.get("roleRef") != old.get("roleRef"):
        out.append(FieldError.invalid("roleRef", new.get("roleRef"), "cannot change roleRef"))
    return out
