"""Doing what was decided. Each action ends by changing the pod's memory; nothing here decides what comes next."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog

from agents.pods import steps
from agents.pods.compose import (
    container_spec,
    refuse_unsupported,
    sandbox_spec,
    stages_of,
)
from agents.pods.containers import ended, find_container, spec_of
from agents.pods.deletion import is_deleting
from agents.pods.environment import ConfigError, build_environment
from agents.pods.files import hosts_text, resolver_for
from agents.pods.gate import APP, REMOVAL, SANDBOX
from agents.pods.hooks import Hooks
from agents.pods.images import ensure_image, ensure_volume
from agents.pods.memory import container_hash, raise_crash
from agents.pods.messages import read_message
from agents.pods.naming import container_name
from agents.pods.paths import pod_files
from agents.pods.resizing import resize, save_sizes
from agents.pods.security import needs_accounts
from agents.pods.sizes import on_its_cpus
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.probes.tracker import Kind
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
LATE_VOLUMES = 30.0
DRAIN_SECONDS = 2.0
OTHER_HOSTS_SECONDS = 0.05


class StopProbes(Protocol):
    """Ends a container's probes of these kinds, all of them when none is named."""

    async def __call__(self, container_id: str, *kinds: Kind) -> None: ...


class Actions:
    """The hands of one pod's worker."""

    def __init__(self, subject: Subject, tools: Tools, stop_probes: StopProbes) -> None:
        self._subject = subject
        self._tools = tools
        self._stop_probes = stop_probes
        self._hooks = Hooks(subject, tools)

    async def run(self, action: steps.Action) -> None:
        """Do one action. Expected failures are noted in memory; the engine being away is one of them."""
        try:
            await self._run(action)
        except EngineUnavailable as error:
            self._subject.failed(action.key, "ContainerCreating", str(error), last=5.0)
        except EngineTimeout as error:
            self._subject.failed(action.key, "ContainerCreating", str(error))
            log.warning("engine is slow", pod=name(self._subject.pod), action=action.key, error=str(error))
            if isinstance(action, (steps.StopContainer, steps.KillContainer)):
                self._subject.tell("FailedKillPod", f"error killing pod: {error}", warning=True)

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
            case steps.EnsureVolume(volume=volume):
                await ensure_volume(self._subject, self._tools, volume)
            case steps.StartContainer(container=container, attempt=attempt):
                await self._start_container(container, attempt)
            case steps.StopContainer():
                await self._stop_container(action)
            case steps.SaveSizes():
                await save_sizes(self._subject, self._tools)
            case steps.Resize():
                await resize(self._subject, self._tools, action)
            case steps.PreStop():
                await self._pre_stop(action)
            case steps.KillContainer(id=container_id):
                self._hooks.give_up(container_id)
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
            spec = sandbox_spec(subject.pod, attempt, self._tools.config)
            spec = replace(spec, cgroup_parent=await self._cgroup("sandbox"))
            async with self._tools.gate.enter(SANDBOX):
                sandbox_id = await runtime.create_sandbox(spec)
                await runtime.start(sandbox_id)
            subject.memory.wired = subject.memory.rewire = False
            subject.memory.observe(await runtime.inspect(sandbox_id))
        except (EngineUnavailable, EngineTimeout):
            raise
        except NameTaken:
            await self._adopt_by_name(container_name(subject.pod, SANDBOX_NAME, attempt))
            return
        except _NotStarted:
            return
        except (RuntimeFailure, ConfigError) as error:
            subject.failed("sandbox", "ContainerCreating", str(error))
            subject.tell("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}", warning=True)
            return
        subject.succeeded("sandbox")
        await self._wire()

    async def _cgroup(self, key: str) -> str:
        """Have the pod's cgroup; where its containers go. Raises ``_NotStarted``, with everything noted."""
        try:
            return await self._tools.cgroups.prepare(self._subject.allotted)
        except OSError as error:
            text = f"unable to ensure pod container exists: {error}"
            self._subject.failed(key, "ContainerCreating", text)
            self._subject.tell("FailedCreatePodContainer", text, warning=True)
            raise _NotStarted(text) from error

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
        host = self._tools.host_resolver()
        resolver, problems = resolver_for(subject.pod, host, config.cluster_dns, config.cluster_domain)
        for reason, problem in problems:
            subject.tell(reason, problem, warning=True)
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
            now = self._tools.clock.now()
            end = ended(before) if before is not None else None
            longest = self._tools.config.longest_restart_delay
            memory.crashes[crash] = raise_crash(memory.crashes.get(crash), now, end.at if end else now, last=longest)
        try:
            try:
                container_id = await self._create(pod, container, attempt)
            finally:
                await self._tools.volumes.unstage(pod, name_in_spec)
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
        image = tools.runtime.images.recent(container["image"])
        known = image is not None and needs_accounts(pod, container, image)
        accounts = await tools.runtime.accounts(image.id) if known and image is not None else None
        spec = container_spec(
            pod,
            container,
            attempt=attempt,
            sandbox_id=memory.sandbox.id,
            image=image,
            environment=environment.values,
            volumes=memory.volumes,
            config=tools.config,
            node_memory=tools.node_memory(),
            staged=staged,
            accounts=accounts,
            target_id=self._target(container),
        )
        spec = replace(spec, cgroup_parent=await self._cgroup(f"start:{name_in_spec}"))
        if tools.cpus is not None:
            await tools.cpus.save()
            spec = replace(spec, resources=on_its_cpus(spec.resources, memory.sizing, name_in_spec))
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
        try:
            await tools.cgroups.started(pod, container, container_id)
        except OSError as error:
            # The pod as a whole is limited all the same.
            log.warning("limits of a container cannot be set", container=container_id[:12], error=str(error))
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
        await self._hooks.post_start(hook, container, container_id)

    async def _stop_container(self, action: steps.StopContainer) -> None:
        container = find_container(self._subject.pod, action.container) or {"name": action.container}
        if action.resized:
            # An agent that comes meanwhile must not take it for one that ended by itself.
            self._subject.memory.sizing.restarting.add(action.id)
            if not await save_sizes(self._subject, self._tools):
                self._subject.memory.sizing.restarting.discard(action.id)
                self._subject.failed(action.key, "", "allocation cannot be saved")
                return
        await self._stop(container, action)

    async def _stop(self, container: Obj, action: steps.StopContainer) -> None:
        """preStop within the grace period, then the stop signal for what is left of it, then SIGKILL."""
        left = action.grace
        self._hooks.give_up(action.id)
        if action.hook:
            self._tell_killing(container, action.why)
            # Readiness is asked to the end: whoever still sends traffic wants to know.
            await self._stop_probes(action.id, "liveness", "startup")
            took = await self._hooks.pre_stop(container, action.id, left)
            left = max(left - took, LEAST_AFTER_PRESTOP) if took else left
        left -= await self._drain(left)
        await self._tools.runtime.stop(action.id, left, info=self._subject.memory.find(action.id))
        await self.look(action.id)

    async def _pre_stop(self, action: steps.PreStop) -> None:
        container = find_container(self._subject.pod, action.container) or {"name": action.container}
        self._tell_killing(container, "")
        await self._stop_probes(action.id, "liveness", "startup")
        await self._hooks.pre_stop(container, action.id, action.limit)
        self._subject.memory.pre_stopped.add(action.id)

    def _tell_killing(self, container: Obj, why: str) -> None:
        self._subject.tell("Killing", why or f"Stopping container {container['name']}", container=container["name"])

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
                await self._tools.runtime.remove(container_id, info=info)
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
            await asyncio.gather(
                tools.network.detach(pod_uid), tools.volumes.teardown(pod_uid), tools.cgroups.remove(subject.pod)
            )
            await tools.images.mounts.release(pod_uid)
        except Exception as error:
            # Whatever is in the way (a busy mount, a link that resists), it is tried again until it is gone.
            subject.failed("release", "", str(error), last=15.0)
            log.warning("pod cannot be released yet", pod=name(subject.pod), error=str(error))
            return
        subject.memory.volumes = None
        subject.memory.pulls.volumes.clear()
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
