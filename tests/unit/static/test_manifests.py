"""What a manifest of this host asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agents.origin import is_static
from agents.static.judging import Manifest, judge
from agents.static.manifests import Kind, ManifestError, pods_of
from orca.api.objects import Obj, meta, uid

WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers: [{name: main, image: busybox}]
"""


def read(text: str, kind: Kind = "file", origin: str = "/etc/web.yaml", node_name: str = "host-1") -> Obj:
    [pod] = pods_of(text, kind=kind, origin=origin, node_name=node_name)
    return pod


def manifest(**spec: Any) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "main", "image": "busybox", **spec.pop("container", {})}], **spec},
        }
    )


def test_a_static_pod_is_named_for_its_node_and_marked() -> None:
    pod = read(WEB)
    assert meta(pod)["name"] == "web-host-1"
    assert meta(pod)["namespace"] == "default"
    assert meta(pod)["annotations"] == {
        "kubernetes.io/config.source": "file",
        "kubernetes.io/config.hash": uid(pod),
    }
    assert pod["spec"]["nodeName"] == "host-1"
    assert pod["spec"]["restartPolicy"] == "Always"
    assert {"operator": "Exists", "effect": "NoExecute"} in pod["spec"]["tolerations"]
    assert pod["status"] == {"phase": "Pending"}
    assert is_static(pod)


def test_the_uid_is_a_hash_of_content_place_and_node() -> None:
    same = read(WEB)
    assert uid(read(WEB)) == uid(same)
    assert len(uid(same)) == 32
    others = [
        read(WEB.replace("busybox", "busybox:2")),
        read(WEB, origin="/etc/other.yaml"),
        read(WEB, node_name="host-2"),
        read(WEB, kind="http"),
    ]
    assert len({uid(pod) for pod in [same, *others]}) == 5
    assert uid(read(WEB.replace("name: web,", "name: web, uid: mine,"))) == "mine"


def test_pods_of_a_url_get_no_toleration_and_may_be_many() -> None:
    document = {"apiVersion": "v1", "kind": "PodList", "items": [json.loads(manifest()), json.loads(manifest())]}
    document["items"][1]["metadata"]["name"] = "second"
    pods = pods_of(json.dumps(document), kind="http", origin="http://x/", node_name="host-1")
    assert [meta(pod)["name"] for pod in pods] == ["web-host-1", "second-host-1"]
    assert not pods[0]["spec"].get("tolerations")


def test_critical_classes_have_their_priority_before_the_api_says_so() -> None:
    assert read(manifest(priorityClassName="system-node-critical"))["spec"]["priority"] == 2_000_001_000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "couldn't parse as pod"),
        ("[]", "not an object"),
        ("apiVersion: v1\nkind: Service\n", "want apiVersion v1 and kind Pod"),
        ("apiVersion: v1\nkind: Pod\nspec: {containers: []}\n", "metadata.name"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: {}}\n", "cannot unmarshal"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n", "spec.containers: Required"),
        (manifest(serviceAccountName="x"), "static pods may not reference serviceaccounts"),
        (manifest(imagePullSecrets=[{"name": "x"}]), "may not reference secrets"),
        (manifest(volumes=[{"name": "v", "configMap": {"name": "x"}}]), "may not reference configmaps"),
        (
            manifest(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]),
            "may not reference persistentvolumeclaims",
        ),
        (
            manifest(volumes=[{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]),
            "may not reference serviceaccounts",
        ),
        (
            manifest(container={"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            "may not reference secrets",
        ),
        (manifest(container={"envFrom": [{"configMapRef": {"name": "c"}}]}), "may not reference configmaps"),
        (manifest(ephemeralContainers=[{"name": "d", "image": "b"}]), "may not have ephemeral containers"),
    ],
)
def test_what_cannot_run_without_the_api_or_at_all_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(text)
    assert problem in str(caught.value)


async def test_the_judge_is_a_process_that_answers_for_each() -> None:
    good, bad = await judge([Manifest(WEB, "file", "/a", "n"), Manifest("kind: Nothing", "file", "/b", "n")])
    assert [meta(pod)["name"] for pod in good.pods] == ["web-n"]
    assert not good.problem
    assert bad.pods == ()
    assert "want apiVersion v1" in bad.problem
