"""Logs, exec, attach, cp and port-forward through the agent's server, driven by both kubectls on a real engine."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import os
import pty
import re
import socket
import struct
import subprocess
import termios
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from kubernetes import client, config, stream

from agents.runtime.engine import Engine
from agents.runtime.logs import LogOptions, open_logs
from tests.cluster.agenthost import AgentHost
from tests.support import images
from tests.support import kubectl as kubectls
from tests.support.engine import PrivateEngine
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE

MEGABYTES = 100


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    engine = PrivateEngine(f"streams-{os.getpid()}")
    try:
        engine.start()
        for archive in (images.pause(), images.busybox()):
            engine.docker("load", text=archive)
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="module")
def host(engine: PrivateEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHost]:
    host = AgentHost(engine, tmp_path_factory.mktemp("agent"))
    host.start()
    yield host
    host.stop()


@pytest.fixture(params=["current", "debian"])
def kubectl(request: pytest.FixtureRequest, host: AgentHost) -> Kubectl:
    return Kubectl(kubectls.current() if request.param == "current" else kubectls.debian(), host.kubeconfig)


def test_exec_separates_the_outputs_and_passes_the_exit_code_on(kubectl: Kubectl) -> None:
    done = kubectl.try_("exec", "one", "-c", "app", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.code, done.out) == (7, "out\n")
    assert done.err.startswith("err\n")
    assert kubectl("exec", "one", "-c", "app", "--", "echo", "a b", "c").strip() == "a b c"


def test_exec_reads_stdin_to_its_end(kubectl: Kubectl) -> None:
    assert kubectl("exec", "-i", "one", "-c", "app", "--", "wc", "-c", stdin=b"x" * 300_000).strip() == "300000"


def test_exec_of_a_program_that_is_not_there_fails(kubectl: Kubectl) -> None:
    done = kubectl.try_("exec", "one", "-c", "app", "--", "no-such-program")
    assert done.code != 0
    assert "no-such-program" in done.out + done.err


def test_exec_ends_although_the_client_still_sends(kubectl: Kubectl) -> None:
    done = kubectl.try_("exec", "-i", "one", "-c", "app", "--", "head", "-c", "4", stdin=b"abcd" * 2_000_000)
    assert (done.code, done.out) == (0, "abcd")


def test_exec_in_a_terminal_has_its_size_and_the_exit_code(kubectl: Kubectl) -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
    size = "busybox stty size"  # told beside what is typed, so perhaps a little later
    script = f'read line; until [ "$({size})" = "31 97" ]; do sleep 0.1; done; {size}; test -t 0 && exit 5'
    process = subprocess.Popen(
        [*kubectl.argv, "exec", "-it", "one", "-c", "app", "--", "sh", "-c", script],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    os.write(leader, b"\r")
    output = b""
    try:
        while chunk := os.read(leader, 4096):
            output += chunk
    except OSError:
        pass
    assert process.wait(PATIENCE) == 5
    assert b"31 97" in output


def test_a_hundred_megabytes_arrive_intact_in_both_directions(kubectl: Kubectl, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    with source.open("wb") as file:
        for _ in range(MEGABYTES):
            file.write(os.urandom(1 << 20))
    began = time.monotonic()
    kubectl("cp", str(source), "one:/tmp/copy", "-c", "app", timeout=300)
    there = time.monotonic()
    kubectl("cp", "one:/tmp/copy", str(back), "-c", "app", timeout=300)
    print(f"to the pod {there - began:.1f} s, back {time.monotonic() - there:.1f} s")
    assert _digest(source) == _digest(back)
    kubectl("exec", "one", "-c", "app", "--", "rm", "/tmp/copy")


def test_attach_types_into_the_container(kubectl: Kubectl) -> None:
    process = subprocess.Popen(
        [*kubectl.argv, "attach", "-i", "one", "-c", "shell"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(b"echo $((40+2))x\n")
        process.stdin.flush()
        seen = b""
        while b"42x" not in seen:
            chunk = os.read(process.stdout.fileno(), 4096)
            assert chunk, seen
            seen += chunk
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_logs_in_all_their_forms(kubectl: Kubectl) -> None:
    assert kubectl("logs", "one", "-c", "app").split() == ["started", "oops"]
    assert kubectl("logs", "one", "-c", "app", "--tail=1").split() == ["oops"]
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z started\n", kubectl("logs", "one", "-c", "app", "--timestamps"))
    assert kubectl("logs", "one", "-c", "app", "--limit-bytes=4") == "star"
    assert kubectl("logs", "one", "-c", "app", "--since=1h").split() == ["started", "oops"]
    done = kubectl.try_("logs", "one", "-c", "app", "-p")
    assert done.code == 1
    assert done.err == 'Error from server (BadRequest): previous terminated container "app" in pod "one" not found\n'


def test_logs_follow_until_the_client_leaves(kubectl: Kubectl, host: AgentHost) -> None:
    process = subprocess.Popen([*kubectl.argv, "logs", "-f", "one", "-c", "app"], stdout=subprocess.PIPE)
    assert process.stdout
    assert [process.stdout.readline() for _ in range(2)] == [b"started\n", b"oops\n"]
    assert process.poll() is None
    process.terminate()
    process.wait(PATIENCE)


def test_port_forward_serves_many_connections(kubectl: Kubectl, host: AgentHost) -> None:
    process = subprocess.Popen(
        [*kubectl.argv, "port-forward", "pod/one", ":8080"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert process.stdout
        match = re.search(rb"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match
        url = f"http://127.0.0.1:{int(match[1])}/"
        for _ in range(20):
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                assert answer.read() == b"hello-from-pod\n"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_port_forward_to_a_closed_port_says_so(kubectl: Kubectl) -> None:
    process = subprocess.Popen(
        [*kubectl.argv, "port-forward", "pod/one", ":81"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert process.stdout
        match = re.search(rb"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match
        with socket.create_connection(("127.0.0.1", int(match[1])), timeout=PATIENCE) as connection:
            connection.sendall(b"x")
            connection.settimeout(PATIENCE)
            assert connection.recv(1) == b""
        text = b""
        while b"connection refused" not in text:
            line = process.stdout.readline()
            assert line, text
            text += line
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_the_python_client_runs_commands_and_forwards_ports(host: AgentHost) -> None:
    api = client.CoreV1Api(config.new_client_from_config(str(host.kubeconfig)))
    command = ["sh", "-c", "echo out; echo err >&2; read line; echo got $line; exit 9"]
    running = stream.stream(
        api.connect_get_namespaced_pod_exec,
        "one",
        "default",
        container="app",
        command=command,
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    running.write_stdin("hello\n")
    running.run_forever(timeout=PATIENCE)
    assert (running.read_stdout(), running.read_stderr(), running.returncode) == ("out\ngot hello\n", "err\n", 9)

    api = client.CoreV1Api(config.new_client_from_config(str(host.kubeconfig)))
    ports = stream.portforward(api.connect_get_namespaced_pod_portforward, "one", "default", ports="8080,81")
    connection = ports.socket(8080)
    connection.settimeout(PATIENCE)
    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while chunk := connection.recv(4096):
        answer += chunk
    assert answer.endswith(b"hello-from-pod\n")
    eventually(lambda: "connection refused" in (ports.error(81) or ""), what="the refusal, which is told beside")


@pytest.mark.parametrize(
    ("name", "group", "certificate", "expected"),
    [
        ("nobody", "", False, 401),
        ("system:node:other", "system:nodes", True, 403),
        ("kube-apiserver-kubelet-client", "system:masters", True, 200),
        ("kube-apiserver-kubelet-client", "", True, 403),
        ("root", "system:masters", True, 200),
    ],
)
async def test_only_the_api_server_and_administrators_get_in(
    host: AgentHost, name: str, group: str, certificate: bool, expected: int
) -> None:
    tls = host.client_tls(name.replace(":", "-"), group, subject=name, certificate=certificate)
    async with aiohttp.ClientSession() as session, session.get(f"https://127.0.0.1:{host.port}/pods", ssl=tls) as got:
        assert got.status == expected


class Socket:
    """A WebSocket client that speaks the channel protocols by hand."""

    def __init__(self, host: AgentHost, protocol: str, query: str, pod: str = "one") -> None:
        self._url = f"https://127.0.0.1:{host.port}/exec/default/{pod}/app?{query}"
        self._tls = host.client_tls("masters", "system:masters")
        self._protocol = protocol

    async def __aenter__(self) -> aiohttp.ClientWebSocketResponse:
        self._session = aiohttp.ClientSession()
        protocols = (self._protocol,) if self._protocol else ()
        try:
            return await self._session.ws_connect(self._url, ssl=self._tls, protocols=protocols)
        except aiohttp.ClientError:
            await self._session.close()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()


async def test_a_v5_client_can_end_stdin(host: AgentHost) -> None:
    query = "command=cat&input=1&output=1&error=1"
    async with Socket(host, "v5.channel.k8s.io", query) as socket_:
        assert socket_.protocol == "v5.channel.k8s.io"
        assert await socket_.receive_bytes(timeout=PATIENCE) == b"\x01"
        await socket_.send_bytes(b"\x00hello")
        assert await socket_.receive_bytes(timeout=PATIENCE) == b"\x01hello"
        await socket_.send_bytes(b"\xff\x00")
        assert orjson.loads((await socket_.receive_bytes(timeout=PATIENCE))[1:]) == {
            "metadata": {},
            "status": "Success",
        }
        assert (await socket_.receive(timeout=PATIENCE)).type is aiohttp.WSMsgType.CLOSE


async def test_a_browser_gets_text(host: AgentHost) -> None:
    async with Socket(host, "v4.base64.channel.k8s.io", "command=echo&command=hi&output=1&error=1") as socket_:
        texts = [await socket_.receive_str(timeout=PATIENCE) for _ in range(3)]
    assert texts[:2] == ["1", "1" + base64.b64encode(b"hi\n").decode()]
    assert orjson.loads(base64.b64decode(texts[2][1:]))["status"] == "Success"


@pytest.mark.parametrize(
    ("protocol", "query", "pod", "code"),
    [
        ("v9.channel.k8s.io", "command=ls&output=1", "one", 400),
        ("v5.channel.k8s.io", "output=1", "one", 400),
        ("v5.channel.k8s.io", "command=ls", "one", 400),
        ("v5.channel.k8s.io", "command=ls&output=1", "other", 404),
    ],
)
async def test_what_cannot_be_run_is_refused_before_the_upgrade(
    host: AgentHost, protocol: str, query: str, pod: str, code: int
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with Socket(host, protocol, query, pod):
            pass
    assert refused.value.status == code


async def test_a_terminal_that_goes_away_ends_its_shell(host: AgentHost, engine: PrivateEngine) -> None:
    query = "command=sh&command=-c&command=echo%20here;sleep%20987&input=1&output=1&tty=1"
    async with Socket(host, "v5.channel.k8s.io", query) as socket_:
        await socket_.receive_bytes(timeout=PATIENCE)
        assert b"here" in await socket_.receive_bytes(timeout=PATIENCE)
        assert "sleep 987" in engine.docker("exec", "app", "ps")
    async with asyncio.timeout(PATIENCE):
        while "sleep 987" in await asyncio.to_thread(engine.docker, "exec", "app", "ps"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_logs_are_followed_across_rotation(host: AgentHost, engine: PrivateEngine) -> None:
    script = "i=0; while [ $i -lt 1500 ]; do echo line-$i; i=$((i+1)); [ $((i%50)) = 0 ] && sleep 0.1; done; sleep 1"
    # Files enough for all: what goes while a reader is slow is lost to it.
    options = ("--log-opt=max-size=10k", "--log-opt=max-file=20", "--network=none")
    identity = engine.docker("run", "-d", *options, "busybox:latest", "sh", "-c", f"sleep 1; {script}").strip()
    connection = Engine(str(engine.socket))
    try:
        async with open_logs(connection, identity, LogOptions(follow=True), tty=False) as chunks:
            lines = b"".join([chunk async for chunk in chunks]).split()
    finally:
        await connection.aclose()
    assert lines == [b"line-%d" % number for number in range(1500)]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
