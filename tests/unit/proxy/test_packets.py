"""Real packets of both families through the backends, in a namespace: who answers, what the kernel forgets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.proxy.packets_alone import ENDPOINTS

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@needs_root
@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_udp_in_both_families(mode: str) -> None:
    # What the host does with loopback is set by the agent.
    allow = 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; exec "$@"'
    argv = ["unshare", "--net", "bash", "-c", allow, "-", sys.executable, "-m", "tests.unit.proxy.packets_alone", mode]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    for vip, (first, second) in ENDPOINTS.items():
        assert f"{vip} first {first}" in told
        assert f"{vip} the same client, another endpoint {second}" in told, "the flow was forgotten"
        assert f"{vip} no endpoint PermissionError" in told, "the host's own packets are refused as they are sent"
        assert f"{vip} both {first} {second}" in told
        assert f"{vip} node port {first} {second}" in told
        assert f"{vip} affinity 1" in told, done.stdout
