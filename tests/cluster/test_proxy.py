"""Services with real packets between namespaces that play hosts and pods; every host runs the real proxy."""

from __future__ import annotations

import copy
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.netlab import Host, NetLab, Pod
from tests.support.patience import PATIENCE

Obj = dict[str, Any]


def service(name: str, ip: str, *ports: Obj, **spec: Any) -> Obj:
    kind = "NodePort" if any("nodePort" in port for port in ports) else "ClusterIP"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": kind, "clusterIP": ip, "clusterIPs": [ip], "ports": list(ports), **spec},
    }


def endpoints(name: str, pods: list[Pod], *ports: Obj, **conditions: Any) -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-x", "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": list(ports),
        "endpoints": [
            {
                "addresses": [pod.ip],
                "nodeName": pod.host.name,
                "targetRef": {"kind": "Pod", "name": pod.name, "namespace": "default"},
                "conditions": {"ready": True, **conditions},
            }
            for pod in pods
        ],
    }


HTTP = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}
HTTP_TARGET = {"name": "http", "port": 8080, "protocol": "TCP"}
DNS = {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353}
DNS_TARGET = {"name": "dns", "port": 5353, "protocol": "UDP"}


class Cluster:
    """Two hosts with two serving pods each, a client pod on each, and one API state for both proxies."""

    def __init__(self, lab: NetLab, mode: str) -> None:
        self.lab = lab
        self.mode = mode
        self.first, self.second = lab.hosts
        self.servers = [host.pod(f"{host.name}-{letter}") for host in lab.hosts for letter in "ab"]
        for pod in self.servers:
            pod.serve("tcp:8080", "udp:5353", "tcp:9090")
        self.clients = [host.pod(f"{host.name}-client") for host in lab.hosts]

    def start_proxy(self, host: Host, mode: str = "") -> float:
        return host.call("start_proxy", node_name=host.name, mode=mode or self.mode)

    def rules(self, host: Host) -> str:
        """All that orca's services have in this host's kernel."""
        tables = host.run("nft", "list", "ruleset") if self.mode == "nftables" else host.run("iptables-save")
        return tables + host.run("ip6tables-save") if self.mode == "iptables" else tables

    def apply(self, *objects: Obj) -> float:
        return max(host.call("apply", objects=list(objects)) for host in self.lab.hosts)

    def delete(self, name: str) -> None:
        for host in self.lab.hosts:
            host.call("delete", kind="Service", name=name)
            host.call("delete", kind="EndpointSlice", name=f"{name}-x")


@pytest.fixture(scope="module", params=["nftables", "iptables"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with NetLab(tmp_path_factory.mktemp("netlab"), hosts=2) as lab:
        lab.start_networks()
        cluster = Cluster(lab, request.param)
        for host in lab.hosts:
            cluster.start_proxy(host)
        yield cluster


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> str:
    """A NodePort service over all four pods, TCP and UDP."""
    cluster.apply(
        service("web", "10.96.1.1", {**HTTP, "nodePort": 30080}, {**DNS, "nodePort": 30053}),
        endpoints("web", cluster.servers, HTTP_TARGET, DNS_TARGET),
    )
    return "10.96.1.1"


def who(answers: list[str]) -> Counter[str]:
    return Counter(answer.split()[0] for answer in answers)


def sources(answers: list[str]) -> set[str]:
    return {answer.split()[1] for answer in answers}


def test_cluster_ip_from_pods_and_hosts(cluster: Cluster, web: str) -> None:
    for client in cluster.clients:
        for kind, port in (("tcp", 80), ("udp", 53)):
            answers = client.ask(web, port, kind=kind, count=100)
            assert set(who(answers)) == {pod.name for pod in cluster.servers}
            assert sources(answers) == {client.ip}, "pods see the client pod's own address"
    for host in cluster.lab.hosts:
        assert set(who(host.ask(web, 80, count=100))) == {pod.name for pod in cluster.servers}


def test_node_port_on_every_host_from_everywhere(cluster: Cluster, web: str) -> None:
    everyone = {pod.name for pod in cluster.servers}
    for host in cluster.lab.hosts:
        assert set(who(cluster.lab.ask(host.ip, 30080, count=100))) == everyone
        assert set(who(cluster.lab.ask(host.ip, 30053, kind="udp", count=100))) == everyone
        for client in cluster.clients:
            assert set(who(client.ask(host.ip, 30080, count=100))) == everyone
        assert set(who(host.ask(host.ip, 30080, count=100))) == everyone
        assert set(who(host.ask("127.0.0.1", 30080, count=100))) == everyone


def test_even_balance_of_1000_connections(cluster: Cluster, web: str) -> None:
    for answers in (cluster.clients[0].ask(web, 80, count=1000), cluster.lab.ask(cluster.first.ip, 30080, count=1000)):
        counts = who(answers)
        assert set(counts) == {pod.name for pod in cluster.servers}
        assert all(170 <= count <= 330 for count in counts.values()), counts


@pytest.mark.parametrize("bridged", ["0", "1"])
def test_hairpin_and_neighbours(cluster: Cluster, web: str, bridged: str) -> None:
    for host in cluster.lab.hosts:
        host.run("sysctl", "-w", f"net.bridge.bridge-nf-call-iptables={bridged}", check=False)
    pod = cluster.servers[0]
    cluster.apply(service("self", "10.96.1.2", HTTP), endpoints("self", [pod], HTTP_TARGET))
    (answer,) = pod.ask("10.96.1.2", 80)
    assert answer.split()[0] == pod.name
    assert answer.split()[1] != pod.ip, "the pod must not see itself as the client"
    neighbour = cluster.servers[1]
    assert neighbour.ask("10.96.1.2", 80, count=5) == [f"{pod.name} {neighbour.ip} 8080"] * 5
    assert set(who(pod.ask(web, 80, count=60))) == {pod.name for pod in cluster.servers}
    cluster.delete("self")


def test_no_endpoints_is_refused_at_once(cluster: Cluster) -> None:
    cluster.apply(service("empty", "10.96.1.3", {**HTTP, "nodePort": 30083}))
    assert cluster.clients[0].ask("10.96.1.3", 80)[0].startswith("!ConnectionRefused")
    assert cluster.first.ask("10.96.1.3", 80)[0].startswith("!ConnectionRefused")
    assert cluster.lab.ask(cluster.second.ip, 30083)[0].startswith("!ConnectionRefused")
    cluster.apply(endpoints("empty", cluster.servers[:1], HTTP_TARGET))
    assert cluster.clients[0].ask("10.96.1.3", 80)[0].startswith(cluster.servers[0].name)
    assert cluster.lab.ask(cluster.second.ip, 30083)[0].startswith(cluster.servers[0].name)
    cluster.delete("empty")
    assert cluster.clients[0].ask("10.96.1.3", 80, timeout=0.3)[0].startswith("!Timeout")


def test_unready_and_terminating_endpoints(cluster: Cluster) -> None:
    ready, other = cluster.servers[0], cluster.servers[2]
    both = endpoints("mixed", [ready, other], HTTP_TARGET)
    both["endpoints"][1]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    cluster.apply(service("mixed", "10.96.1.4", HTTP), both)
    assert set(who(cluster.clients[0].ask("10.96.1.4", 80, count=20))) == {ready.name}
    last = copy.deepcopy(both)
    last["endpoints"][0]["conditions"] = {"ready": False, "serving": False, "terminating": False}
    cluster.apply(last)
    assert set(who(cluster.clients[0].ask("10.96.1.4", 80, count=20))) == {other.name}
    cluster.delete("mixed")


def test_external_policy_local_keeps_the_clients_address(cluster: Cluster) -> None:
    cluster.apply(
        service("keep", "10.96.1.5", {**HTTP, "nodePort": 30085}, externalTrafficPolicy="Local"),
        endpoints("keep", cluster.servers[:2], HTTP_TARGET),
    )
    answers = cluster.lab.ask(cluster.first.ip, 30085, count=30)
    assert set(who(answers)) == {pod.name for pod in cluster.servers[:2]}
    assert sources(answers) == {"172.31.0.1"}
    assert cluster.lab.ask(cluster.second.ip, 30085, timeout=0.4)[0].startswith("!Timeout")
    # Pods and the host itself are not outside.
    assert set(who(cluster.clients[1].ask(cluster.second.ip, 30085, count=20))) <= {p.name for p in cluster.servers}
    assert not cluster.second.ask(cluster.second.ip, 30085)[0].startswith("!")
    cluster.delete("keep")


def test_internal_policy_local(cluster: Cluster) -> None:
    cluster.apply(
        service("near", "10.96.1.6", HTTP, internalTrafficPolicy="Local"),
        endpoints("near", cluster.servers[:2], HTTP_TARGET),
    )
    assert set(who(cluster.clients[0].ask("10.96.1.6", 80, count=30))) == {p.name for p in cluster.servers[:2]}
    assert cluster.clients[1].ask("10.96.1.6", 80, timeout=0.4)[0].startswith("!Timeout")
    cluster.delete("near")


def test_session_affinity(cluster: Cluster) -> None:
    cluster.apply(
        service(
            "sticky",
            "10.96.1.7",
            HTTP,
            sessionAffinity="ClientIP",
            sessionAffinityConfig={"clientIP": {"timeoutSeconds": 100}},
        ),
        endpoints("sticky", cluster.servers, HTTP_TARGET),
    )
    for client in cluster.clients:
        assert len(who(client.ask("10.96.1.7", 80, count=30))) == 1
    cluster.delete("sticky")


def test_external_and_load_balancer_addresses(cluster: Cluster) -> None:
    balanced = service("outer", "10.96.1.8", {**HTTP, "nodePort": 30088}, externalIPs=["192.0.2.50"])
    balanced["spec"] |= {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.244.1.0/24"]}
    balanced["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.60"}]}}
    cluster.apply(balanced, endpoints("outer", cluster.servers, HTTP_TARGET))
    # status travels on its own in the API
    for host in cluster.lab.hosts:
        host.call("apply_status", obj=balanced)
    first, second = cluster.clients
    assert not first.ask("192.0.2.50", 80)[0].startswith("!")
    assert not first.ask("192.0.2.60", 80)[0].startswith("!")
    assert second.ask("192.0.2.60", 80, timeout=0.4)[0].startswith("!Timeout"), "not in the source ranges"
    cluster.delete("outer")


def test_udp_clients_with_a_fixed_port_move_to_living_endpoints(cluster: Cluster) -> None:
    old, new = cluster.servers[0], cluster.servers[3]
    cluster.apply(service("moving", "10.96.1.9", {**DNS, "nodePort": 30059}), endpoints("moving", [old], DNS_TARGET))
    client = cluster.clients[0]
    assert who(client.ask("10.96.1.9", 53, kind="udp", source=4444)) == {old.name: 1}
    assert who(cluster.lab.ask(cluster.second.ip, 30059, kind="udp", source=4444)) == {old.name: 1}
    cluster.apply(endpoints("moving", [new], DNS_TARGET))
    assert who(client.ask("10.96.1.9", 53, kind="udp", source=4444)) == {new.name: 1}
    assert who(cluster.lab.ask(cluster.second.ip, 30059, kind="udp", source=4444)) == {new.name: 1}
    cluster.delete("moving")


def test_udp_flows_stay_with_an_endpoint_as_long_as_it_serves(cluster: Cluster) -> None:
    leaving, staying = cluster.servers[0], cluster.servers[3]
    cluster.apply(service("ending", "10.96.1.23", DNS), endpoints("ending", [leaving], DNS_TARGET))
    client = cluster.clients[0]
    assert who(client.ask("10.96.1.23", 53, kind="udp", source=4466)) == {leaving.name: 1}
    both = endpoints("ending", [leaving, staying], DNS_TARGET)
    both["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    cluster.apply(both)
    assert who(client.ask("10.96.1.23", 53, kind="udp", source=4466)) == {leaving.name: 1}
    assert who(client.ask("10.96.1.23", 53, kind="udp")) == {staying.name: 1}, "new ones go elsewhere"
    over = copy.deepcopy(both)
    over["endpoints"][0]["conditions"]["serving"] = False
    cluster.apply(over)
    assert who(client.ask("10.96.1.23", 53, kind="udp", source=4466)) == {staying.name: 1}
    cluster.delete("ending")


def test_ports_of_one_number_with_different_protocols_and_names(cluster: Cluster) -> None:
    one = {"name": "a", "port": 7000, "protocol": "TCP"}
    two = {"name": "b", "port": 7000, "protocol": "UDP"}
    three = {"name": "c", "port": 7001, "protocol": "TCP"}
    cluster.apply(
        service("many", "10.96.1.10", one, two, three),
        endpoints("many", cluster.servers[:1], {**one, "port": 8080}, {**two, "port": 5353}, {**three, "port": 9090}),
    )
    client = cluster.clients[1]
    assert client.ask("10.96.1.10", 7000)[0].endswith(" 8080")
    assert client.ask("10.96.1.10", 7000, kind="udp")[0].endswith(" 5353")
    assert client.ask("10.96.1.10", 7001)[0].endswith(" 9090")
    cluster.delete("many")


DAMAGE = {
    "iptables": [
        ("iptables -t nat -F KUBE-SERVICES", "iptables -t nat -D PREROUTING 1", "iptables -t filter -F KUBE-FORWARD"),
        ("iptables -t nat -F",),
    ],
    "nftables": [
        ("nft flush chain ip orca-proxy services", "nft delete table ip6 orca-proxy"),
        ("nft delete element ip orca-proxy service-ips { 10.96.1.1 . tcp . 80 }",),
        ("nft add rule ip orca-proxy services drop",),
        ("nft flush ruleset",),
    ],
}


def test_flushed_and_deleted_rules_heal(cluster: Cluster, web: str) -> None:
    host = cluster.first
    for commands in DAMAGE[cluster.mode]:
        for command in commands:
            host.run(*command.split())
        deadline = time.monotonic() + PATIENCE
        while cluster.clients[0].ask(web, 80, timeout=0.3)[0].startswith("!"):
            assert time.monotonic() < deadline, (commands, cluster.rules(host))
        time.sleep(0.1)
    assert cluster.lab.ask(host.ip, 30080)[0].startswith("host-")


def test_who_asked_while_there_were_no_rules_is_answered_when_there_are(cluster: Cluster, web: str) -> None:
    host, client = cluster.first, cluster.clients[0]
    host.call("stop_proxy")
    host.run("nft", "flush", "ruleset")
    # Somebody else's rules have the kernel go on keeping connections in mind.
    for what in ("table ip keeping", "chain ip keeping c { type filter hook input priority 0; }"):
        host.run("nft", "add", what)
    host.run("nft", "add rule ip keeping c ct state new")
    asks = ((client, web, 53, 4455), (cluster.lab, host.ip, 30053, 4456))
    for asker, address, port, source in asks:
        # The kernel remembers these flows as untranslated.
        assert asker.ask(address, port, kind="udp", source=source, timeout=0.4)[0].startswith("!")
    cluster.start_proxy(host)
    host.call("heal")
    for asker, address, port, source in asks:
        assert asker.ask(address, port, kind="udp", source=source)[0].startswith("host-")
    host.run("nft", "delete", "table", "ip", "keeping")


def test_own_writes_are_not_taken_for_foreign_ones(cluster: Cluster, web: str) -> None:
    host = cluster.first
    host.call("heal_rules")
    before = host.call("foreign_changes")
    host.pod("with-port", host_ports=[{"containerPort": 80, "hostPort": 8099}])
    cluster.apply(service("own", "10.96.1.20", HTTP), endpoints("own", cluster.servers, HTTP_TARGET))
    cluster.delete("own")
    assert host.call("foreign_changes") == before
    host.run("iptables", "-t", "nat", "-N", "PASSING-BY")
    assert host.call("foreign_changes") == before + 1


def test_foreign_rules_stay(cluster: Cluster, web: str) -> None:
    host = cluster.first
    host.run("iptables", "-t", "nat", "-N", "SOMEBODY-ELSES")
    host.run("iptables", "-t", "nat", "-A", "PREROUTING", "-s", "192.0.2.77/32", "-j", "SOMEBODY-ELSES")
    _restart(cluster, host)
    saved = host.run("iptables-save", "-t", "nat")
    assert "-A PREROUTING -s 192.0.2.77/32 -j SOMEBODY-ELSES" in saved


def test_restart_writes_nothing_and_removes_what_is_stale(cluster: Cluster, web: str) -> None:
    host = cluster.second
    host.call("heal_rules")
    before = _generation(host)
    _restart(cluster, host)
    assert _generation(host) == before, "the rules are right already: nothing may be written"
    host.call("stop_proxy")
    host.call("apply", objects=[service("ghost", "10.96.1.66", HTTP), endpoints("ghost", cluster.servers, HTTP_TARGET)])
    cluster.start_proxy(host)
    assert "default/ghost" in cluster.rules(host)
    host.call("stop_proxy")
    host.call("delete", kind="Service", name="ghost")
    host.call("delete", kind="EndpointSlice", name="ghost-x")
    cluster.start_proxy(host)
    assert "default/ghost" not in cluster.rules(host)


def test_a_change_is_live_at_once(cluster: Cluster, web: str) -> None:
    slices = endpoints("web", cluster.servers[:3], HTTP_TARGET, DNS_TARGET)
    cluster.apply(slices)
    host = cluster.first
    taken = []
    for count in (2, 3, 4, 3, 4, 2):
        taken.append(host.call("apply", objects=[endpoints("web", cluster.servers[:count], HTTP_TARGET)]))
        # As soon as the proxy says that it is done; ``bench services`` says how long that takes.
        rules = cluster.rules(host)
        there = [pod for pod in cluster.servers if f"{pod.ip}:8080" in rules or f"{pod.ip} . 8080" in rules]
        assert there == cluster.servers[:count], rules
    cluster.apply(endpoints("web", cluster.servers, HTTP_TARGET, DNS_TARGET))
    print(f"endpoint change to kernel: {sorted(round(t * 1000, 1) for t in taken)} ms")


def test_release_is_told_when_the_kernel_sends_nothing_more(cluster: Cluster) -> None:
    leaving, staying = cluster.servers[0], cluster.servers[1]
    both = endpoints("leave", [leaving, staying], HTTP_TARGET)
    cluster.apply(service("leave", "10.96.1.21", HTTP), both)
    gone = copy.deepcopy(both)
    gone["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    # The pod serves in "web" too: that has to let it go as well.
    web = endpoints("web", cluster.servers[1:], HTTP_TARGET, DNS_TARGET)
    seconds = cluster.first.call("time_release", ip=leaving.ip, objects=[gone, web])
    print(f"told after {seconds * 1000:.1f} ms")
    assert leaving.name not in who(cluster.clients[0].ask("10.96.1.21", 80, count=30))
    cluster.apply(endpoints("web", cluster.servers, HTTP_TARGET, DNS_TARGET))
    cluster.delete("leave")


def test_switching_modes_loses_no_connection_and_leaves_no_rules(cluster: Cluster, web: str) -> None:
    host = cluster.first
    other = {"nftables": "iptables", "iptables": "nftables"}[cluster.mode]
    answers: list[str] = []
    going = threading.Event()

    def ask() -> None:
        while not going.is_set():
            answers.extend(cluster.clients[0].ask(web, 80, count=100))

    asking = threading.Thread(target=ask)
    asking.start()
    for mode in (other, cluster.mode):
        host.call("stop_proxy")
        cluster.start_proxy(host, mode)
        tables = host.run("nft", "list", "tables"), host.run("iptables-save") + host.run("ip6tables-save")
        assert ("orca-proxy" in tables[0]) == (mode == "nftables")
        assert ("KUBE-" in tables[1]) == (mode == "iptables")
    going.set()
    asking.join()
    assert [answer for answer in answers if answer.startswith("!")] == []
    assert len(who(answers)) == len(cluster.servers)


def test_cleanup_leaves_nothing(cluster: Cluster) -> None:
    host = cluster.second
    host.call("clean_proxy")
    saved = host.run("iptables-save")
    assert "KUBE-" not in saved
    assert "orca-proxy" not in host.run("nft", "list", "tables")
    assert "ORCA-" in saved
    cluster.start_proxy(host)


def _restart(cluster: Cluster, host: Host) -> None:
    host.call("stop_proxy")
    cluster.start_proxy(host)


def _generation(host: Host) -> int:
    return int(host.call("generation"))
