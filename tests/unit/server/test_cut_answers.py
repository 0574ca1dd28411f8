"""An answer that has begun is the only one: what goes wrong then ends the connection."""

from __future__ import annotations

from typing import Any, cast

import pytest
from aiohttp import web

from orca.api.builtin import BUILTIN
from orca.api.errors import internal
from orca.api.resources import ResourceTable
from orca.auth import Authenticator, Authorizer, StaticTokens, UserInfo
from orca.client.clock import VirtualClock
from orca.server.app import App, Parts
from orca.server.deadlines import Deadlines
from orca.server.health import Health
from orca.server.identity import Gate
from orca.server.metrics import Metrics
from orca.server.request import Request
from orca.server.responses import ANSWERING
from orca.store import Store
from tests.support.wire import listening, said

ASKED = b"GET /half HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\n\r\n"


class Half(App):
    """An application that fails while it answers; ``told``: it has said that it begins."""

    def __init__(self, error: Exception, *, told: bool) -> None:
        table, none = ResourceTable(list(BUILTIN)), cast(Any, None)
        super().__init__(
            Parts(
                table=table,
                verbs=none,
                gate=Gate(Authenticator([StaticTokens({"a": UserInfo("ann")})]), cast(Authorizer, none)),
                health=Health(),
                discovery=none,
                openapi=none,
                metrics=Metrics(table, cast(Store, None)),
                splicer=none,
                aggregator=none,
                clock=VirtualClock(),
                well_known={},
                configz={},
                zpages=none,
                deadlines=Deadlines(60),
            )
        )
        self._error = error
        self._told = told

    async def _path(self, request: Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        if self._told:
            request.http[ANSWERING] = True
        await response.prepare(request.http)
        await response.write(b"the first half")
        raise self._error


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    "error", [internal("no"), RecursionError(), ZeroDivisionError()], ids=lambda one: type(one).__name__
)
async def test_nothing_follows_half_an_answer(error: Exception, told: bool) -> None:
    async with listening(Half(error, told=told)) as front:
        answer = await said(front.port, ASKED)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nthe first half")
