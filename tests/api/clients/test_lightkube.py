"""lightkube: a typed client on httpx."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.autoscaling_v1 import ScaleSpec
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Namespace, Node, Pod
from lightkube.types import CascadeType, PatchType

from tests.support.kubectl import eventually
from tests.support.patience import PATIENCE


@pytest.fixture
def client(kubeconfig: Path, space: str) -> Client:
    return Client(config=KubeConfig.from_file(str(kubeconfig)), namespace=space, field_manager="lightkube")


def deployment(name: str) -> Deployment:
    labels = {"app": name}
    pod = PodTemplateSpec(metadata=ObjectMeta(labels=labels), spec=PodSpec(containers=[Container(name="c", image="i")]))
    return Deployment(
        metadata=ObjectMeta(name=name),
        spec=DeploymentSpec(replicas=1, selector=LabelSelector(matchLabels=labels), template=pod),
    )


def test_objects(client: Client, space: str) -> None:
    made = client.create(deployment("web"))
    assert made.metadata.generation == 1
    assert made.spec.strategy.type == "RollingUpdate"
    client.replace(Deployment.Scale(metadata=ObjectMeta(name="web"), spec=ScaleSpec(replicas=2)), name="web")
    eventually(lambda: len(list(client.list(Pod, labels={"app": "web"}))) == 2, what="two pods")
    client.patch(Deployment, "web", {"metadata": {"labels": {"seen": "1"}}}, patch_type=PatchType.MERGE)
    operations = [{"op": "add", "path": "/spec/minReadySeconds", "value": 3}]
    client.patch(Deployment, "web", operations, patch_type=PatchType.JSON)  # type: ignore[arg-type]
    applied = client.apply(deployment("web"), force=True)
    assert applied.spec.replicas == 1
    assert "lightkube" in [entry.manager for entry in applied.metadata.managedFields or []]
    with pytest.raises(ApiError) as caught:
        client.get(ConfigMap, "none")
    assert caught.value.status.reason == "NotFound"
    assert caught.value.status.code == 404
    assert [one.metadata.name for one in client.list(Namespace, fields={"metadata.name": space})] == [space]
    assert list(client.list(Node)) == []
    client.delete(Deployment, "web", cascade=CascadeType.FOREGROUND)
    eventually(lambda: not list(client.list(Pod, labels={"app": "web"})), what="no pods")


def test_watching(client: Client) -> None:
    seen: list[tuple[str, str]] = []

    def look() -> None:
        for event, obj in client.watch(ConfigMap, labels={"w": "1"}):
            seen.append((event, obj.metadata.name))
            if len(seen) == 3:
                return

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    for number in range(3):
        client.create(ConfigMap(metadata=ObjectMeta(name=f"m{number}", labels={"w": "1"})))
    looking.join(PATIENCE)
    assert sorted(seen) == [("ADDED", f"m{number}") for number in range(3)]


def test_many_pages(client: Client) -> None:
    for number in range(12):
        client.create(ConfigMap(metadata=ObjectMeta(name=f"p{number:02}")))
    names = [one.metadata.name for one in client.list(ConfigMap, chunk_size=5)]
    assert [name for name in names if name.startswith("p")] == [f"p{number:02}" for number in range(12)]


def test_kinds_without_a_model(client: Client) -> None:
    leases = create_namespaced_resource("coordination.k8s.io", "v1", "Lease", "leases")
    client.create(leases(metadata={"name": "l"}, spec={"holderIdentity": "me"}))
    assert client.get(leases, "l").spec["holderIdentity"] == "me"
