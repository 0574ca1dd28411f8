"""What IPVS needs of a host: kernel modules, programs and settings."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shutil
import subprocess
from pathlib import Path

import structlog

from agents.proxy.ipvs import ipset
from agents.proxy.ipvs.layout import SCHEDULERS
from agents.proxy.ipvs.netlink import HostAddresses, VirtualServers

log = structlog.get_logger()

_SYSCTLS = Path("/proc/sys/net/ipv4")


def problem(scheduler: str = "rr") -> str:
    """What keeps this host from serving in mode ipvs, "" when nothing does. Loads modules that are missing."""
    if scheduler not in SCHEDULERS:
        return f"--ipvs-scheduler={scheduler} is not one of {', '.join(SCHEDULERS)}"
    missing = []
    if not ipset.program():
        missing.append("the program ipset (apt-get install ipset)")
    _load_module("ip_vs")
    try:
        servers = VirtualServers()
    except OSError as error:
        missing.append(f"the kernel module ip_vs ({os.strerror(error.errno or 0)})")
    else:
        with contextlib.closing(servers):
            _load_module(f"ip_vs_{scheduler}")
            if not servers.knows(scheduler):
                missing.append(f"the kernel module ip_vs_{scheduler}")
    with contextlib.closing(HostAddresses()) as addresses:
        try:
            _load_module("dummy")
            if addresses.ensure_device():
                addresses.remove_device()
        except OSError as error:
            unknown = error.errno == errno.EOPNOTSUPP
            missing.append("the kernel module dummy" if unknown else str(error.strerror or error))
    if not missing:
        return ""
    return f"--proxy-mode=ipvs cannot work on this host (kernel {platform.release()}): missing {' and '.join(missing)}"


def settle(*, strict_arp: bool) -> None:
    """The settings kube-proxy gives a host in this mode; one that cannot be given is told in the log."""
    wanted = {
        # Netfilter has to see connections that IPVS translates: they are masqueraded.
        "vs/conntrack": "1",
        # Connections to a server that is gone, or that gets no new ones, must not hold on to it.
        "vs/expire_nodest_conn": "1",
        "vs/expire_quiescent_template": "1",
    }
    # A client's port that comes again goes to a fresh server; before 5.9 the kernel would take a second for each.
    wanted["vs/conn_reuse_mode"] = "1" if _kernel() >= (5, 9) else "0"
    if strict_arp:
        wanted |= {"conf/all/arp_ignore": "1", "conf/all/arp_announce": "2"}
    for name, value in wanted.items():
        path = _SYSCTLS / name
        try:
            if path.read_text().strip() != value:
                path.write_text(value)
        except OSError as error:
            log.warning("a setting of the host cannot be made", setting=f"net.ipv4.{name}", error=str(error))


def _kernel() -> tuple[int, int]:
    numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in platform.release().split(".")[:2]]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _load_module(name: str) -> None:
    """It may be built in, or already there, or not be loadable from here: what counts is tried afterwards."""
    modprobe = shutil.which("modprobe", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))
    if modprobe and not Path("/sys/module", name).exists():
        subprocess.run([modprobe, "-q", name], capture_output=True, check=False, timeout=20)
