"""Long lists: what is told of their size is true, and no piece is longer than it has to be."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.server.fairness.turns import Turns
from orca.server.lists import PIECE, ListBody, MadeBody
from orca.store import Entry

SIZES = st.lists(st.sampled_from([10, 700, 3_000, 40_000, PIECE - 1, PIECE, 3 * PIECE]), max_size=60)


def entry(number: int, size: int) -> Entry:
    obj = {"metadata": {"resourceVersion": "1", "name": f"one-{number}"}, "data": "x" * size}
    return Entry("default", f"one-{number}", 1, None, orjson.dumps(obj))


def body(sizes: list[int], continue_: str = "", remaining: int | None = None) -> ListBody:
    entries = [entry(number, size) for number, size in enumerate(sizes)]
    return ListBody("v1", "PodList", entries, revision=7, continue_=continue_, remaining=remaining)


@given(SIZES)
def test_pieces_are_the_whole_list_and_none_is_long_without_need(sizes: list[int]) -> None:
    made = body(sizes)
    pieces = list(made.pieces())
    whole = b"".join(pieces)
    assert whole == made.whole()
    assert len(whole) == made.size
    listed = orjson.loads(whole)
    assert listed.pop("items") == [entry(number, size).obj for number, size in enumerate(sizes)]
    assert listed == {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}}
    longest = max((entry(0, size).size for size in sizes), default=0)
    assert all(len(piece) <= max(PIECE, longest) + 1024 for piece in pieces)
    # Two that follow each other would not have fitted into one.
    assert all(len(one) + len(next_) >= PIECE for one, next_ in pairwise(pieces))


def test_a_page_says_where_it_goes_on() -> None:
    listed = orjson.loads(body([10, 10], "next", 5).whole())
    assert listed["metadata"] == {"resourceVersion": "7", "continue": "next", "remainingItemCount": 5}
    assert "remainingItemCount" not in orjson.loads(body([10], "next").whole())["metadata"]


@pytest.mark.parametrize("count", [0, 1, 16, 100])
async def test_what_is_logged_of_a_long_list_is_made_in_turns(count: int) -> None:
    made = body([700] * count, "next", 5)
    turns = Turns(budget=0.0)
    assert await made.changed(lambda obj: obj, turns.lane("")) == made.whole()
    assert turns.waited >= count // 16 - 1
    changed = orjson.loads(await made.changed(lambda obj: {"name": obj["metadata"]["name"]}, turns.lane("")))
    assert changed["items"] == [{"name": f"one-{number}"} for number in range(count)]


async def test_and_few_objects_at_once_where_they_are_large() -> None:
    made = body([40_000] * 40)
    turns = Turns(budget=0.0)
    assert await made.changed(lambda obj: obj, turns.lane("")) == made.whole()
    assert turns.waited >= 39


@given(st.lists(st.integers(0, 2 * PIECE), max_size=40))
def test_parts_leave_together_as_far_as_they_fit(sizes: list[int]) -> None:
    made = MadeBody([bytes([number % 256]) * size for number, size in enumerate(sizes)])
    pieces = list(made.pieces())
    assert b"".join(pieces) == made.whole()
    assert made.size == sum(sizes)
    assert all(len(piece) <= max(PIECE, *sizes) for piece in pieces if piece)
    assert all(len(one) + len(next_) > PIECE for one, next_ in pairwise(pieces[:-1]))
