"""Deployments and their like: what upstream refuses, where, and in which words."""

from copy import deepcopy

import pytest

from orca.api import builtin, strategy
from tests.unit.api.validation.objects import changed, made, refused

NO_MATCH = 'spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not match template `labels`'
ONLY = (
    "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' "
    "are forbidden"
)


def workload(pod=None, **spec):
    template = {
        "metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}], **(pod or {})},
    }
    return {"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template, **spec}}


def claim(**spec):
    return {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}, **spec}}  # fmt: skip


MOUNTED = {"containers": [{"name": "c", "image": "i:1", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}
ALWAYS = 'spec.template.spec.restartPolicy: Unsupported value: "OnFailure": supported values: "Always"'


def deadline(owner):
    return f"spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in {owner} is not Supported"


@pytest.mark.parametrize(
    ("resource", "body", "expected"),
    [
        (builtin.REPLICASETS, workload(selector=None), ["spec.selector: Required value", NO_MATCH]),
        (builtin.DEPLOYMENTS, workload(selector={}),
         ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]),
        (builtin.DEPLOYMENTS, workload(selector={"matchExpressions": [{"key": "app", "operator": "Is"}]}),
         ['spec.selector.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator',
          'spec.selector: Invalid value: {"matchExpressions":[{"key":"app","operator":"Is"}]}: '
          "invalid label selector"]),
        (builtin.DEPLOYMENTS, workload({"activeDeadlineSeconds": 5}), [deadline("ReplicaSet")]),
        (builtin.DEPLOYMENTS, workload(strategy={"type": "Odd"}),
         ['spec.strategy: Unsupported value: {"type":"Odd"}: supported values: "Recreate", "RollingUpdate"']),
        (builtin.DEPLOYMENTS, workload(strategy={"rollingUpdate": {"maxUnavailable": "none", "maxSurge": 0}}),
         ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"none\": a valid percent string must be a "
          "numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
          'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "none": may not be 0 when `maxSurge` is 0']),
        (builtin.DAEMONSETS, workload(selector=None), [NO_MATCH]),
        (builtin.DAEMONSETS, workload({"activeDeadlineSeconds": 5}), [deadline("DaemonSet")]),
        (builtin.DAEMONSETS, workload(updateStrategy={"type": "Odd"}),
         ['spec.updateStrategy: Unsupported value: {"type":"Odd"}: supported values: "RollingUpdate", "OnDelete"']),
        (builtin.DAEMONSETS, workload(updateStrategy={"rollingUpdate": {"maxSurge": "10%"}}),
         ['spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "10%": '
          "may not be set when maxUnavailable is non-zero"]),
        (builtin.REPLICATIONCONTROLLERS, workload({"restartPolicy": "OnFailure", "activeDeadlineSeconds": 5},
                                                  selector={"app": "a"}),
         [ALWAYS, deadline("ReplicationController")]),
        (builtin.STATEFULSETS, workload(MOUNTED, volumeClaimTemplates=[claim()]), []),
        (builtin.STATEFULSETS, workload(MOUNTED), ['spec.template.spec.containers[0].volumeMounts[0].name: '
                                                   'Not found: "data"']),
        (builtin.STATEFULSETS, workload(volumeClaimTemplates=[claim(accessModes=[])]),
         ["spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required"]),
        (builtin.STATEFULSETS, workload(serviceName="a.b"),
         ['spec.serviceName: Invalid value: "a.b": must not contain dots']),
        (builtin.STATEFULSETS, workload({"restartPolicy": "OnFailure", "activeDeadlineSeconds": 5}),
         [ALWAYS, deadline("StatefulSet")]),
        (builtin.STATEFULSETS, workload(updateStrategy={"rollingUpdate": {"maxUnavailable": "0%"}}),
         ['spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "0%": cannot be 0']),
        (builtin.CONTROLLERREVISIONS, {"revision": -1},
         ["revision: Invalid value: -1: must be greater than or equal to 0",
          "data: Required value: data is mandatory"]),
        (builtin.CONTROLLERREVISIONS, {"data": [1]},
         ["data: Required value: data must be a valid JSON object"]),
        (builtin.PODTEMPLATES, {"template": {"spec": {"restartPolicy": "Odd", "containers": [
            {"name": "c", "image": "i:1"}]}}},
         ['template.spec.restartPolicy: Unsupported value: "Odd": supported values: "Always", "OnFailure", "Never"']),
    ],
)  # fmt: skip
def test_creation(resource, body, expected):
    assert refused(resource, body) == expected


def of_spec(**fields):
    return lambda obj: obj["spec"].update(fields)


def of_status(**fields):
    return lambda obj: obj.update(status=fields)


@pytest.mark.parametrize(
    ("resource", "body", "change", "door", "expected"),
    [
        (builtin.STATEFULSETS, workload(), of_spec(serviceName="s"), "", [ONLY]),
        (builtin.STATEFULSETS, workload(), of_spec(volumeClaimTemplates=[]), "", []),
        (builtin.STATEFULSETS, workload(), of_spec(replicas=3, minReadySeconds=1, revisionHistoryLimit=1), "", []),
        # What an older server stored may stay, its template too.
        (builtin.STATEFULSETS, workload(MOUNTED, serviceName="a.b"), of_spec(replicas=3), "", []),
        (builtin.STATEFULSETS, workload(), lambda obj: obj["spec"]["template"]["spec"].update(containers=[]), "",
         ["spec.template.spec.containers: Required value"]),
        (builtin.STATEFULSETS, workload(),
         of_status(replicas=1, readyReplicas=1, availableReplicas=2, currentReplicas=-1), "status",
         ["status.currentReplicas: Invalid value: -1: must be greater than or equal to 0",
          "status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
          "status.availableReplicas: Invalid value: 2: cannot be greater than status.readyReplicas"]),
        (builtin.REPLICASETS, workload(), of_status(replicas=1, availableReplicas=1), "status",
         ["status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas"]),
        (builtin.DEPLOYMENTS, workload(), of_spec(selector={"matchLabels": {"app": "a", "b": "c"}}), "",
         [NO_MATCH,
          'spec.selector: Invalid value: {"matchLabels":{"app":"a","b":"c"}}: field is immutable']),
        (builtin.CONTROLLERREVISIONS, {"data": {"a": 1}}, lambda obj: obj.update(data={"a": 2}), "",
         ['data: Invalid value: {"a":2}: field is immutable']),
    ],
)  # fmt: skip
def test_changes(resource, body, change, door, expected):
    assert changed(resource, body, change, door) == expected


@pytest.mark.parametrize("resource", [builtin.DEPLOYMENTS, builtin.STATEFULSETS, builtin.DAEMONSETS])
def test_names_of_revisions_are_not_used_twice(resource):
    old = made(resource, workload())
    old["status"] = {"collisionCount": 2}
    new = deepcopy(old)
    new["status"] = {"collisionCount": 1}
    found = [str(error) for error in strategy.validate_update(resource, new, old, "status")]
    assert found == ["status.collisionCount: Invalid value: 1: cannot be decremented"]
