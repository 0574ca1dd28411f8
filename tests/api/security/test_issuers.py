"""Users whom others know: OpenID Connect issuers and a token webhook, over TLS, with a real server.

One server for the module, configured by an AuthenticationConfiguration that changes in the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests.api.security.conftest import grant
from tests.api.server.api import Answer, Api
from tests.api.server.process import ServerProcess
from tests.support.issuer import Issuer
from tests.support.kubectl import Kubectl
from tests.support.patience import PATIENCE
from tests.support.tls import Authority, serving

SELF = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
OURS = "https://kubernetes.default.svc.cluster.local"


@dataclass
class TokenWebhook:
    """Knows some tokens; ``asked`` keeps every TokenReview."""

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    failures: int = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        review = await request.json()
        self.asked.append(review)
        if self.failures:
            self.failures -= 1
            return web.Response(status=500)
        user = self.users.get(review["spec"]["token"])
        status = {"authenticated": True, "user": user} if user else {"authenticated": False, "error": "never seen"}
        return web.json_response({**review, "status": status})

    def count(self, token: str) -> int:
        """How often it was asked about a token."""
        return [review["spec"]["token"] for review in self.asked].count(token)


@dataclass
class World:
    """Who knows users, and the file that says so."""

    server: ServerProcess
    staff: Issuer
    machines: Issuer
    webhook: TokenWebhook
    file: Path
    config: dict[str, Any]

    def write(self, config: dict[str, Any] | str) -> None:
        """Another content of the file, at once."""
        new = self.file.with_suffix(".new")
        new.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        new.replace(self.file)


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    directory = tmp_path_factory.mktemp("issuers")
    authority = Authority(directory)
    tls = authority.server_context("127.0.0.1")
    staff, machines, webhook = Issuer(), Issuer(), TokenWebhook()
    staff.new_key("s1")
    machines.new_key("m1", "ES256")
    async with AsyncExitStack() as stack:
        for issuer in (staff, machines):
            port = await stack.enter_async_context(serving(issuer, tls))
            issuer.url = f"https://127.0.0.1:{port}"
        port = await stack.enter_async_context(serving(webhook, tls))
        certificate = authority.pair.cert.read_text()
        kubeconfig = directory / "webhook.kubeconfig"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "clusters": [
                        {
                            "name": "w",
                            "cluster": {
                                "server": f"https://127.0.0.1:{port}/authenticate",
                                "certificate-authority": str(authority.pair.cert),
                            },
                        }
                    ],
                    "users": [{"name": "w", "user": {}}],
                    "contexts": [{"name": "w", "context": {"cluster": "w", "user": "w"}}],
                    "current-context": "w",
                }
            )
        )
        config = {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AuthenticationConfiguration",
            "anonymous": {
                "enabled": True,
                "conditions": [{"path": path} for path in ("/healthz", "/livez", "/readyz")],
            },
            "jwt": [
                {
                    "issuer": {"url": staff.url, "audiences": ["orca"], "certificateAuthority": certificate},
                    "claimMappings": {
                        "username": {"claim": "sub", "prefix": "staff:"},
                        "groups": {"claim": "groups", "prefix": "staff:"},
                    },
                },
                {
                    "issuer": {
                        "url": machines.url,
                        "audiences": ["orca", "robots"],
                        "audienceMatchPolicy": "MatchAny",
                        "certificateAuthority": certificate,
                    },
                    "claimValidationRules": [{"expression": "claims.robot.model > 2", "message": "too old"}],
                    "claimMappings": {
                        "username": {"expression": "'robot-' + claims.robot.name"},
                        "groups": {"expression": "claims.roles.split(',')"},
                        "uid": {"expression": "claims.sub"},
                        "extra": [{"key": "example.com/model", "valueExpression": "string(claims.robot.model)"}],
                    },
                    "userValidationRules": [
                        {"expression": "!user.groups.exists(g, g.startsWith('system:'))", "message": "reserved"}
                    ],
                },
            ],
        }
        file = directory / "authentication.yaml"
        file.write_text(yaml.safe_dump(config))
        server = ServerProcess(
            directory,
            "--no-controllers",
            f"--authentication-config={file}",
            f"--authentication-token-webhook-config-file={kubeconfig}",
            "--authentication-token-webhook-version=v1",
        )
        await asyncio.to_thread(server.start)
        yield World(server, staff, machines, webhook, file, config)
        await asyncio.to_thread(server.stop)


@pytest.fixture
def server(world: World) -> ServerProcess:
    return world.server


async def asked(world: World, token: str) -> Answer:
    """The answer to who somebody is."""
    async with Api(world.server.kubeconfig, token=token) as client:
        return await client.post(SELF, {})


async def who(world: World, token: str) -> dict[str, Any]:
    answer = await asked(world, token)
    assert answer.status == 201, answer.raw
    user: dict[str, Any] = answer.json["status"]["userInfo"]
    return user


async def test_users_of_an_issuer(world: World, api: Api) -> None:
    token = world.staff.token(groups=["crew", "ops"], jti="t1")
    user = await who(world, token)
    assert user == {
        "username": "staff:anna",
        "groups": ["staff:crew", "staff:ops", "system:authenticated"],
        "extra": {"authentication.kubernetes.io/credential-id": ["JTI=t1"]},
    }
    kubectl = Kubectl("kubectl", world.server.kubeconfig)
    bare = ("--kubeconfig=/dev/null", f"--server=https://127.0.0.1:{world.server.port}", "--insecure-skip-tls-verify")
    refused = await asyncio.to_thread(kubectl.try_, *bare, f"--token={token}", "get", "configmaps")
    assert 'User "staff:anna" cannot list resource "configmaps"' in refused.err
    await grant(api, "view", {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "staff:crew"})
    assert await asyncio.to_thread(kubectl, *bare, f"--token={token}", "auth", "can-i", "list", "pods") == "yes\n"


async def test_expressions_make_users(world: World) -> None:
    robot = {"name": "r2", "model": 3}
    assert await who(world, world.machines.token("m1", "ES256", aud=["robots"], robot=robot, roles="a,b")) == {
        "username": "robot-r2",
        "uid": "anna",
        "groups": ["a", "b", "system:authenticated"],
        "extra": {"example.com/model": ["3"]},
    }


async def test_tokens_that_prove_nothing(world: World, api: Api) -> None:
    robot = {"name": "r2", "model": 3}
    now = int(time.time())
    forger = Issuer(world.staff.url)
    forger.new_key("s1")
    bad = {
        world.staff.token(aud="others"): 'oidc: verify token: oidc: expected audience "orca" got ["others"]',
        world.staff.token(exp=now - 5): "oidc: verify token: oidc: token is expired",
        forger.token(): "oidc: verify token: failed to verify signature: failed to verify id token signature",
        world.machines.token("m1", "ES256", robot={**robot, "model": 1}, roles="a"): "failed: too old",
        world.machines.token("m1", "ES256", robot=robot, roles="system:masters"): "failed: reserved",
        world.machines.token("m1", "ES256", roles="a"): "resulted in error: no such key: robot",
    }
    for token, told in bad.items():
        assert (await asked(world, token)).failure[:2] == (401, "Unauthorized")
        review = await api.post(REVIEWS, {"spec": {"token": token}})
        status = review.json["status"]
        assert not status.get("authenticated")
        assert told in status["error"]
        assert "never seen" in status["error"]  # the webhook was asked, too
    log = world.server.log.read_text()
    assert "unable to authenticate the request" in log
    assert not any(token in log for token in bad)


async def test_keys_that_an_issuer_adds(world: World) -> None:
    await who(world, world.staff.token("s1", sub="before"))
    world.staff.new_key("s2")
    asked_before = world.staff.asked.count("/keys")
    assert (await who(world, world.staff.token("s2", sub="after")))["username"] == "staff:after"
    assert world.staff.asked.count("/keys") == asked_before + 1
    world.staff.away = True
    try:
        assert (await who(world, world.staff.token("s2", sub="alone")))["username"] == "staff:alone"
    finally:
        world.staff.away = False


async def test_a_webhook_knows_tokens(world: World, api: Api) -> None:
    user = {"username": "wanda", "uid": "7", "groups": ["guests"], "extra": {"example.com/door": ["east"]}}
    world.webhook.users["opaque-token"] = user
    for _ in range(3):
        assert await who(world, "opaque-token") == {**user, "groups": ["guests", "system:authenticated"]}
    assert world.webhook.count("opaque-token") == 1
    (review,) = [one for one in world.webhook.asked if one["spec"]["token"] == "opaque-token"]
    assert (review["apiVersion"], review["kind"]) == ("authentication.k8s.io/v1", "TokenReview")
    assert review["spec"]["audiences"] == [OURS]
    answer = await api.post(REVIEWS, {"spec": {"token": "opaque-token", "audiences": ["elsewhere"]}})
    assert not answer.json["status"].get("authenticated")
    answer = await api.post(REVIEWS, {"spec": {"token": "opaque-token"}})
    assert answer.json["status"]["user"]["username"] == "wanda"
    assert answer.json["status"]["audiences"] == [OURS]
    for _ in range(2):
        assert (await asked(world, "unknown-token")).status == 401
    world.webhook.failures = 1
    world.webhook.users["later-token"] = user
    assert (await who(world, "later-token"))["username"] == "wanda"  # it was asked again
    assert world.webhook.count("later-token") == 2


async def test_many_at_a_time_are_one_question(world: World) -> None:
    world.webhook.users["busy-token"] = {"username": "bea"}
    async with Api(world.server.kubeconfig, token="busy-token") as client:
        answers = await asyncio.gather(*(client.post(SELF, {}) for _ in range(20)))
    assert {answer.status for answer in answers} == {201}
    assert world.webhook.count("busy-token") == 1


async def test_what_may_be_asked_for_without_credentials(world: World, anonymous: Api, api: Api) -> None:
    assert (await anonymous.get("/livez")).status == 200
    for path in ("/version", "/livez/ping", "/api/v1/namespaces/default", "/%6civez/"):
        for _ in range(2):
            assert (await anonymous.get(path)).status == 401, path
            assert (await api.get(path)).status != 401


async def _soon(world: World, token: str, status: int) -> None:
    """Ask until the answer is as it will be."""
    end = time.monotonic() + PATIENCE
    while (answer := await asked(world, token)).status != status:
        assert time.monotonic() < end, answer.raw
        await asyncio.sleep(0.2)


async def test_a_file_that_changes_is_used_anew(world: World, api: Api) -> None:
    """Last in this module: afterwards only one issuer is configured."""
    wrong = yaml.safe_dump(world.config).replace("claims.robot.model > 2", "claims.robot.model >")
    world.write(wrong)
    one = {**world.config, "jwt": [world.config["jwt"][0]]}
    robot = {"name": "r2", "model": 3}

    def machine() -> str:
        return world.machines.token("m1", "ES256", robot=robot, roles="a", jti=str(time.monotonic()))

    def metric(text: str, name: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith(f"apiserver_authentication_{name}")]

    end = time.monotonic() + PATIENCE
    while not metric(
        (text := (await api.get("/metrics")).raw.decode()),
        "config_controller_automatic_reloads_total{apiserver_id_hash",
    ):
        assert time.monotonic() < end, text
        await asyncio.sleep(0.2)
    assert "compilation failed" in world.server.log.read_text()
    await who(world, machine())
    world.write(one)
    await _soon(world, machine(), 401)
    assert (await who(world, world.staff.token("s1", sub="stays")))["username"] == "staff:stays"
    text = (await api.get("/metrics")).raw.decode()
    reloads = metric(text, "config_controller_automatic_reloads_total")
    assert [line.rsplit(" ", 1)[1] for line in sorted(reloads)] == ["1.0", "1.0"]
    assert len(metric(text, "jwt_authenticator_jwks_fetch_last_key_set_info")) == 1
    assert any('result="failure"' in line for line in metric(text, "jwt_authenticator_latency_seconds_count"))
