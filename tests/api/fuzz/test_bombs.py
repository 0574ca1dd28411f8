"""Small requests that would be large work: refused, quickly, and without memory that stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.fuzz.conftest import TOKEN
from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support.beside import are_served_beside
from tests.support.patience import PATIENCE

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def api(server: ServerProcess) -> AsyncIterator[Api]:
    async with Api(server.kubeconfig, token=TOKEN) as one:
        await one.post(MAPS, {"metadata": {"name": "target"}, "data": {"a": "1"}})
        yield one


def nested(depth: int, opening: str, closing: str, core: str = "1") -> bytes:
    return (opening * depth + core + closing * depth).encode()


def aliases(levels: int) -> bytes:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines).encode()


def merges(levels: int) -> bytes:
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, levels)]
    return "\n".join(lines).encode()


_DOUBLING = [{"op": "add", "path": "/data/b", "value": "x" * 1000}]
_DOUBLING += [{"op": "copy", "from": "/data", "path": f"/data/c{n}"} for n in range(40)]
BODIES: dict[str, tuple[str, bytes]] = {
    "objects in objects": ("application/json", nested(100_000, '{"a":', "}")),
    "lists in lists": ("application/json", nested(100_000, "[", "]")),
    "just too deep": ("application/json", b'{"metadata":' + nested(300, '{"a":', "}") + b"}"),
    "never closed": ("application/json", b"[" * 1_000_000),
    "lists in yaml": ("application/yaml", nested(50_000, "[", "]")),
    "objects in yaml": ("application/yaml", nested(20_000, "{a: ", "}")),
    "steps in yaml": ("application/yaml", b"".join(b" " * n + b"a:\n" for n in range(1500))),
    "aliases": ("application/yaml", aliases(9)),
    "merges": ("application/yaml", merges(10)),
    "an alias of itself": ("application/yaml", b"a: &a\n  b: *a\n"),
    "a merge of itself": ("application/yaml", b"a: &a\n  <<: *a\n"),
    "yaml of other types": ("application/yaml", b"a: !!python/object/apply:os.system ['true']\n"),
    "many documents": ("application/yaml", b"---\na: 1\n" * 1000),
    "many keys": ("application/json", json.dumps({f"k{n}": 1 for n in range(100_000)}).encode()),
    "the same key": ("application/json", b'{"a":1' + b',"a":1' * 200_000 + b"}"),
    "a long number": ("application/json", b'{"metadata":{"generation":' + b"9" * 1_000_000 + b"}}"),
    "a long text": ("application/json", b'{"kind":"' + b"x" * 2_000_000 + b'"}'),
    "escapes": ("application/json", b'{"kind":"' + rb"\u00e9" * 300_000 + b'"}'),
}


@pytest.mark.parametrize(("media", "body"), BODIES.values(), ids=BODIES)
async def test_bodies(healthy: ServerProcess, api: Api, media: str, body: bytes) -> None:
    before = healthy.memory()
    for method, path, kind in (
        ("POST", MAPS, media),
        ("PATCH", f"{MAPS}/target", "application/apply-patch+yaml"),
        ("PATCH", f"{MAPS}/target", "application/merge-patch+json"),
    ):
        query = "?fieldManager=x" if "apply" in kind else ""
        async with asyncio.timeout(PATIENCE):
            answer = await api.call(method, path + query, body, media=kind)
        assert 400 <= answer.status < 500 or (kind.startswith("application/merge") and answer.status == 200), (
            answer.raw[:300]
        )
    assert healthy.memory() - before < 128 << 20


@pytest.mark.parametrize("media", ["application/yaml", "application/apply-patch+yaml"])
async def test_others_are_served_while_long_yaml_is_read(healthy: ServerProcess, api: Api, media: str) -> None:
    lines = "".join(f"  k{number}: {{a: b, c: [d]}}\n" for number in range(40_000))
    body = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: target}}\ndata:\n{lines}".encode()
    path, method = (MAPS, "POST") if media == "application/yaml" else (f"{MAPS}/target?fieldManager=x", "PATCH")

    async def quick() -> None:
        assert (await api.get(f"{MAPS}/target")).status == 200

    async def long() -> None:
        assert 400 <= (await api.call(method, path, body, media=media)).status < 500

    assert await are_served_beside(quick, long)


async def test_patches_that_double(healthy: ServerProcess, api: Api) -> None:
    before = healthy.memory()
    async with asyncio.timeout(PATIENCE):
        answer = await api.patch(f"{MAPS}/target", _DOUBLING, kind="json")
    assert 400 <= answer.status < 500, answer.raw[:300]
    many = [{"op": "test", "path": "/data/a", "value": "1"}] * 10_001
    assert (await api.patch(f"{MAPS}/target", many, kind="json")).status in (413, 422)
    assert healthy.memory() - before < 64 << 20


WORK: dict[str, Any] = {
    "an enormous quantity": {"requests": {"cpu": "1e999999999"}},
    "a tiny quantity": {"requests": {"memory": "1e-999999999"}},
    "a long quantity": {"requests": {"memory": "9" * 100_000}},
    "a long fraction": {"requests": {"memory": "0." + "1" * 100_000}},
}


@pytest.mark.parametrize("resources", WORK.values(), ids=WORK)
async def test_quantities(healthy: ServerProcess, api: Api, resources: Any) -> None:
    pod = {"metadata": {"name": "q"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}}
    async with asyncio.timeout(PATIENCE):
        answer = await api.post("/api/v1/namespaces/default/pods?dryRun=All", pod)
    assert answer.status < 500


async def test_selectors(healthy: ServerProcess, api: Api) -> None:
    """As long as a request's line may be, and made to make a parser look twice."""
    for text in (
        "a=b," * 1900 + "a=b",
        "a+in+(" + "b," * 3000 + "b)",
        "!" * 7000,
        "(" * 7000,
        "a" * 7000,
        "a=b\\" * 1500,
        "," * 7000,
    ):
        for parameter in ("labelSelector", "fieldSelector"):
            async with asyncio.timeout(PATIENCE):
                answer = await api.get(f"{MAPS}?{parameter}={text}")
            assert answer.status < 500, text[:20]


async def test_numbers_with_thousands_of_digits(healthy: ServerProcess, api: Api) -> None:
    digits = "1" * 5000
    names = "limit resourceVersion timeoutSeconds gracePeriodSeconds tailLines sinceSeconds limitBytes ports"
    pod = "/api/v1/namespaces/default/pods/p"
    for parameter in names.split():
        for path in (MAPS, f"{MAPS}/target", f"{pod}/log", f"{pod}/portforward"):
            assert (await api.get(f"{path}?{parameter}={digits}")).status < 500, (parameter, path)
    delete = f"{MAPS}/none?gracePeriodSeconds={digits}"
    assert (await api.delete(delete)).status < 500


async def test_headers_that_are_no_text(healthy: ServerProcess, api: Api) -> None:
    for name in (
        "Impersonate-User",
        "Impersonate-Group",
        "User-Agent",
        "Audit-ID",
        "Accept",
        "Content-Type",
        "Authorization",
    ):
        extra = {"Impersonate_User": "x"} if name == "Impersonate-Group" else {}
        for value in ("\udcff\udcfe", "é", "\u202e", "x" * 7000):
            answer = await api.post(MAPS, {"metadata": {"name": "h"}}, **{name.replace("-", "_"): value}, **extra)
            assert answer.status < 500, (name, value[:10], answer.raw[:200])
