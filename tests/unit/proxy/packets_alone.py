"""Run by test_packets.py in a network namespace of its own: UDP through a backend in both families, with servers on
addresses of the namespace itself. Prints one line a question: who answered."""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import sys

from agents.network import Iptables
from agents.proxy.backend import HostView
from agents.proxy.forgetting import Forgetting
from agents.proxy.model import Endpoint, ServicePort
from agents.proxy.modes import make_backend
from orca.client.clock import SystemClock

ENDPOINTS = {
    "10.96.0.9": ("10.244.1.2", "10.244.1.3"),
    "fd00:96::9": ("fd00:244::2", "fd00:244::3"),
}
_source_ports = itertools.count(10001)
WIRING = """
ip link set lo up
ip link add pods type bridge
ip link set pods up
ip addr add 10.244.1.2/24 dev pods
ip addr add 10.244.1.3/24 dev pods
ip addr add fd00:244::2/64 dev pods nodad
ip addr add fd00:244::3/64 dev pods nodad
ip route add 10.96.0.0/16 dev pods
ip route add fd00:96::/64 dev pods
"""


def serve(ip: str) -> None:
    server = socket.socket(_family(ip), socket.SOCK_DGRAM)
    server.bind((ip, 5353))
    server.setblocking(False)

    def answer() -> None:
        _, client = server.recvfrom(100)
        server.sendto(ip.encode(), client)

    asyncio.get_running_loop().add_reader(server, answer)


async def ask(client: socket.socket) -> str:
    for left in 4, 3, 2, 1, 0:  # as any client of UDP: a datagram that is lost on a full queue is sent again
        try:
            client.send(b"who?")
            async with asyncio.timeout(4):
                return (await asyncio.get_running_loop().sock_recv(client, 100)).decode()
        except TimeoutError as error:
            if not left:
                return type(error).__name__
        except OSError as error:
            return type(error).__name__
    raise AssertionError("unreachable")


def client_to(ip: str, port: int) -> socket.socket:
    client = socket.socket(_family(ip), socket.SOCK_DGRAM)
    # One that no client before had: the kernel remembers for a while who answered that one.
    client.bind(("", next(_source_ports)))
    client.connect((ip, port))
    client.setblocking(False)
    return client


def _family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


async def main(mode: str) -> None:
    host = HostView(("10.244.0.0/16", "fd00:244::/64"))
    backend, forgetting = make_backend(mode, Iptables(), host), Forgetting(SystemClock())
    for vip, (first, second) in ENDPOINTS.items():
        serve(first)
        serve(second)

        async def use(*ips: str, affinity: int = 0, vip: str = vip) -> None:
            endpoints = tuple(Endpoint(ip, 5353, local=True) for ip in ips)
            number = 30053
            state = {"cluster": endpoints, "anywhere": bool(ips), "affinity_seconds": affinity}
            port = ServicePort("default/dns", "", "UDP", 53, vip, number, **state)  # type: ignore[arg-type]
            changed = {"default/dns": (port,)}
            await backend.update(changed)
            await forgetting.sweep(changed)

        await use(first)
        keeping = client_to(vip, 53)
        print(vip, "first", await ask(keeping))
        await use(second)
        print(vip, "the same client, another endpoint", await ask(keeping))
        await use()
        print(vip, "no endpoint", await ask(client_to(vip, 53)))
        await use(first, second)
        print(vip, "both", *sorted({await ask(client_to(vip, 53)) for _ in range(30)}))
        own = first if ":" in vip else "127.0.0.1"
        print(vip, "node port", *sorted({await ask(client_to(own, 30053)) for _ in range(30)}))
        await use(first, second, affinity=100)
        answers = {await ask(client_to(vip, 53)) for _ in range(20)}
        print(vip, "affinity", len(answers), *(sorted(answers) if len(answers) != 1 else ()))
    await backend.remove_everything()


if __name__ == "__main__":
    for line in WIRING.strip().splitlines():
        subprocess.run(line.split(), check=True)
    asyncio.run(main(sys.argv[1]))
