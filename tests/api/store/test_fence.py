"""A leader whose term is over writes nothing, whatever it was about to do."""

from __future__ import annotations

import asyncio

import pytest

from orca.api.builtin import CONFIGMAPS
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.server.peers import begin_term
from orca.store import Also, Fence, Store, behind
from tests.api.store.things import config, with_data
from tests.support.etcd import PrivateEtcd
from tests.support.patience import PATIENCE


async def term(store: Store, holder: str) -> Fence:
    return await begin_term(store, "work", holder)


async def refused(fence: Fence, store: Store, name: str) -> None:
    with behind(fence), pytest.raises(ApiError) as caught:
        await store.create(CONFIGMAPS, config(name))
    assert caught.value.code == 503
    assert "does not lead any more" in caught.value.message


async def test_no_write_of_an_earlier_term_happens(store: Store, etcd: PrivateEtcd) -> None:
    other = Store(etcd.endpoint, shared=True)
    await other.start()
    try:
        old = await term(store, "one")
        with behind(old):
            first = await store.create(CONFIGMAPS, config("first"))
            second = await store.create(CONFIGMAPS, config("second"))
        new = await term(other, "other")
        assert old.why == ""  # nobody has told it yet
        await refused(old, store, "late")
        assert old.why == "another one has begun"

        def change(obj: Obj) -> Obj:
            return with_data(obj, late="yes")

        with behind(old):
            for write in (
                lambda: store.update(CONFIGMAPS, "default", "first", change),
                lambda: store.replace(CONFIGMAPS, first, change(first.obj)),
                lambda: store.delete(CONFIGMAPS, "default", "first"),
                lambda: store.create(
                    CONFIGMAPS, config("both"), also=[Also(CONFIGMAPS, "default", "beside", config("beside"), 0)]
                ),
            ):
                with pytest.raises(ApiError) as caught:
                    await write()
                assert (caught.value.code, caught.value.reason) == (503, "ServiceUnavailable")
        with behind(new):
            await other.delete(CONFIGMAPS, "default", "second", expected=("", str(second.revision)))
        # Who is asked by clients writes as before.
        await store.create(CONFIGMAPS, config("of-a-client"))
        left = {entry.name for entry in (await other.list(CONFIGMAPS)).entries}
        assert left & {"first", "second", "late", "both", "beside", "of-a-client"} == {"first", "of-a-client"}
    finally:
        await other.close()


async def test_what_a_conflict_is_stays_one(store: Store) -> None:
    with behind(await term(store, "one")):
        await store.create(CONFIGMAPS, config("there"))
        with pytest.raises(ApiError) as caught:
            await store.create(CONFIGMAPS, config("there"))
    assert caught.value.reason == "AlreadyExists"


async def test_a_write_of_unknown_outcome_ends_the_term(store: Store, etcd: PrivateEtcd) -> None:
    fence = await term(store, "one")
    etcd.freeze()
    try:
        with behind(fence):
            writing = asyncio.create_task(store.create(CONFIGMAPS, config("held-up")))
        await asyncio.sleep(0.1)
        writing.cancel()
        await asyncio.wait({writing})
    finally:
        etcd.thaw()
    async with asyncio.timeout(PATIENCE):
        assert (await fence.over()).startswith("it is not known what became of a write")
    # From the next term on it is known, and stays as it is.
    fresh = await term(store, "one")
    names = {entry.name for entry in (await store.list(CONFIGMAPS)).entries}
    await asyncio.sleep(0.2)
    assert {entry.name for entry in (await store.list(CONFIGMAPS)).entries} == names
    await refused(fence, store, "late")
    with behind(fresh):
        await store.create(CONFIGMAPS, config("new"))
