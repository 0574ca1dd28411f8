"""Probes in virtual time, and handlers against real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agents.probes.handlers import Handlers, NoSuchPort, Target, port_number
from agents.probes.outcome import Outcome
from agents.probes.prober import ContainerProbes
from agents.probes.tracker import ProbeSpec, Tracker, probe_specs
from agents.runtime.model import ExecResult
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from tests.support.patience import PATIENCE
from tests.support.tls import Authority, serving


def test_defaults_are_upstreams() -> None:
    assert probe_specs({"livenessProbe": {"httpGet": {"port": 80}}})["liveness"] == ProbeSpec(
        "liveness", {"httpGet": {"port": 80}}, 0, 10, 1, 1, 3
    )


@pytest.mark.parametrize(
    ("results", "verdicts"),
    [
        ("++", [True, True]),
        ("---", [None, None, False]),
        ("+--+--", [True, True, True, True, True, True]),
        ("+---", [True, True, True, False]),
        ("---+", [None, None, False, True]),
    ],
)
def test_thresholds_need_a_row(results: str, verdicts: list[bool | None]) -> None:
    tracker = Tracker(ProbeSpec("readiness", {}, 0, 10, 1, 1, 3))
    seen = []
    for result in results:
        tracker.feed(result == "+")
        seen.append(tracker.verdict)
    assert seen == verdicts


class Script(Handlers):
    """Answers as told, and remembers when it was asked."""

    def __init__(self, clock: VirtualClock, answers: dict[str, str]) -> None:
        self._clock = clock
        self._answers = {kind: iter(text) for kind, text in answers.items()}
        self.asked: list[tuple[str, float]] = []

    async def run(self, handler: Obj, target: Target, seconds: float) -> Outcome:
        kind = handler["exec"]["command"][0]
        self.asked.append((kind, self._clock.monotonic()))
        answer = next(self._answers[kind], "+")
        return Outcome(answer == "+", "bad", unknown=answer == "?")


def container(**probes: Obj) -> Obj:
    return {"name": "c", **{f"{kind}Probe": {"exec": {"command": [kind]}, **more} for kind, more in probes.items()}}


class Watcher:
    def __init__(self, clock: VirtualClock, spec: Obj, **answers: str) -> None:
        self.handlers = Script(clock, answers)
        self.verdicts: list[tuple[float, str, bool]] = []
        self.failures: list[str] = []
        self.probes = ContainerProbes(
            self.handlers,
            clock,
            Target("id", spec, "127.0.0.1"),
            clock.now(),
            lambda _, kind, ok: self.verdicts.append((clock.monotonic(), kind, ok)),
            lambda _, kind, outcome: self.failures.append(f"{kind} {outcome.text}"),
        )


async def test_what_could_not_be_tried_counts_for_nothing() -> None:
    clock = VirtualClock()
    watched = Watcher(clock, container(liveness={"failureThreshold": 2}), liveness="-?-")
    watched.probes.start(started=False)
    await clock.advance(15)
    assert watched.verdicts == []
    await clock.advance(15)
    assert watched.verdicts == [(20, "liveness", False)]
    assert len(watched.failures) == 3, "it is told all the same"


@pytest.mark.parametrize(
    ("stands_still", "bearable", "verdicts"), [(0.2, 0.1, []), (0.0, 60.0, [(0.0, "liveness", False)])]
)
async def test_a_try_during_which_the_agent_stood_still_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, stands_still: float, bearable: float, verdicts: list[tuple[float, str, bool]]
) -> None:
    monkeypatch.setattr("agents.probes.prober.LATE_SECONDS", bearable)
    monkeypatch.setattr("agents.probes.prober.probe_specs", lambda _: {"liveness": quick})
    quick: Any = ProbeSpec("liveness", {"exec": {"command": ["liveness"]}}, 0, 10, 0.02, 1, 1)
    clock = VirtualClock()
    watched = Watcher(clock, container(liveness={}))
    tried = asyncio.Event()

    async def run(handler: Obj, target: Target, seconds: float) -> Outcome:
        try:
            async with asyncio.timeout(seconds):
                time.sleep(stands_still)  # noqa: ASYNC251 - as when the process is stopped
                await asyncio.sleep(60)
        except TimeoutError:
            tried.set()
        return Outcome(False, "late")

    monkeypatch.setattr(watched.handlers, "run", run)
    watched.probes.start(started=False)
    async with asyncio.timeout(PATIENCE):
        await tried.wait()
    await clock.settle()
    assert watched.verdicts == verdicts
    assert watched.failures == ["liveness late"]
    await watched.probes.stop()


async def test_an_agent_that_comes_back_does_not_ask_all_at_once() -> None:
    clock = VirtualClock()
    watched = [Watcher(clock, container(readiness={}), readiness="") for _ in range(20)]
    for one in watched:
        one.probes.start(started=True, spread=True)
    await clock.advance(11)
    first = [one.handlers.asked[0][1] for one in watched]
    assert len(set(first)) > 10
    assert max(first) <= 10


async def test_delay_period_and_threshold() -> None:
    clock = VirtualClock()
    spec = container(liveness={"initialDelaySeconds": 5, "periodSeconds": 3, "failureThreshold": 2})
    watched = Watcher(clock, spec, liveness="+--")
    watched.probes.start(started=False)
    await clock.advance(60)
    assert watched.handlers.asked == [("liveness", 5), ("liveness", 8), ("liveness", 11)]
    assert watched.verdicts == [(5, "liveness", True), (11, "liveness", False)]
    assert watched.failures == ["liveness bad", "liveness bad"]
    await watched.probes.stop()


async def test_startup_holds_the_others_back() -> None:
    clock = VirtualClock()
    spec = container(startup={"periodSeconds": 2}, readiness={"periodSeconds": 4})
    watched = Watcher(clock, spec, startup="--+", readiness="")
    watched.probes.start(started=False)
    await clock.advance(9)
    assert [when for kind, when in watched.handlers.asked if kind == "startup"] == [0, 2, 4]
    assert [when for kind, when in watched.handlers.asked if kind == "readiness"] == [4, 8]
    await watched.probes.stop()


async def test_a_container_that_had_started_is_not_asked_for_startup_again() -> None:
    clock = VirtualClock()
    watched = Watcher(clock, container(startup={}, liveness={}), startup="-", liveness="")
    watched.probes.start(started=True)
    await clock.advance(1)
    assert [kind for kind, _ in watched.handlers.asked] == ["liveness"]
    await watched.probes.stop()


async def test_stopping_leaves_no_task() -> None:
    clock = VirtualClock()
    before = asyncio.all_tasks()
    watched = Watcher(clock, container(liveness={}, readiness={}))
    watched.probes.start(started=False)
    await clock.advance(1)
    await watched.probes.stop()
    assert asyncio.all_tasks() == before


class Executor:
    def __init__(self, code: int = 0, output: bytes = b"", hang: bool = False) -> None:
        self.result, self.hang = ExecResult(code, output), hang

    async def exec(self, container_id: str, argv: Any, *, seconds: float) -> ExecResult:
        if self.hang:
            raise TimeoutError
        return self.result


TARGET = Target("id", {"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}, "127.0.0.1")


@pytest.mark.parametrize(
    ("executor", "ok", "text"),
    [
        (Executor(), True, ""),
        (Executor(1, b"no"), False, "no"),
        (Executor(hang=True), False, 'command timed out: "x" timed out after 1s'),
    ],
)
async def test_exec(executor: Executor, ok: bool, text: str) -> None:
    outcome = await Handlers(executor).run({"exec": {"command": ["x"]}}, TARGET, 1)
    assert (outcome.ok, outcome.text) == (ok, text)


@pytest.fixture
async def port() -> Any:
    """A server: /ok, /bad, /to-ok, /elsewhere, /slow (until the test ends)."""
    closing = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        match request.path:
            case "/bad":
                return web.Response(status=500)
            case "/to-ok":
                raise web.HTTPFound("/ok")
            case "/elsewhere":
                raise web.HTTPFound("http://192.0.2.1/")
            case "/slow":
                await closing.wait()
        assert request.headers["User-Agent"].startswith("kube-probe/")
        return web.Response(text=request.headers.get("X-A", ""))

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = site._server
    yield server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    closing.set()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "ok", "text"),
    [
        ("/ok", True, "1"),
        ("/bad", False, "HTTP probe failed with statuscode: 500"),
        ("/to-ok", True, "1"),
        ("/elsewhere", True, "Probe terminated redirects"),
        ("/slow", False, "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
    ],
)
async def test_http(port: int, path: str, ok: bool, text: str) -> None:
    handlers = Handlers(Executor())
    action = {"port": port, "path": path, "httpHeaders": [{"name": "X-A", "value": "1"}]}
    outcome = await handlers.run({"httpGet": action}, TARGET, 0.3 if path == "/slow" else PATIENCE)
    assert outcome.ok is ok
    assert text in outcome.text
    await handlers.aclose()


async def test_a_hook_asks_and_takes_whatever_is_answered() -> None:
    asked: list[tuple[str, str, str | None]] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append((request.scheme, request.headers["User-Agent"], request.headers.get("Authorization")))
        return web.Response(status=500)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    handlers = Handlers(Executor())
    action = {"port": port, "httpHeaders": [{"name": "Authorization", "value": "secret"}]}
    assert (await handlers.run_hook({"httpGet": action}, TARGET, PATIENCE)).ok
    assert (await handlers.run_hook({"httpGet": {**action, "scheme": "HTTPS"}}, TARGET, PATIENCE)).ok, (
        "asked again without TLS"
    )
    assert asked == [("http", "kube-lifecycle/1.36", "secret"), ("http", "kube-lifecycle/1.36", None)]
    assert not (await handlers.run_hook({"httpGet": {"port": free_port()}}, TARGET, 1)).ok
    assert not (await handlers.run_hook({"tcpSocket": {"port": port}}, TARGET, 1)).ok, "no longer a hook"
    await handlers.aclose()
    await runner.cleanup()


async def test_https_needs_no_certificate_that_anybody_trusts(tmp_path: Path) -> None:
    seen: list[tuple[str, str | None]] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.headers["Host"], request.headers.get("Accept")))
        return web.Response(text="fine")

    handlers = Handlers(Executor())
    async with serving(answer, Authority(tmp_path).server_context("somebody.else")) as port:
        headers = [{"name": "Host", "value": "web.example"}, {"name": "Accept", "value": "text/x"}]
        action = {"port": port, "scheme": "HTTPS", "host": "127.0.0.1", "httpHeaders": headers}
        outcome = await handlers.run({"httpGet": action}, Target("id", {"name": "c"}, "192.0.2.1"), PATIENCE)
    assert (outcome.ok, outcome.text) == (True, "fine")
    assert seen == [("web.example", "text/x")]
    await handlers.aclose()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


async def test_refused_connections_are_told_as_go_does(port: int) -> None:
    handlers, closed = Handlers(Executor()), free_port()
    refused = f"dial tcp 127.0.0.1:{closed}: connect: connection refused"
    outcome = await handlers.run({"httpGet": {"port": closed}}, TARGET, PATIENCE)
    assert outcome.text == f'Get "http://127.0.0.1:{closed}/": {refused}'
    assert (await handlers.run({"tcpSocket": {"port": closed}}, TARGET, PATIENCE)).text == refused
    assert (await handlers.run({"tcpSocket": {"port": port}}, TARGET, PATIENCE)).ok
    plain = await handlers.run({"httpGet": {"port": port, "scheme": "HTTPS"}}, TARGET, PATIENCE)
    assert plain.text == f'Get "https://127.0.0.1:{port}/": http: server gave HTTP response to HTTPS client'
    late = "within 1s: context deadline exceeded"
    for number in (closed, port):  # nothing listens, or something that speaks no HTTP/2
        outcome = await handlers.run({"grpc": {"port": number}}, TARGET, 1)
        assert outcome.text == f'timeout: failed to connect service "127.0.0.1:{number}" {late}'
    await handlers.aclose()


async def test_grpc_against_a_real_server() -> None:
    grpc = pytest.importorskip("grpc")
    served = {b"": b"\x08\x01", b"\x0a\x03off": b"\x08\x02"}

    async def check(request: bytes, context: Any) -> bytes:
        if request not in served:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return served[request]

    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
            )
        ]
    )
    number = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    handlers = Handlers(Executor())
    assert (await handlers.run({"grpc": {"port": number}}, TARGET, PATIENCE)).ok
    off = await handlers.run({"grpc": {"port": number, "service": "off"}}, TARGET, PATIENCE)
    assert off.text == 'service unhealthy (responded with "NOT_SERVING")'
    assert not (await handlers.run({"grpc": {"port": number, "service": "zzz"}}, TARGET, PATIENCE)).ok
    await server.stop(None)


def test_named_ports() -> None:
    assert port_number("web", TARGET.container) == 8080
    assert port_number(9, TARGET.container) == 9
    with pytest.raises(NoSuchPort):
        port_number("none", TARGET.container)


@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket"])
async def test_a_port_that_has_no_such_name_says_nothing_about_the_container(kind: str) -> None:
    """A liveness probe with a typing error restarts nothing."""
    handlers = Handlers(Executor())
    outcome = await handlers.run({kind: {"port": "htp"}}, TARGET, 1)
    assert outcome == Outcome(False, 'strconv.Atoi: parsing "htp": invalid syntax', unknown=True)
    assert not (await handlers.run_hook({"httpGet": {"port": "htp"}}, TARGET, 1)).ok
