"""Claims and volumes find each other, are made, grow and are given back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import EVENTS, NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES
from orca.api.finalizers import VOLUME_CONTENT, VOLUME_PROTECTION
from orca.api.objects import Obj, finalizers
from orca.api.volumes import LOCAL_PATH, NFS_SUBDIR, PROVISIONED_BY, RECLAIM_ON, best_match, refers_to
from orca.controllers.persistentvolume.provisioning import ProvisioningError, provision
from orca.controllers.persistentvolume.volumes import choose_host
from tests.unit.controllers.support import Cluster, pod, running


def volume(name: str = "pv", size: str = "1Gi", *modes: str, **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": list(modes) or ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "nfs": {"server": "192.0.2.1", "path": "/"},
            **spec,
        },
        "status": {"phase": "Pending"},
    }


def claim(name: str = "data", size: str = "1Gi", *modes: str, **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
        "spec": {
            "accessModes": list(modes) or ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            "storageClassName": "",
            **spec,
        },
        "status": {"phase": "Pending"},
    }


def storage_class(name: str = "local-path", provisioner: str = LOCAL_PATH, **fields: Any) -> Obj:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": provisioner,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        **fields,
    }


def node(name: str = "host-1") -> Obj:
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"conditions": [ready]},
    }


async def of(cluster: Cluster, name: str = "data") -> Obj:
    return await cluster.api.get(PERSISTENTVOLUMECLAIMS, name, "default")


async def pv(cluster: Cluster, name: str = "pv") -> Obj:
    return await cluster.api.get(PERSISTENTVOLUMES, name)


async def test_a_claim_gets_the_smallest_volume_that_serves() -> None:
    async with running(host=False) as cluster:
        for name, size in (("large", "10Gi"), ("fits", "2Gi"), ("small", "500Mi")):
            cluster.api.seed(PERSISTENTVOLUMES, volume(name, size))
        await cluster.settle(1)
        assert (await pv(cluster, "fits"))["status"]["phase"] == "Available"
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim())
        await cluster.settle(1)
        found = await of(cluster)
        assert found["spec"]["volumeName"] == "fits"
        assert found["status"] == {
            "phase": "Bound",
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "2Gi"},
        }
        assert found["metadata"]["annotations"] == {
            "pv.kubernetes.io/bind-completed": "yes",
            "pv.kubernetes.io/bound-by-controller": "yes",
        }
        bound = await pv(cluster, "fits")
        assert bound["status"]["phase"] == "Bound"
        assert bound["spec"]["claimRef"]["uid"] == "uid-data"


async def test_a_volume_that_comes_later_is_taken_by_the_claim_that_waits() -> None:
    async with running(host=False) as cluster:
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim())
        await cluster.settle(1)
        assert (await of(cluster))["status"]["phase"] == "Pending"
        cluster.api.seed(PERSISTENTVOLUMES, volume())
        await cluster.settle(1)
        assert (await of(cluster))["status"]["phase"] == "Bound"


async def test_volumes_are_kept_released_when_their_claim_goes_and_bound_to_nobody_else() -> None:
    async with running(host=False) as cluster:
        cluster.api.seed(PERSISTENTVOLUMES, volume())
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim())
        await cluster.settle(1)
        await cluster.api.delete(PERSISTENTVOLUMECLAIMS, "data", "default")
        await cluster.settle(1)
        released = await pv(cluster)
        assert released["status"]["phase"] == "Released"
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim("other"))
        await cluster.settle(20)
        assert (await of(cluster, "other"))["status"]["phase"] == "Pending"
        await cluster.api.patch(PERSISTENTVOLUMES, "pv", {"spec": {"claimRef": None}})
        await cluster.settle(1)
        assert (await of(cluster, "other"))["spec"]["volumeName"] == "pv"


async def test_a_volume_set_aside_by_name_waits_for_its_claim() -> None:
    async with running(host=False) as cluster:
        mine = volume(claimRef={"namespace": "default", "name": "mine"})
        cluster.api.seed(PERSISTENTVOLUMES, mine)
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim())
        await cluster.settle(1)
        assert (await of(cluster))["status"]["phase"] == "Pending"
        assert (await pv(cluster))["status"]["phase"] == "Available"
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim("mine"))
        await cluster.settle(1)
        assert (await of(cluster, "mine"))["status"]["phase"] == "Bound"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"capacity": {"storage": "1Mi"}}, "requested PV is too small"),
        ({"storageClassName": "x"}, "storageClassName does not match"),
        ({"volumeMode": "Block"}, "incompatible volumeMode"),
        ({"accessModes": ["ReadOnlyMany"]}, "incompatible accessMode"),
        ({"volumeAttributesClassName": "fast"}, "volumeAttributesClassName does not match"),
    ],
)
async def test_a_volume_asked_for_by_name_must_serve(change: Obj, why: str) -> None:
    async with running(host=False) as cluster:
        made = volume()
        made["spec"] |= change
        cluster.api.seed(PERSISTENTVOLUMES, made)
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim(volumeName="pv"))
        await cluster.settle(2)
        assert (await of(cluster))["status"]["phase"] == "Pending"
        told = [one["message"] for one in cluster.api.objects(EVENTS) if one["reason"] == "VolumeMismatch"]
        assert told == [f'Cannot bind to requested volume "pv": {why}']


async def test_a_bound_claim_without_its_volume_is_lost() -> None:
    async with running(host=False) as cluster:
        cluster.api.seed(PERSISTENTVOLUMES, volume())
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim())
        await cluster.settle(1)
        await cluster.api.patch(PERSISTENTVOLUMES, "pv", {"metadata": {"finalizers": None}})
        await cluster.api.delete(PERSISTENTVOLUMES, "pv")
        await cluster.settle(1)
        assert (await of(cluster))["status"]["phase"] == "Lost"


async def test_a_directory_of_a_host_is_made_grown_and_handed_back_to_its_host() -> None:
    async with running(host=False) as cluster:
        cluster.api.seed(NODES, node())
        cluster.api.seed(STORAGECLASSES, storage_class(allowVolumeExpansion=True))
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim(storageClassName="local-path"))
        await cluster.settle(1)
        found = await of(cluster)
        assert found["status"]["phase"] == "Bound"
        made = await pv(cluster, "pvc-uid-data")
        assert made["spec"]["local"]["path"] == "/var/lib/orca/volumes/pvc-uid-data_default_data"
        (term,) = made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        assert term["matchExpressions"][0]["values"] == ["host-1"]
        await cluster.api.patch(
            PERSISTENTVOLUMECLAIMS, "data", {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}, "default"
        )
        await cluster.settle(1)
        assert (await of(cluster))["status"]["capacity"] == {"storage": "3Gi"}
        await cluster.api.delete(PERSISTENTVOLUMECLAIMS, "data", "default")
        await cluster.settle(1)
        released = await pv(cluster, "pvc-uid-data")
        assert released["status"]["phase"] == "Released"
        assert released["metadata"]["labels"][RECLAIM_ON] == "host-1"


async def test_volumes_of_others_grow_by_others() -> None:
    async with running(host=False) as cluster:
        cluster.api.seed(PERSISTENTVOLUMES, volume())
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim())
        await cluster.settle(1)
        larger = {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
        await cluster.api.patch(PERSISTENTVOLUMECLAIMS, "data", larger, "default")
        await cluster.settle(1)
        assert (await of(cluster))["status"]["capacity"] == {"storage": "1Gi"}
        told = [one["message"] for one in cluster.api.objects(EVENTS) if one["reason"] == "ExternalExpanding"]
        assert told == ["waiting for an external controller to expand this PVC"]


async def test_what_was_on_a_host_that_is_gone_for_good_goes_with_it() -> None:
    async with running(host=False) as cluster:
        cluster.api.seed(NODES, node())
        cluster.api.seed(STORAGECLASSES, storage_class())
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim(storageClassName="local-path"))
        await cluster.settle(1)
        await cluster.api.delete(NODES, "host-1")
        await cluster.api.delete(PERSISTENTVOLUMECLAIMS, "data", "default")
        await cluster.settle(20)
        assert cluster.api.objects(PERSISTENTVOLUMES) == []


async def test_a_volume_that_is_deleted_first_waits_until_it_is_empty() -> None:
    async with running(host=False) as cluster:
        cluster.api.seed(NODES, node())
        cluster.api.seed(STORAGECLASSES, storage_class())
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim(storageClassName="local-path"))
        await cluster.settle(1)
        made = "pvc-uid-data"
        assert VOLUME_CONTENT in finalizers(await pv(cluster, made))
        marks = (await of(cluster))["metadata"]["annotations"]
        assert {mark for mark, by in marks.items() if by == "orca.io/local-path"} == {
            "volume.kubernetes.io/storage-provisioner",
            "volume.beta.kubernetes.io/storage-provisioner",
        }
        await cluster.api.delete(PERSISTENTVOLUMES, made)
        await cluster.settle(1)
        await cluster.api.delete(PERSISTENTVOLUMECLAIMS, "data", "default")
        await cluster.settle(1)
        left = await pv(cluster, made)
        assert (finalizers(left), left["status"]["phase"]) == ([VOLUME_CONTENT], "Released")
        assert left["metadata"]["labels"][RECLAIM_ON] == "host-1"
        # Who decides to keep what is on it has no volume any more, but the directory.
        await cluster.api.patch(PERSISTENTVOLUMES, made, {"spec": {"persistentVolumeReclaimPolicy": "Retain"}})
        await cluster.settle(1)
        assert cluster.api.objects(PERSISTENTVOLUMES) == []


async def test_a_volume_that_was_taken_from_its_claim_by_hand_can_be_deleted() -> None:
    async with running(host=False) as cluster:
        kept = volume(persistentVolumeReclaimPolicy="Delete")
        kept["metadata"]["annotations"] = {PROVISIONED_BY: LOCAL_PATH}
        cluster.api.seed(PERSISTENTVOLUMES, kept)
        await cluster.settle(1)
        found = await pv(cluster, "pv")
        assert VOLUME_CONTENT in finalizers(found)
        assert found["status"]["phase"] == "Available"
        await cluster.api.delete(PERSISTENTVOLUMES, "pv")
        await cluster.settle(1)
        assert cluster.api.objects(PERSISTENTVOLUMES) == []
        # Also before it was seen that its claim was taken away.
        kept["metadata"]["finalizers"] = [VOLUME_CONTENT, VOLUME_PROTECTION]
        cluster.api.seed(PERSISTENTVOLUMES, {**kept, "status": {"phase": "Bound"}})
        await cluster.api.delete(PERSISTENTVOLUMES, "pv")
        await cluster.settle(1)
        assert cluster.api.objects(PERSISTENTVOLUMES) == []
        # Of a volume that somebody else made, with a finalizer of the same name, somebody else lets go.
        others = volume("others", persistentVolumeReclaimPolicy="Delete")
        others["metadata"] |= {"annotations": {PROVISIONED_BY: "example.com/disks"}, "finalizers": [VOLUME_CONTENT]}
        cluster.api.seed(PERSISTENTVOLUMES, others)
        await cluster.settle(1)
        await cluster.api.delete(PERSISTENTVOLUMES, "others")
        await cluster.settle(1)
        assert finalizers(await pv(cluster, "others")) == [VOLUME_CONTENT]


def test_volumes_are_removed_by_all_hosts_in_turn() -> None:
    hosts = ["a", "b", "c"]
    made = [{"metadata": {"name": f"pv-{number}", "uid": f"uid-{number}"}} for number in range(60)]
    assert {choose_host(one, hosts, "", late=False) for one in made} == set(hosts)
    assert choose_host(made[0], hosts, "b", late=False) == "b"
    assert choose_host(made[0], hosts, "c", late=True) == "a"
    assert choose_host(made[0], hosts, "gone", late=False) in hosts
    assert choose_host(made[0], [], "a", late=True) == ""


async def test_a_delayed_claim_waits_for_the_schedulers_choice() -> None:
    async with running(host=False) as cluster:
        cluster.api.seed(NODES, node())
        cluster.api.seed(NODES, node("host-2"))
        cluster.api.seed(STORAGECLASSES, storage_class(volumeBindingMode="WaitForFirstConsumer"))
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim(storageClassName="local-path"))
        await cluster.settle(1)
        assert (await of(cluster))["status"]["phase"] == "Pending"
        assert "WaitForFirstConsumer" in {one["reason"] for one in cluster.api.objects(EVENTS)}
        chosen = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "host-2"}}}
        await cluster.api.patch(PERSISTENTVOLUMECLAIMS, "data", chosen, "default")
        await cluster.settle(1)
        made = await pv(cluster, "pvc-uid-data")
        assert "host-2" in str(made["spec"]["nodeAffinity"])


async def test_a_choice_of_a_node_that_is_gone_is_taken_back() -> None:
    async with running(host=False) as cluster:
        cluster.api.seed(NODES, node())
        cluster.api.seed(STORAGECLASSES, storage_class(volumeBindingMode="WaitForFirstConsumer"))
        chosen = claim(storageClassName="local-path")
        chosen["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": "gone"}
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, chosen)
        await cluster.settle(1)
        assert "volume.kubernetes.io/selected-node" not in (await of(cluster))["metadata"].get("annotations", {})
        assert "ProvisioningFailed" in {one["reason"] for one in cluster.api.objects(EVENTS)}


async def test_only_the_server_says_that_a_claim_is_gone() -> None:
    """The watch of claims lags behind that of volumes."""
    async with running(host=False) as cluster:
        await cluster.settle(1)
        watches = cluster.api._of(PERSISTENTVOLUMECLAIMS).watches
        assert watches
        watches.clear()
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim(volumeName="pv"))
        reference = {"namespace": "default", "name": "data", "uid": "uid-data"}
        cluster.api.seed(PERSISTENTVOLUMES, volume(claimRef=reference))
        cluster.api.seed(PERSISTENTVOLUMES, volume("old", claimRef={**reference, "uid": "uid-before"}))
        await cluster.settle(1)
        assert (await pv(cluster))["status"]["phase"] == "Bound"
        assert (await pv(cluster, "old"))["status"]["phase"] == "Released"


async def test_other_provisioners_are_told_and_the_default_class_comes_late() -> None:
    async with running(host=False) as cluster:
        waiting = claim()
        del waiting["spec"]["storageClassName"]
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, waiting)
        await cluster.settle(1)
        default = storage_class("fast", "example.com/disks")
        default["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
        cluster.api.seed(STORAGECLASSES, default)
        await cluster.settle(1)
        found = await of(cluster)
        assert found["spec"]["storageClassName"] == "fast"
        assert found["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] == "example.com/disks"
        assert found["status"]["phase"] == "Pending"
        # The provisioner makes a volume for it.
        reference = {"namespace": "default", "name": "data", "uid": "uid-data"}
        cluster.api.seed(PERSISTENTVOLUMES, volume(storageClassName="fast", claimRef=reference))
        await cluster.settle(1)
        assert (await of(cluster))["status"]["phase"] == "Bound"


async def test_a_volume_of_a_pods_own_comes_and_goes_with_it() -> None:
    async with running(host=False) as cluster:
        cluster.api.seed(PERSISTENTVOLUMES, volume())
        own = pod("p", node="")
        template = {"metadata": {"labels": {"of": "p"}}, "spec": claim()["spec"]}
        own["spec"]["volumes"] = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
        cluster.api.seed(PODS, own)
        await cluster.settle(1)
        made = await of(cluster, "p-scratch")
        assert made["metadata"]["labels"] == {"of": "p"}
        assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-p"
        assert made["status"]["phase"] == "Bound"
        await cluster.api.delete(PODS, "p", "default", grace_seconds=0)
        await cluster.settle(5)
        assert cluster.api.objects(PERSISTENTVOLUMECLAIMS) == []


async def test_a_claim_of_somebody_else_is_not_taken_for_a_pods_own() -> None:
    async with running(host=False) as cluster:
        cluster.api.seed(PERSISTENTVOLUMECLAIMS, claim("p-scratch"))
        own = pod("p", node="")
        own["spec"]["volumes"] = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim()["spec"]}}}]
        cluster.api.seed(PODS, own)
        await cluster.settle(2)
        told = {one["message"] for one in cluster.api.objects(EVENTS)}
        assert 'PVC "p-scratch" was not created for pod "default/p" (pod is not owner)' in told
        await cluster.api.delete(PERSISTENTVOLUMECLAIMS, "p-scratch", "default")
        await cluster.settle(60)
        assert (await of(cluster, "p-scratch"))["metadata"]["ownerReferences"][0]["uid"] == "uid-p"


NFS = {"server": "nfs.example", "path": "/exports"}


def test_a_subdirectory_of_an_export_has_its_claims_name() -> None:
    made = provision(claim("c", storageClassName="nfs"), storage_class("nfs", NFS_SUBDIR, parameters=NFS), None)
    assert made["spec"]["nfs"] == {"server": "nfs.example", "path": "/exports/default-c-pvc-uid-c"}
    read_only = storage_class("nfs", NFS_SUBDIR, parameters={**NFS, "readOnly": "true"})
    assert provision(claim("c"), read_only, None)["spec"]["nfs"]["readOnly"] is True
    patterned = storage_class(
        "nfs", NFS_SUBDIR, parameters={**NFS, "pathPattern": "${.PVC.namespace}/${.PVC.labels.app}"}
    )
    labelled = claim("c")
    labelled["metadata"]["labels"] = {"app": "web"}
    assert provision(labelled, patterned, None)["spec"]["nfs"]["path"] == "/exports/default/web"


@pytest.mark.parametrize(
    ("of_class", "of_claim", "text"),
    [
        ({"provisioner": NFS_SUBDIR}, {}, "parameters.server"),
        ({"provisioner": NFS_SUBDIR, "parameters": {**NFS, "path": "../x"}}, {}, "parameters.path"),
        (
            {"provisioner": NFS_SUBDIR, "parameters": {**NFS, "pathPattern": "../${.PVC.name}"}},
            {},
            "parameters.pathPattern",
        ),
        ({"provisioner": NFS_SUBDIR, "parameters": {**NFS, "onDelete": "burn"}}, {}, "parameters.onDelete"),
        ({"provisioner": NFS_SUBDIR, "parameters": {**NFS, "size": "1"}}, {}, "parameters.size"),
        ({"provisioner": NFS_SUBDIR, "parameters": {**NFS, "readOnly": "maybe"}}, {}, "parameters.readOnly"),
        ({"provisioner": LOCAL_PATH, "mountOptions": ["noatime"]}, {}, "Mount options are not supported"),
        ({}, {"accessModes": ["ReadWriteMany"]}, "spec.accessModes"),
        ({}, {"volumeMode": "Block"}, "block volume"),
        ({}, {"selector": {"matchLabels": {"a": "b"}}}, "Selector"),
        ({}, {"dataSource": {"kind": "PersistentVolumeClaim", "name": "other"}}, "Only CSI plugin can provision"),
        ({}, {"dataSourceRef": {"apiGroup": "a.b", "kind": "Book", "name": "x"}}, "Only CSI plugin can provision"),
    ],
)
def test_what_cannot_be_made_is_named(of_class: Obj, of_claim: Obj, text: str) -> None:
    with pytest.raises(ProvisioningError, match=text):
        provision(claim(**of_claim), {**storage_class(), **of_class}, node())


sizes = st.sampled_from(["1Gi", "2Gi", "5Gi"])
modes = st.lists(st.sampled_from(["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]), min_size=1, unique=True)
pvs = st.builds(
    lambda n, size, have, of, phase: {
        **volume(f"pv-{n}", size, *have, storageClassName=of),
        "status": {"phase": phase},
    },
    st.integers(0, 50),
    sizes,
    modes,
    st.sampled_from(["", "a"]),
    st.sampled_from(["Available", "Released", "Bound"]),
)


@given(volumes=st.lists(pvs, max_size=8), size=sizes, wanted=modes, of=st.sampled_from(["", "a"]))
def test_a_match_serves_and_nothing_smaller_would(volumes: list[Obj], size: str, wanted: list[str], of: str) -> None:
    asked = claim("c", size, *wanted, storageClassName=of)
    serve = [
        one
        for one in volumes
        if int(one["spec"]["capacity"]["storage"][0]) >= int(size[0])
        and set(wanted) <= set(one["spec"]["accessModes"])
        and one["spec"]["storageClassName"] == of
        and one["status"]["phase"] == "Available"
    ]
    found = best_match(asked, volumes)
    assert (found is None) == (not serve)
    if found is not None:
        assert found in serve
        alike = [one for one in serve if len(one["spec"]["accessModes"]) == len(found["spec"]["accessModes"])]
        assert found["spec"]["capacity"]["storage"] == min(one["spec"]["capacity"]["storage"] for one in alike)
    own = volume("own", "9Gi", *wanted, claimRef={"namespace": "default", "name": "c"})
    assert refers_to(own, asked)
    assert best_match(asked, [*volumes, own]) is own
