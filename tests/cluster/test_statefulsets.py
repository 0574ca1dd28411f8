"""StatefulSets on real hosts: order, names that stay, updates and the way back."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import workloads
from tests.support.kubectl import Kubectl, eventually

NAMES = ["db-0", "db-1", "db-2"]


def database(replicas: int) -> workloads.Manifest:
    """StatefulSet ``db`` whose pods answer HTTP on 8080 with their name."""
    made = workloads.who_am_i("db", replicas, readiness=True, env="one")
    made["kind"] = "StatefulSet"
    made["spec"]["serviceName"] = "db"
    made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0
    return made


@pytest.fixture(scope="module")
def db(admin: Kubectl) -> Iterator[Kubectl]:
    """A namespace with ``db`` (3 replicas, started), its headless Service, and a pod ``asker``."""
    own = admin.within(f"statefulsets-{os.getpid()}")
    admin("create", "namespace", own.namespace)
    eventually(lambda: own.try_("get", "serviceaccount", "default").code == 0, what="the default service account")
    headless = workloads.service("db", kind="ClusterIP", port=8080)
    headless["spec"]["clusterIP"] = "None"
    applied = own.try_("apply", "-f", "-", stdin=workloads.text(headless, database(3), workloads.pod("asker")))
    assert applied.code == 0, applied.err
    assert "no effect" not in applied.err
    own("rollout", "status", "statefulset/db", "--timeout=120s")
    yield own
    admin("delete", "namespace", own.namespace, "--wait=false")


def _pods(kubectl: Kubectl) -> dict[str, Any]:
    return {pod["metadata"]["name"]: pod for pod in kubectl.items("pods", "--selector=app=db")}


def _ready_at(pod: Any) -> str:
    return next(one["lastTransitionTime"] for one in pod["status"]["conditions"] if one["type"] == "Ready")


def _answer(kubectl: Kubectl, host: str) -> str:
    def ask() -> str:
        return kubectl.try_("exec", "asker", "--", "timeout", "3", "wget", "-qO-", f"http://{host}:8080/").out.strip()

    return str(eventually(ask, what=f"an answer of {host}"))


def test_started_one_after_the_other_with_names_that_resolve(db: Kubectl) -> None:
    pods = _pods(db)
    assert sorted(pods) == NAMES
    for earlier, later in itertools.pairwise(NAMES):
        assert _ready_at(pods[earlier]) <= pods[later]["metadata"]["creationTimestamp"]
    for index, name in enumerate(NAMES):
        found = pods[name]["metadata"]["labels"]
        assert found["statefulset.kubernetes.io/pod-name"] == name
        assert found["apps.kubernetes.io/pod-index"] == str(index)
        assert pods[name]["spec"]["subdomain"] == "db"
    db("wait", "--for=condition=Ready", "pod/asker", "--timeout=120s")
    assert _answer(db, "db-1.db") == "db-1"
    assert _answer(db, f"db-2.db.{db.namespace}.svc.cluster.local") == "db-2"
    assert "create Pod db-0 in StatefulSet db successful" in db("describe", "statefulset", "db")
    assert db("get", "statefulset", "db", "--no-headers").split()[1] == "3/3"


def test_a_deleted_pod_comes_back_under_its_name(db: Kubectl) -> None:
    before = _pods(db)["db-1"]["metadata"]["uid"]
    db("delete", "pod", "db-1", "--wait=false")
    eventually(lambda: _pods(db)["db-1"]["metadata"]["uid"] != before, what="another db-1")
    db("rollout", "status", "statefulset/db", "--timeout=120s")
    assert _answer(db, "db-1.db") == "db-1"


def test_update_history_and_undo(db: Kubectl) -> None:
    db("set", "env", "statefulset/db", "RELEASE=two")
    db("rollout", "status", "statefulset/db", "--timeout=120s")
    pods = _pods(db)
    assert {pod["spec"]["containers"][0]["env"][0]["value"] for pod in pods.values()} == {"two"}
    created = [pods[name]["metadata"]["creationTimestamp"] for name in NAMES]
    assert created == sorted(created, reverse=True)
    history = db("rollout", "history", "statefulset/db")
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["1", "2"]
    assert "RELEASE:\ttwo" in db("rollout", "history", "statefulset/db", "--revision=2")

    db("rollout", "undo", "statefulset/db")
    db("rollout", "status", "statefulset/db", "--timeout=120s")
    assert {pod["spec"]["containers"][0]["env"][0]["value"] for pod in _pods(db).values()} == {"one"}
    status = db.json("get", "statefulset", "db")["status"]
    assert status["currentRevision"] == status["updateRevision"]
    assert len(db.items("controllerrevisions")) == 2


def test_a_bad_image_stops_the_update_and_is_undone(db: Kubectl) -> None:
    db("set", "image", "statefulset/db", "web=busybox:none")

    def broken() -> bool:
        states = _pods(db)["db-2"]["status"].get("containerStatuses") or [{}]
        reason = states[0].get("state", {}).get("waiting", {}).get("reason")
        return reason in ("ErrImagePull", "ImagePullBackOff")

    eventually(broken, what="db-2 waits for an image that there is not")
    others = [pod["spec"]["containers"][0]["image"] for name, pod in _pods(db).items() if name != "db-2"]
    assert others == ["busybox:1.36"] * 2
    db("rollout", "undo", "statefulset/db")

    def observed() -> bool:
        found = db.json("get", "statefulset", "db")
        return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])

    eventually(observed, what="the way back is seen, or the broken one would be made again")
    # As upstream: with OrderedReady somebody has to take the broken pod away.
    db("delete", "pod", "db-2")
    db("rollout", "status", "statefulset/db", "--timeout=120s")
    assert {pod["spec"]["containers"][0]["image"] for pod in _pods(db).values()} == {"busybox:1.36"}


def test_a_partition_holds_the_lower_back(db: Kubectl) -> None:
    db("patch", "statefulset", "db", "-p", '{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}}}}')
    db("set", "env", "statefulset/db", "RELEASE=three")
    assert "partitioned roll out complete" in db("rollout", "status", "statefulset/db", "--timeout=120s")
    values = {name: pod["spec"]["containers"][0]["env"][0]["value"] for name, pod in _pods(db).items()}
    assert values == {"db-0": "one", "db-1": "one", "db-2": "three"}


def test_scaled_down_from_the_highest(db: Kubectl) -> None:
    db("scale", "statefulset", "db", "--replicas=1")
    eventually(lambda: sorted(_pods(db)) == ["db-0"], what="only db-0")

    def told_in_order() -> bool:
        events = db.items("events", "--field-selector=reason=SuccessfulDelete")
        last = {event["message"].split()[2]: event["lastTimestamp"] for event in events}
        return last["db-2"] <= last["db-1"]

    eventually(told_in_order, what="the events of both")
