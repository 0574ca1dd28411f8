"""Names as pods see them: hostname, /etc/hosts, resolv.conf."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster.podset import container, inside, pod, pods, told
from tests.support.kubectl import Kubectl

CONFIG = {
    "nameservers": ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
    "searches": ["one.example", "two.example"],
    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
}
HOSTS = {"name": "hosts", "configMap": {"name": "hosts"}}
RUNNING = [
    pod(
        "named",
        hostname="db",
        subdomain="sub",
        hostAliases=[{"ip": "192.0.2.9", "hostnames": ["nine", "neun"]}],
    ),
    pod("full", hostname="db", subdomain="sub", setHostnameAsFQDN=True, dnsConfig=CONFIG),
    pod("another", hostnameOverride="db.example.org", dnsPolicy="None", dnsConfig=CONFIG),
    pod("hostnet", hostNetwork=True, hostAliases=[{"ip": "192.0.2.9", "hostnames": ["nine"]}]),
    pod("clusternet", hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"),
    pod(
        "own-hosts",
        container(volumeMounts=[{"name": "hosts", "mountPath": "/etc/hosts", "subPath": "file"}]),
        volumes=[HOSTS],
    ),
]
TOO_LONG = pod("too-long", hostname="h" * 40, subdomain="sub", setHostnameAsFQDN=True)
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hosts"}, "data": {"file": "mine\n"}}


@pytest.fixture(scope="module")
def made(admin: Kubectl) -> Iterator[Kubectl]:
    """All pods of this module, those that run being ready."""
    names = [one["metadata"]["name"] for one in RUNNING]
    with pods(admin, f"names-{os.getpid()}", [CONFIG_MAP, *RUNNING, TOO_LONG], ready=names) as kubectl:
        yield kubectl


def test_hostnames(made: Kubectl) -> None:
    domain = f"sub.{made.namespace}.svc.cluster.local"
    assert inside(made, "named", "hostname") == "db"
    assert inside(made, "full", "hostname") == f"db.{domain}"
    assert inside(made, "another", "hostname") == "db.example.org"
    full = f"{'h' * 40}.{domain}"
    text = f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long"
    limits = f"(64 characters is the max, {len(full)} characters requested)"
    told(made, "too-long", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {text} {limits}")


def test_hosts_files(made: Kubectl) -> None:
    def lines(name: str) -> list[list[str]]:
        return [line.split() for line in inside(made, name, "cat /etc/hosts").splitlines()]

    address = made.json("get", "pod", "named")["status"]["podIP"]
    named = lines("named")
    assert [address, f"db.sub.{made.namespace}.svc.cluster.local", "db"] in named
    assert named[-1] == ["192.0.2.9", "nine", "neun"]
    assert lines("another")[-1][1:] == ["db.example.org"]
    hostnet = inside(made, "hostnet", "cat /etc/hosts")
    assert hostnet.startswith("# Kubernetes-managed hosts file (host network).")
    assert hostnet.endswith("192.0.2.9\tnine")
    assert inside(made, "own-hosts", "cat /etc/hosts") == "mine"


def test_resolvers_by_policy_and_within_limits(made: Kubectl) -> None:
    def resolver(name: str) -> list[str]:
        return inside(made, name, "cat /etc/resolv.conf").splitlines()

    cluster = [
        f"search {made.namespace}.svc.cluster.local svc.cluster.local cluster.local",
        "nameserver 10.96.0.10",
        "options ndots:5",
    ]
    for name in ("named", "clusternet"):
        found = resolver(name)
        assert found[0].startswith(cluster[0])
        assert found[1:] == cluster[1:]
    assert resolver("another") == [
        "search one.example two.example",
        "nameserver 192.0.2.1",
        "nameserver 192.0.2.2",
        "nameserver 192.0.2.3",
        "options ndots:2 edns0",
    ]
    assert [line for line in resolver("full") if line.startswith("nameserver")] == [
        f"nameserver {address}" for address in ("10.96.0.10", "192.0.2.1", "192.0.2.2")
    ]
    told(made, "full", "DNSConfigForming", "the applied nameserver line is: 10.96.0.10 192.0.2.1 192.0.2.2")
    assert "nameserver 10.96.0.10" not in resolver("hostnet")
