"""`Release`: holds a pod's stop signal back until no host of the cluster sends new connections to it.

Each agent sees EndpointSlices change at its own time; one whose rules still lead to a pod that has got its signal
breaks connections. So the agent of the pod asks: first its own rules, then, in one request for all pods that stop just
now, every other host's agent, which answers as soon as its own rules are written (`/proxy/released?ip=…&seconds=…`, for
nodes only). Agents ask each other and not the API, so any number of API servers may stand between, or none for a while.

A connection whose first packet the pod has not answered is forgotten then: its client sends it again a second later,
and would find nobody.

What cannot be asked does not hold a pod up for long: nodes that stopped reporting are not asked, hosts that do not
answer are not asked again for `SILENT_SECONDS`. An agent that refuses connections is probably starting again while its
rules of before are in force: it is asked again until the time that the caller gave is over.
"""

from __future__ import annotations

import asyncio
import math
import random
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
import orjson
import structlog
from aiohttp import web

from orca.api.objects import Obj, name
from orca.client.clock import Clock, SystemClock
from orca.client.informer import Informer

log = structlog.get_logger()

PATH = "/proxy/released"
COALESCE_SECONDS = 0.005
CONNECT_SECONDS = 1.0
AGAIN_SECONDS = 0.2
SILENT_SECONDS = 60.0
MOST_PEERS = 128
"""In a larger cluster so many hosts, chosen at random, are asked; the others get as long again as the slowest took."""
SIDE_BY_SIDE = 32
TRUST_SECONDS = 600.0
"""After so long the certificate is read again, which may have been renewed."""
LONGEST_ANSWER_SECONDS = 30.0
LONGEST_ANSWER = 1024
"""Bytes."""
MOST_ADDRESSES = 256
"""In one question."""
AGENT_PORT = 10250


class Rules(Protocol):
    """``agents.proxy.Proxy``: the rules of this host."""

    async def synced(self) -> None:
        """Return once all Services known at the start are in the kernel."""

    def knows(self, ip: str) -> bool:
        """Whether ``ip`` is an endpoint of any Service, or has been a moment ago."""

    async def released(self, ip: str) -> bool:
        """Return once no Service sends new connections to ``ip`` on this host."""

    async def forget_unanswered(self, ips: Iterable[str]) -> None:
        """Let connections that these endpoints have not answered begin anew elsewhere."""


@dataclass(frozen=True, slots=True, order=True)
class Peer:
    """Another host's agent."""

    name: str
    url: str


@dataclass(slots=True)
class _Round:
    """Addresses that are asked for together; ``deadline`` is the last of those who wait."""

    ips: set[str] = field(default_factory=set)
    deadline: float = 0.0
    done: asyncio.Task[None] | None = None


def peers_of(nodes: Iterable[Obj], own_name: str) -> list[Peer]:
    """Whom to ask: all other nodes that have an address and whose agents were heard of lately."""
    found = []
    for node in nodes:
        if name(node) == own_name:
            continue
        status = node.get("status") or {}
        reported: Obj = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), {})
        if reported.get("status") == "Unknown":
            continue
        addresses = [one["address"] for one in status.get("addresses") or () if one.get("type") == "InternalIP"]
        if addresses:
            host = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
            port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or AGENT_PORT
            found.append(Peer(name(node), f"https://{host}:{port}{PATH}"))
    return sorted(found)


class Release:
    """See the module. ``trust`` answers the TLS context with this node's client certificate and the cluster's CA; it
    may read files. A host without others beside it never calls it."""

    def __init__(
        self,
        rules: Rules,
        nodes: Informer,
        node_name: str,
        *,
        trust: Callable[[], ssl.SSLContext | None],
        clock: Clock | None = None,
    ) -> None:
        self._rules = rules
        self._nodes = nodes
        self._node_name = node_name
        self._trust = trust
        self._clock = clock or SystemClock()
        self._silent: dict[str, float] = {}
        self._round: _Round | None = None
        self._session: aiohttp.ClientSession | None = None
        self._connecting = asyncio.Lock()
        self._connected_at = 0.0
        self._places = asyncio.Semaphore(SIDE_BY_SIDE)

    def __repr__(self) -> str:
        return f"<Release of {self._node_name}, {len(self._silent)} silent>"

    async def aclose(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --- asking ------------------------------------------------------------------------------------------------------

    async def released(self, ips: Sequence[str], seconds: float) -> bool:
        """Return once no host's Services send new connections to ``ips``, at the latest after ``seconds``.

        True when every host that counts has confirmed it; False also when no Service leads there.
        """
        began = self._clock.monotonic()
        try:
            # After an outage of the API a pod's end may be heard of seconds before the end of its endpoint is.
            async with asyncio.timeout(seconds):
                # An agent that has just started knows nothing yet.
                await self._rules.synced()
                used = [ip for ip in ips if self._rules.knows(ip)]
                if not used:
                    return False
                for ip in used:
                    await self._rules.released(ip)
                await self._rules.forget_unanswered(used)
            left = seconds - (self._clock.monotonic() - began)
            async with asyncio.timeout(left):
                await asyncio.shield(self._join_round(used, left))
        except TimeoutError:
            return False
        return True

    def _join_round(self, ips: Iterable[str], seconds: float) -> asyncio.Task[None]:
        current = self._round
        if current is None or current.done is None or len(current.ips) >= MOST_ADDRESSES:
            current = self._round = _Round()
            current.done = asyncio.create_task(self._ask_all(current))
        current.ips.update(ips)
        current.deadline = max(current.deadline, self._clock.monotonic() + seconds)
        return current.done

    async def _ask_all(self, asked: _Round) -> None:
        # Pods that stop together (a drain, a rollout) cost each host one question.
        await self._clock.sleep(COALESCE_SECONDS)
        if self._round is asked:
            self._round = None
        now = self._clock.monotonic()
        self._silent = {peer: until for peer, until in self._silent.items() if until > now}
        peers = [peer for peer in peers_of(self._nodes.list(), self._node_name) if peer.name not in self._silent]
        chosen = random.sample(peers, MOST_PEERS) if len(peers) > MOST_PEERS else peers
        if not chosen:
            return
        await asyncio.gather(*(self._ask(peer, sorted(asked.ips), asked.deadline) for peer in chosen))
        if len(chosen) < len(peers):
            await self._clock.sleep(min(self._clock.monotonic() - now, asked.deadline - self._clock.monotonic()))

    async def _ask(self, peer: Peer, ips: Sequence[str], deadline: float) -> None:
        """Until the peer has answered or is known not to; never raises what the network does."""
        async with self._places:
            while True:
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    self._hush(peer, "it did not answer in time")
                    return
                try:
                    if await self._question(peer, ips, left):
                        self._silent.pop(peer.name, None)
                    return
                except aiohttp.ClientConnectorCertificateError as error:
                    self._hush(peer, str(error))
                    return
                except (ConnectionError, aiohttp.ServerConnectionError, aiohttp.ClientOSError) as error:
                    if isinstance(error, aiohttp.ServerTimeoutError) or _host_is_away(error):
                        self._hush(peer, str(error) or type(error).__name__)
                        return
                    await self._clock.sleep(AGAIN_SECONDS)
                except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                    self._hush(peer, str(error) or type(error).__name__)
                    return

    async def _question(self, peer: Peer, ips: Sequence[str], seconds: float) -> bool:
        """Whether the peer says that its rules let go of them, within ``seconds``."""
        session = await self._connected()
        query = [*(("ip", ip) for ip in ips), ("seconds", f"{seconds:.3f}")]
        limits = aiohttp.ClientTimeout(total=seconds + CONNECT_SECONDS, sock_connect=CONNECT_SECONDS)
        # What another host says is not trusted further than that: it must not hold a pod's end up, nor fill the memory.
        async with session.get(peer.url, params=query, timeout=limits, allow_redirects=False) as answer:
            if answer.status != 200:
                raise ValueError(f"answered {answer.status}")
            told = orjson.loads(await answer.content.read(LONGEST_ANSWER))
        if not isinstance(told, dict):
            raise ValueError("answered something else")
        return bool(told.get("released"))

    async def _connected(self) -> aiohttp.ClientSession:
        async with self._connecting:
            now = self._clock.monotonic()
            if self._session is not None and now - self._connected_at > TRUST_SECONDS:
                await self.aclose()
            if self._session is None:
                self._connected_at = now
                trust = await asyncio.to_thread(self._trust)
                connector = aiohttp.TCPConnector(
                    limit=0, ssl=trust if trust is not None else True, keepalive_timeout=60
                )
                self._session = aiohttp.ClientSession(connector=connector)
            return self._session

    def _hush(self, peer: Peer, why: str) -> None:
        log.warning("a host does not say whether its rules let go of pods", host=peer.name, why=why)
        self._silent[peer.name] = self._clock.monotonic() + SILENT_SECONDS

    # --- answering ---------------------------------------------------------------------------------------------------

    async def serve(self, request: web.Request) -> web.Response:
        """The answer to another host's question: `{"released": true}`, or false when the time was not enough."""
        ips = request.query.getall("ip", [])
        try:
            seconds = float(request.query.get("seconds", "1"))
        except ValueError:
            seconds = math.nan
        if math.isnan(seconds):
            return web.Response(status=400, text="seconds is not a number\n")
        if not ips or len(ips) > 2 * MOST_ADDRESSES:
            return web.Response(status=400, text=f"ask for 1 to {2 * MOST_ADDRESSES} addresses\n")
        done = True
        try:
            async with asyncio.timeout(min(seconds, LONGEST_ANSWER_SECONDS)):
                for ip in ips:
                    await self._rules.released(ip)
                await self._rules.forget_unanswered(ips)
        except TimeoutError:
            done = False
        return web.Response(body=orjson.dumps({"released": done}), content_type="application/json")


def _host_is_away(error: BaseException) -> bool:
    """No route or no answer: not a host whose agent is just starting."""
    reason = getattr(error, "os_error", error)
    return isinstance(reason, TimeoutError) or getattr(reason, "errno", None) in (101, 110, 113)
