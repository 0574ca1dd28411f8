"""The least a pod can be on an engine: pause + app pairs made by hand with the Docker SDK, some at a time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
from docker.models.containers import Container

PARALLEL = 4


class Floor:
    """Pairs on one engine. ``plain`` pairs are what ``docker run --network none`` gives; the others, like orca's
    sandboxes, have the engine leave their network namespace alone."""

    def __init__(self, socket: Path, pause: str, image: str, command: list[str], *, plain: bool) -> None:
        self._engine = docker.DockerClient(base_url=f"unix://{socket}", max_pool_size=PARALLEL)
        self._pause, self._image, self._command = pause, image, command
        self._plain = plain
        self._made: list[tuple[Container, Container]] = []

    def _pair(self, name: str) -> float:
        began = time.perf_counter()
        make = self._engine.containers.create
        pause = make(
            self._pause,
            name=f"{name}-pause",
            network_mode="none",
            ipc_mode="shareable",
            network_disabled=not self._plain,
        )
        pause.start()
        shared = f"container:{pause.id}"
        app = make(
            self._image,
            self._command,
            name=f"{name}-app",
            network_mode=shared,
            ipc_mode=shared,
            security_opt=["seccomp=unconfined"],
        )
        app.start()
        self._made.append((app, pause))
        return time.perf_counter() - began

    def one_by_one(self, count: int) -> list[float]:
        """Seconds each pair took."""
        return [self._pair(f"floor-s{number}") for number in range(count)]

    def burst(self, count: int) -> float:
        """Seconds until the last pair ran."""
        began = time.perf_counter()
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(self._pair, (f"floor-b{number}" for number in range(count))))
        return time.perf_counter() - began

    def remove(self) -> float:
        """Stop (grace 1 s) and remove every pair at once; seconds until the last was gone."""
        began = time.perf_counter()

        def end(pair: tuple[Container, Container]) -> None:
            app, pause = pair
            app.stop(timeout=1)
            app.remove(v=True, force=True)
            pause.remove(v=True, force=True)

        made, self._made = self._made, []
        with ThreadPoolExecutor(max(len(made), 1)) as pool:
            list(pool.map(end, made))
        return time.perf_counter() - began

    def close(self) -> None:
        self.remove()
        self._engine.close()
