"""The models that every backend renders for its golden files: one case, one port, in either family."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from agents.proxy.backend import HostView
from agents.proxy.model import Endpoint, Family, ServicePort

GOLDEN = Path(__file__).parent / "golden"
CIDR, CIDR6 = "10.244.0.0/16", "fd00:10:244::/56"
HOST = HostView((CIDR, CIDR6), node_ips=("192.0.2.1", "2001:db8::1"))
NEAR, FAR = Endpoint("10.244.1.2", 8080, True), Endpoint("10.244.2.2", 8080, False)
THIRD = Endpoint("10.244.2.3", 8080, False)
BASE = {"service": "default/web", "port_name": "http", "protocol": "TCP", "port": 80, "cluster_ip": "10.96.0.50"}


def port(**more: object) -> ServicePort:
    return ServicePort(**{**BASE, "anywhere": True, **more})  # type: ignore[arg-type]


CASES = {
    "cluster-ip": port(cluster=(NEAR, FAR, THIRD)),
    "no-endpoints": port(anywhere=False, node_port=30080, external_ips=("198.51.100.50",)),
    "node-port": port(cluster=(NEAR, FAR), node_port=30080),
    "external-local": port(cluster=(NEAR, FAR), local=(NEAR,), external_local=True, node_port=30080),
    "external-local-none-here": port(cluster=(FAR,), external_local=True, node_port=30080),
    "external-ip-local": port(cluster=(NEAR, FAR), local=(NEAR,), external_local=True, external_ips=("198.51.100.50",)),
    "internal-local": port(local=(NEAR,), internal_local=True),
    "internal-local-none-here": port(internal_local=True),
    "affinity": port(cluster=(NEAR, FAR), affinity_seconds=10800),
    "affinity-external-local": port(
        cluster=(NEAR, FAR), local=(NEAR,), external_local=True, node_port=30080, affinity_seconds=60
    ),
    "udp": port(protocol="UDP", port_name="", cluster=(NEAR,)),
    "sctp": port(protocol="SCTP", cluster=(NEAR,)),
    "load-balancer": port(
        cluster=(NEAR,),
        node_port=30080,
        load_balancer_ips=("192.0.2.60",),
        source_ranges=("192.0.2.0/24", "198.51.100.7/32"),
    ),
}


def of_family(model: ServicePort, family: Family) -> ServicePort:
    """The same port with addresses of IPv6."""
    if family == 4:
        return model
    return replace(
        model,
        cluster_ip=_six(model.cluster_ip),
        external_ips=tuple(map(_six, model.external_ips)),
        load_balancer_ips=tuple(map(_six, model.load_balancer_ips)),
        source_ranges=tuple(_six_range(each) for each in model.source_ranges),
        cluster=tuple(replace(each, ip=_six(each.ip)) for each in model.cluster),
        local=tuple(replace(each, ip=_six(each.ip)) for each in model.local),
    )


def _six(ip: str) -> str:
    first, *rest = ip.split(".")
    prefix = {"10": "fd00:10", "192": "2001:db8", "198": "2001:db8:1"}[first]
    return f"{prefix}:{rest[0]}::{rest[1]}:{rest[2]}".replace(":0::", "::").replace("::0:", "::")


def _six_range(network: str) -> str:
    return {"192.0.2.0/24": "2001:db8::/32", "198.51.100.7/32": "2001:db8:ffff::7/128"}[network]


def compare_with_golden(path: Path, text: str) -> None:
    """Fails when the file differs; writes it instead with UPDATE_GOLDEN=1."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"review the difference, then run with UPDATE_GOLDEN=1 ({path.name})"


def run_alone(script: str, text: str = "") -> str:
    """Run a script in a network namespace of its own; returns what it prints."""
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", script], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n{script}"
    return done.stdout
