"""Addresses of the host that come and go while the kernel cannot be written: node ports are on them in the end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from agents.proxy.backend import BackendError, HostView
from agents.proxy.ipvs import ipset
from agents.proxy.ipvs.backend import IpvsBackend
from agents.proxy.model import Endpoint, ServicePort

WEB = ServicePort(
    service="default/web", port_name="", protocol="TCP", port=80, cluster_ip="10.96.0.50", node_port=30080,
    cluster=(Endpoint("10.244.1.2", 8080),), anywhere=True,
)  # fmt: skip


class Addresses:
    def __init__(self) -> None:
        self.here = {"192.0.2.1"}
        self.broken = False

    def all(self) -> dict[str, set[str]]:
        if self.broken:
            raise OSError("no buffer space")
        return {"eth0": self.here}


@pytest.fixture
def addresses() -> Addresses:
    return Addresses()


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, addresses: Addresses) -> IpvsBackend:
    monkeypatch.setattr(ipset, "program", lambda: "ipset")
    made = IpvsBackend(cast(Any, SimpleNamespace(ipv6=None, foreign_changes=lambda: 0)), HostView())
    monkeypatch.setattr(made, "_kernel_addresses", lambda: addresses)

    async def nothing(*_: object) -> int:
        return 0

    monkeypatch.setattr(made, "_compare", nothing)
    monkeypatch.setattr(made, "_change", nothing)
    made._events = cast(Any, object())
    return made


def served_at(backend: IpvsBackend) -> set[str]:
    return {key.address for key in backend._wanted.virtuals if key.port == 30080}


async def test_an_address_that_comes_while_nothing_is_known_is_served(
    backend: IpvsBackend, addresses: Addresses
) -> None:
    await backend.update({"default/web": (WEB,)})
    assert served_at(backend) == {"192.0.2.1"}
    addresses.here = {"192.0.2.1", "192.0.2.2"}
    backend._known = False
    await backend.update({})
    assert served_at(backend) == {"192.0.2.1", "192.0.2.2"}
    addresses.here, backend._stirred, backend._known = {"192.0.2.2"}, True, False
    await backend.heal()
    assert served_at(backend) == {"192.0.2.2"}


async def test_a_look_that_fails_is_made_again(backend: IpvsBackend, addresses: Addresses) -> None:
    await backend.update({"default/web": (WEB,)})
    addresses.here, addresses.broken, backend._stirred = {"192.0.2.2"}, True, True
    with pytest.raises(BackendError):
        await backend.heal()
    with pytest.raises(BackendError):
        await backend.set_host(HostView(node_ips=("192.0.2.2",)))
    addresses.broken = False
    await backend.update({})
    assert served_at(backend) == {"192.0.2.2"}
