"""A thin HTTPS client that shows everything: status, headers, body."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import orjson

from orca.client.kubeconfig import Kubeconfig
from tests.support.patience import PATIENCE

PATCH = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def failure(self) -> tuple[int, str, str]:
        """(HTTP code, reason, message) of a Status; they must agree with each other."""
        status = self.json
        assert status["kind"] == "Status", status
        assert status["status"] == "Failure"
        assert status["code"] == self.status
        return self.status, status.get("reason", ""), status["message"]


class Api:
    """Requests as one user; ``token`` replaces the client certificate, ``url`` the address (whatever its name)."""

    def __init__(self, kubeconfig: Path | str, *, token: str = "", anonymous: bool = False, url: str = "") -> None:
        endpoint = Kubeconfig(kubeconfig).load()
        self.url = url or endpoint.server
        tls = endpoint.ssl
        assert tls is not None
        tls.check_hostname = tls.check_hostname and not url
        if token or anonymous:
            bare = ssl.create_default_context()
            bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
            tls = bare
        self.tls = tls
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Api:
        connector = aiohttp.TCPConnector(ssl=self.tls, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(
        self, method: str, path: str, body: Any = None, *, media: str = "application/json", **headers: str
    ) -> Answer:
        """One request; a body that is no bytes is sent as JSON. Header names: Accept_Encoding for Accept-Encoding."""
        assert self._session is not None
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        sent = {"Accept-Encoding": "identity"} | {key.replace("_", "-"): value for key, value in headers.items()}
        if data is not None:
            sent.setdefault("Content-Type", media)
        async with self._session.request(method, self.url + path, data=data, headers=sent) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.call("GET", path, **headers)

    async def post(self, path: str, body: Any, **headers: str) -> Answer:
        return await self.call("POST", path, body, **headers)

    async def put(self, path: str, body: Any, **headers: str) -> Answer:
        return await self.call("PUT", path, body, **headers)

    async def patch(self, path: str, body: Any, kind: str = "merge", **headers: str) -> Answer:
        return await self.call("PATCH", path, body, media=PATCH.get(kind, kind), **headers)

    async def delete(self, path: str, body: Any = None, **headers: str) -> Answer:
        return await self.call("DELETE", path, body, **headers)

    async def events(
        self,
        path: str,
        count: int,
        *,
        until: str = "",
        begun: asyncio.Event | None = None,
        seconds: float = PATIENCE,
        **headers: str,
    ) -> list[Any]:
        """The first ``count`` events of a watch, and more up to the one with resourceVersion ``until``; ``begun`` is
        set once it is one."""
        assert self._session is not None
        found: list[Any] = []
        async with asyncio.timeout(seconds), self._session.get(self.url + path, headers=headers) as response:
            assert response.status == 200, await response.read()
            if begun is not None:
                begun.set()
            async for line in response.content:
                found.append(orjson.loads(line))
                reached = not until or found[-1]["object"]["metadata"]["resourceVersion"] == until
                if len(found) >= count and reached:
                    break
        return found
