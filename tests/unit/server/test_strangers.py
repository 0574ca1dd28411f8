"""What anybody can make up, a new one with each request and as long as a request may be, is not remembered."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orca.api import names
from orca.api.errors import ApiError, unauthorized
from orca.api.quantity import Quantity
from orca.api.remembering import LONGEST, remembered
from orca.api.resources import ResourceTable
from orca.auth import Action, UserInfo
from orca.auth.rbac import Rbac
from orca.server.app import App, Served
from orca.server.fairness import Fairness, FairnessConfig
from orca.server.fairness.turns import Turns
from orca.server.paths import Target
from orca.server.request import Request

LONG = "x" * 100_000
ANYBODY = UserInfo("system:anonymous", groups=("system:unauthenticated",))


class Nothing:
    """Of which there are no roles."""

    def last_change(self, resource: object) -> int:
        return 1

    def peek(self, *_: object) -> None:
        return None

    def peek_list(self, *_: object, **__: object) -> list[object]:
        return []


@pytest.mark.parametrize("path", [f"/{LONG}", f"/api/v1/namespaces/{LONG}/pods", f"/api/v1/{LONG}"])
def test_paths(path: str) -> None:
    app = SimpleNamespace(_targets={}, _parts=SimpleNamespace(table=ResourceTable(())))
    fairness = Fairness(FairnessConfig())
    for number in range(3):
        target = App._target(cast(App, app), f"{path}{number}")
        fairness.classify(ANYBODY, "get", target)
    assert app._targets == {}
    assert not fairness._flows
    for _ in range(2):
        App._target(cast(App, app), "/api/v1/pods")
    fairness.classify(ANYBODY, "get", Target("/version"))
    assert list(app._targets) == ["/api/v1/pods"]
    assert len(fairness._flows) == 1


@pytest.mark.parametrize("field", ["path", "name", "namespace", "group", "resource", "subresource"])
def test_decisions(field: str) -> None:
    long: dict[str, Any] = {field: LONG}
    short: dict[str, Any] = {field: "short"}
    rbac = Rbac(Nothing())  # type: ignore[arg-type]
    assert not rbac.authorize(ANYBODY, replace(Action("get"), **long)).allowed
    assert not rbac._decisions
    assert not rbac.authorize(ANYBODY, replace(Action("get"), **short)).allowed
    assert len(rbac._decisions) == 1


def test_names_and_quantities() -> None:
    for rule in (names.dns1123_label, names.dns1123_subdomain, names.qualified_name, names.label_value):
        assert rule(LONG) == rule(LONG)
        assert rule(LONG)
    assert Quantity.parse("1" + "0" * LONGEST) == Quantity.parse("1" + "0" * LONGEST)
    for kept in (names._dns1123_label, names._label_value):
        before = kept.cache_info().currsize
        kept(f"a-name-that-nobody-else-has-{id(kept)}")
        assert kept.cache_info().currsize == before + 1
    before = names._label_value.cache_info().currsize
    names.label_value(LONG)
    assert names._label_value.cache_info().currsize == before


def test_only_short_texts_are_worked_out_once() -> None:
    asked: list[str] = []

    @remembered(10)
    def length(text: str) -> int:
        asked.append(text)
        return len(text)

    for text in ("a", "a", LONG, LONG):
        assert length(text) == len(text)
    assert asked == ["a", LONG, LONG]


async def test_strangers_are_refused_in_turns() -> None:
    """They take no seats, so that is all that keeps them from the loop."""

    class Gate:
        async def user(self, http: object) -> UserInfo:
            raise unauthorized()

    turns = Turns(budget=0.0)
    target = Target("/api/v1/pods")
    http = cast(Any, SimpleNamespace(headers={}))
    request = Request(http, "GET", target, {}, "", UserInfo(""), "id", lane=turns.lane(""))
    parts = SimpleNamespace(gate=Gate())
    app = SimpleNamespace(_deadlines=SimpleNamespace(enter=lambda *_: None), _parts=parts, _audit=None)
    served = Served(0.0, cast(Any, None), "get")
    connection = cast(Any, SimpleNamespace(watch_loss=lambda *_: None))
    task = asyncio.current_task()
    assert task is not None
    for _ in range(5):
        with pytest.raises(ApiError):
            await App._serve(cast(App, app), request, served, task, connection)
    assert turns.waited >= 4
