"""DaemonSets on several hosts: updates one by one and with surge, by hand, hosts that are chosen and not any more."""

from __future__ import annotations

from typing import Any

from tests.cluster.kinds.manifests import (
    CONTROL_PLANE,
    Manifest,
    apply,
    columns,
    fail,
    living,
    row,
    soon,
    template,
    uid,
    waiting,
    workload,
)
from tests.cluster.kinds.stories import story
from tests.support.kubectl import Kubectl

HOSTS = {"host-0", "host-1"}


def _daemons(name: str, strategy: Manifest, **spec: Any) -> Manifest:
    pod = template(name, tolerations=[CONTROL_PLANE], **spec)
    return workload("DaemonSet", name, pod, updateStrategy=strategy)


def _by_host(kubectl: Kubectl, name: str) -> dict[str, Manifest]:
    return {pod["spec"]["nodeName"]: pod for pod in living(kubectl, "-l", f"app={name}") if pod["spec"].get("nodeName")}


@story
def test_an_update_that_fails_stops_at_one_host_and_mends_itself_when_undone(kubectl: Kubectl) -> None:
    apply(kubectl, _daemons("agent", {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}))
    kubectl("rollout", "status", "daemonset/agent", "--timeout=120s")
    assert set(_by_host(kubectl, "agent")) == HOSTS, "not where a taint keeps them away"
    shown = row(kubectl, "ds", "agent")
    assert [shown[name] for name in ("DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE")] == ["2"] * 5

    kubectl("set", "image", "daemonset/agent", "main=busybox:none")

    def stuck() -> bool:
        waits = [waiting(pod) for pod in _by_host(kubectl, "agent").values()]
        return any(one in ("ErrImagePull", "ImagePullBackOff") for one in waits)

    soon(stuck, "the first host waits for an image that there is not")
    soon(
        lambda: ((shown := row(kubectl, "ds", "agent"))["READY"], shown["UP-TO-DATE"]) == ("1", "1"),
        "one is ready, one up to date",
    )

    def waits() -> bool:
        """On a busy machine a second may be over before anything is said."""
        done = kubectl.try_("rollout", "status", "daemonset/agent", "--timeout=1s")
        assert done.code == 1 or fail(f"rolled out: {done}")
        return "1 out of 2 new pods have been updated" in done.out

    soon(waits, "who waits is told how far it is")

    assert "rolled back" in kubectl("rollout", "undo", "daemonset/agent")
    done = kubectl("rollout", "status", "daemonset/agent", "--timeout=120s")
    assert 'daemon set "agent" successfully rolled out' in done
    history = kubectl("rollout", "history", "ds/agent").splitlines()
    revisions = [line.split()[0] for line in history if line[:1].isdigit()]
    assert revisions == ["2", "3"]
    assert {row["STATUS"] for row in columns(kubectl, "pods", "-l", "app=agent") if row["STATUS"] != "Terminating"} == {
        "Running"
    }


@story
def test_with_surge_the_next_pod_is_ready_before_the_last_one_goes(kubectl: Kubectl) -> None:
    surge = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    apply(kubectl, _daemons("agent", surge), _daemons("hand", {"type": "OnDelete"}, nodeSelector={"stories": "here"}))
    kubectl("rollout", "status", "daemonset/agent", "--timeout=120s")
    kubectl("set", "env", "daemonset/agent", "RELEASE=two")

    def ready() -> int:
        return sum(
            one["type"] == "Ready" and one["status"] == "True"
            for pod in living(kubectl, "-l", "app=agent")
            for one in pod["status"].get("conditions", [])
        )

    def updated() -> bool:
        if ready() < 2:
            raise RuntimeError("a host was without a ready pod")
        return row(kubectl, "ds", "agent")["UP-TO-DATE"] == "2" and len(living(kubectl, "-l", "app=agent")) == 2

    soon(updated, "both hosts have the next one")

    assert row(kubectl, "ds", "hand")["DESIRED"] == "0"
    kubectl("label", "node", "host-1", "stories=here")
    try:
        soon(lambda: row(kubectl, "ds", "hand")["READY"] == "1", "the chosen host runs one")
        first = uid(kubectl, f"pod/{_by_host(kubectl, 'hand')['host-1']['metadata']['name']}")
        kubectl("set", "env", "daemonset/hand", "RELEASE=two")
        soon(lambda: kubectl.json("get", "ds", "hand")["status"].get("updatedNumberScheduled", 0) == 0, "it is seen")
        assert uid(kubectl, f"pod/{_by_host(kubectl, 'hand')['host-1']['metadata']['name']}") == first
        kubectl("delete", "pod", "-l", "app=hand")
        soon(lambda: row(kubectl, "ds", "hand")["UP-TO-DATE"] == "1", "deleted by hand, made anew")
    finally:
        kubectl("label", "node", "host-1", "stories-")
    soon(lambda: not living(kubectl, "-l", "app=hand"), "the host is not chosen any more")
    assert row(kubectl, "ds", "hand")["DESIRED"] == "0"
