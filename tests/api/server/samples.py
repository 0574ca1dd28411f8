"""A smallest valid object of every stored kind, and a change that is always allowed."""

from __future__ import annotations

from typing import Any

from orca.api.resources import Resource

Obj = dict[str, Any]
_POD = {"containers": [{"name": "main", "image": "busybox:1"}]}
_LABELS = {"app": "sample"}
_TEMPLATE = {"metadata": {"labels": _LABELS}, "spec": _POD}
_SELECTOR = {"matchLabels": _LABELS}
_JOB = {"template": {"spec": {**_POD, "restartPolicy": "Never"}}}
_WEBHOOK = {
    "name": "hook.example.com",
    "clientConfig": {"url": "https://hook.example.com/"},
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
    "rules": [{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["things"]}],
}
_MATCH = {
    "resourceRules": [
        {"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["things"]}
    ]
}
_HPA = {
    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "sample"},
    "minReplicas": 1,
    "maxReplicas": 3,
}
_CRD_VERSION = {
    "name": "v1",
    "served": True,
    "storage": True,
    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
}
_DEVICES = {"devices": {"requests": [{"name": "one", "exactly": {"deviceClassName": "gpu.example.com"}}]}}

# group resource -> everything besides apiVersion, kind and metadata
BODIES: dict[str, Obj] = {
    "pods": {"spec": _POD},
    "podtemplates": {"template": _TEMPLATE},
    "replicationcontrollers": {"spec": {"replicas": 1, "selector": _LABELS, "template": _TEMPLATE}},
    "services": {"spec": {"ports": [{"port": 80}], "selector": _LABELS}},
    "persistentvolumes": {
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp/x"}}
    },
    "persistentvolumeclaims": {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    },
    "resourcequotas": {"spec": {"hard": {"configmaps": "1000"}}},
    "limitranges": {"spec": {"limits": [{"type": "Container", "max": {"cpu": "64"}}]}},
    "events": {
        "involvedObject": {"kind": "Pod", "name": "sample", "namespace": "NAMESPACE"},
        "reason": "Testing",
        "message": "hello",
        "type": "Normal",
    },
    "events.events.k8s.io": {
        "regarding": {"kind": "Pod", "name": "sample", "namespace": "NAMESPACE"},
        "reason": "Testing",
        "action": "Test",
        "type": "Normal",
        "eventTime": "2026-01-02T03:04:05.000006Z",
        "reportingController": "example.com/test",
        "reportingInstance": "test-1",
    },
    "deployments.apps": {"spec": {"selector": _SELECTOR, "template": _TEMPLATE}},
    "replicasets.apps": {"spec": {"selector": _SELECTOR, "template": _TEMPLATE}},
    "daemonsets.apps": {"spec": {"selector": _SELECTOR, "template": _TEMPLATE}},
    "statefulsets.apps": {"spec": {"selector": _SELECTOR, "serviceName": "sample", "template": _TEMPLATE}},
    "controllerrevisions.apps": {"revision": 1, "data": {"spec": {}}},
    "jobs.batch": {"spec": _JOB},
    "cronjobs.batch": {"spec": {"schedule": "@hourly", "jobTemplate": {"spec": _JOB}}},
    "horizontalpodautoscalers.autoscaling": {"spec": _HPA},
    "leases.coordination.k8s.io": {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 15}},
    "endpointslices.discovery.k8s.io": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}]},
    "ingressclasses.networking.k8s.io": {"spec": {"controller": "example.com/controller"}},
    "ingresses.networking.k8s.io": {
        "spec": {"defaultBackend": {"service": {"name": "sample", "port": {"number": 80}}}}
    },
    "ipaddresses.networking.k8s.io": {
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}}
    },
    "networkpolicies.networking.k8s.io": {"spec": {"podSelector": {}}},
    "servicecidrs.networking.k8s.io": {"spec": {"cidrs": ["10.200.0.0/24"]}},
    "runtimeclasses.node.k8s.io": {"handler": "runc"},
    "poddisruptionbudgets.policy": {"spec": {"minAvailable": 1, "selector": _SELECTOR}},
    "clusterroles.rbac.authorization.k8s.io": {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    "roles.rbac.authorization.k8s.io": {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    "clusterrolebindings.rbac.authorization.k8s.io": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    },
    "rolebindings.rbac.authorization.k8s.io": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    },
    "deviceclasses.resource.k8s.io": {"spec": {}},
    "resourceclaims.resource.k8s.io": {"spec": _DEVICES},
    "resourceclaimtemplates.resource.k8s.io": {"spec": {"spec": _DEVICES}},
    "resourceslices.resource.k8s.io": {
        "spec": {
            "driver": "gpu.example.com",
            "nodeName": "sample",
            "pool": {"name": "sample", "generation": 1, "resourceSliceCount": 1},
        }
    },
    "priorityclasses.scheduling.k8s.io": {"value": 10},
    "csidrivers.storage.k8s.io": {"spec": {"attachRequired": False}},
    "csinodes.storage.k8s.io": {"spec": {"drivers": []}},
    "csistoragecapacities.storage.k8s.io": {"storageClassName": "sample"},
    "storageclasses.storage.k8s.io": {"provisioner": "example.com/disks"},
    "volumeattachments.storage.k8s.io": {
        "spec": {"attacher": "example.com", "nodeName": "sample", "source": {"persistentVolumeName": "sample"}}
    },
    "volumeattributesclasses.storage.k8s.io": {"driverName": "example.com", "parameters": {"iops": "10"}},
    "certificatesigningrequests.certificates.k8s.io": {
        "spec": {"signerName": "example.com/signer", "request": "REQUEST", "usages": ["client auth"]}
    },
    "flowschemas.flowcontrol.apiserver.k8s.io": {
        "spec": {"priorityLevelConfiguration": {"name": "sample"}, "matchingPrecedence": 1000}
    },
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": {
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}}
    },
    "apiservices.apiregistration.k8s.io": {
        "spec": {
            "group": "sample.example.com",
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 10,
            "insecureSkipTLSVerify": True,
            "service": {"name": "sample", "namespace": "default"},
        }
    },
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": {"webhooks": [_WEBHOOK]},
    "validatingwebhookconfigurations.admissionregistration.k8s.io": {"webhooks": [_WEBHOOK]},
    "validatingadmissionpolicies.admissionregistration.k8s.io": {
        "spec": {"matchConstraints": _MATCH, "validations": [{"expression": "true"}]}
    },
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": {
        "spec": {"policyName": "sample", "validationActions": ["Audit"]}
    },
    "mutatingadmissionpolicies.admissionregistration.k8s.io": {
        "spec": {
            "matchConstraints": _MATCH,
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}],
        }
    },
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": {"spec": {"policyName": "sample"}},
    "customresourcedefinitions.apiextensions.k8s.io": {
        "spec": {
            "group": "sample.example.com",
            "names": {"plural": "samples", "singular": "sample", "kind": "Sample", "listKind": "SampleList"},
            "scope": "Namespaced",
            "versions": [_CRD_VERSION],
        }
    },
}
_AT = "2026-01-02T03:04:05Z"
_CONDITION = {"type": "Sample", "status": "True", "reason": "Testing", "message": "hello", "lastTransitionTime": _AT}
DENIED = {"type": "Denied", "status": "True", "reason": "Testing", "message": "no"}

# group resource of every kind with a status -> a status it takes
STATUSES: dict[str, Obj] = {
    "namespaces": {"conditions": [_CONDITION]},
    "nodes": {"conditions": [_CONDITION]},
    "persistentvolumeclaims": {"conditions": [_CONDITION]},
    "persistentvolumes": {"phase": "Available", "message": "hello"},
    "pods": {"phase": "Pending", "message": "hello"},
    "replicationcontrollers": {"replicas": 1},
    "resourcequotas": {"hard": {"configmaps": "1k"}, "used": {"configmaps": "1"}},
    "services": {"conditions": [_CONDITION]},
    "apiservices.apiregistration.k8s.io": {"conditions": [{**_CONDITION, "type": "Available", "status": "False"}]},
    "validatingadmissionpolicies.admissionregistration.k8s.io": {"conditions": [_CONDITION]},
    "customresourcedefinitions.apiextensions.k8s.io": {"storedVersions": ["v1"]},
    "daemonsets.apps": {
        "currentNumberScheduled": 1,
        "desiredNumberScheduled": 1,
        "numberMisscheduled": 0,
        "numberReady": 1,
    },
    "deployments.apps": {"replicas": 1, "conditions": [_CONDITION]},
    "replicasets.apps": {"replicas": 1, "readyReplicas": 1},
    "statefulsets.apps": {"replicas": 1, "currentRevision": "sample-1"},
    "horizontalpodautoscalers.autoscaling": {"currentReplicas": 1, "desiredReplicas": 2},
    "cronjobs.batch": {"lastScheduleTime": _AT},
    "jobs.batch": {"startTime": _AT, "active": 1, "ready": 0},
    "certificatesigningrequests.certificates.k8s.io": {"conditions": [DENIED, {**_CONDITION, "type": "Failed"}]},
    "flowschemas.flowcontrol.apiserver.k8s.io": {"conditions": [_CONDITION]},
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": {"conditions": [_CONDITION]},
    "ingresses.networking.k8s.io": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    "servicecidrs.networking.k8s.io": {"conditions": [_CONDITION]},
    "poddisruptionbudgets.policy": {
        "disruptionsAllowed": 1,
        "currentHealthy": 2,
        "desiredHealthy": 1,
        "expectedPods": 2,
    },
    "resourceclaims.resource.k8s.io": {
        "allocation": {
            "devices": {
                "results": [
                    {"request": "one", "driver": "gpu.example.com", "pool": "sample", "device": "gpu-0"},
                ]
            }
        }
    },
    "volumeattachments.storage.k8s.io": {"attached": True},
}
_NAMES = {
    "apiservices.apiregistration.k8s.io": "v1.sample.example.com",
    "customresourcedefinitions.apiextensions.k8s.io": "samples.sample.example.com",
    "ipaddresses.networking.k8s.io": "10.96.77.88",
    "namespaces": "sample-namespace",
}


def name_of(row: Resource) -> str:
    """What the sample is called."""
    return _NAMES.get(row.group_resource, "sample")


def sample(row: Resource, space: str, request_pem: str = "") -> Obj:
    """The smallest object of a kind."""
    metadata: Obj = {"name": name_of(row), "labels": {"sample": "yes"}}
    if row.namespaced:
        metadata["namespace"] = space
    body = {"apiVersion": row.api_version, "kind": row.kind, "metadata": metadata}
    return _filled({**body, **BODIES.get(row.group_resource, {})}, {"NAMESPACE": space, "REQUEST": request_pem})


def _filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, words) for item in value]
    return words.get(value, value) if isinstance(value, str) else value
