"""What this host is and how it is doing, read from /proc, /sys and /etc. Reads only; decides nothing."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Things that change only with a reboot. Memory and disk in bytes."""

    cpus: int
    memory: int
    disk: int
    huge_pages: tuple[tuple[str, int], ...]
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel: str
    os_image: str
    architecture: str
    swap: int = 0


def read_facts(root: Path) -> HostFacts:
    """Facts of this host; `root` is the agent's directory, whose file system is the node's ephemeral storage."""
    return HostFacts(
        cpus=os.cpu_count() or 1,
        memory=_memory("MemTotal"),
        disk=shutil.disk_usage(root).total,
        huge_pages=_huge_pages(),
        machine_id=_first_line("/etc/machine-id"),
        system_uuid=_first_line("/sys/class/dmi/id/product_uuid") or _first_line("/etc/machine-id"),
        boot_id=_first_line("/proc/sys/kernel/random/boot_id"),
        kernel=platform.release(),
        os_image=_os_image(),
        swap=_memory("SwapTotal"),
        architecture=ARCHITECTURES.get(platform.machine(), platform.machine()),
    )


def default_address(towards: str) -> str:
    """The address that packets to `towards` (host or address) would leave from; "" when there is no route.

    Connecting a datagram socket sends nothing; it only asks the kernel for the route.
    """
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(towards, 6443, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(address)
                return str(probe.getsockname()[0])
    except OSError:
        pass
    return ""


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().partition("\n")[0].strip()
    except OSError:
        return ""


def _memory(field: str) -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name == field:
                return int(rest.split()[0]) * 1024
    return 0


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _huge_pages() -> tuple[tuple[str, int], ...]:
    """Resource name and bytes for each page size of the kernel, e.g. ("hugepages-2Mi", 0)."""
    found = []
    for directory in sorted(Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB")):
        kilobytes = int(directory.name.removeprefix("hugepages-").removesuffix("kB"))
        label = f"{kilobytes >> 20}Gi" if kilobytes >= 1 << 20 else f"{kilobytes >> 10}Mi"
        found.append((f"hugepages-{label}", int(_first_line(str(directory / "nr_hugepages")) or 0) * kilobytes * 1024))
    return tuple(found)


def most_processes() -> int:
    """How many processes (and threads) the kernel lets there be."""
    return min(int(_first_line(f"/proc/sys/kernel/{name}")) for name in ("pid_max", "threads-max"))
