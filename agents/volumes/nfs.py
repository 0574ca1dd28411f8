"""nfs: a directory of a server, mounted by the kernel's client through mount(8), which finds ``mount.nfs``.

Reference: k8s.io/kubernetes ``pkg/volume/nfs``.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from agents import mounts
from agents.pods.ports import Mounted
from agents.threads import to_the_end
from agents.volumes.errors import VolumeError
from agents.volumes.plugin import Places
from orca.api.objects import Obj

PLUGIN = "nfs"
LONGEST_MOUNT = 120.0
REAP_SECONDS = 5.0
FILESYSTEMS = Path("/proc/filesystems")
HELPERS = tuple(Path(directory, "mount.nfs") for directory in ("/sbin", "/usr/sbin", "/usr/local/sbin"))


class Nfs:
    """``program`` mounts as mount(8) does."""

    follows_api = False

    def __init__(self, places: Places, *, program: str = "mount") -> None:
        self._places = places
        self._program = program

    async def make(self, pod: Obj, name: str, source: Obj) -> Mounted:
        return await self.mount(pod, name, source)

    async def mount(
        self, pod: Obj, name: str, source: Obj, *, options: Sequence[str] = (), read_only: bool = False
    ) -> Mounted:
        """For a PersistentVolume, ``options`` are its ``mountOptions`` and ``name`` is its name."""
        read_only = read_only or bool(source.get("readOnly"))
        path = self._places.on_disk(pod, PLUGIN, name)
        if not await asyncio.to_thread(mounts.is_mounted, path):
            await to_the_end(path.mkdir, 0o750, parents=True, exist_ok=True)
            wanted = [*dict.fromkeys([*options, *(["ro"] if read_only else [])])]
            await self.attach(source["server"], source["path"], path, wanted)
        return Mounted(str(path), read_only)

    async def attach(self, server: str, export: str, path: Path, options: Sequence[str] = ()) -> None:
        """Mount an export on a directory that is there. Raises VolumeError."""
        wanted = ["-o", ",".join(options)] if options else []
        try:
            await self._run("-t", "nfs", *wanted, f"{_server(server)}:{export}", str(path))
        except VolumeError as error:
            if what := await asyncio.to_thread(lacking):
                raise VolumeError(f"{error}\nThis host cannot mount NFS: it has {what}") from error
            raise

    async def _run(self, *arguments: str) -> None:
        """Raises VolumeError with what the program said. One that hangs is killed, and waited for no longer than a
        moment: a process that waits for a dead server cannot be killed, and must not take its pod's worker along."""
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            raise VolumeError(_failure(self._program, arguments, error.strerror or str(error), "")) from error
        try:
            async with asyncio.timeout(LONGEST_MOUNT):
                output, _ = await process.communicate()
        except TimeoutError:
            raise VolumeError(_failure(self._program, arguments, "timed out", "")) from None
        finally:
            await _end(process)
        if process.returncode:
            text = output.decode(errors="replace")
            raise VolumeError(_failure(self._program, arguments, f"exit status {process.returncode}", text))


def lacking(filesystems: Path = FILESYSTEMS, helpers: Sequence[Path] = HELPERS) -> str:
    """What a host lacks that has just failed to mount an export, "" for nothing: by then its kernel has loaded the
    client, if there is one."""
    known = {line.split()[-1] for line in filesystems.read_text().splitlines() if line.split()}
    missing = [] if known & {"nfs", "nfs4"} else ["no NFS client in its kernel"]
    if not any(helper.exists() for helper in helpers):
        missing.append("no mount.nfs (Debian: nfs-common)")
    return ", ".join(missing)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.kill()
    try:
        async with asyncio.timeout(REAP_SECONDS):
            await process.wait()
    except TimeoutError:
        return


def _failure(program: str, arguments: Sequence[str], why: str, output: str) -> str:
    """In upstream's words."""
    text = f"mount failed: {why}\nMounting command: {Path(program).name}\nMounting arguments: {' '.join(arguments)}"
    return f"{text}\nOutput: {output}"


def _server(host: str) -> str:
    """A name or address as it stands before the colon."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return f"[{host}]" if address.version == 6 else host
