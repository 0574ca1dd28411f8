"""StatefulSets: identity, claims, order and status, decided purely."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca.api.objects import Obj, is_terminating, labels, name
from orca.controllers.controllerrevisions import HASH_LABEL
from orca.controllers.statefulset import storage
from orca.controllers.statefulset.identity import INDEX_LABEL, NAME_LABEL, make_pod, ordinal_of
from orca.controllers.statefulset.plan import Plan, new_status, plan
from tests.unit.controllers.statefulsets import CLAIM, OLD_NEW, going, member, rolling, statefulset
from tests.unit.controllers.support import NOW, template


def steps(todo: Plan) -> tuple[list[int], list[str]]:
    return [ordinal for ordinal, _ in todo.create], [name(found) for found in todo.delete]


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
