"""Admission webhooks, with real TLS servers behind URLs and Services."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from tests.api.server.hooks import GROUP, RULE, World
from tests.support.kubectl import Kubectl
from tests.support.tls import Authority
from tests.support.webhooks import denied, patched


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
    world.hooks.decide["/bad"] = lambda request: patched({"op": "replace", "path": "/none/none", "value": "x"})
    refused = await world.create()
    assert refused.failure[:2] == (500, "InternalError")


async def test_a_sidecar_is_injected_into_pods(world: World, kubectl: Kubectl) -> None:
    sidecar = {"name": "sidecar", "image": "proxy"}
    world.hooks.decide["/inject"] = lambda request: patched(
        {"op": "add", "path": "/spec/containers/-", "value": sidecar}
    )
    rule = RULE | {"resources": ["pods"]}
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


async def test_owners_of_fields_survive_a_hook_that_spoils_them(world: World) -> None:
    first = "/metadata/managedFields/0"
    world.hooks.decide["/spoil"] = lambda request: patched(
        *({"op": "remove", "path": f"{first}/{name}"} for name in ("apiVersion", "fieldsV1", "fieldsType"))
    )
    await world.create("spoilt")
    await world.configure("Mutating", world.hook("/spoil", rules=[RULE | {"operations": ["CREATE", "UPDATE"]}]))
    path = f"/api/v1/namespaces/{world.space}/configmaps"
    for answer in (
        await world.create("new"),
        await world.api.patch(f"{path}/spoilt", [], "json"),
        await world.api.patch(f"{path}/spoilt", {"data": {"b": "2"}}),
    ):
        (warning,) = answer.headers.getall("Warning")
        assert warning.startswith('299 - ".metadata.managedFields was in an invalid state after admission; ')
        assert warning.endswith(': apiVersion must not be empty"')
        assert all(entry["fieldsV1"] for entry in answer.json["metadata"]["managedFields"])
    bare = [{"op": "remove", "path": f"{first}/fieldsV1"}]
    world.hooks.decide["/spoil"] = lambda request: patched(*bare)
    emptied = await world.api.patch(f"{path}/spoilt", {"data": {"c": "3"}})
    assert "Warning" not in emptied.headers
    assert emptied.json["metadata"]["managedFields"][0]["fieldsV1"] == {}


async def test_a_hook_that_spoils_the_end_of_a_namespace(world: World) -> None:
    """Through this door, too, owners of fields survive and the status stays as it is."""
    world.hooks.decide["/end"] = lambda request: patched(
        {"op": "remove", "path": "/metadata/managedFields/0/apiVersion"},
        {"op": "replace", "path": "/status/phase", "value": "Terminating"},
    )
    path = f"/api/v1/namespaces/{world.space}"
    space = (await world.api.get(path)).json
    rule = RULE | {"operations": ["UPDATE"], "resources": ["namespaces/finalize"]}
    await world.configure("Mutating", world.hook("/end", rules=[rule]))
    space["spec"]["finalizers"].append("example.com/wait")
    held = await world.api.put(f"{path}/finalize", space)
    await world.clear()
    stored = (await world.api.get(path)).json
    space["spec"]["finalizers"].remove("example.com/wait")
    del space["metadata"]["resourceVersion"]
    assert (await world.api.put(f"{path}/finalize", space)).status == 200
    assert held.status == 200, held.raw
    assert held.json == stored
    assert ".metadata.managedFields was in an invalid state after admission" in held.headers["Warning"]
    assert stored["spec"]["finalizers"] == ["kubernetes", "example.com/wait"]
    assert stored["status"]["phase"] == "Active"
    assert all(entry["apiVersion"] for entry in stored["metadata"]["managedFields"])


async def test_a_hook_moves_nothing_to_another_namespace(world: World) -> None:
    world.hooks.decide["/move"] = lambda request: patched(
        {"op": "replace", "path": "/metadata/namespace", "value": "default"}
    )
    await world.create("here")
    await world.configure("Mutating", world.hook("/move", rules=[RULE | {"operations": ["CREATE", "UPDATE"]}]))
    moved = await world.create("moved")
    text = "the namespace of the provided object does not match the namespace sent on the request"
    assert moved.failure == (400, "BadRequest", text)
    path = f"/api/v1/namespaces/{world.space}/configmaps/here"
    assert (await world.api.patch(path, {"data": {"b": "2"}})).failure == (400, "BadRequest", text)


async def test_a_hook_makes_no_other_kind_of_an_object(world: World) -> None:
    world.hooks.decide["/turn"] = lambda request: patched({"op": "replace", "path": "/kind", "value": "Secret"})
    await world.configure("Mutating", world.hook("/turn"))
    text = "Internal error occurred: the kind in the data (Secret) does not match the expected kind (ConfigMap)"
    assert (await world.create()).failure == (500, "InternalError", text)
    world.hooks.decide["/turn"] = lambda request: patched({"op": "replace", "path": "/apiVersion", "value": "v9"})
    text = "Internal error occurred: the API version in the data (v9) does not match the expected API version (v1)"
    assert (await world.create()).failure == (500, "InternalError", text)


async def test_a_patch_that_does_not_fit_is_told(world: World) -> None:
    world.hooks.decide["/misfit"] = lambda request: patched({"op": "replace", "path": "/nothing/x", "value": 1})
    await world.configure("Mutating", world.hook("/misfit"))
    text = "Internal error occurred: replace operation does not apply: doc is missing path"
    assert (await world.create()).failure[2].startswith(text)


async def test_warnings_reach_the_client(world: World) -> None:
    world.hooks.decide["/warn"] = lambda request: {"warnings": ["mind the gap"]}
    await world.configure("Validating", world.hook("/warn", rules=[RULE | {"operations": ["*"]}]))
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
    await world.configure("Validating", world.hook("/keep", rules=[RULE | {"operations": ["DELETE"]}]))
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
        .endswith('Post "https://127.0.0.1:1/gone?timeout=30s": dial tcp 127.0.0.1:1: connect: connection refused')
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
    path = f"{GROUP}/validatingwebhookconfigurations/{name}"
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
    refused = await world.api.post(f"{GROUP}/validatingwebhookconfigurations", body)
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
