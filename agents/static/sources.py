"""Where static pods are asked for: a directory (or a file) of manifests, and a URL.

A manifest that has become bad does not end the pod it stood for: that goes on as it was until the manifest is good
again or gone. (A kubelet ends it at its next look.)
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agents.inotify import DirectoryWatch
from agents.static.judging import Judgement, Manifest, judge
from orca.api.objects import Obj
from orca.client.clock import Clock, rest

HTTP_SECONDS = 10.0
MAX_BYTES = 10 << 20

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger()

Judge = Callable[[Sequence[Manifest]], Awaitable[list[Judgement]]]
Signature = tuple[int, int, int]
"""Inode, size and time of change in nanoseconds."""
UNREADABLE: Signature = (-1, -1, -1)


class Source(ABC):
    """Hands all its pods to ``take`` whenever they changed, the first time also when there are none."""

    name: str

    def __init__(self, node_name: str, *, clock: Clock, judge: Judge = judge) -> None:
        self.take: Callable[[Iterable[Obj]], None] = lambda pods: None
        self.complain: Callable[[str, str], None] = lambda origin, problem: None
        """Told of each bad manifest, once."""
        self._node_name = node_name
        self._clock = clock
        self._judge = judge

    @abstractmethod
    async def run(self) -> None:
        """Until cancelled."""

    def _bad(self, origin: str, problem: str) -> None:
        log.warning("static pod cannot be used", source=origin, problem=problem)
        self.complain(origin, problem)


class FileSource(Source):
    """The manifests of a directory, but for names with a dot in front and directories; or a single file."""

    name = "file"

    def __init__(self, path: Path, frequency: float, node_name: str, *, clock: Clock, judge: Judge = judge) -> None:
        """``frequency``: seconds between two looks at a directory that the kernel tells nothing of."""
        super().__init__(node_name, clock=clock, judge=judge)
        self._path = path
        self._frequency = frequency
        self._seen: dict[Path, Signature] = {}
        self._pods: dict[Path, tuple[Obj, ...]] = {}
        self._told = False
        self._missing = False
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<FileSource {self._path}>"

    async def run(self) -> None:
        watch: DirectoryWatch | None = None
        try:
            while True:
                # The watch first: what changes while the directory is read is told.
                watch = watch or self._watch()
                self._changed.clear()
                await self.look()
                if self._missing and watch is not None:
                    watch.close()
                    watch = None
                await rest(self._clock, self._frequency, self._changed)
        finally:
            if watch is not None:
                watch.close()

    def _watch(self) -> DirectoryWatch | None:
        directory = self._path if self._path.is_dir() else self._path.parent
        try:
            return DirectoryWatch(directory, self._changed.set)
        except OSError:
            return None  # not there yet, or no watches left: the clock brings us back

    async def look(self) -> None:
        """Compare with what was seen before; hand out what is wanted now when that has changed."""
        try:
            now, texts = await asyncio.to_thread(self._read)
        except OSError as error:
            if not self._missing:
                log.warning("manifests of static pods cannot be read", path=str(self._path), error=str(error))
            # A directory that was taken away took its pods with it; one that cannot be read just now did not.
            now, texts, self._missing = {}, {}, True
            if not isinstance(error, FileNotFoundError) and self._told:
                return
        else:
            self._missing = False
        if self._told and now == self._seen:
            return
        paths = list(texts)
        manifests = [Manifest(texts[path], "file", str(path), self._node_name) for path in paths]
        for path, judgement in zip(paths, await self._judge(manifests), strict=True):
            if judgement.problem:
                self._bad(str(path), judgement.problem)
            else:
                self._pods[path] = judgement.pods
        self._pods = {path: pods for path, pods in self._pods.items() if path in now}
        self._seen, self._told = now, True
        self.take(pod for path in sorted(self._pods) for pod in self._pods[path])

    def _read(self) -> tuple[dict[Path, Signature], dict[Path, str]]:
        """Signatures of all manifests, and the texts of those that are new or changed."""
        if self._path.is_dir():
            paths = [path for path in self._path.iterdir() if not path.name.startswith(".") and path.is_file()]
        else:
            self._path.stat()
            paths = [self._path]
        now: dict[Path, Signature] = {}
        texts: dict[Path, str] = {}
        for path in sorted(paths):
            try:
                status = path.stat()
                signature = (status.st_ino, status.st_size, status.st_mtime_ns)
                if self._seen.get(path) != signature:
                    texts[path] = _read_manifest(path)
                now[path] = signature
            except FileNotFoundError:
                continue  # taken away this moment
            except OSError as error:
                # Its pod goes on, as that of a manifest that has become bad; looked at again each time.
                now[path] = UNREADABLE
                if self._seen.get(path) != UNREADABLE:
                    log.warning("manifest cannot be read", file=str(path), error=str(error))
        return now, texts


def _read_manifest(path: Path) -> str:
    """A manifest's text. Raises OSError, also for what is no file (a pipe would be waited for) or is too large."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > MAX_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return file.read(MAX_BYTES).decode(errors="replace")


class UrlSource(Source):
    """What a web server answers: a Pod or a PodList, in YAML or JSON; an empty answer asks for no pods."""

    name = "http"

    def __init__(
        self,
        url: str,
        headers: Mapping[str, Sequence[str]],
        frequency: float,
        node_name: str,
        *,
        clock: Clock,
        judge: Judge = judge,
    ) -> None:
        super().__init__(node_name, clock=clock, judge=judge)
        self._url = url
        self._headers = [(name, value) for name, values in headers.items() for value in values]
        self._frequency = frequency
        self._seen: bytes | None = None
        self._failure = ""

    def __repr__(self) -> str:
        return f"<UrlSource {self._url}>"

    async def run(self) -> None:
        import aiohttp

        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HTTP_SECONDS)) as session:
            while True:
                failure = ""
                try:
                    async with session.get(self._url, headers=self._headers) as response:
                        text = await _read_answer(response)
                        if text is None:
                            failure = f"more than {MAX_BYTES} bytes"
                        elif response.status == 200:
                            await self._answered(text)
                        else:
                            failure = f"{response.status} {response.reason}"
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    failure = str(error) or type(error).__name__
                if failure and failure != self._failure:
                    log.warning("static pods cannot be read", url=self._url, error=failure)
                self._failure = failure
                await self._clock.sleep(self._frequency)

    async def _answered(self, text: bytes) -> None:
        if text == self._seen:
            return
        self._seen = text
        if not text.strip():
            self.take(())
            return
        [judgement] = await self._judge([Manifest(text.decode(errors="replace"), "http", self._url, self._node_name)])
        if judgement.problem:
            self._bad(self._url, judgement.problem)
        else:
            self.take(judgement.pods)


async def _read_answer(response: aiohttp.ClientResponse) -> bytes | None:
    """None for one that is too large."""
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > MAX_BYTES:
            return None
    return bytes(raw)
