"""What a load balancer hears about a host's endpoints."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp

from agents.proxy.health import RETRY_SECONDS, Health, HealthPorts, health_of
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from tests.support.patience import PATIENCE


def service(**spec: Any) -> Obj:
    given = {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "clusterIP": "10.96.0.9",
        "healthCheckNodePort": 32000,
        **spec,
    }
    return {"metadata": {"name": "web", "namespace": "ns"}, "spec": given}


def endpoint(ip: str, node: str, ready: bool = True) -> Obj:
    return {"addresses": [ip], "nodeName": node, "conditions": {"ready": ready}}


def test_ready_endpoints_of_this_host_count_once() -> None:
    slices = [
        {"endpoints": [endpoint("10.0.0.1", "me"), endpoint("10.0.0.2", "me", ready=False)]},
        {"endpoints": [endpoint("10.0.0.1", "me"), endpoint("10.0.0.3", "other"), endpoint("10.0.0.4", "me")]},
    ]
    assert health_of(service(), slices, "me") == Health(32000, 2)
    assert health_of(service(), [], "me") == Health(32000, 0)
    assert health_of(service(type="NodePort"), slices, "me") is None
    assert health_of(service(externalTrafficPolicy="Cluster"), slices, "me") is None
    assert health_of(None, slices, "me") is None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def test_the_port_answers_as_long_as_the_service_has_it() -> None:
    ports, number = HealthPorts("127.0.0.1"), free_port()
    url = f"http://127.0.0.1:{number}/healthz"
    async with aiohttp.ClientSession() as session:
        await ports.update({"ns/web": Health(number, 2)})
        async with session.get(url) as answer:
            assert answer.status == 200
            assert answer.headers["X-Load-Balancing-Endpoint-Weight"] == "2"
            told = {"service": {"namespace": "ns", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": True}
            assert await answer.json() == told
        await ports.update({"ns/web": Health(number, 0)})
        async with session.get(url) as answer:
            assert answer.status == 503
        await ports.update({"ns/web": None})
        try:
            async with session.get(url):
                raise AssertionError("the port still answers")
        except aiohttp.ClientConnectionError:
            pass


async def told(port: int) -> str:
    """Which Service answers at a port; "" when none does."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"http://127.0.0.1:{port}/") as answer:
                return str((await answer.json())["service"]["name"])
        except aiohttp.ClientConnectionError:
            return ""


async def test_ports_may_be_swapped_and_go_to_a_service_that_comes() -> None:
    one, other, third = free_port(), free_port(), free_port()
    ports = HealthPorts("127.0.0.1", VirtualClock())
    await ports.update({"ns/a": Health(one, 1), "ns/b": Health(other, 1)})
    await ports.update({"ns/a": Health(other, 1), "ns/b": Health(one, 1)})
    assert (await told(one), await told(other)) == ("b", "a")
    await ports.update({"ns/c": Health(one, 1), "ns/b": None, "ns/a": Health(third, 1)})
    assert (await told(one), await told(other), await told(third)) == ("c", "", "a")
    await ports.close()


async def test_a_port_that_is_taken_is_served_when_it_is_free() -> None:
    clock = VirtualClock()
    ports = HealthPorts("127.0.0.1", clock)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = int(other.getsockname()[1])
        await ports.update({"ns/web": Health(number, 1)})
        await clock.advance(RETRY_SECONDS)
    await clock.advance(RETRY_SECONDS)
    async with asyncio.timeout(PATIENCE):
        while await told(number) != "web":
            await clock.advance(RETRY_SECONDS)
    await ports.close()


async def test_a_port_that_stays_taken_does_no_harm() -> None:
    ports = HealthPorts("127.0.0.1", VirtualClock())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = int(other.getsockname()[1])
        await ports.update({"ns/web": Health(number, 1)})
        await ports.update({"ns/web": None})
    await ports.close()
