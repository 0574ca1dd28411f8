"""What the other kinds are refused for, in upstream's words."""

import base64
from copy import deepcopy

import pytest

from orca.api import builtin, strategy
from orca.api.builtin import BUILTIN
from orca.api.validation.cron import schedule_error
from orca.api.validation.pods.env import ENV_PATHS, VOLUME_PATHS, field_ref

TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
SELECTOR = {"matchLabels": {"app": "a"}}


def born(resource, body):
    obj = {"apiVersion": resource.api_version, "kind": resource.kind, **deepcopy(body)}
    meta = {"name": "x", **({"namespace": "default"} if resource.namespaced else {}), **(obj.get("metadata") or {})}
    obj["metadata"] = meta
    strategy.apply_defaults(resource, obj)
    strategy.prepare_create(resource, obj)
    return obj


def refused(resource, body):
    return [str(error) for error in strategy.validate_create(resource, born(resource, body))]


def changed(resource, body, **spec):
    old = born(resource, body)
    new = deepcopy(old)
    new["spec"] = {**new["spec"], **spec}
    strategy.apply_defaults(resource, new)
    strategy.prepare_update(resource, new, old, "")
    return [str(error) for error in strategy.validate_update(resource, new, old)]


def workload(**spec):
    return {"spec": {"selector": SELECTOR, "template": TEMPLATE, **spec}}


SERVICE = {"spec": {"ports": [{"port": 80}], "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]}}
RULE = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
CLAIM = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
INGRESS_PATH = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}
JOB = {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}

FINE = [
    (builtin.DEPLOYMENTS, workload()),
    (builtin.REPLICASETS, workload()),
    (builtin.DAEMONSETS, workload()),
    (builtin.STATEFULSETS, workload(serviceName="s")),
    (builtin.JOBS, JOB),
    (builtin.CRONJOBS, {"spec": {"schedule": "*/5 * * * *", "jobTemplate": JOB}}),
    (builtin.SERVICES, SERVICE),
    (builtin.SERVICES, {"spec": {"type": "ExternalName", "externalName": "example.com"}}),
    (builtin.SERVICES, {"spec": {"clusterIP": "None", "clusterIPs": ["None"]}}),
    (builtin.CONFIGMAPS, {"data": {"a.b": "c"}}),
    (builtin.SECRETS, {"stringData": {"a": "b"}}),
    (builtin.NAMESPACES, {}),
    (builtin.NODES, {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}], "podCIDRs": ["10.244.1.0/24"]}}),
    (builtin.ENDPOINTSLICES, {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
    (builtin.ENDPOINTS, {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
    (builtin.PERSISTENTVOLUMECLAIMS, CLAIM),
    (builtin.PERSISTENTVOLUMES, {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                                          "hostPath": {"path": "/a"}}}),
    (builtin.INGRESSES, {"spec": {"rules": [{"http": {"paths": [INGRESS_PATH]}}]}}),
    (builtin.NETWORKPOLICIES, {"spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {
        "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]}}),
    (builtin.ROLES, {"rules": [RULE]}),
    (builtin.CLUSTERROLES, {"metadata": {"name": "system:a:b"}, "rules": [
        {"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]}),
    (builtin.ROLEBINDINGS, {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]}),
    (builtin.HORIZONTALPODAUTOSCALERS, {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"},
                                                 "maxReplicas": 3}}),
    (builtin.PODDISRUPTIONBUDGETS, {"spec": {"minAvailable": 1, "selector": SELECTOR}}),
    (builtin.LEASES, {"spec": {"holderIdentity": "h", "leaseDurationSeconds": 40}}),
    (builtin.STORAGECLASSES, {"provisioner": "kubernetes.io/no-provisioner"}),
    (builtin.PRIORITYCLASSES, {"value": 1000}),
    (builtin.PRIORITYCLASSES, {"metadata": {"name": "system-node-critical"}, "value": 2000001000}),
    (builtin.EVENTS, {"involvedObject": {"namespace": "default"}, "reason": "r"}),
    (builtin.RUNTIMECLASSES, {"handler": "runc"}),
    (builtin.IPADDRESSES, {"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "services",
                                                                                    "name": "s"}}}),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "body"), FINE, ids=lambda v: getattr(v, "kind", ""))
def test_sound_objects_are_accepted_and_may_be_written_again(resource, body):
    assert refused(resource, body) == []
    old = born(resource, body)
    new = deepcopy(old)
    strategy.apply_defaults(resource, new)
    strategy.prepare_update(resource, new, old, "")
    assert [str(error) for error in strategy.validate_update(resource, new, old)] == []


@pytest.mark.parametrize(
    ("resource", "body", "expected"),
    [
        (builtin.DEPLOYMENTS, workload(selector={"matchLabels": {"app": "b"}}),
         ['spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not match template `labels`']),
        (builtin.DEPLOYMENTS, {"spec": {"template": TEMPLATE}},
         ["spec.selector: Required value",
          'spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not match template `labels`']),
        (builtin.DEPLOYMENTS, workload(replicas=-1),
         ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
        (builtin.DEPLOYMENTS, workload(strategy={"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}),
         ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]),
        (builtin.DEPLOYMENTS, workload(strategy={"rollingUpdate": {"maxUnavailable": "150%"}}),
         ['spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%']),
        (builtin.DEPLOYMENTS, workload(template={**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}),
         ['spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"']),
        (builtin.DEPLOYMENTS, workload(progressDeadlineSeconds=5, minReadySeconds=5),
         ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"]),
        (builtin.JOBS, {"spec": {"template": TEMPLATE}},
         ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"']),
        (builtin.CRONJOBS, {"spec": {"schedule": "* * *", "jobTemplate": JOB}},
         ['spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]']),
        (builtin.CRONJOBS, {"spec": {"schedule": "* * * * *", "timeZone": "Mars/Base", "jobTemplate": JOB}},
         ['spec.timeZone: Invalid value: "Mars/Base": unknown time zone Mars/Base']),
        (builtin.SERVICES, {"spec": {}}, ["spec.ports: Required value"]),
        (builtin.SERVICES, {"spec": {"ports": [{"port": 1}, {"port": 2}]}},
         ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"]),
        (builtin.SERVICES, {"spec": {"ports": [{"port": 0}]}},
         ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
          "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive"]),
        (builtin.SERVICES, {"spec": {"ports": [{"port": 80, "nodePort": 30000}]}},
         ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]),
        (builtin.SERVICES, {"spec": {"type": "Magic", "ports": [{"port": 80}]}},
         ['spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", '
          '"NodePort"']),
        (builtin.SERVICES, {"spec": {"type": "ExternalName"}}, ["spec.externalName: Required value"]),
        (builtin.CONFIGMAPS, {"data": {"a b": ""}},
         ["data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or "
          "'.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"]),
        (builtin.CONFIGMAPS, {"data": {"a": "x" * 1048577}}, ["[]: Too long: may not be more than 1048576 bytes"]),
        (builtin.CONFIGMAPS, {"binaryData": {"a": base64.b64encode(b"x" * 1048577).decode()}},
         ["[]: Too long: may not be more than 1048576 bytes"]),
        (builtin.CONFIGMAPS, {"binaryData": {"a": base64.b64encode(b"x" * 1048576).decode()}}, []),
        (builtin.SECRETS, {"type": "kubernetes.io/dockercfg", "data": {".dockercfg": "MQ=="}},
         ['data[.dockercfg]: Invalid value: "<secret contents redacted>": '
          "json: cannot unmarshal number into Go value of type map[string]interface {}"]),
        (builtin.SECRETS, {"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}, ["data[tls.key]: Required value"]),
        (builtin.NODES, {"spec": {"taints": [{"key": "k", "effect": "Nope"}]}},
         ['metadata.taints[0].effect: Unsupported value: "Nope": supported values: "NoSchedule", "PreferNoSchedule", '
          '"NoExecute"']),
        (builtin.ENDPOINTSLICES, {"addressType": "IPv6", "endpoints": [{"addresses": ["10.0.0.1"]}]},
         ['endpoints[0].addresses: Invalid value: "10.0.0.1": must be an IPv6 address']),
        (builtin.ENDPOINTS, {"subsets": [{"addresses": [{"ip": "127.0.0.1"}]}]},
         ['subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range '
          "(127.0.0.0/8, ::1/128)"]),
        (builtin.PERSISTENTVOLUMECLAIMS, {"spec": {}},
         ["spec.accessModes: Required value: at least 1 access mode is required",
          "spec.resources[storage]: Required value"]),
        (builtin.INGRESSES, {"spec": {}},
         ["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"]),
        (builtin.INGRESSES, {"spec": {"rules": [{"http": {"paths": [{**INGRESS_PATH, "path": "x"}]}}]}},
         ['spec.rules[0].http.paths[0].path: Invalid value: "x": must be an absolute path']),
        (builtin.ROLES, {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]},
         ['rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs']),
        (builtin.CLUSTERROLEBINDINGS, {"roleRef": {"kind": "Role", "name": "r"}},
         ['roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"']),
        (builtin.HORIZONTALPODAUTOSCALERS, {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"},
                                                     "minReplicas": 3, "maxReplicas": 2}},
         ["spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`"]),
        (builtin.PRIORITYCLASSES, {"value": 2_000_000_000},
         ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]),
        (builtin.LEASES, {"spec": {"leaseDurationSeconds": 0}},
         ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]),
        (builtin.STORAGECLASSES, {}, ["provisioner: Required value"]),
        (builtin.NETWORKPOLICIES, {"spec": {"ingress": [{"from": [{}]}]}},
         ["spec.ingress[0].from[0]: Required value: must specify a peer"]),
    ],
)  # fmt: skip
def test_refusals(resource, body, expected):
    assert refused(resource, body) == expected


@pytest.mark.parametrize(
    ("resource", "body", "spec", "expected"),
    [
        (builtin.DEPLOYMENTS, workload(),
         {"selector": {"matchLabels": {"app": "b"}},
          "template": {**TEMPLATE, "metadata": {"labels": {"app": "b"}}}},
         ['spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable']),
        (builtin.SERVICES, SERVICE, {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"]},
         ['spec.clusterIPs[0]: Invalid value: ["10.96.0.10"]: may not change once set']),
        (builtin.SERVICES, SERVICE, {"clusterIP": "10.96.0.10"},
         ['spec.clusterIPs[0]: Invalid value: ["10.96.0.10"]: may not change once set']),
        (builtin.SERVICES, SERVICE, {"type": "NodePort"}, []),
        (builtin.SERVICES, {"spec": {**SERVICE["spec"], "type": "NodePort"}}, {"type": "ClusterIP"}, []),
        (builtin.SERVICES, {"spec": {**SERVICE["spec"], "type": "LoadBalancer"}}, {"type": "ClusterIP"}, []),
        (builtin.SERVICES, SERVICE, {"type": "ExternalName", "externalName": "example.com"}, []),
        (builtin.STATEFULSETS, workload(serviceName="s"), {"serviceName": "t"},
         ["spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
          "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are "
          "forbidden"]),
        (builtin.JOBS, JOB, {"completions": 5}, ["spec.completions: Invalid value: 5: field is immutable"]),
        (builtin.JOBS, JOB, {"parallelism": 5}, []),
        (builtin.NODES, {"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}},
         {"podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24"]},
         ['spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid']),
        (builtin.PERSISTENTVOLUMECLAIMS, {"spec": {**CLAIM["spec"], "storageClassName": "one"}},
         {"storageClassName": "other"},
         ["spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName "
          'for bound claims\n-spec.storageClassName: "one"\n+spec.storageClassName: "other"\n']),
        (builtin.PERSISTENTVOLUMECLAIMS, CLAIM, {"storageClassName": "named-later"}, []),
        (builtin.PERSISTENTVOLUMECLAIMS, CLAIM, {"volumeName": "pv"}, []),
    ],
)  # fmt: skip
def test_updates(resource, body, spec, expected):
    assert changed(resource, body, **spec) == expected


def test_immutable_config_stays():
    old = born(builtin.CONFIGMAPS, {"immutable": True, "data": {"a": "1"}})
    new = {**deepcopy(old), "data": {"a": "2"}}
    text = "field is immutable when `immutable` is set"
    assert [str(e) for e in strategy.validate_update(builtin.CONFIGMAPS, new, old)] == [f"data: Forbidden: {text}"]


def test_granted_roles_stay():
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "a"}
    old = born(builtin.ROLEBINDINGS, {"roleRef": ref})
    new = {**deepcopy(old), "roleRef": {**ref, "name": "b"}}
    found = [str(e) for e in strategy.validate_update(builtin.ROLEBINDINGS, new, old)]
    assert found == [
        'roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"b"}: '
        "cannot change roleRef"
    ]


@pytest.mark.parametrize(
    ("resource", "name", "fine"),
    [
        (builtin.PODS, "a.b", True),
        (builtin.NAMESPACES, "a.b", False),
        (builtin.SERVICES, "1a", True),
        (builtin.CLUSTERROLES, "system:a:b", True),
        (builtin.CLUSTERROLES, "a/b", False),
        (builtin.CRONJOBS, "a" * 53, False),
        (builtin.IPADDRESSES, "10.0.0.1", True),
        (builtin.IPADDRESSES, "x", False),
        (builtin.DEPLOYMENTS, "Upper", False),
    ],
)
def test_names(resource, name, fine):
    found = strategy.validate_create(resource, born(resource, {"metadata": {"name": name}, "spec": {}}))
    assert any(error.field == "metadata.name" for error in found) != fine


@pytest.mark.parametrize(
    ("schedule", "fine"),
    [
        ("* * * * *", True), ("*/5 1-3,7 1 jan-mar MON", True), ("@daily", True), ("@every 1h30m", True),
        ("0 0 31 2 ?", True), ("60 * * * *", False), ("* * 0 * *", False), ("5-1 * * * *", False),
        ("*/0 * * * *", False), ("@sometimes", False), ("a * * * *", False), ("* * * * 7", False),
    ],
)  # fmt: skip
def test_schedules(schedule, fine):
    assert (not schedule_error(schedule)) == fine


def test_approvals_go_through_their_door():
    row = builtin.CERTIFICATESIGNINGREQUESTS
    old = {"metadata": {"name": "x"}, "spec": {"signerName": "a.b/c"}, "status": {}}
    approved = [{"type": "Approved", "status": "True"}]

    def through(door):
        new = deepcopy(old)
        new["spec"]["signerName"] = "other"
        new["status"] = {"conditions": deepcopy(approved), "certificate": "Y2VydA=="}
        strategy.prepare_update(row, new, old, door)
        return new, [str(e) for e in strategy.validate_update(row, new, old, door)]

    new, errors = through("approval")
    assert new["spec"] == old["spec"]
    (condition,) = new["status"].pop("conditions")
    assert new["status"] == {}
    assert condition.pop("lastUpdateTime") == condition.pop("lastTransitionTime")
    assert condition == approved[0]
    assert errors == []
    new, errors = through("status")
    assert errors == [
        'status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block',
        'status.conditions: Forbidden: updates may not add a condition of type "Approved"',
    ]
    new, errors = through("")
    assert new["status"] == {}


def test_signing_leaves_decisions_as_they_were():
    row = builtin.CERTIFICATESIGNINGREQUESTS
    times = {"lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    approved = {"type": "Approved", "status": "True", "reason": "Fine", **times}
    old = {"metadata": {"name": "x"}, "spec": {"signerName": "a.b/c"}, "status": {"conditions": [approved]}}
    new = deepcopy(old)
    new["status"]["conditions"][0]["reason"] = "Other"
    new["status"]["conditions"].append({"type": "Failed", "status": "True", "lastUpdateTime": "2026-01-02T00:00:00Z"})
    strategy.prepare_update(row, new, old, "status")
    kept, failed = new["status"]["conditions"]
    assert kept == approved
    assert failed.pop("lastTransitionTime") > "2026-01-02T00:00:00Z"
    assert failed == {"type": "Failed", "status": "True", "lastUpdateTime": "2026-01-02T00:00:00Z"}


def test_every_kind_that_is_stored_has_rules():
    from orca.api.validation.registry import kinds

    missing = [row for row in BUILTIN if not row.virtual and (row.group, row.kind) not in kinds()]
    assert missing == []


def test_fields_that_no_pod_has_are_told_from_those_that_cannot_be_used_there():
    out: list = []
    field_ref({"apiVersion": "v1", "fieldPath": "spec.foo"}, ENV_PATHS, "ref", out)
    field_ref({"apiVersion": "v1", "fieldPath": "status.phase"}, VOLUME_PATHS, "ref", out)
    assert [str(one).partition(": supported")[0] for one in out] == [
        'ref.fieldPath: Invalid value: "spec.foo": error converting fieldPath: field label not supported: spec.foo',
        'ref.fieldPath: Unsupported value: "status.phase"',
    ]
