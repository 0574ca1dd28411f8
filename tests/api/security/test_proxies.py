"""Proxies lead to pods and nodes, never to what only the server's own host can reach."""

from __future__ import annotations

import pytest

from tests.api.server.api import Api

MAPPED = "::ffff:127.0.0.1"
LOCAL = ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", MAPPED, "0.0.0.0"]


@pytest.mark.parametrize("address", [address for address in LOCAL if address != MAPPED])
async def test_a_pod_whose_status_says_it_is_here(api: Api, space: str, address: str) -> None:
    path = f"/api/v1/namespaces/{space}/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    assert (await api.post(path, pod)).status == 201
    status = {"status": {"podIP": address, "podIPs": [{"ip": address}]}}
    assert (await api.patch(f"{path}/p/status", status)).status == 200
    assert (await api.get(f"{path}/p:2379/proxy/")).failure == (400, "BadRequest", "address not allowed")


async def test_a_pod_has_no_mapped_address(api: Api, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    assert (await api.post(path, pod)).status == 201
    refused = await api.patch(f"{path}/p/status", {"status": {"podIP": MAPPED, "podIPs": [{"ip": MAPPED}]}})
    assert refused.failure[:2] == (422, "Invalid")


async def test_a_node_whose_status_says_it_is_here(api: Api, space: str) -> None:
    assert (await api.post("/api/v1/nodes", {"metadata": {"name": f"n-{space}"}})).status == 201
    for address in LOCAL:
        status = {"status": {"addresses": [{"type": "InternalIP", "address": address}]}}
        assert (await api.patch(f"/api/v1/nodes/n-{space}/status", status)).status == 200
        answer = await api.get(f"/api/v1/nodes/http:n-{space}:2379/proxy/")
        assert answer.failure == (400, "BadRequest", "address not allowed")


@pytest.mark.parametrize("port", ["0", "65536", "9" * 5000, "²", "-1", "x"])
async def test_ports_that_are_none(api: Api, space: str, port: str) -> None:
    path = f"/api/v1/namespaces/{space}/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await api.post(path, pod)
    await api.patch(f"{path}/p/status", {"status": {"podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}]}})
    assert (await api.get(f"{path}/p:{port}/proxy/")).status == 400
