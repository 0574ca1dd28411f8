"""The services of a lab's hosts as command lines: Docker Engine, ``orca server`` (with etcd) and ``orca-agent``."""

from __future__ import annotations

import sys
from pathlib import Path

from orca.lab.host import Service
from orca.lab.layout import POD_CIDR, POD_CIDR6, SERVICE_CIDR, SERVICE_CIDR6, Host

ENGINE, SERVER, AGENT = "engine", "server", "agent"
# Parts that the fault verbs know: the word a person types -> the service it belongs to ("etcd" is the server's child).
PARTS = (SERVER, AGENT, ENGINE, "etcd")

CLOCK_SECONDS = 1
"""How often a server whose clock can be set looks for another offset."""

CONFIGURATION = """\
# Hosts of a lab share the disk of the machine and have no registry: images that go do not come back.
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
imageGCHighThresholdPercent: 100
"""


def engine(host: Host) -> Service:
    """Docker Engine of the host: no bridge, no rules of its own, and containers that outlive it.

    A killed engine leaves the pid of the containerd that it had started, and its successor would wait 15 s for it.
    (Where systemd runs, containerd is a service of its own and there is no such file.)
    """
    return Service(
        ENGINE,
        (
            *("/bin/sh", "-c", 'rm -f /run/docker/containerd/containerd.pid; exec "$@"', "engine"),
            "dockerd",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            "--live-restore",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent=/{host.cgroup}/docker",
            "--log-level=warn",
        ),
    )


def server(host: Host, clock: tuple[Path, Path] | None = None) -> Service:
    """``orca server`` with its etcd, on the host's address; ``clock`` are libfaketime and the file with its offset."""
    return Service(
        SERVER,
        (
            *(_settable(*clock) if clock else ()),
            command("orca"),
            "server",
            f"--advertise-address={host.address}",
            *_ranges(host),
        ),
    )


def _settable(library: Path, file: Path) -> tuple[str, ...]:
    """The command prefix of a program whose wall clock is off by what the file says.

    The library keeps something in ``/dev/shm`` and leaves it there when its process is killed: it has one of its own.
    """
    return (
        *("unshare", "--mount", "/bin/sh", "-c", 'mount -t tmpfs tmpfs /dev/shm; exec "$@"', "clock"),
        "env",
        f"LD_PRELOAD={library}",
        f"FAKETIME_TIMESTAMP_FILE={file}",
        f"FAKETIME_CACHE_DURATION={CLOCK_SECONDS}",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        "NO_FAKE_STAT=1",
    )


def agent(host: Host, token: str) -> Service:
    """``orca-agent``, joining with a token the first time and with its own certificate from then on.

    It reads KubeletConfigurations from the host's ``/etc/orca/agent.conf.d``, where a lab has only its own.
    """
    directory = host.state / "etc-orca" / "agent.conf.d"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "00-lab.conf").write_text(CONFIGURATION)
    return Service(
        AGENT,
        (
            command("orca-agent"),
            f"--server={host.lab.server_url}",
            f"--token={token}",
            f"--node-ip={','.join(host.addresses)}",
            *_ranges(host),
            f"--hostname-override={host.name}",
            f"--cgroup-parent=/{host.cgroup}",
            "--config-dir=/etc/orca/agent.conf.d",
            *host.control_plane_args(),
        ),
    )


def _ranges(host: Host) -> tuple[str, str]:
    """Flags that server and agents have in common."""
    pods, services = (POD_CIDR, POD_CIDR6), (SERVICE_CIDR, SERVICE_CIDR6)
    families = 2 if host.lab.dual_stack else 1
    return (
        f"--service-cluster-ip-range={','.join(services[:families])}",
        f"--cluster-cidr={','.join(pods[:families])}",
    )


def command(name: str) -> str:
    """Path of one of our commands, beside the interpreter that runs the lab."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name
