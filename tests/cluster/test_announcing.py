"""Kernels believe our ARP and neighbour discovery: a client finds an address, and follows it to another host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.kubectl import eventually

CLIENT, *HOSTS = (f"orca-ann-{os.getpid()}-{end}" for end in ("c", "1", "2"))
IPV4, IPV6 = "198.51.100.100", "2001:db8:51::100"


def ip(*argv: str) -> str:
    return subprocess.run(["ip", *argv], capture_output=True, text=True, check=True).stdout


def _remove() -> None:
    for name in (CLIENT, *HOSTS):
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.fixture
def segment() -> Iterator[None]:
    """A client and two hosts on one bridge, which the client's namespace holds."""
    _remove()
    for name in (CLIENT, *HOSTS):
        ip("netns", "add", name)
    ip("-n", CLIENT, "link", "add", "br0", "type", "bridge")
    for number, name in enumerate(HOSTS, start=1):
        ip("-n", CLIENT, "link", "add", f"h{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", CLIENT, "link", "set", f"h{number}", "master", "br0", "up")
        _address(name, "eth0", number)
    _address(CLIENT, "br0", 9)
    yield
    _remove()


def _address(name: str, device: str, number: int) -> None:
    ip("-n", name, "addr", "add", f"198.51.100.{number}/24", "dev", device)
    ip("-n", name, "addr", "add", f"2001:db8:51::{number}/64", "dev", device, "nodad")
    ip("-n", name, "link", "set", device, "up")


@contextmanager
def announced(host: str) -> Iterator[str]:
    """The host answers for both addresses; its MAC."""
    argv = [
        *("nsenter", f"--net=/run/netns/{host}", sys.executable, "-m", "tests.cluster.announcing_host", "eth0"),
        *(IPV4, IPV6),
    ]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()})
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"announced\n"
        yield str(json.loads(ip("-n", host, "-j", "link", "show", "eth0"))[0]["address"])
    finally:
        process.kill()
        process.wait()


def ask(address: str) -> str:
    """The MAC that the client has for the address after it has sent something there."""
    family = "AF_INET6" if ":" in address else "AF_INET"
    send = f"import socket; socket.socket(socket.{family}, socket.SOCK_DGRAM).sendto(b'x', ('{address}', 9))"
    subprocess.run(["nsenter", f"--net=/run/netns/{CLIENT}", sys.executable, "-c", send], check=True)
    return known(address)


def known(address: str) -> str:
    shown = json.loads(ip("-n", CLIENT, "-j", "neigh", "show", address) or "[]")
    return str(shown[0].get("lladdr", "")) if shown else ""


@pytest.mark.usefixtures("segment")
@pytest.mark.parametrize("address", [IPV4, IPV6])
def test_a_client_finds_an_address_and_follows_it(address: str) -> None:
    with announced(HOSTS[0]) as first:
        eventually(lambda: ask(address) == first, what="the first host's MAC")
        with announced(HOSTS[1]) as second:
            assert first != second
            eventually(lambda: known(address) == second, what="the second host's MAC")
    # No kernel has the address, and nobody announces it any more.
    ip("-n", CLIENT, "neigh", "flush", "all")
    ask(address)
    assert known(address) == ""
