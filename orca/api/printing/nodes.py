"""Nodes, and the classes and drivers that belong to them."""

from __future__ import annotations

from datetime import datetime

from orca.api.printing import formats
from orca.api.printing.columns import AGE, NAME, Cells, Obj, name, printer, spec, status, text, wide
from orca.api.printing.duration import UNKNOWN, since

_ROLE_PREFIX = "node-role.kubernetes.io/"


def _roles(obj: Obj) -> str:
    found = set()
    for key, value in (obj["metadata"].get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX):
            found.add(key[len(_ROLE_PREFIX) :])
        elif key == "kubernetes.io/role":
            found.add(value)
    return ",".join(sorted(found - {""})) or formats.NONE


def _address(state: Obj, kind: str) -> str:
    for address in state.get("addresses") or ():
        if address.get("type") == kind:
            return address.get("address") or ""
    return formats.NONE


@printer(
    "",
    "Node",
    NAME,
    text("Status", "The status of the node"),
    text("Roles", "The roles of the node"),
    AGE,
    text("Version", "Version of the agent on the node."),
    wide(text("Internal-IP", "Address inside the cluster.")),
    wide(text("External-IP", "Address outside the cluster.")),
    wide(text("OS-Image", "Operating system of the node.")),
    wide(text("Kernel-Version", "Kernel of the node.")),
    wide(text("Container-Runtime", "Container runtime and its version.")),
)
def node(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get nodes -o wide``."""
    state = status(obj)
    info = state.get("nodeInfo") or {}
    ready = next((c for c in state.get("conditions") or () if c.get("type") == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if spec(obj).get("unschedulable"):
        words.append("SchedulingDisabled")
    return [
        name(obj),
        ",".join(words),
        _roles(obj),
        since(obj["metadata"].get("creationTimestamp"), now),
        info.get("kubeletVersion") or "",
        _address(state, "InternalIP"),
        _address(state, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


@printer("node.k8s.io", "RuntimeClass", NAME, text("Handler", "The runtime configuration pods get."), AGE)
def runtime_class(obj: Obj, now: datetime) -> Cells:
    """One row of ``kubectl get runtimeclasses``."""
    return [name(obj), obj.get("handler") or "", since(obj["metadata"].get("creationTimestamp"), now)]
