"""Ways to other hosts when the kernel cannot have all of them."""

from __future__ import annotations

import errno
import json
from typing import Any, cast

import pytest

from agents.network.peering import Peering, TunnelEnd
from agents.network.routes import (
    BACKEND_DATA,
    PUBLIC_IP,
    SEGMENTS,
    VNI,
    NodeRoute,
    RoutePlan,
    TunnelPeer,
    standing_of,
    tunnel_hardware,
)

END = TunnelEnd("192.0.2.1", "0e:00:00:00:00:01", ("10.244.0.0",), 1450)


def test_hosts_on_one_segment_need_no_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    peering = Peering(cast(Any, None))
    made: list[str] = []

    def no_tunnel(end: TunnelEnd) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    def neighbours(*_: object) -> None:
        raise AssertionError("there is no tunnel")

    monkeypatch.setattr("agents.network.peering.nl.index_of", lambda name: 0)
    monkeypatch.setattr(peering, "_ensure_tunnel", no_tunnel)
    monkeypatch.setattr(peering, "_remove_neighbours", neighbours)
    monkeypatch.setattr(peering, "_routes", lambda: {"10.244.9.0/24": ("192.0.2.9", 2)})
    monkeypatch.setattr(peering, "_interface", lambda address: 2)
    monkeypatch.setattr(peering, "_add_route", lambda route, index: made.append(route.cidr))
    monkeypatch.setattr(peering, "remove_route", lambda cidr: made.append(f"no {cidr}"))
    plan = RoutePlan(
        (
            NodeRoute("near", "10.244.1.0/24", "192.0.2.2"),
            NodeRoute("far", "10.244.2.0/24", "10.244.2.0", tunnel=True),
        ),
        (TunnelPeer("far", "0e:00:00:00:00:02", "198.51.100.2", ("10.244.2.0",)),),
    )
    problems = peering.set_ways(plan, END)
    assert made == ["10.244.1.0/24", "no 10.244.9.0/24"]
    assert problems == {"far": "no way to the pods of node far: the tunnel cannot be set up: Operation not supported"}


def test_what_another_node_tells_cannot_break_this_one() -> None:
    for data in ("[" * 100_000, "[1]", "{", '{"VtepMAC": 1, "VNI": "x"}'):
        notes = {BACKEND_DATA: data}
        told = standing_of({"metadata": {"name": "other", "annotations": notes}})
        assert not told.hardware


def test_no_node_can_claim_the_tunnel_end_of_another() -> None:
    for name, believed in (("far", True), ("thief", False)):
        data = json.dumps({"VNI": VNI, "VtepMAC": tunnel_hardware("far")})
        notes = {BACKEND_DATA: data, SEGMENTS: "192.0.2.0/24", PUBLIC_IP: "192.0.2.5"}
        told = standing_of({"metadata": {"name": name, "annotations": notes}})
        assert bool(told.hardware) is believed
