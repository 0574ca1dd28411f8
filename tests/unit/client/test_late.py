"""A client for what starts before it is known who it is."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from orca.api.builtin import CONFIGMAPS
from orca.api.errors import ApiError
from orca.client.base import Client
from orca.client.late import LateClient

CALLS: dict[str, tuple[Any, ...]] = {
    "get": (CONFIGMAPS, "a", "default"),
    "list": (CONFIGMAPS,),
    "watch": (CONFIGMAPS,),
    "create": (CONFIGMAPS, {}),
    "update": (CONFIGMAPS, {}),
    "patch": (CONFIGMAPS, "a", {}),
    "delete": (CONFIGMAPS, "a"),
    "delete_collection": (CONFIGMAPS,),
    "create_sub": (CONFIGMAPS, "a", "default", "token", {}),
}


async def _call(client: Client, verb: str, **more: Any) -> Any:
    answer = getattr(client, verb)(*CALLS[verb], **more)
    return await answer if inspect.isawaitable(answer) else answer


@pytest.mark.parametrize("verb", CALLS)
async def test_until_then_the_server_cannot_be_reached(verb: str) -> None:
    with pytest.raises(ApiError) as caught:
        await _call(LateClient(), verb)
    assert (caught.value.code, caught.value.reason) == (503, "ServiceUnavailable")


@pytest.mark.parametrize("verb", CALLS)
async def test_from_then_on_every_call_arrives_with_all_that_was_said(verb: str) -> None:
    heard: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    class Real:
        def __getattr__(self, name: str) -> Any:
            def note(*arguments: Any, **options: Any) -> Any:
                heard.append((name, arguments, options))

                async def answer() -> None:
                    return

                return None if name == "watch" else answer()

            return note

    late = LateClient()
    late.use(Real())  # type: ignore[arg-type]
    options = [
        name
        for name, parameter in inspect.signature(getattr(Client, verb)).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    said = {name: object() for name in options}
    await _call(late, verb, **said)
    [(name, arguments, told)] = heard
    assert name == verb
    assert arguments[: len(CALLS[verb])] == CALLS[verb]
    assert told == said
