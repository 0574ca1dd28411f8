"""Pages of the agent's server, without TLS in front."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import ClientSession, web
from aiohttp.test_utils import make_mocked_request

from agents.config import Configuration, override
from agents.config.model import AnonymousAuthentication, Authentication, Authorization
from agents.pods.ports import ContainerRefs, PodView
from agents.runtime import Runtime
from agents.runtime.errors import NoSuchContainer
from agents.runtime.model import ExecResult
from agents.server.app import AgentServer
from agents.server.auth import Guard
from agents.server.pages import NodePages
from agents.static.ends import Ends
from agents.static.starts import Starts
from orca.client.clock import VirtualClock

POD = {
    "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
    "spec": {"containers": [{"name": "main", "image": "a"}, {"name": "ended", "image": "b"}]},
    "status": {"phase": "Running"},
}


class Pods:
    """One pod, of which one container runs."""

    mirrors = 1

    def __init__(self) -> None:
        self.starts = Starts()
        self.starts.count(0.7)
        self.starts.own.count(1.5)
        self.starts.total.count(3.0)
        self.starts.first_network = 1.5
        self.ends = Ends()
        ended = {"terminated": {"containerID": "c", "exitCode": 139, "reason": "Error"}}
        self.ends.count({}, {"containerStatuses": [{"name": "c", "state": ended}]})
        refs = {"main": ContainerRefs("c1", running=True), "ended": ContainerRefs("c2")}
        self.view = PodView(POD, refs, pause_pid=7)

    def find(self, namespace: str, name: str) -> PodView | None:
        return self.view if (namespace, name) == ("default", "web") else None

    def list(self) -> Iterable[PodView]:
        return [self.view]


class Engine(Runtime):
    """Commands end as they are called."""

    async def exec(self, container_id: str, argv: Any, **more: Any) -> ExecResult:
        if argv == ["gone"]:
            raise NoSuchContainer("no such container")
        return ExecResult(int(argv[0] == "false"), f"{container_id}: {' '.join(argv)}".encode())


Get = Callable[..., Awaitable[tuple[int, str]]]
Serve = Callable[..., Awaitable[Get]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """A server by a configuration, and what asks it."""
    runners: list[web.AppRunner] = []
    session = ClientSession()
    (tmp_path / "log" / "pods").mkdir(parents=True)
    (tmp_path / "log" / "syslog").write_text("all is well\n")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "log" / "link").symlink_to(tmp_path / "secret")

    async def serve(**changes: Any) -> Get:
        configuration = override(Configuration(), **changes)
        pods = Pods()
        pages = NodePages(configuration, "n", pods, Engine("/none"), version="v1.36.0", system_logs=tmp_path / "log")
        everybody = Guard(
            None,
            "n",
            authentication=Authentication(anonymous=AnonymousAuthentication(enabled=True)),
            authorization=Authorization(mode="AlwaysAllow"),
        )
        server = AgentServer(
            pods,
            Engine("/none").engine,
            clock=VirtualClock(),
            pages=pages.routes(),
            guard=everybody,
            debugging=pages.debugging_routes(),
            enable_debugging=configuration.enable_debugging_handlers,
            count=pages.count,
        )
        runner = web.AppRunner(server.app())
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]

        async def ask(path: str, method: str = "GET", body: str = "") -> tuple[int, str]:
            async with session.request(method, f"http://127.0.0.1:{port}{path}", data=body or None) as response:
                return response.status, await response.text()

        return ask

    yield serve
    await session.close()
    for runner in runners:
        await runner.cleanup()


async def test_health_configuration_and_what_runs(serve: Serve) -> None:
    ask = await serve(max_pods=7)
    for path in ("/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"):
        assert await ask(path) == (200, "ok")
    assert '"maxPods":7' in (await ask("/configz"))[1]
    assert '"kind"' not in (await ask("/configz"))[1]
    status, text = await ask("/runningpods/")
    assert status == 200
    assert '"name":"main"' in text
    assert "ended" not in text
    assert '"phase":"Running"' in (await ask("/pods"))[1]


async def test_metrics_have_the_names_that_people_graph(serve: Serve) -> None:
    ask = await serve()
    await ask("/pods")
    await ask("/made/up")
    _, text = await ask("/metrics")
    for line in (
        "kubelet_running_pods 1.0",
        'kubelet_running_containers{container_state="exited"} 1.0',
        'kubelet_active_pods{static=""} 1.0',
        "kubelet_mirror_pods 1.0",
        'kubelet_terminated_containers_total{container_type="container",exit_code="139",reason="Error"} 1.0',
        'kubelet_pod_start_duration_seconds_bucket{le="0.5"} 0.0',
        'kubelet_pod_start_sli_duration_seconds_bucket{le="2"} 1.0',
        "kubelet_pod_start_total_duration_seconds_sum 3.0",
        "kubelet_first_network_pod_start_sli_duration_seconds 1.5",
        'kubelet_pod_start_duration_seconds_bucket{le="1"} 1.0',
        "kubelet_pod_start_duration_seconds_sum 0.7",
        'kubelet_http_requests_total{long_running="false",method="GET",path="pods",server_type="readwrite"} 1.0',
        'kubelet_http_requests_total{long_running="false",method="GET",path="other",server_type="readwrite"} 1.0',
        'kubernetes_build_info{git_version="v1.36.0"} 1.0',
    ):
        assert f"\n{line}\n" in text, line


async def test_logs_of_the_system_and_nothing_beside_them(serve: Serve) -> None:
    ask = await serve()
    assert await ask("/logs/syslog") == (200, "all is well\n")
    status, text = await ask("/logs/")
    assert status == 200
    assert '<a href="pods/">pods/</a>' in text
    for path in ("/logs/link", "/logs/%2e%2e/secret", "/logs/..%2fsecret", "/logs/none"):
        assert (await ask(path))[0] == 404, path
    ask = await serve(enable_system_log_handler=False)
    assert (await ask("/logs/syslog"))[0] == 404


async def test_odd_names_among_the_systems_logs_harm_nobody(serve: Serve, tmp_path: Path) -> None:
    ask, logs = await serve(), tmp_path / "log"
    os.mkfifo(logs / "pipe")
    (logs / "loop").symlink_to("loop")
    os.mknod(os.fsencode(logs) + b"/\xff\n<b>")
    for path in ("/logs/%00", "/logs/a%00b", f"/logs/{'a' * 300}", "/logs/%ff%fe", "/logs/pipe", "/logs/loop"):
        assert (await ask(path))[0] == 404, path
    status, text = await ask("/logs/")
    assert status == 200
    assert '<a href="%FF%0A%3Cb%3E">\ufffd\n&lt;b&gt;</a>' in text


@pytest.mark.parametrize(
    ("query", "status"),
    [("tailLines=-1", 422), ("limitBytes=0", 422), ("sinceSeconds=0", 422), ("tailLines=x", 400)],
)
async def test_limits_of_logs_that_make_no_sense_are_refused(serve: Serve, query: str, status: int) -> None:
    ask = await serve()
    assert (await ask(f"/containerLogs/default/web/main?{query}"))[0] == status


async def test_commands_answer_what_they_print(serve: Serve) -> None:
    ask = await serve()
    assert await ask("/run/default/web/main?cmd=echo%20hi", "POST") == (200, "c1: echo hi")
    assert await ask("/run/default/web/u1/main?cmd=echo", "POST") == (200, "c1: echo")
    assert (await ask("/run/default/web/other/main?cmd=echo", "POST"))[0] == 404
    assert (await ask("/run/default/none/main?cmd=echo", "POST"))[0] == 404
    assert (await ask("/run/default/web/ended?cmd=echo", "POST"))[0] == 500
    assert (await ask("/run/default/web/main?cmd=gone", "POST"))[0] == 500
    status, text = await ask("/run/default/web/main?cmd=false", "POST")
    assert status == 500
    assert "exited with 1" in text
    assert (await ask("/run/default/web/main?cmd=echo"))[0] == 405


async def test_how_much_is_logged_can_be_changed(serve: Serve) -> None:
    before = structlog.get_config()["wrapper_class"]
    try:
        ask = await serve()
        assert await ask("/debug/flags/v", "PUT", "4") == (
            200,
            "successfully set klog.logging.verbosity to 4",
        )
        assert structlog.get_config()["wrapper_class"] is not before
        assert (await ask("/debug/flags/v", "PUT", "much"))[0] == 400
        ask = await serve(enable_debug_flags_handler=False)
        assert (await ask("/debug/flags/v", "PUT", "4"))[0] == 404
    finally:
        structlog.configure(wrapper_class=before)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/run/default/web/main?cmd=echo"),
        ("POST", "/exec/default/web/main?command=echo"),
        ("GET", "/containerLogs/default/web/main"),
        ("GET", "/runningpods/"),
        ("GET", "/logs/syslog"),
    ],
)
async def test_without_debugging_there_are_no_commands_and_logs(serve: Serve, method: str, path: str) -> None:
    ask = await serve(enable_debugging_handlers=False)
    assert await ask(path, method) == (405, "Debug endpoints are disabled.\n")
    assert (await ask("/metrics"))[0] == 200


async def test_a_request_for_no_path_is_counted_and_refused(serve: Serve) -> None:
    """`OPTIONS *` has a path without a slash."""
    pages = NodePages(Configuration(), "n", Pods(), Engine("/none"), version="v1.36.0")  # type: ignore[arg-type]
    request = make_mocked_request("OPTIONS", "*")

    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=404)

    assert (await pages.count(request, refuse)).status == 404
    assert pages.requests["OPTIONS", "*", "false"] == 1
