"""What pods and workloads wait for, and the one line that names the cause."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orca.api.objects import Obj
from orca.api.times import format_time
from orca.explain.why.findings import Explanation, World
from orca.explain.why.placement import judge
from orca.explain.why.refusals import fix_of
from orca.explain.why.waiting import explain_pod
from orca.explain.why.workload import explain_workload
from orca.scheduler.config import load
from tests.unit.explain.test_why import NOW, container, event, owned, placed, running
from tests.unit.scheduler.things import node, pod


def ready_node(name: str = "a", **more: Any) -> Obj:
    made = node(name, **more)
    made["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    return made


def told(of: Obj, *events: Obj, **world: Any) -> Explanation:
    return explain_pod(of, World(nodes=(ready_node(),), events=events, **world), NOW)


def claim(name: str = "data", **spec: Any) -> Obj:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}, **spec},
        "status": {"phase": "Pending"},
    }


def volume(name: str, size: str = "1Gi", **spec: Any) -> Obj:
    return {
        "metadata": {"name": name, "uid": name},
        "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], **spec},
    }


WITH_CLAIM = pod("p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}])
FAST = {"metadata": {"name": "fast"}, "provisioner": "disks.example", "volumeBindingMode": "Immediate"}


@pytest.mark.parametrize(
    ("claims", "volumes", "classes", "cause", "fix"),
    [
        ([], [], [], 'its claim "data" does not exist', "make the PersistentVolumeClaim data (there are: none)"),
        (
            [claim(storageClassName="fast")],
            [],
            [],
            'its claim "data" has no volume: there is no StorageClass "fast"',
            "make the StorageClass fast, or name one that is there (none)",
        ),
        (
            [claim(storageClassName="fast")],
            [],
            [FAST],
            'its claim "data" has no volume: disks.example has not made one of the class fast (2Gi ReadWriteOnce) yet',
            "see that disks.example runs",
        ),
        (
            [claim(storageClassName="")],
            [volume("small")],
            [],
            'its claim "data" has no volume: asks for 2Gi ReadWriteOnce; the nearest volume, small, has 1Gi '
            "ReadWriteOnce: requested PV is too small",
            "make a volume that serves it, or ask for less",
        ),
        (
            [claim(storageClassName="", volumeName="mine")],
            [],
            [],
            'its claim "data" has no volume: it asks for mine, which does not exist',
            "make the PersistentVolume mine",
        ),
    ],
)
def test_what_a_claim_lacks(claims: list[Obj], volumes: list[Obj], classes: list[Obj], cause: str, fix: str) -> None:
    found = told(WITH_CLAIM, claims=claims, volumes=volumes, classes=classes)
    assert found.cause == cause
    assert found.findings[0].fix == fix


def test_the_smallest_change_is_where_the_pod_has_least_to_give_up() -> None:
    world = World(
        nodes=(node("a", cpu="4"), node("b", cpu="4"), node("c", cpu="1")),
        pods=(placed("x", "a", cpu="3"), placed("y", "b", cpu="1500m")),
    )
    best = judge(pod("p", cpu="3"), world).smallest_change
    assert best is not None
    assert best.node == "b"
    assert best.obstacles[0].fix == ("lower requests.cpu from 3 to 2.5, or free 0.5 there (pod default/y asks for 1.5)")
    found = explain_pod(pod("p", cpu="3"), world, NOW)
    assert found.cause == (
        "none of 3 nodes takes it (NodeResourcesFit); the nearest is b: cpu: asks for 3, 2.5 of 4 are free: 0.5 short"
    )


def test_affinity_names_the_label_that_is_missing() -> None:
    terms = [
        {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["a100", "b200"]}]},
        {"matchExpressions": [{"key": "x", "operator": "Exists"}, {"key": "y", "operator": "Exists"}]},
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    found = judge(pod("p", affinity={"nodeAffinity": required}), World(nodes=(node("a"),)))
    (obstacle,) = found.nodes[0].obstacles
    assert obstacle.fix == "kubectl label node a gpu=a100"


PROFILES = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: loose
  plugins: {multiPoint: {disabled: [{name: TaintToleration}]}}
- schedulerName: strict
  pluginConfig:
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: In, values: [a]}]}]
"""


def test_a_pod_is_judged_by_the_profile_of_its_scheduler() -> None:
    taint = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    profiles = {one.name: one for one in load(PROFILES).profiles}
    world = World(nodes=(ready_node("a", taints=[taint]),), profiles=profiles)
    assert "TaintToleration" not in str(explain_pod(pod("p", schedulerName="loose"), world, NOW).placement)
    assert explain_pod(pod("p", schedulerName="loose"), world, NOW).placement.fits == ("a",)  # type: ignore[union-attr]
    assert "gpu=yes:NoSchedule is not tolerated" in explain_pod(pod("p"), world, NOW).cause
    strict = explain_pod(pod("p", schedulerName="strict"), World(nodes=(ready_node("a"),), profiles=profiles), NOW)
    assert "addedAffinity" in strict.cause
    unknown = explain_pod(pod("p", schedulerName="mine"), world, NOW)
    assert unknown.cause == (
        "no scheduler of this cluster answers to its schedulerName 'mine' (there are: default-scheduler, loose, strict)"
    )


def test_a_silent_leader_is_why_nothing_is_placed() -> None:
    silent = World(nodes=(node("a"),), leader_renewed=format_time(NOW - timedelta(seconds=90)))
    found = explain_pod(pod("p"), silent, NOW)
    assert "no scheduler works: none has renewed its lease for 1m30s" in found.cause
    assert not found.waits


def test_a_crash_says_when_it_is_tried_again_and_what_killed_it() -> None:
    message = "back-off 40s restarting failed container=main pod=p_default(u)"
    last = {"exitCode": 137, "finishedAt": format_time(NOW - timedelta(seconds=15))}
    one = container(
        state={"waiting": {"reason": "CrashLoopBackOff", "message": message}},
        lastState={"terminated": last},
        restartCount=4,
    )
    crashed = running(phase="Running", containerStatuses=[one])
    crashed["spec"]["containers"][0] |= {"name": "main", "livenessProbe": {"tcpSocket": {"port": 80}}}
    killing = event(crashed, "Killing", "Container main failed liveness probe, will be restarted", "{main}")
    unhealthy = event(crashed, "Unhealthy", "Liveness probe failed: refused", "{main}")
    assert told(crashed, killing, unhealthy).cause == (
        "container main ended with exit code 137, killed because its livenessProbe (tcp-socket :80) failed: Liveness "
        "probe failed: refused, 4 restarts so far; back-off 40s: it is tried again at 00:00:25Z (in 25s)"
    )
    assert "killed because" not in told(crashed).cause


@pytest.mark.parametrize(
    ("probe", "age", "says"),
    [
        ({"httpGet": {"port": 80, "path": "/x"}, "initialDelaySeconds": 30}, 10, "it is first asked in 20 s"),
        ({"exec": {"command": ["cat", "/x"]}}, 10, "its readinessProbe (exec cat /x) has not passed yet"),
        (None, 1, "is about to be ready"),
    ],
)
def test_a_probe_that_has_not_passed(probe: Obj | None, age: int, says: str) -> None:
    started = {"running": {"startedAt": format_time(NOW - timedelta(seconds=age))}}
    of = running(phase="Running", containerStatuses=[container(state=started, started=True)])
    of["spec"]["containers"][0] |= {"name": "main", **({"readinessProbe": probe} if probe else {})}
    found = told(of)
    assert says in found.cause
    assert found.waits


def test_a_sidecar_holds_up_what_comes_after_it() -> None:
    of = running(
        initContainerStatuses=[container("proxy", state={"running": {}}, started=False)],
        containerStatuses=[container(state={"waiting": {"reason": "PodInitializing"}})],
    )
    probe = {"exec": {"command": ["cat", "/ready"]}}
    of["spec"]["initContainers"] = [{"name": "proxy", "restartPolicy": "Always", "startupProbe": probe}]
    found = told(of, event(of, "Unhealthy", "Startup probe failed: no such file", "{proxy}"))
    assert found.cause.startswith(
        "sidecar proxy (init container 1 of 1) runs and is not ready: Startup probe failed: no such file"
    )


def test_a_lost_node_says_until_when_the_pod_stays() -> None:
    since = format_time(NOW - timedelta(seconds=60))
    lost = node("a", taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": since}])
    lost["status"]["conditions"] = [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]
    toleration = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 300}
    of = running(phase="Running", containerStatuses=[container(state={"running": {}}, started=True)])
    of["spec"]["tolerations"] = [{**toleration, "effect": "NoExecute"}]
    found = explain_pod(of, World(nodes=(lost,)), NOW)
    assert found.cause == (
        "its node a is not ready (NodeStatusUnknown); the pod tolerates that until 00:04:00Z (another 240s)"
    )


def test_what_holds_a_deletion() -> None:
    going = running(phase="Running", containerStatuses=[container(state={"running": {}})])
    going["metadata"] |= {"deletionTimestamp": format_time(NOW + timedelta(seconds=12))}
    assert told(going).cause == "container main has not ended yet; 12s of the grace period are left"
    going["metadata"] |= {"deletionTimestamp": format_time(NOW - timedelta(seconds=90))}
    late = told(going)
    assert late.cause == "container main has not ended, 1m30s after the grace period"
    assert "--force" in late.findings[0].fix
    ended = {**going, "status": {**going["status"], "containerStatuses": [container(state={"terminated": {}})]}}
    stuck = event(ended, "FailedUnmount", "device or resource busy")
    assert "FailedUnmount: device or resource busy" in told(ended, stuck).cause


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        (
            'pods "x" is forbidden: exceeded quota: q, requested: pods=1,limits.cpu=500m, used: pods=2,limits.cpu=1, '
            "limited: pods=2,limits.cpu=4",
            "raise pods from 2 to 3 in the quota q for one more pod, ask for less, or delete others",
        ),
        ("failed quota: q: must specify limits.cpu for: main", "give the container main limits.cpu"),
        ('violates PodSecurity "restricted:latest": x', "meet the standard restricted:latest"),
        ('admission webhook "a.b" denied the request: no', "do as the webhook a.b asks"),
        ('failed calling webhook "a.b": refused', "bring the Service of the webhook a.b back"),
        (
            'error looking up service account default/me: serviceaccount "me" not found',
            "kubectl create serviceaccount me",
        ),
    ],
)
def test_who_refuses_a_pod_is_asked_for_what_it_takes(text: str, fix: str) -> None:
    assert fix_of(text).startswith(fix)


def deployment(kind: str = "Deployment", **spec: Any) -> Obj:
    return {"kind": kind, "metadata": {"name": "web", "namespace": "default", "uid": "d"}, "spec": spec, "status": {}}


def test_a_statefulset_refused_its_pods_tells_so_from_events_until_one_was_made() -> None:
    owner = deployment("StatefulSet", replicas=2)
    refused = event(owner, "FailedCreate", "create Pod web-0 failed error: failed quota: q: must specify cpu for: main")
    world = World(events=(refused,))
    assert "may not make pods" in explain_workload(owner, [], world, NOW).cause
    later = {**event(owner, "SuccessfulCreate", "done"), "lastTimestamp": format_time(NOW + timedelta(seconds=1))}
    made = explain_workload(owner, [], World(events=(refused, later)), NOW)
    assert made.cause == "2 of its pods are still to be made"


def test_an_ordered_set_waits_for_the_pod_before() -> None:
    owner = deployment("StatefulSet", replicas=3)
    first = owned({**pod("web-0", cpu="99")}, owner, "Pod")
    found = explain_workload(owner, [first], World(nodes=(node("a"),)), NOW)
    assert found.cause.startswith("pod/web-0: the only node, a, does not take it: cpu: asks for 99")
    assert "pod web-1 is made when pod/web-0 is ready (1 more after it)" in [one.says for one in found.findings]


def test_what_only_follows_does_not_come_first() -> None:
    owner = deployment(replicas=1)
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    owner["status"] = {"conditions": [late]}
    bad = running(
        containerStatuses=[container(state={"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}})]
    )
    found = explain_workload(owner, [owned(bad, owner, "Pod")], World(nodes=(ready_node(),)), NOW)
    assert found.cause == "pod/p: container main: ErrImagePull: manifest unknown"
    assert found.below[0].findings[0].fix == "the registry has no such image or tag: correct the image's name"
    assert explain_workload(owner, [], World(), NOW).cause == "ProgressDeadlineExceeded: timed out"


def test_a_daemonset_for_no_node_says_what_its_pods_want() -> None:
    spec = {"nodeSelector": {"gpu": "yes"}, "containers": []}
    owner = deployment("DaemonSet", template={"metadata": {}, "spec": spec})
    cordoned = World(nodes=(node("a", unschedulable=True),))
    found = explain_workload(owner, [], cordoned, NOW)
    assert found.cause == "the only node, a, does not take it: the pod wants the label gpu=yes, the node has none"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"spec": {"replicas": 0}}, "it is scaled to 0"),
        ({"spec": {"replicas": 1, "paused": True}}, "its rollout is paused"),
        (
            {"metadata": {"name": "web", "uid": "d", "generation": 2}},
            "its controller has not looked at its last change yet",
        ),
    ],
)
def test_the_state_of_a_workload_itself(change: Obj, cause: str) -> None:
    assert explain_workload({**deployment(replicas=1), **change}, [], World(), NOW).cause == cause


def test_of_a_cronjob_only_the_newest_job_counts() -> None:
    owner = deployment("CronJob", schedule="* * * * *")
    jobs, pods = [], []
    for number, phase in ((1, "Failed"), (2, "Succeeded")):
        job = owned({"metadata": {"name": f"web-{number}", "uid": f"j{number}", "namespace": "default"}}, owner, "Job")
        job["metadata"]["creationTimestamp"] = format_time(NOW + timedelta(minutes=number))
        jobs.append(job)
        pods.append(
            owned({**running(phase=phase), "metadata": {"name": f"p{number}", "uid": f"p{number}"}}, job, "Pod")
        )
    assert explain_workload(owner, [*jobs, *pods], World(), NOW).is_well
    jobs[0]["metadata"]["creationTimestamp"] = format_time(NOW + timedelta(minutes=3))
    pods[0]["status"] |= {"reason": "Evicted", "message": "no disk"}
    assert explain_workload(owner, [*jobs, *pods], World(), NOW).cause == "pod/p1: Evicted: no disk"
