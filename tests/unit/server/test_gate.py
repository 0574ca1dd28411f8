"""The gate on both ways of a request: what is counted, how often, and who is meant."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from orca.api.errors import ApiError
from orca.auth import Action, Authenticator, Authorizer, UserInfo
from orca.auth.identity import NO_OPINION, Decision
from orca.server.identity import Gate

ACCOUNT, PERSON = "system:serviceaccount:d:app", "ann"
READ = Action("get", resource="pods")


class Known:
    """Bearer tokens that are the names of their users."""

    def identify(self, token: str) -> UserInfo | None:
        return UserInfo(token) if token in (ACCOUNT, PERSON) else None


class Allowed:
    """An authorizer; ``ready`` is what it knows without asking anybody."""

    ready: Decision | None = Decision(True)

    def at_once(self, _user: UserInfo, _action: Action) -> Decision | None:
        return self.ready

    async def authorize(self, _user: UserInfo, _action: Action) -> Decision:
        return Decision(True)


def headers(**said: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict({key.replace("_", "-"): value for key, value in said.items()}))


def request(shown: CIMultiDictProxy[str]) -> web.BaseRequest:
    return cast(web.BaseRequest, SimpleNamespace(headers=shown, path="/", protocol=SimpleNamespace(peer_der=None)))


@pytest.fixture
def taken() -> list[str]:
    return []


@pytest.fixture
def rights() -> Allowed:
    return Allowed()


@pytest.fixture
def gate(rights: Allowed, taken: list[str]) -> Gate:
    return Gate(Authenticator([Known()]), cast(Authorizer, rights), taken=taken.append)


@pytest.mark.parametrize("who", [ACCOUNT, PERSON])
@pytest.mark.parametrize("ready", [Decision(True), NO_OPINION, None])
async def test_who_takes_the_long_way_after_the_short_one_is_counted_once(
    gate: Gate, rights: Allowed, taken: list[str], who: str, ready: Decision | None
) -> None:
    rights.ready = ready
    shown = headers(Authorization=f"Bearer {who}")
    found = gate.admitted(shown, None, READ, "/")
    assert (found is not None) == (ready is not None and ready.allowed)
    assert (gate.counts.known, gate.counts.allowed, taken) == (0, 0, [])  # there may have been no seat for it
    user = await gate.user(request(shown))
    await gate.check(user, READ)
    assert (gate.counts.known, gate.counts.allowed) == (1, 1)
    assert taken == ([ACCOUNT] if who == ACCOUNT else [])


@pytest.mark.parametrize("who", [ACCOUNT, PERSON])
def test_who_takes_the_short_way_is_counted_the_same(gate: Gate, taken: list[str], who: str) -> None:
    shown = headers(Authorization=f"Bearer {who}")
    user = gate.admitted(shown, None, READ, "/")
    assert user is not None
    gate.let_in(user, shown)
    assert (gate.counts.known, gate.counts.allowed, gate.counts.anonymous) == (1, 1, 0)
    assert taken == ([ACCOUNT] if who == ACCOUNT else [])


async def test_who_is_refused_has_used_no_token(gate: Gate, taken: list[str]) -> None:
    with pytest.raises(ApiError):
        await gate.user(request(headers(Authorization="Bearer nonsense")))
    await gate.user(request(headers()))
    assert (gate.counts.unknown, gate.counts.known, gate.counts.anonymous, taken) == (1, 1, 1, [])


@pytest.mark.parametrize(
    ("said", "meant"),
    [({"Impersonate_User": ""}, None), ({"Impersonate_Foo": "x"}, None), ({"Impersonate_User": "bob"}, "bob")],
)
async def test_headers_that_mean_nobody_else(gate: Gate, said: dict[str, Any], meant: str | None) -> None:
    acting = await gate.acting(UserInfo(PERSON), headers(**said), lambda: READ)
    assert (acting.user.name if acting is not None else None) == meant
