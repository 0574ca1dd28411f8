"""Devices, classes of them and claims: what upstream refuses, where, and in which words."""

import pytest

from orca.api import builtin
from tests.unit.api.validation.objects import changed, refused

CLAIM, CLASS, SLICE = builtin.RESOURCECLAIMS, builtin.DEVICECLASSES, builtin.RESOURCESLICES
R = "spec.devices.requests[0]"
SYNTAX = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"


def claim(request=None, **devices):
    body = {"name": "one", "exactly": {"deviceClassName": "gpu.example.com"}} if request is None else request
    return {"spec": {"devices": {"requests": [body], **devices}}}


def exactly(**fields):
    return claim({"name": "one", "exactly": {"deviceClassName": "gpu.example.com", **fields}})


def selecting(expression):
    return exactly(selectors=[{"cel": {"expression": expression}}])


def offer(device=None, **spec):
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    base = {"driver": "d.example.com", "pool": pool, "nodeName": "n", "devices": [{"name": "gpu-0", **(device or {})}]}
    return {"spec": {**base, **spec}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (claim(), []),
        (claim({"name": "one"}), [f"{R}: Required value: exactly one of `exactly` or `firstAvailable` is required"]),
        (exactly(deviceClassName=""), [f"{R}.exactly.deviceClassName: Required value"]),
        (exactly(allocationMode="All", count=2),
         [f"{R}.exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"]),
        (exactly(count=-1), [f"{R}.exactly.count: Invalid value: -1: must be greater than zero"]),
        (exactly(allocationMode="Some"),
         [f'{R}.exactly.allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"']),
        (exactly(tolerations=[{"key": "k", "operator": "Exists", "value": "v", "effect": "NoWhere"}]),
         [f'{R}.exactly.tolerations[0].value: Invalid value: "v": must be empty for operator `Exists`',
          f'{R}.exactly.tolerations[0].effect: Unsupported value: "NoWhere": '
          'supported values: "NoExecute", "NoSchedule", "None"']),
        (exactly(tolerations=[{"key": "k", "value": "v"}]), []),
        (selecting('device.driver == "x" && device.attributes["d.example.com"].model == "a100"'), []),
        (selecting('device.capacity["d.example.com"].memory.compareTo(quantity("1Gi")) >= 0'), []),
        (selecting('device.attributes["d.example.com"].ready'), []),
        (selecting("device.driver"),
         [f'{R}.exactly.selectors[0].cel.expression: Invalid value: "device.driver": '
          "must evaluate to bool or the unknown type, not string"]),
        (selecting("1"), [f'{R}.exactly.selectors[0].cel.expression: Invalid value: "1": '
                          "must evaluate to bool or the unknown type, not int"]),
        (claim(constraints=[{"requests": ["two"], "matchAttribute": "model"}]),
         [f'spec.devices.constraints[0].requests[0]: Invalid value: "two": {SYNTAX}',
          'spec.devices.constraints[0].matchAttribute: Invalid value: "model": '
          "a fully qualified name must be a domain and a name separated by a slash"]),
        (claim(config=[{"requests": ["one"]}]), ["spec.devices.config[0].opaque: Required value"]),
        (claim(config=[{"opaque": {"driver": "d.example.com", "parameters": 1}}]),
         ['spec.devices.config[0].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object']),
    ],
)  # fmt: skip
def test_claims(body, expected):
    assert refused(CLAIM, body) == expected


def test_unknown_variables_do_not_compile():
    (error,) = refused(CLAIM, selecting("node.name == 'x'"))
    assert "compilation failed: ERROR" in error
    assert "undeclared reference to 'node'" in error


def test_alternatives():
    one = {"name": "a", "deviceClassName": "gpu.example.com"}
    assert refused(CLAIM, claim({"name": "one", "firstAvailable": [one]}, config=[
        {"requests": ["one/a"], "opaque": {"driver": "d.example.com", "parameters": {}}},
    ])) == []  # fmt: skip
    assert refused(CLAIM, claim({"name": "one", "firstAvailable": [one, one]})) == [
        f'{R}.firstAvailable[1]: Duplicate value: "a"'
    ]


def test_the_spec_of_a_claim_stays():
    def change(obj):
        obj["spec"]["devices"]["requests"][0]["exactly"]["count"] = 2

    (error,) = changed(CLAIM, claim(), change)
    assert error.startswith("spec: Invalid value: ")
    assert error.endswith(": field is immutable")


def _allocated(obj, **fields):
    result = {"request": "one", "driver": "d.example.com", "pool": "p", "device": "gpu-0", **fields}
    obj["status"] = {"allocation": {"devices": {"results": [result]}}}


def test_allocations():
    assert changed(CLAIM, claim(), _allocated, "status") == []
    assert changed(CLAIM, claim(), lambda obj: _allocated(obj, request="two", pool="", shareID="X"), "status") == [
        f'status.allocation.devices.results[0].request: Invalid value: "two": {SYNTAX}',
        "status.allocation.devices.results[0].pool: Required value",
        'status.allocation.devices.results[0].shareID: Invalid value: "X": '
        "error validating uid: invalid UUID length: 1",
    ]


def test_reserving_needs_an_allocation():
    def change(obj):
        obj["status"] = {"reservedFor": [{"resource": "pods", "name": "a", "uid": "1"}]}

    assert changed(CLAIM, claim(), change, "status") == [
        "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"
    ]


def test_drivers_report_allocated_devices_only():
    def change(obj):
        _allocated(obj)
        network = {"ips": ["10.0.0.1", "10.0.0.1/24"]}
        obj["status"]["devices"] = [
            {"driver": "d.example.com", "pool": "p", "device": "gpu-1", "networkData": network},
        ]

    assert changed(CLAIM, claim(), change, "status") == [
        'status.devices[0]: Invalid value: "d.example.com/p/gpu-1": must be an allocated device in the claim',
        'status.devices[0].networkData.ips[0]: Invalid value: "10.0.0.1": '
        "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
    ]


def test_classes():
    assert refused(CLASS, {"spec": {}}) == []
    assert refused(CLASS, {"spec": {"selectors": [{}], "extendedResourceName": "cpu"}}) == [
        "spec.selectors[0].cel: Required value",
        'spec.extendedResourceName: Invalid value: "cpu": must be a valid extended resource name',
    ]


D = "spec.devices[0]"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (offer(), []),
        (offer(nodeName=None), ["spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, "
                                "`perDeviceNodeSelection` is required"]),
        (offer(allNodes=True), ["spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, "
                                "`nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, "
                                "but multiple fields are set"]),
        (offer({"attributes": {"a": {}, "b": {"version": "1.2"}}, "capacity": {"m": {"value": "1Gi"}}}),
         [f'{D}.attributes[a]: Invalid value: "": exactly one value must be specified',
          f'{D}.attributes[b].version: Invalid value: "1.2": must be a string compatible with semver.org spec 2.0.0']),
        (offer({"taints": [{"key": "k", "effect": "NoWhere"}]}),
         [f'{D}.taints[0].effect: Unsupported value: "NoWhere": supported values: "NoExecute", "NoSchedule", "None"']),
        (offer({"consumesCounters": [{"counterSet": "s"}]}),
         [f"{D}.consumesCounters[0].counters: Required value"]),
        (offer({"bindingConditions": ["a"]}),
         [f"{D}.bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use "
          "bindingConditions"]),
        (offer(pool={"name": "p", "generation": -1, "resourceSliceCount": 0}),
         ["spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
          "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero"]),
    ],
)  # fmt: skip
def test_slices(body, expected):
    assert refused(SLICE, body) == expected


def test_a_slice_stays_with_its_driver():
    def change(obj):
        obj["spec"]["driver"] = "other.example.com"

    assert changed(SLICE, offer(), change) == ['spec.driver: Invalid value: "other.example.com": field is immutable']
