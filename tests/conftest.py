"""For all layers."""

from __future__ import annotations

import pytest


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin what tests of this run have marked: see :mod:`tests.support.background`."""
    if session.config.option.collectonly:
        return
    for item in session.items:
        for mark in item.iter_markers("begins"):
            mark.args[0].begin()
