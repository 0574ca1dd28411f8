"""All that a watch told of a namespace's pods, for cases about what happens on the way."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from orca.api.objects import Obj
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE


class History:
    """The pods of a namespace, each as it was after each change."""

    def __init__(self) -> None:
        self.of: dict[str, list[Obj]] = {}
        self.gone: set[str] = set()

    def read(self, process: subprocess.Popen[bytes]) -> None:
        """Take in what a watch prints, until it ends."""
        assert process.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        while chunk := process.stdout.read1(65536):  # type: ignore[attr-defined]
            text += chunk.decode()
            while text := text.lstrip():
                try:
                    event, end = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[end:]
                pod = event["object"]
                self.of.setdefault(pod["metadata"]["name"], []).append(pod)
                if event["type"] == "DELETED":
                    self.gone.add(pod["metadata"]["name"])

    def last(self, name: str) -> Obj:
        """The pod as it is, or was at its end."""
        return self.of[name][-1] if self.of.get(name) else {"metadata": {"name": name}, "status": {}}

    def when(self, name: str, good: Callable[[Obj], Any], *, seconds: float = PATIENCE, what: str = "") -> Obj:
        """The pod as it was when it was good for the first time."""

        def look() -> Obj | None:
            for seen in list(self.of.get(name, ())):
                if good(seen):
                    return seen
            raise AssertionError(self.last(name)["status"])

        found: Obj = eventually(look, seconds=seconds, every=0.1, what=f"{what or 'the state'} of {name}")
        return found

    def was_gone(self, name: str, *, seconds: float = PATIENCE) -> Obj:
        """Wait until the pod is gone; as it was at its end."""
        eventually(lambda: name in self.gone, seconds=seconds, every=0.1, what=f"{name} is gone")
        return self.last(name)


@contextmanager
def watching(kubectl: Kubectl) -> Iterator[History]:
    """Record what happens to the pods of kubectl's namespace from now on, however late the watch itself begins."""
    history = History()
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods"
    since = json.loads(kubectl("get", "--raw", f"{path}?limit=1"))["metadata"]["resourceVersion"]
    argv = [*kubectl.argv, "get", "--raw", f"{path}?watch=1&resourceVersion={since}"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    reader = threading.Thread(target=history.read, args=(process,), daemon=True)
    reader.start()
    try:
        yield history
    finally:
        process.terminate()
        process.wait()
        reader.join(timeout=5)


@contextmanager
def recorded(admin: Kubectl, namespace: str) -> Iterator[tuple[Kubectl, History]]:
    """A namespace of its own, and what happens to its pods from their first moment on; it is left empty in the end,
    whatever holds on to its pods."""
    admin("create", "namespace", namespace)
    kubectl = admin.within(namespace)
    try:
        eventually(lambda: kubectl.try_("get", "serviceaccount", "default").code == 0, what="the service account")
        with watching(kubectl) as seen:
            yield kubectl, seen
    finally:
        for one in kubectl.items("pods"):
            if one["metadata"].get("finalizers"):
                unkept = '{"metadata": {"finalizers": null}}'
                kubectl.try_("patch", "pod", one["metadata"]["name"], "--type=merge", "-p", unkept)
        admin("delete", "namespace", namespace, "--wait=false")


def phase(wanted: str) -> Callable[[Obj], bool]:
    """The pod is in that phase."""
    return lambda pod: bool((pod.get("status") or {}).get("phase") == wanted)


def condition(pod: Obj, kind: str) -> Obj:
    """A condition, or ``{}``."""
    for one in (pod.get("status") or {}).get("conditions") or ():
        if one["type"] == kind:
            found: Obj = one
            return found
    return {}


def ready(pod: Obj) -> bool:
    """It says of itself that it is ready."""
    return condition(pod, "Ready").get("status") == "True"


def container_of(pod: Obj, name: str = "c") -> Obj:
    """The status of a container of any kind; one that is not told of yet is ``{}`` with ``state`` and ``lastState``."""
    status = pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for one in status.get(kind) or ():
            if one["name"] == name:
                found: Obj = one
                return found
    return {"state": {}, "lastState": {}, "restartCount": 0, "ready": False}


def restarted(times: int, name: str = "c") -> Callable[[Obj], bool]:
    """A container was started anew that often."""
    return lambda pod: bool(container_of(pod, name)["restartCount"] >= times)
