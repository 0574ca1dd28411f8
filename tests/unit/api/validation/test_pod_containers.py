"""Containers of pods: what upstream refuses, where, and in which words."""

import pytest

from tests.unit.api.validation.objects import container, pod, refused_pod

C = "spec.containers[0]"
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LINUX = {"name": "linux"}


def ref(**source):
    return container(env=[{"name": "A", "valueFrom": source}])


def field(path, **more):
    return ref(fieldRef={"fieldPath": path, **more})


def amount(name, divisor="0"):
    return ref(resourceFieldRef={"resource": name, "divisor": divisor})


V = f"{C}.env[0].valueFrom"


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (container(env=[{"name": "A=B"}]),
         [f'{C}.env[0].name: Invalid value: "A=B": a valid environment variable name must consist only of printable '
          "ASCII characters other than '='"]),
        (container(env=[{"name": "1 odd name"}]), []),
        (ref(), [f'{V}: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, '
                 "`secretKeyRef` or `fileKeyRef`"]),
        (ref(configMapKeyRef={"name": "m", "key": "k"}, secretKeyRef={"name": "m", "key": "k"}),
         [f'{V}: Invalid value: "": may not have more than one field specified at a time']),
        (ref(configMapKeyRef={"key": "k"}), [f'{V}.configMapKeyRef.name: Invalid value: "": {SUBDOMAIN}']),
        (ref(secretKeyRef={"name": "s"}), [f"{V}.secretKeyRef.key: Required value"]),
        (ref(secretKeyRef={"name": "s", "key": ".."}), [f"{V}.secretKeyRef.key: Invalid value: \"..\": "
                                                        "must not be '..'"]),
        (field("metadata.labels"),
         [f'{V}.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", '
          '"metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", '
          '"status.hostIPs", "status.podIP", "status.podIPs"']),
        (field("metadata.whoops"),
         [f'{V}.fieldRef.fieldPath: Invalid value: "metadata.whoops": error converting fieldPath: '
          "field label not supported: metadata.whoops"]),
        (field("metadata.name['key']"),
         [f"{V}.fieldRef.fieldPath: Invalid value: \"metadata.name['key']\": error converting fieldPath: "
          "field label does not support subscript: metadata.name['key']"]),
        (field("metadata.name", apiVersion="v2"),
         [f'{V}.fieldRef.fieldPath: Invalid value: "metadata.name": error converting fieldPath: '
          "unsupported pod version: v2"]),
        (field("metadata.labels['a/b/c']"), None),
        (amount("requests.hugepages-2Mi"), []),
        (amount("limits.hugepages"),
         [f'{V}.resourceFieldRef.resource: Unsupported value: "limits.hugepages": supported values: "limits.cpu", '
          '"limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", '
          '"requests.memory"']),
        (amount("limits.cpu", "1Mi"),
         [f'{V}.resourceFieldRef.divisor: Invalid value: "limits.cpu": '
          "only divisor's values 1m and 1 are supported with the cpu resource"]),
        (amount("limits.memory", "1m"),
         [f'{V}.resourceFieldRef.divisor: Invalid value: "limits.memory": only divisor\'s values 1, 1k, 1M, 1G, 1T, '
          "1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource"]),
        (ref(fileKeyRef={"volumeName": "v", "path": "a/../b", "key": "K"}),
         [f"{V}.fileKeyRef.path: Invalid value: \"a/../b\": must not contain '..'",
          f'{V}.fileKeyRef.volumeName: Not found: "v"']),
        (container(envFrom=[{}]),
         [f'{C}.envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`']),
        (container(envFrom=[{"configMapRef": {"name": "$"}}]),
         [f'{C}.envFrom[0].configMapRef.name: Invalid value: "$": {SUBDOMAIN}']),
        (container(envFrom=[{"configMapRef": {"name": "a"}, "secretRef": {"name": "a"}}]),
         [f'{C}.envFrom: Invalid value: "": may not have more than one field specified at a time']),
    ],
)  # fmt: skip
def test_environment(obj, expected):
    found = refused_pod(obj)
    assert found == expected if expected is not None else len(found) == 1 and found[0].startswith(f"{V}.fieldRef: ")


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (container(ports=[{"containerPort": 80, "hostIP": "nonsense"}]), []),
        (container(ports=[{"containerPort": 80, "name": "a" * 16}]),
         [f'{C}.ports[0].name: Invalid value: "{"a" * 16}": must be no more than 15 bytes']),
        (container(ports=[{"containerPort": 80, "name": "1-2"}]),
         [f'{C}.ports[0].name: Invalid value: "1-2": must contain at least one letter (a-z)']),
        (container(ports=[{"containerPort": 80, "hostPort": 65536}]),
         [f"{C}.ports[0].hostPort: Invalid value: 65536: must be between 1 and 65535, inclusive"]),
        (container(ports=[{"containerPort": 80, "protocol": "tcp"}]),
         [f'{C}.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"']),
        ({**pod(hostNetwork=True), "spec": {"hostNetwork": True, "containers": [
            {"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 81}]}]}},
         [f"{C}.ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"]),
        (pod(initContainers=[
            {"name": "a", "image": "i", "ports": [{"containerPort": 1, "hostPort": 9}]},
            {"name": "b", "image": "i", "ports": [{"containerPort": 1, "hostPort": 9}]}]), []),
    ],
)  # fmt: skip
def test_ports(obj, expected):
    assert refused_pod(obj) == expected


def probe(kind="livenessProbe", **fields):
    return container(**{kind: {"tcpSocket": {"port": 1}, **fields}})


def hook(**handler):
    return container(lifecycle={"preStop": handler})


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (probe(exec={"command": ["a"]}),
         [f"{C}.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]),
        (container(readinessProbe={"exec": {}}), [f"{C}.readinessProbe.exec.command: Required value"]),
        (container(readinessProbe={"httpGet": {"port": "Not_ok", "scheme": "FTP", "path": ""}}),
         [f'{C}.readinessProbe.httpGet.port: Invalid value: "Not_ok": must contain only alpha-numeric characters '
          "(a-z, 0-9), and hyphens (-)",
          f'{C}.readinessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"']),
        (container(readinessProbe={"httpGet": {"port": 1, "httpHeaders": [{"name": "a b", "value": ""}]}}),
         [f'{C}.readinessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of '
          "alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"]),
        (container(startupProbe={"grpc": {"port": 0}}),
         [f"{C}.startupProbe.grpc.port: Invalid value: 0: must be between 1 and 65535, inclusive"]),
        (probe(periodSeconds=-1),
         [f"{C}.livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0"]),
        (probe("readinessProbe", terminationGracePeriodSeconds=0),
         [f"{C}.readinessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
          f"{C}.readinessProbe.terminationGracePeriodSeconds: Invalid value: 0: "
          "must not be set for readinessProbes"]),
        (probe("startupProbe", successThreshold=2),
         [f"{C}.startupProbe.successThreshold: Invalid value: 2: must be 1"]),
        (hook(), [f"{C}.lifecycle.preStop: Required value: must specify a handler type"]),
        (hook(sleep={"seconds": 0}), []),
        (hook(sleep={"seconds": 31}),
         [f"{C}.lifecycle.preStop.sleep: Invalid value: 31: "
          "must be non-negative and less than terminationGracePeriodSeconds (30)"]),
        (container(lifecycle={"stopSignal": "SIGTERM"}),
         [f"{C}.lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"]),
        (pod(os=LINUX, containers=[{"name": "c", "image": "i", "lifecycle": {"stopSignal": "SIGRTMIN+15"}}]), []),
        (pod(os={"name": "windows"}, containers=[{"name": "c", "image": "i", "lifecycle": {"stopSignal": "SIGINT"}}]),
         [f'{C}.lifecycle.stopSignal: Unsupported value: "SIGINT": supported values: "SIGKILL", "SIGTERM"']),
    ],
)  # fmt: skip
def test_probes_and_hooks(obj, expected):
    assert refused_pod(obj) == expected


def rule(action="Restart", **codes):
    return {"action": action, "exitCodes": {"operator": "In", "values": [1], **codes}}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (container(terminationMessagePolicy="Loud"),
         [f'{C}.terminationMessagePolicy: Unsupported value: "Loud": supported values: "File", '
          '"FallbackToLogsOnError"']),
        (container(restartPolicy="Sometimes"),
         [f'{C}.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"']),
        (container(restartPolicyRules=[rule()]),
         [f"{C}.restartPolicy: Required value: must specify restartPolicy when restart rules are used"]),
        (container(restartPolicy="Never", restartPolicyRules=[rule()] * 21),
         [f"{C}.restartPolicyRules: Too many: 21: must have at most 20 items"]),
        (container(restartPolicy="Never", restartPolicyRules=[rule(values=list(range(256)))]),
         [f"{C}.restartPolicyRules[0].exitCodes.values: Too many: 256: must have at most 255 items"]),
        (container(restartPolicy="Never", restartPolicyRules=[{"action": "Stop"}]),
         [f'{C}.restartPolicyRules[0].action: Unsupported value: "Stop": '
          'supported values: "Restart", "RestartAllContainers"',
          f"{C}.restartPolicyRules[0].exitCodes: Required value: must be specified"]),
        (container(restartPolicy="Never", restartPolicyRules=[rule(operator="Is")]),
         [f'{C}.restartPolicyRules[0].exitCodes.operator: Unsupported value: "Is": supported values: "In", "NotIn"']),
        (pod(initContainers=[{"name": "i", "image": "i", "restartPolicy": "Always",
                              "restartPolicyRules": [rule("RestartAllContainers")]}]), []),
        (container(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}] * 2),
         [f'{C}.resizePolicy[1]: Duplicate value: "cpu"']),
        (container(resizePolicy=[{"resourceName": "disk", "restartPolicy": "NotRequired"}]),
         [f'{C}.resizePolicy: Unsupported value: "disk": supported values: "cpu", "memory"']),
        (pod(restartPolicy="Never", containers=[{"name": "c", "image": "i", "resizePolicy": [
            {"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}]),
         [f'{C}.resizePolicy: Invalid value: "RestartContainer": '
          "must be 'NotRequired' when pod `restartPolicy` is 'Never'"]),
        (pod(initContainers=[{"name": "i", "image": "i", "resizePolicy": [
            {"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}]),
         ['spec.initContainers[0].resizePolicy[0].restartPolicy: Invalid value: "RestartContainer": '
          "must not be set to 'RestartContainer' for non-sidecar initContainers"]),
    ],
)  # fmt: skip
def test_policies(obj, expected):
    assert refused_pod(obj) == expected


def resources(pod_claims=(), **fields):
    claims = [{"name": name, "resourceClaimName": name} for name in pod_claims]
    return pod(resourceClaims=claims, containers=[{"name": "c", "image": "i", "resources": fields}])


R = f"{C}.resources"
STANDARD = ["must be a standard resource type or fully qualified", "must be a standard resource for containers"]


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (resources(limits={"disk": "1"}),
         [f'{R}.{part}[disk]: Invalid value: "disk": {text}' for part in ("limits", "requests") for text in STANDARD]),
        (resources(limits={"requests.cpu": "1"}),
         [f'{R}.{part}[requests.cpu]: Invalid value: "requests.cpu": {STANDARD[1]}' for part in
          ("limits", "requests")]),
        (resources(limits={"a.com/gpu": "500m"}, requests={"a.com/gpu": "500m"}),
         [f'{R}.{part}[a.com/gpu]: Invalid value: "500m": must be an integer' for part in ("limits", "requests")]),
        (resources(limits={"a.com/gpu": "2"}, requests={"a.com/gpu": "1"}),
         [f'{R}.requests: Invalid value: "1": must be equal to a.com/gpu limit of 2']),
        (resources(limits={"hugepages-2Mi": "2Mi"}, requests={"hugepages-2Mi": "2Mi"}),
         [f"{R}: Forbidden: HugePages require cpu or memory"]),
        (resources(limits={"hugepages-2Mi": "3Mi", "cpu": "1"}, requests={"hugepages-2Mi": "3Mi", "cpu": "1"}),
         [f'{R}.{part}[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi'
          for part in ("limits", "requests")]),
        (resources(claims=[{"name": "a"}]),
         [f'{R}.claims[0]: Not found: "a": must be one of the names in pod.spec.resourceClaims which is empty']),
        (resources(["x", "y"], claims=[{"name": "a"}]),
         [f'{R}.claims[0]: Not found: "a": must be one of the names in pod.spec.resourceClaims: x, y']),
        (resources(["x"], claims=[{"name": "x"}, {"name": "x", "request": "r"}]),
         [f'{R}.claims[1]: Duplicate value: "x"']),
        (resources(["x"], claims=[{"name": "x", "request": "r"}, {"name": "x"}]),
         [f'{R}.claims[1]: Duplicate value: "x"']),
        (resources(["x"], claims=[{"name": "x", "request": "a"}, {"name": "x", "request": "b"}]), []),
    ],
)  # fmt: skip
def test_resources(obj, expected):
    assert refused_pod(obj) == expected


def whole(own, amounts):
    return pod(resources=own, containers=[{"name": "c", "image": "i", "resources": amounts}])


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (whole({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}, {"requests": {"cpu": "1"}}), []),
        (whole({"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}}),
         ['spec.resources.requests[cpu]: Invalid value: "1": '
          "must be greater than or equal to aggregate container requests of 2"]),
        (whole({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}, {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}),
         ['spec.resources.containers[0][cpu].limits: Invalid value: "2": '
          "must be less than or equal to pod limits of 1"]),
        (whole({"requests": {"ephemeral-storage": "1"}}, {}),
         ['spec.resources.requests[ephemeral-storage]: Unsupported value: "ephemeral-storage": '
          'supported values: "cpu", "hugepages-", "memory"']),
        (whole({"claims": [{"name": "x"}]}, {}),
         ["spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level"]),
    ],
)  # fmt: skip
def test_resources_of_pods(obj, expected):
    assert refused_pod(obj) == expected
