"""What upstream's validation says of resourceVersionMatch and sendInitialEvents."""

from __future__ import annotations

import pytest
from multidict import MultiDict

from orca.api.errors import ApiError
from orca.server.options import ListOptions

INITIAL = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
UNASKED = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
CONTINUED = "resourceVersionMatch is forbidden when continue is provided"


def refusals(**query: str) -> list[str]:
    with pytest.raises(ApiError) as caught:
        ListOptions.from_query(MultiDict(query))
    assert caught.value.code == 422
    assert caught.value.details is not None
    return [cause["message"] for cause in caught.value.details["causes"]]


def test_initial_events_need_their_match() -> None:
    assert refusals(watch="1", sendInitialEvents="true") == [f"Forbidden: {INITIAL}"]
    exact = refusals(watch="1", sendInitialEvents="true", resourceVersionMatch="Exact")
    assert exact == [f"Forbidden: {INITIAL}", 'Unsupported value: "Exact": supported values: "NotOlderThan"']
    ListOptions.from_query(MultiDict(watch="1", sendInitialEvents="true", resourceVersionMatch="NotOlderThan"))


def test_a_match_is_for_initial_events() -> None:
    assert refusals(watch="1", resourceVersionMatch="NotOlderThan") == [f"Forbidden: {UNASKED}"]
    both = refusals(watch="1", sendInitialEvents="0", resourceVersionMatch="NotOlderThan", **{"continue": "x"})
    assert both == [f"Forbidden: {CONTINUED}"]


def test_every_problem_of_a_list_is_told() -> None:
    found = refusals(resourceVersionMatch="Sometimes", **{"continue": "x"})
    assert len(found) == 3
    assert found[1] == f"Forbidden: {CONTINUED}"
    assert found[2] == 'Unsupported value: "Sometimes": supported values: "Exact", "NotOlderThan", ""'
