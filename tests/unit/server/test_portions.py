"""How much is made before others get their turn."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.server.fairness.portions import BYTES, OBJECTS, portions


def sizes(given: list[int], objects: int = OBJECTS) -> list[list[int]]:
    return [[one.size for one in some] for some in portions([SimpleNamespace(size=size) for size in given], objects)]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], []),
        ([1] * 33, [[1] * 16, [1] * 16, [1]]),
        ([BYTES // 2] * 5, [[BYTES // 2] * 2, [BYTES // 2] * 2, [BYTES // 2]]),
        ([9 * BYTES] * 2, [[9 * BYTES], [9 * BYTES]]),
        ([1, BYTES, 1], [[1], [BYTES], [1]]),
    ],
)
def test_so_many_objects_or_bytes(given: list[int], wanted: list[list[int]]) -> None:
    assert sizes(given) == wanted


@given(st.lists(st.integers(1, 2 * BYTES)), st.integers(1, 20))
def test_all_in_order_and_no_portion_without_need(given: list[int], objects: int) -> None:
    found = sizes(given, objects)
    assert [size for some in found for size in some] == given
    assert all(some and (len(some) == 1 or sum(some) <= BYTES) and len(some) <= objects for some in found)
    assert all(len(one) == objects or sum(one) + next_[0] > BYTES for one, next_ in pairwise(found))
