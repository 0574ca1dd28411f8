"""Debian's cloud kernel, unpacked into the cache, never installed, and an initramfs that mounts this machine's files.

The initramfs is made anew for every guest: it holds busybox, the modules of the file system and what to run.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

CACHE = Path("/var/cache/orca/guest")
METAPACKAGE = "linux-image-cloud-amd64"
_FIRST_MODULES = ("virtio_pci", "virtio_console", "virtiofs", "overlay")


class KernelError(Exception):
    """There is no kernel to be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel package: ``root`` holds ``boot`` and ``lib/modules``."""

    root: Path
    release: str

    @property
    def image(self) -> Path:
        return self.root / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        return self.root / "lib" / "modules" / self.release

    def closure(self, names: Iterable[str]) -> list[Path]:
        """Files of the modules and of all they need, in an order they can be loaded in."""
        needs: dict[str, tuple[str, list[str]]] = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, others = line.partition(":")
            needs[_module(path)] = path, [_module(other) for other in others.split()]
        found: dict[str, Path] = {}

        def take(name: str) -> None:
            if name in found or name not in needs:  # what has no file is built in
                return
            for other in needs[name][1]:
                take(other)
            found[name] = self.modules / needs[name][0]

        for name in names:
            take(name)
        return list(found.values())


def newest() -> Kernel:
    """The kernel in the cache; fetched with apt-get when there is none. Raises ``KernelError``."""
    there = sorted(path for path in CACHE.glob("*/lib/modules/*/modules.dep"))
    if there:
        return Kernel(there[-1].parents[3], there[-1].parent.name)
    return _fetch()


def _fetch() -> Kernel:
    depends = run_tool("apt-cache", "depends", METAPACKAGE)
    package = re.search(r"Depends: (linux-image-\S*cloud\S*)", depends)
    if not package:
        raise KernelError(f"apt-get knows no package {METAPACKAGE}")
    CACHE.mkdir(parents=True, exist_ok=True)
    # Beside its final place, so that what is seen there is always whole.
    work = Path(tempfile.mkdtemp(dir=CACHE, prefix=".fetch-"))
    try:
        run_tool("apt-get", "-q", "download", package[1], cwd=work)
        (archive,) = work.glob("*.deb")
        unpacked = work / "root"
        run_tool("dpkg", "-x", str(archive), str(unpacked))
        release = next((unpacked / "lib" / "modules").iterdir()).name
        run_tool("depmod", "-b", str(unpacked), release)
        place = CACHE / release
        if not place.exists():
            os.rename(unpacked, place)
        return Kernel(place, release)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def initramfs(kernel: Kernel, files: Mapping[str, str], links: Mapping[str, str] | None = None) -> bytes:
    """A cpio archive whose ``/init`` loads the first modules and goes on with ``start`` of these files."""
    busybox = shutil.which("busybox")
    if not busybox:
        raise KernelError("busybox is not installed: apt-get install busybox-static")
    archive = _Cpio()
    for directory in ("bin", "modules", "proc", "sys", "dev", "host", "own", "root"):
        archive.add(directory, b"", 0o040755)
    archive.add("dev/console", b"", 0o020600, (5, 1))  # where init's own words go
    archive.add("bin/busybox", Path(busybox).read_bytes(), 0o100755)
    order = []
    for path in kernel.closure(_FIRST_MODULES):
        content = path.read_bytes()
        name = path.name.removesuffix(".xz")
        archive.add(f"modules/{name}", lzma.decompress(content) if path.suffix == ".xz" else content, 0o100644)
        order.append(name)
    archive.add("modules/order", "\n".join(order).encode() + b"\n", 0o100644)
    for name, text in files.items():
        archive.add(name, text.encode(), 0o100755)
    for name, target in (links or {}).items():
        archive.add(name, target.encode(), 0o120777)
    return archive.done()


class _Cpio:
    """The "newc" format, which the kernel unpacks."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def add(self, name: str, content: bytes, mode: int, device: tuple[int, int] = (0, 0)) -> None:
        self._count += 1
        path = name.encode() + b"\0"
        fields = (self._count, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        head = b"070701" + "".join(f"{value:08X}" for value in fields).encode() + path
        self._parts += [head, b"\0" * (-len(head) % 4), content, b"\0" * (-len(content) % 4)]

    def done(self) -> bytes:
        self.add("TRAILER!!!", b"", 0)
        return b"".join(self._parts)


def _module(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def run_tool(*argv: str, cwd: Path | None = None) -> str:
    """What a program prints. Raises ``KernelError`` with what it complained of."""
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"{argv[0]}: {error}") from error
    if done.returncode:
        raise KernelError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
