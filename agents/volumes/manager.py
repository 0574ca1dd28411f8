"""`VolumeManager`: makes a pod's volumes ready, keeps their content current, and takes them away.

    volumes = VolumeManager(client, root=…, place=…, clock=…)
    paths = await volumes.prepare(pod)     # volume name -> path; VolumeError says which volume cannot be made and why
    await volumes.teardown(uid)
    await volumes.orphans(live_uids)       # after a restart: away with what belongs to nobody
    asyncio.create_task(volumes.run())     # hot reload and token rotation, until cancelled

Below `root`: `pods/<uid>/volumes/kubernetes.io~<type>/<name>` for what may go to disk. Secrets, tokens and other data
of the API are kept in memory, on one tmpfs at `memory/` (mounted once, so a pod costs no mount), in the same layout.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from agents.pods.environment import Place
from agents.volumes import atomic, host_path, mounts, payload
from agents.volumes.errors import VolumeError
from agents.volumes.ownership import give_to_group
from agents.volumes.payload import File
from agents.volumes.sources import ObjectSource
from agents.volumes.tokens import TokenSource
from orca.api.builtin import CONFIGMAPS, SECRETS
from orca.api.errors import ApiError
from orca.api.objects import Obj, namespace, uid
from orca.api.quantity import Quantity
from orca.client.base import Client
from orca.client.clock import Clock

ROTATION_CHECK_SECONDS = 30.0
DEFAULT_TOKEN_SECONDS = 3600
LEAST_TOKEN_SECONDS = 600
TOKEN_MODE = 0o600
FROM_API = ("configMap", "secret", "downwardAPI", "projected")
PLUGINS = {
    "configMap": "configmap",
    "secret": "secret",
    "downwardAPI": "downward-api",
    "projected": "projected",
    "emptyDir": "empty-dir",
}

log = structlog.get_logger()


class VolumeManager:
    """See the module. `place` tells what the downward API knows of the host; pod addresses are filled in by us."""

    def __init__(
        self,
        client: Client,
        *,
        root: Path,
        clock: Clock,
        place: Callable[[Obj], Place],
        memory_root: Path | None = None,
    ) -> None:
        self._pods_root = root / "pods"
        self._memory_root = memory_root or root / "memory"
        self._mounts_memory = memory_root is None
        self._clock = clock
        self._place = place
        self._sources = ObjectSource(client, clock, self._note_changed)
        self._tokens = TokenSource(client, clock)
        self._prepared: dict[str, Obj] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._changed: set[str] = set()
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<VolumeManager of {len(self._prepared)} pods>"

    # --- for pods -------------------------------------------------------------------------------------------------

    async def prepare(self, pod: Obj) -> dict[str, Path]:
        """Every volume of the pod's spec. May be repeated, also after a restart. Raises VolumeError."""
        pod_uid = uid(pod)
        volumes = pod["spec"].get("volumes") or []
        async with self._lock(pod_uid):
            if self._mounts_memory:
                await asyncio.to_thread(self._ensure_memory)
            self._prepared[pod_uid] = pod
            made = await asyncio.gather(*(self._make(pod, volume) for volume in volumes), return_exceptions=True)
            paths = {}
            for volume, path in zip(volumes, made, strict=True):
                if isinstance(path, BaseException):
                    raise path
                paths[volume["name"]] = path
            return paths

    def update(self, pod: Obj) -> None:
        """The pod's object changed: its labels and annotations may be in a volume."""
        if uid(pod) in self._prepared:
            self._prepared[uid(pod)] = pod
            self._note_changed({uid(pod)})

    async def teardown(self, pod_uid: str) -> None:
        """Unmount and delete everything of the pod; harmless when there is nothing."""
        async with self._lock(pod_uid):
            self._prepared.pop(pod_uid, None)
            self._sources.release(pod_uid)
            self._tokens.release(pod_uid)
            self._changed.discard(pod_uid)
            await asyncio.to_thread(self._remove, pod_uid)
        self._locks.pop(pod_uid, None)

    async def orphans(self, live: Collection[str]) -> None:
        """Tear down what belongs to pods that are not in `live` (uids)."""

        def present() -> set[str]:
            found = set()
            if self._pods_root.is_dir():
                found |= {entry.name for entry in self._pods_root.iterdir() if (entry / "volumes").is_dir()}
            if self._memory_root.is_dir():
                found |= {entry.name for entry in self._memory_root.iterdir()}
            return found

        for pod_uid in await asyncio.to_thread(present) - set(live):
            log.info("removing the volumes of a pod that is gone", pod=pod_uid)
            await self.teardown(pod_uid)

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

    async def _refresh(self, pod_uid: str) -> None:
        async with self._lock(pod_uid):
            pod = self._prepared.get(pod_uid)
            if pod is None:
                return
            for volume in pod["spec"].get("volumes") or []:
                if _type_of(volume) not in FROM_API:
                    continue
                try:
                    await self._make(pod, volume)
                except VolumeError as error:
                    # The pod goes on with what it has; the next change tries again.
                    log.warning("cannot bring a volume up to date", pod=pod_uid, error=str(error))

    def _lock(self, pod_uid: str) -> asyncio.Lock:
        return self._locks.setdefault(pod_uid, asyncio.Lock())

    # --- one volume -----------------------------------------------------------------------------------------------

    async def _make(self, pod: Obj, volume: Obj) -> Path:
        """The path of one volume, made and filled. Raises VolumeError that names it."""
        name, kind = volume["name"], _type_of(volume)
        try:
            if kind in FROM_API:
                return await self._make_from_api(pod, volume, kind)
            if kind == "hostPath":
                source = volume[kind]
                path = await asyncio.to_thread(host_path.prepare, source["path"], source.get("type") or "")
                return Path(path)
            if kind == "emptyDir":
                return await asyncio.to_thread(self._make_empty, pod, volume)
        except VolumeError as error:
            raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from error
        except (OSError, ApiError) as error:
            reason = str(error) or type(error).__name__
            raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {reason}') from error
        raise VolumeError(f'volume "{name}" is of type {kind or "unknown"}, which this host does not support')

    async def _make_from_api(self, pod: Obj, volume: Obj, kind: str) -> Path:
        source = volume[kind]
        if kind == "projected":
            files: dict[str, File] = {}
            for part in source.get("sources") or []:
                files |= await self._projection(pod, part, default_mode=_mode(source))
        else:
            files = await self._projection(pod, {kind: _plain(source, kind)}, default_mode=_mode(source))
        path = self._path(self._memory_root, pod, kind, volume["name"])
        await asyncio.to_thread(atomic.write, path, files, now=self._clock.now(), group=_fs_group(pod))
        return path

    async def _projection(self, pod: Obj, part: Obj, *, default_mode: int) -> dict[str, File]:
        """Files of one source of a projected volume; the plain volume types are such sources too."""
        kind = _type_of(part)
        source = part.get(kind) or {}
        if kind in ("configMap", "secret"):
            return await self._objects_files(pod, kind, source, default_mode)
        if kind == "downwardAPI":
            return payload.downward_files(pod, source.get("items") or [], self._place(pod), default_mode=default_mode)
        if kind == "serviceAccountToken":
            seconds = max(int(source.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS), LEAST_TOKEN_SECONDS)
            token = await self._tokens.get(pod, audience=source.get("audience") or "", seconds=seconds)
            owner = _only_user(pod)
            private = owner is not None or _fs_group(pod) is not None
            mode = TOKEN_MODE if private else default_mode
            return {source["path"]: File(token.encode(), mode, owner)}
        raise VolumeError(f"projected source {kind or 'unknown'} is not supported by this host")

    async def _objects_files(self, pod: Obj, kind: str, source: Obj, default_mode: int) -> dict[str, File]:
        resource = CONFIGMAPS if kind == "configMap" else SECRETS
        optional = bool(source.get("optional"))
        what = f"{namespace(pod)}/{source['name']}"
        try:
            obj = await self._sources.get(resource, namespace(pod), source["name"], user=uid(pod))
        except TimeoutError:
            raise VolumeError(f"timed out waiting for {resource.singular} {what}") from None
        if obj is None:
            if optional:
                return {}
            raise VolumeError(f'{resource.singular} "{source["name"]}" not found')
        data = payload.config_map_data(obj) if kind == "configMap" else payload.secret_data(obj)
        return payload.data_files(
            data,
            source.get("items"),
            default_mode=default_mode,
            what="config" if kind == "configMap" else "secret",
            optional=optional,
        )

    def _make_empty(self, pod: Obj, volume: Obj) -> Path:
        source = volume["emptyDir"] or {}
        medium = source.get("medium") or ""
        path = self._path(self._pods_root, pod, "emptyDir", volume["name"])
        if medium not in ("", "Memory"):
            raise VolumeError(f"emptyDir medium {medium} is not supported by this host")
        new = not path.is_dir()
        path.mkdir(mode=0o777, parents=True, exist_ok=True)
        if medium == "Memory" and not mounts.is_mounted(path):
            limit = source.get("sizeLimit")
            mounts.mount_tmpfs(path, mode=0o777, size=Quantity.parse(limit).integer if limit else 0)
            new = True
        if new:
            os.chmod(path, 0o777)
        group = _fs_group(pod)
        if group is not None:
            policy = (pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy")
            give_to_group(path, group, only_on_mismatch=policy == "OnRootMismatch")
        return path

    # --- files ----------------------------------------------------------------------------------------------------

    def _path(self, root: Path, pod: Obj, kind: str, name: str) -> Path:
        return root / uid(pod) / "volumes" / f"kubernetes.io~{PLUGINS[kind]}" / name

    def _ensure_memory(self) -> None:
        """The tmpfs is there; a restarted agent finds it, a rebooted host does not."""
        if not mounts.is_mounted(self._memory_root):
            self._memory_root.mkdir(mode=0o700, parents=True, exist_ok=True)
            mounts.mount_tmpfs(self._memory_root, mode=0o700)

    def _remove(self, pod_uid: str) -> None:
        for directory in (self._pods_root / pod_uid / "volumes", self._memory_root / pod_uid):
            if not directory.exists():
                continue
            for mounted in mounts.mounts_below(directory):
                mounts.unmount(mounted)
            shutil.rmtree(directory)
        with contextlib.suppress(OSError):
            (self._pods_root / pod_uid).rmdir()


def _type_of(volume: Obj) -> str:
    """The one key besides the name."""
    return next((key for key in volume if key != "name"), "")


def _plain(source: Obj, kind: str) -> Obj:
    """A volume source as a projection of the same kind: a secret volume names its secret in a field of its own."""
    return {**source, "name": source["secretName"]} if kind == "secret" else source


def _mode(source: Obj) -> int:
    mode = source.get("defaultMode")
    return payload.DEFAULT_MODE if mode is None else int(mode)


def _fs_group(pod: Obj) -> int | None:
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return None if group is None else int(group)


def _only_user(pod: Obj) -> int | None:
    """The user all containers run as, when the spec says so and it is one: the owner of token files."""
    spec = pod["spec"]
    default = (spec.get("securityContext") or {}).get("runAsUser")
    users = {
        (container.get("securityContext") or {}).get("runAsUser", default)
        for sort in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(sort) or []
    }
    return users.pop() if len(users) == 1 else None
