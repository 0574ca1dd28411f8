"""Flags of the leader election are refused where they contradict each other, as client-go's elector refuses them."""

from __future__ import annotations

import click
import pytest

from orca.cli.leading import Election


def taken(lease: float = 15, renew: float = 10, retry: float = 2) -> Election:
    values = {
        "leader_elect_lease_duration": lease,
        "leader_elect_renew_deadline": renew,
        "leader_elect_retry_period": retry,
        "other": 1,
    }
    made = Election.taken_from(values)
    assert values == {"other": 1}
    return made


def test_what_fits_is_taken() -> None:
    assert taken(4, 3, 0.5) == Election(lease_duration=4, renew_deadline=3, retry=0.5)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({"lease": 10}, "must be greater than --leader-elect-renew-deadline"),
        ({"lease": 0, "renew": -1}, "whole seconds"),
        ({"lease": 12.5}, "whole seconds"),
        ({"renew": 2.4}, "1.2 times"),
        ({"retry": 0}, "greater than 0"),
    ],
)
def test_what_contradicts_itself_is_refused(flags: dict[str, float], word: str) -> None:
    with pytest.raises(click.UsageError, match=word):
        taken(**flags)
