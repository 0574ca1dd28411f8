"""Reviews sent to a program elsewhere: the server of a kubeconfig decides who somebody is, or who may do what.

Unlike a cluster's API, such a server is asked at exactly the URL of its kubeconfig. Reference: k8s.io/apiserver
``pkg/util/webhook/webhook.go``; texts of errors are Go's, because people search for them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

from orca.api.errors import quote
from orca.api.objects import Obj
from orca.client.clock import Clock, SystemClock
from orca.client.hooks import reason_of, refusal_text
from orca.client.incluster import InCluster
from orca.client.kubeconfig import Endpoint, Kubeconfig, KubeconfigError

TIMEOUT_SECONDS = 30.0
TRIES = 5
FIRST_PAUSE = 0.5
PAUSE_FACTOR = 1.5
PAUSE_JITTER = 0.2
MOST_BYTES = 4 << 20
RELOAD_CHECK_SECONDS = 5.0
_USER_FIELDS = frozenset(
    ("token", "tokenFile", "client-certificate", "client-certificate-data", "client-key", "client-key-data")
)


class PostFailed(Exception):
    """No answer, or none that is one. ``code`` is the HTTP status, 0 without; ``timed_out`` when it took too long;
    ``retry_after`` in seconds, when the server asks to come again."""

    def __init__(
        self, message: str, *, code: int = 0, timed_out: bool = False, reset: bool = False, retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.code = code
        self.timed_out = timed_out
        self.reset = reset
        self.retry_after = retry_after

    @property
    def transient(self) -> bool:
        """Whether to ask again may help (upstream's ``DefaultShouldRetry``)."""
        return self.reset or self.code in (429, 500, 504) or self.retry_after > 0


@dataclass(frozen=True, slots=True)
class Try:
    """One request: how long it took, and what went wrong with it."""

    seconds: float
    error: PostFailed | None


class ReviewCaller:
    """``tried`` hears of each request. Raises KubeconfigError for a kubeconfig that cannot be used.

    Files that the kubeconfig names are read anew when they change, so that certificates and tokens can be renewed.
    """

    def __init__(
        self,
        source: Kubeconfig | InCluster,
        *,
        seconds: float = TIMEOUT_SECONDS,
        clock: Clock | None = None,
        tried: Callable[[Try], None] = lambda _: None,
    ) -> None:
        if isinstance(source, Kubeconfig):
            _refuse_unsupported(source.path)
        self._source = source
        self._seconds = seconds
        self._clock = clock or SystemClock()
        self._tried = tried
        self._endpoint = source.load()
        self._checked = self._clock.monotonic()
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def review(self, review: Obj) -> Obj:
        """The server's answer, after some tries where it fails for the moment. Raises PostFailed."""
        body = orjson.dumps(review)
        pause = FIRST_PAUSE
        for left in reversed(range(TRIES)):
            began = self._clock.monotonic()
            try:
                answer = await self._once(body)
            except PostFailed as error:
                self._tried(Try(self._clock.monotonic() - began, error))
                if not left or not error.transient:
                    raise
            else:
                self._tried(Try(self._clock.monotonic() - began, None))
                return answer
            await self._clock.sleep(pause * (1 + PAUSE_JITTER * random.random()))
            pause *= PAUSE_FACTOR
        raise AssertionError("unreachable")

    async def _once(self, body: bytes) -> Obj:
        endpoint = await self._current()
        shown = f"Post {quote(f'{endpoint.server}?timeout={self._seconds:g}s')}"
        try:
            async with asyncio.timeout(self._seconds):
                status, headers, raw = await self._exchange(endpoint, body)
        except TimeoutError as error:
            raise PostFailed(f"{shown}: context deadline exceeded", timed_out=True) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            lost = isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError | BrokenPipeError)
            raise PostFailed(f"{shown}: {reason_of(error)}", reset=lost) from error
        if not 200 <= status <= 206:
            after = headers.get("Retry-After", "")
            wait = float(after) if after.isdigit() else 0.0
            raise PostFailed(refusal_text(status, raw), code=status, retry_after=wait)
        try:
            answer: Any = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise PostFailed(f"couldn't get version/kind; json parse error: {error}", code=status) from error
        if not isinstance(answer, dict):
            raise PostFailed("couldn't get version/kind; the answer is no object", code=status)
        return answer

    async def _exchange(self, endpoint: Endpoint, body: bytes) -> tuple[int, Any, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=90.0), timeout=aiohttp.ClientTimeout()
            )
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, */*",
            "User-Agent": "kube-apiserver",
        }
        if endpoint.token:
            headers["Authorization"] = f"Bearer {endpoint.token}"
        async with self._session.post(
            endpoint.server,
            params={"timeout": f"{self._seconds:g}s"},
            data=body,
            headers=headers,
            ssl=endpoint.ssl if endpoint.ssl is not None else True,
            server_hostname=endpoint.server_name or None,
            allow_redirects=False,
        ) as response:
            raw = await response.content.read(MOST_BYTES + 1)
            while len(raw) <= MOST_BYTES and (more := await response.content.read(MOST_BYTES)):
                raw += more
            if len(raw) > MOST_BYTES:
                response.close()
                raise PostFailed(f"the response is larger than {MOST_BYTES} bytes", code=response.status)
            return response.status, response.headers, raw

    async def _current(self) -> Endpoint:
        now = self._clock.monotonic()
        if now - self._checked >= RELOAD_CHECK_SECONDS:
            self._checked = now
            try:
                if await asyncio.to_thread(self._source.changed):
                    self._endpoint = await asyncio.to_thread(self._source.load)
            except (KubeconfigError, OSError):
                pass  # between removal and renewal: what is known may still do
        return self._endpoint


def _refuse_unsupported(path: Path) -> None:
    """Raises KubeconfigError for ways to get there or to authenticate that would be left out without a word."""
    try:
        parsed = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise KubeconfigError(f"{path}: {error}") from error
    if not isinstance(parsed, dict):
        raise KubeconfigError(f"{path}: is no kubeconfig")
    for entry in parsed.get("users") or ():
        strange = sorted(set((entry or {}).get("user") or {}) - _USER_FIELDS)
        if strange:
            text = f"user {entry.get('name')!r} has {', '.join(strange)}, which orca does not support here"
            raise KubeconfigError(f"{path}: {text}; use a certificate or a token")
    for entry in parsed.get("clusters") or ():
        if ((entry or {}).get("cluster") or {}).get("proxy-url"):
            raise KubeconfigError(f"{path}: cluster {entry.get('name')!r} has proxy-url, which orca does not support")
