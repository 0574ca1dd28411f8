"""Thresholds as a KubeletConfiguration writes them."""

from __future__ import annotations

import pytest

from agents.config import Configuration, ConfigurationError
from agents.eviction.settings import Settings
from agents.eviction.thresholds import Signal, ThresholdError, parse_thresholds, with_container_fs

GIB = 1 << 30


def test_defaults_are_upstreams() -> None:
    settings = Settings.of(Configuration())
    found = {one.signal: one for one in settings.thresholds}
    assert str(found[Signal.MEMORY].quantity(8 * GIB)) == "100Mi"
    assert found[Signal.NODE_FS].quantity(1000).integer == 100
    assert found[Signal.NODE_FS_INODES].quantity(1000).integer == 50
    assert found[Signal.IMAGE_FS].quantity(1000).integer == 150
    assert found[Signal.IMAGE_FS_INODES].quantity(1000).integer == 50
    # pods are enforced, so what they may use together has the same threshold as the host
    assert str(found[Signal.ALLOCATABLE_MEMORY].quantity(0)) == "100Mi"
    assert Signal.PID not in found
    assert settings.transition == 300


def test_soft_thresholds_need_their_grace() -> None:
    (hard, soft) = parse_thresholds(
        hard={"pid.available": "10%"},
        soft={"memory.available": "1.5Gi"},
        soft_grace={"memory.available": "1m30s", "nodefs.available": "500ms"},
        min_reclaim={"memory.available": "500Mi", "pid.available": "5%"},
    )
    assert (hard.signal, hard.hard, soft.hard, soft.grace) == (Signal.PID, True, False, 90.0)
    assert str(soft.quantity(0)) == "1536Mi"
    assert str(soft.quantity(0, with_reclaim=True)) == "2036Mi"
    assert hard.quantity(1000, with_reclaim=True).integer == 150
    with pytest.raises(ThresholdError, match=r"grace period must be specified for the soft eviction threshold memory"):
        parse_thresholds(hard={}, soft={"memory.available": "1Gi"})


def test_a_signal_that_is_not_named_is_not_watched_unless_defaults_are_merged() -> None:
    named = parse_thresholds(hard={"memory.available": "1Gi"})
    assert [one.signal for one in named] == [Signal.MEMORY]
    merged = parse_thresholds(hard={"memory.available": "1Gi"}, merge_defaults=True)
    assert len(merged) == 5
    assert str(next(one for one in merged if one.signal is Signal.MEMORY).quantity(0)) == "1Gi"


@pytest.mark.parametrize("text", ["0%", "100%"])
def test_nothing_and_everything_turn_a_signal_off(text: str) -> None:
    assert parse_thresholds(hard={"nodefs.available": text}) == ()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"hard": {"disk.free": "1"}}, "unsupported eviction signal disk.free"),
        ({"hard": {"memory.available": "0"}}, "must be positive"),
        ({"hard": {"memory.available": "-5%"}}, "must be >= 0%"),
        ({"hard": {"memory.available": "150%"}}, "must be <= 100%"),
        ({"hard": {"memory.available": "x%"}}, "not a percentage"),
        ({"hard": {"memory.available": "much"}}, "quantities must match"),
        ({"hard": {}, "soft_grace": {"memory.available": "-1s"}}, "must be a positive value"),
        ({"hard": {}, "soft_grace": {"memory.available": "soon"}}, "not a duration"),
        ({"hard": {}, "min_reclaim": {"memory.available": "0%"}}, "must be positive"),
        ({"hard": {}, "min_reclaim": {"memory.available": "-1"}}, "negative eviction minimum reclaim"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, dict[str, str]], problem: str) -> None:
    with pytest.raises(ThresholdError, match=problem):
        parse_thresholds(**fields)  # type: ignore[arg-type]


def test_shares_are_as_exact_as_upstreams() -> None:
    (tenth,) = parse_thresholds(hard={"nodefs.available": "10%"})
    assert str(tenth.quantity(8 * GIB)) == "858993472"  # of single precision; a tenth would be 858993459


def test_layers_follow_the_file_system_they_lie_on() -> None:
    thresholds = parse_thresholds(
        hard={"nodefs.available": "10%", "imagefs.available": "20%", "containerfs.available": "30%"}
    )
    for dedicated, share in ((False, 100), (True, 200)):
        found = [
            one
            for one in with_container_fs(thresholds, dedicated_image_fs=dedicated)
            if one.signal is Signal.CONTAINER_FS
        ]
        assert [one.quantity(1000).integer for one in found] == [share]


def test_a_configuration_that_cannot_be_meant_is_refused_by_its_fields() -> None:
    with pytest.raises(ConfigurationError, match="evictionHard"):
        Settings.of(Configuration(eviction_hard={"memory.available": "0"}))
