"""Whatever a client sends, right in type, is judged and shown without a crash."""

from copy import deepcopy
from datetime import UTC, datetime

import pytest

from orca.api import strategy
from orca.api.builtin import BUILTIN
from orca.api.printing import columns, table
from orca.api.schema import decode
from tests.unit.api.arbitrary import Arbitrary

NOW = datetime(2026, 1, 3, tzinfo=UTC)
ROWS = [pytest.param(row, id=f"{row.api_version}-{row.kind}") for row in BUILTIN]
SEEDS = range(15)
DOORS = ("", "status", "approval", "resize", "ephemeralcontainers")


def drawn(row, seed):
    decoded, _ = decode(row, Arbitrary(seed).obj(row), refuse_unknown=False, warn=False)
    return decoded


def born(row, seed):
    obj = drawn(row, seed)
    strategy.apply_defaults(row, obj)
    strategy.prepare_create(row, obj)
    return obj


@pytest.mark.parametrize("row", ROWS)
def test_creating_and_printing_never_crash(row):
    for seed in SEEDS:
        obj = born(row, seed)
        for error in strategy.validate_create(row, obj):
            assert error.reason
            assert str(error)
        _, rows = table(row, [obj], NOW)
        assert len(rows[0]) == len(columns(row))


@pytest.mark.parametrize("row", ROWS)
def test_updating_never_crashes_and_leaves_the_old_object_alone(row):
    for seed in SEEDS:
        old = born(row, seed)
        before = deepcopy(old)
        for door in DOORS:
            new = drawn(row, seed + 1000)
            strategy.apply_defaults(row, new)
            strategy.prepare_update(row, new, old, door)
            strategy.validate_update(row, new, old, door)
        assert old == before


@pytest.mark.parametrize("row", ROWS)
def test_defaults_settle_at_once(row):
    for seed in SEEDS:
        obj = drawn(row, seed)
        strategy.apply_defaults(row, obj)
        again = deepcopy(obj)
        strategy.apply_defaults(row, again)
        assert again == obj


@pytest.mark.parametrize("row", ROWS)
def test_an_untouched_update_adds_no_complaint(row):
    for seed in SEEDS:
        old = born(row, seed)
        complaints = {str(error) for error in strategy.validate_create(row, old)}
        new = deepcopy(old)
        strategy.apply_defaults(row, new)
        strategy.prepare_update(row, new, old, "")
        added = [error for error in strategy.validate_update(row, new, old) if error.detail == "field is immutable"]
        assert not added, complaints
