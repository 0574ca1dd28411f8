"""nginx, run and watched over: files written whole, configurations tried before they count, reloads seen through.

nginx is a child in a process group of its own. What it last took stays in force whatever comes after; when it dies it
is started again with that. Endpoints go to it through a socket, and are on disk for the next start.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import structlog

from orca.client.clock import Clock
from orca.ingress.host import Host
from orca.ingress.model import Pool, Routing
from orca.ingress.page import Rendered

log = structlog.get_logger()

RELOAD_SECONDS = 60.0
"""How long a new configuration may take to come into force."""
POLL_SECONDS = 0.02
LEAVING_SECONDS = 1.0
"""How long answers ask clients to come back by new connections before a reload."""
FIRST_RESTART, LAST_RESTART = 0.5, 30.0
_PLACE = re.compile(r" in \S+/nginx\.conf\.new:(\d+)")
_NOISE = re.compile(r"^(nginx: )?(\S+ \S+ )?\[emerg\] (\d+#\d+: )?")


class Refused(Exception):
    """nginx does not take a configuration. ``line`` is where, counted from 1, or 0."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class Unsettled(Exception):
    """nginx runs, but has not come to what it was told; trying again may help."""


class Engine:
    """One nginx. `run` keeps it alive once `apply` has given it something to serve."""

    def __init__(self, host: Host, *, binary: str = "nginx", clock: Clock) -> None:
        self._host = host
        self._binary = binary
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._configured = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None
        self._live: dict[str, str] | None = None
        """What the running nginx has; None: not known."""
        self._telling = asyncio.Lock()
        self._wanted = ""
        self.generation = ""
        """Of the configuration in force."""
        self.reloads = 0
        self.failures = 0
        self.last_reload = 0.0
        """Of the last one that came into force, in Unix time."""
        self.last_reload_worked = True

    def __repr__(self) -> str:
        return f"<Engine {self._process.pid if self._process else 'stopped'} at {self.generation or 'nothing'}>"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def prepare(self, default_pair: bytes) -> None:
        """Makes the directories; what an earlier run left is removed."""
        for directory in ("certificates", "users", "temporary"):
            shutil.rmtree(self._host.state / directory, ignore_errors=True)
            (self._host.state / directory).mkdir(parents=True)
        for leftover in ("nginx.conf", "nginx.conf.new", "live", "control.sock", "nginx.pid"):
            (self._host.state / leftover).unlink(missing_ok=True)
        _write(self._host.certificate(""), default_pair)

    # --- what it serves ----------------------------------------------------------------------------------------------

    async def set_live(self, routing: Routing, *, besides: Mapping[str, Pool] | None = None) -> None:
        """Makes nginx use these endpoints and certificates, without a reload; ``besides`` are pools of a configuration
        that is still in force. Raises Unsettled."""
        async with self._telling:
            await self._set_live(routing, besides or {})

    async def _set_live(self, routing: Routing, besides: Mapping[str, Pool]) -> None:
        wanted = _live(routing, besides, self._host)
        if wanted == self._live:
            return
        lines = [f"{key} {value}" for key, value in sorted(wanted.items())]
        await asyncio.to_thread(self._write_live, routing, "".join(f"{line}\n" for line in lines).encode())
        if not self.is_running:
            return  # it reads the file when it starts
        await self._tell(wanted, lines)
        await asyncio.to_thread(self._sweep, routing)

    async def _tell(self, wanted: dict[str, str], lines: list[str]) -> None:
        known, self._live = self._live, None
        changes = lines
        if known is not None:
            changes = [f"{key} {value}" for key, value in wanted.items() if known.get(key) != value]
            changes += [f"-{key}" for key in known.keys() - wanted.keys()]
        await self._ask("/live", "".join(f"{line}\n" for line in changes).encode())
        self._live = wanted

    def _write_live(self, routing: Routing, lines: bytes) -> None:
        for pair in routing.certificates.values():
            _write_once(self._host.certificate(pair.file), pair.pem)
        _write(self._host.live, lines)

    async def configure(self, rendered: Rendered, routing: Routing) -> bool:
        """Brings a configuration into force; says whether that took a reload. Raises Refused, and then the former one
        stays; Unsettled when nginx does not come to it."""
        if rendered.generation == self.generation and self.is_running:
            return False
        await asyncio.to_thread(self._write_files, rendered, routing)
        try:
            await self._try_out()
        except Refused:
            self.failures += 1
            self.last_reload_worked = False
            raise
        os.replace(self._host.state / "nginx.conf.new", self._host.state / "nginx.conf")
        self._wanted = rendered.generation
        if self.is_running and self._process is not None:
            await self._announce_leaving()
            self._process.send_signal(signal.SIGHUP)
        self._configured.set()
        await self._until_in_force()
        return True

    async def _announce_leaving(self) -> None:
        """Workers close idle connections when they go; clients in the middle of a conversation have done so before."""
        try:
            await self._ask("/leave", self.generation.encode())
        except Unsettled as error:
            log.debug("nginx does not hear that its workers are to leave", error=str(error))
            return
        await self._clock.sleep(LEAVING_SECONDS)

    def _write_files(self, rendered: Rendered, routing: Routing) -> None:
        for users in routing.users.values():
            _write_once(self._host.state / "users" / users.file, users.content)
        _write(self._host.state / "nginx.conf.new", rendered.text.encode())

    def _sweep(self, routing: Routing) -> None:
        """Removes certificates that nothing shows any more. Users are read at every request, also by workers that
        finish what they began under the former configuration, so theirs stay."""
        kept = {pair.file for pair in routing.certificates.values()} | {"default.pem"}
        for path in (self._host.state / "certificates").iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)

    async def _try_out(self) -> None:
        tried = await asyncio.create_subprocess_exec(
            *self._command("nginx.conf.new", "-t", "-q"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await tried.communicate()
        if tried.returncode == 0:
            return
        lines = [line for line in said.decode(errors="replace").splitlines() if "[emerg]" in line]
        text = lines[-1] if lines else said.decode(errors="replace").strip()[-500:]
        place = _PLACE.search(text)
        message = _PLACE.sub("", _NOISE.sub("", text))
        raise Refused(message, int(place[1]) if place else 0)

    async def _until_in_force(self) -> None:
        began = self._clock.monotonic()
        while self._clock.monotonic() - began < RELOAD_SECONDS:
            try:
                told = await self._ask("/generation")
            except Unsettled:
                told = ""
            if told == self._wanted:
                self.generation = told
                self.reloads += 1
                self.last_reload = self._clock.now().timestamp()
                self.last_reload_worked = True
                return
            await self._clock.sleep(POLL_SECONDS)
        self.failures += 1
        self.last_reload_worked = False
        raise Unsettled(f"nginx has not taken its configuration within {RELOAD_SECONDS:g} s")

    async def status(self) -> str:
        """What ``stub_status`` says. Raises Unsettled."""
        return await self._ask("/status")

    async def counts(self) -> str:
        """Lines ``ingress pool status requests``. Raises Unsettled."""
        return await self._ask("/counts")

    async def is_serving(self) -> bool:
        """Whether nginx answers, with the configuration that was last brought into force."""
        if not self.is_running or not self.generation:
            return False
        try:
            return bool(await self._ask("/generation"))
        except Unsettled:
            return False

    async def _ask(self, path: str, body: bytes | None = None) -> str:
        if self._session is None:
            connector = aiohttp.UnixConnector(str(self._host.control), force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10))
        try:
            async with self._session.request(
                "GET" if body is None else "POST", f"http://nginx{path}", data=body
            ) as got:
                text = await got.text()
                if got.status >= 300:
                    raise Unsettled(f"nginx answered {got.status} to {path}: {text[:200]}")
                return text.strip()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unsettled(f"nginx does not answer: {error or type(error).__name__}") from error

    # --- the process -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps nginx running until cancelled; then it finishes what it is doing, and ends."""
        await self._configured.wait()
        pause = FIRST_RESTART
        try:
            while True:
                began = self._clock.monotonic()
                self._host.control.unlink(missing_ok=True)  # one that was killed leaves it, and the next cannot bind
                self._process = await asyncio.create_subprocess_exec(
                    *self._command("nginx.conf"), stdin=asyncio.subprocess.DEVNULL, start_new_session=True
                )
                log.info("nginx started", pid=self._process.pid)
                code = await self._process.wait()
                self._end_group(self._process.pid)
                self._live = None
                log.error("nginx ended, starting it again", code=code)
                if self._clock.monotonic() - began > LAST_RESTART:
                    pause = FIRST_RESTART
                await self._clock.sleep(pause)
                pause = min(pause * 2, LAST_RESTART)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGQUIT)
            try:
                async with asyncio.timeout(self._host.drain_seconds + 5):
                    await process.wait()
            finally:
                self._end_group(process.pid)
        if self._session is not None:
            await self._session.close()

    def _end_group(self, leader: int) -> None:
        """Workers that outlive their master would keep the ports."""
        try:
            os.killpg(leader, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def _command(self, file: str, *more: str) -> list[str]:
        state = self._host.state
        return [self._binary, "-e", "stderr", "-p", str(state), "-c", str(state / file), *more]


def _live(routing: Routing, besides: Mapping[str, Pool], host: Host) -> dict[str, str]:
    """What ``balancer.lua`` keeps, by its keys."""
    pools = {**besides, **routing.pools}
    found = {f"p/{name}": " ".join(pool.peers) for name, pool in pools.items()}
    for server in routing.servers:
        file = server.certificate or routing.default_certificate
        if file:
            found[f"c/{server.name}"] = str(host.certificate(file))
    return found


def _write(path: Path, content: bytes) -> None:
    """The file is whole at any moment; only this user reads it."""
    fresh = path.with_name(f".{path.name}.writing")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.replace(path)


def _write_once(path: Path, content: bytes) -> None:
    if not path.exists():
        _write(path, content)
