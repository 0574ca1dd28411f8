"""What is wrong is refused with the error Kubernetes gives, and nothing is left half-done."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support.kubectl import Kubectl
from tests.support.patience import PATIENCE


def deployment(**spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "nginx:1"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def causes(answer: Any) -> list[tuple[str, str]]:
    return [(cause["reason"], cause["field"]) for cause in answer.json["details"]["causes"]]


async def test_malformed_json(api: Api, space: str) -> None:
    answer = await api.post(f"/api/v1/namespaces/{space}/configmaps", b'{"kind": "ConfigMap", ')
    assert answer.failure[:2] == (400, "BadRequest")
    assert "couldn't get version/kind; json parse error" in answer.failure[2]
    for nonsense in (b"[]", b"7", b'"text"', b"null", b"", b"\xff\xfe"):
        answer = await api.post(f"/api/v1/namespaces/{space}/configmaps", nonsense)
        assert answer.failure[:2] == (400, "BadRequest"), nonsense


async def test_malformed_yaml(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    answer = await api.call("POST", path, b"metadata:\n  name: [unclosed\n", media="application/yaml")
    assert answer.failure[:2] == (400, "BadRequest")
    assert "error converting YAML to JSON: yaml: line" in answer.failure[2]
    # an alias bomb is refused, not expanded
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for previous, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{','.join(['*' + previous] * 10)}]\n"
    answer = await api.call("POST", path, bomb.encode(), media="application/yaml")
    assert answer.failure[0] == 400
    good = await api.call("POST", path, b"metadata:\n  name: fine\ndata: {a: '1'}\n", media="application/yaml")
    assert good.status == 201, good.raw


async def test_deep_nesting_is_refused(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    deep = b'{"metadata":' * 5000 + b"1" + b"}" * 5000
    assert (await api.post(path, deep)).failure[0] == 400
    answer = await api.call("POST", path, b"[" * 20000, media="application/yaml")
    assert answer.failure[0] == 400


async def test_unknown_and_duplicate_fields(api: Api, space: str) -> None:
    path = f"/apis/apps/v1/namespaces/{space}/deployments"
    answer = await api.post(f"{path}?fieldValidation=Strict", deployment(replikas=3))
    assert answer.failure == (
        400,
        "BadRequest",
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: '
        'unknown field "spec.replikas"',
    )
    twice = b'{"metadata":{"name":"twice"},"data":{"a":"1","a":"2"}}'
    maps = f"/api/v1/namespaces/{space}/configmaps"
    answer = await api.post(f"{maps}?fieldValidation=Strict", twice)
    assert 'duplicate field "data.a"' in answer.failure[2]
    answer = await api.post(f"{maps}?fieldValidation=Warn", twice)
    assert answer.status == 201
    assert 'duplicate field \\"data.a\\"' in answer.headers["Warning"]
    answer = await api.post(f"{path}?fieldValidation=Ignore", deployment(replikas=3))
    assert answer.status == 201
    assert "Warning" not in answer.headers
    assert "replikas" not in answer.json["spec"]
    answer = await api.post(f"{path}?fieldValidation=Sometimes", deployment())
    assert answer.failure[:2] == (422, "Invalid")


async def test_wrong_types(api: Api, space: str) -> None:
    path = f"/apis/apps/v1/namespaces/{space}/deployments"
    answer = await api.post(path, deployment(replicas="many"))
    assert answer.failure == (
        400,
        "BadRequest",
        'Deployment in version "v1" cannot be handled as a Deployment: '
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    )
    answer = await api.post(path, {**deployment(), "metadata": {"name": "web", "labels": {"a": 1}}})
    assert answer.failure[0] == 400
    answer = await api.post(path, {**deployment(), "kind": "Pod"})
    assert answer.failure[0] == 400
    answer = await api.post(path, {**deployment(), "apiVersion": "v1"})
    assert answer.failure[2] == ("the API version in the data (v1) does not match the expected API version (apps/v1)")


async def test_names_labels_and_required_fields(api: Api, space: str) -> None:
    maps = f"/api/v1/namespaces/{space}/configmaps"
    answer = await api.post(maps, {"metadata": {"name": "Not_A_Name"}})
    assert answer.failure[:2] == (422, "Invalid")
    assert answer.failure[2].startswith('ConfigMap "Not_A_Name" is invalid: metadata.name: Invalid value: "Not_A_Name"')
    assert causes(answer) == [("FieldValueInvalid", "metadata.name")]
    answer = await api.post(maps, {"metadata": {"name": "a", "labels": {"bad key!": "x", "ok": "bad value!"}}})
    assert [field for _, field in causes(answer)] == ["metadata.labels", "metadata.labels"]
    answer = await api.post(maps, {"metadata": {}})
    assert ("FieldValueRequired", "metadata.name") in causes(answer)
    answer = await api.post(
        f"/api/v1/namespaces/{space}/pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    )
    assert ("FieldValueRequired", "spec.containers[0].image") in causes(answer)
    answer = await api.post(
        f"/apis/apps/v1/namespaces/{space}/deployments", deployment(selector={"matchLabels": {"app": "other"}})
    )
    assert causes(answer) == [("FieldValueInvalid", "spec.template.metadata.labels")]
    answer = await api.post(maps, {"metadata": {"name": "a", "namespace": "elsewhere"}})
    assert answer.failure == (
        400,
        "BadRequest",
        "the namespace of the provided object does not match the namespace sent on the request",
    )
    answer = await api.post(maps, {"metadata": {"name": "a", "resourceVersion": "5"}})
    assert answer.failure[0] == 400


async def test_missing_namespace(api: Api) -> None:
    answer = await api.post("/api/v1/namespaces/nowhere/configmaps", {"metadata": {"name": "a"}})
    assert answer.failure == (404, "NotFound", 'namespaces "nowhere" not found')
    assert answer.json["details"] == {"name": "nowhere", "kind": "namespaces"}


async def test_taken_node_port_and_address(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/services"

    def service(name: str, **spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}], **spec}}

    first = await api.post(path, service("first"))
    port, address = first.json["spec"]["ports"][0]["nodePort"], first.json["spec"]["clusterIP"]
    taken = await api.post(path, service("second", ports=[{"port": 80, "nodePort": port}]))
    assert taken.failure == (
        422,
        "Invalid",
        f'Service "second" is invalid: spec.ports[0].nodePort: Invalid value: {port}: '
        "provided port is already allocated",
    )
    outside = await api.post(path, service("second", ports=[{"port": 80, "nodePort": 80}]))
    assert "provided port is not in the valid range" in outside.failure[2]
    taken = await api.post(path, service("second", clusterIP=address))
    assert taken.failure[:2] == (422, "Invalid")
    assert "provided IP is already allocated" in taken.failure[2]
    assert (await api.get(f"{path}/second")).status == 404
    await api.delete(f"{path}/first")
    assert (await api.post(path, service("second", clusterIP=address))).status == 201


async def test_big_body(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    big = b'{"metadata":{"name":"big"},"data":{"a":"' + b"x" * 10_000_000 + b'"}}'
    answer = await api.post(path, big)
    assert answer.failure == (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")
    # what etcd refuses is a clean error as well
    answer = await api.post(path, b'{"metadata":{"name":"big"},"data":{"a":"' + b"x" * 2_500_000 + b'"}}')
    assert answer.status in (413, 422), answer.raw[:300]
    assert (await api.get(f"{path}/big")).status == 404


async def test_media_types(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/configmaps"
    answer = await api.call("POST", path, b"k8s\x00", media="application/vnd.kubernetes.protobuf")
    assert answer.failure[0] == 400
    answer = await api.call("POST", path, b"{}", media="text/plain")
    assert answer.failure[:2] == (415, "UnsupportedMediaType")
    answer = await api.get(path, Accept="application/vnd.kubernetes.protobuf")
    assert answer.failure[:2] == (406, "NotAcceptable")
    answer = await api.get(path, Accept="application/vnd.kubernetes.protobuf,application/json")
    assert answer.status == 200


async def test_paths_and_methods_nobody_serves(api: Api, space: str) -> None:
    assert (await api.get("/nothing/here")).failure[:2] == (404, "NotFound")
    assert (await api.get("/api/v1/nothings")).failure[:2] == (404, "NotFound")
    assert (await api.get(f"/api/v1/namespaces/{space}/pods/p/nothing")).failure[:2] == (404, "NotFound")
    assert (await api.put("/api/v1/namespaces", {})).failure[:2] == (405, "MethodNotAllowed")
    assert (await api.get("/api/v1/pods?labelSelector=a%3D%3D%3Db")).failure[:2] == (400, "BadRequest")
    assert (await api.get("/api/v1/pods?fieldSelector=spec.color%3Dred")).failure[:2] == (400, "BadRequest")
    assert (await api.get("/api/v1/pods?limit=many")).failure[0] == 400
    assert (await api.get("/api/v1/pods?resourceVersion=abc")).failure[0] == 400
    assert (await api.get("/api/v1/pods?continue=abc")).failure[0] == 400


async def test_anonymous_sees_nothing(anonymous: Api, space: str) -> None:
    answer = await anonymous.get(f"/api/v1/namespaces/{space}/pods")
    assert answer.failure == (
        403,
        "Forbidden",
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" '
        f'in the namespace "{space}"',
    )
    assert (await anonymous.get("/metrics")).failure[:2] == (403, "Forbidden")
    assert (await anonymous.get("/version")).status == 200
    assert (await anonymous.get("/livez")).raw == b"ok"


async def test_tampered_token_is_unauthorized(server: ServerProcess) -> None:
    for token in ("nonsense", "a.b.c", "x" * 4000):
        async with Api(server.kubeconfig, token=token) as one:
            assert (await one.get("/api/v1/pods")).failure[:2] == (401, "Unauthorized")


async def _raw(server: ServerProcess, sent: bytes, seconds: float) -> bytes:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(4096), seconds)
    finally:
        writer.close()


async def test_garbage_on_the_wire(server: ServerProcess, api: Api) -> None:
    assert b" 400 " in await _raw(server, b"BREW /coffee HTCPCP/1.0\r\n\r\n", PATIENCE)
    for method in (b"BREW", b"GETX", b"get", b"X-9!"):
        assert b" 405 " in await _raw(server, method + b" /api/v1/pods HTTP/1.1\r\nHost: x\r\n\r\n", PATIENCE)
    assert b" 400 " in await _raw(server, b"B(EW /api/v1/pods HTTP/1.1\r\nHost: x\r\n\r\n", PATIENCE)
    assert (await _raw(server, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n", PATIENCE)).startswith(b"HTTP/1.")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")  # plain text on a TLS port
    await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    assert (await api.get("/readyz")).raw == b"ok"


@pytest.mark.slow
async def test_a_half_sent_body_times_out(server: ServerProcess, api: Api) -> None:
    head = b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    assert await _raw(server, head, 60) != b""


def test_a_taken_port_is_told(server: ServerProcess, tmp_path: Path) -> None:
    second = ServerProcess(tmp_path, port=server.port)
    done = subprocess.run(second.command(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert f"{server.port} is taken by another program; choose another --secure-port" in done.stderr
    assert "Traceback" not in done.stderr


def test_kubectl_shows_the_errors(kubectl: Kubectl) -> None:
    manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: Bad_Name}\nspec: {containers: [{name: c, image: i}]}\n"
    done = kubectl.try_("create", "-f", "-", stdin=manifest)
    assert done.code == 1
    assert 'The Pod "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name"' in done.err
    done = kubectl.try_("get", "pod", "nothing")
    assert done.err.strip() == 'Error from server (NotFound): pods "nothing" not found'
    done = kubectl.try_("create", "-f", "-", "-n", "nowhere", stdin=manifest.replace("Bad_Name", "good"))
    assert 'namespaces "nowhere" not found' in done.err
    done = kubectl.try_("apply", "-f", "-", stdin=manifest.replace("image: i", "image: i, bogus: 1"))
    assert done.code == 1
    assert "bogus" in done.err
