"""Autoscalers, Ingresses and network policies: what upstream refuses, where, and in which words."""

import pytest

from orca.api import builtin
from tests.unit.api.validation.objects import changed, refused


def scaler(**spec):
    base = {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3}
    return {"spec": {**base, **spec}}


def metric(**fields):
    return scaler(metrics=[fields])


M = "spec.metrics[0]"
CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
TYPES = 'supported values: "ContainerResource", "External", "Object", "Pods", "Resource"'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (metric(type="Resource", resource=CPU), []),
        (scaler(minReplicas=0, metrics=[{"type": "External", "external": {
            "metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}]),
         ["spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"]),
        (scaler(maxReplicas=0),
         ["spec.maxReplicas: Invalid value: 0: must be greater than 0",
          "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`"]),
        (scaler(scaleTargetRef={"kind": "..", "name": "d"}),
         ["spec.scaleTargetRef.kind: Invalid value: \"..\": may not be '..'"]),
        (metric(type="Odd"), [f'{M}.type: Unsupported value: "Odd": {TYPES}'] * 2),
        (metric(type="Resource"), [f"{M}.resource: Required value: "
                                   "must populate information for the given metric source"]),
        (metric(type="Resource", resource=CPU, pods={"metric": {"name": "m"}, "target": {
            "type": "AverageValue", "averageValue": "1"}}),
         [f"{M}.pods: Forbidden: must populate the given metric source only"]),
        (metric(type="Resource", resource={"name": "cpu", "target": {"type": "Utilization"}}),
         [f"{M}.resource.target.averageUtilization: Required value: "
          "must set either a target raw value or a target utilization"]),
        (metric(type="External", external={"metric": {}, "target": {"type": "Odd", "value": "0"}}),
         [f"{M}.external.metric.name: Required value: must specify a metric name",
          f'{M}.external.target.type: Invalid value: "Odd": must be either Utilization, Value, or AverageValue',
          f'{M}.external.target.value: Invalid value: "0": must be positive']),
        (metric(type="ContainerResource", containerResource={**CPU, "container": "No"}), None),
        (scaler(behavior={"scaleUp": {"stabilizationWindowSeconds": 3601, "policies": [
            {"type": "Odd", "value": 0, "periodSeconds": 1801}]}}),
         ["spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
          'spec.behavior.scaleUp.policies[0].type: Unsupported value: "Odd": supported values: "Percent", "Pods"',
          "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
          "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800"]),
    ],
)  # fmt: skip
def test_autoscalers(body, expected):
    found = refused(builtin.HORIZONTALPODAUTOSCALERS, body)
    if expected is None:
        assert len(found) == 1
        assert found[0].startswith(f"{M}.containerResource.container: Invalid value: ")
    else:
        assert found == expected


SERVICE = {"service": {"name": "1-may-begin-with-digits", "port": {"number": 80}}}


def path(**fields):
    item = {"path": "/", "pathType": "Prefix", "backend": SERVICE, **fields}
    return {"spec": {"rules": [{"http": {"paths": [item]}}]}}


P = "spec.rules[0].http.paths[0]"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (path(), []),
        ({"spec": {}}, ["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"]),
        (path(backend={}), [f'{P}.backend: Invalid value: "": resource or service backend is required']),
        (path(backend={**SERVICE, "resource": {"kind": "K", "name": "n"}}),
         [f'{P}.backend: Invalid value: "": cannot set both resource and service backends']),
        (path(backend={"service": {"name": "s", "port": {}}}),
         [f"{P}.backend: Required value: port name or number is required"]),
        (path(backend={"resource": {"apiGroup": "No", "kind": "a/b", "name": "n"}}), None),
        (path(pathType=None), [f"{P}.pathType: Required value: pathType must be specified"]),
        (path(path="/a/../b"), [f"{P}.path: Invalid value: \"/a/../b\": must not contain '/../'"]),
        (path(path="/a/.."), [f"{P}.path: Invalid value: \"/a/..\": cannot end with '/..'"]),
        ({"spec": {"rules": [{"host": "1.2.3.4"}]}},
         ['spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address']),
    ],
)  # fmt: skip
def test_ingresses(body, expected):
    found = refused(builtin.INGRESSES, body)
    if expected is None:
        assert [one.split(": ")[0] for one in found] == [f"{P}.backend.resource.apiGroup", f"{P}.backend.resource.kind"]
    else:
        assert found == expected


def policy(**rule):
    return {"spec": {"podSelector": {}, "ingress": [rule]}}


R = "spec.ingress[0]"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (policy(ports=[{"protocol": "ICMP"}]),
         [f'{R}.ports[0].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP"']),
        (policy(ports=[{"port": 80, "endPort": 70}]),
         [f"{R}.ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`"]),
        (policy(ports=[{"port": "http", "endPort": 70}]),
         [f"{R}.ports[0].endPort: Invalid value: 70: may not be specified when `port` is non-numeric"]),
        (policy(**{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}),
         [f"{R}.from[0]: Forbidden: may not specify both ipBlock and another peer"]),
        (policy(**{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16", "10.0.0.0/8"]}}]}),
         [f'{R}.from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`',
          f'{R}.from[0].ipBlock.except[1]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`']),
        ({"spec": {"podSelector": {}, "policyTypes": ["Both"]}},
         ['spec.policyTypes[0]: Unsupported value: "Both": supported values: "Ingress", "Egress"']),
    ],
)  # fmt: skip
def test_policies(body, expected):
    assert refused(builtin.NETWORKPOLICIES, body) == expected


def test_ranges_that_were_stored_once_stay_allowed():
    body = policy(**{"from": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]})
    assert len(refused(builtin.NETWORKPOLICIES, body)) == 1
    assert changed(builtin.NETWORKPOLICIES, body, lambda obj: obj["spec"].update(policyTypes=["Ingress"])) == []
