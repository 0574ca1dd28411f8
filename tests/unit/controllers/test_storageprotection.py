"""Claims and volumes in use outlive their deletion."""

import pytest

from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, VOLUMEATTRIBUTESCLASSES
from orca.api.objects import Obj
from orca.controllers.storageprotection import (
    AttributesClassProtectionController,
    ClaimProtectionController,
    VolumeProtectionController,
    uses,
)
from tests.unit.controllers.support import pod, running_one

HELD = ["kubernetes.io/pvc-protection"]


def claim(name: str = "data", **metadata: object) -> Obj:
    return {"metadata": {"name": name, "namespace": "default", **metadata}, "spec": {}}


def with_claim(name: str = "p", *, ephemeral: bool = False, **fields: object) -> Obj:
    made = pod(name, **fields)  # type: ignore[arg-type]
    source = {"ephemeral": {}} if ephemeral else {"persistentVolumeClaim": {"claimName": "data"}}
    made["spec"]["volumes"] = [{"name": "v", **source}]
    return made


async def test_a_claim_waits_for_its_pod() -> None:
    async with running_one(ClaimProtectionController) as (cluster, _):
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim(finalizers=HELD))
        cluster.api.seed(PODS, with_claim(phase="Succeeded"))
        await cluster.settle(1)
        await cluster.api.delete(PERSISTENTVOLUMECLAIMS, "data", "default")
        await cluster.settle(1)
        (held,) = cluster.api.objects(PERSISTENTVOLUMECLAIMS)
        assert held["metadata"]["finalizers"] == HELD
        await cluster.api.delete(PODS, "p", "default", grace_seconds=0)
        await cluster.settle(1)
        assert cluster.api.objects(PERSISTENTVOLUMECLAIMS) == []


async def test_an_unused_claim_goes_at_once_and_an_old_one_gets_the_finalizer() -> None:
    async with running_one(ClaimProtectionController) as (cluster, _):
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim("old", finalizers=["example.com/mine"]))
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim(finalizers=HELD))
        cluster.api.seed(PODS, with_claim(node=""))
        await cluster.settle(1)
        found = {one["metadata"]["name"]: one["metadata"] for one in cluster.api.objects(PERSISTENTVOLUMECLAIMS)}
        assert found["old"]["finalizers"] == ["example.com/mine", *HELD]
        await cluster.api.delete(PERSISTENTVOLUMECLAIMS, "data", "default")
        await cluster.settle(1)
        assert [one["metadata"]["name"] for one in cluster.api.objects(PERSISTENTVOLUMECLAIMS)] == ["old"]


@pytest.mark.parametrize("phase", ["Bound", "Released", "Available", ""])
async def test_a_volume_waits_while_it_is_bound(phase: str) -> None:
    async with running_one(VolumeProtectionController) as (cluster, _):
        volume = {"metadata": {"name": "disk"}, "spec": {}, "status": {"phase": phase} if phase else {}}
        cluster.api.seed(PERSISTENTVOLUMES, volume)
        await cluster.settle(1)
        (held,) = cluster.api.objects(PERSISTENTVOLUMES)
        assert held["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
        await cluster.api.delete(PERSISTENTVOLUMES, "disk")
        await cluster.settle(1)
        assert len(cluster.api.objects(PERSISTENTVOLUMES)) == (phase == "Bound")
        if phase == "Bound":
            await cluster.api.patch(PERSISTENTVOLUMES, "disk", {"status": {"phase": "Released"}}, subresource="status")
            await cluster.settle(1)
            assert cluster.api.objects(PERSISTENTVOLUMES) == []


async def test_a_class_of_attributes_waits_for_claims_and_volumes() -> None:
    async with running_one(AttributesClassProtectionController) as (cluster, _):
        cluster.api.seed(VOLUMEATTRIBUTESCLASSES, {"metadata": {"name": "gold"}, "driverName": "example.com"})
        status = {"currentVolumeAttributesClassName": "gold"}
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, {**claim(), "status": status})
        volume = {"metadata": {"name": "pv"}, "spec": {"volumeAttributesClassName": "gold"}}
        cluster.api.seed(PERSISTENTVOLUMES, volume)
        await cluster.settle(1)
        await cluster.api.delete(VOLUMEATTRIBUTESCLASSES, "gold")
        await cluster.api.delete(PERSISTENTVOLUMES, "pv")
        await cluster.settle(1)
        (held,) = cluster.api.objects(VOLUMEATTRIBUTESCLASSES)
        assert held["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
        change = {"status": {"currentVolumeAttributesClassName": "silver"}}
        await cluster.api.patch(PERSISTENTVOLUMECLAIMS, "data", change, "default", subresource="status")
        await cluster.settle(1)
        assert cluster.api.objects(VOLUMEATTRIBUTESCLASSES) == []


def test_claims_of_ephemeral_volumes_belong_to_their_pod() -> None:
    user = with_claim(ephemeral=True)
    user["metadata"]["uid"] = "1"
    owned = [{"uid": "1", "controller": True, "kind": "Pod", "name": "p", "apiVersion": "v1"}]
    assert uses(user, claim("p-v", ownerReferences=owned))
    assert not uses(user, claim("p-v"))
    user["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}
    assert not uses(user, claim("p-v", ownerReferences=owned))
