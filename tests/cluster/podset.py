"""Many small pods made at once, for tests that only look into them: one namespace and one wait for a whole module."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from orca.api.objects import Obj
from tests.support.kubectl import Kubectl, eventually

BUSYBOX = "busybox:latest"
IDLE = ["sh", "-c", "trap exit TERM; while :; do sleep 0.2; done"]


def container(**more: Any) -> Obj:
    """A busybox that waits to be looked into."""
    return {"name": "c", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": IDLE, **more}


def pod(name: str, *containers: Obj, **spec: Any) -> Obj:
    """A pod of these containers, or of one that waits."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "containers": list(containers) or [container()],
            **spec,
        },
    }


@contextmanager
def pods(
    admin: Kubectl,
    namespace: str,
    made: Iterable[Obj],
    *,
    ready: Iterable[str],
    before: Callable[[Kubectl], None] = lambda kubectl: None,
) -> Iterator[Kubectl]:
    """Create the objects in a namespace of their own, after what ``before`` makes, and wait until the pods of these
    names are ready; gone afterwards."""
    admin("create", "namespace", namespace)
    kubectl = admin.within(namespace)
    try:
        eventually(lambda: kubectl.try_("get", "serviceaccount", "default").code == 0, what="the service account")
        before(kubectl)
        kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(made)}))
        names = [f"pod/{name}" for name in ready]
        kubectl("wait", "--for=condition=Ready", *names, "--timeout=120s")
        yield kubectl
    finally:
        admin("delete", "namespace", namespace, "--wait=false")


def inside(kubectl: Kubectl, name: str, script: str, *, of: str = "c") -> str:
    """What a script prints in a pod's container, without the last line's end."""
    return kubectl("exec", name, "-c", of, "--", "sh", "-c", script).rstrip("\n")


def told(kubectl: Kubectl, name: str, reason: str, text: str) -> None:
    """Wait for an event about a pod."""

    def there() -> bool:
        events = kubectl.items("events", "--field-selector", f"involvedObject.name={name},reason={reason}")
        seen = [event["message"] for event in events]
        assert any(text in message for message in seen), seen
        return True

    eventually(there, what=f"{reason} of {name}")


def waiting(kubectl: Kubectl, name: str, reason: str) -> str:
    """Wait until a pod's first container waits for this reason; the message."""

    def why() -> Obj | None:
        states = kubectl.json("get", "pod", name).get("status", {}).get("containerStatuses") or [{"state": {}}]
        found: Obj = states[0]["state"].get("waiting") or {}
        assert found.get("reason") == reason, found
        return found

    message: str = eventually(why, what=f"{name} waits for {reason}").get("message", "")
    return message
