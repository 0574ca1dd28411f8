"""StatefulSets: identity, claims, order, updates, history."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.api.builtin import CONTROLLERREVISIONS, EVENTS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from orca.api.errors import forbidden
from orca.api.objects import Obj, is_terminating, labels, name
from orca.controllers.controllerrevisions import HASH_LABEL
from orca.controllers.statefulset import StatefulSetController, storage
from orca.controllers.statefulset.identity import INDEX_LABEL, NAME_LABEL, make_pod, ordinal_of
from orca.controllers.statefulset.plan import Plan, Revisions, new_status, plan
from tests.unit.controllers.support import NOW, Cluster, pod, running_one, template

OLD_NEW = Revisions("old", "new")
CLAIM = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}


def statefulset(replicas: int = 3, *, start: int = 0, **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "default", "uid": "sts-uid", "generation": 1},
        "spec": {
            "replicas": replicas,
            "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "ordinals": {"start": start},
            **spec,
        },
    }


def rolling(partition: int = 0, unavailable: int | str = 1) -> Obj:
    return {"type": "RollingUpdate", "rollingUpdate": {"partition": partition, "maxUnavailable": unavailable}}


def member(ordinal: int, *, revision: str = "new", **more: Any) -> Obj:
    found = {"app": "web", HASH_LABEL: revision}
    return pod(f"web-{ordinal}", owner="sts-uid", kind="StatefulSet", labels=found, **more)


def going(ordinal: int, **more: Any) -> Obj:
    return member(ordinal, deletionTimestamp="2026-01-01T00:00:00Z", **more)


def steps(todo: Plan) -> tuple[list[int], list[str]]:
    return [ordinal for ordinal, _ in todo.create], [name(found) for found in todo.delete]


# --- plan ------------------------------------------------------------------------------------------------------------


def test_ordinals_are_read_from_names_this_set_gives() -> None:
    names = ("web-0", "web-12", "web-03", "web-", "web--1", "web-x-1", "other-1", "web")
    assert [ordinal_of(statefulset(), found) for found in names] == [0, 12, *[None] * 6]


def test_a_pod_has_its_identity() -> None:
    wanted = statefulset(volumeClaimTemplates=[CLAIM])
    wanted["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    made = make_pod(wanted, wanted["spec"]["template"], 2, "web-abc")
    assert made["metadata"]["name"] == made["spec"]["hostname"] == "web-2"
    assert made["spec"]["subdomain"] == "web"
    assert labels(made) == {"app": "web", NAME_LABEL: "web-2", INDEX_LABEL: "2", HASH_LABEL: "web-abc"}
    assert made["spec"]["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-2"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    assert wanted["spec"]["template"] == {
        **template(),
        "spec": {**template()["spec"], "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]},
    }


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], ([0], [])),
        ([member(0, ready=False)], ([], [])),
        ([member(0)], ([1], [])),
        ([going(0), member(2)], ([], [])),
        ([member(0), member(1, phase="Failed"), member(2)], ([], ["web-1"])),
        ([member(n) for n in range(5)], ([], ["web-4"])),
        ([member(0), member(1), member(2), member(3), going(4)], ([], [])),
        ([member(0), member(1, ready=False), member(2), member(3)], ([], [])),
        ([member(0), member(1), member(2), member(3, ready=False), member(4)], ([], ["web-4"])),
        ([member(0), member(1), member(2), member(3, ready=False), member(4, ready=False)], ([], [])),
        ([member(0), member(1), member(2), member(3, phase="Failed"), member(4, phase="Failed")], ([], ["web-4"])),
        ([member(0, revision="old"), member(1, revision="old"), member(2, revision="old")], ([], ["web-2"])),
        ([member(0, revision="old"), member(1, revision="old"), member(2)], ([], ["web-1"])),
        ([member(0), member(1), member(2)], ([], [])),
        # As upstream: a pod broken by an earlier update is not replaced in order until somebody deletes it.
        ([member(0), member(1), member(2, revision="bad", ready=False)], ([], [])),
    ],
)
def test_in_order(pods: list[Obj], expected: tuple[list[int], list[str]]) -> None:
    assert steps(plan(statefulset(), pods, OLD_NEW, NOW)) == expected


def test_parallel_starts_and_ends_all_at_once_but_updates_by_max_unavailable() -> None:
    wanted = statefulset(4, start=1, podManagementPolicy="Parallel", updateStrategy=rolling(0, "50%"))
    assert steps(plan(wanted, [], OLD_NEW, NOW)) == ([1, 2, 3, 4], [])
    assert steps(plan(wanted, [member(n, ready=False) for n in range(8)], OLD_NEW, NOW)) == (
        [],
        ["web-7", "web-6", "web-5", "web-0"],
    )
    old = [member(n, revision="old") for n in range(1, 5)]
    assert steps(plan(wanted, old, OLD_NEW, NOW)) == ([], ["web-4", "web-3"])
    broken = [*old[:3], member(4, ready=False)]
    assert steps(plan(wanted, broken, OLD_NEW, NOW)) == ([], ["web-3"])
    all_broken = [member(n, revision="old", ready=False) for n in range(1, 5)]
    assert steps(plan(wanted, all_broken, OLD_NEW, NOW)) == ([], ["web-4", "web-3", "web-2", "web-1"])


def test_partition_and_on_delete() -> None:
    old = [member(n, revision="old") for n in range(3)]
    wanted = statefulset(updateStrategy=rolling(2))
    assert steps(plan(wanted, old, OLD_NEW, NOW)) == ([], ["web-2"])
    assert plan(wanted, [*old[:2], member(2)], OLD_NEW, NOW) == Plan()
    assert plan(wanted, old[:2], OLD_NEW, NOW).create == [(2, "new")]
    assert plan(wanted, [old[0]], OLD_NEW, NOW).create == [(1, "old")]
    by_hand = statefulset(updateStrategy={"type": "OnDelete"})
    assert plan(by_hand, old, OLD_NEW, NOW) == Plan()
    assert plan(by_hand, old[:2], OLD_NEW, NOW).create == [(2, "new")]


def test_min_ready_seconds_holds_the_next_back() -> None:
    wanted = statefulset(minReadySeconds=10)
    assert plan(wanted, [member(0)], OLD_NEW, NOW + timedelta(seconds=9)) == Plan()
    assert plan(wanted, [member(0)], OLD_NEW, NOW + timedelta(seconds=10)).create == [(1, "new")]


def test_nothing_happens_to_one_that_is_being_deleted() -> None:
    wanted = statefulset()
    wanted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert plan(wanted, [member(7)], OLD_NEW, NOW) == Plan()


def test_status() -> None:
    pods = [member(0, revision="old"), member(1, ready=False), going(2)]
    assert new_status(statefulset(), pods, OLD_NEW, NOW) == {
        "observedGeneration": 1,
        "replicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "currentReplicas": 1,
        "updatedReplicas": 1,
        "currentRevision": "old",
        "updateRevision": "new",
        "collisionCount": 0,
    }
    finished = new_status(statefulset(), [member(n) for n in range(3)], OLD_NEW, NOW)
    assert (finished["currentRevision"], finished["currentReplicas"]) == ("new", 3)


_PODS = st.dictionaries(
    st.integers(0, 9),
    st.tuples(
        st.sampled_from(["old", "new"]), st.booleans(), st.booleans(), st.sampled_from(["Running", "Failed", "Pending"])
    ),
    max_size=10,
)
_SETS = st.builds(
    lambda replicas, start, ordered, partition, unavailable, on_delete: statefulset(
        replicas,
        start=start,
        podManagementPolicy="OrderedReady" if ordered else "Parallel",
        updateStrategy={"type": "OnDelete"} if on_delete else rolling(partition, unavailable),
    ),
    st.integers(0, 6),
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 7),
    st.integers(1, 4) | st.sampled_from(["1%", "50%", "100%"]),
    st.booleans(),
)


def _members(found: dict[int, tuple[str, bool, bool, str]]) -> dict[int, Obj]:
    return {
        ordinal: (going if leaving else member)(
            ordinal, revision=revision, ready=ready and phase == "Running", phase=phase
        )
        for ordinal, (revision, ready, leaving, phase) in found.items()
    }


def _available(found: Obj | None) -> bool:
    if found is None or is_terminating(found) or found["status"]["phase"] != "Running":
        return False
    return bool(found["status"]["conditions"][0]["status"] == "True")


def _limits(wanted: Obj) -> tuple[range, int, int]:
    spec = wanted["spec"]
    first = spec["ordinals"]["start"]
    span = range(first, first + spec["replicas"])
    found = spec["updateStrategy"].get("rollingUpdate") or {}
    most = found.get("maxUnavailable", 1)
    if isinstance(most, str):
        most = -(-int(most[:-1]) * len(span) // 100)
    return span, found.get("partition", 0), max(most, 1)


def _check_step(wanted: Obj, pods: dict[int, Obj], todo: Plan) -> None:
    span, partition, most = _limits(wanted)
    ordered = wanted["spec"]["podManagementPolicy"] == "OrderedReady"
    created = [ordinal for ordinal, _ in todo.create]
    assert len(set(created)) == len(created)
    assert not set(created) & set(pods), "two pods of one ordinal"
    assert set(created) <= set(span)
    doomed = [ordinal_of(wanted, name(found)) or 0 for found in todo.delete]
    assert len(set(doomed)) == len(doomed)
    assert not any(is_terminating(found) for found in todo.delete)
    beyond = [ordinal for ordinal in doomed if ordinal not in span]
    assert beyond == sorted(beyond, reverse=True)
    if ordered:
        assert len(created) + len(beyond) <= 1
        for ordinal in created:
            assert all(_available(pods.get(lower)) for lower in range(span.start, ordinal))
        if beyond:
            assert all(_available(pods.get(ordinal)) for ordinal in span)
            assert not any(ordinal > beyond[0] for ordinal in pods if ordinal not in span)
    updates = [n for n in doomed if n in span and pods[n]["status"]["phase"] != "Failed"]
    assert updates == sorted(updates, reverse=True)
    assert all(n >= span.start + partition and labels(pods[n])[HASH_LABEL] != "new" for n in updates)
    assert not updates or wanted["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    before = sum(not _available(pods.get(n)) for n in span)
    after = sum(not _available(pods.get(n)) or n in doomed for n in span)
    assert after <= max(most, before), "more pods unavailable than allowed"
    for ordinal, revision in todo.create:
        kept = wanted["spec"]["updateStrategy"]["type"] == "RollingUpdate" and ordinal < span.start + partition
        assert revision == ("old" if kept else "new")


@given(_SETS, _PODS)
@settings(max_examples=300, deadline=None)
def test_any_state_is_safe_and_converges(wanted: Obj, found: dict[int, tuple[str, bool, bool, str]]) -> None:
    pods = _members(found)
    idle = 0
    for _ in range(80):
        todo = plan(wanted, list(pods.values()), OLD_NEW, NOW)
        _check_step(wanted, pods, todo)
        # The hosts' part: what was leaving is gone, what was not ready becomes ready.
        after = {
            n: member(n, revision=labels(one)[HASH_LABEL]) if one["status"]["phase"] != "Failed" else one
            for n, one in pods.items()
            if not is_terminating(one)
        }
        for one in todo.delete:
            ordinal = ordinal_of(wanted, name(one)) or 0
            after[ordinal] = going(ordinal, revision=labels(one)[HASH_LABEL])
        for ordinal, revision in todo.create:
            after[ordinal] = member(ordinal, revision=revision, ready=False, phase="Pending")
        idle = idle + 1 if after == pods else 0
        pods = after
        if idle:
            break
    assert idle, "never comes to rest"
    span, partition, _ = _limits(wanted)
    assert all(n in pods and _available(pods[n]) for n in span)
    assert set(pods) == set(span)
    if wanted["spec"]["updateStrategy"]["type"] == "RollingUpdate":
        assert all(labels(pods[n])[HASH_LABEL] == "new" for n in span if n >= span.start + partition)


# --- claims ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deleted", "scaled", "condemned", "owner"),
    [
        ("Retain", "Retain", False, None),
        ("Retain", "Retain", True, None),
        ("Delete", "Retain", False, "StatefulSet"),
        ("Delete", "Retain", True, "StatefulSet"),
        ("Retain", "Delete", False, None),
        ("Retain", "Delete", True, "Pod"),
        ("Delete", "Delete", False, "StatefulSet"),
        ("Delete", "Delete", True, "Pod"),
    ],
)
@pytest.mark.parametrize("before", [None, "StatefulSet", "Pod"])
def test_claims_are_owned_as_the_policy_says(
    deleted: str, scaled: str, condemned: bool, owner: str | None, before: str | None
) -> None:
    policy = {"whenDeleted": deleted, "whenScaled": scaled}
    wanted = statefulset(volumeClaimTemplates=[CLAIM], persistentVolumeClaimRetentionPolicy=policy)
    (claim,) = storage.claims_of(wanted, 1)
    assert name(claim) == "data-web-1"
    assert labels(claim) == {"app": "web"}
    own = member(1)
    uids = {"StatefulSet": "sts-uid", "Pod": "uid-web-1"}
    user = {"kind": "Other", "name": "o", "uid": "other"}
    references = [user] + ([{"kind": before, "name": "x", "uid": uids[before], "controller": True}] if before else [])
    claim["metadata"]["ownerReferences"] = references
    changed = storage.owners(wanted, claim, own, condemned=condemned)
    if before == owner:
        assert changed is None
    else:
        assert changed is not None
        assert [found["kind"] for found in changed] == (["Other", owner] if owner else ["Other"])
    claim["metadata"]["ownerReferences"] = [{**user, "controller": True}]
    assert storage.owners(wanted, claim, own, condemned=condemned) is None


def test_a_claim_of_an_earlier_pod_is_waited_for() -> None:
    claim: Obj = {"metadata": {"name": "data-web-1", "ownerReferences": [{"kind": "Pod", "name": "web-1", "uid": "u"}]}}
    assert storage.is_stale(claim, "web-1")
    assert not storage.is_stale({"metadata": {"name": "data-web-1"}}, "web-1")
    leaving: Obj = {"metadata": {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert storage.leaving([claim, leaving]) == "pvc x is being deleted"
    assert storage.leaving([claim]) == ""


# --- running ---------------------------------------------------------------------------------------------------------


async def _host(cluster: Cluster) -> None:
    """The scheduler's and hosts' part, once: what is there becomes ready, what leaves is gone."""
    for found in cluster.api.objects(PODS):
        if is_terminating(found):
            await cluster.api.delete(PODS, name(found), "default", grace_seconds=0)
        elif not found.get("status", {}).get("conditions"):
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            status = {"phase": "Running", "conditions": [ready]}
            await cluster.api.patch(PODS, name(found), {"status": status}, "default", subresource="status")
    await cluster.settle(1)


async def _until_quiet(cluster: Cluster) -> list[str]:
    """Lets hosts work until nothing changes; answers what was created and deleted since it last did, in order."""
    for _ in range(60):
        before = [(name(found), found["metadata"]["resourceVersion"]) for found in cluster.api.objects(PODS)]
        await _host(cluster)
        if before == [(name(found), found["metadata"]["resourceVersion"]) for found in cluster.api.objects(PODS)]:
            break
    seen: list[str] = []
    for verb, plural, object_key in cluster.api.calls:
        step = f"{verb} {object_key.removeprefix('default/')}"
        if plural == "pods" and verb in ("create", "delete") and step not in seen[-1:]:
            seen.append(step)
    cluster.api.calls.clear()
    return seen


async def _change(cluster: Cluster, patch: Obj) -> None:
    await cluster.api.patch(STATEFULSETS, "web", patch, "default")
    await cluster.settle(1)


def _image(image: str) -> Obj:
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}


def _names(cluster: Cluster) -> list[str]:
    return sorted(name(found) for found in cluster.pods())


async def test_a_life_in_order() -> None:
    async with running_one(StatefulSetController) as (cluster, _):
        cluster.api.seed(STATEFULSETS, statefulset(revisionHistoryLimit=1))
        await cluster.settle(1)
        assert _names(cluster) == ["web-0"]
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-0", "web-1", "web-2"]
        first = (await cluster.api.get(STATEFULSETS, "web", "default"))["status"]
        assert first["readyReplicas"] == first["currentReplicas"] == first["availableReplicas"] == 3
        assert first["currentRevision"] == first["updateRevision"]
        assert {labels(found)[HASH_LABEL] for found in cluster.pods()} == {first["currentRevision"]}

        await _change(cluster, _image("nginx:2"))
        during = (await cluster.api.get(STATEFULSETS, "web", "default"))["status"]
        assert during["currentRevision"] == first["currentRevision"] != during["updateRevision"]
        deletions = [step for step in await _until_quiet(cluster) if step.startswith("delete")]
        assert deletions == ["delete web-2", "delete web-1", "delete web-0"]
        assert cluster.images() == ["nginx:2"] * 3
        second = (await cluster.api.get(STATEFULSETS, "web", "default"))["status"]
        assert second["currentRevision"] == second["updateRevision"] == during["updateRevision"]

        # As `kubectl rollout undo`: the old template again is the old revision with a new number.
        await _change(cluster, _image("nginx:1"))
        await _until_quiet(cluster)
        revisions = {name(found): found["revision"] for found in cluster.api.objects(CONTROLLERREVISIONS)}
        assert revisions == {first["currentRevision"]: 3, second["currentRevision"]: 2}
        for image in ("nginx:3", "nginx:4"):
            await _change(cluster, _image(image))
            await _until_quiet(cluster)
        assert sorted(found["revision"] for found in cluster.api.objects(CONTROLLERREVISIONS)) == [4, 5]

        await _change(cluster, {"spec": {"replicas": 1}})
        deletions = [step for step in await _until_quiet(cluster) if step.startswith("delete")]
        assert deletions == ["delete web-2", "delete web-1"]
        await _change(cluster, {"spec": {"ordinals": {"start": 5}}})
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-5"]
        messages = {found["message"] for found in cluster.api.objects(EVENTS)}
        assert "create Pod web-0 in StatefulSet web successful" in messages
        assert "delete Pod web-2 in StatefulSet web successful" in messages


async def test_partition_and_a_pod_lost_below_it_keeps_its_template() -> None:
    async with running_one(StatefulSetController) as (cluster, _):
        cluster.api.seed(STATEFULSETS, statefulset(updateStrategy=rolling(2)))
        await cluster.settle(1)
        await _until_quiet(cluster)
        await _change(cluster, _image("nginx:2"))
        await _until_quiet(cluster)
        assert cluster.images() == ["nginx:1", "nginx:1", "nginx:2"]
        await cluster.api.delete(PODS, "web-0", "default", grace_seconds=0)
        await cluster.settle(1)
        await _until_quiet(cluster)
        assert cluster.images() == ["nginx:1", "nginx:1", "nginx:2"]
        status = (await cluster.api.get(STATEFULSETS, "web", "default"))["status"]
        assert (status["currentReplicas"], status["updatedReplicas"]) == (2, 1)
        await _change(cluster, {"spec": {"updateStrategy": rolling(0)}})
        await _until_quiet(cluster)
        assert cluster.images() == ["nginx:2"] * 3


async def test_claims_stay_or_go_with_their_pod() -> None:
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    wanted = statefulset(2, volumeClaimTemplates=[CLAIM], persistentVolumeClaimRetentionPolicy=policy)
    async with running_one(StatefulSetController) as (cluster, _):
        cluster.api.seed(STATEFULSETS, wanted)
        await cluster.settle(1)
        await _until_quiet(cluster)

        def owners() -> dict[str, list[str]]:
            return {
                name(found): [ref["kind"] for ref in found["metadata"].get("ownerReferences") or ()]
                for found in cluster.api.objects(PERSISTENTVOLUMECLAIMS)
            }

        assert owners() == {"data-web-0": ["StatefulSet"], "data-web-1": ["StatefulSet"]}
        await _change(cluster, {"spec": {"replicas": 1}})
        assert owners() == {"data-web-0": ["StatefulSet"], "data-web-1": ["Pod"]}
        await _until_quiet(cluster)
        # The garbage collector is not running here: the next web-1 has to wait until the old claim is gone.
        await _change(cluster, {"spec": {"replicas": 2}})
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-0"]
        await cluster.api.delete(PERSISTENTVOLUMECLAIMS, "data-web-1", "default")
        await cluster.settle(2)
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-0", "web-1"]
        assert owners()["data-web-1"] == ["StatefulSet"]
        keep = {"whenDeleted": "Retain", "whenScaled": "Retain"}
        await _change(cluster, {"spec": {"persistentVolumeClaimRetentionPolicy": keep}})
        assert owners() == {"data-web-0": [], "data-web-1": []}


async def test_ended_pods_are_replaced_and_others_left_alone() -> None:
    async with running_one(StatefulSetController) as (cluster, _):
        stranger = pod("web-9", labels={"app": "web"}, owner="someone-else")
        odd = pod("web-03", labels={"app": "web"})
        cluster.api.seed(PODS, stranger)
        cluster.api.seed(PODS, odd)
        cluster.api.seed(STATEFULSETS, statefulset(2, podManagementPolicy="Parallel"))
        await cluster.settle(1)
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-0", "web-03", "web-1", "web-9"]
        before = (await cluster.api.get(PODS, "web-1", "default"))["metadata"]["uid"]
        await cluster.api.patch(PODS, "web-1", {"status": {"phase": "Failed"}}, "default", subresource="status")
        await cluster.settle(1)
        await _until_quiet(cluster)
        assert _names(cluster) == ["web-0", "web-03", "web-1", "web-9"]
        assert (await cluster.api.get(PODS, "web-1", "default"))["metadata"]["uid"] != before
        await cluster.api.patch(PODS, "web-0", {"metadata": {"labels": {NAME_LABEL: None}}}, "default")
        await cluster.settle(1)
        assert labels(await cluster.api.get(PODS, "web-0", "default"))[NAME_LABEL] == "web-0"
        assert not (await cluster.api.get(PODS, "web-03", "default"))["metadata"].get("ownerReferences")


async def test_a_refused_pod_is_told_and_tried_again() -> None:
    cluster = Cluster()
    refused = []

    def refuse(verb: str, resource: object, object_key: str, _: str) -> None:
        if verb == "create" and resource == PODS and len(refused) < 2:
            refused.append(object_key)
            raise forbidden(PODS, "web-0", "exceeded quota")

    cluster.api.intercepts.append(refuse)
    async with running_one(StatefulSetController, cluster=cluster):
        cluster.api.seed(STATEFULSETS, statefulset(1))
        await cluster.settle(2)
        assert refused == ["default/web-0"] * 2
        assert _names(cluster) == ["web-0"]
        failures = [found["message"] for found in cluster.api.objects(EVENTS) if found["reason"] == "FailedCreate"]
        assert failures
        assert failures[0].startswith("create Pod web-0 in StatefulSet web failed error: ")
        assert "exceeded quota" in failures[0]
