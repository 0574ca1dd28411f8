"""Cluster DNS asked by pods, on the address every pod has in its resolv.conf."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.netlab import NetLab, Pod, run
from tests.cluster.test_proxy import HTTP, HTTP_TARGET, endpoints, service

DNS = "10.96.0.10"

RESOLVE = r"""
import sys, json, time, dnslib
server, tcp, count, names = sys.argv[1], sys.argv[2] == "tcp", int(sys.argv[3]), sys.argv[4:]
answers, began = [], time.perf_counter()
for _ in range(count):
    for name in names:
        for left in 3, 2, 1, 0:  # as resolvers do
            try:
                raw = dnslib.DNSRecord.question(*name.split("/")).send(server, 53, tcp=tcp, timeout=5)
                record = dnslib.DNSRecord.parse(raw)
                answers.append([dnslib.RCODE[record.header.rcode], sorted(str(rr.rdata) for rr in record.rr)])
                break
            except OSError as error:
                if not left: answers.append([type(error).__name__, []])
print(json.dumps([answers, time.perf_counter() - began]))
"""


def resolve(pod: Pod, *names: str, how: str = "udp", count: int = 1) -> tuple[list[Any], float]:
    output = json.loads(run(*pod.command(sys.executable, "-c", RESOLVE, DNS, how, str(count), *names)))
    return output[0], output[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetLab]:
    root = tmp_path_factory.mktemp("netlab")
    (root / "resolv.conf").write_text("")
    with NetLab(root, hosts=2) as lab:
        lab.start_networks()
        for host in lab.hosts:
            host.call("start_proxy", node_name=host.name)
            host.call("start_dns", resolv_conf=str(root / "resolv.conf"))
            host.call("apply", objects=[service("web", "10.96.1.1", HTTP)])
            # The Service that others make for this address must not turn queries away, with or without endpoints.
            host.call("apply", objects=[service("kube-dns", DNS, {"name": "dns", "port": 53, "protocol": "UDP"},
                                                {"name": "dns-tcp", "port": 53, "protocol": "TCP"})])  # fmt: skip
        yield lab


@pytest.mark.parametrize("how", ["udp", "tcp"])
def test_every_pod_is_answered_on_its_own_host(lab: NetLab, how: str) -> None:
    pods = [host.pod(f"asker-{how}") for host in lab.hosts]
    for host in lab.hosts:
        host.call("apply", objects=[endpoints("web", pods, HTTP_TARGET)])
    for pod in pods:
        answers, _ = resolve(pod, "web.default.svc.cluster.local", "x.default.svc.cluster.local", "e.org", how=how)
        assert answers == [["NOERROR", ["10.96.1.1"]], ["NXDOMAIN", []], ["SERVFAIL", []]]


def test_many_queries(lab: NetLab) -> None:
    pod = lab.hosts[0].pod("many")
    answers, seconds = resolve(pod, "web.default.svc.cluster.local", count=500)
    assert [rcode for rcode, _ in answers] == ["NOERROR"] * 500
    print(f"500 queries one after the other: {seconds * 2:.2f} ms each, dnslib client included")


def test_network_hosts_ask_too(lab: NetLab) -> None:
    host = lab.hosts[1]
    output = json.loads(
        run(*host.command(sys.executable, "-c", RESOLVE, DNS, "udp", "1", "kube-dns.default.svc.cluster.local"))
    )
    assert output[0] == [["NOERROR", [DNS]]]


def test_listener_waits_for_no_address(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("")
    with NetLab(tmp_path, hosts=1) as lab:
        (host,) = lab.hosts
        host.start_agent()
        host.call("start_proxy", node_name=host.name)
        host.call("start_dns", resolv_conf=str(tmp_path / "resolv.conf"))
        host.start_network()
        pod = host.pod("late")
        answers, _ = resolve(pod, "dns-version.cluster.local/TXT")
        assert answers == [["NOERROR", ['"1.1.0"']]]
