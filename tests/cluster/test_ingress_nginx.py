"""The real nginx of the ingress image under the engine that runs it, with requests through it; no cluster."""

from __future__ import annotations

import asyncio
import http.client
import random
import socket
import ssl
import string
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from orca.client.clock import SystemClock
from orca.ingress import nginx
from orca.ingress.certificates import certificate, self_signed
from orca.ingress.engine import Engine, Refused
from orca.ingress.host import Host
from orca.ingress.model import Certificate, Pool, Routing, Users
from tests.support import nginx as support
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.tls import Authority
from tests.unit.ingress import examples
from tests.unit.ingress.objects import endpoint, ingress, path, piece, routed, service, world

WHO = web.AppKey("who", str)
REPO = Path(__file__).parents[2]


@dataclass
class Edge:
    """nginx, and what asks it."""

    engine: Engine
    host: Host
    session: aiohttp.ClientSession

    async def serve(self, routing: Routing) -> bool:
        await self.engine.set_live(routing)
        return await self.engine.configure(nginx.render(routing, self.host), routing)

    async def ask(
        self, host: str, target: str = "/", method: str = "GET", **how: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body (parsed when it is JSON) and headers of one request on a connection of its own."""
        headers = {"Host": host, **how.pop("headers", {})}
        url = f"http://127.0.0.1:{self.host.http_port}{target}"
        async with self.session.request(method, url, headers=headers, allow_redirects=False, **how) as got:
            body = await got.json() if got.content_type == "application/json" else await got.text()
            return got.status, body, got.headers


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return support.unpack(tmp_path_factory.mktemp("nginx"))


@asynccontextmanager
async def edge_of(tree: Path, state: Path, *trusted: str) -> AsyncIterator[Edge]:
    host = Host(
        state,
        (REPO / "orca/ingress", tree / "usr/share/lua/5.1"),
        modules=tree / "usr/lib/nginx/modules",
        http_port=free_port(),
        https_port=free_port(),
        user="root",
        workers="2",
        connections=512,
        drain_seconds=60,
        trusted=trusted,
    )
    engine = Engine(host, binary=str(support.program(tree)), clock=SystemClock())
    engine.prepare(self_signed(SystemClock()))
    running = asyncio.create_task(engine.run())
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(PATIENCE)
    )
    try:
        yield Edge(engine, host, session)
    finally:
        await session.close()
        running.cancel()
        await asyncio.wait([running])


@pytest.fixture
async def edge(tree: Path, tmp_path: Path) -> AsyncIterator[Edge]:
    async with edge_of(tree, tmp_path / "state") as made:
        yield made


Serve = Callable[[str], Awaitable[str]]


@pytest.fixture
async def backends() -> AsyncIterator[Serve]:
    """Starts a backend that tells its name and what it was asked; answers its address."""
    runners = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade") == "websocket":
            channel = web.WebSocketResponse()
            await channel.prepare(request)
            async for message in channel:
                await channel.send_str(f"echo {message.data}")
            return channel
        sent = len(await request.read())
        told = {"who": request.app[WHO], "path": request.raw_path, "headers": dict(request.headers), "sent": sent}
        return web.json_response(told)

    async def serve(who: str) -> str:
        app = web.Application(client_max_size=1 << 24)
        app[WHO] = who
        app.router.add_route("*", "/{rest:.*}", answer)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return f"127.0.0.1:{port}"

    yield serve
    for runner in runners:
        await runner.cleanup()


def leading_to(routing: Routing, *peers: str) -> Routing:
    """The same with other endpoints everywhere."""
    return replace(routing, pools={name: Pool(name, peers) for name in routing.pools})


def issued(authority: Authority, *hosts: str) -> Certificate:
    """A new pair of a TLS Secret."""
    files = authority.files(hosts[0], *hosts)
    data = {
        "tls.crt": b64encode(files.cert.read_bytes()).decode(),
        "tls.key": b64encode(files.key.read_bytes()).decode(),
    }
    made = certificate({"metadata": {"name": "pair"}, "data": data}, "shop/pair")
    assert isinstance(made, Certificate), made
    return made


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_cluster_without_an_ingress(edge: Edge) -> None:
    await edge.serve(routed())
    assert (await edge.ask("a.test"))[0] == 404
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.host.http_port)
    writer.write(b"nonsense\r\n\r\n")
    assert b"400 Bad Request" in await reader.read()
    writer.close()


async def test_nginx_takes_the_golden_configuration(edge: Edge, authority: Authority) -> None:
    made = issued(authority, "a.test", "*.w.test")
    routing = examples.everything()
    await edge.serve(replace(routing, certificates={"pair.pem": replace(made, file="pair.pem")}))
    assert (await edge.ask("shut.test"))[0] == 503
    status, _, headers = await edge.ask("old.test", "/deep?x=1")
    assert (status, headers["Location"]) == (301, "https://a.test/deep?x=1")
    status, _, headers = await edge.ask("a.test", "/any")
    assert (status, headers["Location"]) == (308, "https://a.test/any")
    assert (await edge.ask("admin.test"))[0] == 401


async def test_requests_find_their_way(edge: Edge, backends: Serve) -> None:
    address = await backends("web")
    routing = routed(
        ingress(path("/"), path("/exact", "Exact"), name="site"),
        ingress(path("/api(/|$)(.*)", "ImplementationSpecific"), name="api", ask={"rewrite-target": "/v1/$2"}),
        ingress(path("/"), name="wild", host="*.w.test", ask={"upstream-vhost": "inner"}),
        ingress(path("/"), name="local", host="l.test", ask={"whitelist-source-range": "10.0.0.0/8"}),
        ingress(path("/"), name="small", host="s.test", ask={"proxy-body-size": "10"}),
        ingress(path("/"), name="root", host="r.test", ask={"app-root": "/start"}),
        ingress(
            path("/"), name="cors", host="c.test", ask={"enable-cors": "true", "cors-allow-origin": "https://*.o.test"}
        ),
        ingress(path("/"), name="who", host="who.test", ask={"auth-type": "basic", "auth-secret": "who"}),
        ingress(path('/od"d {$x;'), name="odd", host="odd.test"),
        around=world(users={"shop/who": Users("u", b"ann:{PLAIN}secret\n")}),
    )
    await edge.serve(leading_to(routing, address))

    status, told, _ = await edge.ask("a.test", "/a%20b?q=1", headers={"X-Forwarded-For": "6.6.6.6"})
    assert (status, told["path"]) == (200, "/a%20b?q=1")
    headers = told["headers"]
    assert headers["Host"] == "a.test"
    assert headers["X-Forwarded-For"] == headers["X-Real-IP"] == "127.0.0.1"
    assert (headers["X-Forwarded-Proto"], headers["X-Forwarded-Port"]) == ("http", "80")
    assert headers["X-Original-Forwarded-For"] == "6.6.6.6"
    assert len(headers["X-Request-ID"]) == 32

    assert (await edge.ask("a.test", "/API/x?y=1"))[1]["path"] == "/v1/x?y=1"
    assert (await edge.ask("one.w.test"))[1]["headers"]["Host"] == "inner"
    for unknown in ("two.one.w.test", "w.test", "nobody"):
        assert (await edge.ask(unknown))[0] == 404
    assert (await edge.ask("l.test"))[0] == 403
    assert (await edge.ask("s.test", method="POST", data=b"x" * 11))[0] == 413
    assert (await edge.ask("s.test", method="POST", data=b"x" * 10))[1]["sent"] == 10
    assert (await edge.ask("r.test"))[2]["Location"] == "/start"
    assert (await edge.ask("r.test", "/else"))[0] == 200
    assert (await edge.ask("odd.test", "/od%22d%20%7B$x%3B/y"))[0] == 200

    status, _, headers = await edge.ask("c.test", "/", "OPTIONS", headers={"Origin": "https://x.o.test"})
    assert (status, headers["Access-Control-Allow-Origin"]) == (204, "https://x.o.test")
    assert "Access-Control-Allow-Origin" not in (await edge.ask("c.test", headers={"Origin": "https://evil.test"}))[2]

    assert (await edge.ask("who.test"))[0] == 401
    assert (await edge.ask("who.test", headers={"Authorization": f"Basic {b64encode(b'ann:secret').decode()}"}))[
        0
    ] == 200

    url = f"ws://127.0.0.1:{edge.host.http_port}/"
    async with edge.session.ws_connect(url, headers={"Host": "a.test"}) as channel:
        await channel.send_str("hello")
        assert (await channel.receive_str(timeout=PATIENCE)) == "echo hello"

    counts = await edge.engine.counts()
    assert "shop/local shop/web:80 403 1" in counts.splitlines()


async def test_a_trusted_proxy_says_who_asks_and_how(tree: Path, tmp_path: Path, backends: Serve) -> None:
    said = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "8443"}
    routing = leading_to(routed(ingress(path("/"), ask={"force-ssl-redirect": "true"})), await backends("web"))
    async with edge_of(tree, tmp_path / "state", "127.0.0.0/8", "fd00::/8") as edge:
        await edge.serve(routing)
        status, told, _ = await edge.ask("a.test", headers=said)
        assert (status, told["headers"]["X-Real-IP"]) == (200, "6.6.6.6")
        assert told["headers"]["X-Forwarded-Proto"] == "https"
        assert told["headers"]["X-Forwarded-Port"] == "8443"
        assert told["headers"]["X-Forwarded-For"].startswith("6.6.6.6")
        assert (await edge.ask("a.test"))[0] == 308
    async with edge_of(tree, tmp_path / "other", "10.0.0.0/8") as edge:
        await edge.serve(routing)
        assert (await edge.ask("a.test", headers=said))[0] == 308


async def test_endpoints_change_without_a_reload(edge: Edge, backends: Serve) -> None:
    first, second = await backends("first"), await backends("second")
    routing = routed(ingress(path("/")))
    assert await edge.serve(leading_to(routing))
    assert (await edge.ask("a.test"))[0] == 503
    assert not await edge.serve(leading_to(routing, first))
    assert (await edge.ask("a.test"))[1]["who"] == "first"
    assert not await edge.serve(leading_to(routing, first, second))
    assert {(await edge.ask("a.test"))[1]["who"] for _ in range(10)} == {"first", "second"}
    assert not await edge.serve(leading_to(routing, second))
    assert {(await edge.ask("a.test", method="POST"))[1]["who"] for _ in range(4)} == {"second"}
    assert edge.engine.reloads == 1


async def test_an_endpoint_that_is_dead_costs_no_request(edge: Edge, backends: Serve) -> None:
    alive, dead = await backends("alive"), f"127.0.0.1:{free_port()}"
    await edge.serve(leading_to(routed(ingress(path("/"))), alive, dead))
    for method in ("GET", "POST"):
        assert {(await edge.ask("a.test", method=method, data=b"x"))[0] for _ in range(20)} == {200}


async def test_a_cookie_leads_back(edge: Edge, backends: Serve) -> None:
    both = [await backends("first"), await backends("second")]
    await edge.serve(leading_to(routed(ingress(path("/"), ask={"affinity": "cookie"})), *both))
    _, told, headers = await edge.ask("a.test")
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert "HttpOnly" in headers["Set-Cookie"]
    again = [await edge.ask("a.test", headers={"Cookie": cookie}) for _ in range(10)]
    assert {one[1]["who"] for one in again} == {told["who"]}
    assert all("Set-Cookie" not in one[2] for one in again)
    gone = [one for one in both if told["who"] not in one][:1] or both[:1]
    await edge.serve(leading_to(routed(ingress(path("/"), ask={"affinity": "cookie"})), *gone))
    assert (await edge.ask("a.test", headers={"Cookie": cookie}))[0] == 200


async def test_certificates_by_name(edge: Edge, backends: Serve, authority: Authority) -> None:
    address = await backends("web")
    made = issued(authority, "a.test", "*.w.test")
    around = world(certificates={"shop/pair": made})
    listed = [{"hosts": ["a.test", "*.w.test"], "secretName": "pair"}]
    routing = routed(
        ingress(path("/"), tls=listed), ingress(path("/"), name="w", host="*.w.test", tls=listed), around=around
    )
    await edge.serve(leading_to(routing, address))
    trusting = ssl.create_default_context(cafile=str(authority.pair.cert))

    async def over_tls(name: str) -> dict[str, Any]:
        url = f"https://127.0.0.1:{edge.host.https_port}/"
        async with edge.session.get(url, headers={"Host": name}, ssl=trusting, server_hostname=name) as got:
            found: dict[str, Any] = await got.json()
            return found

    told = await over_tls("a.test")
    assert (told["headers"]["X-Forwarded-Proto"], told["headers"]["X-Forwarded-Port"]) == ("https", "443")
    assert (await over_tls("x.w.test"))["who"] == "web"
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await over_tls("other.test")
    plain = ssl.create_default_context()
    plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
    plain.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", edge.host.https_port)) as raw,
        plain.wrap_socket(raw, server_hostname="a.test") as secured,
    ):
        assert secured.selected_alpn_protocol() == "h2"


async def test_no_request_fails_while_everything_changes(edge: Edge, backends: Serve, authority: Authority) -> None:
    addresses = [await backends(f"pod-{number}") for number in range(4)]
    routing = routed(ingress(path("/")))
    await edge.serve(leading_to(routing, *addresses))
    failures: list[object] = []
    done = 0
    over = False

    async def client(method: str, kept: bool) -> None:
        """``kept``: over a connection that stays, by a client that tries nothing again."""
        nonlocal done
        talk = http.client.HTTPConnection("127.0.0.1", edge.host.http_port, timeout=30)
        while not over:
            try:
                await asyncio.to_thread(talk.request, method, "/", b"x", {"Host": "a.test"})
                answer = await asyncio.to_thread(talk.getresponse)
                await asyncio.to_thread(answer.read)
                if answer.status != 200:
                    failures.append(answer.status)
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
                talk.close()
            else:
                if not kept or "close" in answer.headers.get_all("Connection", []):
                    talk.close()
            done += 1
            await asyncio.sleep(0.005)

    clients = [asyncio.create_task(client(method, kept)) for method in ("GET", "POST") for kept in (True, False)]
    for turn in range(8):
        made = issued(authority, "a.test")
        around = world(certificates={"shop/pair": made})
        changed = routed(
            ingress(path("/"), tls=[{"hosts": ["a.test"], "secretName": "pair"}], ask={"ssl-redirect": "false"}),
            *[ingress(path("/"), name=f"more-{number}", host=f"m{number}.test") for number in range(turn // 2)],
            around=around,
        )
        await edge.serve(leading_to(changed, *addresses[turn % 4 :], f"127.0.0.1:{free_port()}"))
        await asyncio.sleep(0.1)
    async with asyncio.timeout(PATIENCE):
        while done <= 200:  # noqa: ASYNC110 - it is their number that counts
            await asyncio.sleep(0.1)
    over = True
    await asyncio.gather(*clients)
    assert failures == []
    assert edge.engine.reloads == 4  # of eight changes of certificate and endpoints, three were more than that


async def test_a_refused_configuration_changes_nothing_and_names_whose_it_is(edge: Edge, backends: Serve) -> None:
    good = ingress(path("/"), name="good")
    await edge.serve(leading_to(routed(good), await backends("web")))
    bad = ingress(path("/x(", "ImplementationSpecific"), name="bad", ask={"use-regex": "true"})
    routing = routed(good, bad)
    rendered = nginx.render(routing, edge.host)
    with pytest.raises(Refused) as refused:
        await edge.engine.configure(rendered, routing)
    assert rendered.culprit(refused.value.line) == "shop/bad"
    assert "missing" in refused.value.message
    assert str(edge.host.state) not in refused.value.message
    assert (await edge.ask("a.test"))[0] == 200


async def test_nginx_that_dies_is_started_again(edge: Edge, backends: Serve) -> None:
    await edge.serve(leading_to(routed(ingress(path("/"))), await backends("web")))
    assert edge.engine._process is not None
    edge.engine._process.kill()
    await asyncio.sleep(0.2)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                if (await edge.ask("a.test"))[0] == 200:
                    break
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


async def test_nginx_reads_hostile_paths_as_paths(edge: Edge) -> None:
    """Hundreds of odd paths in one configuration: nginx takes it, and it says no more than it should."""
    dice = random.Random(7)
    alphabet = "\"'\\;{}#$ |*?<>=~^%" + string.ascii_letters
    kinds = ["Exact", "Prefix", "ImplementationSpecific"]
    odd = [path("/" + "".join(dice.choices(alphabet, k=12)), dice.choice(kinds)) for _ in range(300)]
    ingresses = [ingress(one, name=f"odd-{at}", host=f"h{at}.test") for at, one in enumerate(odd)]
    routing = routed(
        *ingresses, ingress(path("/"), name="last", host="z.test"), around=world(pieces=[piece(endpoint("127.0.0.1"))])
    )
    await edge.serve(leading_to(routing))
    assert (await edge.ask("z.test"))[0] == 503
    assert (await edge.ask("h1.test", "/plain"))[0] == 404


async def test_external_names_are_looked_up(edge: Edge) -> None:
    routing = routed(ingress(path("/")), around=world(service(type="ExternalName", externalName="127.0.0.1")))
    assert routing.pools == {}
    await edge.serve(routing)
    assert (await edge.ask("a.test"))[0] in (502, 503)
