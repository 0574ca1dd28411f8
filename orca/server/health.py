"""``/healthz``, ``/livez``, ``/readyz`` and ``/version``."""

from __future__ import annotations

import platform
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version as package_version

import structlog
from aiohttp import web

from orca.api.errors import ApiError, no_such_page
from orca.api.objects import Obj
from orca.client.clock import Clock, SystemClock
from orca.server.options import every
from orca.server.revision import revision

log = structlog.get_logger()

KUBERNETES_VERSION = "v1.36.0"
PROBES = ("healthz", "livez", "readyz")
Check = Callable[[], Awaitable[None]]
"""Raises when something is wrong."""
START_SECONDS = 30.0
"""A start that is not done after so long does not get done by itself."""


def orca_version() -> str:
    """Our own version, of the installed package."""
    return package_version("orca")


def version_info() -> Obj:
    """What ``kubectl version`` shows of the server."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    commit, state = revision()
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"{KUBERNETES_VERSION}+orca.{orca_version()}",
        "gitCommit": commit,
        "gitTreeState": state,
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"linux/{machine}",
    }


async def log_is_open() -> None:
    """A check. Raises OSError when nobody could be told anything."""
    if sys.stderr is None or sys.stderr.closed:
        raise OSError("the log is closed")


class Health:
    """Named checks, in the order in which they were added. ``results`` tells how they went, by (probe, name)."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._began = self._clock.monotonic()
        self._checks: dict[str, Check] = {}
        self._ready_only: set[str] = set()
        self._unfinished: set[str] = set()
        self.stopping = False
        self.results: dict[tuple[str, str], tuple[bool, int, int]] = {}

    def add(self, name: str, check: Check, *, ready_only: bool = False) -> None:
        """Add a check, which runs at every request; for ``/readyz`` only, if so said. One of that name gives way."""
        self._checks[name] = check
        if ready_only:
            self._ready_only.add(name)

    def expect(self, hooks: Iterable[str]) -> None:
        """Add checks that fail until the server has done at its start what they stand for: see ``finish``."""
        for hook in hooks:
            self._unfinished.add(hook)
            self.add(hook, partial(self._finished, hook))

    def finish(self, *hooks: str) -> None:
        """That much of the start is done."""
        self._unfinished.difference_update(hooks)

    async def _finished(self, hook: str) -> None:
        if hook in self._unfinished:
            raise OSError("not finished")

    async def not_stopping(self) -> None:
        """A check. Raises OSError once the server is about to end."""
        if self.stopping:
            raise OSError("process is shutting down")

    def names(self, probe: str) -> list[str]:
        """Of all that may be asked of a probe alone."""
        return ["ping", *self._of(probe)]

    def _of(self, probe: str) -> dict[str, Check]:
        if probe == "readyz":
            return dict(self._checks)
        return {name: check for name, check in self._checks.items() if name not in self._ready_only}

    async def _run(self, probe: str, name: str, check: Check) -> str:
        """What is wrong, "" when nothing is."""
        problem = ""
        try:
            await check()
        except (ApiError, OSError, TimeoutError) as error:
            problem = str(error) or type(error).__name__
        _, successes, failures = self.results.get((probe, name), (False, 0, 0))
        self.results[probe, name] = (not problem, successes + (not problem), failures + bool(problem))
        return problem

    async def run_all(self) -> None:
        """Every check of every probe once, for ``results``."""
        for probe in PROBES:
            self.results.setdefault((probe, "ping"), (True, 1, 0))
            for name, check in self._of(probe).items():
                await self._run(probe, name, check)

    async def respond(self, path: str, query: Mapping[str, str]) -> web.Response:
        """Answer ``/livez``, ``/livez/<check>`` and so on. Raises ApiError 404."""
        probe, _, single = path.strip("/").partition("/")
        checks = self._of(probe)
        if single:
            return await self._respond_single(probe, single, checks)
        excluded = set(every(query, "exclude"))
        lines = ["[+]ping excluded: ok" if "ping" in excluded else "[+]ping ok"]
        failed: dict[str, str] = {}
        unknown = sorted(excluded - {"ping", *checks})
        for name, check in checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            problem = await self._run(probe, name, check)
            if problem:
                failed[name] = problem
                lines.append(f"[-]{name} failed: reason withheld")
            else:
                lines.append(f"[+]{name} ok")
        if unknown:
            named = ",".join(f'"{name}"' for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {named}")
        if failed:
            # Who waits for the start to be done asks often.
            starting = self._clock.monotonic() - self._began < START_SECONDS and failed.keys() <= self._unfinished
            tell = log.debug if starting else log.warning
            tell("health checks failed", probe=probe, checks=failed)
            return _text("\n".join([*lines, f"{probe} check failed"]) + "\n", 500)
        if "verbose" in query:
            return _text("\n".join([*lines, f"{probe} check passed"]) + "\n")
        return _text("ok")

    async def _respond_single(self, probe: str, name: str, checks: dict[str, Check]) -> web.Response:
        if name == "ping":
            return _text("ok")
        if name not in checks:
            raise no_such_page()
        problem = await self._run(probe, name, checks[name])
        if problem:
            log.warning("a health check failed", probe=probe, check=name, error=problem)
            return _text(f"internal server error: {problem}\n", 500)
        return _text("ok")


def _text(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, headers={"X-Content-Type-Options": "nosniff"})
