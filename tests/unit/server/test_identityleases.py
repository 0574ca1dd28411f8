"""Leases that show servers: made, renewed, taken over from the one before, collected, taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from orca.api import errors
from orca.api.builtin import LEASES
from orca.api.objects import Obj
from orca.api.times import format_micro, parse_time
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.server.identifiers import server_identity
from orca.server.identityleases import IdentityLease, is_over


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def client(clock: VirtualClock) -> FakeClient:
    return FakeClient(clock=clock)


def lease(name: str, clock: VirtualClock, age: float, space: str = "kube-system", **labels: str) -> Obj:
    renewed = format_micro(clock.now() - timedelta(seconds=age))
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": space, "labels": labels},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 3600, "renewTime": renewed},
    }


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_the_name_is_that_of_a_kube_apiserver_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    # As test/integration/controlplane/apiserver_identity_test.go computes it.
    monkeypatch.setattr("socket.gethostname", lambda: "host-1")
    assert server_identity() == "apiserver-fl6obw4ijfryx25ur4ugqryswq"


async def test_it_is_made_and_renewed_and_taken_back(client: FakeClient, clock: VirtualClock) -> None:
    one = IdentityLease(client, clock)
    async with running(one.run()):
        await clock.advance(0)
        [made] = client.objects(LEASES)
        assert made["metadata"]["name"] == server_identity()
        assert made["metadata"]["labels"]["apiserver.kubernetes.io/identity"] == "kube-apiserver"
        assert made["spec"]["holderIdentity"].startswith(f"{server_identity()}_")
        assert made["spec"]["leaseDurationSeconds"] == 3600
        await clock.advance(11)
        [renewed] = client.objects(LEASES)
        assert renewed["metadata"]["uid"] == made["metadata"]["uid"]
        assert parse_time(renewed["spec"]["renewTime"]) - parse_time(made["spec"]["renewTime"]) >= timedelta(seconds=10)
        await client.delete(LEASES, server_identity(), "kube-system")
        await clock.advance(11)
        assert client.objects(LEASES), "who deletes it gets it back"
    await one.end()
    assert client.objects(LEASES) == []


async def test_that_of_the_server_before_is_replaced_and_another_one_left(
    client: FakeClient, clock: VirtualClock
) -> None:
    before = client.seed(LEASES, lease(server_identity(), clock, 60))
    one, two = IdentityLease(client, clock), IdentityLease(client, clock)
    async with running(one.run()):
        await clock.advance(0)
        [ours] = client.objects(LEASES)
        assert ours["metadata"]["uid"] != before["metadata"]["uid"]
    await two.end()
    assert client.objects(LEASES) == [ours]


async def test_two_servers_of_one_host_share_it(client: FakeClient, clock: VirtualClock) -> None:
    one, two = IdentityLease(client, clock), IdentityLease(client, clock)
    async with running(one.run()):
        await clock.advance(0)
        async with running(two.run()):
            await clock.advance(0)
            [shared] = client.objects(LEASES)
            await clock.advance(25)
            [renewed] = client.objects(LEASES)
            assert renewed["metadata"]["uid"] == shared["metadata"]["uid"], "neither takes it from the other"
            assert renewed["spec"]["renewTime"] > shared["spec"]["renewTime"]
        await two.end()
        assert client.objects(LEASES) == []
        await clock.advance(11)
        assert len(client.objects(LEASES)) == 1


async def test_leases_of_servers_that_are_gone_are_collected(client: FakeClient, clock: VirtualClock) -> None:
    mark = {"apiserver.kubernetes.io/identity": "kube-apiserver"}
    client.seed(LEASES, lease("expired", clock, 7200, **mark))
    client.seed(LEASES, lease("fresh", clock, 120, **mark))
    client.seed(LEASES, lease("other", clock, 7200))
    client.seed(LEASES, lease("elsewhere", clock, 7200, "default", **mark))
    async with running(IdentityLease(client, clock).collect()):
        await clock.advance(0)
        assert {one["metadata"]["name"] for one in client.objects(LEASES)} == {"fresh", "other", "elsewhere"}
        await clock.advance(3600)
        assert {one["metadata"]["name"] for one in client.objects(LEASES)} == {"other", "elsewhere"}


def test_what_does_not_say_when_it_ends_is_over(clock: VirtualClock) -> None:
    whole = lease("a", clock, 0)
    assert not is_over(whole, clock.now())
    for field in ("renewTime", "leaseDurationSeconds"):
        assert is_over({**whole, "spec": {**whole["spec"], field: None}}, clock.now())
    assert is_over({**whole, "spec": None}, clock.now())


async def test_whatever_a_lease_says_the_others_are_looked_at(client: FakeClient, clock: VirtualClock) -> None:
    mark = {"apiserver.kubernetes.io/identity": "kube-apiserver"}
    for name, renewed in (
        ("a-never", "9999-12-31T23:59:59.000000Z"),
        ("b-later", "9999-12-31T23:59:59.000000-12:00"),
        ("c-words", "soon"),
    ):
        said = lease(name, clock, 0, **mark)
        client.seed(LEASES, {**said, "spec": {**said["spec"], "renewTime": renewed}})
    client.seed(LEASES, lease("d-expired", clock, 7200, **mark))
    async with running(IdentityLease(client, clock).collect()):
        await clock.advance(0)
        assert [one["metadata"]["name"] for one in client.objects(LEASES)] == ["a-never"]


async def test_an_outage_ends_nothing(client: FakeClient, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object, **__: object) -> Obj:
        raise errors.service_unavailable("etcd is away")

    one = IdentityLease(client, clock)
    with monkeypatch.context() as patched:
        patched.setattr(client, "get", away)
        patched.setattr(client, "list", away)
        await one.end()
        renewing, collecting = asyncio.ensure_future(one.run()), asyncio.ensure_future(one.collect())
        await clock.advance(30)
    await clock.advance(11)
    assert len(client.objects(LEASES)) == 1
    assert not renewing.done()
    assert not collecting.done()
    renewing.cancel()
    collecting.cancel()
    await asyncio.gather(renewing, collecting, return_exceptions=True)
