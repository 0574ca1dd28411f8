"""What an object looks like once its kind's defaults are in."""

import base64

import pytest

from orca.api import builtin, strategy
from orca.api.strategy import apply_defaults


def made(resource, **body):
    obj = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "x"}, **body}
    apply_defaults(resource, obj)
    return obj


def pod(**spec):
    return made(builtin.PODS, spec={"containers": [{"name": "c", "image": "i"}], **spec})["spec"]


def container(**fields):
    return pod(containers=[{"name": "c", "image": "i", **fields}])["containers"][0]


def test_pod_spec():
    spec = pod()
    del spec["containers"]
    assert spec == {
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }


def test_container():
    assert container(ports=[{"containerPort": 80}]) == {
        "name": "c",
        "image": "i",
        "imagePullPolicy": "Always",
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "resources": {},
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("host:5000/nginx", "Always"),
        ("host:5000/nginx:2", "IfNotPresent"),
        ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
        ("nginx:latest@sha256:" + "0" * 64, "Always"),
    ],
)
def test_pull_policy_follows_the_tag(image, policy):
    assert container(image=image)["imagePullPolicy"] == policy


def test_probes_and_hooks():
    made_container = container(
        readinessProbe={"httpGet": {"port": 80}},
        livenessProbe={"grpc": {"port": 1}, "periodSeconds": 3},
        lifecycle={"preStop": {"httpGet": {"port": 1}}},
    )
    counts = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
    assert made_container["readinessProbe"] == {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, **counts}
    assert made_container["livenessProbe"] == {"grpc": {"port": 1, "service": ""}, **counts, "periodSeconds": 3}
    assert made_container["lifecycle"]["preStop"]["httpGet"]["scheme"] == "HTTP"


def test_requests_come_from_limits_and_quantities_are_canonical():
    resources = container(resources={"limits": {"cpu": "0.5", "memory": "1024Mi"}, "requests": {"cpu": "0.1"}})
    assert resources["resources"] == {
        "limits": {"cpu": "500m", "memory": "1Gi"},
        "requests": {"cpu": "100m", "memory": "1Gi"},
    }
    assert [p["resourceName"] for p in resources["resizePolicy"]] == ["cpu", "memory"]


def test_templates_get_no_requests_and_no_service_links():
    limits = {"limits": {"cpu": "1"}}
    obj = made(builtin.DEPLOYMENTS, spec={"template": {"spec": {"containers": [{"image": "i", "resources": limits}]}}})
    spec = obj["spec"]["template"]["spec"]
    assert "requests" not in spec["containers"][0]["resources"]
    assert "enableServiceLinks" not in spec


def test_env_and_volumes():
    sources = ({"fieldRef": {"fieldPath": "metadata.name"}}, {"resourceFieldRef": {"resource": "limits.cpu"}})
    env = container(env=[{"name": "A", "valueFrom": source} for source in sources])["env"]
    assert env[0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"
    assert env[1]["valueFrom"]["resourceFieldRef"]["divisor"] == "0"
    sources = {
        "secret": {"defaultMode": 420},
        "configMap": {"defaultMode": 420},
        "downwardAPI": {"defaultMode": 420},
        "hostPath": {"type": ""},
    }
    volumes = pod(volumes=[{"name": k, k: {}} for k in sources] + [{"name": "e"}])["volumes"]
    assert volumes == [{"name": k, k: v} for k, v in sources.items()] + [{"name": "e", "emptyDir": {}}]
    projected = pod(volumes=[{"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}])
    assert projected["volumes"][0]["projected"] == {
        "defaultMode": 420,
        "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
    }


def test_host_network_takes_host_ports():
    spec = pod(hostNetwork=True, containers=[{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}])
    assert spec["containers"][0]["ports"][0]["hostPort"] == 80


def test_the_account_has_two_names():
    spec = pod(serviceAccount="a")
    assert (spec["serviceAccount"], spec["serviceAccountName"]) == ("a", "a")


@pytest.mark.parametrize(
    ("resource", "spec", "expected"),
    [
        (builtin.DEPLOYMENTS, {}, {
            "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}}),
        (builtin.DEPLOYMENTS, {"replicas": 0, "strategy": {"type": "Recreate"}}, {
            "replicas": 0, "strategy": {"type": "Recreate"}, "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600}),
        (builtin.REPLICASETS, {}, {"replicas": 1}),
        (builtin.DAEMONSETS, {}, {
            "revisionHistoryLimit": 10,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}}),
        (builtin.STATEFULSETS, {}, {
            "replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}}),
        (builtin.JOBS, {}, {
            "completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False,
            "manualSelector": False, "podReplacementPolicy": "TerminatingOrFailed"}),
        (builtin.CRONJOBS, {"jobTemplate": {"spec": {}}}, {
            "jobTemplate": {"spec": {}}, "concurrencyPolicy": "Allow", "suspend": False,
            "successfulJobsHistoryLimit": 3, "failedJobsHistoryLimit": 1}),
        (builtin.SERVICES, {"ports": [{"port": 80}]}, {
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "type": "ClusterIP",
            "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}),
        (builtin.SERVICES, {"type": "NodePort", "sessionAffinity": "ClientIP"}, {
            "type": "NodePort", "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Cluster",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}, "internalTrafficPolicy": "Cluster"}),
        (builtin.NETWORKPOLICIES, {"egress": [{"ports": [{"port": 1}]}]}, {
            "egress": [{"ports": [{"port": 1, "protocol": "TCP"}]}], "policyTypes": ["Ingress", "Egress"]}),
        (builtin.PERSISTENTVOLUMECLAIMS, {}, {"volumeMode": "Filesystem"}),
        (builtin.HORIZONTALPODAUTOSCALERS, {}, {
            "minReplicas": 1, "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}),
    ],
)  # fmt: skip
def test_specs(resource, spec, expected):
    assert made(resource, spec=spec)["spec"] == expected


def test_secret_strings_become_data():
    obj = made(builtin.SECRETS, data={"a": "b2xk", "k": "eA=="}, stringData={"a": "new"})
    assert obj["data"] == {"a": base64.b64encode(b"new").decode(), "k": "eA=="}
    assert "stringData" not in obj
    assert obj["type"] == "Opaque"


def test_namespaces_are_labelled_with_their_name():
    obj = made(builtin.NAMESPACES)
    assert obj["metadata"]["labels"] == {"kubernetes.io/metadata.name": "x"}


def test_slices_storage_classes_and_bindings():
    ports = made(builtin.ENDPOINTSLICES, ports=[{"port": 1}])["ports"]
    assert ports == [{"port": 1, "name": "", "protocol": "TCP"}]
    stored = made(builtin.STORAGECLASSES)
    assert (stored["reclaimPolicy"], stored["volumeBindingMode"]) == ("Delete", "Immediate")
    bound = made(builtin.ROLEBINDINGS, roleRef={"kind": "Role", "name": "r"}, subjects=[{"kind": "User", "name": "u"}])
    assert bound["roleRef"]["apiGroup"] == bound["subjects"][0]["apiGroup"] == "rbac.authorization.k8s.io"


def born(resource, **body):
    obj = made(resource, **body)
    strategy.prepare_create(resource, obj)
    return obj


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}], "Burstable"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
    ],
)
def test_quality_of_service(resources, expected):
    containers = [{"name": str(i), "image": "i", "resources": r} for i, r in enumerate(resources)]
    assert born(builtin.PODS, spec={"containers": containers})["status"]["qosClass"] == expected


def test_new_objects_start_with_their_state():
    assert born(builtin.NAMESPACES)["spec"] == {"finalizers": ["kubernetes"]}
    assert born(builtin.NAMESPACES)["status"] == {"phase": "Active"}
    assert born(builtin.PERSISTENTVOLUMES)["status"] == {"phase": "Pending"}
    assert born(builtin.SERVICES, status={"loadBalancer": {"ingress": [{}]}})["status"] == {"loadBalancer": {}}
    gated = born(builtin.PODS, spec={"containers": [], "schedulingGates": [{"name": "g"}]})
    assert gated["status"]["conditions"][0]["reason"] == "SchedulingGated"


def test_a_job_selects_its_pods_by_its_uid():
    job = born(builtin.JOBS, spec={"template": {"spec": {"containers": []}}})
    uid = job["metadata"]["uid"]
    assert job["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert labels["batch.kubernetes.io/controller-uid"] == uid
    assert labels["job-name"] == "x"


@pytest.mark.parametrize(
    ("spec", "status", "seconds"),
    [
        ({}, {}, 0),
        ({"nodeName": "n"}, {}, 30),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 5}, {}, 5),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 0}, {}, 0),
        ({"nodeName": "n", "terminationGracePeriodSeconds": -1}, {}, 1),
        ({"nodeName": "n"}, {"phase": "Succeeded"}, 0),
    ],
)
def test_grace(spec, status, seconds):
    assert strategy.graceful(builtin.PODS, {"spec": spec, "status": status}) == seconds
