"""What the packet table makes of datagrams that had to be sent again."""

from __future__ import annotations

from types import SimpleNamespace

from tests.cluster.packets.__main__ import TELLING, first_lost
from tests.cluster.packets.connections import Attempt


def flow(
    *, sent: int, case: str = "both-cc", way: str = "cluster", client: str = "a", outcome: str = "x 10.0.0.1"
) -> Attempt:
    row = (SimpleNamespace(name=case), way, SimpleNamespace(name=client), "UDP", 4, None)
    return Attempt("netns", "UDP", "10.96.0.1", 53, 1.0, outcome, row, sent=sent)


def test_a_rule_that_drops_first_packets_shows_though_every_flow_is_answered_in_the_end() -> None:
    dropped = [flow(sent=2, way="node-port", client="b") for _ in range(TELLING)]
    others = [flow(sent=1) for _ in range(100)]
    assert first_lost([*others, *dropped]) == [
        f"{kind} UDP: the first datagram of each of {TELLING} flows is lost"
        for kind in ("both-cc node-port", "node-port from b", "node-port IPv4")
    ]


def test_datagrams_lost_here_and_there_say_nothing_of_rules() -> None:
    assert first_lost([flow(sent=1 if index % 5 else 2) for index in range(100)]) == []
    assert first_lost([flow(sent=2) for _ in range(TELLING - 1)]) == []
    assert first_lost([flow(sent=4, outcome="dropped") for _ in range(100)]) == []
