"""Doing what was decided. Each action ends by changing the pod's memory; nothing here decides what comes next."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
from pathlib import Path

import structlog

from agents import mounts
from agents.pods import steps
from agents.pods.gate import REMOVAL
from agents.pods.hooks import Hooks
from agents.pods.images import ensure_image, ensure_volume
from agents.pods.observer import Observer
from agents.pods.paths import pod_files
from agents.pods.resizing import resize, save_sizes
from agents.pods.sandboxes import Sandboxes
from agents.pods.starter import Starter
from agents.pods.stopper import Stopper, StopProbes
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.runtime.errors import EngineTimeout, EngineUnavailable, RuntimeFailure
from orca.api.objects import name, uid

log = structlog.get_logger()

LATE_VOLUMES = 30.0


class Actions:
    """The hands of one pod's worker."""

    def __init__(self, subject: Subject, tools: Tools, observer: Observer, stop_probes: StopProbes) -> None:
        self._subject = subject
        self._tools = tools
        self._stop_probes = stop_probes
        self.hooks = Hooks(subject, tools)
        self._sandboxes = Sandboxes(subject, tools, observer)
        self._starter = Starter(subject, tools, observer, self.hooks)
        self._stopper = Stopper(subject, tools, observer, self.hooks, stop_probes)

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
        except OSError as error:
            self._host_refused(action, error)

    def _host_refused(self, action: steps.Action, error: OSError) -> None:
        """The host's disk is full, read-only or broken: told by what it stands in the way of."""
        subject = self._subject
        match action:
            case steps.StartContainer(container=container):
                subject.failed(action.key, "CreateContainerError", str(error), first=2.0)
                subject.tell("Failed", f"Error: {error}", container=container, warning=True)
            case steps.MakeSandbox() | steps.Wire():
                key = "sandbox" if subject.memory.sandbox is None else "network"
                subject.failed(key, "ContainerCreating", str(error), first=2.0)
                text = f"Failed to create pod sandbox: {error}"
                subject.tell("FailedCreatePodSandBox", text, warning=True)
            case _:
                subject.failed(action.key, "ContainerCreating", str(error), first=2.0)
        log.warning("the host is in the way", pod=name(subject.pod), action=action.key, error=str(error))

    async def _run(self, action: steps.Action) -> None:
        match action:
            case steps.MakeSandbox(attempt=attempt):
                await self._sandboxes.make(attempt)
            case steps.Wire():
                await self._sandboxes.wire()
            case steps.PrepareVolumes():
                await self._prepare_volumes()
            case steps.EnsureImage(container=container):
                await ensure_image(self._subject, self._tools, container)
            case steps.EnsureVolume(volume=volume):
                await ensure_volume(self._subject, self._tools, volume)
            case steps.StartContainer(container=container, attempt=attempt):
                await self._starter.start(container, attempt)
            case steps.StopContainer():
                await self._stopper.stop(action)
            case steps.SaveSizes():
                await save_sizes(self._subject, self._tools)
            case steps.Resize():
                await resize(self._subject, self._tools, action)
            case steps.PreStop():
                await self._stopper.pre_stop(action)
            case steps.KillContainer(id=container_id):
                await self._stopper.kill(container_id)
            case steps.Remove(id=container_id):
                await self._remove(container_id)
            case steps.Release(files=files):
                await self._release(files=files)
            case _:
                raise AssertionError(f"nobody does {action!r}")

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
            with contextlib.suppress(OSError):  # the pod's directory goes as a whole with the pod
                pod_files(self._tools.config, info.pod_uid).termination(info.container, info.attempt).unlink()
        self._subject.memory.forget(container_id)

    async def _release(self, *, files: bool) -> None:
        subject, tools = self._subject, self._tools
        pod_uid = uid(subject.pod)
        try:
            await asyncio.gather(
                tools.network.detach(pod_uid), tools.volumes.teardown(pod_uid), tools.cgroups.remove(subject.pod)
            )
            await tools.images.mounts.release(pod_uid)
            if files:
                await asyncio.to_thread(_remove_directory, pod_files(tools.config, pod_uid).directory)
        except Exception as error:
            # Whatever is in the way (a busy mount, a link that resists), it is tried again until it is gone.
            subject.failed("release", "", str(error), last=15.0)
            log.warning("pod cannot be released yet", pod=name(subject.pod), error=str(error))
            return
        subject.memory.volumes = None
        subject.memory.pulls.volumes.clear()
        subject.memory.released = True
        subject.succeeded("release")
        subject.memory.cleaned = files


def _remove_directory(directory: Path) -> None:
    """What a pod has besides its volumes. Raises OSError while anything is mounted in it: it may be somebody's data."""
    if left := mounts.mounts_below(directory):
        raise OSError(errno.EBUSY, "still mounted", str(left[0]))
    shutil.rmtree(directory, ignore_errors=True)
