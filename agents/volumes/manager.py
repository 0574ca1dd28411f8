"""`VolumeManager`: makes a pod's volumes ready, keeps their content current, and takes them away.

    volumes = VolumeManager(client, root=…, place=…, clock=…)
    ready = await volumes.prepare(pod)     # volume name -> Mounted; VolumeError says which cannot be made and why
    paths = await volumes.stage(pod, "app", [Stage(0, "data", sub_path="logs")])   # while a container is started
    await volumes.unstage(pod, "app")
    await volumes.teardown(uid)
    await volumes.orphans(live_uids)       # after a restart: away with what belongs to nobody
    asyncio.create_task(volumes.run())     # hot reload and token rotation, until cancelled

Below `root`: `pods/<uid>/volumes/kubernetes.io~<type>/<name>` for what may go to disk. Secrets, tokens and other data
of the API are kept in memory, on one tmpfs at `memory/` (mounted once, so a pod costs no mount), in the same layout.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import structlog

from agents import mounts
from agents.pods.environment import ConfigError, Place
from agents.pods.ports import Mounted, Stage
from agents.threads import to_the_end
from agents.volumes import removal, staging
from agents.volumes.claims import Claims, OwnClaims
from agents.volumes.empty_dir import EmptyDir
from agents.volumes.errors import MountFailed, VolumeError
from agents.volumes.from_api import DIRECTORIES, FilesFromApi
from agents.volumes.host_path import HostPath
from agents.volumes.image import ImageVolume
from agents.volumes.nfs import Nfs
from agents.volumes.plugin import Places, Plugin
from agents.volumes.provisioned import Exports
from agents.volumes.sources import ObjectSource
from agents.volumes.tokens import TokenSource
from orca.api import objects
from orca.api.errors import ApiError
from orca.api.objects import Obj, uid
from orca.client.base import Client
from orca.client.clock import Clock

ROTATION_CHECK_SECONDS = 30.0

log = structlog.get_logger()


class VolumeManager:
    """See the module. `place` tells what the downward API knows of the host, `node` is this host's object; `plugins`
    are further volume types, or other makers of those known here, by the field of the volume."""

    def __init__(
        self,
        client: Client,
        *,
        root: Path,
        clock: Clock,
        place: Callable[[Obj], Place],
        memory_root: Path | None = None,
        node: Callable[[], Obj | None] = lambda: None,
        plugins: Mapping[str, Plugin] | None = None,
    ) -> None:
        self._root = root
        self._places = Places(root / "pods", memory_root or root / "memory")
        self._mounts_memory = memory_root is None
        self._clock = clock
        self._sources = ObjectSource(client, clock, self._note_changed)
        self._tokens = TokenSource(client, clock)
        nfs = Nfs(self._places)
        self.exports = Exports(nfs, root / "exports")
        claims = Claims(client, self._places, nfs, node, self.exports)
        self._plugins: dict[str, Plugin] = {
            "hostPath": HostPath(),
            "emptyDir": EmptyDir(self._places, place),
            "nfs": nfs,
            "image": ImageVolume(root),
            "persistentVolumeClaim": claims,
            "ephemeral": OwnClaims(claims),
        }
        for kind in DIRECTORIES:
            self._plugins[kind] = FilesFromApi(
                kind, places=self._places, sources=self._sources, tokens=self._tokens, place=place, clock=clock
            )
        self._plugins |= plugins or {}
        self._prepared: dict[str, Obj] = {}
        self._ready: dict[str, dict[str, Mounted]] = {}
        self._staged: set[tuple[str, str]] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._leftovers: set[str] = set()

    def __repr__(self) -> str:
        return f"<VolumeManager of {len(self._prepared)} pods>"

    # --- for pods -------------------------------------------------------------------------------------------------

    @property
    def read_only_in_depth(self) -> bool:
        """Whether `recursiveReadOnly` can be had on this host."""
        return mounts.can_be_read_only_in_depth()

    async def prepare(self, pod: Obj) -> dict[str, Mounted]:
        """Every volume of the pod's spec. May be repeated, also after a restart. Raises VolumeError."""
        pod_uid = uid(pod)
        volumes = pod["spec"].get("volumes") or []
        async with self._lock(pod_uid):
            self._leftovers.discard(pod_uid)  # a pod of a file that comes again is the same one
            await to_the_end(self._begin, pod)
            self._prepared[pod_uid] = pod
            made = await asyncio.gather(*(self._make(pod, volume) for volume in volumes), return_exceptions=True)
            ready = {}
            for volume, mounted in zip(volumes, made, strict=True):
                if isinstance(mounted, BaseException):
                    raise mounted
                ready[volume["name"]] = mounted
            self._ready[pod_uid] = ready
            return ready

    async def stage(self, pod: Obj, container: str, stages: Sequence[Stage]) -> dict[int, str]:
        """Mount what entries of a container's `volumeMounts` ask for beyond a whole volume. Raises ConfigError."""
        return {one.index: await self._stage(pod, container, one) for one in stages}

    async def _stage(self, pod: Obj, container: str, stage: Stage) -> str:
        volume = self._ready.get(uid(pod), {}).get(stage.volume)
        if volume is None:
            raise ConfigError(f'cannot find volume "{stage.volume}" to mount into container "{container}"')
        target = self._places.stages(uid(pod)) / container / str(stage.index)
        self._staged.add((uid(pod), container))
        try:
            await to_the_end(staging.stage, volume.path, stage.sub_path, target, in_depth=stage.read_only_in_depth)
        except (OSError, staging.LeadsOut) as error:
            # Not in the event: what it says would tell of the host's files.
            log.warning("cannot prepare a mount", pod=uid(pod), container=container, error=str(error))
            what = "subPath" if stage.sub_path else "recursive read-only mount"
            text = f'failed to prepare {what} for volumeMount "{stage.volume}" of container "{container}"'
            raise ConfigError(text) from error
        return str(target)

    async def unstage(self, pod: Obj, container: str) -> None:
        """The container has started, or has not: what was staged for it is mounted in it, and needed no more.

        The mount points stay for the pod's time: one that is in another pod's stage at the moment cannot be deleted.
        """
        if (uid(pod), container) in self._staged:
            self._staged.discard((uid(pod), container))
            try:
                await asyncio.to_thread(removal.unmount, self._places.stages(uid(pod)) / container)
            except OSError as error:
                # Harmless until the pod's end, when it must go.
                log.warning("a staged mount stays for now", pod=uid(pod), container=container, error=str(error))

    async def read(self, pod: Obj, volume: str, path: str) -> bytes | None:
        """A file of a volume that is ready, None when it cannot be read; never one outside the volume."""
        ready = self._ready.get(uid(pod), {}).get(volume)
        if ready is None:
            return None
        try:
            return await asyncio.to_thread(staging.read_inside, ready.path, path)
        except (OSError, staging.LeadsOut) as error:
            log.warning("cannot read a file of a volume", pod=uid(pod), volume=volume, error=str(error))
            return None

    def update(self, pod: Obj) -> None:
        """The pod's object changed: its labels and annotations may be in a volume."""
        known = self._prepared.get(uid(pod))
        if known is None:
            return
        self._prepared[uid(pod)] = pod
        if any(of(known) != of(pod) for of in (objects.labels, objects.annotations)):
            self._note_changed({uid(pod)})

    async def teardown(self, pod_uid: str) -> None:
        """Unmount and delete everything of the pod; harmless when there is nothing."""
        async with self._lock(pod_uid):
            self._prepared.pop(pod_uid, None)
            self._ready.pop(pod_uid, None)
            self._sources.release(pod_uid)
            self._tokens.release(pod_uid)
            self._changed.discard(pod_uid)
            await asyncio.to_thread(self._remove, pod_uid)
        self._locks.pop(pod_uid, None)

    async def orphans(self, live: Collection[str]) -> None:
        """Take away what belongs to pods that are not in `live` (uids); what resists is tried again later."""

        def present() -> set[str]:
            roots = (root for root in (self._places.disk, self._places.memory) if root.is_dir())
            return {entry.name for root in roots for entry in root.iterdir()}

        await self.exports.clear()
        self._leftovers = await asyncio.to_thread(present) - set(live)
        await self._clear_leftovers()

    async def _clear_leftovers(self) -> None:
        for pod_uid in list(self._leftovers):
            try:
                async with self._lock(pod_uid):
                    if pod_uid not in self._leftovers:
                        continue
                    await asyncio.to_thread(self._remove, pod_uid)
                    await asyncio.to_thread(removal.remove, self._places.disk / pod_uid)
            except OSError as error:
                log.warning("what a pod left behind stays for now", pod=pod_uid, error=str(error))
            else:
                log.info("removed what a pod that is gone left behind", pod=pod_uid)
                self._leftovers.discard(pod_uid)

    async def run(self) -> None:
        """Carries changes into volumes until cancelled."""
        rotation = asyncio.create_task(self._rotate())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._changed:
                    await self._refresh(self._changed.pop())
        finally:
            rotation.cancel()
            await self._sources.close()

    # --- keeping current ------------------------------------------------------------------------------------------

    def _note_changed(self, uids: set[str]) -> None:
        self._changed |= uids & self._prepared.keys()
        self._wake.set()

    async def _rotate(self) -> None:
        while True:
            await self._clock.sleep(ROTATION_CHECK_SECONDS)
            self._note_changed(self._tokens.due())
            await self._clear_leftovers()

    async def _refresh(self, pod_uid: str) -> None:
        async with self._lock(pod_uid):
            pod = self._prepared.get(pod_uid)
            if pod is None:
                return
            for volume in pod["spec"].get("volumes") or []:
                plugin = self._plugins.get(_type_of(volume))
                if plugin is None or not plugin.follows_api:
                    continue
                try:
                    await self._make(pod, volume)
                except VolumeError as error:
                    # The pod goes on with what it has; the next change tries again.
                    log.warning("cannot bring a volume up to date", pod=pod_uid, error=str(error))

    def _lock(self, pod_uid: str) -> asyncio.Lock:
        return self._locks.setdefault(pod_uid, asyncio.Lock())

    async def _make(self, pod: Obj, volume: Obj) -> Mounted:
        """One volume, made and filled. Raises VolumeError that names it."""
        name, kind = volume["name"], _type_of(volume)
        plugin = self._plugins.get(kind)
        if plugin is None:
            raise VolumeError(f'volume "{name}" is of type {kind or "unknown"}, which this host does not support')
        try:
            return await plugin.make(pod, name, volume[kind])
        except MountFailed:
            raise
        except (VolumeError, OSError, ApiError) as error:
            reason = str(error) or type(error).__name__
            raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {reason}') from error

    # --- files ----------------------------------------------------------------------------------------------------

    def _begin(self, pod: Obj) -> None:
        """The tmpfs is there; a restarted agent finds it, a rebooted host does not. For pods whose mounts are to
        propagate the root is shared, but for the tmpfs."""
        if self._mounts_memory:
            if _propagates(pod):
                mounts.share(self._root)
            if not os.path.ismount(self._places.memory):
                self._places.memory.mkdir(mode=0o700, parents=True, exist_ok=True)
                mounts.mount_tmpfs(self._places.memory, mode=0o700)
            # Nothing staged there is to show up wherever else the root may be seen.
            mounts.make_private(self._places.memory)
        if uid(pod) not in self._prepared:
            # Of an agent that ended while it started a container.
            removal.unmount(self._places.stages(uid(pod)))

    def _remove(self, pod_uid: str) -> None:
        pod = self._places.disk / pod_uid
        for directory in (self._places.memory / pod_uid, pod / "volumes", pod / "plugins"):
            removal.remove(directory)
        try:
            pod.rmdir()
        except OSError:
            return  # it was never made, or others have files in it


def _type_of(volume: Obj) -> str:
    """The one key besides the name."""
    return next((key for key in volume if key != "name"), "")


def _propagates(pod: Obj) -> bool:
    spec = pod["spec"]
    return any(
        mount.get("mountPropagation") not in (None, "", "None")
        for sort in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(sort) or ()
        for mount in container.get("volumeMounts") or ()
    )
