"""Bringing a whole lab up and down: segment, hosts, engines, images, server, agents.

``up`` can be called at any time: it makes what is missing and leaves the rest alone. ``down`` removes every trace, also
of a lab whose ``up`` was interrupted.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from orca.lab import cgroups, network, services
from orca.lab import host as hosts
from orca.lab.layout import DEFAULT_NAME, STATE_ROOT, Host, Lab, LabError, load, plan, state_directory
from orca.lab.shell import run

Progress = Callable[[str], None]
ENGINE_SECONDS = 90.0
SERVER_SECONDS = 120.0
NODES_SECONDS = 120.0


def reserve(name: str, size: int, *, nat: bool = False, segments: int = 1, dual_stack: bool = False) -> Lab:
    """Plan a lab and record it, so that one that is planned at the same time gets other addresses."""
    with _alone():
        lab = plan(name, size, nat=nat, in_use=network.in_use(), segments=segments, dual_stack=dual_stack)
        lab.save()
    return lab


@contextmanager
def _alone() -> Iterator[None]:
    """Nobody else plans or removes a lab meanwhile."""
    lock = os.open(STATE_ROOT, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def up(lab: Lab, *, archives: Iterable[Path], say: Progress) -> None:
    """Bring a reserved lab up and return when every node is Ready; ``say`` is told each step as it begins."""
    ranges = ", ".join(str(lab.segment_range(segment)) for segment in range(lab.segments))
    say(f"network: bridge {lab.bridge}, {ranges}, {lab.size} hosts")
    network.build(lab)
    say("engines: a Docker Engine on each host")
    with ThreadPoolExecutor(max_workers=min(16, lab.size + 1)) as pool:
        for host in lab.hosts:
            hosts.switch_on(host)
            hosts.start_service(host, services.engine(host))
        hosts.start_service(lab.host(0), services.server(lab.host(0)))
        list(pool.map(wait_for_engine, lab.hosts))
        say("images: loading into every engine")
        loading = [pool.submit(load_archive, host, archive) for archive in archives for host in lab.hosts]
        say("server: waiting for the API")
        wait_for_server(lab)
        _publish_kubeconfig(lab)
        token = join_token(lab)
        say("agents: joining")
        for host in lab.hosts:
            hosts.start_service(host, services.agent(host, token))
        for done in loading:
            done.result()
    say("nodes: waiting until all are Ready")
    wait_for_nodes(lab)
    # A node may not give itself a role; that is for administrators, as kubeadm does it.
    role = "node-role.kubernetes.io/control-plane="
    run("kubectl", f"--kubeconfig={lab.kubeconfig}", "label", "--overwrite", "node", lab.host(0).name, role)


def boot(host: Host) -> None:
    """Switch one host on and start its services, as a machine does that gets power."""
    network.build(host.lab)
    hosts.switch_on(host)
    hosts.start_service(host, services.engine(host))
    if host.is_server:
        hosts.start_service(host, services.server(host))
    wait_for_engine(host)
    hosts.start_service(host, services.agent(host, _saved_token(host.lab)))


def halt(host: Host) -> None:
    """Shut one host down in order: agent, server, engine, then everything that is left."""
    for service in (services.AGENT, services.SERVER, services.ENGINE):
        hosts.stop_service(host, service)
    hosts.cut_power(host)


def down(name: str, *, say: Progress) -> None:
    """Remove every trace of a lab; harmless when there is none."""
    try:
        lab = load(name)
    except LabError:
        if not state_directory(name).exists():
            say(f"no lab {name!r} is up")
            return
        lab = Lab(name, 0 if name == DEFAULT_NAME else 255, 1)
    say("processes: ending")
    left = cgroups.kill(lab.bridge)
    if left:
        raise LabError(f"processes {left} of the lab cannot be ended")
    say("network: removing")
    network.remove(lab)
    cgroups.remove(lab.bridge)
    say("state: removing")
    shutil.rmtree(lab.state, ignore_errors=True)
    if lab.state.exists():  # a mount below it would be the only reason
        raise LabError(f"{lab.state} cannot be removed; is something mounted below it?")
    with _alone():
        if not any(STATE_ROOT.glob("orca-lab*")):  # they are mount points of every lab's hosts
            hosts.remove_mount_points()


def wait_for_engine(host: Host) -> None:
    """Return when the host's engine answers; raises ``LabError`` with its log when it does not."""
    deadline = time.monotonic() + ENGINE_SECONDS
    socket = hosts.root(host) / "run/docker.sock"
    while time.monotonic() < deadline:
        if socket.exists() and hosts.call(host, "docker", "version", "--format", "{{.Server.Version}}", check=False):
            return
        time.sleep(0.1)
    raise LabError(f"the Docker Engine of {host.name} does not answer; its log: {_tail(host, services.ENGINE)}")


def load_archive(host: Host, archive: Path) -> str:
    """Load a docker archive into a host's engine; returns what the engine says of it."""
    with archive.open("rb") as data:
        done = subprocess.run([*hosts.enter(host), "docker", "load", "-q"], stdin=data, capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"{host.name} cannot load {archive}: {done.stderr.strip()}")
    return done.stdout.strip()


def wait_for_server(lab: Lab) -> None:
    """Return when the API server is ready; raises ``LabError`` with its log when it does not get there."""
    server = lab.host(0)
    deadline = time.monotonic() + SERVER_SECONDS
    url = f"{lab.server_url}/readyz"
    while time.monotonic() < deadline:
        if run("curl", "-ks", "--max-time", "2", url, check=False) == "ok":
            return
        time.sleep(0.1)
    raise LabError(f"the API server does not become ready; its log: {_tail(server, services.SERVER)}")


def wait_for_nodes(lab: Lab) -> None:
    """Return when every host's node is Ready; raises ``LabError`` naming those that are not, with their agent's log."""
    deadline = time.monotonic() + NODES_SECONDS
    template = '{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}'
    missing: list[str] = []
    while time.monotonic() < deadline:
        said = run(
            "kubectl", f"--kubeconfig={lab.kubeconfig}", "get", "nodes", "-o", f"jsonpath={template}", check=False
        )
        ready = {pair.partition("=")[0] for pair in said.split() if pair.endswith("=True")}
        missing = [host.name for host in lab.hosts if host.name not in ready]
        if not missing:
            return
        time.sleep(0.2)
    raise LabError(f"not Ready: {', '.join(missing)}; log of the first: {_tail(lab.host(missing[0]), services.AGENT)}")


def join_token(lab: Lab) -> str:
    """The token that the lab's agents join with: made on the server host as a person would, then kept."""
    path = lab.state / "token"
    if not path.exists():
        token = hosts.call(lab.host(0), services.command("orca"), "token", "create", "--ttl=0").strip().splitlines()[-1]
        path.touch(mode=0o600)
        path.write_text(token)
    return path.read_text()


def _saved_token(lab: Lab) -> str:
    path = lab.state / "token"
    return path.read_text() if path.exists() else join_token(lab)


def _publish_kubeconfig(lab: Lab) -> None:
    source = lab.host(0).state / "etc-orca" / "kubeconfig"
    text = source.read_text()
    lab.kubeconfig.touch(mode=0o600)
    lab.kubeconfig.write_text(text)


def _tail(host: Host, service: str) -> str:
    try:
        return "\n".join(["", *host.log(service).read_text(errors="replace").splitlines()[-15:]])
    except FileNotFoundError:
        return "(none)"
