"""The short way of a GET tells nothing else than the long one, and lets in nobody else.

An ``Audit-ID`` of the client's takes the long way, as does the first request for a path.
"""

from __future__ import annotations

import asyncio
import re

import orjson
import pytest

from tests.api.security.raw import connection, statuses
from tests.api.server.api import Answer, Api
from tests.api.server.definitions import CRDS, crontab, defined
from tests.api.server.process import ServerProcess
from tests.support.patience import PATIENCE

_COUNT = re.compile(
    r'apiserver_request_total\{[^}]*code="200"[^}]*resource="configmaps"[^}]*scope="resource"'
    r'[^}]*verb="GET"[^}]*\} (\S+)'
)


@pytest.fixture
async def path(api: Api, space: str) -> str:
    made = f"/api/v1/namespaces/{space}/configmaps"
    assert (await api.post(made, {"metadata": {"name": "one"}, "data": {"a": "1"}})).status == 201
    assert (await api.get(f"{made}/one")).status == 200
    return f"{made}/one"


def went_short(answer: Answer) -> bool:
    """Only the short way names the request last, after what is the same for all."""
    names = [*answer.headers]
    return names.index("Audit-Id") > names.index("Cache-Control")


async def test_both_ways_answer_alike(api: Api, path: str) -> None:
    long = await api.get(path, **{"Audit-ID": "mine"})
    assert not went_short(long)
    for _ in range(50):  # a server that is busy sends some the long way
        short = await api.get(path)
        if went_short(short):
            break
    assert went_short(short)
    assert (short.status, short.raw) == (long.status, long.raw) == (200, short.raw)
    assert set(short.headers) == set(long.headers)
    differing = {name for name in long.headers if short.headers[name] != long.headers[name]}
    assert differing <= {"Audit-Id", "Date"}


async def test_other_forms_take_the_long_way(api: Api, path: str) -> None:
    table = await api.get(path, Accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    assert table.json["kind"] == "Table"
    assert (await api.get(path, Accept="application/yaml")).headers["Content-Type"] == "application/yaml"
    assert b"\n  " in (await api.get(path, User_Agent="curl/8.0")).raw
    assert (await api.get(path, Accept="text/plain")).status == 406


async def test_every_read_shows_the_last_write(api: Api, path: str) -> None:
    for number in range(50):
        await api.patch(path, {"data": {"a": str(number)}})
        assert (await api.get(path)).json["data"] == {"a": str(number)}
    await api.delete(path)
    assert (await api.get(path)).status == 404


async def test_what_others_may_not_see_is_refused(api: Api, anonymous: Api, path: str, space: str) -> None:
    for _ in range(2):
        assert (await api.get(path)).status == 200
        assert (await anonymous.get(path)).status == 403
        assert (await api.get(path, **{"Impersonate-User": "somebody"})).status == 403
        assert (await api.get(path, Authorization="Bearer nonsense")).status == 200  # the certificate counts
        assert (await anonymous.get(path, Authorization="Bearer nonsense")).status == 401
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    group = "/apis/rbac.authorization.k8s.io/v1/namespaces"
    await api.post(f"{group}/{space}/roles", {"metadata": {"name": "seer"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "seer"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:anonymous"}
    binding = {"metadata": {"name": "seer"}, "roleRef": role, "subjects": [subject]}
    assert (await api.post(f"{group}/{space}/rolebindings", binding)).status == 201
    assert (await anonymous.get(path)).status == 200
    await api.delete(f"{group}/{space}/rolebindings/seer")
    assert (await anonymous.get(path)).status == 403


async def test_a_version_that_is_served_no_more_is_gone_for_whoever_asked_before(api: Api, space: str) -> None:
    definition = crontab("short.example.com")
    versions = definition["spec"]["versions"]
    versions.append({**versions[0], "name": "v2", "storage": False})
    async with defined(api, definition):
        many = f"/apis/short.example.com/v1/namespaces/{space}/crontabs"
        body = {"apiVersion": "short.example.com/v1", "kind": "CronTab", "metadata": {"name": "one"}}
        assert (await api.post(many, {**body, "spec": {"cronSpec": "* * * * *", "image": "x"}})).status == 201
        path = f"{many.replace('/v1/', '/v2/')}/one"
        for _ in range(50):
            answer = await api.get(path)
            if went_short(answer):
                break
        assert went_short(answer)
        assert answer.json["apiVersion"] == "short.example.com/v2"
        changed = [versions[0], {**versions[1], "served": False}]
        put = await api.patch(f"{CRDS}/crontabs.short.example.com", {"spec": {"versions": changed}})
        assert put.status == 200, put.raw
        async with asyncio.timeout(PATIENCE):
            while (await api.get(path)).status != 404:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)


async def test_all_are_counted_once(api: Api, path: str) -> None:
    async def counted() -> float:
        found = _COUNT.search((await api.get("/metrics")).raw.decode())
        assert found is not None
        return float(found[1])

    before = await counted()
    for number in range(10):
        await api.get(path, **({"Audit-ID": "mine"} if number % 2 else {}))
    assert await counted() - before == 10


async def test_the_tokens_of_accounts_are_counted_once_on_both_ways(
    api: Api, anonymous: Api, path: str, space: str
) -> None:
    async def counted() -> float:
        found = re.search(r"^serviceaccount_legacy_tokens_total (\S+)", (await api.get("/metrics")).raw.decode(), re.M)
        assert found is not None
        return float(found[1])

    root, group = f"/api/v1/namespaces/{space}", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space}"
    marked = {"name": "kept", "annotations": {"kubernetes.io/service-account.name": "default"}}
    kind = "kubernetes.io/service-account-token"
    assert (await api.post(f"{root}/secrets", {"metadata": marked, "type": kind})).status == 201
    wanted = {"spec": {"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "kept"}}}
    made = await api.post(f"{root}/serviceaccounts/default/token", wanted)
    token = {"Authorization": f"Bearer {made.json['status']['token']}"}
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    await api.post(f"{group}/roles", {"metadata": {"name": "seer"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "seer"}
    subject = {"kind": "ServiceAccount", "namespace": space, "name": "default"}
    binding = {"metadata": {"name": "seer"}, "roleRef": role, "subjects": [subject]}
    assert (await api.post(f"{group}/rolebindings", binding)).status == 201
    before = await counted()
    answers = [await anonymous.get(path, **token, **({"Audit-ID": "mine"} if n % 2 else {})) for n in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert len({went_short(answer) for answer in answers}) == 2
    assert await counted() - before == 20
    assert (await anonymous.get(f"{root}/secrets/kept", **token)).status == 403  # not for the short way to refuse
    assert await counted() - before == 21


async def test_requests_in_one_piece_and_in_many(api: Api, path: str, server: ServerProcess) -> None:
    one = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    last = one[:-2] + b"Connection: close\r\n\r\n"
    async with connection(server.port, api.tls) as (reader, writer):
        writer.write(one + one + one[:20])
        await asyncio.sleep(0.05)
        writer.write(one[20:30])
        await asyncio.sleep(0.05)
        writer.write(one[30:])
        await asyncio.sleep(0.05)
        writer.write(one)
        await asyncio.sleep(0.05)
        writer.write(one + last)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
    assert statuses(answer) == [200] * 6
    assert [orjson.loads(body)["metadata"]["name"] for body in _bodies(answer)] == ["one"] * 6


async def test_an_old_client_is_hung_up_on(api: Api, path: str, server: ServerProcess) -> None:
    async with connection(server.port, api.tls) as (reader, writer):
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            assert statuses(await reader.read()) == [200]


def _bodies(answer: bytes) -> list[bytes]:
    found = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        size = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
        found.append(rest[:size])
        answer = rest[size:]
    return found
