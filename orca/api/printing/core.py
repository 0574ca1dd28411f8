"""The rest of the core group, RBAC and certificates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from orca.api.printing import formats
from orca.api.printing.columns import (
    AGE,
    NAME,
    Cells,
    Column,
    Obj,
    name,
    printer,
    spec,
    status,
    text,
    wide,
)
from orca.api.printing.duration import human, since

CREATED_AT = Column("Created At", type="date", description="Time the object was created.")


def _age(obj: Obj, now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


@printer("", "Namespace", NAME, text("Status", "The status of the namespace"), AGE)
def namespace(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get namespaces``."""
    return [name(obj), status(obj).get("phase") or "", _age(obj, now)]


@printer("", "ConfigMap", NAME, text("Data", "Number of keys."), AGE)
def config_map(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get configmaps``."""
    return [name(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), _age(obj, now)]


@printer("", "Secret", NAME, text("Type", "What kind of secret."), text("Data", "Number of keys."), AGE)
def secret(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get secrets``."""
    return [name(obj), obj.get("type") or "", len(obj.get("data") or ()), _age(obj, now)]


@printer("", "ServiceAccount", NAME, text("Secrets", "Number of secrets named by the account."), AGE)
def service_account(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get serviceaccounts``."""
    return [name(obj), len(obj.get("secrets") or ()), _age(obj, now)]


@printer("", "ResourceQuota", NAME, text("Request", "What is requested, of what is allowed."),
         text("Limit", "What limits add up to, of what is allowed."), AGE)  # fmt: skip
def resource_quota(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get resourcequotas``."""
    hard, used = status(obj).get("hard") or {}, status(obj).get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for key in sorted(hard):
        part = f"{key}: {formats.quantity(used.get(key))}/{hard[key]}"
        (limits if key.startswith("limits.") else requests).append(part)
    return [name(obj), ", ".join(requests), ", ".join(limits), _age(obj, now)]


@printer("", "ComponentStatus", NAME, text("Status", "Status of the component conditions"),
         text("Message", "Message of the component conditions"),
         text("Error", "Error of the component conditions"))  # fmt: skip
def component_status(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get componentstatuses``."""
    for condition in obj.get("conditions") or ():
        if condition.get("type") == "Healthy":
            word = "Healthy" if condition.get("status") == "True" else "Unhealthy"
            return [name(obj), word, condition.get("message") or "", condition.get("error") or ""]
    return [name(obj), "Unknown", "", ""]


def _created(obj: Obj, now: datetime) -> Cells:
    return [name(obj), obj["metadata"].get("creationTimestamp")]


for _group, _kind in (
    ("", "LimitRange"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
):
    printer(_group, _kind, NAME, CREATED_AT)(_created)


_BINDING = (
    NAME,
    text("Role", "The role that is granted."),
    AGE,
    wide(text("Users", "Users in the binding")),
    wide(text("Groups", "Groups in the binding")),
    wide(text("ServiceAccounts", "ServiceAccounts in the binding")),
)


@printer("rbac.authorization.k8s.io", "RoleBinding", *_BINDING)
@printer("rbac.authorization.k8s.io", "ClusterRoleBinding", *_BINDING)
def role_binding(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get rolebindings -o wide``."""
    role = obj.get("roleRef") or {}
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        shown = subject.get("name") or ""
        if subject.get("kind") == "ServiceAccount":
            shown = f"{subject.get('namespace') or ''}/{shown}"
        subjects.setdefault(subject.get("kind") or "", []).append(shown)
    lists: list[Any] = [", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [name(obj), f"{role.get('kind')}/{role.get('name')}", _age(obj, now), *lists]


@printer(
    "certificates.k8s.io",
    "CertificateSigningRequest",
    NAME,
    AGE,
    text("SignerName", "Who is asked to sign."),
    text("Requestor", "Who asks."),
    text("RequestedDuration", "How long the certificate should be valid."),
    text("Condition", "What became of the request."),
)
def signing_request(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get csr``."""
    wanted, state = spec(obj), status(obj)
    types = {c.get("type") for c in state.get("conditions") or ()}
    words = ["Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"]
    if "Failed" in types:
        words.append("Failed")
    if state.get("certificate"):
        words.append("Issued")
    seconds = wanted.get("expirationSeconds")
    return [
        name(obj),
        _age(obj, now),
        wanted.get("signerName") or formats.NONE,
        wanted.get("username") or "",
        formats.NONE if seconds is None else human(seconds),
        ",".join(words),
    ]


@printer("coordination.k8s.io", "Lease", NAME, text("Holder", "Identity of the holder."), AGE)
def lease(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get leases``."""
    return [name(obj), spec(obj).get("holderIdentity") or "", _age(obj, now)]
