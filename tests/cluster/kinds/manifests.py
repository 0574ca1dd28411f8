"""What the stories apply, and what they look at."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE

Manifest = dict[str, Any]
IMAGE = "busybox:1.36"
RESERVED = {"key": "stories", "value": "lost", "effect": "NoSchedule"}
"""Taint of the host that is drained and lost."""
CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}
SLEEP = "trap 'exit 0' TERM; while :; do sleep 1; done"


def template(name: str, command: str = SLEEP, **spec: Any) -> Manifest:
    """A pod of one container ``main``, labelled with its name, that ends as soon as it is told to."""
    container: Manifest = {"name": "main", "image": IMAGE, "command": ["sh", "-c", command]}
    container |= spec.pop("container", {})
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": [container], **spec},
    }


def workload(kind: str, name: str, pod: Manifest | None = None, **spec: Any) -> Manifest:
    """A Deployment, ReplicaSet, StatefulSet or DaemonSet whose selector is the label ``app``."""
    made = {"selector": {"matchLabels": {"app": name}}, "template": pod or template(name), **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": made}


def prefers(host: str) -> Manifest:
    """Fields of a pod that goes to a host while it can."""
    wish = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}
    term = {"weight": 100, "preference": wish}
    return {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}}


def job(name: str, command: str, pod: Manifest | None = None, **spec: Any) -> Manifest:
    """A Job whose pods run a command once; ``pod`` are further fields of theirs."""
    made = template(name, command, restartPolicy="Never", **(pod or {}))
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": made, **spec}}


def text(*manifests: Manifest) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})


def apply(kubectl: Kubectl, *manifests: Manifest) -> str:
    """What kubectl prints."""
    return kubectl("apply", "-f", "-", stdin=text(*manifests))


def columns(kubectl: Kubectl, *what: str) -> list[dict[str, str]]:
    """The rows that ``kubectl get`` prints, by the names of the columns."""
    head, *rows = kubectl("get", *what).splitlines()
    starts = [(found.start(), found[0]) for found in re.finditer(r"\S+( \S+)*", head)]
    ends = [start for start, _ in starts[1:]] + [10_000]
    return [
        {name: row[start:end].strip() for (start, name), end in zip(starts, ends, strict=True)} for row in rows if row
    ]


def row(kubectl: Kubectl, *what: str) -> dict[str, str]:
    """The only row."""
    (only,) = columns(kubectl, *what)
    return only


def living(kubectl: Kubectl, *what: str) -> list[Manifest]:
    """Pods that nobody has told to end."""
    return [pod for pod in kubectl.items("pods", *what) if "deletionTimestamp" not in pod["metadata"]]


def names(pods: list[Manifest]) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in pods)


def uid(kubectl: Kubectl, what: str) -> str:
    return kubectl("get", what, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")


def waiting(pod: Manifest) -> str:
    """Why its first container waits, "" when it does not."""
    states = pod["status"].get("containerStatuses") or [{}]
    return str(states[0].get("state", {}).get("waiting", {}).get("reason", ""))


def condition(kubectl: Kubectl, what: str, kind: str) -> Manifest:
    """A condition of an object, {} without."""
    found = kubectl.json("get", what)["status"].get("conditions") or []
    return next((one for one in found if one["type"] == kind), {})


def messages(kubectl: Kubectl, reason: str) -> list[str]:
    """Of all events of a reason, the oldest first."""
    found = kubectl.items("events", f"--field-selector=reason={reason}")
    return [event["message"] for event in sorted(found, key=lambda one: int(one["metadata"]["resourceVersion"]))]


def soon(check: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """``eventually`` at a pace that leaves the processors to the others."""
    return eventually(check, seconds=seconds, every=0.7, what=what)


def fail(why: str) -> bool:
    """Not with an AssertionError, which ``soon`` would wait out."""
    raise RuntimeError(why)
