"""What a Pod is refused for, in upstream's words."""

from copy import deepcopy
from typing import Any

import pytest

from orca.api import strategy
from orca.api.builtin import CERTIFICATESIGNINGREQUESTS, PODS
from orca.api.validation.pods.resize import resize
from tests.support.growth import grows_with_its_size


def pod(**spec):
    base = {"containers": [{"name": "c", "image": "i:1"}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "d"}, "spec": base}


def born(obj):
    strategy.apply_defaults(PODS, obj)
    strategy.prepare_create(PODS, obj)
    return obj


def refused(obj):
    return [str(error) for error in strategy.validate_create(PODS, born(obj))]


def container(**fields):
    return pod(containers=[{"name": "c", "image": "i:1", **fields}])


IN_RANGE = "must be between 1 and 65535, inclusive"
C = "spec.containers[0]"


def test_a_rich_pod_is_fine():
    obj = pod(
        containers=[
            {
                "name": "c",
                "image": "i:1",
                "ports": [{"name": "http", "containerPort": 80}],
                "env": [{"name": "A", "value": "1"}, {"name": "P", "valueFrom": {"fieldRef": {
                    "fieldPath": "metadata.labels['a']"}}}],
                "envFrom": [{"configMapRef": {"name": "m"}}],
                "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a/b"}],
                "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "1Gi"}},
                "readinessProbe": {"exec": {"command": ["true"]}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
                "securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}},
            }
        ],
        initContainers=[{"name": "side", "image": "i", "restartPolicy": "Always",
                         "startupProbe": {"tcpSocket": {"port": 1}}}],
        volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
        tolerations=[{"operator": "Exists"}, {"key": "a", "effect": "NoExecute", "tolerationSeconds": 5}],
        nodeSelector={"kubernetes.io/os": "linux"},
        affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}]}},
        topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    )  # fmt: skip
    assert refused(obj) == []


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (pod(containers=[]), ["spec.containers: Required value"]),
        (container(name=""), [f"{C}.name: Required value"]),
        (container(image=""), [f"{C}.image: Required value"]),
        (container(image=" i "), [f'{C}.image: Invalid value: " i ": must not have leading or trailing whitespace']),
        (container(imagePullPolicy="Sometimes"),
         [f'{C}.imagePullPolicy: Unsupported value: "Sometimes": '
          'supported values: "Always", "IfNotPresent", "Never"']),
        (container(ports=[{"containerPort": 70000}]),
         [f"{C}.ports[0].containerPort: Invalid value: 70000: {IN_RANGE}"]),
        (container(ports=[{"name": "x"}]), [f"{C}.ports[0].containerPort: Required value"]),
        (container(ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
         [f'{C}.ports[1].name: Duplicate value: "a"']),
        (container(ports=[{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]),
         [f'{C}.ports[1].hostPort: Duplicate value: "TCP//9"']),
        (container(ports=[{"containerPort": 1, "protocol": "X"}]),
         [f'{C}.ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"']),
        (container(env=[{"name": "A", "value": "v", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
         [f'{C}.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty']),
        (container(env=[{"value": "v"}]), [f"{C}.env[0].name: Required value"]),
        (container(volumeMounts=[{"name": "v", "mountPath": "/v"}]),
         [f'{C}.volumeMounts[0].name: Not found: "v"']),
        (container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
         [f'{C}.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1']),
        (container(resources={"limits": {"memory": "-1"}}),
         [f'{C}.resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0',
          f'{C}.resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0']),
        (container(resources={"requests": {"example.com/gpu": "1"}}),
         [f"{C}.resources.limits: Required value: Limit must be set for non overcommitable resources"]),
        (container(livenessProbe={}), [f"{C}.livenessProbe: Required value: must specify a handler type"]),
        (container(livenessProbe={"tcpSocket": {"port": 1}, "successThreshold": 2}),
         [f"{C}.livenessProbe.successThreshold: Invalid value: 2: must be 1"]),
        (container(securityContext={"privileged": True, "allowPrivilegeEscalation": False}),
         [f'{C}.securityContext: Invalid value: {{"privileged":true,"allowPrivilegeEscalation":false}}: '
          "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"]),
        (pod(restartPolicy="Maybe"),
         ['spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"']),
        (pod(volumes=[{"name": "v"}, {"name": "v"}]), ['spec.volumes[1].name: Duplicate value: "v"']),
        (pod(volumes=[{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]),
         ["spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type"]),
        (pod(volumes=[{"name": "v", "configMap": {}}]), ["spec.volumes[0].configMap.name: Required value"]),
        (pod(volumes=[{"name": "v", "hostPath": {"path": "/a/../b"}}]),
         ['spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain \'..\'']),
        (pod(tolerations=[{"value": "a"}]),
         ['spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, '
          'which means "match all values and all keys"']),
        (pod(tolerations=[{"key": "a", "tolerationSeconds": 1}]),
         ['spec.tolerations[0].effect: Invalid value: "": '
          "effect must be 'NoExecute' when `tolerationSeconds` is set"]),
        (pod(activeDeadlineSeconds=0),
         ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"]),
        (pod(dnsPolicy="None"), ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]),
        (pod(initContainers=[{"name": "c", "image": "i"}]), ['spec.initContainers[0].name: Duplicate value: "c"']),
        (pod(initContainers=[{"name": "i", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]),
         ["spec.initContainers[0].readinessProbe: Forbidden: "
          "may not be set for init containers without restartPolicy=Always"]),
        (pod(ephemeralContainers=[{"name": "e", "image": "i"}]),
         ["spec.ephemeralContainers: Forbidden: cannot be set on create"]),
        (pod(topologySpreadConstraints=[{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]),
         ["spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero"]),
        (pod(schedulingGates=[{"name": "g"}], nodeName="n"),
         ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]),
    ],
)  # fmt: skip
def test_refusals(obj, expected):
    assert refused(deepcopy(obj)) == expected


def test_long_lists_take_no_longer_for_each_item():
    """Each was looked for among all others."""
    at = "spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}"

    def constraints(size):
        rules = [{"maxSkew": 1, "topologyKey": f"k{n}", "whenUnsatisfiable": "DoNotSchedule"} for n in range(size)]
        obj = pod(topologySpreadConstraints=[*rules, rules[0]])
        assert refused(obj) == [f'{at}: Duplicate value: "{{k0, DoNotSchedule}}"']

    def usages(size):
        spec = {"usages": [f"u{n}" for n in range(size)], "signerName": "a.b/c"}
        assert strategy.validate_create(CERTIFICATESIGNINGREQUESTS, {"metadata": {"name": "c"}, "spec": spec})

    assert grows_with_its_size(constraints, 2_000)
    assert grows_with_its_size(usages, 2_000)


def test_names_are_judged_by_the_texts_of_rfc_1123():
    text = refused(container(name="Not_OK"))[0]
    assert text.startswith(f'{C}.name: Invalid value: "Not_OK": a lowercase RFC 1123 label must consist of')


def changed(change, door="", old=None):
    old = old or born(pod())
    new = deepcopy(old)
    change(new)
    strategy.apply_defaults(PODS, new)
    strategy.prepare_update(PODS, new, old, door)
    return [str(error) for error in strategy.validate_update(PODS, new, old, door)]


def test_images_deadlines_and_tolerations_may_change():
    def change(obj):
        obj["spec"]["containers"][0]["image"] = "i:2"
        obj["spec"]["activeDeadlineSeconds"] = 10
        obj["spec"]["tolerations"] = [{"operator": "Exists"}]

    assert changed(change) == []


def test_other_fields_may_not():
    found = changed(lambda obj: obj["spec"].update(nodeSelector={"a": "b"}))
    assert len(found) == 1
    assert found[0].startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
        "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
    )
    assert '+spec.nodeSelector: {"a": "b"}' in found[0]


def test_containers_may_not_come_or_go():
    found = changed(lambda obj: obj["spec"]["containers"].append({"name": "d", "image": "i"}))
    assert found == ["spec.containers: Forbidden: pod updates may not add or remove containers"]


def test_tolerations_are_only_added():
    old = born(pod(tolerations=[{"key": "a", "operator": "Exists"}]))
    found = changed(lambda obj: obj["spec"].update(tolerations=[]), old=old)
    text = "existing toleration can not be modified except its tolerationSeconds"
    assert found == [f"spec.tolerations: Forbidden: {text}"]


def test_gates_open_only():
    gated = born(pod(schedulingGates=[{"name": "g"}]))

    def narrow(obj):
        obj["spec"].update(schedulingGates=[], nodeSelector={"a": "b"})

    assert changed(narrow, old=gated) == []
    found = changed(lambda obj: obj["spec"].update(schedulingGates=[{"name": "g"}]))
    assert found[0].endswith("only deletion is allowed, but found new scheduling gate 'g'")


def test_resize_takes_resources_only():
    def grow(obj):
        obj["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}

    old = born(pod(containers=[{"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "500m"}}}]))
    assert changed(grow, "resize", old) == []
    assert changed(lambda obj: obj["spec"]["containers"][0].update(image="j"), "resize") == []
    found = changed(lambda obj: obj["spec"]["containers"][0].update(name="other"), "resize")
    assert found == ["spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"]


def test_label_keys_of_affinity_become_expressions_of_the_selector():
    def term(**keys):
        return {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}}, **keys}

    affinity = {
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(matchLabelKeys=["hash", "absent"])]},
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": term(mismatchLabelKeys=["hash"])}
            ]
        },
    }
    obj = pod(affinity=affinity)
    obj["metadata"]["labels"] = {"hash": "x"}
    strategy.prepare_create(PODS, obj)
    near = obj["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    far = obj["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]
    assert near["labelSelector"]["matchExpressions"] == [{"key": "hash", "operator": "In", "values": ["x"]}]
    assert far["podAffinityTerm"]["labelSelector"]["matchExpressions"] == [
        {"key": "hash", "operator": "NotIn", "values": ["x"]}
    ]


def test_resize_leaves_everything_else_as_it_was():
    old = born(pod())
    new = deepcopy(old)
    new["spec"].update(nodeSelector={"a": "b"})
    new["spec"]["containers"][0].update(image="j", resources={"requests": {"cpu": "1"}})
    strategy.prepare_update(PODS, new, old, "resize")
    assert "nodeSelector" not in new["spec"]
    assert new["spec"]["containers"][0]["image"] == "i:1"
    assert new["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "1"}}


def test_ephemeral_containers_are_only_added():
    def add(obj):
        obj["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "i", "targetContainerName": "c"}]

    assert changed(add, "ephemeralcontainers") == []
    old = born(pod())
    add(old)
    strategy.apply_defaults(PODS, old)
    found = changed(lambda obj: obj["spec"].pop("ephemeralContainers"), "ephemeralcontainers", old)
    assert 'existing ephemeral containers "debug" may not be removed' in found[0]


def test_status_may_not_raise_the_dead():
    ended = {"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 0}}}]}
    old = born(pod(restartPolicy="Never"))
    old["status"] = ended
    alive = {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}
    found = changed(lambda obj: obj.update(status=alive), "status", old)
    assert found == ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]


def _sized(**amounts: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "i", "resources": amounts.get("resources", {}), **amounts.get("more", {})}
    spec = {"containers": [container], "nodeName": amounts.get("node", ""), "restartPolicy": "Always"}
    return {"metadata": {"name": "p", **amounts.get("meta", {})}, "spec": {**spec, **amounts.get("spec", {})}}


_ONE = {"requests": {"cpu": "1", "memory": "1Gi"}}
_TWO = {"requests": {"cpu": "2", "memory": "1Gi"}}
_INIT = {"name": "i", "image": "i"}
_AMPLE = {"resources": _ONE}
RESIZES = [
    ({"resources": _ONE}, {"resources": _TWO}, []),
    ({"resources": _ONE}, {"resources": {"requests": {"cpu": "1"}}}, ["resource requests cannot be removed"]),
    (
        {"resources": _ONE},
        {"resources": {**_ONE, "limits": {"cpu": "1", "memory": "1Gi"}}},
        ["Pod QOS Class may not change as a result of resizing"],
    ),
    ({"resources": _ONE}, {"resources": _ONE, "more": {"image": "j"}}, ["only cpu and memory resources are mutable"]),
    (
        {"resources": _ONE},
        {"resources": {"requests": {**_ONE["requests"], "example.com/x": "1"}}},
        ["only cpu and memory resources are mutable"],
    ),
    ({"resources": _ONE, "node": "n"}, {"resources": _TWO, "node": "n"}, []),
    ({"resources": _ONE, "node": "n"}, {"resources": _ONE, "node": "n"}, []),
    (
        {"meta": {"annotations": {"kubernetes.io/config.mirror": "x"}}},
        {"meta": {"annotations": {"kubernetes.io/config.mirror": "x"}}},
        ["static pods cannot be resized"],
    ),
    ({"spec": {"os": {"name": "windows"}}}, {"spec": {"os": {"name": "windows"}}}, ["windows pods cannot be resized"]),
    ({"spec": {"resources": _ONE}}, {"spec": {"resources": _TWO}}, []),
    (
        {"spec": {"resources": {**_ONE, "limits": {"cpu": "2", "memory": "2Gi"}}}},
        {"spec": {"resources": _ONE}},
        ["pod-level resource limits cannot be removed"],
    ),
    (
        {"spec": {"resources": _ONE}},
        {"spec": {"resources": {"requests": {**_ONE["requests"], "hugepages-2Mi": "2Mi"}}}},
        ["only cpu and memory resources are mutable at pod-level"],
    ),
    ({**_AMPLE, "spec": {"resources": _ONE}}, _AMPLE, ["pod-level resources cannot be removed"]),
    (
        {**_AMPLE, "spec": {"initContainers": [_INIT]}},
        {**_AMPLE, "spec": {"initContainers": [{**_INIT, "resources": _ONE}]}},
        ["resources for non-sidecar init containers are immutable"],
    ),
    (
        {"resources": _ONE, "spec": {"initContainers": [{**_INIT, "restartPolicy": "Always", "resources": _ONE}]}},
        {"resources": _ONE, "spec": {"initContainers": [{**_INIT, "restartPolicy": "Always", "resources": _TWO}]}},
        [],
    ),
    (
        {"spec": {"initContainers": [{**_INIT, "restartPolicy": "Always"}]}},
        {"spec": {"initContainers": [{**_INIT, "restartPolicy": "Always", "image": "j"}]}},
        ["only cpu and memory resources for init or sidecar containers are mutable"],
    ),
    ({}, {"spec": {"containers": []}}, ["containers may not be added or removed on resize"]),
]


@pytest.mark.parametrize(("before", "after", "details"), RESIZES)
def test_what_a_resize_may_change(before: dict[str, Any], after: dict[str, Any], details: list[str]) -> None:
    found: list[Any] = []
    resize(_sized(**after), _sized(**before), found)
    assert [error.detail for error in found] == details
