"""Doing what was decided. Each action ends by changing the pod's memory; nothing here decides what comes next."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from agents.pods import steps
from agents.pods.compose import (
    container_name,
    container_spec,
    pod_files,
    refuse_unsupported,
    sandbox_spec,
    stages_of,
)
from agents.pods.containers import find_container, spec_of
from agents.pods.environment import ConfigError, build_environment
from agents.pods.files import hosts_text, resolver_for
from agents.pods.gate import APP, REMOVAL, SANDBOX
from agents.pods.images import ensure_image
from agents.pods.memory import container_hash, raise_crash
from agents.pods.messages import read_message
from agents.pods.plan import grace_of, is_deleting
from agents.pods.resizing import resize, save_sizes
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.probes.handlers import Target
from agents.runtime.errors import (
    EngineTimeout,
    EngineUnavailable,
    NameTaken,
    NoSuchContainer,
    NoSuchImage,
    RuntimeFailure,
)
from agents.runtime.identity import linux_user
from agents.runtime.model import SANDBOX_NAME, ContainerInfo
from orca.api.errors import ApiError
from orca.api.objects import Obj, name, uid

log = structlog.get_logger()

START_RETRY = 10.0
LEAST_AFTER_PRESTOP = 2.0
HOOK_LIMIT = 3600.0
LATE_VOLUMES = 30.0
DRAIN_SECONDS = 2.0
OTHER_HOSTS_SECONDS = 0.05


class Actions:
    """The hands of one pod's worker."""

    def __init__(self, subject: Subject, tools: Tools, stop_probes: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        self._subject = subject
        self._tools = tools
        self._stop_probes = stop_probes

    async def run(self, action: steps.Action) -> None:
        """Do one action. Expected failures are noted in memory; the engine being away is one of them."""
        try:
            await self._run(action)
        except EngineUnavailable as error:
            self._subject.failed(action.key, "ContainerCreating", str(error), last=5.0)
        except EngineTimeout as error:
            self._subject.failed(action.key, "ContainerCreating", str(error))
            log.warning("engine is slow", pod=name(self._subject.pod), action=action.key, error=str(error))

    async def _run(self, action: steps.Action) -> None:
        match action:
            case steps.MakeSandbox(attempt=attempt):
                await self._make_sandbox(attempt)
            case steps.Wire():
                await self._wire()
            case steps.PrepareVolumes():
                await self._prepare_volumes()
            case steps.EnsureImage(container=container):
                await ensure_image(self._subject, self._tools, container)
            case steps.StartContainer(container=container, attempt=attempt):
                await self._start_container(container, attempt)
            case steps.StopContainer():
                await self._stop_container(action)
            case steps.SaveSizes():
                await save_sizes(self._subject, self._tools)
            case steps.Resize(updates=updates):
                await resize(self._subject, self._tools, updates)
            case steps.KillContainer(id=container_id):
                await self._tools.runtime.kill(container_id)
            case steps.Remove(id=container_id):
                await self._remove(container_id)
            case steps.Release(files=files):
                await self._release(files=files)
            case _:
                raise AssertionError(f"nobody does {action!r}")

    # Sandbox

    async def _make_sandbox(self, attempt: int) -> None:
        subject, runtime = self._subject, self._tools.runtime
        try:
            refuse_unsupported(subject.pod)
            async with self._tools.gate.enter(SANDBOX):
                sandbox_id = await runtime.create_sandbox(sandbox_spec(subject.pod, attempt, self._tools.config))
                await runtime.start(sandbox_id)
            subject.memory.wired = subject.memory.rewire = False
            subject.memory.observe(await runtime.inspect(sandbox_id))
        except (EngineUnavailable, EngineTimeout):
            raise
        except NameTaken:
            await self._adopt_by_name(container_name(subject.pod, SANDBOX_NAME, attempt))
            return
        except (RuntimeFailure, ConfigError) as error:
            subject.failed("sandbox", "ContainerCreating", str(error))
            subject.tell("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}", warning=True)
            return
        subject.succeeded("sandbox")
        await self._wire()

    async def _wire(self) -> None:
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
                    uid(subject.pod), sandbox.pid, host_ports=ports, hostname=name(subject.pod)
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
        resolver = resolver_for(subject.pod, self._tools.host_resolver(), config.cluster_dns, config.cluster_domain)
        _write_in_place(files.resolver, resolver.text())

    async def _prepare_volumes(self) -> None:
        subject = self._subject
        try:
            subject.memory.volumes = await self._tools.volumes.prepare(subject.pod)
        except Exception as error:
            # As for the network: the volumes room words its own errors.
            subject.failed("volumes", "ContainerCreating", str(error), last=LATE_VOLUMES)
            subject.tell("FailedMount", str(error), warning=True)
        else:
            subject.succeeded("volumes")

    # Containers

    async def _start_container(self, name_in_spec: str, attempt: int) -> None:
        subject, memory = self._subject, self._subject.memory
        pod = subject.allotted
        container = find_container(pod, name_in_spec)
        assert container is not None, name_in_spec
        key = f"start:{name_in_spec}"
        image = memory.images.pop(name_in_spec)  # the next start asks again, as its pull policy says
        before = memory.newest(name_in_spec)
        if attempt > 0 and (before is None or before.id not in memory.sizing.restarting):
            crash = container_hash(container)
            memory.crashes[crash] = raise_crash(memory.crashes.get(crash), self._tools.clock.now())
        try:
            container_id = await self._create(pod, container, attempt)
        except NoSuchImage:
            return  # removed since it was looked up; the next decision pulls it
        except (ConfigError, ApiError) as error:
            memory.images[name_in_spec] = image
            subject.failed(key, "CreateContainerConfigError", str(error), first=2.0, last=15.0)
            subject.tell("Failed", f"Error: {error}", container=name_in_spec, warning=True)
            return
        except _NotStarted:
            return
        except NameTaken:
            await self._adopt_by_name(container_name(subject.pod, name_in_spec, attempt))
            return
        except NoSuchContainer:
            await self._look_at_sandbox()
            return
        except (EngineUnavailable, EngineTimeout):
            raise
        except RuntimeFailure as error:
            subject.failed(key, "CreateContainerError", str(error), first=START_RETRY, last=300.0)
            subject.tell("Failed", f"Error: {error}", container=name_in_spec, warning=True)
            return
        subject.succeeded(key)
        await self._after_start(container, container_id)

    async def _create(self, pod: Obj, container: Obj, attempt: int) -> str:
        """Create and start; the id of the container, which may have failed to start."""
        subject, tools, memory = self._subject, self._tools, self._subject.memory
        name_in_spec = container["name"]
        assert memory.sandbox is not None
        assert memory.volumes is not None
        sources = await tools.sources.read(pod, container)
        place = tools.place(memory.ips)
        environment = build_environment(pod, container, tools.services(), sources, place)
        for source, names in environment.skipped.items():
            subject.tell(
                "InvalidEnvironmentVariableNames",
                f"Keys [{', '.join(names)}] from the EnvFrom {source} were skipped since they are considered invalid "
                "environment variable names.",
                container=name_in_spec,
                warning=True,
            )
        stages = stages_of(container, environment.values, in_depth=tools.volumes.read_only_in_depth)
        staged = await tools.volumes.stage(pod, name_in_spec, stages) if stages else {}
        spec = container_spec(
            pod,
            container,
            attempt=attempt,
            sandbox_id=memory.sandbox.id,
            image=tools.runtime.images.recent(container["image"]),
            environment=environment.values,
            volumes=memory.volumes,
            config=tools.config,
            node_memory=tools.node_memory(),
            staged=staged,
            target_id=self._target(container),
        )
        termination = pod_files(tools.config, uid(subject.pod)).termination(name_in_spec, attempt)
        termination.parent.mkdir(parents=True, exist_ok=True)
        termination.touch()
        termination.chmod(0o666)
        async with tools.gate.enter(APP):
            container_id = await tools.runtime.create_container(spec)
            subject.tell("Created", "Container created", container=name_in_spec)
            try:
                await tools.runtime.start(container_id)
            except (EngineUnavailable, EngineTimeout, NoSuchContainer):
                raise
            except RuntimeFailure as error:
                subject.failed(f"start:{name_in_spec}", "RunContainerError", str(error), first=START_RETRY, last=300.0)
                subject.tell("Failed", f"Error: {error}", container=name_in_spec, warning=True)
                memory.observe(await tools.runtime.inspect(container_id))
                raise _NotStarted from error
        subject.tell("Started", "Container started", container=name_in_spec)
        return container_id

    def _target(self, container: Obj) -> str:
        """The running container whose processes an ephemeral container is to see."""
        wanted = container.get("targetContainerName")
        if not wanted:
            return ""
        info = self._subject.memory.newest(wanted)
        if info is None or not info.running:
            raise ConfigError(f"target container {wanted} is not running")
        return info.id

    async def _after_start(self, container: Obj, container_id: str) -> None:
        """Observe, then postStart."""
        memory = self._subject.memory
        hook = (container.get("lifecycle") or {}).get("postStart")
        if hook:
            memory.hooks.add(container_id)
        info = await self._tools.runtime.inspect(container_id)
        self._note_user(info)
        memory.observe(info)
        self._subject.changed()
        if not hook:
            return
        ok, text = await self._hook(hook, container, container_id, HOOK_LIMIT)
        memory.hooks.discard(container_id)
        if not ok:
            # Not in the event: what a hook prints may be secret.
            log.warning("postStart failed", pod=name(self._subject.pod), container=container["name"], output=text)
            self._subject.tell("FailedPostStartHook", "PostStartHook failed", container=container["name"], warning=True)
            await self._stop(container, container_id, grace_of(self._subject.pod, memory), "FailedPostStartHook")

    async def _stop_container(self, action: steps.StopContainer) -> None:
        container = find_container(self._subject.pod, action.container) or {"name": action.container}
        if action.resized:
            # An agent that comes meanwhile must not take it for one that ended by itself.
            self._subject.memory.sizing.restarting.add(action.id)
            if not await save_sizes(self._subject, self._tools):
                self._subject.memory.sizing.restarting.discard(action.id)
                self._subject.failed(action.key, "", "allocation cannot be saved")
                return
        await self._stop(container, action.id, action.grace, action.why)

    async def _stop(self, container: Obj, container_id: str, grace: float, why: str) -> None:
        """preStop within the grace period, then the stop signal for what is left of it, then SIGKILL."""
        subject, tools = self._subject, self._tools
        subject.tell("Killing", why or f"Stopping container {container['name']}", container=container["name"])
        await self._stop_probes(container_id)
        hook = (container.get("lifecycle") or {}).get("preStop")
        left = grace
        if hook:
            began = tools.clock.monotonic()
            ok, text = await self._hook(hook, container, container_id, grace)
            if not ok:
                log.warning("preStop failed", pod=name(subject.pod), container=container["name"], output=text)
                subject.tell("FailedPreStopHook", "PreStopHook failed", container=container["name"], warning=True)
            left = max(grace - (tools.clock.monotonic() - began), LEAST_AFTER_PRESTOP)
        left -= await self._drain(left)
        await tools.runtime.stop(container_id, left)
        await self.look(container_id)

    async def _drain(self, left: float) -> float:
        """Hold the signal of a deleted pod back until Services have let go of it; the seconds that took, bounded.

        A process that gets its signal while rules still lead to it would refuse the connections that follow them.
        """
        traffic, memory, clock = self._tools.traffic, self._subject.memory, self._tools.clock
        own_address = bool(memory.ips) and not spec_of(self._subject.pod).get("hostNetwork")
        if traffic is None or not own_address or not is_deleting(self._subject.pod, memory):
            return 0.0
        began = clock.monotonic()
        try:
            async with asyncio.timeout(min(DRAIN_SECONDS, left / 2)):
                if await traffic.released(memory.ips[0]):
                    # This host's rules are written; the others saw the same change at the same time.
                    await clock.sleep(OTHER_HOSTS_SECONDS)
        except TimeoutError:
            pass
        return clock.monotonic() - began

    async def _hook(self, hook: Obj, container: Obj, container_id: str, limit: float) -> tuple[bool, str]:
        if "sleep" in hook:
            await self._tools.clock.sleep(min(float(hook["sleep"].get("seconds") or 0), limit))
            return True, ""
        ips = self._subject.memory.ips
        outcome = await self._tools.handlers.run(hook, Target(container_id, container, ips[0] if ips else ""), limit)
        return outcome.ok, outcome.text

    async def look(self, container_id: str) -> None:
        """Observe a container, and read its last words when it has ended."""
        memory = self._subject.memory
        try:
            info = await self._tools.runtime.inspect(container_id)
        except NoSuchContainer:
            memory.forget(container_id)
            return
        await self.take_in(info)

    async def take_in(self, info: ContainerInfo) -> None:
        """Memory of an inspected container, with image details and termination message."""
        memory = self._subject.memory
        if info.state == "exited" and not info.is_sandbox and info.id not in memory.messages:
            path = pod_files(self._tools.config, info.pod_uid).termination(info.container, info.attempt)
            memory.messages[info.id] = await read_message(info, path, self._tools.runtime)
        if not info.is_sandbox and info.image_id not in memory.image_details:
            try:
                memory.image_details[info.image_id] = await self._tools.runtime.images.inspect(info.image_id)
            except NoSuchImage:
                pass  # a running container outlives its image's name
        self._note_user(info)
        memory.observe(info)

    def _note_user(self, info: ContainerInfo) -> None:
        """Whom a container was started as; nobody can tell once it has ended."""
        users = self._subject.memory.users
        if info.running and not info.is_sandbox and info.id not in users:
            user = linux_user(info.id, info.pid)
            if user is not None:
                users[info.id] = {"linux": user}

    async def _adopt_by_name(self, engine_name: str) -> None:
        """A container that should have been ours already: made by an agent before this one."""
        try:
            await self.take_in(await self._tools.runtime.inspect(engine_name))
        except NoSuchContainer:
            return

    async def _look_at_sandbox(self) -> None:
        sandbox = self._subject.memory.sandbox
        if sandbox is not None:
            await self.look(sandbox.id)

    # Down

    async def _remove(self, container_id: str) -> None:
        info = self._subject.memory.find(container_id)
        await self._stop_probes(container_id)
        try:
            async with self._tools.removals.enter(REMOVAL):
                await self._tools.runtime.remove(container_id)
        except (EngineUnavailable, EngineTimeout):
            raise
        except RuntimeFailure as error:
            self._subject.failed(f"remove:{container_id}", "", str(error))
            log.warning("container cannot be removed", container=container_id[:12], error=str(error))
            return
        if info is not None and not info.is_sandbox:
            pod_files(self._tools.config, info.pod_uid).termination(info.container, info.attempt).unlink(
                missing_ok=True
            )
        self._subject.memory.forget(container_id)

    async def _release(self, *, files: bool) -> None:
        subject, tools = self._subject, self._tools
        pod_uid = uid(subject.pod)
        try:
            await asyncio.gather(tools.network.detach(pod_uid), tools.volumes.teardown(pod_uid))
        except Exception as error:
            # Whatever is in the way (a busy mount, a link that resists), it is tried again until it is gone.
            subject.failed("release", "", str(error), last=15.0)
            log.warning("pod cannot be released yet", pod=name(subject.pod), error=str(error))
            return
        subject.memory.volumes = None
        subject.memory.released = True
        subject.succeeded("release")
        if files:
            directory = pod_files(tools.config, pod_uid).directory
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            subject.memory.cleaned = True


class _NotStarted(RuntimeFailure):
    """The container exists but could not be started; everything is noted already."""


def _write_in_place(path: Path, text: str) -> None:
    """Containers have the file itself mounted: it must keep its inode."""
    if path.exists() and path.read_text() == text:
        return
    path.write_text(text)
    path.chmod(0o644)
