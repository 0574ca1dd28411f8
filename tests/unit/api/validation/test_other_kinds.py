"""Events, endpoints, nodes, certificates, ranges and classes: what upstream refuses, where, and in which words."""

from copy import deepcopy

import pytest

from orca.api import builtin, strategy
from tests.support import strange_certificates as strange
from tests.unit.api.validation.objects import changed, made, refused

NEW = {
    "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "a.b/c", "reportingInstance": "i",
    "action": "A", "reason": "R", "type": "Normal", "regarding": {"namespace": "d"}, "note": "n",
}  # fmt: skip


def taken(key):
    return {name: value for name, value in NEW.items() if name != key}


def endpoint(kind="IPv4", ports=(), **fields):
    return {"addressType": kind, "endpoints": [{"addresses": ["10.0.0.1"], **fields}], "ports": list(ports)}


def subset(ip, **port):
    return {"subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": 80, **port}]}]}


def node(**status):
    return {"status": status}


E = "endpoints[0]"


@pytest.mark.parametrize(
    ("resource", "body", "expected"),
    [
        (builtin.EVENTS, {"involvedObject": {"namespace": "e"}},
         ['involvedObject.namespace: Invalid value: "e": does not match event.namespace']),
        (builtin.EVENTS, {"involvedObject": {}},
         ['involvedObject.namespace: Invalid value: "": does not match event.namespace']),
        (builtin.EVENTS, {"involvedObject": {"namespace": "d"}, "reason": "r" * 200}, []),
        (builtin.EVENTS_V1, NEW, []),
        (builtin.EVENTS_V1, {**NEW, "regarding": {"namespace": "elsewhere"}}, []),
        (builtin.EVENTS_V1, taken("action"), ["action: Required value"]),
        (builtin.EVENTS_V1, taken("eventTime"), ["eventTime: Required value"]),
        (builtin.EVENTS_V1, {**NEW, "note": "n" * 1025, "type": "Odd", "deprecatedCount": 3, "series": {"count": 1}},
         ['message: Invalid value: "": can have at most 1024 characters',
          'series.count: Invalid value: "": should be at least 2', "series.lastObservedTime: Required value",
          'type: Invalid value: "": has invalid value: Odd', 'count: Invalid value: "": needs to be unset']),
        (builtin.ENDPOINTSLICES, endpoint(), []),
        (builtin.ENDPOINTSLICES, endpoint(addresses=["fd00::1"]),
         [f'{E}.addresses: Invalid value: "fd00::1": must be an IPv4 address']),
        (builtin.ENDPOINTSLICES, endpoint("IPv6", addresses=["fd00:0::1"]),
         [f'{E}.addresses[0]: Invalid value: "fd00:0::1": must be in canonical form ("fd00::1")']),
        (builtin.ENDPOINTSLICES, endpoint(addresses=["010.0.0.1", "::ffff:1.2.3.4"]),
         [f'{E}.addresses[0]: Invalid value: "010.0.0.1": must not have leading 0s',
          f'{E}.addresses[1]: Invalid value: "::ffff:1.2.3.4": must not be an IPv4-mapped IPv6 address']),
        (builtin.ENDPOINTSLICES, endpoint(hints={"forZones": [{"name": "a"}, {"name": "a"}],
                                                 "forNodes": [{"name": "n"}] * 9}),
         [f'{E}.hints.forZones[1].name: Duplicate value: "a"',
          f"{E}.hints.forNodes: Too many: 9: must have at most 8 items"]),
        (builtin.ENDPOINTSLICES, endpoint(ports=[{"port": 0, "protocol": ""}]),
         ['ports[0].protocol: Unsupported value: "": supported values: "SCTP", "TCP", "UDP"']),
        (builtin.ENDPOINTS, subset("10.0.0.256"),
         ['subsets[0].addresses[0].ip: Invalid value: "10.0.0.256": '
          "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
          'subsets[0].addresses[0].ip: Invalid value: "10.0.0.256": must be a valid IP address']),
        (builtin.NODES, node(declaredFeatures=["B", "A", "A", "lower"]),
         ['status.declaredFeatures[1]: Invalid value: "A": list must be sorted alphabetically',
          'status.declaredFeatures[2]: Duplicate value: "A"', None]),
        (builtin.NODES, node(nodeInfo={"swap": {"capacity": -1}}),
         ["metadata.nodeSwapStatus.capacity: Invalid value: -1: must be greater than or equal to 0"]),
        (builtin.RUNTIMECLASSES, {"handler": "h", "overhead": {"podFixed": {"cpu": "-1"}},
                                  "scheduling": {"tolerations": [{"key": "a", "operator": "Exists"}] * 2}},
         ['overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0',
          'scheduling.tolerations[1]: Duplicate value: {"key":"a","operator":"Exists"}']),
        (builtin.PRIORITYCLASSES, {"metadata": {"name": "system-node-critical"}, "value": 2000001000,
                                   "globalDefault": True},
         ["metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. "
          "error: globalDefault of system-node-critical PriorityClass must be false"]),
        (builtin.LEASES, {"spec": {"strategy": "Oldest", "preferredHolder": "h"}},
         ['spec.strategy.strategy: Unsupported value: "Oldest": supported values: "OldestEmulationVersion"']),
        (builtin.LEASES, {"spec": {"preferredHolder": "h"}},
         ["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"]),
        (builtin.SERVICECIDRS, {"spec": {"cidrs": ["10.0.0.0/16", "10.1.0.0/16"]}},
         ['spec.cidrs: Invalid value: {"cidrs":["10.0.0.0/16","10.1.0.0/16"]}: '
          "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"]),
        (builtin.SERVICECIDRS, {"spec": {"cidrs": ["FD00::/64"]}},
         ['spec.cidrs[0]: Invalid value: "FD00::/64": must be in canonical form ("fd00::/64")']),
        (builtin.CERTIFICATESIGNINGREQUESTS, {"spec": {"signerName": "a.b/c", "usages": ["any"]}},
         ['spec.request: Invalid value: "": PEM block type must be CERTIFICATE REQUEST']),
    ],
)  # fmt: skip
def test_creation(resource, body, expected):
    found = refused(resource, {**body, "metadata": {"namespace": "d", "name": "x", **body.get("metadata", {})}}
                    if resource.namespaced else body)  # fmt: skip
    assert len(found) == len(expected), found
    for text, wanted in zip(found, expected, strict=True):
        assert wanted is None or text == wanted


def put(**fields):
    return lambda obj: obj.update(fields)


OLD_ADDRESS = {"subsets": [{"addresses": [{"ip": "010.0.0.1"}]}]}


@pytest.mark.parametrize(
    ("resource", "body", "change", "door", "expected"),
    [
        (builtin.EVENTS, {"involvedObject": {"namespace": "d"}, "message": "a"}, put(message="b", count=2), "", []),
        (builtin.EVENTS_V1, NEW, put(series={"count": 2, "lastObservedTime": NEW["eventTime"]}), "", []),
        (builtin.EVENTS_V1, NEW, put(note="m", action="B"), "",
         ['message: Invalid value: "m": field is immutable', 'action: Invalid value: "B": field is immutable']),
        # What an older server took may stay.
        (builtin.ENDPOINTS, OLD_ADDRESS, lambda obj: obj["metadata"].update(labels={"a": "b"}), "", []),
        (builtin.ENDPOINTSLICES, endpoint(addresses=["010.0.0.1"]), put(ports=[]), "", []),
        (builtin.ENDPOINTSLICES, endpoint(addresses=["010.0.0.1"]), put(endpoints=[{"addresses": ["010.0.0.2"]}]), "",
         [f'{E}.addresses[0]: Invalid value: "010.0.0.2": must not have leading 0s']),
        (builtin.NODES, node(), lambda obj: obj["status"].update(addresses=[{"type": "Hostname", "address": "a"}] * 2),
         "status", ['status.addresses[1]: Duplicate value: {"type":"Hostname","address":"a"}']),
        (builtin.NODES, {"spec": {"providerID": "a"}}, put(spec={"providerID": "b", "externalID": "c"}), "",
         ['spec.providerID: Forbidden: node updates may not change providerID except from "" to valid',
          "spec.externalID: Forbidden: may not be updated"]),
        (builtin.PRIORITYCLASSES, {"value": 1}, put(value=2, preemptionPolicy="Never"), "",
         ["value: Forbidden: may not be changed in an update.",
          'preemptionPolicy: Invalid value: "Never": field is immutable']),
        (builtin.SERVICECIDRS, {"spec": {"cidrs": ["10.0.0.0/16"]}},
         put(spec={"cidrs": ["10.0.0.0/16", "fd00::/64"]}), "", []),
        (builtin.SERVICECIDRS, {"spec": {"cidrs": ["10.0.0.0/16"]}}, put(spec={"cidrs": ["10.1.0.0/16"]}), "",
         ['spec.cidrs: Invalid value: ["10.1.0.0/16"]: field is immutable']),
    ],
)  # fmt: skip
def test_changes(resource, body, change, door, expected):
    assert changed(resource, body, change, door) == expected


def decided(*kinds, certificate=None):
    state = {"conditions": [{"type": kind, "status": "True"} for kind in kinds]}
    return {**state, "certificate": certificate} if certificate else state


@pytest.mark.parametrize(
    ("before", "after", "door", "expected"),
    [
        (decided(), decided("Approved"), "approval", []),
        (decided("Approved"), decided(), "approval",
         ['status.conditions: Forbidden: updates may not remove a condition of type "Approved"']),
        (decided(), decided("Approved", "Denied"), "approval",
         ['status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive']),
        (decided("Approved"), {"conditions": [{"type": "Approved", "status": "True", "reason": "r"}]}, "status", None),
        (decided(), {"conditions": [{"type": "Failed", "status": "False"}, {"type": "Own", "status": "Odd"}]}, "status",
         ['status.conditions[0].status: Unsupported value: "False": supported values: "True"',
          'status.conditions[1].status: Unsupported value: "Odd": supported values: "False", "True", "Unknown"']),
        (decided(certificate="YQ=="), decided(), "status",
         ["status.certificate: Forbidden: updates may not modify existing certificate content"]),
        (decided(), decided(certificate="LS0tLS1CRUdJTiBYLS0tLS0KQUFBQQotLS0tLUVORCBYLS0tLS0K"), "status",
         ['status.certificate: Invalid value: "<certificate data>": '
          'only CERTIFICATE PEM blocks are allowed, found "X"']),
    ],
)  # fmt: skip
def test_requests_for_certificates(before, after, door, expected):
    old = made(builtin.CERTIFICATESIGNINGREQUESTS, {"spec": {"signerName": "a.b/c"}})
    new = deepcopy(old)
    old["status"], new["status"] = before, after
    found = [str(e) for e in strategy.validate_update(builtin.CERTIFICATESIGNINGREQUESTS, new, old, door)]
    if expected is None:
        (text,) = found
        assert text.startswith('status.conditions: Forbidden: updates may not modify a condition of type "Approved"\n')
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (strange.signing_request(), ""),
        (strange.signing_request(version=5), "not a valid CSR version"),
        (strange.signing_request(curve=9), "not supported"),
        (strange.request_of_no_text(), "error parsing asn1 value"),
    ],
)
def test_requests_that_cannot_be_read_are_refused(request_, expected):
    spec = {"signerName": "a.b/c", "usages": ["client auth"], "request": request_}
    found = refused(builtin.CERTIFICATESIGNINGREQUESTS, {"spec": spec})
    assert [text.partition(":")[0] for text in found] == (["spec.request"] if expected else [])
    assert all(expected in text for text in found)


@pytest.mark.parametrize(
    ("issued", "expected"),
    [
        (strange.certificate(ends=b"00000101000000Z"), ""),
        (strange.certificate(version=5), "not a valid X509 version"),
    ],
)
def test_certificates_that_cannot_be_read_are_refused(issued, expected):
    new = made(builtin.CERTIFICATESIGNINGREQUESTS, {"spec": {"signerName": "a.b/c"}})
    old = {**new, "status": {}}
    new["status"] = decided(certificate=issued)
    found = [str(e) for e in strategy.validate_update(builtin.CERTIFICATESIGNINGREQUESTS, new, old, "status")]
    assert len(found) == bool(expected)
    assert all(text.startswith("status.certificate: ") and expected in text for text in found)
