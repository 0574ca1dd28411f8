"""Cases that are a pod which runs to its end: what it printed and how it ended is the whole of the case."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from orca.api.objects import Obj
from tests.cluster.podset import BUSYBOX, container
from tests.support.kubectl import Kubectl, eventually

WAIT = 300.0
"""Seconds for all of a module's pods to come to what their cases look at, on a machine that does other things too; with
their logs and the first case less than pytest's patience."""


@dataclass(frozen=True)
class Case:
    """A pod, the lines that its containers print in whatever order, each a regular expression for a whole line, and
    how it ends. ``not_printed`` may be found in no line."""

    pod: Obj
    prints: tuple[str, ...] = ()
    not_printed: tuple[str, ...] = ()
    phase: str = "Succeeded"
    check: Callable[[Obj], Any] | None = None
    """Fails when the pod, as it is at its end, is wrong."""

    @property
    def name(self) -> str:
        """The pod's."""
        return str(self.pod["metadata"]["name"])


def case(
    name: str,
    script: str | None,
    *prints: str,
    but: Iterable[str] = (),
    phase: str = "Succeeded",
    check: Callable[[Obj], Any] | None = None,
    of: Obj | None = None,
    meta: Obj | None = None,
    **spec: Any,
) -> Case:
    """A pod whose container ``c`` runs a script; ``of`` are more fields of the container, ``spec`` of the pod."""
    one = container(**(of or {}))
    if script is not None:
        one["command"] = ["sh", "-c", script]
    elif not (of or {}).get("command"):
        del one["command"]
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"conformance": "case"}, **(meta or {})},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "containers": [one, *spec.pop("more", ())],
            **spec,
        },
    }
    return Case(made, tuple(prints), tuple(but), phase, check)


@dataclass
class Ran:
    """What became of the cases' pods: as they are at their end, and what was printed."""

    kubectl: Kubectl
    pods: dict[str, Obj] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def judge(self, case: Case) -> None:
        """Fails when the case is not as it should be."""
        pod, lines = self.pods[case.name], self.lines.get(case.name, [])
        status = pod.get("status") or {}
        assert status.get("phase") == case.phase, (status, lines)
        for wanted in case.prints:
            assert any(re.fullmatch(wanted, line) for line in lines), f"no line {wanted!r} in {lines}"
        for unwanted in case.not_printed:
            assert not [line for line in lines if re.search(unwanted, line)], lines
        if case.check is not None:
            case.check(pod)


@contextmanager
def ran(admin: Kubectl, namespace: str, cases: Iterable[Case], objects: Iterable[Obj] = ()) -> Iterator[Ran]:
    """Run all cases at once in a namespace of their own, after ``objects`` were made."""
    cases = list(cases)
    admin("create", "namespace", namespace)
    kubectl = admin.within(namespace)
    try:
        eventually(lambda: kubectl.try_("get", "serviceaccount", "default").code == 0, what="the service account")
        made = list(objects)
        if made:
            apply(kubectl, *made)
        apply(kubectl, *(one.pod for one in cases))
        found = Ran(kubectl)

        def over() -> bool:
            found.pods = {pod["metadata"]["name"]: pod for pod in kubectl.items("pods", "-l", "conformance=case")}
            return all(_is_over(pod) for pod in found.pods.values())

        with suppress(AssertionError):  # each case tells for itself how far it came
            eventually(over, seconds=WAIT, every=0.5)
        argv = ("--prefix", "--tail=-1", "--max-log-requests=300", "--all-containers", "--ignore-errors")
        out = kubectl.try_("logs", "-l", "conformance=case", *argv).out
        # What ends without a line's end has the next one's prefix behind it, or what kubectl says of another.
        out = re.sub(r'error: container "[^"]*" in pod "[^"]*" is [^\n]*', "", out)
        _, *parts = re.split(r"\[pod/([^/\]]+)/[^\]]+\] ", out)
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            found.lines.setdefault(name, []).extend(text.splitlines())
        yield found
    finally:
        admin("delete", "namespace", namespace, "--wait=false")


def _is_over(pod: Obj) -> bool:
    """It ended, or will not start as it is."""
    status = pod.get("status") or {}
    states = [one["state"].get("waiting") or {} for one in status.get("containerStatuses") or ()]
    cannot = any(state.get("reason") == "CreateContainerConfigError" for state in states)
    return status.get("phase") in ("Succeeded", "Failed") or cannot


def apply(kubectl: Kubectl, *objects: Obj) -> None:
    """Create objects with one call."""
    kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def terminated(pod: Obj, name: str = "c") -> Obj:
    """How a container of a pod ended."""
    statuses = [*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())]
    (found,) = [one for one in statuses if one["name"] == name]
    assert "terminated" in found["state"], found
    ended: Obj = found["state"]["terminated"]
    return ended


def says(message: str) -> Callable[[Obj], None]:
    """The container's termination message is exactly this."""

    def check(pod: Obj) -> None:
        assert terminated(pod).get("message", "") == message, terminated(pod)

    return check


def exits(code: int, reason: str = "Error") -> Callable[[Obj], None]:
    """The container ended with this code and reason."""

    def check(pod: Obj) -> None:
        ended = terminated(pod)
        assert (ended["exitCode"], ended["reason"]) == (code, reason), ended

    return check


__all__ = ["BUSYBOX", "Case", "Ran", "apply", "case", "exits", "ran", "says", "terminated"]
