"""A process in each pod that serves and asks, for tables of who reaches whom: all pairs at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping

from tests.cluster.netlab import Pod

Target = tuple[str, str, int]
""""tcp", "udp" or "sctp", an address, a port"""

PROBE = r"""
import errno, json, selectors, socket, sys, threading, time
KINDS = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_STREAM, getattr(socket, "IPPROTO_SCTP", 132)),
}

def opened(kind, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(family, *KINDS[kind])
    found.setblocking(False)
    return found

def serve(ports, sctp):
    chosen = selectors.DefaultSelector()
    for kind in ("tcp", "udp", *(("sctp",) if sctp else ())):
        for port in ports:
            s = opened(kind, "::")
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("::", port))
            if kind != "udp":
                s.listen(256)
            chosen.register(s, selectors.EVENT_READ, kind)
    print("ready", flush=True)
    held = []
    while True:
        for key, _ in chosen.select():
            try:
                if key.data == "udp":
                    data, peer = key.fileobj.recvfrom(100)
                    key.fileobj.sendto(data, peer)
                elif key.data == "stream":
                    data = key.fileobj.recv(100)
                    if not data:
                        chosen.unregister(key.fileobj)
                        key.fileobj.close()
                    else:
                        key.fileobj.send(data)
                else:
                    s, _ = key.fileobj.accept()
                    s.setblocking(False)
                    chosen.register(s, selectors.EVENT_READ, "stream")
            except OSError:
                if key.data == "stream":
                    chosen.unregister(key.fileobj)
                    key.fileobj.close()

def ask(targets, timeout):
    chosen, reached, sockets = selectors.DefaultSelector(), [False] * len(targets), []
    for number, (kind, address, port) in enumerate(targets):
        s = opened(kind, address)
        sockets.append(s)
        try:
            s.connect((address, port))
            if kind == "udp":
                s.send(b"?")
        except BlockingIOError:
            pass
        except OSError:
            continue
        chosen.register(s, selectors.EVENT_READ if kind == "udp" else selectors.EVENT_WRITE, (number, kind))
    end, sends = time.monotonic() + timeout, 4
    while chosen.get_map() and time.monotonic() < end:
        found = chosen.select(min(end - time.monotonic(), timeout / 4))
        if not found and (sends := sends - 1) > 0:
            # A datagram that is lost on a full queue is sent again, as any client of UDP does.
            for key in list(chosen.get_map().values()):
                if key.data[1] == "udp":
                    try:
                        key.fileobj.send(b"?")
                    except OSError:
                        pass
        for key, _ in found:
            number, kind = key.data
            try:
                if kind == "udp":
                    reached[number] = key.fileobj.recv(10) == b"?"
                else:
                    reached[number] = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            except OSError:
                pass
            chosen.unregister(key.fileobj)
    for s in sockets:
        if s.type == socket.SOCK_STREAM and s.proto != 132:
            # A reset leaves no connection behind that counts for a later question.
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()
    return reached

flow = None

def hold(address, port):
    global flow
    flow = socket.create_connection((address, port), timeout=60)
    return True

def talk(timeout):
    flow.settimeout(timeout)
    try:
        flow.sendall(b"!")
        return flow.recv(1) == b"!"
    except OSError:
        return False

threading.Thread(target=serve, args=(json.loads(sys.argv[1]), sys.argv[2] == "1"), daemon=True).start()
for line in sys.stdin:
    order = json.loads(line)
    print(json.dumps(globals()[order.pop("do")](**order)), flush=True)
"""


class Probe:
    """Serves TCP and UDP on ``ports`` of a pod, and asks others from there."""

    def __init__(self, pod: Pod, ports: Iterable[int], *, sctp: bool = False) -> None:
        self.pod = pod
        self._process = subprocess.Popen(
            pod.command(sys.executable, "-c", PROBE, json.dumps([*ports]), "1" if sctp else "0"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        pod.servers.append(self._process)

    def ready(self) -> Probe:
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"
        return self

    def order(self, do: str, **arguments: object) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> list[bool]:
        assert self._process.stdout
        found: list[bool] = json.loads(self._process.stdout.readline())
        return found

    def ask(self, *targets: Target, timeout: float = 20.0) -> list[bool]:
        self.order("ask", targets=targets, timeout=timeout)
        return self.answer()

    def hold(self, address: str, port: int) -> None:
        """Open a TCP connection, for `talk`."""
        self.order("hold", address=address, port=port)
        assert self.answer()

    def talk(self, timeout: float = 60.0) -> bool:
        """Whether the connection that is held still carries words both ways."""
        self.order("talk", timeout=timeout)
        return bool(self.answer())


def ask_all(
    probes: Mapping[str, Probe], targets: Mapping[str, list[Target]], *, timeout: float
) -> dict[tuple[str, Target], bool]:
    """(who asks, whom) -> reached; all at the same time."""
    for name, wanted in targets.items():
        probes[name].order("ask", targets=wanted, timeout=timeout)
    return {
        (name, target): reached
        for name, wanted in targets.items()
        for target, reached in zip(wanted, probes[name].answer(), strict=True)
    }
