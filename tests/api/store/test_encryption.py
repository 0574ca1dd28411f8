"""Encryption at rest on a real etcd: nothing readable is stored, and everybody but etcd sees plain objects."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from orca.api.builtin import CONFIGMAPS
from orca.api.errors import ApiError
from orca.store import Store
from orca.store.encryption import SealedEtcd, Transforms, parse_config
from orca.store.encryption.transform import Rule
from orca.store.etcd import Etcd, end_of
from tests.api.store.things import config, with_data
from tests.support.etcd import PrivateEtcd

PREFIX = b"/registry/"


def rules(*names: str) -> list[Rule]:
    keys = [f"{{name: {name}, secret: {base64.b64encode(name[-1].encode() * 32).decode()}}}" for name in names]
    return parse_config(
        "{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: [{resources: [configmaps],"
        f" providers: [{{secretbox: {{keys: [{', '.join(keys)}]}}}}, {{identity: {{}}}}]}}]}}"
    )


@asynccontextmanager
async def encrypting(etcd: PrivateEtcd, transforms: Transforms) -> AsyncIterator[Store]:
    store = Store(SealedEtcd(etcd.endpoint, transforms))
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def raw(etcd: PrivateEtcd) -> AsyncIterator[Etcd]:
    plain = Etcd(etcd.endpoint)
    plain.open()
    try:
        yield plain
    finally:
        await plain.close()


async def everything(etcd: PrivateEtcd) -> bytes:
    """All bytes etcd holds now, and all it has ever been told and still remembers."""
    seen = b""
    async with raw(etcd) as plain:
        async for pairs, _ in plain.pages(b"\0", b"\xff"):
            seen += b"".join(pair.key + pair.value for pair in pairs)
        last = await plain.tick(PREFIX + b".orca/tick")
        async for batch in plain.watch(PREFIX, end_of(PREFIX), 1, previous=True):
            seen += b"".join((one.value or b"") + (one.previous.value if one.previous else b"") for one in batch)
            if batch[-1].revision >= last:
                break
    return seen


async def stored(etcd: PrivateEtcd, name: str) -> bytes:
    async with raw(etcd) as plain:
        pair, _ = await plain.get(f"{CONFIGMAPS.storage}/default/{name}".encode())
        assert pair is not None
        return pair.value


async def test_etcd_never_holds_plain_text(etcd: PrivateEtcd) -> None:
    async with encrypting(etcd, Transforms(rules("k1"))) as store:
        watch = store.watch(CONFIGMAPS)
        await watch.start()
        entry = await store.create(CONFIGMAPS, config("hidden", word="hunter2-first"))
        first = entry.revision
        await store.update(CONFIGMAPS, "default", "hidden", lambda obj: with_data(obj, word="hunter2-second"))
        events = [await anext(watch), await anext(watch)]
        assert [event.entry.obj["data"]["word"] for event in events] == ["hunter2-first", "hunter2-second"]
        page = await store.list(CONFIGMAPS, limit=1)
        assert page.entries[0].obj["data"]["word"] == "hunter2-second"
        past = await store.list(CONFIGMAPS, resource_version=str(first), match="Exact")
        assert past.entries[0].obj["data"]["word"] == "hunter2-first"
        await watch.aclose()
    assert b"hunter2" not in await everything(etcd)
    assert b"k8s:enc:secretbox:v1:k1:" in await stored(etcd, "hidden")
    # Another server reads what is there, the past before its start included.
    async with encrypting(etcd, Transforms(rules("k1"))) as store:
        assert (await store.get(CONFIGMAPS, "default", "hidden")).obj["data"]["word"] == "hunter2-second"
        past = await store.list(CONFIGMAPS, resource_version=str(first), match="Exact")
        assert past.entries[0].obj["data"]["word"] == "hunter2-first"
        store._cache.bucket(CONFIGMAPS.storage).forget(store.revision)  # so that the past is read from etcd
        past = await store.list(CONFIGMAPS, resource_version=str(first), match="Exact")
        assert past.entries[0].obj["data"]["word"] == "hunter2-first"
        await store.delete(CONFIGMAPS, "default", "hidden")


async def test_an_unchanged_object_is_written_anew_with_the_new_key(etcd: PrivateEtcd) -> None:
    transforms = Transforms(rules("k1"))
    async with encrypting(etcd, transforms) as store:
        before = await store.create(CONFIGMAPS, config("kept", word="x"))
        same = await store.update(CONFIGMAPS, "default", "kept", lambda obj: dict(obj))
        assert same.revision == before.revision
        transforms.replace(rules("k2", "k1"))
        after = await store.update(CONFIGMAPS, "default", "kept", lambda obj: dict(obj))
        assert after.revision > before.revision
        assert (await stored(etcd, "kept")).startswith(b"k8s:enc:secretbox:v1:k2:")
        assert after.obj["data"] == before.obj["data"]
        await store.delete(CONFIGMAPS, "default", "kept")


async def test_what_cannot_be_read_is_an_error_and_nothing_else_suffers(etcd: PrivateEtcd) -> None:
    async with encrypting(etcd, Transforms(rules("k1"))) as one:
        await one.create(CONFIGMAPS, config("locked", word="x"))
    transforms = Transforms(rules("k2"))
    async with encrypting(etcd, transforms) as other, encrypting(etcd, Transforms(rules("k1"))) as one:
        why = 'unable to transform key "/registry/core/configmaps/default/locked": no matching prefix found'
        for attempt in (
            other.get(CONFIGMAPS, "default", "locked"),
            other.list(CONFIGMAPS),
            other.list(CONFIGMAPS, "default", limit=1),
            other.create(CONFIGMAPS, config("locked")),
            other.update(CONFIGMAPS, "default", "locked", lambda obj: with_data(obj, a="b")),
            other.watch(CONFIGMAPS).start(),
        ):
            with pytest.raises(ApiError) as told:
                await attempt
            assert told.value.code in (500, 409)
            assert told.value.code == 409 or why in told.value.message
        # Other namespaces, and objects of this one asked for by name, are served.
        await other.create(CONFIGMAPS, config("open", "elsewhere"))
        await other.create(CONFIGMAPS, config("open"))
        assert len((await other.list(CONFIGMAPS, "elsewhere")).entries) == 1
        watch = other.watch(CONFIGMAPS, "elsewhere")
        await watch.start()
        # An object that becomes unreadable while we follow ends the watches; the feed goes on.
        await one.create(CONFIGMAPS, config("later", word="y"))
        assert [event.entry.name async for event in watch] == ["open"]
        await other.create(CONFIGMAPS, config("after"))
        assert (await other.get(CONFIGMAPS, "default", "after")).obj
        with pytest.raises(ApiError, match="default/later"):
            await other.get(CONFIGMAPS, "default", "later")
        # The key comes back: everything is readable without a restart.
        transforms.replace(rules("k2", "k1"))
        await other.mend()
        assert {e.name for e in (await other.list(CONFIGMAPS, "default")).entries} >= {
            "locked",
            "later",
            "open",
            "after",
        }
        # And what is deleted while unreadable is forgotten.
        transforms.replace(rules("k2"))
        await one.create(CONFIGMAPS, config("short", word="z"))
        await one.delete(CONFIGMAPS, "default", "short")
        await other.create(CONFIGMAPS, config("last"))
        assert len((await other.list(CONFIGMAPS, "default")).entries) == 5


async def test_a_server_without_keys_starts_and_tells(etcd: PrivateEtcd) -> None:
    async with encrypting(etcd, Transforms(rules("k1"))) as one:
        await one.create(CONFIGMAPS, config("sealed", "vault", word="x"))
    store = Store(etcd.endpoint)
    await store.start()
    try:
        with pytest.raises(ApiError, match="identity transformer tried to read encrypted data"):
            await store.get(CONFIGMAPS, "vault", "sealed")
        with pytest.raises(ApiError, match="vault/sealed"):
            await store.list(CONFIGMAPS, "vault")
    finally:
        await store.close()
