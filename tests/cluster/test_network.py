"""The pod network with real packets: pods are namespaces, hosts are namespaces on one segment."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.netlab import NetLab, Pod, run, start_server


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetLab]:
    with NetLab(tmp_path_factory.mktemp("netlab"), hosts=2) as lab:
        lab.start_networks()
        yield lab


def test_pods_reach_each_other_without_translation(lab: NetLab) -> None:
    first, second = lab.hosts
    a, b, c = first.pod("a"), first.pod("b"), second.pod("c")
    for pod in (a, b, c):
        pod.serve("tcp:80", "udp:53")
    for client, server in ((a, b), (a, c), (c, a), (b, b)):
        assert client.ask(server.ip, 80) == [f"{server.name} {client.ip} 80"]
        assert client.ask(server.ip, 53, kind="udp") == [f"{server.name} {client.ip} 53"]


def test_hosts_reach_pods_and_pods_reach_hosts(lab: NetLab) -> None:
    first, second = lab.hosts
    pod = first.pod("reachable")
    pod.serve("tcp:80")
    assert first.ask(pod.ip, 80)[0].startswith("reachable ")
    assert second.ask(pod.ip, 80) == [f"reachable {second.ip} 80"]
    for host in lab.hosts:
        server = start_server(host.command(), host.name, "tcp:10250")
        try:
            assert pod.ask(host.ip, 10250)[0].startswith(host.name)
        finally:
            server.kill()
            server.wait()


def test_what_leaves_the_cluster_has_the_hosts_address(lab: NetLab) -> None:
    host = lab.hosts[0]
    pod = host.pod("leaver")
    server = start_server(lab.command(), "outside", "tcp:7000")
    try:
        assert pod.ask("172.31.0.1", 7000) == [f"outside {host.ip} 7000"]
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("bridged", ["0", "1"])
def test_works_whether_or_not_bridged_packets_are_shown_to_iptables(lab: NetLab, bridged: str) -> None:
    host = lab.hosts[0]
    setting = "net.bridge.bridge-nf-call-iptables"
    if run(*host.command("sysctl", "-n", setting), check=False) == "":
        pytest.skip("kernel without br_netfilter")
    host.run("sysctl", "-w", f"{setting}={bridged}")
    a, b = host.pod(f"front{bridged}"), host.pod(f"back{bridged}")
    b.serve("tcp:80")
    assert a.ask(b.ip, 80) == [f"back{bridged} {a.ip} 80"]


def test_untranslated_service_packets_die_on_the_host(lab: NetLab) -> None:
    host = lab.hosts[0]
    pod = host.pod("seeker")
    assert pod.ask("10.96.7.7", 80, timeout=0.3)[0].startswith("!TimeoutError")
    assert host.ask("10.96.7.7", 80, timeout=0.3)[0].startswith("!TimeoutError")
    tracked = host.run("conntrack", "-L", "-d", "10.96.7.7")
    assert tracked == "", "a remembered connection would never be translated"
    assert f"src {host.ip}" in host.run("ip", "route", "get", "10.96.7.7")


def test_host_ports(lab: NetLab) -> None:
    host = lab.hosts[1]
    ports = [
        {"containerPort": 80, "hostPort": 8080, "protocol": "TCP"},
        {"containerPort": 53, "hostPort": 5353, "protocol": "UDP"},
        {"containerPort": 81, "hostPort": 8081, "protocol": "TCP", "hostIP": "127.0.0.1"},
    ]
    pod = host.pod("published", host_ports=ports)
    pod.serve("tcp:80", "udp:53", "tcp:81")
    other = lab.hosts[0].pod("visitor")
    assert lab.ask(host.ip, 8080) == ["published 172.31.0.1 80"]
    assert lab.ask(host.ip, 5353, kind="udp") == ["published 172.31.0.1 53"]
    assert other.ask(host.ip, 8080)[0].startswith("published ")
    assert pod.ask(host.ip, 8080)[0].startswith("published ")
    assert host.ask("127.0.0.1", 8080)[0].startswith("published ")
    assert host.ask("127.0.0.1", 8081)[0].startswith("published ")
    assert lab.ask(host.ip, 8081)[0].startswith("!Connection")
    host.call("detach", uid=pod.uid)
    assert lab.ask(host.ip, 8080)[0].startswith("!Connection")


def test_restart_keeps_everything(lab: NetLab) -> None:
    host = lab.hosts[0]
    pod = host.pod("survivor", host_ports=[{"containerPort": 80, "hostPort": 8090}])
    pod.serve("tcp:80")
    before = (host.run("ip", "-o", "link"), host.run("iptables-save"), host.run("ip", "route"))
    host.stop_agent()
    host.start_network()
    host.call("set_nodes", nodes=[h.node for h in lab.hosts])
    assert pod.attach(host_ports=[{"containerPort": 80, "hostPort": 8090}]) == pod.ip
    after = (host.run("ip", "-o", "link"), host.run("iptables-save"), host.run("ip", "route"))
    assert [_rules(text) for text in before] == [_rules(text) for text in after]
    assert lab.ask(host.ip, 8090)[0].startswith("survivor ")


def test_addresses_survive_a_lost_file(lab: NetLab) -> None:
    host = lab.hosts[0]
    pod = host.pod("remembered")
    (host.root / "network" / "addresses.json").write_text('{"torn')
    host.stop_agent()
    host.start_network()
    fresh = host.pod("fresh")
    assert fresh.ip != pod.ip
    assert pod.attach() == pod.ip


def test_reconcile_frees_what_no_live_pod_has(lab: NetLab) -> None:
    host = lab.hosts[1]
    gone, kept = host.pod("gone"), host.pod("kept")
    live = [pod.uid for pod in host.pods if pod is not gone]
    host.call("reconcile", live=live)
    links = host.run("ip", "-d", "link")
    assert gone.uid not in links
    assert kept.uid in links
    assert gone.ip not in (host.root / "network" / "addresses.json").read_text()


def test_a_new_sandbox_of_the_same_pod_keeps_the_address(lab: NetLab) -> None:
    host = lab.hosts[0]
    pod = host.pod("twice")
    again = Pod(host, "twice")
    host.pods.append(again)
    assert again.attach() == pod.ip
    again.serve("tcp:80")
    assert lab.hosts[1].ask(pod.ip, 80)[0].startswith("twice ")


def test_vanished_sandbox_is_an_error_and_leaves_nothing(lab: NetLab) -> None:
    host = lab.hosts[0]
    pod = Pod(host, "vanished")
    pod.close()
    with pytest.raises(AssertionError, match=r"sandbox process \d+ is gone"):
        pod.attach()
    assert pod.uid not in host.run("ip", "-d", "link")


def test_heals_flushed_rules_routes_and_links(lab: NetLab) -> None:
    host, other = lab.hosts
    far = other.pod("far")
    far.serve("tcp:80")
    host.run("iptables", "-t", "nat", "-F")
    host.run("iptables", "-t", "filter", "-F", "ORCA-FORWARD")
    host.run("ip", "link", "set", "eth0", "down")
    host.run("ip", "link", "set", "eth0", "up")
    host.run("ip", "route", "add", "default", "via", "172.31.0.1")
    host.call("set_nodes", nodes=[h.node for h in lab.hosts])
    host.run("ip", "route", "del", "10.96.0.0/16")
    host.call("heal")
    pod = host.pod("healed")
    assert pod.ask(far.ip, 80) == [f"far {pod.ip} 80"]
    assert "10.96.0.0/16 dev orca-svc" in host.run("ip", "route")
    assert "ORCA-POSTROUTING" in host.run("iptables", "-t", "nat", "-S", "POSTROUTING")


def test_a_host_gets_another_address(lab: NetLab) -> None:
    host, other = lab.hosts
    pod, still = host.pod("moving"), other.pod("still")
    pod.serve("tcp:80")
    still.serve("tcp:80")
    for before, after in ((host.ip, "172.31.0.77"), ("172.31.0.77", host.ip)):
        # As of another lease: with the address everything goes that was bound to it.
        host.run("ip", "addr", "del", f"{before}/24", "dev", "eth0")
        host.run("ip", "addr", "add", f"{after}/24", "dev", "eth0")
        host.run("ip", "route", "add", "default", "via", "172.31.0.1")
        host.ip = after
        host.start_network()
        for one in lab.hosts:
            assert one.call("set_nodes", nodes=[h.node for h in lab.hosts]) == {}
        host.call("heal")
        assert pod.ask(still.ip, 80) == [f"still {pod.ip} 80"]
        assert still.ask(pod.ip, 80) == [f"moving {still.ip} 80"]
        assert host.ask(still.ip, 80) == [f"still {after} 80"]
        assert f"10.96.0.0/16 dev orca-svc proto 111 scope link src {after}" in host.run("ip", "route")


def test_nodes_off_the_segment_are_named(lab: NetLab) -> None:
    host, other = lab.hosts
    stranger = {**other.node, "metadata": {"name": "stranger"}, "spec": {"podCIDR": "10.244.99.0/24"}}
    stranger["status"] = {"addresses": [{"type": "InternalIP", "address": "192.0.2.9"}]}
    problems = host.call("set_nodes", nodes=[host.node, other.node, stranger])
    assert "stranger" in problems
    assert "has not told its end of the tunnel yet" in problems["stranger"]
    assert host.call("set_nodes", nodes=[host.node, other.node]) == {}
    assert "10.244.99.0" not in host.run("ip", "route")


def test_attach_takes_messages_to_the_kernel_and_no_program(lab: NetLab) -> None:
    host = lab.hosts[1]
    pods = [Pod(host, f"fast{number}") for number in range(20)]
    host.pods += pods
    taken, started = host.call("time_attach", pods=[(pod.uid, pod.holder.pid) for pod in pods])
    print(f"attach: median {statistics.median(taken) * 1000:.1f} ms, worst {max(taken) * 1000:.1f} ms")
    assert started == [], "each would take longer than all the rest"
    for pod in pods:
        host.call("detach", uid=pod.uid)


def test_cleanup_leaves_nothing(tmp_path: Path) -> None:
    with NetLab(tmp_path, hosts=1) as lab:
        host = lab.hosts[0]
        before = (host.run("ip", "-o", "link"), host.run("ip", "route"))
        host.start_network()
        addresses = [{"type": "InternalIP", "address": "172.31.0.99"}]
        other = {"metadata": {"name": "x"}, "spec": {"podCIDR": "10.244.9.0/24"}, "status": {"addresses": addresses}}
        host.call("set_nodes", nodes=[other])
        host.pod("p", host_ports=[{"containerPort": 80, "hostPort": 80}])
        assert "10.244.9.0/24 via 172.31.0.99" in host.run("ip", "route")
        host.call("cleanup")
        assert (host.run("ip", "-o", "link"), host.run("ip", "route")) == before
        assert "ORCA" not in host.run("iptables-save")


def _rules(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("#", ":"))]
