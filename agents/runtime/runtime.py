"""The seam to the engine: sandboxes, containers, exec and events, for callers that know pods and nothing of Docker."""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import aiohttp
import orjson

from agents.runtime import accounts
from agents.runtime.accounts import Accounts
from agents.runtime.commands import Commands, read_frames
from agents.runtime.engine import CALL_SECONDS, DEFAULT_SOCKET, Engine
from agents.runtime.errors import (
    EngineTimeout,
    EngineUnavailable,
    NameTaken,
    NoSuchContainer,
    RefusedByEngine,
)
from agents.runtime.images import Images
from agents.runtime.kept_logs import KeptLogs
from agents.runtime.model import (
    POD_UID,
    ContainerEvent,
    ContainerInfo,
    ContainerSpec,
    ExecResult,
    HostAbilities,
    Resources,
    SandboxSpec,
    Survey,
)
from agents.runtime.processes import MainProcess, signal_number
from agents.runtime.translate import (
    Json,
    container_body,
    container_info,
    host_capabilities,
    limits_body,
    sandbox_body,
)

_OUR_CONTAINERS = orjson.dumps({"label": [POD_UID]}).decode()
_OUR_EVENTS = orjson.dumps(
    {"type": ["container"], "event": ["create", "start", "die", "oom", "destroy"], "label": [POD_UID]}
).decode()
LOG_TAIL_LIMIT = 256 * 1024
STOP_SLACK_SECONDS = 60.0
DEATH_SECONDS = 3.0
"""How long a killed process may take to end, before the engine is asked to kill it."""
NOTICE_SECONDS = 10.0
"""How long the engine may take to notice that a container's process has ended, before it is asked to see to it."""
SURVEY_SECONDS = 5.0
SURVEY_PARALLEL = 8
KEPT_ACCOUNTS = 64
"""Images whose users are remembered; an id always stands for the same files."""


class Runtime:
    """One host's engine. Every method raises a ``RuntimeFailure`` and nothing else of the engine's."""

    def __init__(self, socket_path: str = DEFAULT_SOCKET, *, kept_logs: KeptLogs | None = None) -> None:
        """``kept_logs`` is given the logs of containers that are removed."""
        self._kept_logs = kept_logs
        self.engine = Engine(socket_path)
        self.images = Images(self.engine)
        self._commands = Commands(self.engine)
        self._abilities: HostAbilities | None = None
        self._accounts: dict[str, Accounts] = {}

    def __repr__(self) -> str:
        return f"<Runtime {self.engine!r}>"

    @property
    def socket_path(self) -> str:
        return self.engine.socket_path

    async def aclose(self) -> None:
        """Close connections; containers stay as they are."""
        await self.engine.aclose()

    async def ping(self) -> None:
        """Raises ``EngineUnavailable`` or ``EngineTimeout`` when the engine does not answer."""
        await self.engine.call("GET", "/_ping", seconds=10)

    async def accounts(self, image_id: str) -> Accounts:
        """Users and groups that an image on this host knows. Raises ``NoSuchImage``."""
        if image_id not in self._accounts:
            if len(self._accounts) >= KEPT_ACCOUNTS:
                self._accounts.pop(next(iter(self._accounts)))
            self._accounts[image_id] = await accounts.read(self.engine, image_id)
        return self._accounts[image_id]

    async def abilities(self) -> HostAbilities:
        """What this host can do; asked once, when what an agent before this one left in the engine is removed, too."""
        if self._abilities is None:
            await accounts.sweep(self.engine)
            info = await self.engine.call("GET", "/info")
            capabilities, full = host_capabilities(info["ServerVersion"])
            self._abilities = HostAbilities(
                capabilities=capabilities,
                full_privileges=full,
                engine_version=info["ServerVersion"],
                api_version=(await self.engine.prefix()).rpartition("/v")[2],
                cgroup_version=str(info.get("CgroupVersion", "1")),
                storage_root=info["DockerRootDir"],
                kernel=info.get("KernelVersion", ""),
                cgroup_driver=info.get("CgroupDriver") or "cgroupfs",
                # The engine lists its shims beside what it was given; nobody calls a handler so.
                runtimes=tuple(
                    sorted(one for one in info.get("Runtimes") or () if not one.startswith("io.containerd."))
                ),
            )
        return self._abilities

    # Containers

    async def create_sandbox(self, spec: SandboxSpec) -> str:
        """Create the pause container and answer its id; an unstarted leftover of the same name is replaced."""
        return await self._create(spec.name, sandbox_body(spec, await self.abilities()))

    async def create_container(self, spec: ContainerSpec) -> str:
        """Create an app container and answer its id; an unstarted leftover of the same name is replaced.

        Raises ``NoSuchImage``, ``NoSuchContainer`` (the sandbox went away), ``RefusedByEngine``.
        """
        return await self._create(spec.name, container_body(spec, await self.abilities()))

    async def _create(self, name: str, body: Json) -> str:
        try:
            answer = await self.engine.call("POST", "/containers/create", params={"name": name}, body=body)
        except NameTaken:
            # A crash between create and start leaves one behind; one that ran is somebody's, and stays.
            existing = await self.inspect(name)
            if existing.state != "created":
                raise
            await self.remove(existing.id)
            answer = await self.engine.call("POST", "/containers/create", params={"name": name}, body=body)
        identifier: str = answer["Id"]
        return identifier

    async def start(self, container_id: str) -> None:
        """Start a created container. Raises ``RefusedByEngine`` when its command cannot be run."""
        try:
            await self.engine.call("POST", f"/containers/{container_id}/start")
        except RefusedByEngine as error:
            raise RefusedByEngine(_first_line(str(error))) from error

    async def stop(self, container_id: str, grace_seconds: float, *, info: ContainerInfo | None = None) -> None:
        """Stop signal (the image's or the spec's, SIGTERM by default), after ``grace_seconds`` SIGKILL; returns when
        the container is down. Harmless when it is down or gone. ``info``, as last inspected, saves the engine work."""
        number = signal_number(info.stop_signal or "SIGTERM") if info is not None else None
        process = MainProcess.of(container_id, info.pid) if info is not None and number is not None else None
        if process is None or number is None:
            await self._stop(container_id, grace_seconds)
            return
        with process:
            await process.began(number)
            process.send(number)
            if not await process.ended(grace_seconds):
                process.send(signals.SIGKILL)
                if not await process.ended(DEATH_SECONDS):
                    # Frozen by somebody: the engine thaws what it kills.
                    await self._stop(container_id, 0)
                    return
        if not await self._is_down(container_id, NOTICE_SECONDS):
            await self._stop(container_id, 0)

    async def _stop(self, container_id: str, grace_seconds: float) -> None:
        seconds = max(0, round(grace_seconds))
        try:
            await self.engine.call(
                "POST",
                f"/containers/{container_id}/stop",
                params={"t": str(seconds)},
                seconds=seconds + STOP_SLACK_SECONDS,
            )
        except NoSuchContainer:
            return

    async def _is_down(self, container_id: str, seconds: float) -> bool:
        """Wait so long for a container to be down; True when it is, or is gone."""
        path = f"/containers/{container_id}/wait"
        try:
            await self.engine.call("POST", path, params={"condition": "not-running"}, seconds=seconds)
        except EngineTimeout:
            return False
        except NoSuchContainer:
            pass
        return True

    async def kill(self, container_id: str, signal: str = "SIGKILL") -> None:
        """Send a signal. Harmless when the container is down or gone."""
        try:
            await self.engine.call("POST", f"/containers/{container_id}/kill", params={"signal": signal})
        except NoSuchContainer:
            return

    async def remove(self, container_id: str, *, info: ContainerInfo | None = None) -> None:
        """Kill and delete with anonymous volumes. Harmless when it is gone or being removed. ``info``, as last
        inspected, saves the engine work when the container runs."""
        process = MainProcess.of(container_id, info.pid) if info is not None and info.running else None
        if process is not None:
            with process:
                process.send(signals.SIGKILL)
                await process.ended(DEATH_SECONDS)
            await self._is_down(container_id, NOTICE_SECONDS)
        if self._kept_logs is not None and info is not None and not info.is_sandbox:
            await self._kept_logs.keep(info, (await self.abilities()).storage_root)
        try:
            await self.engine.call("DELETE", f"/containers/{container_id}", params={"force": "1", "v": "1"})
        except NoSuchContainer:
            return
        except RefusedByEngine as error:
            if "already in progress" not in str(error):
                raise

    async def update(self, container_id: str, limits: Resources) -> None:
        """Change the limits of a running container; fields that are 0 stay as they are. Raises ``NoSuchContainer``,
        and ``RefusedByEngine`` with the old limits still in force."""
        try:
            await self.engine.call("POST", f"/containers/{container_id}/update", body=limits_body(limits))
        except RefusedByEngine as error:
            raise RefusedByEngine(_first_line(str(error))) from error

    async def inspect(self, container_id: str, *, seconds: float = CALL_SECONDS) -> ContainerInfo:
        """State of one container by id or name. Raises ``NoSuchContainer``, ``EngineTimeout`` after ``seconds``."""
        return container_info(await self.engine.call("GET", f"/containers/{container_id}/json", seconds=seconds))

    async def log_tail(self, container_id: str, lines: int) -> bytes:
        """The last lines a container wrote, stdout and stderr in order."""
        output = bytearray()
        info = await self.engine.call("GET", f"/containers/{container_id}/json")
        params = {"stdout": "1", "stderr": "1", "tail": str(lines)}
        async with (
            asyncio.timeout(10),
            self.engine.stream("GET", f"/containers/{container_id}/logs", params=params) as response,
        ):
            if info["Config"]["Tty"]:
                output += await response.read()
            else:
                await read_frames(response.content, output, LOG_TAIL_LIMIT)
        return bytes(output)

    async def states(self) -> dict[str, str]:
        """Every container of a pod, running or not: id -> ``running``, ``exited``, ``created`` …"""
        raw = await self.engine.call("GET", "/containers/json", params={"all": "1", "filters": _OUR_CONTAINERS})
        return {item["Id"]: item["State"] for item in raw}

    async def inspect_all(self) -> list[ContainerInfo]:
        """Every container of a pod that the engine tells of; those that vanish meanwhile are left out."""
        return (await self.survey()).containers

    async def survey(self, only: Callable[[str, str], bool] = lambda _id, _state: True) -> Survey:
        """Every container of a pod, or those that ``only`` wants by id and state; those that vanish meanwhile are left
        out. The engine may hang over some of them: it is asked for ``SURVEY_SECONDS`` about each."""
        gate = asyncio.Semaphore(SURVEY_PARALLEL)
        raw = await self.engine.call("GET", "/containers/json", params={"all": "1", "filters": _OUR_CONTAINERS})
        survey = Survey([], {}, frozenset(item["Id"] for item in raw))

        async def one(container_id: str, pod_uid: str) -> None:
            async with gate:
                try:
                    survey.containers.append(await self.inspect(container_id, seconds=SURVEY_SECONDS))
                except NoSuchContainer:
                    return
                except EngineTimeout:
                    survey.silent[container_id] = pod_uid

        wanted = [(item["Id"], item["Labels"].get(POD_UID, "")) for item in raw if only(item["Id"], item["State"])]
        await asyncio.gather(*(one(*each) for each in wanted))
        return survey

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[ContainerEvent]]:
        """What happens to pods' containers from now on; list after entering, and nothing is missed.

        Iteration raises ``EngineUnavailable`` when the engine goes away; it does not end by itself.
        """
        async with self.engine.stream("GET", "/events", params={"filters": _OUR_EVENTS}) as response:
            yield _read_events(response)

    async def exec(
        self,
        container_id: str,
        argv: Sequence[str],
        *,
        seconds: float,
    ) -> ExecResult:
        """See :meth:`Commands.run`."""
        return await self._commands.run(container_id, argv, seconds=seconds)


async def _read_events(response: aiohttp.ClientResponse) -> AsyncIterator[ContainerEvent]:
    rest = b""
    try:
        # Not by the reader's lines, which may have no more than so many bytes: an event has all labels of its image.
        async for chunk in response.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(None, map(bytes.strip, lines)):
                raw = orjson.loads(line)
                yield ContainerEvent(action=raw["Action"], id=raw["Actor"]["ID"], labels=raw["Actor"]["Attributes"])
    except (aiohttp.ClientError, ConnectionError) as error:
        raise EngineUnavailable(f"event stream: {error}") from error
    raise EngineUnavailable("event stream ended")


def _first_line(message: str) -> str:
    """runc's errors end in a colon and ``unknown`` after the sentence that matters."""
    return message.strip().removesuffix(": unknown")
