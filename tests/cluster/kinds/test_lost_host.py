"""A host loses its power: what becomes of the pods of each kind, until it is given up, and when it is back."""

from __future__ import annotations

from tests.cluster.conftest import LAB, orca
from tests.cluster.kinds.manifests import (
    RESERVED,
    SLEEP,
    Manifest,
    apply,
    columns,
    condition,
    job,
    living,
    names,
    prefers,
    row,
    soon,
    template,
    uid,
    workload,
)
from tests.cluster.kinds.stories import story
from tests.support.kubectl import Kubectl

LOST = "host-2"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
MINE = {"key": RESERVED["key"], "operator": "Exists"}
SOON_GONE = [
    {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
    for why in ("not-ready", "unreachable")
]
STAYS = [
    {"key": f"node.kubernetes.io/{why}", "operator": "Exists"} for why in ("not-ready", "unreachable", "out-of-service")
]
# On the host that will be lost a Job's pod works for ever, elsewhere it is done at once.
WORK = f'[ "$NODE" != {LOST} ] || sleep 3600'
NODE_NAME = {"env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]}


def _there(*tolerations: Manifest) -> Manifest:
    """Fields of pods that go to that host while they can."""
    return {"tolerations": [MINE, *tolerations], **prefers(LOST)}


def _everything() -> list[Manifest]:
    """Of each kind one or more, all with pods on that host."""
    volume = {"container": {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}
    ignore = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
    leaving = _there(*SOON_GONE)
    return [
        workload("Deployment", "web", template("web", **leaving), replicas=2),
        # Three ways back: forced by a person, by the out-of-service taint, with the host.
        workload("StatefulSet", "forced", template("forced", **leaving), replicas=1),
        workload("StatefulSet", "given-up", template("given-up", **leaving), replicas=1),
        workload("StatefulSet", "waits", template("waits", **_there(*STAYS)), replicas=1),
        workload(
            "StatefulSet",
            "stored",
            template("stored", f"echo $HOSTNAME >> /data/visitors; {SLEEP}", **volume, **leaving),
            replicas=1,
            volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": claim}],
        ),
        workload("DaemonSet", "agent", template("agent", tolerations=[{"operator": "Exists"}])),
        job("counted", WORK, {**leaving, "container": NODE_NAME}, parallelism=2, completions=2),
        job("spared", WORK, {**leaving, "container": NODE_NAME}, backoffLimit=0, podFailurePolicy=ignore),
    ]


def _running(kubectl: Kubectl) -> bool:
    """All that begins there runs there: 2 web, 4 of StatefulSets, 1 of 3 daemons, 3 of Jobs."""
    pods = [pod for pod in living(kubectl) if pod["spec"].get("nodeName") == LOST]
    return len(pods) == 10 and all(pod["status"]["phase"] == "Running" for pod in pods)


def _statuses(kubectl: Kubectl, app: str) -> list[str]:
    return sorted(shown["STATUS"] for shown in columns(kubectl, "pods", "-l", f"app={app}"))


@story(lane="lost host")
def test_a_lost_host_under_every_kind(kubectl: Kubectl) -> None:
    apply(kubectl, *_everything())
    soon(lambda: _running(kubectl), "all run on the host that will be lost")
    sets = ("forced-0", "given-up-0", "waits-0", "stored-0")
    before = {name: uid(kubectl, f"pod/{name}") for name in sets}
    daemon = next(pod for pod in living(kubectl, "-l", "app=agent") if pod["spec"]["nodeName"] == LOST)

    orca("lab", "kill", "--name", LAB, LOST)
    try:
        soon(lambda: row(kubectl, "node", LOST)["STATUS"] == "NotReady", "the host is not ready", seconds=150)
        _replaced_where_that_is_safe(kubectl, before)
        _by_force(kubectl, before)
        _given_up(kubectl, before)
    finally:
        kubectl.try_("taint", "node", LOST, f"{OUT_OF_SERVICE}-")
        orca("lab", "start", "--name", LAB, LOST)
    _with_the_host(kubectl, before, daemon)


def _replaced_where_that_is_safe(kubectl: Kubectl, before: dict[str, str]) -> None:
    taints = {(one["key"], one["effect"]) for one in kubectl.json("get", "node", LOST)["spec"]["taints"]}
    assert ("node.kubernetes.io/unreachable", "NoSchedule") in taints

    def elsewhere() -> bool:
        where = {pod["spec"]["nodeName"] for pod in living(kubectl, "-l", "app=web")}
        return where == {"host-1"} and row(kubectl, "deployment", "web")["READY"] == "2/2"

    soon(elsewhere, "web is ready elsewhere")
    soon(lambda: _statuses(kubectl, "web") == ["Running", "Running", "Terminating", "Terminating"], "two are to go")
    soon(lambda: kubectl.json("get", "job", "counted")["status"].get("terminating") == 2, "the Job knows it")
    # The name of a StatefulSet's pod is taken as long as nobody knows that it has ended.
    for name in ("forced", "given-up", "stored"):
        soon(lambda name=name: _statuses(kubectl, name) == ["Terminating"], f"{name}-0 is to go, and is not replaced")
        soon(lambda name=name: row(kubectl, "sts", name)["READY"] == "0/1", f"{name} says so")
    assert {name: uid(kubectl, f"pod/{name}") for name in before} == before
    # With a failure policy a Job waits until the pod has failed, to judge it.
    soon(lambda: _statuses(kubectl, "spared") == ["Terminating"], "its pod is to go, and is not replaced")

    def one_daemon_is_away() -> bool:
        shown = row(kubectl, "ds", "agent")
        return (shown["DESIRED"], shown["CURRENT"], shown["READY"]) == ("3", "3", "2")

    soon(one_daemon_is_away, "the daemons know it")
    assert kubectl.json("get", "ds", "agent")["status"]["numberUnavailable"] == 1


def _by_force(kubectl: Kubectl, before: dict[str, str]) -> None:
    forced = kubectl.try_("delete", "pod", "forced-0", "stored-0", "--force", "--grace-period=0")
    assert forced.code == 0
    assert "Immediate deletion does not wait for confirmation" in forced.err
    soon(lambda: _statuses(kubectl, "forced") == ["Running"], "it runs again under its name")
    again = kubectl.json("get", "pod", "forced-0")
    assert again["spec"]["nodeName"] == "host-1"
    assert again["metadata"]["uid"] != before["forced-0"]
    # What its data is on is still lost.
    soon(lambda: _statuses(kubectl, "stored") == ["Pending"], "it waits for its volume")
    unscheduled = soon(
        lambda: (one := condition(kubectl, "pod/stored-0", "PodScheduled")).get("reason") == "Unschedulable" and one,
        "and says so",
    )
    assert "1 node(s) didn't match PersistentVolume's node affinity" in unscheduled["message"]


def _given_up(kubectl: Kubectl, before: dict[str, str]) -> None:
    kubectl("taint", "node", LOST, OUT_OF_SERVICE)
    soon(lambda: _statuses(kubectl, "given-up") == ["Running"], "it runs again under its name")
    assert kubectl("get", "pod", "given-up-0", "-o", "jsonpath={.spec.nodeName}") == "host-1"
    soon(lambda: _statuses(kubectl, "web") == ["Running", "Running"], "what was to go is gone")
    # One Job began others when its pods were to go, one when they had failed: to judge them by its policy.
    for name, failed in (("counted", 2), ("spared", 0)):
        kubectl("wait", "--for=condition=complete", f"job/{name}", "--timeout=120s")
        status = kubectl.json("get", "job", name)["status"]
        assert status.get("failed", 0) == failed, f"each lost pod of {name} once, or ignored"
        assert status["succeeded"] == (2 if name == "counted" else 1)
        assert status["uncountedTerminatedPods"] == {}
    assert uid(kubectl, "pod/waits-0") == before["waits-0"], "it bears with everything"


def _with_the_host(kubectl: Kubectl, before: dict[str, str], daemon: Manifest) -> None:
    soon(lambda: row(kubectl, "node", LOST)["STATUS"] == "Ready", "the host is back")
    soon(lambda: row(kubectl, "sts", "waits")["READY"] == "1/1", "waits-0 is where it was")
    assert uid(kubectl, "pod/waits-0") == before["waits-0"]
    soon(lambda: _statuses(kubectl, "stored") == ["Running"], "stored-0 is where its data is")
    visitors = ("exec", "stored-0", "--", "cat", "/data/visitors")
    soon(lambda: kubectl(*visitors).split() == ["stored-0", "stored-0"], "it finds what it has written")
    soon(lambda: row(kubectl, "ds", "agent")["READY"] == "3", "all hosts have their daemon")
    same = kubectl.json("get", "pod", daemon["metadata"]["name"])
    assert same["metadata"]["uid"] == daemon["metadata"]["uid"]
    assert same["status"]["containerStatuses"][0]["restartCount"] >= 1

    def runs_there() -> set[str]:
        """Apps with a container on it; they are called k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT."""
        listed = orca("lab", "exec", "--name", LAB, LOST, "--", "docker", "ps", "--format", "{{.Names}}").split()
        return {line.split("_")[2].rpartition("-")[0] for line in listed if f"_{kubectl.namespace}_" in line}

    soon(lambda: runs_there() == {"agent", "waits", "stored"}, "it runs what is its own, and nothing of what it lost")
    assert names(living(kubectl, "-l", "app=forced")) == ["forced-0"]
