"""Pods and their volumes: where they are, whose they are, and what is made for a pod that waits for one."""

from __future__ import annotations

import asyncio
from typing import Any

from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES
from orca.api.objects import Obj
from orca.controllers import ControllersConfig, run_all
from orca.scheduler.snapshot import Snapshot
from orca.scheduler.volumes import zones_fit
from tests.unit.scheduler.test_scheduler import events, placed, running, setup
from tests.unit.scheduler.things import choose, cluster, fits, node, pod


def volume(name: str, *hosts: str, size: str = "1Gi", of: str = "late", **metadata: Any) -> Obj:
    spec: Obj = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": of}
    if hosts:
        expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": list(hosts)}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    return {"metadata": {"name": name, **metadata}, "spec": spec, "status": {"phase": "Available"}}


def claim(name: str = "data", *modes: str, size: str = "1Gi", of: str = "late", volume: str = "") -> Obj:
    spec: Obj = {
        "accessModes": list(modes) or ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
        "storageClassName": of,
    }
    if volume:
        spec["volumeName"] = volume
    phase = "Bound" if volume else "Pending"
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": spec,
        "status": {"phase": phase},
    }


def late(provisioner: str = "kubernetes.io/no-provisioner", **fields: Any) -> Obj:
    return {
        "metadata": {"name": "late"},
        "provisioner": provisioner,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        **fields,
    }


def using(*claims: str, name: str = "p", **spec: Any) -> Obj:
    volumes = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in claims]
    return pod(name, volumes=volumes, **spec)


def storage(*objects: Obj) -> Snapshot:
    snapshot = cluster(node("a"), node("b"), node("c"))
    for one in objects:
        if "provisioner" in one:
            snapshot.storage.set_class(one)
        elif "capacity" in one["spec"]:
            snapshot.storage.set_volume(one)
        else:
            snapshot.storage.set_claim(one)
    return snapshot


def test_a_pod_goes_where_its_volume_is() -> None:
    snapshot = storage(volume("v", "b"), claim(volume="v"))
    assert fits(snapshot, using("data")) == {"b"}
    snapshot = storage(volume("v", "b"), volume("w", "c"), claim(volume="v"), claim("more", volume="w"))
    message = choose(snapshot, using("data", "more")).message()
    assert "3 node(s) didn't match PersistentVolume's node affinity" in message


def test_a_claim_that_waits_needs_a_volume_of_the_node() -> None:
    snapshot = storage(late(), claim(), volume("v", "a"), volume("w", "b", size="1Mi"), volume("x", of="other"))
    assert fits(snapshot, using("data")) == {"a"}
    two = storage(late(), claim(), claim("more"), volume("v", "a"), volume("w", "b"), volume("x", "b"))
    assert fits(two, using("data", "more")) == {"b"}, "each claim needs a volume of its own"


def test_or_one_that_can_be_made_there() -> None:
    assert fits(storage(late("example.com/p"), claim()), using("data")) == {"a", "b", "c"}
    terms = [{"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": ["c"]}]}]
    assert fits(storage(late("example.com/p", allowedTopologies=terms), claim()), using("data")) == {"c"}
    chosen = claim()
    chosen["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": "b"}
    assert fits(storage(late("example.com/p"), chosen), using("data")) == {"b"}


def test_what_was_promised_to_one_is_not_given_to_another() -> None:
    snapshot = storage(late(), claim(), claim("more"), volume("v", "a"))
    plan = snapshot.storage.plan([snapshot.storage.claims["default/data"]], "a", {"kubernetes.io/hostname": "a"})
    assert plan is not None
    snapshot.storage.reserve(plan, "a")
    assert fits(snapshot, using("more")) == set()
    assert fits(snapshot, using("data")) == {"a"}
    snapshot.storage.release(plan)
    assert fits(snapshot, using("more")) == {"a"}
    made = storage(late("example.com/p"), claim())
    plan = made.storage.plan([made.storage.claims["default/data"]], "b", {})
    assert plan is not None
    made.storage.reserve(plan, "b")
    assert fits(made, using("data", name="second")) == {"b"}, "both pods of one claim go where its volume will be"


def test_a_claim_of_one_pod_alone() -> None:
    snapshot = storage(claim("data", "ReadWriteOncePod", volume="v"), volume("v"))
    snapshot.place(using("data", name="first"), "a")
    assert fits(snapshot, using("data", name="second")) == set()
    assert "ReadWriteOncePod access mode" in choose(snapshot, using("data", name="second")).message()
    snapshot.remove("uid-default-first")
    assert fits(snapshot, using("data", name="second")) == {"a", "b", "c"}


def test_a_claim_that_no_node_helps() -> None:
    """It was lost, or goes by the name of one that is made for the pod and is somebody else's."""
    lost = claim(volume="v") | {"status": {"phase": "Lost"}}
    told = choose(storage(lost), using("data")).message()
    assert 'persistentvolumeclaim "data" bound to non-existent persistentvolume "v"' in told
    own = pod("p", volumes=[{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}])
    other = claim("p-data", volume="v")
    told = choose(storage(volume("v"), other), own).message()
    assert "PVC default/p-data was not created for pod default/p (pod is not owner)" in told
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": own["metadata"]["uid"], "controller": True}
    other["metadata"]["ownerReferences"] = [owner]
    assert fits(storage(volume("v"), other), own) == {"a", "b", "c"}


def test_zones_of_volumes() -> None:
    zone, old = "topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"
    assert zones_fit(volume("v", labels={zone: "x"}), {zone: "x"})
    assert not zones_fit(volume("v", labels={zone: "x"}), {zone: "y"})
    assert not zones_fit(volume("v", labels={zone: "x"}), {})
    assert zones_fit(volume("v", labels={old: "x__y"}), {zone: "y"})
    snapshot = cluster(node("a", labels={zone: "x"}), node("b", labels={zone: "y"}))
    snapshot.storage.set_volume(volume("v", labels={zone: "y"}))
    snapshot.storage.set_claim(claim(volume="v"))
    assert fits(snapshot, using("data")) == {"b"}


async def test_volumes_are_bound_before_the_pod() -> None:
    client, clock, scheduler = setup(node("a"), node("b"))
    client.seed(STORAGECLASSES, late())
    client.seed(PERSISTENTVOLUMES, volume("v", "b"))
    client.seed(PERSISTENTVOLUMECLAIMS, claim())
    async with running(scheduler, clock):
        await client.create(PODS, using("data"))
        await client.create(PODS, pod("other"))
        await clock.advance(1)
        assert placed(client)["p"] == "", "nobody has bound the claim yet"
        assert placed(client)["other"] != "", "others are not held up"
        reserved = (await client.get(PERSISTENTVOLUMES, "v"))["spec"]["claimRef"]
        assert (reserved["name"], reserved["uid"]) == ("data", "uid-data")
        await client.patch(PERSISTENTVOLUMECLAIMS, "data", {"spec": {"volumeName": "v"}}, "default")
        status = {"status": {"phase": "Bound"}}
        await client.patch(PERSISTENTVOLUMECLAIMS, "data", status, "default", subresource="status")
        await clock.advance(1)
        assert placed(client)["p"] == "b"


async def test_a_volume_that_never_comes_lets_the_pod_be_tried_again() -> None:
    client, clock, scheduler = setup(node("a"))
    client.seed(STORAGECLASSES, late("example.com/p"))
    client.seed(PERSISTENTVOLUMECLAIMS, claim())
    async with running(scheduler, clock):
        await client.create(PODS, using("data"))
        await clock.advance(1)
        found = await client.get(PERSISTENTVOLUMECLAIMS, "data", "default")
        assert found["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "a"
        await clock.advance(601)
        assert 'running PreBind plugin "VolumeBinding": timed out waiting for the condition' in events(
            client, "FailedScheduling"
        )
        assert len(scheduler.snapshot.placed) == 0 or placed(client)["p"] == ""


async def test_a_volume_that_cannot_be_made_lets_the_pod_be_tried_again_at_once() -> None:
    client, clock, scheduler = setup(node("a"))
    client.seed(STORAGECLASSES, late("example.com/p"))
    client.seed(PERSISTENTVOLUMECLAIMS, claim())
    async with running(scheduler, clock):
        await client.create(PODS, using("data"))
        await clock.advance(1)
        taken = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": None}}}
        await client.patch(PERSISTENTVOLUMECLAIMS, "data", taken, "default")
        await clock.advance(1)
        assert 'running PreBind plugin "VolumeBinding": provisioning failed for PVC "data"' in events(
            client, "FailedScheduling"
        )
        await clock.advance(15)
        found = await client.get(PERSISTENTVOLUMECLAIMS, "data", "default")
        assert found["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "a", "tried again"


async def test_a_pod_that_goes_meanwhile_frees_its_place() -> None:
    client, clock, scheduler = setup(node("a"))
    client.seed(STORAGECLASSES, late("example.com/p"))
    client.seed(PERSISTENTVOLUMECLAIMS, claim())
    async with running(scheduler, clock):
        await client.create(PODS, using("data", cpu="3"))
        await clock.advance(1)
        await client.delete(PODS, "p", "default", grace_seconds=0)
        await client.create(PODS, pod("next", cpu="3"))
        await clock.advance(2)
        assert placed(client) == {"next": "a"}
        assert scheduler.snapshot.storage.promised == {}


async def test_with_the_controllers_a_directory_is_made_where_the_pod_goes() -> None:
    well = node("b")
    well["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    client, clock, scheduler = setup(node("a", unschedulable=True), well)
    client.seed(STORAGECLASSES, late("orca.io/local-path"))
    client.seed(PERSISTENTVOLUMECLAIMS, claim())
    controllers = asyncio.create_task(run_all(client, clock=clock, config=ControllersConfig()))
    try:
        async with running(scheduler, clock):
            await client.create(PODS, using("data"))
            await clock.advance(5)
            await clock.settle(200)
            assert placed(client)["p"] == "b"
            (made,) = client.objects(PERSISTENTVOLUMES)
            assert "'b'" in str(made["spec"]["nodeAffinity"])
    finally:
        controllers.cancel()
        await asyncio.wait({controllers})
