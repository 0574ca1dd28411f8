"""``/healthz``, ``/livez``, ``/readyz`` and ``/version``."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version as package_version

from aiohttp import web

from orca.api.errors import ApiError, no_such_page
from orca.api.objects import Obj

KUBERNETES_VERSION = "v1.36.0"
Check = Callable[[], Awaitable[None]]
"""Raises when something is wrong."""


def orca_version() -> str:
    """Our own version, of the installed package."""
    return package_version("orca")


def version_info() -> Obj:
    """What ``kubectl version`` shows of the server."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"{KUBERNETES_VERSION}+orca.{orca_version()}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"linux/{machine}",
    }


class Health:
    """Named checks. ``ready`` checks count for ``/readyz`` only."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}

    def add(self, name: str, check: Check, *, ready_only: bool = False) -> None:
        """Add a check; it runs at every request."""
        (self._ready if ready_only else self._checks)[name] = check

    async def respond(self, path: str, query: Mapping[str, str]) -> web.Response:
        """Answer ``/livez``, ``/livez/<check>`` and so on. Raises ApiError 404."""
        probe, _, single = path.strip("/").partition("/")
        checks = dict(self._checks)
        if probe == "readyz":
            checks |= self._ready
        if single:
            if single == "ping":
                return web.Response(text="ok")
            if single not in checks:
                raise no_such_page()
            checks = {single: checks[single]}
        excluded = set(query.getall("exclude", [])) if hasattr(query, "getall") else set()
        lines, failed = ["[+]ping ok"], []
        for name, check in checks.items():
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            try:
                await check()
            except (ApiError, OSError, TimeoutError):
                failed.append(name)
                lines.append(f"[-]{name} failed: reason withheld")
            else:
                lines.append(f"[+]{name} ok")
        if failed:
            text = "\n".join([*lines, f"{probe} check failed"]) + "\n"
            return web.Response(text=text, status=500)
        if "verbose" in query:
            return web.Response(text="\n".join([*lines, f"{probe} check passed"]) + "\n")
        return web.Response(text="ok")
