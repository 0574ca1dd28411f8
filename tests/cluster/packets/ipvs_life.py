"""What IPVS does over time, beside the table: checks that run in a guest, one line of JSON each.

``python -m tests.cluster.packets.ipvs_life`` needs a kernel with IPVS and a network namespace it may change at will.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from agents.network.iptables import Iptables
from agents.proxy.backend import HostView
from agents.proxy.ipvs import IpvsBackend
from agents.proxy.ipvs.layout import SCHEDULERS, Virtual, VirtualKey
from agents.proxy.ipvs.netlink import DEVICE, HostAddresses, VirtualServers
from agents.proxy.ipvs.plan import Actual, DropServer, DropVirtual, PutServer, PutVirtual
from agents.proxy.model import Endpoint, ServicePort
from agents.proxy.modes import clean_others, make_backend

CLUSTER = ("10.244.0.0/16", "fd00:10:244::/48")
NODE = "172.31.0.11"
PODS = ("10.244.1.2", "10.244.1.3")
WEB = VirtualKey("TCP", "10.96.0.50", 80)


def host(**more: Any) -> HostView:
    return HostView(cluster_cidrs=CLUSTER, node_ips=(NODE,), **more)


def web(*ips: str, **more: Any) -> tuple[ServicePort, ...]:
    endpoints = tuple(Endpoint(ip, 8080, True) for ip in ips)
    port = ServicePort("default/web", "", "TCP", 80, WEB.address, cluster=endpoints, anywhere=bool(ips), **more)
    return (port,)


def shell(command: str) -> str:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def everything() -> tuple[str, ...]:
    """The kernel's state as text, without counters and in an order that stays."""
    rules = "".join(shell(f"{tool}-save") for tool in ("iptables", "ip6tables"))
    with contextlib.closing(VirtualServers()) as servers:
        virtual = sorted(
            f"{key} {found.scheduler} {found.flags} {found.timeout} {sorted(servers.filled(key, found).servers)}"
            for key, found in servers.found().items()
        )
    with contextlib.closing(HostAddresses()) as addresses:
        bound = sorted(addresses.all().get(DEVICE, ()))
    lines = [line for line in rules.splitlines() if line.startswith(("-A", "*"))]
    return (*sorted(shell("ipset save | grep ^add || true").splitlines()), *lines, *virtual, *bound)


def one(key: VirtualKey = WEB) -> Actual:
    with contextlib.closing(VirtualServers()) as servers:
        found = servers.get(key)
    assert found is not None, f"{key} is not there"
    return found


async def all_schedulers() -> None:
    for scheduler in SCHEDULERS:
        assert IpvsBackend.problem(scheduler) == ""
    assert "not one of" in IpvsBackend.problem("best")
    async with backend(ipvs_scheduler="mh") as made:
        await made.update({"default/web": web(*PODS)})
        assert one().scheduler == "mh"
        await made.set_host(host(ipvs_scheduler="lc"))
        await made.update({})
        assert (one().scheduler, set(one().servers)) == ("lc", {(ip, 8080) for ip in PODS})


async def affinity_is_persistence() -> None:
    async with backend() as made:
        await made.update({"default/web": web(*PODS, affinity_seconds=300)})
        found = one()
        assert (found.flags & 1, found.timeout) == (1, 300), found
        await made.update({"default/web": web(*PODS, affinity_seconds=600)})
        assert one().timeout == 600
        await made.update({"default/web": web(*PODS)})
        assert one().flags & 1 == 0
        assert set(one().servers) == {(ip, 8080) for ip in PODS}, "a change of settings keeps the servers"


async def only_what_differs_is_written() -> None:
    async with backend() as made:
        assert await made.update({"default/web": web(*PODS, node_port=30080)}) > 0
        assert await made.update({"default/web": web(*PODS, node_port=30080)}) == 0
        assert await made.heal() == 0
        assert await made.restore() == 0
        # One server at each of the two virtual ones, and its hairpin entry.
        assert await made.update({"default/web": web(PODS[0], node_port=30080)}) <= 8


async def next_run_takes_over() -> None:
    async with backend() as former:
        await former.update({"default/web": web(*PODS, node_port=30080), "default/old": old(node_port=30090)})
    async with backend() as made:
        assert await made.update({"default/web": web(*PODS, node_port=30080), "default/old": old(node_port=30090)}) == 0
    async with backend() as made:
        await made.update({"default/web": web(*PODS, node_port=30080)})
        left = "\n".join(everything())
        assert "10.96.0.51" not in left, left
        assert "30090" not in left, left
        assert set(one().servers) == {(ip, 8080) for ip in PODS}


async def what_others_take_heals() -> None:
    async with backend() as made:
        await made.update({"default/web": web(*PODS, node_port=30080)})
        before = everything()
        shell("iptables -t nat -F KUBE-IPVS-SERVICES; iptables -t mangle -D INPUT 1")
        shell(f"ip link delete {DEVICE}; ipset flush KUBE-CLUSTER-IP; ipset flush KUBE-LOOP-BACK")
        with contextlib.closing(VirtualServers()) as servers:
            servers.apply([PutServer(WEB, ("10.244.9.9", 1), 1, exists=False), DropServer(WEB, (PODS[0], 8080))])
        assert await made.heal() > 0
        assert everything() == before, set(before) ^ set(everything())
        shell(f"ip addr flush dev {DEVICE}")
        made._look_at = 0.0  # what nobody tells of is looked for, but not at every call
        assert await made.heal() > 0
        assert everything() == before, set(before) ^ set(everything())


async def virtual_servers_of_others_stay() -> None:
    foreign, excluded = VirtualKey("TCP", "203.0.113.5", 80), VirtualKey("TCP", "10.96.0.200", 80)
    async with backend(ipvs_exclude_cidrs=("10.96.0.200/32",)) as made:
        await made.update({"default/web": web(*PODS)})
        with contextlib.closing(VirtualServers()) as servers, contextlib.closing(HostAddresses()) as addresses:
            servers.apply([PutVirtual(each, Virtual("rr"), exists=False) for each in (foreign, excluded)])
            servers.apply([PutServer(foreign, ("10.1.1.1", 80), 1, exists=False)])
            addresses.change(add=["10.96.0.200"])
        await made.restore()
        assert one(foreign).servers
        assert one(excluded).scheduler == "rr"
        await made.remove_everything()
        assert one(foreign).servers
        with contextlib.closing(VirtualServers()) as servers:
            servers.apply([DropVirtual(foreign), DropVirtual(excluded)])
        assert DEVICE not in shell("ip -br link")


async def a_server_that_leaves_keeps_its_connections() -> None:
    with serving(*PODS) as accepted:
        async with backend() as made:
            await made.update({"default/web": web(*PODS)})
            clients = [socket.create_connection((WEB.address, 80), timeout=60) for _ in range(2)]
            peers = {client: client.recv(64).decode() for client in clients}
            assert set(peers.values()) == set(PODS), peers
            await made.update({"default/web": web(PODS[1])})
            assert one().servers[(PODS[0], 8080)].weight == 0, "waits for its connection"
            old_client = next(client for client, peer in peers.items() if peer == PODS[0])
            old_client.sendall(b"still there?")
            assert old_client.recv(64) == b"still there?"
            for _ in range(4):
                with socket.create_connection((WEB.address, 80), timeout=60) as fresh:
                    assert fresh.recv(64).decode() == PODS[1], "nothing new goes to the one that leaves"
            # Back again: it serves as before.
            await made.update({"default/web": web(*PODS)})
            assert one().servers[(PODS[0], 8080)].weight == 1
            await made.update({"default/web": web(PODS[1])})
            # Ended by a reset: gone from the kernel's table within seconds, then the server goes.
            old_client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            old_client.close()
            accepted.clear()
            deadline = time.monotonic() + 120
            while (PODS[0], 8080) in one().servers:
                assert time.monotonic() < deadline, one()
                await asyncio.sleep(0.5)
                made._drain_at = 0.0
                await made.heal()
            for client in clients:
                client.close()


async def node_ports_follow_the_hosts_addresses() -> None:
    async with backend() as made:
        await made.update({"default/web": web(*PODS, node_port=30080)})
        shell("ip addr add 172.31.9.9/32 dev eth0")
        try:
            assert await made.heal() > 0
            assert one(VirtualKey("TCP", "172.31.9.9", 30080)).servers
        finally:
            shell("ip addr del 172.31.9.9/32 dev eth0")
        assert await made.heal() > 0
        with contextlib.closing(VirtualServers()) as servers:
            assert servers.get(VirtualKey("TCP", "172.31.9.9", 30080)) is None
        woken = asyncio.Event()
        made.listen(woken.set)
        shell("ip addr add 172.31.9.9/32 dev eth0")
        await asyncio.wait_for(woken.wait(), 60)
        assert await made.heal() > 0
        assert await made.heal() == 0
        woken.clear()
        shell(f"ip addr del {WEB.address}/32 dev {DEVICE}")
        await asyncio.wait_for(woken.wait(), 60)
        assert await made.heal() > 0
        shell("ip addr del 172.31.9.9/32 dev eth0")
        await made.set_host(host(node_port_addresses=("192.0.2.0/24",)))
        await made.update({})
        with contextlib.closing(VirtualServers()) as servers:
            assert servers.found().keys() == {WEB}


async def settings_of_the_host() -> None:
    shell("echo 0 >/proc/sys/net/ipv4/conf/all/arp_ignore")
    async with backend() as made:
        await made.update({"default/web": web(*PODS)})
        assert shell("cat /proc/sys/net/ipv4/conf/all/arp_ignore").strip() == "0"
        # One host answers for a load balancer's address, although all carry it.
        await made.update({"default/web": web(*PODS, load_balancer_ips=("198.51.100.1",))})
        assert shell("cat /proc/sys/net/ipv4/conf/all/arp_ignore").strip() == "1"
    shell("echo 0 >/proc/sys/net/ipv4/conf/all/arp_ignore")
    async with backend(ipvs_strict_arp=True) as made:
        await made.update({"default/web": web(*PODS)})
        for name, value in (("vs/conntrack", "1"), ("conf/all/arp_ignore", "1"), ("conf/all/arp_announce", "2")):
            assert shell(f"cat /proc/sys/net/ipv4/{name}").strip() == value, name


async def modes_take_over_from_each_other() -> None:
    iptables = Iptables()
    with serving(*PODS):
        async with backend() as made:
            models = {"default/web": web(*PODS)}
            await made.update(models)
            answers()
            other = make_backend("iptables", iptables, host())
            await other.update(models)
            await clean_others("iptables", iptables, host())
            answers()
            assert DEVICE not in shell("ip -br link")
            assert "KUBE-IPVS" not in shell("iptables-save; ip6tables-save; ipset save")
            again = make_backend("ipvs", iptables, host())
            await again.update(models)
            await clean_others("ipvs", iptables, host())
            answers()
            assert "KUBE-SVC" not in shell("iptables-save")
            again.close()


async def nothing_is_left() -> None:
    clean = everything()
    async with backend() as made:
        await made.update({"default/web": web(*PODS, node_port=30080, external_ips=("198.51.100.1",))})
        await made.remove_everything()
    assert everything() == clean
    assert not shell("ipset list -n"), "no set is left"


def old(**more: Any) -> tuple[ServicePort, ...]:
    endpoints = (Endpoint(PODS[0], 53),)
    return (ServicePort("default/old", "", "UDP", 53, "10.96.0.51", cluster=endpoints, anywhere=True, **more),)


def answers() -> None:
    with socket.create_connection((WEB.address, 80), timeout=60) as client:
        assert client.recv(64).decode() in PODS


@contextlib.asynccontextmanager
async def backend(**more: Any) -> Any:
    """A backend; what it has written is still there afterwards."""
    made = IpvsBackend(Iptables(), host(**more))
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def serving(*ips: str) -> Any:
    """Addresses of this host that say which they are and then echo."""
    accepted: list[socket.socket] = []
    listeners = []
    for ip in ips:
        shell(f"ip addr add {ip}/32 dev pods")
        listener = socket.create_server((ip, 8080))
        listeners.append(listener)

        def serve(listener: socket.socket = listener, ip: str = ip) -> None:
            with contextlib.suppress(OSError):
                while True:
                    made, _ = listener.accept()
                    accepted.append(made)
                    made.sendall(ip.encode())
                    threading.Thread(target=echo, args=(made,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
    try:
        yield accepted
    finally:
        for ip, listener in zip(ips, listeners, strict=True):
            listener.shutdown(socket.SHUT_RDWR)  # or the thread would keep it while it waits
            listener.close()
            shell(f"ip addr del {ip}/32 dev pods")


def echo(made: socket.socket) -> None:
    with contextlib.suppress(OSError), made:
        while data := made.recv(64):
            made.sendall(data)


CHECKS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    check.__name__: check
    for check in (
        all_schedulers,
        affinity_is_persistence,
        only_what_differs_is_written,
        next_run_takes_over,
        what_others_take_heals,
        virtual_servers_of_others_stay,
        a_server_that_leaves_keeps_its_connections,
        node_ports_follow_the_hosts_addresses,
        settings_of_the_host,
        modes_take_over_from_each_other,
        nothing_is_left,
    )
}


def main() -> None:
    shell(
        "ip link add eth0 type veth peer name far; ip link set far up; ip link set eth0 up;"
        f"ip addr add {NODE}/24 dev eth0;"
        "ip link add orca-svc type bridge; ip link set orca-svc arp off up; ip route add 10.96.0.0/16 dev orca-svc;"
        "ip link add pods type bridge; ip link set pods up; echo 1 >/proc/sys/net/ipv4/ip_forward"
    )
    for name in sys.argv[1:] or CHECKS:
        began = time.monotonic()
        problem = ""
        try:
            asyncio.run(CHECKS[name]())
        except Exception:  # whatever went wrong is this check's result
            problem = traceback.format_exc()
        with contextlib.suppress(AssertionError):
            asyncio.run(_clean())
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"check": name, "seconds": seconds, "problem": problem}), flush=True)


async def _clean() -> None:
    async with backend() as made:
        await made.remove_everything()


if __name__ == "__main__":
    main()
