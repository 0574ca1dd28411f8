"""Metadata, quotas, limits, volumes, claims and nodes: what upstream refuses, where, and in which words."""

from copy import deepcopy

import pytest

from orca.api import builtin, metadata, strategy
from tests.unit.api.validation.objects import changed, made, refused


def owner(**fields):
    return {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", **fields}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"finalizers": ["orphan", "foregroundDeletion"]},
         ['metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: '
          "finalizer orphan and foregroundDeletion cannot be both set"]),
        ({"finalizers": ["a.b/c", "plain"]},
         ['metadata.finalizers[1]: Invalid value: "plain": '
          "name is neither a standard finalizer name nor is it fully qualified"]),
        ({"ownerReferences": [owner(uid="")]},
         ['metadata.ownerReferences.uid: Invalid value: "": must not be empty']),
        ({"ownerReferences": [owner(controller=True), owner(controller=True, name="q", kind="Job")]}, None),
    ],
)  # fmt: skip
def test_metadata(fields, expected):
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "d", **fields}}
    found = [str(error) for error in metadata.validate(builtin.PODS, obj)]
    if expected is None:
        assert len(found) == 1
        assert found[0].endswith(
            'Only one reference can have Controller set to true. Found "true" in references for Pod/p and Job/q'
        )
    else:
        assert found == expected


def quota(hard=None, **spec):
    return {"spec": {"hard": hard or {"pods": "1"}, **spec}}


def selecting(**rule):
    return quota(scopeSelector={"matchExpressions": [rule]})


X = "spec.scopeSelector.matchExpressions"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (quota({"requests.example.com/gpu": "1", "count/jobs.batch": "3", "requests.hugepages-2Mi": "2Mi"}), []),
        (quota({"storage": "1"}),
         ['spec.hard[storage]: Invalid value: "storage": must be a standard resource for quota']),
        (quota({"nonsense": "1"}),
         ['spec.hard[nonsense]: Invalid value: "nonsense": must be a standard resource type or fully qualified',
          'spec.hard[nonsense]: Invalid value: "nonsense": must be a standard resource for quota']),
        (quota({"pods": "500m"}), ['spec.hard[pods]: Invalid value: "500m": must be an integer']),
        (quota({"requests.cpu": "1"}, scopes=["BestEffort"]),
         ['spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource']),
        (quota(scopes=["Terminating", "NotTerminating"]),
         ['spec.scopes: Invalid value: ["Terminating","NotTerminating"]: conflicting scopes']),
        (selecting(scopeName="PriorityClass", operator="In"),
         [f"{X}.values: Required value: "
          "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"]),
        (selecting(scopeName="PriorityClass", operator="Exists", values=["a"]),
         [f'{X}.values: Invalid value: ["a"]: '
          "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"]),
        (selecting(scopeName="Odd", operator="Exists"), None),
        (selecting(scopeName="Terminating", operator="DoesNotExist"),
         [f'{X}.operator: Invalid value: "DoesNotExist": must be \'Exists\' when scope is any of '
          "ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
          "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"]),
    ],
)  # fmt: skip
def test_quotas(body, expected):
    found = refused(builtin.RESOURCEQUOTAS, body)
    if expected is None:
        assert found[0] == f'{X}.scopeName: Invalid value: "Odd": unsupported scope'
    else:
        assert found == expected


def limits(kind="Container", **fields):
    return {"spec": {"limits": [{"type": kind, **fields}]}}


L = "spec.limits[0]"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (limits("Odd"), [f'{L}.type: Invalid value: "Odd": must be a standard limit type or fully qualified']),
        (limits("PersistentVolumeClaim"),
         [f"{L}.limits: Required value: "
          "either minimum or maximum storage value is required, but neither was provided"]),
        (limits(max={"storage": "1"}), None),
        (limits(min={"cpu": "2"}, max={"cpu": "1"}, default={"cpu": "2"}, defaultRequest={"cpu": "2"}),
         [f'{L}.min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
          f'{L}.defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than max value 1',
          f'{L}.default[cpu]: Invalid value: "1": default value 2 is greater than max value 1']),
        (limits(default={"cpu": "1"}, defaultRequest={"cpu": "2"}, min={"cpu": "1"}, max={"cpu": "2"}),
         [f'{L}.defaultRequest[cpu]: Invalid value: "2": '
          "default request value 2 is greater than default limit value 1"]),
        (limits(min={"cpu": "1"}, max={"cpu": "2"}, maxLimitRequestRatio={"cpu": "3"}),
         [f'{L}.maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000']),
    ],
)  # fmt: skip
def test_limits(body, expected):
    found = refused(builtin.LIMITRANGES, body)
    if expected is None:
        assert f'{L}.max[storage]: Invalid value: "storage": must be a standard resource for containers' in found
    else:
        assert found == expected


def claim(**spec):
    base = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"spec": {**base, **spec}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (claim(accessModes=[]), ["spec.accessModes: Required value: at least 1 access mode is required"]),
        (claim(accessModes=["ReadWriteOnce", "ReadWriteOncePod"]),
         ["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"]),
        (claim(resources={"requests": {"storage": "0"}}),
         ['spec.resources[storage]: Invalid value: "0": must be greater than zero']),
        (claim(dataSource={"kind": "Snapshot", "name": "s"}),
         ['spec.dataSource: Invalid value: "Snapshot": '
          "must be 'PersistentVolumeClaim' when referencing the default apiGroup"]),
    ],
)  # fmt: skip
def test_claims(body, expected):
    found = refused(builtin.PERSISTENTVOLUMECLAIMS, body)
    assert found[: len(expected)] == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("2Gi", []),
        ("1Gi", ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]),
    ],
)
def test_a_claim_may_take_back_a_growth_that_failed(size, expected):
    old = made(builtin.PERSISTENTVOLUMECLAIMS, claim(resources={"requests": {"storage": "3Gi"}}))
    old["status"] = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
    new = deepcopy(old)
    new["spec"]["resources"]["requests"]["storage"] = size
    found = strategy.validate_update(builtin.PERSISTENTVOLUMECLAIMS, new, old, "")
    assert [str(error) for error in found] == expected


def volume(**spec):
    return {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **spec}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (volume(hostPath={"path": "/a"}), []),
        (volume(), ["spec: Required value: must specify a volume type"]),
        (volume(local={"path": "/a"}), ["spec.nodeAffinity: Required value: Local volume requires node affinity"]),
        (volume(hostPath={"path": "/"}, persistentVolumeReclaimPolicy="Recycle"),
         ["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"]),
        (volume(csi={"driver": "d"}), ["spec.csi.volumeHandle: Required value"]),
        (volume(csi={"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "s"}}),
         ["spec.csi.nodePublishSecretRef.namespace: Required value"]),
        (volume(hostPath={"path": "/a"}, volumeAttributesClassName=""),
         ["spec.volumeAttributesClassName: Required value: an empty string is disallowed",
          "spec.csi: Required value: has to be specified when using volumeAttributesClassName"]),
        (volume(iscsi={"targetPortal": "t", "iqn": "odd"}),
         ['spec.iscsi.iqn: Invalid value: "odd": must be valid format']),
        (volume(hostPath={"path": "/a"}, nfs={"server": "s", "path": "/p"}),
         ["spec.nfs: Forbidden: may not specify more than 1 volume type"]),
    ],
)  # fmt: skip
def test_persistent_volumes(body, expected):
    assert refused(builtin.PERSISTENTVOLUMES, body) == expected


def test_where_data_is_stays():
    def move(obj):
        obj["spec"]["hostPath"]["path"] = "/b"

    found = changed(builtin.PERSISTENTVOLUMES, volume(hostPath={"path": "/a"}), move)
    assert found == [
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n"
        '-spec.hostPath.path: "/a"\n+spec.hostPath.path: "/b"\n'
    ]


def endpoints(address):
    return {"addressType": "FQDN", "endpoints": [{"addresses": [address]}], "ports": []}


A = "endpoints[0].addresses[0]"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("a.example.com.", []),
        ("", [f"{A}: Required value"]),
        ("host", [f'{A}: Invalid value: "host": should be a domain with at least two segments separated by dots']),
    ],
)
def test_domains_of_endpoint_slices(address, expected):
    assert refused(builtin.ENDPOINTSLICES, endpoints(address)) == expected


def test_nameless_subjects_are_refused_twice():
    group = "rbac.authorization.k8s.io"
    body = {
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": ""}],
    }
    assert refused(builtin.CLUSTERROLEBINDINGS, body) == [
        "subjects[0].name: Required value",
        'subjects[0].name: Invalid value: "": user name cannot be empty',
    ]
