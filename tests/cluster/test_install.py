"""The installation scripts, run on a host of their own: what they install starts, joins and is removed again."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orca.lab import cgroups, images
from orca.lab import host as hosts
from orca.lab import network as segment
from orca.lab.cluster import load_archive, reserve, wait_for_engine
from orca.lab.host import Service
from orca.lab.layout import Host, Lab
from orca.lab.services import engine
from tests.cluster.conftest import IMAGES
from tests.support.background import Background
from tests.support.kubectl import Kubectl, current, eventually

PROJECT = Path(__file__).parents[2]
# What the scripts write on a host: there it is the host's own, over what this machine has.
WRITTEN = ("/opt", "/etc/systemd/system", "/usr/local/bin")


@contextmanager
def _bare() -> Iterator[Host]:
    """A host with an engine and nothing of orca on it."""
    lab: Lab = reserve("install", 1)
    host = lab.host(0)
    atexit.register(_remove, lab)  # also when the run is broken off meanwhile
    try:
        segment.build(lab)
        hosts.switch_on(host)
        for number, path in enumerate(WRITTEN):
            upper, work = host.state / f"upper{number}", host.state / f"work{number}"
            hosts.call(host, "mkdir", "-p", str(upper), str(work), path)
            layers = f"lowerdir={path},upperdir={upper},workdir={work}"
            hosts.call(host, "mount", "-t", "overlay", "overlay", "-o", layers, path)
        # The installation fetches packages: it sees names as this machine does, its services only the lab.
        for name in ("resolv.conf", "hosts"):
            (host.state / name).write_bytes(Path("/etc", name).read_bytes())
        hosts.start_service(host, engine(host))
        wait_for_engine(host)
        IMAGES.result()
        for made in images.build_all(print):
            load_archive(host, made)
        yield host
    finally:
        _remove(lab)
        atexit.unregister(_remove)


def _remove(lab: Lab) -> None:
    cgroups.kill(lab.bridge)
    segment.remove(lab)
    cgroups.remove(lab.bridge)
    shutil.rmtree(lab.state, ignore_errors=True)


def _script(host: Host, *argv: str) -> str:
    """Run an installation script on the host, as root in a checkout."""
    done = subprocess.run(
        [*(part for part in hosts.enter(host) if part != "--net"), "env", f"--chdir={PROJECT}", *argv],
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _unit(host: Host, name: str) -> Service:
    """The service that the installed systemd unit describes."""
    text = hosts.call(host, "cat", f"/etc/systemd/system/{name}.service")
    found = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert found, text
    assert "Restart=always" in text
    settings = re.search(r"^EnvironmentFile=(.*)$", text, re.MULTILINE)
    lines = hosts.call(host, "cat", settings[1]).splitlines() if settings else []
    environment = tuple((line.partition("=")[0], line.partition("=")[2]) for line in lines)
    return Service(name, tuple(found[1].split()), environment)


def _story() -> None:
    with _bare() as bare:
        _install_use_and_uninstall(bare)


STORY = Background(_story)


@pytest.mark.begins(STORY)
@pytest.mark.timeout(1800)
def test_install_server_and_agent_then_uninstall() -> None:
    STORY.result()


def _install_use_and_uninstall(bare: Host) -> None:
    said = _script(bare, "scripts/install-server", f"--advertise-address={bare.address}")
    assert "systemd does not run here" in said
    hosts.start_service(bare, _unit(bare, "orca-server"))
    kubeconfig = bare.state / "etc-orca" / "kubeconfig"
    eventually(kubeconfig.exists, what="the admin kubeconfig")
    kubectl = Kubectl(current(), kubeconfig)
    eventually(lambda: kubectl.try_("get", "--raw", "/readyz").out == "ok", what="the API server")

    token = hosts.call(bare, "/usr/local/bin/orca", "token", "create").strip()
    server = f"https://{bare.address}:6443"
    _script(bare, "scripts/install-agent", "--server", server, "--token", token, f"--node-ip={bare.address}")
    agent = _unit(bare, "orca-agent")
    assert token not in " ".join(agent.argv), "the token is a secret and stays out of the unit"
    hosts.start_service(bare, agent)
    eventually(lambda: " Ready " in kubectl.try_("get", "nodes").out, what="the node is Ready")
    kubectl("create", "deployment", "web", "--image=nginx:1.22.1")
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")

    for name in ("orca-agent", "orca-server"):
        hosts.stop_service(bare, name)
    _script(bare, "scripts/uninstall")
    gone = hosts.call(
        bare, "sh", "-c", "ls -d /opt/orca /usr/local/bin/orca* /etc/systemd/system/orca* 2>/dev/null; true"
    )
    assert gone == ""
