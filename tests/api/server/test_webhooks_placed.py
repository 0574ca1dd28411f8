"""Webhooks and the cluster around them: Services, versions, custom kinds, controllers, a server that starts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.api.server.api import Api
from tests.api.server.definitions import defined
from tests.api.server.hooks import GROUP, RULE, World
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.patience import PATIENCE
from tests.support.tls import Authority, own_address, serving
from tests.support.webhooks import Webhooks, denied, patched


async def stored(api: Api, path: str, obj: dict[str, Any]) -> None:
    """Create an object and read it: admission follows a moment behind, but no read is older than the write."""
    made = await api.post(path, obj)
    assert made.status == 201, made.raw
    assert (await api.get(f"{path}/{obj['metadata']['name']}")).status == 200


async def test_a_service_is_called_at_its_ready_endpoints(api: Api, space: str, tmp_path: Path) -> None:
    authority, hooks, address = Authority(tmp_path), Webhooks(), own_address()
    name = f"hook.{space}.svc"
    async with serving(hooks, authority.server_context("hook", name), address) as port:
        world = World(api, space, authority, hooks, port)
        service = {"namespace": space, "name": "hook", "path": "/check", "port": 8443}
        hook = world.hook("/check", clientConfig={"service": service, "caBundle": authority.bundle})
        await world.configure("Validating", hook)
        try:
            stem = f'failed to call webhook: Post "https://{name}:8443/check?timeout=30s": '
            assert (await world.create()).failure[2].endswith(stem + 'services "hook" not found')
            spec = {"ports": [{"port": 8443, "targetPort": port}]}
            await stored(api, f"/api/v1/namespaces/{space}/services", {"metadata": {"name": "hook"}, "spec": spec})
            assert (await world.create()).failure[2].endswith(stem + 'no endpoints available for service "hook"')
            await stored(
                api,
                f"/apis/discovery.k8s.io/v1/namespaces/{space}/endpointslices",
                {
                    "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
                    "addressType": "IPv4",
                    "ports": [{"port": port}],
                    "endpoints": [
                        {"addresses": ["198.51.100.7"], "conditions": {"ready": False}},
                        {"addresses": [address], "conditions": {"ready": True}},
                    ],
                },
            )
            for _ in range(3):
                assert (await world.create()).status == 201
            assert len(hooks.requests("/check")) == 3
        finally:
            await world.clear()


async def test_a_hook_may_ask_for_another_version_of_the_object(world: World) -> None:
    """matchPolicy Equivalent converts, Exact does not match."""
    rule = {
        "operations": ["CREATE"],
        "apiGroups": ["autoscaling"],
        "apiVersions": ["v1"],
        "resources": ["horizontalpodautoscalers"],
    }
    world.hooks.decide["/equal"] = lambda request: patched({"op": "replace", "path": "/spec/maxReplicas", "value": 7})
    await world.configure(
        "Mutating", world.hook("/equal", rules=[rule]), world.hook("/exact", rules=[rule], matchPolicy="Exact")
    )
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 66}},
    }
    spec = {
        "maxReplicas": 3,
        "scaleTargetRef": {"kind": "Deployment", "name": "x", "apiVersion": "apps/v1"},
        "metrics": [metric],
    }
    made = await world.api.post(
        f"/apis/autoscaling/v2/namespaces/{world.space}/horizontalpodautoscalers",
        {"metadata": {"name": "scaler"}, "spec": spec},
    )
    assert made.status == 201, made.raw
    assert made.json["apiVersion"] == "autoscaling/v2"
    assert made.json["spec"]["maxReplicas"] == 7
    assert made.json["spec"]["metrics"] == [metric]
    request = world.hooks.requests("/equal")[0]
    assert request["kind"]["version"] == request["resource"]["version"] == "v1"
    assert request["requestKind"]["version"] == request["requestResource"]["version"] == "v2"
    assert request["object"]["spec"]["targetCPUUtilizationPercentage"] == 66
    assert not world.hooks.requests("/exact")


def test_kubectl_shows_why(server: ServerProcess, space: str) -> None:
    """A hook that cannot be reached, as a person meets it."""
    kubectl = Kubectl(kubectls.current(), server.kubeconfig, space)
    manifest = f"""
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: lost-{space}}}
webhooks:
- name: lost.example.com
  clientConfig: {{service: {{namespace: {space}, name: nobody}}}}
  rules: [{{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [configmaps]}}]
  namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {space}}}}}
  sideEffects: None
  admissionReviewVersions: [v1]
"""
    kubectl("apply", "-f", "-", stdin=manifest)
    try:
        done = kubectl.try_("create", "configmap", "x")
        assert done.code == 1
        assert (
            'failed calling webhook "lost.example.com": failed to call webhook: '
            f'Post "https://nobody.{space}.svc:443/?timeout=10s": services "nobody" not found'
        ) in done.err
    finally:
        kubectl("delete", "-f", "-", stdin=manifest)


def _widgets(group: str) -> dict[str, Any]:
    """A definition with two versions that differ in name only, both with ``spec.size`` 1 by default."""
    size = {"type": "integer", "default": 1}
    properties = {"spec": {"type": "object", "default": {}, "properties": {"size": size, "color": {"type": "string"}}}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    versions = [
        {"name": name, "served": True, "storage": name == "v1", "schema": schema, "subresources": {"status": {}}}
        for name in ("v1", "v2")
    ]
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    return {
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": versions},
    }


async def test_custom_resources_pass_hooks_in_the_version_they_ask_for(world: World) -> None:
    group = f"{world.space}.example.com"
    rule = {
        "operations": ["*"],
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "resources": ["widgets", "widgets/status"],
    }
    world.hooks.decide["/paint"] = lambda request: patched(
        {"op": "add", "path": "/spec/color", "value": "red"}, {"op": "add", "path": "/spec/unknown", "value": 1}
    )
    path = f"/apis/{group}/v2/namespaces/{world.space}/widgets"
    body = {"apiVersion": f"{group}/v2", "kind": "Widget", "metadata": {"name": "w"}}
    async with defined(world.api, _widgets(group)):
        await world.configure("Mutating", world.hook("/paint", rules=[rule]))
        try:
            made = await world.api.post(path, body)
            assert made.status == 201, made.raw
            assert made.json["apiVersion"] == f"{group}/v2"
            assert made.json["spec"] == {"size": 1, "color": "red"}
            request = world.hooks.requests("/paint")[0]
            assert request["object"]["apiVersion"] == f"{group}/v1"
            assert request["object"]["spec"] == {"size": 1}
            assert (request["kind"]["version"], request["requestKind"]["version"]) == ("v1", "v2")
        finally:
            await world.clear()


async def test_a_server_starts_while_its_own_writes_are_refused(tmp_path: Path) -> None:
    """What serves the webhook may need the server first."""
    server = ServerProcess(tmp_path, "--no-controllers")
    server.start()
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    services = "/apis/apiregistration.k8s.io/v1/apiservices"
    try:
        async with Api(server.kubeconfig) as api:
            rule = {"operations": ["CREATE", "UPDATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
            hook = {
                "name": "nobody.example.com",
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "rules": [rule],
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
            async with asyncio.timeout(PATIENCE):
                while (await api.get(f"{services}/v1.apps")).status != 200:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            body = {"metadata": {"name": "nobody"}, "webhooks": [hook]}
            assert (await api.post(f"{GROUP}/validatingwebhookconfigurations", body)).status == 201
            for path in (
                f"{roles}/view",
                f"{services}/v1.apps",
                "/api/v1/namespaces/kube-public/configmaps/cluster-info",
            ):
                assert (await api.delete(path)).status == 200
        server.stop()
        server.start()
        async with Api(server.kubeconfig) as api:
            assert (await api.get(f"{roles}/view")).status == 404
            assert (await api.get(f"{roles}/edit")).status == 200
            assert (await api.delete(f"{GROUP}/validatingwebhookconfigurations/nobody")).status == 200
            async with asyncio.timeout(PATIENCE):
                while (await api.get(f"{services}/v1.apps")).status != 200:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
    finally:
        server.stop()


async def test_what_controllers_write_passes_hooks_too(tmp_path: Path) -> None:
    """A Deployment's pods get their sidecar, or the ReplicaSet says why it has none."""
    server, authority, hooks = ServerProcess(tmp_path), Authority(tmp_path), Webhooks()
    hooks.decide["/inject"] = lambda request: (
        denied("not here", code=403)
        if request["object"]["metadata"]["labels"]["app"] == "bad"
        else patched({"op": "add", "path": "/spec/containers/-", "value": {"name": "sidecar", "image": "proxy"}})
    )
    server.start()
    try:
        async with (
            Api(server.kubeconfig) as api,
            serving(hooks, authority.server_context("hooks", "127.0.0.1")) as port,
        ):
            hook = World(api, "default", authority, hooks, port).hook("/inject", rules=[RULE | {"resources": ["pods"]}])
            body = {"metadata": {"name": "inject"}, "webhooks": [hook]}
            assert (await api.post(f"{GROUP}/mutatingwebhookconfigurations", body)).status == 201
            kubectl = Kubectl(kubectls.current(), server.kubeconfig, "default")
            await asyncio.to_thread(kubectl, "create", "deployment", "good", "--image=nginx")
            await asyncio.to_thread(kubectl, "create", "deployment", "bad", "--image=nginx")
            async with asyncio.timeout(PATIENCE):
                while not (pods := (await api.get("/api/v1/namespaces/default/pods")).json["items"]):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                assert [one["name"] for one in pods[0]["spec"]["containers"]] == ["nginx", "sidecar"]
                wanted = 'admission webhook "inject.hooks.example.com" denied the request: not here'
                while True:
                    events = (await api.get("/api/v1/namespaces/default/events")).json["items"]
                    if any(one["reason"] == "FailedCreate" and wanted in one["message"] for one in events):
                        break
                    await asyncio.sleep(0.1)
            users = {request["userInfo"]["username"] for request in hooks.requests("/inject")}
            assert all(name.startswith("system:") for name in users), users
    finally:
        server.stop()
