"""Pods on hosts of two segments and of both families, with real packets. The router between the segments drops whatever
carries a pod's address: only the tunnel gets through."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.network.routes import BACKEND_TYPE
from agents.network.wiring import link_name
from tests.cluster.netlab import Host, NetLab, Pod, ask, start_server
from tests.support.patience import PATIENCE

# Sends datagrams of the given size, one at a time; prints what became of each. DF is left to the kernel's discovery.
BIG = r"""
import socket, sys
address, port, size, count, timeout = sys.argv[1], *map(int, sys.argv[2:])
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(timeout); s.connect((address, port)); came = 0
for _ in range(count):
    try:
        s.send(b"x" * size); came += len(s.recv(65536)) == size
    except OSError: pass
print(came)
"""
# Asks every 10 ms until told to end, but not before it has asked often; prints how many answers came and how many not.
STREAM = r"""
import socket, sys, time, select
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2]))); s.settimeout(60); came = lost = 0
print("going", flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0] or came + lost <= 20:
    try: s.send(b"x" * 200); s.recv(2048); came += 1
    except OSError: lost += 1
print(came, lost)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetLab]:
    with NetLab(tmp_path_factory.mktemp("segments"), hosts=3, segments=2, dual_stack=True) as lab:
        lab.start_networks()
        yield lab


def _echo(host: Host, name: str) -> Pod:
    pod = host.pod(name)
    pod.serve("tcp:80", "udp:53")
    return pod


def _big(pod: Pod, address: str, size: int, count: int = 3, timeout: int = 20) -> int:
    return int(pod.run(sys.executable, "-c", BIG, address, "53", str(size), str(count), str(timeout)))


def test_only_hosts_on_another_segment_are_behind_the_tunnel(lab: NetLab) -> None:
    near, far, neighbour = lab.hosts
    routes = near.run("ip", "route") + near.run("ip", "-6", "route")
    assert f"10.244.3.0/24 via {neighbour.ip} dev eth0" in routes
    assert f"fd10:244:3::/64 via {neighbour.ip6} dev eth0" in routes
    assert "10.244.2.0/24 via 10.244.2.0 dev orca-vxlan" in routes
    assert "fd10:244:2::/64 via fd10:244:2:: dev orca-vxlan" in routes
    assert far.ip in near.run("bridge", "fdb", "show", "dev", "orca-vxlan")
    assert neighbour.ip not in near.run("bridge", "fdb", "show", "dev", "orca-vxlan")


def test_pods_of_all_hosts_reach_each_other_with_their_own_addresses(lab: NetLab) -> None:
    pods = [_echo(host, f"all-{host.name}") for host in lab.hosts]
    for client in pods:
        for server in pods:
            assert client.ask(server.ip, 80) == [f"{server.name} {client.ip} 80"]
            assert client.ask(server.ip6, 80) == [f"{server.name} {client.ip6} 80"]


def test_hosts_and_far_pods_reach_each_other(lab: NetLab) -> None:
    near, far, _ = lab.hosts
    pod = _echo(far, "far-pod")
    # Through the tunnel a host goes by its address within, so that the answer comes back through it.
    assert near.ask(pod.ip, 80) == ["far-pod 10.244.1.0 80"]
    assert near.ask(pod.ip6, 80) == ["far-pod fd10:244:1:: 80"]
    server = start_server(near.command(), near.name, "tcp:10250")
    try:
        assert pod.ask(near.ip, 10250)[0].startswith(near.name)
        assert pod.ask(near.ip6, 10250)[0].startswith(near.name)
    finally:
        server.kill()
        server.wait()


def test_what_leaves_the_cluster_has_the_hosts_address_in_both_families(lab: NetLab) -> None:
    host = lab.hosts[0]
    pod = host.pod("leaver")
    server = start_server(lab.command(), "outside", "tcp:7000")
    try:
        assert pod.ask("172.31.0.1", 7000) == [f"outside {host.ip} 7000"]
        assert pod.ask("fd31:1::1", 7000) == [f"outside {host.ip6} 7000"]
    finally:
        server.kill()
        server.wait()


def test_big_packets_pass_the_tunnel(lab: NetLab) -> None:
    near, far, _ = lab.hosts
    client, server = near.pod("big-client"), _echo(far, "big-server")
    assert "mtu 1450" in client.run("ip", "link", "show", "eth0")
    for size in (1422, 1423, 4000, 20000):  # 1422 bytes fill a packet of 1450; more goes in fragments
        assert _big(client, server.ip, size) == 3
        assert _big(client, server.ip6, size) == 3


def test_pods_from_before_the_tunnel_keep_their_mtu_and_are_told_of_less(lab: NetLab) -> None:
    near, far, neighbour = lab.hosts
    for host in (near, neighbour):
        host.call("set_nodes", nodes=[near.node, neighbour.node])
    old, peer = near.pod("old"), _echo(neighbour, "peer")
    assert "mtu 1500" in old.run("ip", "link", "show", "eth0")
    assert "orca-vxlan" not in near.run("ip", "link")
    for host in lab.hosts:
        host.call("set_nodes", nodes=[one.node for one in lab.hosts])
        host.call("heal")
    fresh, remote = _echo(near, "fresh"), _echo(far, "remote")
    assert "mtu 1500" in old.run("ip", "link", "show", "eth0")
    assert "mtu 1450" in fresh.run("ip", "link", "show", "eth0")
    for address in (remote.ip, remote.ip6, fresh.ip, fresh.ip6, peer.ip):
        # The first packets may be lost to the discovery of the way's MTU; then all get through.
        assert _big(old, address, 1452, 6, timeout=5) >= 3, address
    assert _big(peer, fresh.ip, 1472, 6, timeout=5) >= 3


def test_a_killed_agent_costs_no_packet(lab: NetLab) -> None:
    near, far, neighbour = lab.hosts
    client, servers = near.pod("steady"), [_echo(far, "steady-far"), _echo(neighbour, "steady-near")]
    streams = [
        subprocess.Popen(
            client.command(sys.executable, "-c", STREAM, address, "53"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for server in servers
        for address in (server.ip, server.ip6)
    ]
    for stream in streams:
        assert stream.stdout
        assert stream.stdout.readline() == "going\n"
    before = near.run("ip", "-o", "link", "show", "orca-vxlan")
    near.stop_agent()
    near.start_network()
    near.call("set_nodes", nodes=[host.node for host in lab.hosts])
    near.call("heal")
    assert near.run("ip", "-o", "link", "show", "orca-vxlan") == before
    for stream in streams:
        came, lost = map(int, stream.communicate("\n", timeout=PATIENCE)[0].split())
        assert (came > 20, lost) == (True, 0), (came, lost)


def test_lost_entries_of_the_tunnel_are_put_back(lab: NetLab) -> None:
    near, far, _ = lab.hosts
    client, server = near.pod("healer"), _echo(far, "healed")
    near.run("ip", "link", "delete", "orca-vxlan")
    near.call("heal")
    assert client.ask(server.ip, 80) == [f"healed {client.ip} 80"]
    near.run("bridge", "fdb", "flush", "dev", "orca-vxlan", check=False)
    near.run("ip", "neigh", "flush", "dev", "orca-vxlan", "nud", "permanent")
    near.call("heal")
    assert client.ask(server.ip, 80) == [f"healed {client.ip} 80"]
    assert client.ask(server.ip6, 80) == [f"healed {client.ip6} 80"]


def test_hosts_go_over_to_the_tunnel_and_back(lab: NetLab) -> None:
    near, _, neighbour = lab.hosts
    client, server = near.pod("mover"), _echo(neighbour, "moved")
    told = [dict(host.annotations) for host in (near, neighbour)]
    for backend, device in (("vxlan", "orca-vxlan"), ("auto", "eth0")):
        near.annotations, neighbour.annotations = ({**one, BACKEND_TYPE: backend} for one in told)
        for host in (near, neighbour):
            assert host.call("set_nodes", nodes=[one.node for one in lab.hosts]) == {}
        for route in (
            near.run("ip", "route", "show", "10.244.3.0/24"),
            near.run("ip", "-6", "route", "show", "fd10:244:3::/64"),
        ):
            assert device in route
        assert client.ask(server.ip, 80) == [f"moved {client.ip} 80"]
        assert client.ask(server.ip6, 80) == [f"moved {client.ip6} 80"]


def test_a_node_with_other_ranges_leaves_its_former_ends_of_the_tunnel(lab: NetLab) -> None:
    far, near = lab.hosts[1], lab.hosts[0]
    former = far.cidrs
    try:
        far.cidrs = ["10.244.62.0/24", "fd10:244:62::/64"]
        far.cidr = far.cidrs[0]
        far.start_network()
        for host in (near, far):
            assert host.call("set_nodes", nodes=[one.node for one in lab.hosts]) == {}
        far.call("heal")
        ends = far.run("ip", "-o", "addr", "show", "dev", "orca-vxlan")
        assert "10.244.62.0/32" in ends
        assert "10.244.2.0/32" not in ends, "another node may get that range, and it is where packets for it go"
        assert "fd10:244:2::/128" not in ends
    finally:
        far.cidrs, far.cidr = former, former[0]
        far.start_network()
        for host in lab.hosts:
            assert host.call("set_nodes", nodes=[one.node for one in lab.hosts]) == {}
        far.call("heal")


def test_a_removed_node_leaves_nothing(lab: NetLab) -> None:
    near, far, neighbour = lab.hosts
    assert near.call("set_nodes", nodes=[near.node, neighbour.node]) == {}
    said = near.run("ip", "route") + near.run("ip", "-6", "route") + near.run("ip", "link")
    assert "orca-vxlan" not in said
    near.call("set_nodes", nodes=[host.node for host in lab.hosts])
    assert near.ask(_echo(far, "again").ip, 80) == ["again 10.244.1.0 80"]


def test_host_ports_of_both_families_and_all_protocols(lab: NetLab) -> None:
    host, _, neighbour = lab.hosts
    ports = [
        {"containerPort": 80, "hostPort": 8080},
        {"containerPort": 53, "hostPort": 5353, "protocol": "UDP"},
        {"containerPort": 80, "hostPort": 8081, "hostIP": host.ip6},
    ]
    pod, other = host.pod("published", host_ports=ports), neighbour.pod("visitor")
    pod.serve("tcp:80", "udp:53")
    for address in (host.ip, host.ip6):
        assert ask(lab.command(), address, 8080)[0].startswith("published ")
        assert other.ask(address, 8080)[0].startswith("published ")
        assert pod.ask(address, 8080)[0].startswith("published ")
        assert host.ask(address, 8080)[0].startswith("published ")
        assert lab.ask(address, 5353, kind="udp")[0].startswith("published ")
    assert host.ask("127.0.0.1", 8080)[0].startswith("published ")
    assert host.ask("::1", 8080)[0].startswith("!ConnectionRefused")
    assert lab.ask(host.ip6, 8081)[0].startswith("published ")
    assert lab.ask(host.ip, 8081)[0].startswith("!ConnectionRefused")


def test_bandwidth_of_a_pod(lab: NetLab) -> None:
    host = lab.hosts[0]
    limits = {"kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "4M"}
    slow, free = host.pod("slow", annotations=limits), host.pod("free")
    assert _seconds(free, slow, 1_000_000) > 0.8  # a megabyte at 8 Mbit/s, less what comes at once
    assert _seconds(slow, free, 1_000_000) > 1.6
    _seconds(free, free, 1_000_000)
    limited = {line.split()[4] for line in host.run("tc", "qdisc", "show").splitlines() if " tbf " in line}
    assert len(limited) == 2
    assert not limited & {link_name(free.uid), "orca0", "eth0"}, "nobody else is slowed down"
    slow.attach(annotations=limits)  # an agent that starts anew finds them as they are
    assert host.run("tc", "qdisc", "show").count(" tbf ") == 2
    host.call("detach", uid=slow.uid)
    assert host.run("tc", "qdisc", "show").count(" tbf ") == 0
    assert " oi" not in host.run("ip", "-o", "link")


RECEIVE = r"""
import socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("", 9)); s.listen(1)
print("ready", flush=True)
c, _ = s.accept(); left = int(sys.argv[1])
while left > 0: left -= len(c.recv(65536))
"""
SEND = r"""
import socket, sys, time
began = time.monotonic(); c = socket.create_connection((sys.argv[1], 9)); c.sendall(bytes(int(sys.argv[2])))
assert c.recv(1) == b""
print(time.monotonic() - began)
"""


def _seconds(sender: Pod, receiver: Pod, size: int) -> float:
    """How long ``size`` bytes take by TCP, and whatever holds up one of both: never less than the way takes."""
    process = subprocess.Popen(
        receiver.command(sys.executable, "-c", RECEIVE, str(size)), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    took = float(sender.run(sys.executable, "-c", SEND, receiver.ip, str(size)))
    assert process.wait(PATIENCE) == 0
    process.stdout.close()
    return took


def test_a_bandwidth_that_is_none_is_refused(lab: NetLab) -> None:
    pod = Pod(lab.hosts[0], "odd")
    lab.hosts[0].pods.append(pod)
    with pytest.raises(AssertionError, match=r"unreasonably small \(< 1kbit\)"):
        pod.attach(annotations={"kubernetes.io/egress-bandwidth": "999"})


def test_cleanup_leaves_nothing_of_either_family(tmp_path: Path) -> None:
    with NetLab(tmp_path, hosts=2, segments=2, dual_stack=True) as lab:
        host = lab.hosts[0]
        looks = (("ip", "-o", "link"), ("ip", "route"), ("ip", "-6", "-o", "addr", "show", "scope", "global"))
        before = [host.run(*look) for look in looks]
        lab.start_networks()
        host.pod(
            "p", annotations={"kubernetes.io/egress-bandwidth": "1M"}, host_ports=[{"containerPort": 1, "hostPort": 1}]
        )
        host.call("cleanup")
        assert [host.run(*look) for look in looks] == before
        assert "ORCA" not in host.run("iptables-save") + host.run("ip6tables-save")
