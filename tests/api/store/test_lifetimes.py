"""How long objects that vanish are kept."""

from __future__ import annotations

import grpc.aio
from aetcd import rpc

from orca.api.builtin import EVENTS
from orca.store import Store
from tests.support.etcd import PrivateEtcd


async def test_events_live_as_long_as_the_server_is_told(etcd: PrivateEtcd) -> None:
    store = Store(etcd.endpoint, lifetimes={EVENTS: 120})
    await store.start()
    try:
        metadata = {"name": "e", "namespace": "default", "uid": "u"}
        await store.create(EVENTS, {"apiVersion": "v1", "kind": "Event", "metadata": metadata})
        async with grpc.aio.insecure_channel(etcd.endpoint) as channel:
            stub = rpc.LeaseStub(channel)
            [lease] = (await stub.LeaseLeases(rpc.LeaseLeasesRequest())).leases
            told = await stub.LeaseTimeToLive(rpc.LeaseTimeToLiveRequest(ID=lease.ID, keys=True))
        assert 120 <= told.grantedTTL <= 180
        assert list(told.keys) == [b"/registry/core/events/default/e"]
    finally:
        await store.close()
