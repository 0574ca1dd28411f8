"""Runs one CNI plugin: orders in the environment, configuration on standard input, the answer on standard output."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from orca.api.objects import Obj

PLUGIN_SECONDS = 60.0
"""A plugin that takes longer is ended."""
INTERFACE = "eth0"


class PluginError(Exception):
    """A plugin failed, took too long, or is not there; the text is as libcni words it.

    ``verdict``: the plugin said so itself, with an error object; otherwise nothing is known but that it failed.
    """

    def __init__(self, text: str, *, verdict: bool = False) -> None:
        super().__init__(text)
        self.verdict = verdict


class Plugins:
    """The programs in some directories; the first directory that has one counts."""

    def __init__(self, directories: Sequence[Path], *, seconds: float = PLUGIN_SECONDS) -> None:
        self._directories = tuple(directories)
        self._seconds = seconds

    def require(self, kinds: Iterable[str]) -> None:
        """Raises ``PluginError`` for the first that is not there. Blocks."""
        for kind in kinds:
            if self.find(kind) is None:
                raise self._missing(kind)

    def find(self, kind: str) -> Path | None:
        """The program of this name. Blocks."""
        for directory in self._directories:
            path = directory / kind
            if path.is_file() and os.access(path, os.X_OK):
                return path
        return None

    async def run(self, command: str, config: Obj, environment: Mapping[str, str]) -> Obj:
        """``command`` is ADD, CHECK, DEL or STATUS; answers what the plugin prints, {} for nothing.

        Raises ``PluginError``.
        """
        kind = str(config["type"])
        path = await asyncio.to_thread(self.find, kind)
        if path is None:
            raise self._missing(kind)
        about = f'plugin type="{kind}" name="{config["name"]}" failed ({command.lower()})'
        code, output, errors = await self._call(
            path, json.dumps(config), {**environment, "CNI_COMMAND": command}, about
        )
        try:
            answer = json.loads(output) if output.strip() else {}
        except ValueError:
            answer = None
        if code == 0 and isinstance(answer, dict):
            return answer
        if code == 0:
            raise PluginError(f"{about}: the answer is no JSON object: {_short(output)}")
        if isinstance(answer, dict) and answer.get("msg"):
            details = f"; {answer['details']}" if answer.get("details") else ""
            raise PluginError(f"{about}: {answer['msg']}{details}", verdict=True)
        said = _short(errors) or _short(output)
        ended = f"signal: {-code}" if code < 0 else f"exit status {code}"
        raise PluginError(f"{about}: netplugin failed{f': {said}' if said else f' with no error message: {ended}'}")

    def _missing(self, kind: str) -> PluginError:
        searched = " ".join(str(directory) for directory in self._directories)
        return PluginError(f'failed to find plugin "{kind}" in path [{searched}]')

    async def _call(self, path: Path, text: str, environment: Mapping[str, str], about: str) -> tuple[int, str, str]:
        # Input as a file in memory: a pipe would break when the plugin ends before it has read everything.
        with os.fdopen(os.memfd_create("cni"), "w+") as source:
            source.write(text)
            source.seek(0)
            try:
                process = await asyncio.create_subprocess_exec(
                    path,
                    stdin=source,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env={**os.environ, "CNI_PATH": os.pathsep.join(map(str, self._directories)), **environment},
                    start_new_session=True,
                )
            except OSError as error:
                raise PluginError(f"{about}: {error.strerror or error}") from error
        try:
            async with asyncio.timeout(self._seconds):
                output, errors = await process.communicate()
        except (TimeoutError, asyncio.CancelledError) as error:
            # With whatever it has started itself; half an order is taken back by DEL.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # ended just now
            await process.wait()
            if isinstance(error, TimeoutError):
                raise PluginError(f"{about}: no answer within {self._seconds:g} s") from error
            raise
        return process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace")


def _short(text: str) -> str:
    return text.strip()[:1000]
