"""Being woken by the kernel when use of memory crosses a number, instead of finding out at the next look.

cgroup version 1 alone has such events (``cgroup.event_control``); on version 2 there are none of them, as in a kubelet.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from agents.eviction.thresholds import Signal

log = structlog.get_logger()


class MemoryNotifier:
    """Of one cgroup, by its directory in the memory hierarchy. Must be used inside the event loop."""

    def __init__(self, directory: Path, wake: Callable[[], None]) -> None:
        self._directory = directory
        self._wake = wake
        self._event = -1
        self._armed = -1
        self._refused = False

    def __repr__(self) -> str:
        return f"<MemoryNotifier {self._directory} at {self._armed}>"

    def arm(self, usage: int) -> None:
        """Wake when ``usage`` bytes are crossed, upwards or downwards, and no longer at the number before. A kernel
        that has no such events is told of once and left alone."""
        if usage == self._armed or self._refused:
            return
        self.close()
        try:
            self._register(usage)
        except OSError as error:
            log.warning("the kernel does not notify of memory", cgroup=str(self._directory), error=str(error))
            self.close()
            self._refused = True
        self._armed = usage

    def _register(self, usage: int) -> None:
        event = self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        watched = os.open(self._directory / "memory.usage_in_bytes", os.O_RDONLY | os.O_CLOEXEC)
        try:
            control = os.open(self._directory / "cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(control, f"{event} {watched} {usage}".encode())
            finally:
                os.close(control)
        finally:
            os.close(watched)
        asyncio.get_running_loop().add_reader(event, self._crossed)

    def _crossed(self) -> None:
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return
        self._wake()

    def close(self) -> None:
        """End the subscription: the kernel forgets it with the descriptor."""
        if self._event >= 0:
            asyncio.get_running_loop().remove_reader(self._event)
            os.close(self._event)
            self._event = -1
        self._armed = -1


class MemoryNotifiers:
    """Those of the whole host and of all its pods; ``directory`` answers where a signal's cgroup is, None while there
    is none."""

    def __init__(self, directory: Callable[[Signal], Path | None]) -> None:
        self._directory = directory
        self._notifiers: dict[Signal, MemoryNotifier] = {}

    def __repr__(self) -> str:
        return f"<MemoryNotifiers {list(self._notifiers.values())}>"

    def arm(self, signal: Signal, usage: int, wake: Callable[[], None]) -> None:
        """See :meth:`MemoryNotifier.arm`."""
        if signal not in self._notifiers:
            directory = self._directory(signal)
            if directory is None:
                return
            self._notifiers[signal] = MemoryNotifier(directory, wake)
        self._notifiers[signal].arm(usage)

    def close(self) -> None:
        """End every subscription."""
        for notifier in self._notifiers.values():
            notifier.close()
        self._notifiers.clear()
