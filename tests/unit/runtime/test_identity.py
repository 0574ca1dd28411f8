"""Whom a container runs as, from the bundle its shim stands in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.runtime.identity import linux_user

CONTAINER = "ab" * 32


def host(tmp_path: Path, user: Any, name: str = CONTAINER) -> Path:
    bundle = tmp_path / "bundles" / name
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps({"process": {"user": user}}))
    for pid, stat in ((70, "70 (a ) b) S 60 70 70"), (60, "60 (shim) S 1 60 60")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat)
    (tmp_path / "60" / "cwd").symlink_to(bundle)
    return tmp_path


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ({"uid": 5, "gid": 6}, [6]),
        ({"uid": 5, "gid": 6, "additionalGids": [6, 7]}, [6, 7]),
        ({"uid": 5, "gid": 6, "additionalGids": [7]}, [6, 7]),
    ],
)
def test_user_and_groups(tmp_path: Path, user: Any, groups: list[int]) -> None:
    assert linux_user(CONTAINER, 70, host(tmp_path, user)) == {"uid": 5, "gid": 6, "supplementalGroups": groups}


def test_nothing_is_said_of_what_is_not_known(tmp_path: Path) -> None:
    proc = host(tmp_path, {"uid": 5, "gid": 6}, name="another")
    assert linux_user(CONTAINER, 70, proc) is None
    assert linux_user(CONTAINER, 71, proc) is None
