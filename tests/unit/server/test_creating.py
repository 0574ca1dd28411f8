"""What a create makes of names and namespaces, with a store of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orca.admission import Chain
from orca.admission.chain import Attributes
from orca.api.builtin import BUILTIN, CLUSTERROLES, CONFIGMAPS
from orca.api.errors import ApiError, already_exists
from orca.api.objects import Obj, name, thaw
from orca.api.resources import Resource
from orca.auth import UserInfo
from orca.client.clock import SystemClock
from orca.server.verbs import creating
from orca.server.verbs.core import Call, Core


class Full:
    """A store where every name is taken."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    async def create(self, resource: Resource, obj: Obj, *, also: Any = ()) -> Any:
        self.tried.append(name(obj))
        raise already_exists(resource, name(obj))


class Replacing:
    """As hooks do: what they made is another object."""

    async def admit(self, attrs: Attributes) -> None:
        assert attrs.obj is not None
        attrs.obj = thaw(attrs.obj)


@pytest.mark.parametrize("plugins", [[], [Replacing()]], ids=["as it is", "replaced"])
async def test_generated_names_that_are_all_taken(plugins: list[Any]) -> None:
    store: Any = Full()
    services: Any = SimpleNamespace()
    core = Core(store, BUILTIN.copy(), Chain(plugins), SystemClock(), services)
    with pytest.raises(ApiError) as caught:
        await creating.create(core, Call(UserInfo("me")), CONFIGMAPS, "default", {"metadata": {"generateName": "gen-"}})
    assert (caught.value.code, caught.value.reason) == (409, "AlreadyExists")
    why = "already exists, the server was not able to generate a unique name for the object"
    assert caught.value.message == f'configmaps "{store.tried[-1]}" {why}'
    assert len(store.tried) == 8
    assert all(one.startswith("gen-") for one in store.tried)


def test_what_is_in_no_namespace_says_none() -> None:
    for said in ("x", ""):
        obj: Obj = {"metadata": {"name": "a", "namespace": said}}
        creating.settle_identity(CLUSTERROLES, obj, "", "a")
        assert obj == {"metadata": {"name": "a"}}


def test_another_namespace_than_the_requests_is_refused() -> None:
    obj: Obj = {"metadata": {"name": "a"}}
    creating.settle_identity(CONFIGMAPS, obj, "d")
    assert obj == {"metadata": {"name": "a", "namespace": "d"}}
    text = "the namespace of the provided object does not match the namespace sent on the request"
    with pytest.raises(ApiError) as caught:
        creating.settle_identity(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "x"}}, "d")
    assert (caught.value.code, caught.value.message) == (400, text)
