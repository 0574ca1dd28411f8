"""Every row of the resource table × every verb and subresource, as those who may do little.

What is expected is written down here a second time, from upstream's documents and not from the code's tables. Whatever
is not named is forbidden, so that a new row is forbidden until somebody says otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from orca.api.builtin import BUILTIN
from orca.api.resources import ALL_VERBS, Resource
from tests.api.security.conftest import Connect, as_user, grant, token_of
from tests.api.server.api import Answer, Api
from tests.support.patience import PATIENCE

READ = frozenset({"get", "list", "watch"})
_METHODS = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE"}
_AT_ONCE = 24

# What anybody with a name may ask: about themselves.
SELF = {
    ("authorization.k8s.io", "selfsubjectaccessreviews"): {"create"},
    ("authorization.k8s.io", "selfsubjectrulesreviews"): {"create"},
    ("authentication.k8s.io", "selfsubjectreviews"): {"create"},
}
_VIEWED = {
    "": "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
    "replicationcontrollers/scale serviceaccounts services services/status bindings events limitranges "
    "namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status "
    "namespaces",
    "apps": "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status "
    "replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    "autoscaling": "horizontalpodautoscalers horizontalpodautoscalers/status",
    "batch": "cronjobs cronjobs/status jobs jobs/status",
    "discovery.k8s.io": "endpointslices",
    "metrics.k8s.io": "nodes pods",
    "networking.k8s.io": "ingresses ingresses/status networkpolicies",
    "policy": "poddisruptionbudgets poddisruptionbudgets/status",
    "resource.k8s.io": "resourceclaims resourceclaims/status resourceclaimtemplates",
}
VIEW = {(group, one): set(READ) for group, listed in _VIEWED.items() for one in listed.split()} | SELF
# A node, about objects that have nothing to do with it. Reading nodes, endpoints, slices, namespaces and policies is
# more than upstream's kubelets may: the agent routes, proxies and serves DNS, too.
_READABLE = {"nodes", "services", "endpoints", "namespaces"}
STRANGE_NODE = {
    **{("", one): set(READ) for one in _READABLE},
    ("", "nodes"): READ | {"create"},
    ("", "pods"): {"create"},
    ("", "events"): {"create", "update", "patch"},
    ("events.k8s.io", "events"): {"create", "update", "patch"},
    ("discovery.k8s.io", "endpointslices"): set(READ),
    ("networking.k8s.io", "networkpolicies"): set(READ),
    ("node.k8s.io", "runtimeclasses"): set(READ),
    ("storage.k8s.io", "csidrivers"): set(READ),
    ("storage.k8s.io", "csinodes"): {"create"},
    ("certificates.k8s.io", "certificatesigningrequests"): READ | {"create"},
    ("authentication.k8s.io", "tokenreviews"): {"create"},
    ("authorization.k8s.io", "subjectaccessreviews"): {"create"},
    ("authorization.k8s.io", "localsubjectaccessreviews"): {"create"},
    ("resource.k8s.io", "resourceslices"): {"create"},
    **SELF,
}


@dataclass(frozen=True)
class Attempt:
    """One request of the walk."""

    row: Resource
    verb: str
    subresource: str
    method: str
    path: str

    @property
    def key(self) -> tuple[str, str]:
        full = f"{self.row.plural}/{self.subresource}" if self.subresource else self.row.plural
        return self.row.group, full

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


def attempts(space: str, name: str = "x") -> Iterator[Attempt]:
    """Everything that can be asked of every row; verbs a row does not have, too: they are no way around."""
    for row in BUILTIN:
        root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
        many = f"{root}/namespaces/{space}/{row.plural}" if row.namespaced else f"{root}/{row.plural}"
        one = f"{many}/{name}"
        for verb in ALL_VERBS:
            method = _METHODS.get(verb, "GET")
            path = many if verb in ("create", "list", "watch", "deletecollection") else one
            yield Attempt(row, verb, "", method, f"{path}?watch=1&timeoutSeconds=1" if verb == "watch" else path)
        for sub in row.subresources:
            for verb in ("create", "get", "update", "patch", "delete"):
                yield Attempt(row, verb, sub.name, _METHODS.get(verb, "GET"), f"{one}/{sub.name}")


async def walk(client: Api, everything: Iterator[Attempt]) -> dict[Attempt, Answer]:
    """Ask all of it."""
    gate = asyncio.Semaphore(_AT_ONCE)
    found = {}

    async def ask(attempt: Attempt) -> None:
        async with gate:
            body = b"{}" if attempt.method in ("POST", "PUT", "PATCH") else None
            media = "application/merge-patch+json" if attempt.method == "PATCH" else "application/json"
            found[attempt] = await client.call(attempt.method, attempt.path, body, media=media)

    async with asyncio.TaskGroup() as group:
        for attempt in everything:
            group.create_task(ask(attempt))
    return found


def refused(answer: Answer, user: str) -> bool:
    """Whether the authorizers said no (admission says it in other words)."""
    if answer.status != 403:
        return False
    return f'User "{user}" cannot ' in answer.failure[2]


def compare(answers: dict[Attempt, Answer], user: str, allowed: dict[tuple[str, str], set[str]]) -> list[str]:
    """What is not as expected; no answer may be a server's error."""
    wrong = []
    for attempt, answer in answers.items():
        may = attempt.verb in allowed.get(attempt.key, ())
        if may == refused(answer, user) or answer.status >= 500 or answer.status == 401:
            wrong.append(f"{attempt}: {answer.status}, expected to be {'allowed' if may else 'refused'}")
    return wrong


async def test_anonymous_reaches_nothing(anonymous: Api, space: str) -> None:
    answers = await walk(anonymous, attempts(space))
    assert len(answers) >= 10 * len(tuple(BUILTIN))
    assert not compare(answers, "system:anonymous", {})


async def test_view_reads_what_view_reads(api: Api, connect: Connect, space: str) -> None:
    await grant(api, "view", as_user("vera"), space)
    vera = await connect("vera")
    namespaced = {key: verbs for key, verbs in VIEW.items() if key in SELF or _is_namespaced(key)}
    assert not compare(await walk(vera, attempts(space)), "vera", namespaced)


def _is_namespaced(key: tuple[str, str]) -> bool:
    return any(row.group == key[0] and row.plural == key[1].partition("/")[0] and row.namespaced for row in BUILTIN)


async def test_view_of_the_cluster(api: Api, connect: Connect, space: str) -> None:
    await grant(api, "view", as_user("victor"))
    victor = await connect("victor")
    assert not compare(await walk(victor, attempts(space)), "victor", VIEW)


async def test_view_ends_at_its_namespace(api: Api, connect: Connect, space: str) -> None:
    await grant(api, "view", as_user("wanda"), space)
    wanda = await connect("wanda")
    assert not compare(await walk(wanda, attempts("default")), "wanda", SELF)
    assert (await wanda.get(f"/api/v1/namespaces/{space}")).status == 200
    assert (await wanda.get("/api/v1/namespaces/default")).status == 403
    assert (await wanda.get("/api/v1/pods")).status == 403


async def test_another_namespaces_account(api: Api, connect: Connect, space: str) -> None:
    user = f"system:serviceaccount:{space}:default"
    account = await connect(token=await token_of(api, space))
    assert not compare(await walk(account, attempts("default")), user, SELF)
    # Not even at home, and not for its owner's namespace: a new account holds nothing.
    assert not compare(await walk(account, attempts(space)), user, SELF)


async def test_a_node_among_strangers(api: Api, connect: Connect, space: str) -> None:
    stranger = await connect("system:node:stranger", ["system:nodes"])
    body = {"metadata": {"name": "x"}, "spec": {"nodeName": "elsewhere", "containers": [{"name": "c", "image": "i"}]}}
    assert (await api.post(f"/api/v1/namespaces/{space}/pods", body)).status == 201
    for plural in ("secrets", "configmaps", "persistentvolumeclaims"):
        body = {"metadata": {"name": "x"}}
        if plural == "persistentvolumeclaims":
            request = {"requests": {"storage": "1Gi"}}
            body["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": request}  # type: ignore[assignment]
        made = await api.post(f"/api/v1/namespaces/{space}/{plural}", body)
        assert made.status == 201, made.raw
    expected = {key: set(verbs) for key, verbs in STRANGE_NODE.items()}
    wrong = compare(await walk(stranger, attempts(space)), "system:node:stranger", expected)
    assert not wrong


async def test_users_that_only_look_like_nodes(connect: Connect, space: str) -> None:
    for user, groups in (("system:node:n", []), ("nora", ["system:nodes"]), ("system:node:", ["system:nodes"])):
        client = await connect(user, groups)
        wrong = compare(await walk(client, attempts(space)), user, SELF)
        # Whoever is in the group may ask for the renewal of a node's certificate; nothing more follows from it.
        assert not wrong, user


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "SECRETS"])
async def test_unusual_methods(anonymous: Api, method: str) -> None:
    for path in ("/api/v1/secrets", "/api/v1/namespaces/default/secrets/x", "/metrics"):
        answer = await anonymous.call(method, path)
        assert answer.status in (400, 403, 405), (method, path)


PUBLIC = ("/healthz", "/livez", "/readyz", "/version", "/version/")
DISCOVERED = (
    "/api",
    "/api/v1",
    "/apis",
    "/apis/apps",
    "/apis/apps/v1",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/api/v1",
)
GUARDED = (
    "/",
    "/metrics",
    "/metrics/slis",
    "/logs",
    "/logs/x",
    "/debug/pprof/",
    "/configz",
    "/flagz",
    "/statusz",
    "/healthz/etcd",
    "/livez/etcd",
    "/readyz/etcd",
    "/readyz/informer-sync",
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
    "/nothing/here",
)


def _discovery_paths() -> set[str]:
    versions = {(row.group, row.version) for row in BUILTIN}
    return {f"/apis/{group}/{version}" for group, version in versions if group} | {
        f"/openapi/v3/apis/{group}/{version}" for group, version in versions if group
    }


async def test_paths_that_are_no_resource(anonymous: Api, connect: Connect, api: Api, space: str) -> None:
    for path in PUBLIC:
        assert (await anonymous.get(path)).status == 200, path
    for path in (*DISCOVERED, *_discovery_paths(), *GUARDED):
        answer = await anonymous.get(path)
        assert answer.failure[:2] == (403, "Forbidden"), path
        assert answer.failure[2].startswith('forbidden: User "system:anonymous" cannot get path "')
    named = await connect("nadia")
    for path in (*PUBLIC, *DISCOVERED, *_discovery_paths()):
        assert (await named.get(path)).status == 200, path
    for path in GUARDED:
        assert (await named.get(path)).status == 403, path
    account = await connect(token=await token_of(api, space))
    for path in ("/.well-known/openid-configuration", "/openid/v1/jwks"):
        assert (await account.get(path)).status == 200, path
    watcher = await connect("mona", ["system:monitoring"])
    for path in ("/metrics", "/healthz/etcd", "/livez/etcd", "/readyz/etcd", "/statusz", "/flagz"):
        assert (await watcher.get(path)).status == 200, path


TRICKS = (
    "//api/v1/secrets",
    "/api//v1/secrets",
    "/api/v1//secrets",
    "/healthz/../api/v1/secrets",
    "/healthz/%2e%2e/api/v1/secrets",
    "/healthz%2f..%2fapi/v1/secrets",
    "/version/../api/v1/namespaces/default/secrets",
    "/API/v1/secrets",
    "/api/V1/secrets",
    "/api/v1/SECRETS",
    "/api/v1/secrets/",
    "/api/v1/secrets%00",
    "/api/v1/secrets%2f",
    "/api/v1/secrets%20",
    "/api/v1/./secrets",
    "/api/v1/watch/secrets",
    "/api/v1/watch/namespaces/default/secrets",
    "/api/v1/namespaces/default/secrets/..%2f..%2f..%2fhealthz",
    "/api/v1/namespaces/%2e%2e/secrets",
    "/api/v1/namespaces/./secrets",
    "/api/v1/namespaces/default/../kube-system/secrets",
    "/api/v1/namespaces/default%2f..%2fkube-system/secrets",
    "/healthz?x=/api",
    "/healthz;/api/v1/secrets",
    "/healthz%3b/api/v1/secrets",
    "/\\api\\v1\\secrets",
)


async def test_tricks_with_paths(anonymous: Api, api: Api) -> None:
    """Whatever the path looks like, a secret never comes out."""
    secret = {"metadata": {"name": "treasure"}, "stringData": {"key": "open-sesame"}}
    assert (await api.post("/api/v1/namespaces/default/secrets", secret)).status in (201, 409)
    for path in TRICKS:
        status, body = await raw_get(anonymous, path)
        assert b"sesame" not in body, path
        assert status in (400, 403, 404) or (status == 200 and body.endswith(b"\r\n\r\nok")), (path, status)


async def test_names_that_are_no_names(api: Api, space: str) -> None:
    for name in ("%2e", "%2e%2e", ".", "..", "a%2fb", "a%25b", "a%00b", "%ff", "a%0d%0aX-Evil:1"):
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            status, body = await raw_get(api, f"/api/v1/namespaces/{space}/configmaps/{name}", method)
            assert 400 <= status < 500, (method, name, status)
            assert b"\r\nX-Evil" not in body
    for name in (".", "..", "a/b", "a%b", "a\x00b", "", "x" * 254):
        answer = await api.post(f"/api/v1/namespaces/{space}/configmaps", {"metadata": {"name": name}})
        assert answer.failure[0] == 422, name
    for name in (".", "..", "a/b", "a%b", ""):
        answer = await api.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": name}})
        assert answer.failure[0] == 422, name


async def raw_get(api: Api, path: str, method: str = "GET") -> tuple[int, bytes]:
    """A request whose path no library has tidied up."""
    host, port = api.url.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=api.tls)
    body = "{}" if method in ("PUT", "PATCH") else ""
    media = "application/merge-patch+json" if method == "PATCH" else "application/json"
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n{body}".encode("latin-1"))
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
    finally:
        writer.close()
    return int(answer.split(maxsplit=2)[1]), answer
