"""Bandwidth limits on a kernel that cannot make all of them."""

from __future__ import annotations

import errno
from typing import Any, cast

import pytest

from agents.network import netlink as nl
from agents.network.bandwidth import Bandwidth
from agents.network.shaping import Shaping


class Kernel:
    """Has queues, and no filters."""

    def __init__(self) -> None:
        self.ingress = False
        self.kinds: list[int] = []

    def apply(self, *requests: nl.Plain) -> None:
        for request in requests:
            self.kinds.append(request.kind)
            if request.kind == nl.RTM_NEWQDISC:
                self.ingress = True
            elif request.kind == nl.RTM_DELQDISC:
                self.ingress = False
            else:
                raise OSError(errno.ENOENT, "No such file or directory")


def test_a_limit_that_cannot_be_made_is_an_error_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    shaping = Shaping(cast(Any, kernel))
    monkeypatch.setattr("agents.network.shaping.nl.index_of", lambda name: 7)
    monkeypatch.setattr(shaping, "_bucket", lambda *_: None)
    monkeypatch.setattr(shaping, "_present", lambda index, kind: {"rate": (0, 0)} if kernel.ingress else {})
    for _ in range(2):
        with pytest.raises(OSError, match="No such file"):
            shaping.set("ve0123456789ab", Bandwidth(egress=1_000_000))
    assert kernel.kinds == [nl.RTM_NEWQDISC, nl.RTM_NEWTFILTER, nl.RTM_DELQDISC] * 2
