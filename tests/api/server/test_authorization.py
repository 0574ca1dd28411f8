"""Webhooks that decide who may do what: a real server, real webhooks over TLS, all that asks them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests.api.server.api import Answer, Api
from tests.api.server.process import ServerProcess
from tests.support.kubectl import Kubectl, current
from tests.support.patience import PATIENCE
from tests.support.tls import Authority, serving
from tests.support.webhooks import AccessReviewer

TOKENS = 'anna,anna,1,"crew"\nbert,bert,2,""\nnode,system:node:n1,3,"system:nodes"\n'
Decide = Callable[[dict[str, Any]], dict[str, Any]]


def kubeconfig(path: Path, authority: Authority, port: int, *, token: str = "") -> Path:
    """Of a webhook; with a client certificate unless there is a token."""
    pair = authority.files("orca-server", client=True)
    user = {"token": token} if token else {"client-certificate": str(pair.cert), "client-key": str(pair.key)}
    cluster = {"server": f"https://127.0.0.1:{port}/authorize", "certificate-authority": str(authority.pair.cert)}
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "hook", "user": "server"}}],
        "clusters": [{"name": "hook", "cluster": cluster}],
        "users": [{"name": "server", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def webhook(name: str, file: Path, *conditions: str, policy: str = "NoOpinion", **more: Any) -> dict[str, Any]:
    settings = {  # a timeout that a busy machine does not reach by itself
        "timeout": "10s",
        "subjectAccessReviewVersion": "v1",
        "matchConditionSubjectAccessReviewVersion": "v1",
        "failurePolicy": policy,
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(file)},
        "matchConditions": [{"expression": one} for one in conditions],
        "cacheUnauthorizedRequests": False,
        **more,
    }
    return {"type": "Webhook", "name": name, "webhook": settings}


def configuration(*authorizers: dict[str, Any]) -> str:
    kind = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration"}
    return yaml.safe_dump({**kind, "authorizers": list(authorizers)})


class Guarded:
    """A server with two webhooks around RBAC: ``guard`` before it may deny, ``last`` after it may allow."""

    def __init__(self, server: ServerProcess, guard: AccessReviewer, last: AccessReviewer, config: Path) -> None:
        self.server, self.guard, self.last, self.config = server, guard, last, config
        self.users: dict[str, Api] = {}

    def fresh(self, guard: Decide | None = None, last: Decide | None = None) -> None:
        """Both forget what they were told, and decide so from now on."""
        for reviewer, decide in ((self.guard, guard), (self.last, last)):
            reviewer.asked.clear()
            reviewer.raw, reviewer.hang = None, False
            reviewer.decide = decide or (lambda _spec: {"allowed": False})

    async def metric(self, name: str, /, **labels: str) -> float:
        """Of all with these labels."""
        text = (await self.users["admin"].get("/metrics")).raw.decode()
        found = 0.0
        for line in text.splitlines():
            if line.startswith(name) and all(f'{key}="{value}"' in line for key, value in labels.items()):
                found += float(line.rsplit(" ", 1)[1])
        return found


@pytest.fixture(scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    directory = tmp_path_factory.mktemp("authorization")
    authority, guard, last = Authority(directory), AccessReviewer(), AccessReviewer()
    tls = authority.server_context("127.0.0.1", trust=authority.pair.cert)
    async with serving(guard, tls) as first, serving(last, tls) as second:
        (directory / "tokens").write_text(TOKENS)
        config = directory / "authorization.yaml"
        config.write_text(
            configuration(
                webhook(
                    "guard",
                    kubeconfig(directory / "guard", authority, first),
                    "has(request.resourceAttributes)",
                    "request.resourceAttributes.namespace == 'guarded'",
                    policy="Deny",
                ),
                {"type": "Node", "name": "node"},
                {"type": "RBAC", "name": "rbac"},
                webhook("last", kubeconfig(directory / "last", authority, second, token="secret")),
            )
        )
        server = ServerProcess(
            directory,
            "--no-controllers",
            f"--token-auth-file={directory / 'tokens'}",
            f"--authorization-config={config}",
        )
        await asyncio.to_thread(server.start)
        one = Guarded(server, guard, last, config)
        try:
            async with (
                Api(server.kubeconfig) as admin,
                Api(server.kubeconfig, token="anna") as anna,
                Api(server.kubeconfig, token="bert") as bert,
                Api(server.kubeconfig, token="node") as node,
            ):
                one.users = {"admin": admin, "anna": anna, "bert": bert, "node": node}
                for space in ("guarded", "open"):
                    assert (await admin.post("/api/v1/namespaces", {"metadata": {"name": space}})).status == 201
                    made = {"metadata": {"name": "one", "labels": {"a": "b"}}}
                    assert (await admin.post(f"/api/v1/namespaces/{space}/configmaps", made)).status == 201
                binding = {
                    "metadata": {"name": "bert"},
                    "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
                    "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "bert"}],
                }
                assert (await admin.post(f"/apis/{RBAC}/v1/clusterrolebindings", binding)).status == 201
                yield one
        finally:
            await asyncio.to_thread(server.stop)


RBAC = "rbac.authorization.k8s.io"
OPEN, GUARDED = "/api/v1/namespaces/open/configmaps", "/api/v1/namespaces/guarded/configmaps"


def allow(_spec: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True, "reason": "because"}


async def test_who_is_allowed_by_a_webhook_alone(guarded: Guarded) -> None:
    anna = guarded.users["anna"]
    guarded.fresh()
    code, reason, message = (await anna.get(f"{OPEN}/one")).failure
    assert (code, reason) == (403, "Forbidden")
    assert 'User "anna" cannot get resource "configmaps"' in message
    guarded.fresh(last=allow)
    assert (await anna.get(f"{OPEN}/one")).status == 200
    assert guarded.last.asked == [
        {
            "resourceAttributes": {
                "namespace": "open",
                "verb": "get",
                "version": "v1",
                "resource": "configmaps",
                "name": "one",
            },
            "user": "anna",
            "groups": ["crew", "system:authenticated"],
            "uid": "1",
        }
    ]
    assert guarded.last.shown["token"] == "Bearer secret"
    assert guarded.last.shown["path"] == "/authorize?timeout=10s"
    assert guarded.last.versions == {"authorization.k8s.io/v1"}
    for _ in range(3):  # the short way, too: it remembers
        assert (await anna.get(f"{OPEN}/one")).status == 200
    assert len(guarded.last.asked) == 1
    assert guarded.guard.asked == []  # its conditions


async def test_a_webhook_denies_what_rbac_would_allow(guarded: Guarded) -> None:
    bert = guarded.users["bert"]
    guarded.fresh(guard=lambda spec: {"denied": spec["resourceAttributes"]["verb"] == "delete", "reason": "not that"})
    assert (await bert.get(f"{GUARDED}/one")).status == 200
    assert guarded.guard.shown["certificate"] == "orca-server"
    code, _, message = (await bert.delete(f"{GUARDED}/one")).failure
    assert code == 403
    assert message.endswith('in the namespace "guarded": not that')
    assert guarded.last.asked == []
    assert (await guarded.users["admin"].get(f"{GUARDED}/one")).status == 200
    assert guarded.guard.resources(verb="get", name="one")
    assert len(guarded.guard.asked) == 2  # nobody asks about system:masters
    assert await guarded.metric("apiserver_authorization_decisions_total", name="guard", decision="denied") == 1
    assert await guarded.metric("authorization_attempts_total", result="denied") == 1


async def test_selectors_are_shown(guarded: Guarded) -> None:
    anna = guarded.users["anna"]
    guarded.fresh(last=allow)
    query = "labelSelector=a%3Db,!c&fieldSelector=metadata.name%3Done"
    assert len((await anna.get(f"{OPEN}?{query}")).json["items"]) == 1
    (asked,) = guarded.last.resources(verb="list")
    assert asked["name"] == "one"
    assert asked["fieldSelector"] == {"requirements": [{"key": "metadata.name", "operator": "In", "values": ["one"]}]}
    assert asked["labelSelector"] == {
        "requirements": [
            {"key": "a", "operator": "In", "values": ["b"]},
            {"key": "c", "operator": "DoesNotExist"},
        ]
    }
    events = await anna.events(f"{OPEN}?watch=true&{query}", 1)
    assert events[0]["object"]["metadata"]["name"] == "one"
    assert len(guarded.last.resources(verb="watch")) == 1


async def test_paths_that_are_no_resources(guarded: Guarded) -> None:
    guarded.fresh(last=lambda spec: {"allowed": spec["nonResourceAttributes"]["path"] == "/metrics"})
    anna = guarded.users["anna"]
    assert (await anna.get("/metrics")).status == 200
    assert (await anna.get("/configz")).status == 403
    assert [spec["nonResourceAttributes"] for spec in guarded.last.asked] == [
        {"path": "/metrics", "verb": "get"},
        {"path": "/configz", "verb": "get"},
    ]


async def test_access_reviews_go_through_it(guarded: Guarded) -> None:
    guarded.fresh(
        guard=lambda spec: {"denied": True, "reason": "closed"} if spec["user"] == "carl" else {"allowed": False},
        last=lambda spec: {"allowed": spec["resourceAttributes"]["verb"] == "list", "reason": "told"},
    )
    reviews = "/apis/authorization.k8s.io/v1"
    asked = {"verb": "list", "resource": "pods", "namespace": "open", "labelSelector": {"rawSelector": "x=y"}}
    mine = await guarded.users["anna"].post(
        f"{reviews}/selfsubjectaccessreviews", {"spec": {"resourceAttributes": asked}}
    )
    assert mine.json["status"] == {"allowed": True, "reason": "told"}
    (shown,) = guarded.last.resources(resource="pods")
    assert shown["version"] == "*"
    assert shown["labelSelector"]["requirements"] == [{"key": "x", "operator": "In", "values": ["y"]}]
    spec = {"user": "carl", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "guarded"}}
    other = await guarded.users["admin"].post(f"{reviews}/subjectaccessreviews", {"spec": spec})
    assert other.json["status"] == {"allowed": False, "denied": True, "reason": "closed"}
    rules = await guarded.users["anna"].post(f"{reviews}/selfsubjectrulesreviews", {"spec": {"namespace": "open"}})
    assert rules.json["status"]["incomplete"] is True
    assert rules.json["status"]["evaluationError"] == (
        "[webhook authorizer does not support user rule resolution, "
        "webhook authorizer does not support user rule resolution]"
    )
    assert rules.json["status"]["nonResourceRules"]


async def test_impersonation_asks_it(guarded: Guarded) -> None:
    guarded.fresh(last=lambda spec: {"allowed": "impersonate" in spec["resourceAttributes"]["verb"]})
    answer = await guarded.users["anna"].get(f"{OPEN}/one", Impersonate_User="bert")
    assert answer.status == 200
    assert {one["verb"] for one in guarded.last.resources(resource="users")} == {"impersonate:user-info"}
    guarded.fresh()
    assert (await guarded.users["anna"].get(f"{OPEN}/one", Impersonate_User="carl")).status == 403


async def test_what_admission_asks(guarded: Guarded) -> None:
    """A policy's expression, grants, and signers: each waits for the webhook."""
    admin, anna = guarded.users["admin"], guarded.users["anna"]
    group = "/apis/admissionregistration.k8s.io/v1"
    check = "authorizer.group('').resource('widgets').labelSelector('a=b').namespace('open').check('{}').allowed()"
    policy = {
        "metadata": {"name": "widgets"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
                ]
            },
            "validations": [{"expression": f"{check.format('turn')} && {check.format('press')}"}],
        },
    }
    binding = {"metadata": {"name": "widgets"}, "spec": {"policyName": "widgets", "validationActions": ["Deny"]}}
    assert (await admin.post(f"{group}/validatingadmissionpolicies", policy)).status == 201
    assert (await admin.post(f"{group}/validatingadmissionpolicybindings", binding)).status == 201
    try:
        may = {"create", "turn", "press"}
        guarded.fresh(last=lambda spec: {"allowed": spec["resourceAttributes"]["verb"] in may})
        made = await anna.post(f"{OPEN}?dryRun=All", {"metadata": {"name": "two"}})
        assert made.status == 201, made.raw
        assert [one["verb"] for one in guarded.last.resources(resource="widgets")] == ["turn", "press"]
        assert guarded.last.resources(verb="turn")[0]["labelSelector"]["requirements"][0]["key"] == "a"
        refused = await guarded.users["bert"].post(f"{OPEN}?dryRun=All", {"metadata": {"name": "two"}})
        assert refused.status == 201
        assert len(guarded.last.asked) == 3  # bert may do all by RBAC
    finally:
        await admin.delete(f"{group}/validatingadmissionpolicybindings/widgets")
        await admin.delete(f"{group}/validatingadmissionpolicies/widgets")
    role = {"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}
    path = f"/apis/{RBAC}/v1/namespaces/open/roles"
    may = {"create"}
    assert "attempting to grant RBAC permissions" in (await anna.post(path, role)).failure[2]
    may.add("escalate")
    assert (await anna.post(path, role)).status == 201


@pytest.mark.parametrize("fault", ["hang", "status", "text"])
async def test_webhooks_that_fail(guarded: Guarded, fault: str) -> None:
    """The guard fails closed, with 500 as upstream; the last one fails open, to whom nobody else allows with 500."""
    anna, bert = guarded.users["anna"], guarded.users["bert"]
    guarded.fresh()
    answers = {
        "status": lambda: web.Response(status=403, text="no"),
        "text": lambda: web.Response(text="hello"),
    }
    for reviewer in (guarded.guard, guarded.last):
        reviewer.hang, reviewer.raw = fault == "hang", answers.get(fault)
    results: list[Answer] = await asyncio.gather(
        bert.get(f"{GUARDED}/one"), anna.get(f"{OPEN}/two-{fault}"), bert.get(f"{OPEN}/one")
    )
    assert [one.status for one in results] == [500, 500, 200]
    text = {
        "hang": "context deadline exceeded",
        "status": "the server does not allow access to the requested resource",
        "text": "json parse error",
    }[fault]
    for one in results[:2]:
        assert one.failure[1] == "InternalError"
        assert text in one.failure[2]
    told = "timeout" if fault == "hang" else "error"
    evaluations = "apiserver_authorization_webhook_evaluations"
    assert await guarded.metric(f"{evaluations}_total", name="guard", result=told) >= 1
    assert await guarded.metric(f"{evaluations}_fail_open_total", name="last", result=told) >= 1
    assert await guarded.metric(f"{evaluations}_fail_open_total", name="guard") == 0


async def test_a_server_error_is_tried_again(guarded: Guarded) -> None:
    guarded.fresh(last=allow)
    failures = [500, 429]

    def sometimes() -> web.Response:
        if failures:
            return web.Response(status=failures.pop())
        guarded.last.raw = None
        return web.json_response(
            {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": {"allowed": True}}
        )

    guarded.last.raw = sometimes
    assert (await guarded.users["anna"].get(f"{OPEN}/tried")).status == 404
    assert len(guarded.last.asked) == 3


async def test_nodes_are_allowed_before_the_last_is_asked(guarded: Guarded) -> None:
    guarded.fresh()
    made = await guarded.users["node"].post("/api/v1/nodes", {"metadata": {"name": "n1"}})
    assert made.status == 201, made.raw
    assert guarded.last.asked == []


async def test_kubectl_auth_can_i(guarded: Guarded) -> None:
    guarded.fresh(last=lambda spec: {"allowed": spec["resourceAttributes"].get("resource") == "widgets"})
    kubectl = Kubectl(current(), guarded.server.kubeconfig, "open")
    for resource, told in (("widgets", "yes"), ("pods", "no")):
        said = await asyncio.to_thread(kubectl.try_, "auth", "can-i", "get", resource, "--as=anna")
        assert said.out.strip().endswith(told), said


async def test_a_configuration_that_changes(guarded: Guarded) -> None:
    """The last test of this server: the webhook behind RBAC is gone afterwards."""
    reloads = "apiserver_authorization_config_controller_automatic_reloads_total"
    before = yaml.safe_load(guarded.config.read_text())
    guarded.fresh(last=allow)
    assert (await guarded.users["anna"].get("/configz")).status == 200
    guarded.config.write_text(configuration(*before["authorizers"][:3]))
    async with asyncio.timeout(PATIENCE):
        while not await guarded.metric(reloads, status="success"):  # noqa: ASYNC110 - a file is followed by looking
            await asyncio.sleep(0.2)
    assert (await guarded.users["anna"].get("/configz")).status == 403
    assert (await guarded.users["bert"].get(f"{OPEN}/one")).status == 200
    assert await guarded.metric(reloads, status="failure") == 0
    assert await guarded.metric("apiserver_authorization_config_controller_last_config_info") == 1


async def test_a_webhook_of_flags(tmp_path: Path) -> None:
    """It is sent v1beta1, and fails open."""
    authority, hook = Authority(tmp_path), AccessReviewer(decide=lambda spec: {"allowed": "crew" in spec["group"]})
    (tmp_path / "tokens").write_text(TOKENS)
    async with serving(hook, authority.server_context("127.0.0.1")) as port:
        server = ServerProcess(
            tmp_path,
            "--no-controllers",
            f"--token-auth-file={tmp_path / 'tokens'}",
            "--authorization-mode=RBAC,Webhook",
            f"--authorization-webhook-config-file={kubeconfig(tmp_path / 'hook', authority, port)}",
        )
        await asyncio.to_thread(server.start)
        try:
            async with (
                Api(server.kubeconfig, token="anna") as anna,
                Api(server.kubeconfig, token="bert") as bert,
            ):
                assert (await anna.get("/api/v1/namespaces/default")).status == 200
                assert (await bert.get("/api/v1/namespaces/default")).status == 403
                assert hook.versions == {"authorization.k8s.io/v1beta1"}
        finally:
            await asyncio.to_thread(server.stop)
