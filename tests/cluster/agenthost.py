"""A real engine with one pod, the agent's server in front of it, and as much of an API as kubectl needs to
reach it: so that streams are tested with the real kubectl without a cluster."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agents.pods.ports import ContainerRefs, PodView
from agents.runtime.engine import Engine
from agents.server import auth
from agents.server.app import AgentServer
from orca.client.clock import SystemClock
from tests.support.engine import PrivateEngine
from tests.support.kubectl import eventually
from tests.support.patience import PATIENCE


class Authority:
    """A CA that writes key pairs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test-ca-{directory.name}")])
        self.file = directory / "ca.crt"
        self.file.write_bytes(self._sign(self._name, self._key.public_key(), authority=True))

    def issue(self, name: str, group: str = "", *, subject: str = "") -> Path:
        """A file with certificate and key for `name` in `group`, good for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject or name)]
        if group:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        path = self.directory / f"{name}.pem"
        path.write_bytes(
            self._sign(x509.Name(attributes), key.public_key())
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path

    def _sign(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, authority: bool = False) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class OnePod:
    """`agents.server.app.Pods` with a single pod."""

    def __init__(self, view: PodView) -> None:
        self.view = view

    def find(self, namespace: str, name: str) -> PodView | None:
        metadata = self.view.pod["metadata"]
        return self.view if (metadata["namespace"], metadata["name"]) == (namespace, name) else None

    def list(self) -> list[PodView]:
        return [self.view]


class AgentHost:
    """Runs the server in a thread of its own; `kubeconfig` leads to it."""

    def __init__(self, engine: PrivateEngine, directory: Path) -> None:
        self._engine = engine
        self._directory = directory
        self._authority = Authority(directory)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.port = 0
        self.kubeconfig = directory / "kubeconfig"
        self.pods: OnePod

    def start(self) -> None:
        docker = self._engine.docker
        pause = docker("run", "-d", "--network=none", "--name=pause", "orca/pause:1").strip()
        join = f"--network=container:{pause}"
        command = "busybox ln -s busybox /bin/tar; echo started; until [ -e /go ]; do sleep 0.05; done; echo oops >&2; "
        command += "while :; do sleep 1; done"
        app = docker("run", "-d", join, "--name=app", "busybox:latest", "sh", "-c", command).strip()
        shell = docker("run", "-dit", join, "--name=shell", "busybox:latest", "sh").strip()
        web_ = docker(
            "run",
            "-d",
            join,
            "--name=web",
            "busybox:latest",
            "sh",
            "-c",
            "mkdir -p /www; echo hello-from-pod > /www/index.html; exec httpd -f -p 8080 -h /www",
        ).strip()
        # Of two outputs the engine keeps no order, unless it has one before the other comes.
        eventually(lambda: "started" in self._logged("app"), what="the first line in the log")
        docker("exec", "app", "touch", "/go")
        eventually(lambda: "oops" in self._logged("app"), what="the second line in the log")
        names = {"app": app, "shell": shell, "web": web_}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "one", "namespace": "default", "uid": "uid-1", "resourceVersion": "1"},
            "spec": {
                "nodeName": "here",
                "containers": [
                    {"name": name, "image": "busybox", "tty": name == "shell", "stdin": name == "shell"}
                    for name in names
                ],
            },
            "status": {
                "phase": "Running",
                "containerStatuses": [{"name": name, "ready": True, "state": {"running": {}}} for name in names],
            },
        }
        pid = int(docker("inspect", "-f", "{{.State.Pid}}", pause))
        refs = {name: ContainerRefs(current=identity, running=True) for name, identity in names.items()}
        self.pods = OnePod(PodView(pod=pod, containers=refs, pause_pid=pid, ips=("10.0.0.1",)))
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        self._write_kubeconfig()

    def _logged(self, name: str) -> str:
        """Both outputs of a container, as the engine has them by now."""
        command = ["docker", "-H", f"unix://{self._engine.socket}", "logs", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
        return done.stdout

    def stop(self) -> None:
        assert self._loop
        assert self._end
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        engine = Engine(str(self._engine.socket))
        server = AgentServer(self.pods, engine, clock=SystemClock())
        app = server.app()
        self._add_api(app, server)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        context = auth.server_context(self._authority.issue("serving"), self._authority.file)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()
        await engine.aclose()

    def _add_api(self, app: web.Application, server: AgentServer) -> None:
        Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
        base = "/api/v1/namespaces/{namespace}/pods/{pod}"

        def answer(body: Any) -> Handler:
            async def handler(request: web.Request) -> web.Response:
                return web.json_response(body)

            return handler

        def forward(target: Handler) -> Handler:
            async def handler(request: web.Request) -> web.StreamResponse:
                request.match_info["container"] = request.query.get("container") or "app"
                return await target(request)

            return handler

        resources = [
            {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get", "list", "create"]}
            for name, kind in (("pods", "Pod"), ("pods/exec", "PodExecOptions"), ("pods/log", "Pod"))
        ]
        app.router.add_get("/api", answer({"kind": "APIVersions", "versions": ["v1"]}))
        app.router.add_get("/apis", answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}))
        app.router.add_get("/api/v1", answer({"kind": "APIResourceList", "groupVersion": "v1", "resources": resources}))
        app.router.add_get("/version", answer({"major": "1", "minor": "36", "gitVersion": "v1.36.0"}))
        app.router.add_get(base, answer(self.pods.view.pod))
        for name, target in (
            ("exec", server._serve_exec),
            ("attach", server._serve_attach),
            ("portforward", server._serve_forward),
        ):
            app.router.add_get(f"{base}/{name}", forward(target))
            app.router.add_post(f"{base}/{name}", forward(target))
        app.router.add_get(f"{base}/log", forward(server._logs.serve))

    def _write_kubeconfig(self) -> None:
        pair = str(self._authority.issue("admin", "system:masters"))
        server = f"https://127.0.0.1:{self.port}"
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {"name": "t", "cluster": {"server": server, "certificate-authority": str(self._authority.file)}}
                    ],
                    "users": [{"name": "t", "user": {"client-certificate": pair, "client-key": pair}}],
                    "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
                    "current-context": "t",
                }
            )
        )

    def client_tls(self, name: str, group: str = "", *, subject: str = "", certificate: bool = True) -> ssl.SSLContext:
        """TLS of a client with a certificate for `name`, or with none."""
        context = ssl.create_default_context(cafile=str(self._authority.file))
        if certificate:
            context.load_cert_chain(self._authority.issue(name, group, subject=subject))
        return context
