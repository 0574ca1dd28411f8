"""The official Python client: typed, dynamic, watches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException

from tests.support.kubectl import eventually
from tests.support.patience import PATIENCE


@pytest.fixture(scope="module")
def api(kubeconfig: Path) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(kubeconfig)) as one:
        yield one


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


def meta(name: str, **more: Any) -> client.V1ObjectMeta:
    return client.V1ObjectMeta(name=name, **more)


def template(name: str) -> client.V1PodTemplateSpec:
    container = client.V1Container(
        name="web",
        image="nginx:1.25",
        ports=[client.V1ContainerPort(container_port=80)],
        resources=client.V1ResourceRequirements(requests={"cpu": "100m", "memory": "64Mi"}),
        liveness_probe=client.V1Probe(http_get=client.V1HTTPGetAction(path="/", port=80)),
    )
    return client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": name}), spec=client.V1PodSpec(containers=[container])
    )


def selector(name: str) -> client.V1LabelSelector:
    return client.V1LabelSelector(match_labels={"app": name})


def optimistic(read: Callable[[], Any], replace: Callable[[Any], Any], change: Callable[[Any], None]) -> Any:
    """Read, change and replace; again when a controller was quicker."""
    for _ in range(10):
        body = read()
        change(body)
        try:
            return replace(body)
        except ApiException as error:
            if error.status != 409:
                raise
    raise AssertionError("nothing but conflicts")


def annotate(body: Any) -> None:
    body.metadata.annotations = {**(body.metadata.annotations or {}), "note": "replaced"}


def test_many_kinds_through_their_typed_classes(api: client.ApiClient, space: str) -> None:
    """Each is made, read, listed, patched and deleted; what comes back has to fit the client's own model of it."""
    core, apps, batch = client.CoreV1Api(api), client.AppsV1Api(api), client.BatchV1Api(api)
    net, policy, rbac = client.NetworkingV1Api(api), client.PolicyV1Api(api), client.RbacAuthorizationV1Api(api)
    scaling, storage, scheduling = client.AutoscalingV2Api(api), client.StorageV1Api(api), client.SchedulingV1Api(api)
    leases = client.CoordinationV1Api(api)
    rule = client.V1PolicyRule(api_groups=[""], resources=["pods"], verbs=["get"])
    job = client.V1JobSpec(
        suspend=True,
        template=client.V1PodTemplateSpec(
            spec=client.V1PodSpec(restart_policy="Never", containers=[client.V1Container(name="c", image="busybox")])
        ),
    )
    backend = client.V1IngressBackend(
        service=client.V1IngressServiceBackend(name="web", port=client.V1ServiceBackendPort(number=80))
    )
    made: list[tuple[Any, str, Any, bool]] = [
        (core, "config_map", client.V1ConfigMap(metadata=meta("m"), data={"a": "1"}, binary_data={"b": "AAE="}), True),
        (core, "secret", client.V1Secret(metadata=meta("s"), string_data={"password": "x"}), True),
        (core, "service_account", client.V1ServiceAccount(metadata=meta("sa")), True),
        (
            core,
            "service",
            client.V1Service(
                metadata=meta("web"),
                spec=client.V1ServiceSpec(
                    selector={"app": "web"}, ports=[client.V1ServicePort(port=80, target_port="http")]
                ),
            ),
            True,
        ),
        (
            core,
            "persistent_volume_claim",
            client.V1PersistentVolumeClaim(
                metadata=meta("claim"),
                spec=client.V1PersistentVolumeClaimSpec(
                    access_modes=["ReadWriteOnce"],
                    resources=client.V1VolumeResourceRequirements(requests={"storage": "1Gi"}),
                ),
            ),
            True,
        ),
        (
            apps,
            "deployment",
            client.V1Deployment(
                metadata=meta("web"),
                spec=client.V1DeploymentSpec(replicas=0, selector=selector("web"), template=template("web")),
            ),
            True,
        ),
        (
            apps,
            "stateful_set",
            client.V1StatefulSet(
                metadata=meta("db"),
                spec=client.V1StatefulSetSpec(
                    service_name="db", replicas=0, selector=selector("db"), template=template("db")
                ),
            ),
            True,
        ),
        (
            apps,
            "daemon_set",
            client.V1DaemonSet(
                metadata=meta("agent"), spec=client.V1DaemonSetSpec(selector=selector("d"), template=template("d"))
            ),
            True,
        ),
        (batch, "job", client.V1Job(metadata=meta("once"), spec=job), True),
        (
            batch,
            "cron_job",
            client.V1CronJob(
                metadata=meta("nightly"),
                spec=client.V1CronJobSpec(schedule="0 3 * * *", job_template=client.V1JobTemplateSpec(spec=job)),
            ),
            True,
        ),
        (
            net,
            "ingress",
            client.V1Ingress(metadata=meta("in"), spec=client.V1IngressSpec(default_backend=backend)),
            True,
        ),
        (
            net,
            "network_policy",
            client.V1NetworkPolicy(
                metadata=meta("np"), spec=client.V1NetworkPolicySpec(pod_selector=selector("x"), ingress=[])
            ),
            True,
        ),
        (
            policy,
            "pod_disruption_budget",
            client.V1PodDisruptionBudget(
                metadata=meta("pdb"),
                spec=client.V1PodDisruptionBudgetSpec(min_available="50%", selector=selector("web")),
            ),
            True,
        ),
        (
            scaling,
            "horizontal_pod_autoscaler",
            client.V2HorizontalPodAutoscaler(
                metadata=meta("hpa"),
                spec=client.V2HorizontalPodAutoscalerSpec(
                    max_replicas=3,
                    scale_target_ref=client.V2CrossVersionObjectReference(
                        api_version="apps/v1", kind="Deployment", name="web"
                    ),
                ),
            ),
            True,
        ),
        (leases, "lease", client.V1Lease(metadata=meta("l"), spec=client.V1LeaseSpec(holder_identity="me")), True),
        (rbac, "role", client.V1Role(metadata=meta("r"), rules=[rule]), True),
        (
            rbac,
            "role_binding",
            client.V1RoleBinding(
                metadata=meta("rb"),
                role_ref=client.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name="r"),
                subjects=[client.RbacV1Subject(kind="User", name="u", api_group="rbac.authorization.k8s.io")],
            ),
            True,
        ),
        (rbac, "cluster_role", client.V1ClusterRole(metadata=meta(f"cr-{space}"), rules=[rule]), False),
        (
            storage,
            "storage_class",
            client.V1StorageClass(metadata=meta(f"sc-{space}"), provisioner="example.com/none"),
            False,
        ),
        (
            scheduling,
            "priority_class",
            client.V1PriorityClass(metadata=meta(f"pc-{space}"), value=100, global_default=False),
            False,
        ),
    ]
    for where, kind, body, namespaced in made:
        scope = (space,) if namespaced else ()
        stem = f"namespaced_{kind}" if namespaced else kind
        name = body.metadata.name
        created = getattr(where, f"create_{stem}")(*scope, body)
        assert created.metadata.uid, kind
        assert type(created) is type(body)
        read = getattr(where, f"read_{stem}")(name, *scope)
        assert read.metadata.uid == created.metadata.uid
        listed = getattr(where, f"list_{stem}")(*scope)
        assert name in [one.metadata.name for one in listed.items], kind
        patched = getattr(where, f"patch_{stem}")(name, *scope, {"metadata": {"labels": {"seen": "yes"}}})
        assert patched.metadata.labels["seen"] == "yes", kind
        selected = getattr(where, f"list_{stem}")(*scope, label_selector="seen=yes", limit=1)
        assert [one.metadata.name for one in selected.items] == [name], kind
        replaced = optimistic(
            partial(getattr(where, f"read_{stem}"), name, *scope),
            partial(getattr(where, f"replace_{stem}"), name, *scope),
            annotate,
        )
        assert replaced.metadata.annotations["note"] == "replaced", kind
    for where, kind, body, namespaced in reversed(made):
        scope = (space,) if namespaced else ()
        stem = f"namespaced_{kind}" if namespaced else kind
        getattr(where, f"delete_{stem}")(body.metadata.name, *scope)
    assert core.read_namespace(space).status.phase == "Active"


def test_errors_are_exceptions_with_a_status(core: client.CoreV1Api, space: str) -> None:
    for call, code, reason in (
        (lambda: core.read_namespaced_config_map("none", space), 404, "NotFound"),
        (lambda: core.create_namespaced_config_map(space, {"metadata": {"name": "BAD"}}), 422, "Invalid"),
        (lambda: core.read_namespaced_pod_log("none", space), 404, "NotFound"),
    ):
        with pytest.raises(ApiException) as caught:
            call()  # type: ignore[no-untyped-call]
        assert caught.value.status == code
        assert f'"reason":"{reason}"' in caught.value.body


def test_workloads_come_to_life(api: client.ApiClient, space: str) -> None:
    """The Deployment's pods appear, scale and go with it."""
    apps, core = client.AppsV1Api(api), client.CoreV1Api(api)
    spec = client.V1DeploymentSpec(replicas=2, selector=selector("web"), template=template("web"))
    apps.create_namespaced_deployment(space, client.V1Deployment(metadata=meta("web"), spec=spec))

    def pods() -> int:
        return len(core.list_namespaced_pod(space, label_selector="app=web").items)

    eventually(lambda: pods() == 2, what="two pods")
    optimistic(
        lambda: apps.read_namespaced_deployment_scale("web", space),
        lambda scale: apps.replace_namespaced_deployment_scale("web", space, scale),
        lambda scale: setattr(scale.spec, "replicas", 3),
    )
    eventually(lambda: pods() == 3, what="three pods")
    eventually(lambda: apps.read_namespaced_deployment("web", space).status.replicas == 3, what="its status")
    for pod in core.list_namespaced_pod(space).items:
        assert pod.status.phase == "Pending"
        assert pod.spec.containers[0].resources.requests["cpu"] == "100m"
    apps.delete_namespaced_deployment("web", space, propagation_policy="Foreground")
    eventually(lambda: pods() == 0, what="no pods")


def test_a_watch_that_is_taken_up_again(core: client.CoreV1Api, space: str) -> None:
    """``Watch`` remembers the version of what it saw last and goes on from there when its stream ends."""
    since = core.list_namespaced_config_map(space).metadata.resource_version
    seen: list[tuple[str, str]] = []
    ready = threading.Event()
    watching = watch.Watch()

    def look() -> None:
        stream = watching.stream(
            core.list_namespaced_config_map, space, resource_version=since, timeout_seconds=1, label_selector="w=1"
        )
        # Without a final timeout the client reconnects by itself whenever the server ends the stream.
        for event in stream:
            seen.append((event["type"], event["object"].metadata.name))
            ready.set()
            if len(seen) == 5:
                watching.stop()

    again = threading.Thread(target=lambda: [look() for _ in range(100) if len(seen) < 5], daemon=True)
    again.start()
    labels = {"w": "1"}
    for number in range(2):
        core.create_namespaced_config_map(space, {"metadata": {"name": f"a{number}", "labels": labels}})
    assert ready.wait(PATIENCE)
    eventually(lambda: not again.is_alive() or len(seen) >= 2, what="the first events")
    core.patch_namespaced_config_map("a0", space, {"data": {"x": "1"}})
    core.patch_namespaced_config_map("a1", space, {"metadata": {"labels": {"w": None}}})
    core.delete_namespaced_config_map("a0", space)
    again.join(PATIENCE)
    expected = [("ADDED", "a0"), ("ADDED", "a1"), ("MODIFIED", "a0"), ("DELETED", "a1"), ("DELETED", "a0")]
    assert list(dict.fromkeys(seen)) == expected


def test_pages(core: client.CoreV1Api, space: str) -> None:
    for number in range(7):
        core.create_namespaced_config_map(space, {"metadata": {"name": f"p{number}"}})
    names: list[str] = []
    token = None
    while True:
        page = core.list_namespaced_config_map(space, limit=3, _continue=token)
        names += [one.metadata.name for one in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert [name for name in names if name.startswith("p")] == [f"p{number}" for number in range(7)]


def test_the_dynamic_client(api: client.ApiClient, space: str) -> None:
    """It learns everything from discovery."""
    anything = dynamic.DynamicClient(api)
    deployments = anything.resources.get(api_version="apps/v1", kind="Deployment")
    maps = anything.resources.get(api_version="v1", kind="ConfigMap")
    assert deployments.namespaced
    assert "deploy" in deployments.short_names
    assert {"create", "deletecollection", "get", "list", "patch", "update", "watch"} <= set(deployments.verbs)
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "dyn"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "dyn"}},
            "template": {
                "metadata": {"labels": {"app": "dyn"}},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]},
            },
        },
    }
    made = deployments.create(body=body, namespace=space)
    assert made.spec.strategy.rollingUpdate.maxSurge == "25%"
    patched = deployments.patch(
        name="dyn",
        namespace=space,
        body=[{"op": "add", "path": "/spec/paused", "value": True}, {"op": "remove", "path": "/spec/replicas"}],
        content_type="application/json-patch+json",
    )
    assert (patched.spec.paused, patched.spec.replicas) == (True, 1)
    merged = deployments.patch(
        name="dyn",
        namespace=space,
        body={"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}},
        content_type="application/merge-patch+json",
    )
    assert merged.spec.template.metadata.annotations.a == "b"
    scale = deployments.scale.get(name="dyn", namespace=space)
    assert scale.kind == "Scale"
    scaled = deployments.scale.patch(name="dyn", namespace=space, body={"spec": {"replicas": 4}})
    assert scaled.spec.replicas == 4
    with pytest.raises(dynamic.exceptions.ConflictError):
        deployments.create(body=body, namespace=space)
    with pytest.raises(dynamic.exceptions.NotFoundError):
        maps.get(name="none", namespace=space)
    maps.create(body={"metadata": {"name": "m"}}, namespace=space)
    events = maps.watch(namespace=space, timeout=60, field_selector="metadata.name=m")
    first = next(iter(events))
    assert (first["type"], first["object"].metadata.name) == ("ADDED", "m")
    deployments.delete(name="dyn", namespace=space)


def test_server_side_apply(api: client.ApiClient, space: str) -> None:
    maps = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1", "b": "2"}}
    made = maps.server_side_apply(body=body, namespace=space, field_manager="one")
    assert made.metadata.managedFields[0].manager == "one"
    with pytest.raises(dynamic.exceptions.ConflictError):
        maps.server_side_apply(body={**body, "data": {"a": "9"}}, namespace=space, field_manager="two")
    forced = maps.server_side_apply(
        body={**body, "data": {"a": "9"}}, namespace=space, field_manager="two", force_conflicts=True
    )
    assert forced.data.to_dict() == {"a": "9", "b": "2"}
    left = maps.server_side_apply(body={**body, "data": {}}, namespace=space, field_manager="one")
    assert left.data.to_dict() == {"a": "9"}


def test_manifests(api: client.ApiClient, core: client.CoreV1Api, space: str) -> None:
    """``create_from_yaml`` with several documents, as people deploy with it."""
    documents = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"k": "v"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "two"}, "spec": {"ports": [{"port": 80}]}},
    ]
    utils.create_from_yaml(api, yaml_objects=documents, namespace=space)
    assert core.read_namespaced_service("two", space).spec.cluster_ip
    assert core.read_namespaced_config_map("one", space).data == {"k": "v"}


def test_who_am_i_and_what_may_i(api: client.ApiClient, space: str) -> None:
    me = client.AuthenticationV1Api(api).create_self_subject_review({})
    assert "system:masters" in me.status.user_info.groups
    spec = client.V1SelfSubjectAccessReviewSpec(
        resource_attributes=client.V1ResourceAttributes(verb="delete", resource="nodes")
    )
    review = client.V1SelfSubjectAccessReview(spec=spec)
    assert client.AuthorizationV1Api(api).create_self_subject_access_review(review).status.allowed
    core = client.CoreV1Api(api)
    eventually(lambda: len(core.list_namespaced_service_account(space).items) == 1, what="the default account")
    asked = client.V1TokenRequestSpec(audiences=["x"], expiration_seconds=600)
    request = client.AuthenticationV1TokenRequest(spec=asked)
    token = core.create_namespaced_service_account_token("default", space, request)
    assert token.status.token.count(".") == 2


def test_the_version(api: client.ApiClient) -> None:
    version = client.VersionApi(api).get_code()
    assert (version.major, version.minor) == ("1", "36")
    groups = client.ApisApi(api).get_api_versions()
    assert "apps" in [group.name for group in groups.groups]
