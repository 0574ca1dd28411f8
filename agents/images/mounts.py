"""Images as volumes: their content mounted read-only in a pod's directory.

The layers of an engine with overlay2 are stacked by an overlay of our own, so nothing is copied; what other engines
have is copied into the pod's directory. A container that is never started holds the image for the pod: the engine keeps
the layers as long as it is there, whoever removes the image. Its labels say whose it is, so that an agent that comes
after a crash knows; mounts and copies are taken away with the pod's other volumes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Collection
from pathlib import Path

import orjson

from agents.mounts import is_mounted
from agents.runtime.errors import NameTaken
from agents.runtime.model import ImageInfo
from agents.runtime.runtime import Runtime

HOLDER_LABEL = "orca.io/image-volume-of"
"""On the containers that hold images; its value is the pod's uid."""
OPTIONS_LIMIT = 4000
BLOCK = 1 << 20
ENGINES_OWN = (".dockerenv", "dev/console", "dev/pts", "dev/shm")
"""Files of every container that no image has."""


class ImageVolumeError(Exception):
    """The content cannot be mounted; the text is fit for an event."""


def volume_path(root: Path, pod_uid: str, volume: str) -> Path:
    """Where an image volume is mounted; ``root`` is the agent's directory."""
    return root / "pods" / pod_uid / "volumes" / "kubernetes.io~image" / volume


class ImageMounts:
    """``mount`` an image for a volume of a pod, ``release`` what a pod held, ``orphans`` after a restart."""

    def __init__(self, runtime: Runtime, root: Path) -> None:
        self._runtime = runtime
        self._root = root
        self._holding: set[str] | None = None
        """Pods (uids) that hold images; None until the engine was asked."""

    def __repr__(self) -> str:
        return f"<ImageMounts below {self._root}>"

    async def mounted(self, pod_uid: str, volume: str) -> bool:
        """Whether the volume is there already; it keeps its content for the pod's life."""
        return await asyncio.to_thread(is_mounted, volume_path(self._root, pod_uid, volume))

    async def mount(self, image: ImageInfo, pod_uid: str, volume: str) -> None:
        """Put the content of the image where :func:`volume_path` says. May be repeated, also after a reboot. Raises
        ImageVolumeError, RuntimeFailure."""
        if await self.mounted(pod_uid, volume):
            return
        # The holder first: a crash after this leaves something that can be found and taken away.
        await self._hold(image.id, pod_uid, volume)
        target = volume_path(self._root, pod_uid, volume)
        layers = await self._runtime.images.layers(image.id)
        if layers:
            mounting = asyncio.ensure_future(asyncio.to_thread(_mount_layers, layers, target))
        else:
            await self._copy(pod_uid, volume, target)
            mounting = asyncio.ensure_future(asyncio.to_thread(_mount_copy, target))
        try:
            await asyncio.shield(mounting)
        except asyncio.CancelledError:
            # The pod is to go: whoever takes its volumes away must find the mount made, or not.
            await asyncio.wait({mounting})
            raise

    async def _copy(self, pod_uid: str, volume: str, target: Path) -> None:
        """The holder's file system into a directory. Raises ImageVolumeError, RuntimeFailure."""
        await asyncio.to_thread(target.mkdir, mode=0o750, parents=True, exist_ok=True)
        # What the engine puts into every container, as long as it is the engine's: it is empty.
        unpacking = await asyncio.create_subprocess_exec(
            *("tar", "--extract", "--numeric-owner", "--same-permissions", "--xattrs", f"--directory={target}"),
            *("--anchored", *(f"--exclude=/{path}" for path in ENGINES_OWN)),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert unpacking.stdin is not None
        holder = _holder(pod_uid, volume)
        try:
            async with self._runtime.engine.stream("GET", f"/containers/{holder}/archive", params={"path": "/"}) as tar:
                async for block in tar.content.iter_chunked(BLOCK):
                    unpacking.stdin.write(block)
                    await unpacking.stdin.drain()
            unpacking.stdin.close()
            _, said = await unpacking.communicate()
        except BaseException:
            unpacking.kill()
            await unpacking.wait()
            raise
        if unpacking.returncode:
            raise ImageVolumeError(f"cannot copy the image's content: {said.decode(errors='replace').strip()}")

    async def release(self, pod_uid: str) -> None:
        """Let go of the images the pod held; harmless (and free) when there are none. Raises RuntimeFailure."""
        if self._holding is not None and pod_uid not in self._holding:
            return
        for name in await self._holders(f"{HOLDER_LABEL}={pod_uid}"):
            await self._runtime.remove(name)
        if self._holding is not None:
            self._holding.discard(pod_uid)

    async def orphans(self, live: Collection[str]) -> None:
        """Let go of what pods held that are not among these (uids). Raises RuntimeFailure."""
        holders = await self._holders(HOLDER_LABEL)
        self._holding = set(holders.values())
        for name, pod_uid in holders.items():
            if pod_uid not in live:
                await self._runtime.remove(name)

    async def _holders(self, label: str) -> dict[str, str]:
        filters = orjson.dumps({"label": [label]}).decode()
        raw = await self._runtime.engine.call("GET", "/containers/json", params={"all": "1", "filters": filters})
        return {str(item["Id"]): str(item["Labels"][HOLDER_LABEL]) for item in raw}

    async def _hold(self, image_id: str, pod_uid: str, volume: str) -> None:
        body = {
            "Image": image_id,
            "Cmd": ["never-started"],  # the engine takes no container without a command
            "Labels": {HOLDER_LABEL: pod_uid},
            "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "none"}},
        }
        name = _holder(pod_uid, volume)
        if self._holding is not None:
            self._holding.add(pod_uid)
        for _ in range(2):
            try:
                await self._runtime.engine.call("POST", "/containers/create", params={"name": name}, body=body)
                return
            except NameTaken:
                # Made before a crash or a reboot, perhaps for an older image of that name.
                await self._runtime.remove(name)


def _holder(pod_uid: str, volume: str) -> str:
    return f"orca-image-volume_{pod_uid}_{volume}"


def _mount_copy(target: Path) -> None:
    """Read-only, and a mount, which says that it is complete. Raises ImageVolumeError."""
    for options in ("bind", "remount,bind,ro"):
        command = ["mount", "-o", options, str(target), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ImageVolumeError(f"cannot mount the image's content: {done.stderr.strip()}")


def _mount_layers(layers: tuple[str, ...], target: Path) -> None:
    """An overlay without an upper layer; it needs two lower ones. Raises ImageVolumeError."""
    target.mkdir(mode=0o750, parents=True, exist_ok=True)
    # Short paths, relative to the directory that holds all layers: the kernel takes one page of options.
    base = os.path.commonpath([os.path.dirname(os.path.dirname(layer)) for layer in layers])
    lower = [_short(layer, base) for layer in layers]
    if len(lower) == 1:
        lower.append(str(target).replace(":", r"\:"))  # empty, and covered by the mount itself
    options = "ro,lowerdir=" + ":".join(lower)
    if len(options) > OPTIONS_LIMIT:
        raise ImageVolumeError(f"an image of {len(layers)} layers is too deep to be mounted as a volume")
    command = ["mount", "-t", "overlay", "-o", options, "overlay", str(target)]
    done = subprocess.run(command, cwd=base, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageVolumeError(f"cannot mount the image's layers: {done.stderr.strip()}")


def _short(layer: str, base: str) -> str:
    """``l/<link>`` as the engine names its layers itself, when it has such a name."""
    try:
        link = Path(os.path.dirname(layer), "link").read_text().strip()
    except OSError:
        link = ""
    if link and os.path.realpath(os.path.join(base, "l", link)) == os.path.realpath(layer):
        return f"l/{link}"
    return os.path.relpath(layer, base)
