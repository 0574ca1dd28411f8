"""What a node gets of its own and of others': pods, what these refer to, itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.security.authority import signing_request
from tests.api.security.conftest import Connect, encoded
from tests.api.server.api import Api

CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


def pod(name: str, node: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, **spec.pop("metadata", {})},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i", **spec.pop("container", {})}], **spec},
    }


@pytest.fixture
async def nodes(api: Api, connect: Connect, space: str) -> tuple[str, Api, str, Api]:
    """Two nodes: names and connections."""
    mine, other = f"mine-{space}", f"other-{space}"
    for name in (mine, other):
        assert (await api.post("/api/v1/nodes", {"metadata": {"name": name}})).status == 201
    groups = ["system:nodes"]
    return mine, await connect(f"system:node:{mine}", groups), other, await connect(f"system:node:{other}", groups)


async def test_pods(api: Api, nodes: tuple[str, Api, str, Api], space: str) -> None:
    mine, node, other, _ = nodes
    root = f"/api/v1/namespaces/{space}/pods"
    for name, place in (("a", mine), ("b", other)):
        assert (await api.post(root, pod(name, place))).status == 201
    assert (await node.get(f"{root}/a")).status == 200
    assert (await node.get(f"{root}/b")).status == 403
    assert (await node.get(f"{root}/none")).status == 404
    for path, code in (
        ("/api/v1/pods", 403),
        (root, 403),
        (f"/api/v1/pods?fieldSelector=spec.nodeName%3D{mine}", 200),
        (f"/api/v1/pods?fieldSelector=spec.nodeName%3D{other}", 403),
        (f"/api/v1/pods?fieldSelector=spec.nodeName!%3D{other}", 403),
        (f"{root}?fieldSelector=metadata.name%3Da", 200),
        (f"{root}?fieldSelector=metadata.name%3Db", 403),
        (f"{root}?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Dlater", 403),
        (f"/api/v1/pods?watch=1&timeoutSeconds=1&fieldSelector=spec.nodeName%3D{other}", 403),
    ):
        assert (await node.get(path)).status == code, path
    status = {"status": {"message": "hello"}}
    assert (await node.patch(f"{root}/a/status", status, "strategic")).status == 200
    assert (await node.patch(f"{root}/b/status", status, "strategic")).status == 403
    labels = {"metadata": {"labels": {"app": "stolen"}}}
    assert (await node.patch(f"{root}/a/status", labels, "strategic")).status == 403
    for sub in ("", "/ephemeralcontainers", "/resize"):
        assert (await node.patch(f"{root}/a{sub}", {"metadata": {"labels": {"x": "y"}}})).status == 403
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "b", "namespace": space}}
    assert (await node.post(f"{root}/b/eviction", eviction)).status == 403
    binding = {"target": {"kind": "Node", "name": mine}}
    assert (await node.post(f"{root}/a/binding", binding)).status == 403
    assert (await node.post(f"{root}/a/exec?command=x", {})).status == 403
    assert (await node.delete(f"{root}/b")).status == 403
    assert (await node.delete(f"{root}/a?gracePeriodSeconds=0")).status == 200


async def test_all_pods_with_a_network_while_there_are_policies(
    api: Api, nodes: tuple[str, Api, str, Api], space: str
) -> None:
    _, node, _, _ = nodes
    peers = "/api/v1/pods?fieldSelector=spec.hostNetwork%3Dfalse,status.phase!%3DFailed"
    policies = f"/apis/networking.k8s.io/v1/namespaces/{space}/networkpolicies"
    assert (await node.get(peers)).status == 403
    assert (await api.post(policies, {"metadata": {"name": "p"}, "spec": {"podSelector": {}}})).status == 201
    assert (await node.get(peers)).status == 200
    assert (await node.get(f"{peers}&watch=1&timeoutSeconds=1")).status == 200
    for path in ("/api/v1/pods", "/api/v1/pods?fieldSelector=spec.hostNetwork!%3Dtrue"):
        assert (await node.get(path)).status == 403, path
    assert (await api.delete(f"{policies}/p")).status == 200
    assert (await node.get(peers)).status == 403


async def test_what_pods_refer_to(api: Api, nodes: tuple[str, Api, str, Api], space: str) -> None:
    mine, node, _, stranger = nodes
    root = f"/api/v1/namespaces/{space}"
    referred = [f"s{n}" for n in range(6)]
    for name in (*referred, "hidden", "of-volume"):
        assert (await api.post(f"{root}/secrets", {"metadata": {"name": name}})).status == 201
        assert (await api.post(f"{root}/configmaps", {"metadata": {"name": name}})).status == 201
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "volumeName": f"pv-{space}",
    }
    for name in ("claim", "unused"):
        body = {"metadata": {"name": name}, "spec": claim}
        assert (await api.post(f"{root}/persistentvolumeclaims", body)).status == 201
    csi = {
        "driver": "d.example.com",
        "volumeHandle": "h",
        "nodeStageSecretRef": {"name": "of-volume", "namespace": space},
    }
    volume = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "csi": csi}
    volume["claimRef"] = {"namespace": space, "name": "claim"}
    made = await api.post("/api/v1/persistentvolumes", {"metadata": {"name": f"pv-{space}"}, "spec": volume})
    assert made.status == 201, made.raw
    volumes = [
        {"name": "v0", "secret": {"secretName": "s0"}},
        {"name": "v1", "projected": {"sources": [{"secret": {"name": "s1"}}, {"configMap": {"name": "s1"}}]}},
        {"name": "v2", "configMap": {"name": "s0"}},
        {"name": "v3", "persistentVolumeClaim": {"claimName": "claim"}},
    ]
    container = {
        "env": [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "s2", "key": "k"}}},
        ],
        "envFrom": [{"secretRef": {"name": "s3"}}, {"configMapRef": {"name": "s3"}}],
    }
    first = [{"name": "i", "image": "i", "envFrom": [{"secretRef": {"name": "s5"}}, {"configMapRef": {"name": "s5"}}]}]
    body = pod("p", mine, container=container, volumes=volumes, imagePullSecrets=[{"name": "s4"}], initContainers=first)
    made = await api.post(f"{root}/pods", body)
    assert made.status == 201, made.raw
    for name in referred:
        assert (await node.get(f"{root}/secrets/{name}")).status == 200, name
        assert (await stranger.get(f"{root}/secrets/{name}")).status == 403, name
        if name != "s4":
            assert (await node.get(f"{root}/configmaps/{name}")).status == 200, name
    for path in (
        "secrets/hidden",
        "configmaps/hidden",
        "configmaps/s4",
        "secrets",
        "configmaps",
        "persistentvolumeclaims/unused",
        "persistentvolumeclaims",
    ):
        assert (await node.get(f"{root}/{path}")).status == 403, path
    for path in (
        f"{root}/persistentvolumeclaims/claim",
        f"/api/v1/persistentvolumes/pv-{space}",
        f"{root}/secrets/of-volume",
    ):
        assert (await node.get(path)).status == 200, path
        assert (await stranger.get(path)).status == 403, path
    assert (await node.get(f"{root}/secrets?fieldSelector=metadata.name%3Ds0")).status == 200
    assert (await node.get(f"{root}/secrets?fieldSelector=metadata.name%3Dhidden")).status == 403
    for method in ("PUT", "PATCH", "DELETE"):
        media = "application/merge-patch+json" if method == "PATCH" else "application/json"
        assert (await node.call(method, f"{root}/secrets/s0", {}, media=media)).status == 403, method


async def test_a_node_cannot_refer_by_itself(nodes: tuple[str, Api, str, Api], api: Api, space: str) -> None:
    """Mirror pods are the only ones a node makes, and nothing follows from them."""
    mine, node, other, _ = nodes
    root = f"/api/v1/namespaces/{space}"
    assert (await api.post(f"{root}/secrets", {"metadata": {"name": "loot"}})).status == 201
    uid = (await api.get(f"/api/v1/nodes/{mine}")).json["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": mine, "uid": uid, "controller": True}
    mirror = {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]}
    assert (await node.post(f"{root}/pods", pod("plain", mine))).status == 403
    assert (await node.post(f"{root}/pods", pod("far", other, metadata=mirror))).status == 403
    greedy: list[dict[str, Any]] = [
        {"container": {"envFrom": [{"secretRef": {"name": "loot"}}]}},
        {"container": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "loot", "key": "k"}}}]}},
        {"container": {"envFrom": [{"configMapRef": {"name": "loot"}}]}},
        {"volumes": [{"name": "v", "secret": {"secretName": "loot"}}]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "loot"}}]}}]},
        {"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "loot"}}}]},
        {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
        {"imagePullSecrets": [{"name": "loot"}]},
        {"serviceAccountName": "default"},
        {"resourceClaims": [{"name": "r", "resourceClaimName": "r"}]},
    ]
    for number, spec in enumerate(greedy):
        answer = await node.post(f"{root}/pods", pod(f"greedy-{number}", mine, metadata=mirror, **spec))
        assert answer.status == 403, (spec, answer.raw)
    answer = await node.post(f"{root}/pods", pod("modest", mine, metadata=mirror))
    assert answer.status == 201, answer.raw
    assert (await node.get(f"{root}/secrets/loot")).status == 403
    token = {"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "modest"}}}
    assert (await node.post(f"{root}/serviceaccounts/default/token", token)).status == 403


async def test_itself(nodes: tuple[str, Api, str, Api], api: Api) -> None:
    mine, node, other, _ = nodes
    own, others = f"/api/v1/nodes/{mine}", f"/api/v1/nodes/{other}"
    assert (await node.patch(f"{own}/status", {"status": {"daemonEndpoints": {}}})).status == 200
    assert (await node.patch(f"{others}/status", {"status": {"daemonEndpoints": {}}})).status == 403
    allowed = (
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "node.kubernetes.io/x",
        "kubelet.kubernetes.io/y",
        "example.com/z",
    )
    for key in allowed:
        assert (await node.patch(own, {"metadata": {"labels": {key: "v"}}})).status == 200, key
    for key in (
        "node-restriction.kubernetes.io/x",
        "a.node-restriction.kubernetes.io/x",
        "kubernetes.io/x",
        "x.k8s.io/y",
    ):
        answer = await node.patch(own, {"metadata": {"labels": {key: "v"}}})
        assert answer.status == 403, key
        assert "is not allowed to modify" in answer.failure[2]
    taint = {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}
    assert (await node.patch(own, taint)).status == 403
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "x"}
    assert (await node.patch(own, {"metadata": {"ownerReferences": [owner]}})).status == 403
    assert (await node.patch(others, {"metadata": {"labels": {"example.com/z": "v"}}})).status == 403
    assert (await node.delete(own)).status == 403
    assert (await node.post("/api/v1/nodes", {"metadata": {"name": "another"}})).status == 403
    leases = "/apis/coordination.k8s.io/v1/namespaces"
    for space, name, code in (("kube-node-lease", mine, 201), ("kube-node-lease", "x", 403), ("default", mine, 403)):
        answer = await node.post(f"{leases}/{space}/leases", {"metadata": {"name": name}, "spec": {}})
        assert answer.status == code, (space, name)
    assert (await node.get(f"{leases}/kube-node-lease/leases/{other}")).status == 403
    assert (await node.get(f"{leases}/kube-node-lease/leases")).status == 403
    slices = "/apis/resource.k8s.io/v1/resourceslices"
    assert (await node.get(slices)).status == 403
    assert (await node.get(f"{slices}?fieldSelector=spec.nodeName%3D{mine}")).status == 200
    assert (await node.get(f"{slices}?fieldSelector=spec.nodeName%3D{other}")).status == 403


async def test_it_makes_no_other_node(nodes: tuple[str, Api, str, Api]) -> None:
    mine, node, _, _ = nodes
    for metadata in ({"name": f"{mine}-2"}, {"generateName": f"{mine}-"}, {"generateName": mine[:-1]}):
        answer = await node.post("/api/v1/nodes", {"metadata": metadata})
        assert answer.failure[:2] == (403, "Forbidden"), metadata
        assert "is not allowed to modify node" in answer.failure[2]


async def test_tokens_for_its_own_pods(nodes: tuple[str, Api, str, Api], api: Api, space: str) -> None:
    mine, node, other, _ = nodes
    root = f"/api/v1/namespaces/{space}"
    uids = {}
    for name, place in (("a", mine), ("b", other)):
        answer = await api.post(f"{root}/pods", pod(name, place))
        uids[name] = answer.json["metadata"]["uid"]

    async def ask(account: str = "default", **spec: Any) -> int:
        return (await node.post(f"{root}/serviceaccounts/{account}/token", {"spec": spec})).status

    def bound(name: str, **more: Any) -> dict[str, Any]:
        return {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uids[name]}, **more}

    assert await ask(**bound("a")) == 201
    assert await ask() == 403
    assert await ask(**bound("b")) == 403
    assert await ask(boundObjectRef={"kind": "Pod", "apiVersion": "v1", "name": "a"}) == 403
    assert await ask(**bound("a", audiences=["vault"])) == 403
    assert await ask(**bound("a", audiences=["a", "b"])) == 403
    assert await ask("other", **bound("a")) == 403


async def test_requests_for_certificates(nodes: tuple[str, Api, str, Api]) -> None:
    mine, node, other, _ = nodes
    signer = "kubernetes.io/kube-apiserver-client-kubelet"

    async def ask(name: str, signer: str, usage: str = "client auth") -> int:
        request = encoded(signing_request(name, ["system:nodes"]))
        spec = {"signerName": signer, "request": request, "usages": [usage, "digital signature"]}
        return (await node.post(CSRS, {"metadata": {"generateName": "n-"}, "spec": spec})).status

    assert await ask(f"system:node:{mine}", signer) == 201
    assert await ask(f"system:node:{other}", signer) == 403
    assert await ask("admin", signer) == 403
    assert await ask(f"system:node:{other}", "kubernetes.io/kubelet-serving", "server auth") == 403
