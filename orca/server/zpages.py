"""``/statusz`` and ``/flagz``: since when which version runs here, and with which flags.

Text for people, or an object of ``config.k8s.io/v1beta1`` for programs that ask for it by name. Reference:
k8s.io/component-base ``zpages`` of v1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from aiohttp import web

from orca.api.errors import not_acceptable
from orca.api.objects import Obj
from orca.api.times import format_time
from orca.client.clock import Clock
from orca.server.health import version_info
from orca.server.negotiation import SERVED, Form, media_ranges
from orca.server.responses import value_response

COMPONENT = "kube-apiserver"
_GROUP, _VERSION = "config.k8s.io", "v1beta1"
_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is "
    "for debugging purposes only."
)
_TEXT = ("text/plain", "text/*", "*/*")


class ZPages:
    """``paths`` are those that ``/statusz`` points to, ``flags`` what the command line and the defaults say."""

    def __init__(self, flags: Mapping[str, str], paths: Sequence[str], clock: Clock) -> None:
        self._flags = dict(sorted(flags.items()))
        self._paths = list(paths)
        self._clock = clock
        self._started: datetime = clock.now()

    def respond(self, path: str, accept: str) -> web.Response | None:
        """None where ``path`` is neither. Raises ApiError 406."""
        if path == "/statusz":
            form = _form(accept, "Statusz")
            return value_response(self._status(), form) if form else _text(self._status_text())
        if path == "/flagz":
            form = _form(accept, "Flagz")
            return value_response(self._object("Flagz", flags=self._flags), form) if form else _text(self._flags_text())
        return None

    def _object(self, kind: str, **fields: object) -> Obj:
        return {"kind": kind, "apiVersion": f"{_GROUP}/{_VERSION}", "metadata": {"name": COMPONENT}, **fields}

    def _status(self) -> Obj:
        version = version_info()
        return self._object(
            "Statusz",
            startTime=format_time(self._started),
            uptimeSeconds=self._uptime(),
            goVersion=version["goVersion"],
            binaryVersion=version["gitVersion"].removeprefix("v"),
            emulationVersion=f"{version['emulationMajor']}.{version['emulationMinor']}",
            minimumCompatibilityVersion=f"{version['minCompatibilityMajor']}.{version['minCompatibilityMinor']}",
            paths=self._paths,
        )

    def _status_text(self) -> str:
        status, seconds = self._status(), self._uptime()
        lines = {
            "Started": f"{self._started:%a %b %e %H:%M:%S UTC %Y}",
            "Up": f"{seconds // 3600} hr {seconds // 60 % 60:02} min {seconds % 60:02} sec",
            "Go version": status["goVersion"],
            "Binary version": status["binaryVersion"],
            "Emulation version": status["emulationVersion"],
            "Minimum Compatibility version": status["minimumCompatibilityVersion"],
            "Paths": " ".join(self._paths),
        }
        told = "\n".join(f"{what}: {value}" for what, value in lines.items())
        return f"\n{COMPONENT} statusz\n{_WARNING}\n\n{told}\n"

    def _flags_text(self) -> str:
        told = "".join(f"{flag}={value}\n" for flag, value in self._flags.items())
        return f"\n{COMPONENT} flags\n{_WARNING}\n\n{told}"

    def _uptime(self) -> int:
        return max(int((self._clock.now() - self._started).total_seconds()), 0)


def _form(accept: str, kind: str) -> Form | None:
    """Of an object, None for text. Raises ApiError 406: a program that wants JSON has to say which."""
    wanted = {"as": kind, "g": _GROUP, "v": _VERSION}
    for one in media_ranges(accept or "*/*"):
        if one.media in _TEXT:
            return None
        if one.media in SERVED and one.parameters == wanted:
            return Form(one.media)
    exact = f";as={kind};v={_VERSION};g={_GROUP}"
    raise not_acceptable((_TEXT[0], *(f"{media}{exact}" for media in SERVED)))


def _text(text: str) -> web.Response:
    return web.Response(text=text, headers={"X-Content-Type-Options": "nosniff"})
