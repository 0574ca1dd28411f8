"""Tests that mostly wait, told side by side on one lab: each in a namespace of its own.

    @story
    def test_what_happens(kubectl: Kubectl) -> None: ...

All stories that a run has selected begin with the first of them, a few at a time; the test itself only waits for its
story's end. ``lane`` names those that must not overlap, told in the order in which they are written.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tests.support.kubectl import Kubectl, eventually

Story = Callable[[Kubectl], None]
SIDE_BY_SIDE = 5
"""More would fight for two processors."""
_numbers = itertools.count(1)


def story(function: Story | None = None, *, lane: str = "") -> Any:
    """Make a test of a function that is told in a thread."""

    def made(told: Story) -> Callable[[Stories], None]:
        def test(stories: Stories) -> None:
            stories.result(told)

        test.__name__, test.__doc__, test.__module__ = told.__name__, told.__doc__, told.__module__
        test.story, test.lane = told, lane or told.__name__  # type: ignore[attr-defined]
        return test

    return made if function is None else made(function)


class Stories:
    """Those of a run, as they are told. Stories of a named lane are begun first: they are the long ones."""

    def __init__(self, admin: Kubectl, tests: Iterable[Any]) -> None:
        self._admin = admin
        self._results: dict[Story, Future[None]] = {}
        lanes: dict[str, list[Story]] = defaultdict(list)
        for test in tests:
            self._results[test.story] = Future()
            lanes[test.lane].append(test.story)
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="story")
        for lane in sorted(lanes.values(), key=lambda told: told[0].__name__ in lanes):
            self._pool.submit(self._tell, lane)

    def result(self, told: Story) -> None:
        """Wait until it is told; raises what it ended with."""
        self._results[told].result()

    def finish(self) -> None:
        """Wait until all that have begun are told; the others are left out."""
        self._pool.shutdown(cancel_futures=True)

    def wait(self) -> None:
        """Wait until all are told."""
        for future in self._results.values():
            future.exception()

    def _tell(self, lane: list[Story]) -> None:
        for told in lane:
            future = self._results[told]
            try:
                self._in_own_namespace(told)
                future.set_result(None)
            except BaseException as error:  # whatever it is, it belongs to the test that waits for it
                future.set_exception(error)

    def _in_own_namespace(self, told: Story) -> None:
        own = self._admin.within(f"story-{os.getpid()}-{next(_numbers)}")
        self._admin("create", "namespace", own.namespace)
        try:
            account = ("get", "serviceaccount", "default")
            eventually(lambda: own.try_(*account).code == 0, every=0.5, what="the default service account")
            told(own)
        finally:
            self._admin("delete", "namespace", own.namespace, "--wait=false")
