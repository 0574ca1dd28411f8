"""A client that asks a web server again and again, each time on a new connection, and counts what fails.

    python -m tests.cluster.load 172.30.0.11:30080 172.30.0.12:30080 --rate 100

Says that it asks, and goes on until SIGTERM, though not before it has asked --at-least so often; then it prints one
JSON object: per target the number of answers and what failed when. It is a program of its own so that it can run inside
a host's network namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from types import TracebackType
from typing import Any

from orca.lab.layout import Host

PATIENCE_SECONDS = 30.0
"""For one request: a slow answer is an answer."""
SIDE_BY_SIDE = 64


class Client:
    """One target."""

    def __init__(self, target: str) -> None:
        self.host, _, self.port = target.rpartition(":")
        self.target = target
        self.answers = 0
        self.answerers: Counter[str] = Counter()
        self.failures: list[tuple[float, float, float, str]] = []
        self._places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def ask(self) -> None:
        async with self._places:
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    said = await self._request()
                self.answers += 1
                self.answerers[said] += 1
            except (OSError, ValueError, TimeoutError) as error:
                self.failures.append((began, time.monotonic(), time.time(), repr(error)))

    async def _request(self) -> str:
        reader, writer = await asyncio.open_connection(self.host.strip("[]"), int(self.port))
        try:
            writer.write(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n")
            answer = await reader.read()
        finally:
            writer.close()
        if not answer.startswith(b"HTTP/1") or b" 200 " not in answer.partition(b"\r\n")[0]:
            raise ValueError(f"answered {answer[:60]!r}")
        return answer.rpartition(b"\r\n\r\n")[2].decode().strip()[:80]


async def run(targets: list[str], rate: float, at_least: int) -> None:
    """All targets in turn, ``rate`` requests a second together."""
    clients = [Client(target) for target in targets]
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print("asking", flush=True)
    began, count = time.monotonic(), 0
    async with asyncio.TaskGroup() as group:
        while not stop.is_set() or count < at_least:
            group.create_task(clients[count % len(clients)].ask())
            count += 1
            await asyncio.sleep(max(began + count / rate - time.monotonic(), 0))
    print(json.dumps({c.target: {"answers": c.answers, "failures": c.failures, "by": c.answerers} for c in clients}))


class Load:
    """Runs the program, inside a host's namespace when one is given; ``with Load(...) as load`` and read afterwards."""

    def __init__(self, *targets: str, rate: float = 60, inside: Host | None = None, at_least: int = 0) -> None:
        enter = ["nsenter", f"--net=/run/netns/{inside.netns}"] if inside is not None else []
        self._argv = [*enter, sys.executable, "-m", "tests.cluster.load", *targets, "--rate", str(rate)]
        # Every target once: a busy machine may not have come to it when the program is told to end.
        self._argv += ["--at-least", str(max(at_least, len(targets)))]
        self.report: dict[str, Any] = {}

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(
            self._argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()}
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"asking\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        out, _ = self._process.communicate(timeout=PATIENCE_SECONDS + 30)
        self.report = json.loads(out) if out else {}

    @property
    def answers(self) -> int:
        return sum(found["answers"] for found in self.report.values())

    @property
    def failures(self) -> list[str]:
        """Told with the target and the time."""
        return sorted(
            f"{time.strftime('%H:%M:%S', time.localtime(at))}.{at % 1 * 1000:03.0f} {target}: {what}"
            for target, found in self.report.items()
            for _, _, at, what in found["failures"]
        )

    @property
    def failed_at_once(self) -> bool:
        """Whether there was a moment at which all that failed were under way."""
        spans = [span[:2] for found in self.report.values() for span in found["failures"]]
        return not spans or max(began for began, _ in spans) <= min(ended for _, ended in spans)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--rate", type=float, default=60)
    parser.add_argument("--at-least", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(run(given.targets, given.rate, given.at_least))
