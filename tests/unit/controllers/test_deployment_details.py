"""Deployments in the particulars that users of kube-controller-manager know."""

from datetime import timedelta
from typing import Any

from orca.api.builtin import DEPLOYMENTS, EVENTS, REPLICASETS
from orca.api.objects import Obj, annotations, labels, name
from orca.api.times import format_time
from orca.controllers import conditions
from orca.controllers.deployment import revisions, sizes, status
from orca.controllers.deployment.plan import plan
from orca.controllers.deployment.sizes import Limits, Member
from tests.unit.controllers.support import NOW, deployment, running, template

LIMITS = Limits(4, 1, 1)


def kept(number: int, image: str, replicas: int = 0, **more: Any) -> Obj:
    """A ReplicaSet of revision `number`."""
    made = revisions.build_new(
        {
            **deployment(4),
            "spec": {**deployment(4)["spec"], "template": template(image)},
            "metadata": {"name": "web", "namespace": "default", "uid": "d"},
        },
        replicas,
        number,
        LIMITS,
    )
    stamp = format_time(NOW + timedelta(minutes=number))
    made["metadata"] |= {"uid": f"rs-{number}", "generation": 1, "creationTimestamp": stamp}
    made["metadata"]["annotations"] |= more
    return made


def asked(revision: str, **found: str) -> Obj:
    made = deployment(4)
    made["metadata"] |= {"uid": "d", "annotations": {revisions.ROLLBACK: revision, **found}}
    made["spec"]["template"] = template("nginx:3")
    return made


def test_goes_back_to_the_revision_that_the_annotation_names() -> None:
    history = [kept(1, "nginx:1", why="first"), kept(2, "nginx:2"), kept(3, "nginx:3", 4)]
    todo = plan(asked("1", why="third", **{revisions.REVISION: "3"}), history, [], NOW)
    assert todo.rewritten is not None
    assert todo.rewritten["spec"]["template"] == template("nginx:1")
    assert annotations(todo.rewritten) == {"why": "first", revisions.REVISION: "3"}
    assert todo.told == [("Normal", "DeploymentRollback", 'Rolled back deployment "web" to revision 1')]
    assert (todo.create, todo.update, todo.delete, todo.status) == (None, [], [], {})
    last = plan(asked("0"), history, [], NOW)
    assert last.told == [("Normal", "DeploymentRollback", 'Rolled back deployment "web" to revision 2')]


def test_gives_a_rollback_up_that_leads_nowhere() -> None:
    only = [kept(3, "nginx:3", 4)]
    found = {
        revision: plan(asked(revision), history, [], NOW)
        for revision, history in (("0", only), ("7", only), ("3", only))
    }
    assert {revision: todo.told[0][1:] for revision, todo in found.items()} == {
        "0": ("DeploymentRollbackRevisionNotFound", "Unable to find last revision."),
        "7": ("DeploymentRollbackRevisionNotFound", "Unable to find the revision to rollback to."),
        "3": (
            "DeploymentRollbackTemplateUnchanged",
            'The rollback revision contains the same template as current deployment "web"',
        ),
    }
    for todo in found.values():
        assert todo.rewritten is not None
        assert todo.rewritten["spec"] == asked("0")["spec"]
        assert revisions.ROLLBACK not in annotations(todo.rewritten)


def test_what_is_only_scaled_neither_progresses_nor_times_out() -> None:
    wanted = deployment(6)
    wanted["metadata"] |= {"uid": "d", "generation": 2}
    stamp = format_time(NOW)
    progressing = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": stamp}
    wanted["status"] = {"replicas": 4, "conditions": [progressing]}
    mine = kept(1, "nginx:1", 4)
    mine["status"] = {"replicas": 4, "observedGeneration": 1}
    todo = plan(wanted, [mine], [], NOW + timedelta(hours=1))
    assert [(scaled.before, scaled.after) for scaled in todo.update] == [(4, 6)]
    assert conditions.find(todo.status["conditions"], "Progressing") == progressing
    assert todo.after is None


def test_shares_without_a_remembered_size_are_of_what_was_there() -> None:
    def member(number: int, replicas: int) -> Member:
        return Member(f"m{number}", NOW + timedelta(seconds=number), replicas, actual=replicas)

    found = sizes.spread(Limits(20, 0, 0), [member(1, 6), member(2, 4)], there=10)
    assert found == {"m1": 12, "m2": 8}
    assert sizes.spread(Limits(20, 0, 0), [member(1, 6), member(2, 4)]) == {"m1": 16, "m2": 4}


def test_a_failure_of_a_set_keeps_its_time_and_its_place() -> None:
    since = format_time(NOW - timedelta(minutes=3))
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "lastTransitionTime": since}
    failing = {"status": {"conditions": [{**failure, "message": "why"}]}}
    first = status.with_failure({"conditions": [{"type": "A"}]}, None, [failing], NOW)
    shown = {**failure, "message": "why", "lastUpdateTime": since}
    assert first["conditions"] == [{"type": "A"}, shown]
    later = {"conditions": [*first["conditions"], {"type": "B"}]}
    assert status.with_failure(later, None, [failing], NOW) == later
    assert status.with_failure(later, None, [], NOW) == {"conditions": [{"type": "A"}, {"type": "B"}]}


def test_pods_on_their_way_out_are_told_only_when_all_sets_count_them() -> None:
    counted = {"spec": {"replicas": 1}, "status": {"observedGeneration": 1, "terminatingReplicas": 2}}
    new = {"spec": {"replicas": 1}, "status": {}}
    silent = {"spec": {"replicas": 1}, "status": {"observedGeneration": 1}}
    found = deployment(2)
    assert status.counters(found, None, [counted, new], LIMITS, NOW)["terminatingReplicas"] == 2
    assert "terminatingReplicas" not in status.counters(found, None, [counted, silent], LIMITS, NOW)


def test_the_name_of_a_set_stays_a_name() -> None:
    long = deployment(1)
    long["metadata"] |= {"name": "w" * 253, "uid": "d"}
    made = revisions.build_new(long, 1, 1, LIMITS)
    assert len(name(made)) == 253
    assert name(made).endswith("w-" + labels(made)[revisions.HASH_LABEL])


async def test_noting_the_revision_is_no_new_generation() -> None:
    async with running() as cluster:
        await cluster.api.create(DEPLOYMENTS, deployment(2))
        await cluster.settle(10)
        found = await cluster.deployment()
        assert annotations(found)[revisions.REVISION] == "1"
        assert found["metadata"]["generation"] == found["status"]["observedGeneration"]
        patches = [call for call in cluster.api.calls if call[0] == "patch" and "deployments" in str(call)]
        assert not patches


async def test_an_undo_by_annotation_is_carried_out() -> None:
    async with running() as cluster:
        await cluster.api.create(DEPLOYMENTS, deployment(2))
        await cluster.settle(10)
        await cluster.set_image("nginx:2")
        await cluster.settle(30)
        await cluster.change({"metadata": {"annotations": {revisions.ROLLBACK: "1"}}})
        await cluster.settle(30)
        assert cluster.images() == ["nginx:1"] * 2
        found = await cluster.deployment()
        assert annotations(found)[revisions.REVISION] == "3"
        assert revisions.ROLLBACK not in annotations(found)
        assert len(cluster.api.objects(REPLICASETS)) == 2
        await cluster.settle(10)
        assert "DeploymentRollback" in {event["reason"] for event in cluster.api.objects(EVENTS)}
