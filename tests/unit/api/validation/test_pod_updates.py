"""What of pods may change, through which door."""

from copy import deepcopy

import pytest

from orca.api import strategy
from orca.api.builtin import PODS
from tests.unit.api.validation.objects import changed, made, pod

GATED = pod(schedulingGates=[{"name": "g"}], nodeSelector={"a": "b"})
HARD = "requiredDuringSchedulingIgnoredDuringExecution"
TERM = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
MORE = {"matchExpressions": [*TERM["matchExpressions"], {"key": "b", "operator": "Exists"}]}
AFFINE = pod(schedulingGates=[{"name": "g"}], affinity={"nodeAffinity": {HARD: {"nodeSelectorTerms": [TERM]}}})
N = f"spec.affinity.nodeAffinity.{HARD}.nodeSelectorTerms"


def terms(*listed):
    return lambda obj: obj["spec"].update(affinity={"nodeAffinity": {HARD: {"nodeSelectorTerms": list(listed)}}})


def spec(**fields):
    return lambda obj: obj["spec"].update(fields)


def status(**fields):
    return lambda obj: obj["status"].update(fields)


@pytest.mark.parametrize(
    ("body", "change", "expected"),
    [
        (GATED, spec(nodeSelector={"a": "b", "c": "d"}), []),
        (GATED, spec(nodeSelector={}),
         ["spec.nodeSelector: Invalid value: {}: "
          "only additions to spec.nodeSelector are allowed (no mutations or deletions)"]),
        (GATED, terms(TERM), []),
        (AFFINE, terms(MORE), []),
        (AFFINE, terms(TERM, TERM), None),
        (AFFINE, terms({"matchExpressions": [{"key": "z", "operator": "Exists"}]}), None),
        (pod(activeDeadlineSeconds=5), spec(activeDeadlineSeconds=6),
         ["spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"]),
        (pod(activeDeadlineSeconds=5), lambda obj: obj["spec"].pop("activeDeadlineSeconds"),
         ["spec.activeDeadlineSeconds: Invalid value: null: "
          "must not update from a positive integer to nil value"]),
        (pod(), lambda obj: obj["spec"]["containers"].append({"name": "d", "image": "i"}),
         ["spec.containers: Forbidden: pod updates may not add or remove containers"]),
        (pod(), lambda obj: obj["metadata"].update(annotations={"kubernetes.io/config.mirror": "a"}),
         ['metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "a": '
          "must set spec.nodeName if mirror pod annotation is set",
          "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation"]),
    ],
)  # fmt: skip
def test_the_main_door(body, change, expected):
    found = changed(PODS, body, change)
    if expected is None:
        assert len(found) == 1
        assert found[0].startswith(N)
        assert "additions" in found[0]
    else:
        assert found == expected


ENDED = {"name": "c", "state": {"terminated": {"exitCode": 1}}}
RUNS = {"name": "c", "state": {"running": {}}}
AGAIN = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"


@pytest.mark.parametrize(
    ("fields", "code", "expected"),
    [
        ({"restartPolicy": "Always"}, 0, []),
        ({"restartPolicy": "Never"}, 1, [AGAIN]),
        ({"restartPolicy": "OnFailure"}, 1, []),
        ({"restartPolicy": "OnFailure"}, 0, [AGAIN]),
    ],
)
def test_what_ended_for_good_stays_ended(fields, code, expected):
    old = {**ENDED, "state": {"terminated": {"exitCode": code}}}
    body = made(PODS, pod(**fields))
    body["status"]["containerStatuses"] = [old]
    found = _reported(body, status(containerStatuses=[RUNS]))
    assert found == expected


def test_rules_bring_containers_back():
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    container = {"name": "c", "image": "i", "restartPolicy": "Never", "restartPolicyRules": rules}
    for code, expected in ((42, []), (1, [AGAIN])):
        body = made(PODS, pod(restartPolicy="Never", containers=[container]))
        body["status"]["containerStatuses"] = [{"name": "c", "state": {"terminated": {"exitCode": code}}}]
        assert _reported(body, status(containerStatuses=[RUNS])) == expected


def _reported(body, change):
    new = deepcopy(body)
    change(new)
    return [str(error) for error in strategy.validate_update(PODS, new, body, "status")]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (status(podIP="10.0.0.1", podIPs=[{"ip": "10.0.0.1"}]), []),
        (status(podIPs=[{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]),
         ['status.podIPs: Invalid value: [{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}]: '
          "may specify no more than one IP for each IP family"]),
        (status(hostIPs=[{"ip": "10.0.0.1"}]),
         ['status.hostIPs[0].ip: Invalid value: "10.0.0.1": must be equal to `hostIP`']),
        (status(qosClass="Guaranteed"),
         ['status.qosClass: Invalid value: "Guaranteed": field is immutable']),
        (status(observedGeneration=-1),
         ["status.observedGeneration: Invalid value: -1: must be a non-negative integer"]),
        (status(conditions=[{"type": "Ready", "status": "True"}, {"type": "a/b/c", "status": "True"}]), None),
        (status(resourceClaimStatuses=[{"name": "no"}]),
         ['status.resourceClaimStatuses[0].name: Invalid value: "no": '
          "must match the name of an entry in `spec.resourceClaims`"]),
    ],
)  # fmt: skip
def test_statuses(change, expected):
    found = _reported(made(PODS, pod()), change)
    if expected is None:
        assert len(found) == 1
        assert found[0].startswith('status.conditions[1].Type: Invalid value: "a/b/c": ')
    else:
        assert found == expected


def test_label_keys_become_expressions_of_spread_constraints():
    rule = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {},
            "matchLabelKeys": ["app", "missing"]}  # fmt: skip
    body = pod(topologySpreadConstraints=[rule])
    body["metadata"]["labels"] = {"app": "web"}
    made_rule = made(PODS, body)["spec"]["topologySpreadConstraints"][0]
    assert made_rule["labelSelector"] == {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}
