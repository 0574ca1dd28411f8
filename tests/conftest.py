"""For all layers."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin what tests of this run have marked: see :mod:`tests.support.background`."""
    if session.config.option.collectonly:
        return
    for item in session.items:
        for mark in item.iter_markers("begins"):
            mark.args[0].begin()
