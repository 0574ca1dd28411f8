"""A host of the lab: its private mount and UTS namespaces, and the services that run in it under supervision.

A *holder* process keeps the namespaces alive, as a machine that is switched on does. Inside, ``/run``, ``/tmp`` and the
directories of engine, server and agent are the host's own, so that every program uses its ordinary paths. Each service
runs under a shell loop that starts it again when it dies, as systemd does on real hosts.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orca.lab import cgroups
from orca.lab.layout import Host, LabError
from orca.lab.shell import run

# Paths inside a host that are its own: path -> directory below the host's state directory.
OWN_DIRECTORIES = {
    "/var/lib/docker": "docker",
    "/var/lib/orca": "orca",
    "/var/lib/orca-agent": "orca-agent",
    "/etc/orca": "etc-orca",
    "/etc/docker": "etc-docker",
    "/etc/cni": "etc-cni",
    "/var/lib/cni": "cni",
    "/var/log/pods": "pod-logs",
}
RESTART_SECONDS = 1
KILLED_SECONDS = 10
"""What a killed process may take to be gone."""
BEGUN_SECONDS = 60.0
"""What a host or a supervisor may take to be there, on a machine that does other things, too."""


@dataclass(frozen=True, slots=True)
class Service:
    """A program that a host runs: its name, its command line and what to set in its environment."""

    name: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


def is_running(host: Host) -> bool:
    """True while the host is switched on."""
    return _alive(_read_pid(host, "holder"))


def switch_on(host: Host) -> None:
    """Make the host's namespaces; a host that is on stays as it is."""
    if is_running(host):
        return
    for name in ("log", "pid", *OWN_DIRECTORIES.values()):
        (host.state / name).mkdir(parents=True, exist_ok=True)
    for path in OWN_DIRECTORIES:
        os.makedirs(path, exist_ok=True)
    (host.state / "hosts").write_text(
        "127.0.0.1\tlocalhost\n" + "".join(f"{h.address}\t{h.name}\n" for h in host.lab.hosts)
    )
    (host.state / "resolv.conf").touch()
    shutil.rmtree(host.state / "pid")
    (host.state / "pid").mkdir()
    ready = host.state / "pid" / "holder"
    script = "\n".join(
        [
            "set -e",
            cgroups.enter_command(host.cgroup),
            *_own_tmp(host),
            "mount --make-rshared /",
            "mount -t tmpfs -o mode=755 tmpfs /run",
            "mkdir -p /run/lock /run/netns",
            *(f"mount --bind {host.state / own} {path}" for path, own in OWN_DIRECTORIES.items()),
            f"mount --bind {host.state / 'hosts'} /etc/hosts",
            f"mount --bind {host.state / 'resolv.conf'} /etc/resolv.conf",
            f"hostname {host.name}",
            f"echo $$ > {ready}.new && mv {ready}.new {ready}",
            "exec sleep infinity",
        ]
    )
    log = host.log("holder").open("ab")
    subprocess.Popen(
        [
            *("nsenter", f"--net=/run/netns/{host.netns}"),
            *("unshare", "--mount", "--uts", "--propagation", "private"),
            *("/bin/sh", "-c", script),
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    deadline = time.monotonic() + BEGUN_SECONDS
    while not ready.exists():
        if time.monotonic() > deadline:
            raise LabError(f"{host.name} did not start: {host.log('holder').read_text()[-400:]}")
        time.sleep(0.01)


def remove_mount_points() -> None:
    """Remove the directories that hosts mount over, where they are empty: this machine needs none of them."""
    for path in OWN_DIRECTORIES:
        with suppress(OSError):
            os.rmdir(path)


def _own_tmp(host: Host) -> list[str]:
    """Shell lines that give the host a ``/tmp`` of its own, in which the code that it runs is still seen."""
    own = host.state / "tmp"
    lines = [f"mkdir -p {own}", f"chmod 1777 {own}"]
    for needed in {Path(sys.prefix), Path(__file__).parents[2]}:
        if needed.is_relative_to("/tmp"):
            seen = own / needed.relative_to("/tmp")
            lines += [f"mkdir -p {seen}", f"mount --bind {needed} {seen}"]
    return [*lines, f"mount --rbind {own} /tmp"]


def enter(host: Host) -> list[str]:
    """The command prefix that runs a program inside the host; raises ``LabError`` when it is switched off."""
    holder = _read_pid(host, "holder")
    if not _alive(holder):
        raise LabError(f"{host.name} is switched off; start it with: orca lab start {host.name}")
    return ["nsenter", "--target", str(holder), "--mount", "--uts", "--net", "--wd=/"]


def call(host: Host, *argv: str, timeout: float = 60.0, check: bool = True, text: str | None = None) -> str:
    """Run a program inside the host and return its output; raises ``LabError`` when it fails."""
    return run(*enter(host), *argv, timeout=timeout, check=check, text=text)


def root(host: Host) -> Path:
    """The host's file system as this machine sees it; raises ``LabError`` when the host is switched off."""
    holder = _read_pid(host, "holder")
    if not _alive(holder):
        raise LabError(f"{host.name} is switched off")
    return Path(f"/proc/{holder}/root")


def start_service(host: Host, service: Service) -> None:
    """Start a service under its supervisor, unless it is there already.

    Returns when the program has been started once, so that it can be found, stopped and killed at once: who stopped
    what has not told its pid yet would leave it running. Raises ``LabError`` when that does not come to pass.
    """
    if _alive(_read_pid(host, f"{service.name}.supervisor")):
        return
    pid_file = host.pid_file(service.name)
    pid_file.unlink(missing_ok=True)
    script = "\n".join(
        [
            cgroups.enter_command(host.cgroup),
            f"echo $$ > {pid_file}.supervisor",
            'trap \'kill -TERM "$child" 2>/dev/null; wait "$child"; exit 0\' TERM',
            "while :; do",
            *(f"  export {name}={shlex.quote(value)}" for name, value in service.environment),
            f"  {shlex.join(service.argv)} &",
            f"  child=$!; echo $child > {pid_file}",
            '  wait "$child"',
            f'  echo "$(date -u +%FT%TZ) {service.name} ended with $?; starting it again" >&2',
            f"  sleep {RESTART_SECONDS}",
            "done",
        ]
    )
    with host.log(service.name).open("ab") as log:
        supervisor = subprocess.Popen(
            [*enter(host), "/bin/sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + BEGUN_SECONDS
    while not _read_pid(host, service.name):
        if supervisor.poll() is not None or time.monotonic() > deadline:
            raise LabError(f"{service.name} did not start on {host.name}: its supervisor did not begin")
        time.sleep(0.005)


def stop_service(host: Host, name: str, *, seconds: float = 20.0) -> None:
    """End a service and its supervisor in order: SIGTERM, and SIGKILL after ``seconds``."""
    supervisor, child = _read_pid(host, f"{name}.supervisor"), _read_pid(host, name)
    if _alive(supervisor):
        os.kill(supervisor, signal.SIGTERM)
    deadline, killed = time.monotonic() + seconds, False
    while _alive(supervisor) or _alive(child):
        late = time.monotonic() - deadline
        if late > KILLED_SECONDS:  # in the kernel, and not ours to end
            return
        if late > 0 and not killed:
            killed = True
            for pid in (supervisor, child):
                with suppress(ProcessLookupError):
                    if _alive(pid):
                        os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def service_pid(host: Host, name: str) -> int:
    """Process id of a running service; raises ``LabError`` when it does not run."""
    pid = _read_pid(host, name)
    if not _alive(pid):
        raise LabError(f"{name} does not run on {host.name}")
    return pid


def service_is_running(host: Host, name: str) -> bool:
    return _alive(_read_pid(host, name))


def kill_service(host: Host, name: str) -> None:
    """SIGKILL a service; its supervisor starts it again."""
    os.kill(service_pid(host, name), signal.SIGKILL)


def cut_power(host: Host) -> None:
    """SIGKILL everything on the host at once, containers included."""
    left = cgroups.kill(host.cgroup)
    if left:
        raise LabError(f"{host.name}: processes {left} cannot be ended")


def _read_pid(host: Host, name: str) -> int:
    try:
        return int(host.pid_file(name).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def _alive(pid: int) -> bool:
    """True for a process that runs; a zombie does not."""
    if pid <= 0:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False
