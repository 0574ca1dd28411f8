"""What the cases share: waiting for a state, watching while something is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson

from tests.api.server.api import Answer, Api
from tests.support.patience import PATIENCE

T = TypeVar("T")


def ok(answer: Answer, status: int = 200) -> Any:
    """The JSON of an answer that has to be a success."""
    assert answer.status == status, answer.raw
    return answer.json


async def put(api: Api, path: str, obj: Any) -> Answer:
    """Put ``obj``; when a controller was faster, again with the version that it made, as the suite does."""
    for _ in range(50):
        answer = await api.put(path, obj)
        if answer.status != 409:
            break
        held = ok(await api.get(path.removesuffix("/finalize")))
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": held["metadata"]["resourceVersion"]}}
    return answer


async def eventually(
    look: Callable[[], Awaitable[T]], good: Callable[[T], Any], *, seconds: float = PATIENCE, every: float = 0.05
) -> T:
    """Look until it is good; fails with what was seen last."""
    deadline = time.monotonic() + seconds
    while True:
        seen = await look()
        if good(seen):
            return seen
        assert time.monotonic() < deadline, getattr(seen, "raw", seen)
        await asyncio.sleep(every)


async def when(api: Api, path: str, good: Callable[[Any], Any], *, seconds: float = PATIENCE) -> Any:
    """The object at ``path`` as soon as it is good; a missing one is ``{}``."""

    async def look() -> Any:
        answer = await api.get(path)
        return answer.json if answer.status == 200 else {}

    return await eventually(look, good, seconds=seconds)


async def gone(api: Api, path: str, *, seconds: float = PATIENCE) -> None:
    """Wait until ``path`` is not found."""
    await eventually(lambda: api.get(path), lambda answer: answer.status == 404, seconds=seconds)


class Watching:
    """Events as they come."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._more = asyncio.Event()

    async def read(self, content: Any) -> None:
        async for line in content:
            self.events.append(orjson.loads(line))
            self._more.set()

    async def saw(self, kind: str, good: Callable[[Any], Any] = bool, *, seconds: float = PATIENCE) -> Any:
        """The object of the first event of that type that is good."""
        async with asyncio.timeout(seconds):
            while True:
                for event in self.events:
                    if event["type"] == kind and good(event["object"]):
                        return event["object"]
                self._more.clear()
                await self._more.wait()

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


@asynccontextmanager
async def watching(api: Api, path: str) -> AsyncIterator[Watching]:
    """A watch of a collection; ``path`` may have a query."""
    found = Watching()
    assert api._session is not None
    query = "&" if "?" in path else "?"
    async with api._session.get(f"{api.url}{path}{query}watch=1", timeout=None) as response:
        assert response.status == 200, await response.read()
        task = asyncio.create_task(found.read(response.content))
        try:
            yield found
        finally:
            task.cancel()


def pod(name: str, **spec: Any) -> dict[str, Any]:
    """A pod of one container."""
    metadata = {"name": name, **spec.pop("metadata", {})}
    return {"metadata": metadata, "spec": {"containers": [{"name": "main", "image": "agnhost:2"}], **spec}}


def template(labels: dict[str, str], **spec: Any) -> dict[str, Any]:
    """A template of such pods."""
    return {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": "agnhost:2"}], **spec},
    }
