"""Starting a container: what it is made of comes together, the engine makes it, postStart runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import structlog

from agents.pods.compose import container_spec, stages_of
from agents.pods.containers import ended, find_container
from agents.pods.environment import ConfigError, build_environment
from agents.pods.gate import APP
from agents.pods.hooks import Hooks
from agents.pods.lifecycle import RISING
from agents.pods.memory import container_hash, raise_crash
from agents.pods.naming import container_name
from agents.pods.observer import Observer
from agents.pods.paths import pod_files
from agents.pods.sandboxes import NotStarted, prepare_cgroup
from agents.pods.security import needs_accounts
from agents.pods.sizes import on_its_cpus
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.runtime.errors import (
    EngineTimeout,
    EngineUnavailable,
    NameTaken,
    NoSuchContainer,
    NoSuchImage,
    RuntimeFailure,
)
from orca.api.errors import ApiError
from orca.api.objects import Obj, uid

log = structlog.get_logger()

START_RETRY = 10.0
LAST_START_RETRY = 300.0


class Starter:
    """For the containers of one pod."""

    def __init__(self, subject: Subject, tools: Tools, observer: Observer, hooks: Hooks) -> None:
        self._subject = subject
        self._tools = tools
        self._observer = observer
        self._hooks = hooks

    async def start(self, name_in_spec: str, attempt: int) -> None:
        """The attempt of that number; what is in its way is noted and told."""
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
            moved = memory.moved.get(before.id, timedelta()) if before is not None else timedelta()
            longest = self._tools.config.longest_restart_delay
            at = end.at + moved if end else now
            memory.crashes[crash] = raise_crash(memory.crashes.get(crash), now, at, last=longest)
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
        except NotStarted:
            return
        except NameTaken:
            await self._observer.adopt_by_name(container_name(subject.pod, name_in_spec, attempt))
            return
        except NoSuchContainer:
            await self._observer.look_at_sandbox()
            return
        except (EngineUnavailable, EngineTimeout):
            raise
        except RuntimeFailure as error:
            if "bind source path does not exist" in str(error):
                # Somebody removed or unmounted it behind our back: the volumes are made anew before the next try.
                memory.volumes = None
            subject.failed(key, "CreateContainerError", str(error), first=START_RETRY, last=LAST_START_RETRY)
            subject.tell("Failed", f"Error: {error}", container=name_in_spec, warning=True)
            return
        subject.succeeded(key)
        try:
            await self.after_start(container, container_id)
        except (EngineUnavailable, EngineTimeout):
            raise
        except NoSuchContainer:
            return  # removed by somebody already
        except RuntimeFailure as error:
            subject.failed(key, "ContainerCreating", str(error))

    async def _create(self, pod: Obj, container: Obj, attempt: int) -> str:
        """Create and start; the id of the container, which may have failed to start."""
        subject, tools, memory = self._subject, self._tools, self._subject.memory
        name_in_spec, sandbox, volumes = container["name"], memory.sandbox, memory.volumes
        assert sandbox is not None
        assert volumes is not None
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
            sandbox_id=sandbox.id,
            image=image,
            environment=environment.values,
            volumes=volumes,
            config=tools.config,
            node_memory=tools.node_memory(),
            staged=staged,
            accounts=accounts,
            target_id=self._target(container),
            runtime=sandbox.runtime,
        )
        spec = replace(spec, cgroup_parent=await prepare_cgroup(subject, tools, f"start:{name_in_spec}"))
        if tools.cpus is not None:
            await tools.cpus.save()
            spec = replace(spec, resources=on_its_cpus(spec.resources, memory.sizing, name_in_spec))
        termination = pod_files(tools.config, uid(subject.pod)).termination(name_in_spec, attempt)
        termination.parent.mkdir(parents=True, exist_ok=True)
        termination.touch()
        termination.chmod(0o666)
        async with tools.gate.enter(APP):
            if memory.life not in RISING:
                raise NotStarted("the pod is to end")
            container_id = await tools.runtime.create_container(spec)
            subject.tell("Created", "Container created", container=name_in_spec)
            try:
                await tools.runtime.start(container_id)
            except (EngineUnavailable, EngineTimeout, NoSuchContainer):
                raise
            except RuntimeFailure as error:
                subject.failed(
                    f"start:{name_in_spec}", "RunContainerError", str(error), first=START_RETRY, last=LAST_START_RETRY
                )
                subject.tell("Failed", f"Error: {error}", container=name_in_spec, warning=True)
                memory.observe(await tools.runtime.inspect(container_id))
                raise NotStarted from error
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

    async def after_start(self, container: Obj, container_id: str) -> None:
        """Observe, then postStart."""
        memory = self._subject.memory
        hook = (container.get("lifecycle") or {}).get("postStart")
        if hook:
            memory.hooks.add(container_id)
        try:
            info = await self._tools.runtime.inspect(container_id)
        except RuntimeFailure as error:
            # It runs or not; who finds it must neither wait for its hook for ever, nor do without.
            if hook:
                self._hooks.not_run(hook, container, container_id, str(error))
            raise
        self._observer.note_user(info)
        memory.observe(info)
        self._subject.changed()
        if not hook:
            return
        await self._hooks.post_start(hook, container, container_id)
