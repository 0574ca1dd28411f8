"""Hosts made of network namespaces, for tests of the pod network and of services: no engine, no server, real packets.

A lab is one segment (a bridge in a namespace of its own, which also plays "outside") and hosts cabled to it. In each
host a process of this project runs with the network, proxy or DNS of that host, told what to do in JSON lines. Pods are
namespaces held by a sleeping process.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
_counter = itertools.count()


def run(*argv: str, check: bool = True, text: str | None = None) -> str:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=300)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(argv)}: {done.stderr or done.stdout}")
    return done.stdout


class Pod:
    """A namespace held by a process; ``serve`` starts a server in it that answers with a given text."""

    def __init__(self, host: Host, name: str) -> None:
        self.host, self.name, self.uid, self.ip, self.ip6 = host, name, f"uid-{name}", "", ""
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "3600"], text=True)
        self.servers: list[subprocess.Popen[str]] = []
        mine = os.stat("/proc/self/ns/net").st_ino
        while os.stat(f"/proc/{self.holder.pid}/ns/net").st_ino == mine:
            time.sleep(0.002)

    def attach(self, **more: Any) -> str:
        self.ip, *others = self.host.call("attach", uid=self.uid, pid=self.holder.pid, hostname=self.name, **more)
        self.ip6 = others[0] if others else ""
        return self.ip

    def command(self, *argv: str) -> list[str]:
        return ["nsenter", "-t", str(self.holder.pid), "-n", *argv]

    def run(self, *argv: str, check: bool = True) -> str:
        return run(*self.command(*argv), check=check)

    def serve(self, *ports: str) -> None:
        """``"tcp:8080"`` or ``"udp:53"``: answers "<pod name> <client address>"."""
        self.servers.append(start_server(self.command(), self.name, *ports))

    def ask(self, address: str, port: int, **options: Any) -> list[str]:
        return ask(self.command(), address, port, **options)

    def close(self) -> None:
        for process in (*self.servers, self.holder):
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stdin):
                if pipe:
                    pipe.close()


class Host:
    """One host: a namespace with an address on a segment of the lab and the process that works in it."""

    def __init__(self, lab: NetLab, position: int, segment: int = 0) -> None:
        self.lab, self.name, self.segment = lab, f"host-{position}", segment
        self.netns = f"{lab.prefix}h{position}"
        self.ip = f"172.31.{segment}.{10 + position}"
        self.ip6 = f"fd31:{segment + 1}::{10 + position:x}" if lab.dual_stack else ""
        self.cidr = f"10.244.{position}.0/24"
        self.cidrs = [self.cidr, *([f"fd10:244:{position}::/64"] if lab.dual_stack else [])]
        self.annotations: dict[str, str] = {}
        self.root = lab.root / self.name
        self.pods: list[Pod] = []
        self.process = "tests.cluster.nethost"
        self.agent: subprocess.Popen[str] | None = None
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", lab.netns, "link", "add", f"h{position}", "type", "veth", "peer", "eth0", "netns", self.netns)
        run("ip", "-n", lab.netns, "link", "set", f"h{position}", "master", lab.segments[segment], "up")
        for command in ("link set lo up", f"addr add {self.ip}/24 dev eth0", "link set eth0 up"):
            run("ip", "-n", self.netns, *command.split())
        run("ip", "-n", self.netns, "route", "add", "default", "via", f"172.31.{segment}.1")
        if self.ip6:
            run("ip", "-n", self.netns, "addr", "add", f"{self.ip6}/64", "dev", "eth0", "nodad")
            run("ip", "-n", self.netns, "route", "add", "default", "via", f"fd31:{segment + 1}::1")

    @property
    def node(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "uid": self.name, "annotations": self.annotations},
            "spec": {"podCIDR": self.cidr, "podCIDRs": self.cidrs},
            "status": {
                "addresses": [{"type": "InternalIP", "address": ip} for ip in (self.ip, self.ip6) if ip],
            },
        }

    def start_agent(self) -> None:
        self.agent = subprocess.Popen(
            [*self.command(), sys.executable, "-m", self.process],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def stop_agent(self) -> None:
        if self.agent:
            self.agent.kill()
            self.agent.wait()
            for pipe in (self.agent.stdin, self.agent.stdout):
                if pipe:
                    pipe.close()
            self.agent = None

    def call(self, method: str, **arguments: Any) -> Any:
        assert self.agent
        assert self.agent.stdin
        assert self.agent.stdout
        self.agent.stdin.write(json.dumps({"method": method, "arguments": arguments}) + "\n")
        self.agent.stdin.flush()
        line = self.agent.stdout.readline()
        assert line, f"the process of {self.name} ended at {method}"
        answer = json.loads(line)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def start_network(self) -> None:
        if not self.agent:
            self.start_agent()
        self.call("start_network", root=str(self.root), node=self.node, dual_stack=self.lab.dual_stack)
        self.annotations = self.call("published")

    def pod(self, name: str, **more: Any) -> Pod:
        pod = Pod(self, name)
        self.pods.append(pod)
        pod.attach(**more)
        return pod

    def command(self, *argv: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.netns}", *argv]

    def run(self, *argv: str, check: bool = True) -> str:
        return run(*self.command(*argv), check=check)

    def ask(self, address: str, port: int, **options: Any) -> list[str]:
        return ask(self.command(), address, port, **options)

    def close(self) -> None:
        self.stop_agent()
        for pod in self.pods:
            pod.close()
        run("ip", "netns", "delete", self.netns, check=False)


class NetLab:
    """Segments with hosts, in turn; ``with NetLab(tmp_path, hosts=2) as lab``. What connects several segments is a
    router that knows nothing of pods, and drops what has their addresses."""

    def __init__(self, root: Path, *, hosts: int = 2, segments: int = 1, dual_stack: bool = False) -> None:
        self.prefix = f"ont{os.getpid()}-{next(_counter)}"
        self.dual_stack = dual_stack
        self.segments = ["segment", *(f"segment{number}" for number in range(1, segments))]
        self.netns = f"{self.prefix}-out"
        self.root = root
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", self.netns, "link", "set", "lo", "up")
        for number, segment in enumerate(self.segments):
            for command in (
                f"link add {segment} type bridge forward_delay 0",
                f"addr add 172.31.{number}.1/24 dev {segment}",
                *([f"addr add fd31:{number + 1}::1/64 dev {segment} nodad"] if dual_stack else []),
                f"link set {segment} up",
            ):
                run("ip", "-n", self.netns, *command.split())
        if segments > 1:
            run(*self.command("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"))
            # Only what is routed is dropped, not what stays on a segment.
            for call in ("iptables", "ip6tables"):
                run(*self.command("sysctl", "-qw", f"net.bridge.bridge-nf-call-{call}=0"), check=False)
            for tables, pods in (("iptables", "10.244.0.0/16"), ("ip6tables", "fd10:244::/32")):
                for side in ("-s", "-d"):
                    run(*self.command(tables, "-A", "FORWARD", side, pods, "-j", "DROP"))
        self.hosts = [Host(self, position, (position - 1) % segments) for position in range(1, hosts + 1)]

    def __enter__(self) -> NetLab:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.close()
        run("ip", "netns", "delete", self.netns, check=False)

    def command(self, *argv: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.netns}", *argv]

    def ask(self, address: str, port: int, **options: Any) -> list[str]:
        """From outside all hosts."""
        return ask(self.command(), address, port, **options)

    def start_networks(self) -> None:
        for host in self.hosts:
            if not host.agent:
                host.start_agent()  # all at once: each takes its time to begin
        for host in self.hosts:
            host.start_network()
        for host in self.hosts:
            host.call("set_nodes", nodes=[h.node for h in self.hosts])


SERVER = r"""
import socket, selectors, sys
name, chosen = sys.argv[1], selectors.DefaultSelector()
for spec in sys.argv[2:]:
    kind, port = spec.split(":")
    types = {"tcp": (socket.SOCK_STREAM, 0), "sctp": (socket.SOCK_STREAM, 132), "udp": (socket.SOCK_DGRAM, 0)}
    # One socket for both families; IPv4 clients are told as such.
    s = socket.socket(socket.AF_INET6, *types[kind])
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", int(port)))
    if kind != "udp": s.listen(1024)
    chosen.register(s, selectors.EVENT_READ, (kind, port))
print("ready", flush=True)
while True:
    for key, _ in chosen.select():
        kind, port = key.data
        if kind != "udp":
            c, peer = key.fileobj.accept()
            try: c.sendall(f"{name} {peer[0].removeprefix('::ffff:')} {port}".encode())
            except OSError: pass
            c.close()
        else:
            data, peer = key.fileobj.recvfrom(65536)
            answer = f"{name} {peer[0].removeprefix('::ffff:')} {port}".encode()
            key.fileobj.sendto(answer if len(data) < 100 else data, peer)
"""

CLIENT = r"""
import socket, sys, json
address, port, kind, count, timeout, source = sys.argv[1:7]
answers = []
family = socket.AF_INET6 if ":" in address else socket.AF_INET
keep = socket.socket(family, socket.SOCK_DGRAM) if kind == "udp" and source else None
if keep: keep.bind(("", int(source)))
for _ in range(int(count)):
    try:
        if kind == "tcp":
            with socket.create_connection((address, int(port)), timeout=float(timeout)) as c:
                answers.append(c.makefile().read())
        elif kind == "sctp":
            with socket.socket(family, socket.SOCK_STREAM, 132) as c:
                c.settimeout(float(timeout)); c.connect((address, int(port)))
                answers.append(c.recv(2048).decode())
        else:
            s = keep or socket.socket(family, socket.SOCK_DGRAM)
            s.settimeout(float(timeout) / 4); s.connect((address, int(port)))
            for left in 3, 2, 1, 0:  # as any client of UDP: a datagram that is lost on a full queue is sent again
                try:
                    s.send(b"hello"); answers.append(s.recv(2048).decode())
                    break
                except TimeoutError:
                    if not left: raise
            if s is not keep: s.close()
    except OSError as error:
        answers.append(f"!{type(error).__name__} {error.errno}")
print(json.dumps(answers))
"""


def start_server(command: list[str], name: str, *ports: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*command, sys.executable, "-c", SERVER, name, *ports], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def ask(
    command: list[str],
    address: str,
    port: int,
    *,
    kind: str = "tcp",
    count: int = 1,
    timeout: float = 20,
    source: int = 0,
) -> list[str]:
    """Connect ``count`` times; each answer is what the server sent or "!<error> <errno>". Who expects that nobody
    answers names a short ``timeout``."""
    arguments = (address, str(port), kind, str(count), str(timeout), str(source or ""))
    return list(json.loads(run(*command, sys.executable, "-c", CLIENT, *arguments)))
