"""The stories of a run, and the host that is lost in one of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orca.lab.layout import Lab
from tests.cluster.conftest import LAB, check_left_as_found, orca
from tests.cluster.kinds.manifests import RESERVED
from tests.cluster.kinds.stories import Stories
from tests.support.kubectl import Kubectl


@pytest.fixture(scope="package")
def stories(request: pytest.FixtureRequest, lab: Lab, admin: Kubectl, alone_on_lab: None) -> Iterator[Stories]:
    """All selected stories, begun. Until they are told host-2 is for those that tolerate it: they cut its power."""
    chosen = [getattr(item, "function", None) for item in request.session.items]
    taint = f"{RESERVED['key']}={RESERVED['value']}:NoSchedule"
    admin("taint", "--overwrite", "node", "host-2", taint)
    told = Stories(admin, dict.fromkeys(one for one in chosen if hasattr(one, "story")))
    yield told
    told.finish()
    orca("lab", "start", "--name", LAB, "host-2")
    admin("taint", "node", "host-2", f"{taint}-")
    check_left_as_found()
