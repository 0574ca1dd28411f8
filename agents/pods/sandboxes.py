"""A pod's sandbox: its pause container, its cgroup, its network, and the files that name its addresses."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from agents.pods.compose import refuse_unsupported, sandbox_spec
from agents.pods.containers import spec_of
from agents.pods.environment import ConfigError
from agents.pods.files import hosts_text, resolver_for
from agents.pods.gate import SANDBOX
from agents.pods.lifecycle import RISING
from agents.pods.naming import container_name
from agents.pods.observer import Observer
from agents.pods.paths import pod_files
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.runtime.errors import EngineTimeout, EngineUnavailable, NameTaken, RefusedByEngine, RuntimeFailure
from agents.runtime.model import SANDBOX_NAME, SandboxSpec
from orca.api.errors import ApiError
from orca.api.objects import meta, name, namespace, uid


class NotStarted(RuntimeFailure):
    """Something of a pod could not be started; everything is noted already."""


class Sandboxes:
    """Makes and wires those of one pod."""

    def __init__(self, subject: Subject, tools: Tools, observer: Observer) -> None:
        self._subject = subject
        self._tools = tools
        self._observer = observer

    async def make(self, attempt: int) -> None:
        """Create, start and wire a pause container."""
        subject, runtime = self._subject, self._tools.runtime
        handler = ""
        try:
            refuse_unsupported(subject.pod)
            handler = await self._tools.sources.runtime_handler(subject.pod)
            spec = sandbox_spec(subject.pod, attempt, self._tools.config, runtime=handler)
            spec = replace(spec, cgroup_parent=await prepare_cgroup(subject, self._tools, "sandbox"))
            async with self._tools.gate.enter(SANDBOX):
                if subject.memory.life not in RISING:
                    return
                sandbox_id = await self._start(spec)
            subject.memory.wired = subject.memory.rewire = False
            subject.memory.observe(await runtime.inspect(sandbox_id))
        except (EngineUnavailable, EngineTimeout):
            raise
        except NameTaken:
            await self._observer.adopt_by_name(container_name(subject.pod, SANDBOX_NAME, attempt))
            return
        except NotStarted:
            return
        except (RuntimeFailure, ConfigError, ApiError) as error:
            text = str(error)
            if handler and isinstance(error, RefusedByEngine) and handler in text:
                text = f'failed to get sandbox runtime: no runtime for "{handler}" is configured: {text}'
            subject.failed("sandbox", "ContainerCreating", text)
            subject.tell("FailedCreatePodSandBox", f"Failed to create pod sandbox: {text}", warning=True)
            return
        subject.succeeded("sandbox")
        await self.wire()

    async def _start(self, spec: SandboxSpec) -> str:
        """Create and start; nothing is left of one that the engine refuses to start. Raises ``RuntimeFailure``."""
        runtime = self._tools.runtime
        sandbox_id = await runtime.create_sandbox(spec)
        try:
            await runtime.start(sandbox_id)
        except (EngineUnavailable, EngineTimeout):
            raise  # it may have been started; who comes next finds it by its name
        except RuntimeFailure:
            with contextlib.suppress(RuntimeFailure):
                await runtime.remove(sandbox_id)
            raise
        return sandbox_id

    async def wire(self) -> None:
        """Addresses, and the files that name them."""
        subject, tools = self._subject, self._tools
        memory, spec = subject.memory, spec_of(subject.pod)
        sandbox = memory.sandbox
        if sandbox is None or not sandbox.running:
            return
        if spec.get("hostNetwork"):
            memory.ips = tools.config.host_ips
        else:
            ports = [
                port
                for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
                for port in container.get("ports") or ()
                if port.get("hostPort")
            ]
            try:
                addresses = await tools.network.attach(
                    uid(subject.pod),
                    sandbox.pid,
                    host_ports=ports,
                    hostname=name(subject.pod),
                    namespace=namespace(subject.pod),
                    sandbox_id=sandbox.id,
                    annotations=meta(subject.pod).get("annotations"),
                )
            except Exception as error:
                # The network room names its errors for events; whatever it is, the pod waits and tries again.
                subject.failed("network", "ContainerCreating", str(error), last=10.0)
                subject.tell(
                    "FailedCreatePodSandBox",
                    f"Failed to create pod sandbox: failed to set up network for sandbox: {error}",
                    warning=True,
                )
                return
            memory.ips = tuple(addresses)
        self._write_files()
        memory.wired, memory.rewire = True, False
        subject.succeeded("network")

    def _write_files(self) -> None:
        subject, config = self._subject, self._tools.config
        files = pod_files(config, uid(subject.pod))
        files.directory.mkdir(parents=True, exist_ok=True)
        host_file = ""
        if spec_of(subject.pod).get("hostNetwork"):
            try:
                host_file = Path("/etc/hosts").read_text()
            except OSError:
                host_file = "127.0.0.1\tlocalhost\n"
        _write_in_place(files.hosts, hosts_text(subject.pod, subject.memory.ips, config.cluster_domain, host_file))
        host = self._tools.host_resolver()
        resolver, problems = resolver_for(subject.pod, host, config.cluster_dns, config.cluster_domain)
        for reason, problem in problems:
            subject.tell(reason, problem, warning=True)
        _write_in_place(files.resolver, resolver.text())


async def prepare_cgroup(subject: Subject, tools: Tools, key: str) -> str:
    """Have the pod's cgroup; where its containers go. Raises ``NotStarted``, with everything noted."""
    try:
        return await tools.cgroups.prepare(subject.allotted)
    except OSError as error:
        text = f"unable to ensure pod container exists: {error}"
        subject.failed(key, "ContainerCreating", text)
        subject.tell("FailedCreatePodContainer", text, warning=True)
        raise NotStarted(text) from error


def _write_in_place(path: Path, text: str) -> None:
    """Containers have the file itself mounted: it must keep its inode."""
    data = text.encode()
    with open(path, "r+b" if path.exists() else "x+b") as file:
        if file.read() == data:
            return
        # Written over and then cut, never emptied first: a disk that is full must not take what is there.
        file.seek(0)
        file.write(data)
        file.truncate()
        os.fchmod(file.fileno(), 0o644)
