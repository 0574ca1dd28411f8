"""The fake passes the contract of the real clients, and fails on demand."""

from __future__ import annotations

import pytest

from orca.api import errors
from orca.api.builtin import CONFIGMAPS
from orca.api.errors import ApiError
from orca.api.resources import Resource
from orca.client.base import Client
from orca.client.fake import FakeClient
from tests.support.client_contract import ClientContract, config


class TestFake(ClientContract):
    @pytest.fixture
    def client(self) -> Client:
        return FakeClient()


async def test_compacted_history_is_gone() -> None:
    client = FakeClient()
    client.seed(CONFIGMAPS, config("old", "default"))
    since = str(client.revision)
    client.seed(CONFIGMAPS, config("new", "default"))
    client.compact()
    with pytest.raises(ApiError) as caught:
        await anext(client.watch(CONFIGMAPS, since=since))
    assert caught.value.code == 410


async def test_intercepts_make_verbs_fail() -> None:
    client = FakeClient()

    def refuse(verb: str, resource: Resource, key: str, subresource: str) -> None:
        if (verb, key) == ("create", "default/cursed"):
            raise errors.service_unavailable("not today")

    client.intercepts.append(refuse)
    await client.create(CONFIGMAPS, config("blessed", "default"))
    with pytest.raises(ApiError):
        await client.create(CONFIGMAPS, config("cursed", "default"))
    assert client.calls == [("create", "configmaps", "default/blessed")]
