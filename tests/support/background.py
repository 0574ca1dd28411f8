"""Slow work of which tests only judge the result: begun when a run begins, one piece after the other, beside the tests.

    VALIDATED = Background(lambda: subprocess.run(...))

    @pytest.mark.begins(VALIDATED)
    def test_...() -> None:
        assert VALIDATED.result().returncode == 0

What is begun must end with this process, however that ends: nobody waits for it when a run is broken off.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")
NICENESS = 10
"""Tests come first; most of the time they leave a processor idle."""
_waiting: queue.SimpleQueue[Background[Any]] = queue.SimpleQueue()
_lock = threading.Lock()
_worker: list[threading.Thread] = []


class Background(Generic[T]):
    """One piece of work, done once a run; ``alone``: in a thread of its own, as it hardly needs a processor."""

    def __init__(self, work: Callable[[], T], *, alone: bool = False) -> None:
        self._work = work
        self._alone = alone
        self._begun = self._taken = False
        self._future: Future[T] = Future()

    def begin(self) -> None:
        """Have it done when those before are; harmless to repeat."""
        with _lock:
            if self._begun:
                return
            self._begun = True
            if self._alone:
                threading.Thread(target=self.do, name="background, alone", daemon=True).start()
                return
            _waiting.put(self)
            if not _worker:
                _worker.append(threading.Thread(target=_go_on, name="background", daemon=True))
                _worker[0].start()

    def result(self, timeout: float | None = None) -> T:
        """What it came to, or the exception it ended with; waits. Raises TimeoutError after that many seconds."""
        if threading.current_thread() in _worker:
            self.do()  # one piece needs another: nobody else would do it
        self.begin()
        return self._future.result(timeout)

    def wait(self) -> None:
        """Return when it is over, well or not; at once when it has not begun."""
        with _lock:
            begun = self._begun
        if begun:
            self._future.exception()

    def do(self) -> None:
        """Do it here and now, unless somebody does or has."""
        with _lock:
            if self._taken:
                return
            self._begun = self._taken = True
        try:
            self._future.set_result(self._work())
        except BaseException as error:  # whatever it is, it belongs to who asks for the result
            self._future.set_exception(error)


def _go_on() -> None:
    # Of this thread only, and of what it starts.
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    while True:
        _waiting.get().do()
