"""Admission webhooks, with real TLS servers behind URLs and Services."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.api.server.api import Answer, Api
from tests.api.server.process import ServerProcess
from tests.support import kubectl as kubectls
from tests.support.kubectl import Kubectl
from tests.support.tls import Authority, own_address, serving
from tests.support.webhooks import Webhooks, denied, patched

_numbers = itertools.count(1)
_GROUP = "/apis/admissionregistration.k8s.io/v1"
_RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}


class World:
    """A running webhook server and the means to configure it for one namespace."""

    def __init__(self, api: Api, space: str, authority: Authority, hooks: Webhooks, port: int) -> None:
        self.api, self.space, self.authority, self.hooks, self.port = api, space, authority, hooks, port
        self._made: list[str] = []

    def hook(self, path: str, **fields: Any) -> dict[str, Any]:
        """One webhook, limited to this test's namespace."""
        made = {
            "name": f"{path.strip('/')}.hooks.example.com",
            "clientConfig": {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.authority.bundle},
            "rules": [_RULE],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.space}},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 5,
        }
        return made | fields

    async def configure(self, sort: str, *hooks: dict[str, Any]) -> str:
        """``sort`` is Mutating or Validating."""
        name = f"hooks-{next(_numbers)}"
        path = f"{_GROUP}/{sort.lower()}webhookconfigurations"
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{sort}WebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": list(hooks),
        }
        made = await self.api.post(path, body)
        assert made.status == 201, made.raw
        assert "Warning" not in made.headers
        self._made.append(f"{path}/{name}")
        # As upstream, admission follows the configurations a moment behind; a read is never older than the write.
        assert (await self.api.get(f"{path}/{name}")).status == 200
        return name

    async def create(self, name: str = "", query: str = "", **fields: Any) -> Answer:
        """A ConfigMap."""
        metadata = {"name": name or f"c{next(_numbers)}"} | fields.pop("metadata", {})
        return await self.api.post(
            f"/api/v1/namespaces/{self.space}/configmaps{query}", {"metadata": metadata, "data": {"a": "1"}, **fields}
        )

    async def clear(self) -> None:
        while self._made:
            path = self._made.pop()
            await self.api.delete(path)
            await self.api.get(path)


@pytest.fixture
async def world(api: Api, space: str, tmp_path: Path) -> AsyncIterator[World]:
    authority, hooks = Authority(tmp_path), Webhooks()
    async with serving(hooks, authority.server_context("hooks", "127.0.0.1", "hooks.default.svc")) as port:
        one = World(api, space, authority, hooks, port)
        try:
            yield one
        finally:
            await one.clear()


async def test_a_review_tells_everything_about_the_request(world: World) -> None:
    await world.configure("Validating", world.hook("/check"))
    made = await world.create("told", query="?fieldManager=me")
    assert made.status == 201
    review = world.hooks.asked["/check"][0]
    assert (review["apiVersion"], review["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    request = review["request"]
    assert request["kind"] == request["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == request["requestResource"]
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (request["name"], request["namespace"], request["operation"]) == ("told", world.space, "CREATE")
    assert request["dryRun"] is False
    assert request["userInfo"]["username"] == "kubernetes-admin"
    assert "system:masters" in request["userInfo"]["groups"]
    assert request["oldObject"] is None
    assert request["object"]["metadata"]["uid"] == made.json["metadata"]["uid"]
    assert request["options"]["kind"] == "CreateOptions"
    assert request["options"]["fieldManager"] == "me"


async def test_a_denial_is_told_in_the_words_of_the_hook(world: World) -> None:
    world.hooks.decide["/deny"] = lambda request: denied("no such luck", code=451, reason="Unlucky")
    await world.configure("Validating", world.hook("/deny"))
    refused = await world.create()
    assert refused.failure == (
        451,
        "Unlucky",
        'admission webhook "deny.hooks.example.com" denied the request: no such luck',
    )
    world.hooks.decide["/deny"] = lambda request: {"allowed": False}
    refused = await world.create()
    assert refused.failure == (
        400,
        "",
        'admission webhook "deny.hooks.example.com" denied the request without explanation',
    )


async def test_mutations_are_applied_in_order_and_defaulted(world: World) -> None:
    world.hooks.decide["/one"] = lambda request: patched({"op": "add", "path": "/data/one", "value": "1"})
    world.hooks.decide["/two"] = lambda request: patched(
        {"op": "add", "path": "/data/two", "value": ",".join(sorted(request["object"]["data"]))}
    )
    await world.configure("Mutating", world.hook("/one"), world.hook("/two"))
    made = await world.create()
    assert made.status == 201, made.raw
    assert made.json["data"] == {"a": "1", "one": "1", "two": "a,one"}


async def test_a_patch_that_makes_the_object_invalid_is_refused_by_validation(world: World) -> None:
    world.hooks.decide["/bad"] = lambda request: patched(
        {"op": "add", "path": "/metadata/labels", "value": {"a b": "c"}}
    )
    await world.configure("Mutating", world.hook("/bad"))
    assert (await world.create()).status == 422
    world.hooks.decide["/bad"] = lambda request: patched({"op": "replace", "path": "/data/none", "value": "x"})
    refused = await world.create()
    assert refused.failure[:2] == (500, "InternalError")


async def test_a_sidecar_is_injected_into_pods(world: World, kubectl: Kubectl) -> None:
    sidecar = {"name": "sidecar", "image": "proxy"}
    world.hooks.decide["/inject"] = lambda request: patched(
        {"op": "add", "path": "/spec/containers/-", "value": sidecar}
    )
    rule = _RULE | {"resources": ["pods"]}
    selector = {"matchLabels": {"inject": "yes"}}
    await world.configure(
        "Mutating",
        world.hook(
            "/inject",
            rules=[rule],
            objectSelector=selector,
            namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}},
        ),
    )
    run = ("run", "--image=nginx", "--restart=Never")
    await asyncio.to_thread(kubectl, *run, "with", "--labels=inject=yes")
    await asyncio.to_thread(kubectl, *run, "without")
    pods = await world.api.get(f"/api/v1/namespaces/{kubectl.namespace}/pods")
    shown = {pod["metadata"]["name"]: pod["spec"]["containers"] for pod in pods.json["items"]}
    assert [one["name"] for one in shown["without"]] == ["without"]
    assert [one["name"] for one in shown["with"]] == ["with", "sidecar"]
    injected = shown["with"][1]
    assert injected["imagePullPolicy"] == "Always"  # defaults are set on what hooks add
    assert injected["terminationMessagePath"] == "/dev/termination-log"
    mounts = [mount["mountPath"] for mount in injected["volumeMounts"]]
    assert mounts == ["/var/run/secrets/kubernetes.io/serviceaccount"]  # other plugins see it in the second round


async def test_hooks_are_asked_again_when_a_later_one_changed_the_object(world: World) -> None:
    world.hooks.decide["/late"] = lambda request: (
        {} if "late" in request["object"]["data"] else patched({"op": "add", "path": "/data/late", "value": "1"})
    )
    await world.configure(
        "Mutating",
        world.hook("/needed", reinvocationPolicy="IfNeeded"),
        world.hook("/never"),
        world.hook("/late"),
    )
    assert (await world.create()).status == 201
    assert ["late" in one["object"]["data"] for one in world.hooks.requests("/needed")] == [False, True]
    assert len(world.hooks.requests("/never")) == 1
    assert len(world.hooks.requests("/late")) == 1


async def test_warnings_reach_the_client(world: World) -> None:
    world.hooks.decide["/warn"] = lambda request: {"warnings": ["mind the gap"]}
    await world.configure("Validating", world.hook("/warn", rules=[_RULE | {"operations": ["*"]}]))
    made = await world.create("warned")
    assert made.headers.getall("Warning") == ['299 - "mind the gap"']
    gone = await world.api.delete(f"/api/v1/namespaces/{world.space}/configmaps/warned")
    assert gone.headers.getall("Warning") == ['299 - "mind the gap"']


async def test_a_dry_run_reaches_only_hooks_without_side_effects(world: World) -> None:
    await world.configure("Validating", world.hook("/dry"))
    assert (await world.create(query="?dryRun=All")).status == 201
    request = world.hooks.requests("/dry")[0]
    assert request["dryRun"] is True
    assert request["options"]["dryRun"] == ["All"]


async def test_deletions_show_the_old_object(world: World) -> None:
    world.hooks.decide["/keep"] = lambda request: (
        denied("kept") if (request["oldObject"]["metadata"].get("labels") or {}).get("keep") else {}
    )
    await world.configure("Validating", world.hook("/keep", rules=[_RULE | {"operations": ["DELETE"]}]))
    await world.create("kept", metadata={"labels": {"keep": "1"}})
    await world.create("loose")
    path = f"/api/v1/namespaces/{world.space}/configmaps"
    assert (await world.api.delete(f"{path}/kept")).status == 400
    assert (await world.api.delete(f"{path}/loose")).status == 200
    request = world.hooks.requests("/keep")[0]
    assert request["object"] is None
    assert request["options"]["kind"] == "DeleteOptions"
    await world.create("another")
    assert (await world.api.delete(path)).status == 400  # of a collection, each object is asked about
    left = await world.api.get(path)
    assert "kept" in [one["metadata"]["name"] for one in left.json["items"]]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"garbage", "couldn't get version/kind; json parse error"),
        (b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}', "webhook response was absent"),
        (
            b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"x","allowed":true}}',
            "expected response.uid=",
        ),
        (b"[" + b" " * (17 << 20) + b"]", "the response is larger than"),
    ],
    ids=["garbage", "empty", "uid", "huge"],
)
async def test_bad_answers_count_as_failures(world: World, body: bytes, why: str) -> None:
    world.hooks.raw["/bad"] = lambda: web.Response(body=body, content_type="application/json")
    await world.configure("Validating", world.hook("/bad"))
    code, reason, message = (await world.create()).failure
    assert (code, reason) == (500, "InternalError")
    assert message.startswith('Internal error occurred: failed calling webhook "bad.hooks.example.com": ')
    assert why in message


async def test_failure_policy_decides_about_hooks_that_do_not_answer(world: World) -> None:
    world.hooks.hang.add("/hang")
    world.hooks.raw["/dies"] = lambda: web.Response(status=500, text="it hurts")
    path = f"https://127.0.0.1:{world.port}"
    await world.configure("Validating", world.hook("/hang", timeoutSeconds=1, failurePolicy="Ignore"))
    assert (await world.create()).status == 201
    await world.configure("Mutating", world.hook("/hang", timeoutSeconds=1))
    assert (await world.create()).failure[2] == (
        'Internal error occurred: failed calling webhook "hang.hooks.example.com": failed to call webhook: '
        f'Post "{path}/hang?timeout=1s": context deadline exceeded'
    )
    await world.clear()
    await world.configure("Validating", world.hook("/dies"))
    assert (await world.create()).failure[2] == (
        'Internal error occurred: failed calling webhook "dies.hooks.example.com": failed to call webhook: '
        'an error on the server ("it hurts") has prevented the request from succeeding'
    )
    await world.clear()
    gone = world.hook("/gone")
    gone["clientConfig"]["url"] = "https://127.0.0.1:1/gone"
    await world.configure("Validating", gone)
    assert (
        (await world.create())
        .failure[2]
        .endswith('Post "https://127.0.0.1:1/gone?timeout=5s": dial tcp 127.0.0.1:1: connect: connection refused')
    )


async def test_certificates_are_verified(world: World, tmp_path: Path) -> None:
    stranger = world.hook("/stranger")
    (tmp_path / "other").mkdir()
    stranger["clientConfig"]["caBundle"] = Authority(tmp_path / "other", "other-ca").bundle
    await world.configure("Validating", stranger)
    assert "x509: certificate signed by unknown authority" in (await world.create()).failure[2]
    await world.clear()
    misnamed = world.hook("/misnamed")
    misnamed["clientConfig"]["url"] = f"https://localhost:{world.port}/misnamed"
    await world.configure("Validating", misnamed)
    assert "x509: " in (await world.create()).failure[2]


async def test_a_service_is_called_at_its_ready_endpoints(api: Api, space: str, tmp_path: Path) -> None:
    authority, hooks, address = Authority(tmp_path), Webhooks(), own_address()
    name = f"hook.{space}.svc"
    async with serving(hooks, authority.server_context("hook", name), address) as port:
        world = World(api, space, authority, hooks, port)
        service = {"namespace": space, "name": "hook", "path": "/check", "port": 8443}
        hook = world.hook("/check", clientConfig={"service": service, "caBundle": authority.bundle})
        await world.configure("Validating", hook)
        try:
            stem = f'failed to call webhook: Post "https://{name}:8443/check?timeout=5s": '
            assert (await world.create()).failure[2].endswith(stem + 'services "hook" not found')
            spec = {"ports": [{"port": 8443, "targetPort": port}]}
            made = await api.post(f"/api/v1/namespaces/{space}/services", {"metadata": {"name": "hook"}, "spec": spec})
            assert made.status == 201, made.raw
            assert (await world.create()).failure[2].endswith(stem + 'no endpoints available for service "hook"')
            made = await api.post(
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
            assert made.status == 201, made.raw
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


async def test_subresources_are_shown_as_what_they_are(world: World) -> None:
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
    rules = [everything]
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    space = f"/namespaces/{world.space}"
    await world.api.post(f"/apis/apps/v1{space}/deployments", {"metadata": {"name": "d"}, "spec": spec})
    pod = {"metadata": {"name": "p"}, "spec": template["spec"]}
    assert (await world.api.post(f"/api/v1{space}/pods", pod)).status == 201
    await world.configure("Validating", world.hook("/all", rules=rules))
    scaled = await world.api.patch(f"/apis/apps/v1{space}/deployments/d/scale", {"spec": {"replicas": 4}})
    assert scaled.status == 200, scaled.raw
    bound = await world.api.post(f"/api/v1{space}/pods/p/binding", {"target": {"name": "nowhere"}})
    assert bound.status == 201, bound.raw
    status = {"status": {"message": "hi"}}
    assert (await world.api.patch(f"/api/v1{space}/pods/p/status", status)).status == 200
    await world.api.get(f"/api/v1{space}/pods/p/exec?command=ls&command=-l&stdout=1&container=c")
    evicted = await world.api.post(f"/api/v1{space}/pods/p/eviction", {"metadata": {"name": "p"}})
    assert evicted.status == 201, evicted.raw
    shown = [
        (one["operation"], one["resource"]["resource"], one["subResource"], one["kind"]["kind"])
        for one in world.hooks.requests("/all")
    ]
    assert shown == [
        ("UPDATE", "deployments", "scale", "Scale"),
        ("CREATE", "pods", "binding", "Binding"),
        ("UPDATE", "pods", "status", "Pod"),
        ("CONNECT", "pods", "exec", "PodExecOptions"),
        ("CREATE", "pods", "eviction", "Eviction"),
    ]
    scale, _, _, connected, _ = world.hooks.requests("/all")
    assert (scale["oldObject"]["spec"]["replicas"], scale["object"]["spec"]["replicas"]) == (1, 4)
    assert connected["object"] == {
        "apiVersion": "v1",
        "kind": "PodExecOptions",
        "command": ["ls", "-l"],
        "stdout": True,
        "container": "c",
    }


async def test_exec_can_be_forbidden(world: World) -> None:
    rule = {"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/exec"]}
    world.hooks.decide["/exec"] = lambda request: denied("nobody enters here", code=403)
    await world.configure("Validating", world.hook("/exec", rules=[rule]))
    refused = await world.api.get(f"/api/v1/namespaces/{world.space}/pods/p/exec?command=ls")
    assert refused.failure[0] == 403
    assert refused.failure[2].endswith("nobody enters here")


async def test_configurations_themselves_are_never_shown_to_hooks(world: World) -> None:
    world.hooks.decide["/never"] = lambda request: denied("locked for ever")
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    hook = world.hook("/never", rules=[everything], failurePolicy="Fail")
    name = await world.configure("Validating", hook)
    path = f"{_GROUP}/validatingwebhookconfigurations/{name}"
    assert (await world.create()).status == 400
    assert (await world.api.patch(path, {"metadata": {"labels": {"a": "b"}}})).status == 200
    assert (await world.api.delete(path)).status == 200
    assert (await world.create()).status == 201


async def test_names_are_generated_after_mutation(world: World) -> None:
    world.hooks.decide["/stem"] = lambda request: {}
    await world.configure("Mutating", world.hook("/stem"))
    await world.configure("Validating", world.hook("/final"))
    made = await world.api.post(f"/api/v1/namespaces/{world.space}/configmaps", {"metadata": {"generateName": "stem-"}})
    assert made.status == 201
    assert "name" not in world.hooks.requests("/stem")[0]
    assert world.hooks.requests("/final")[0]["name"] == made.json["metadata"]["name"]


async def test_a_hook_for_v1beta1_gets_v1beta1(world: World) -> None:
    await world.configure("Validating", world.hook("/old", admissionReviewVersions=["v2", "v1beta1", "v1"]))
    assert (await world.create()).status == 201
    assert world.hooks.asked["/old"][0]["apiVersion"] == "admission.k8s.io/v1beta1"


async def test_calls_are_counted(world: World) -> None:
    world.hooks.decide["/count"] = lambda request: denied("no")
    await world.configure("Validating", world.hook("/count"))
    await world.create()
    text = (await world.api.get("/metrics")).raw.decode()
    labels = 'name="count.hooks.example.com",operation="CREATE"'
    assert (
        f'apiserver_admission_webhook_request_total{{code="400",{labels},rejected="true",type="validating"}} 1.0'
        in text
    )
    assert (
        'apiserver_admission_webhook_rejection_count{error_type="no_error",'
        f'{labels},rejection_code="400",type="validating"}} 1.0'
    ) in text


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
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert (await world.api.post(definitions, _widgets(group))).status == 201
    rule = {
        "operations": ["*"],
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "resources": ["widgets", "widgets/status"],
    }
    world.hooks.decide["/paint"] = lambda request: patched(
        {"op": "add", "path": "/spec/color", "value": "red"}, {"op": "add", "path": "/spec/unknown", "value": 1}
    )
    await world.configure("Mutating", world.hook("/paint", rules=[rule]))
    path = f"/apis/{group}/v2/namespaces/{world.space}/widgets"
    body = {"apiVersion": f"{group}/v2", "kind": "Widget", "metadata": {"name": "w"}}
    try:
        async with asyncio.timeout(10):
            while (made := await world.api.post(path, body)).status == 404:  # noqa: ASYNC110 - until it is served
                await asyncio.sleep(0.05)
        assert made.status == 201, made.raw
        assert made.json["apiVersion"] == f"{group}/v2"
        assert made.json["spec"] == {"size": 1, "color": "red"}
        request = world.hooks.requests("/paint")[0]
        assert request["object"]["apiVersion"] == f"{group}/v1"
        assert request["object"]["spec"] == {"size": 1}
        assert (request["kind"]["version"], request["requestKind"]["version"]) == ("v1", "v2")
    finally:
        await world.clear()
        assert (await world.api.delete(f"{definitions}/widgets.{group}")).status == 200


async def test_match_conditions_may_ask_the_authorizer(world: World) -> None:
    may = {"name": "may", "expression": "authorizer.requestResource.check('create').allowed()"}
    may_not = {"name": "may-not", "expression": "!authorizer.group('').resource('secrets').check('get').allowed()"}
    await world.configure(
        "Validating",
        world.hook("/may", matchConditions=[may]),
        world.hook("/may-not", matchConditions=[may, may_not]),
    )
    assert (await world.create()).status == 201
    assert len(world.hooks.requests("/may")) == 1
    assert not world.hooks.requests("/may-not")
    broken = world.hook("/broken", matchConditions=[{"name": "x", "expression": "object.("}])
    body = {"metadata": {"name": "broken"}, "webhooks": [broken]}
    refused = await world.api.post(f"{_GROUP}/validatingwebhookconfigurations", body)
    assert refused.status == 422
    assert "webhooks[0].matchConditions[0].expression" in refused.failure[2]


async def test_warnings_are_cut_to_what_clients_read(world: World) -> None:
    world.hooks.decide["/long"] = lambda request: {"warnings": [f"{i} " + "x" * 2000 for i in range(40)] + ["a\0b\nc"]}
    await world.configure("Validating", world.hook("/long"))
    made = await world.create()
    assert made.status == 201
    warnings = made.headers.getall("Warning")
    assert len(warnings) == 16
    assert all(len(one) < 270 for one in warnings)
    world.hooks.decide["/long"] = lambda request: {"warnings": ["a\0b\nc", ""]}
    assert (await world.create()).headers.getall("Warning") == ['299 - "a b c"']


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
            body = {"metadata": {"name": "nobody"}, "webhooks": [hook]}
            assert (await api.post(f"{_GROUP}/validatingwebhookconfigurations", body)).status == 201
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
            assert (await api.delete(f"{_GROUP}/validatingwebhookconfigurations/nobody")).status == 200
            async with asyncio.timeout(20):
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
            hook = World(api, "default", authority, hooks, port).hook(
                "/inject", rules=[_RULE | {"resources": ["pods"]}]
            )
            body = {"metadata": {"name": "inject"}, "webhooks": [hook]}
            assert (await api.post(f"{_GROUP}/mutatingwebhookconfigurations", body)).status == 201
            kubectl = Kubectl(kubectls.current(), server.kubeconfig, "default")
            await asyncio.to_thread(kubectl, "create", "deployment", "good", "--image=nginx")
            await asyncio.to_thread(kubectl, "create", "deployment", "bad", "--image=nginx")
            async with asyncio.timeout(30):
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
