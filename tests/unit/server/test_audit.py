"""The audit policy and its log, without a server."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import orjson
import pytest
import yaml

from orca.api.builtin import BUILTIN
from orca.auth import UserInfo
from orca.server.audit import AuditLog, Level, Policy, PolicyInvalid, Rotation
from orca.server.audit.log import RotatedFile
from orca.server.paths import parse_path


def policy(*rules: dict, **fields: object) -> Policy:
    return Policy.parse(yaml.safe_dump({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules, **fields}))


def files_in(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def level(made: Policy, verb: str, path: str, who: str = "bob", *groups: str) -> Level:
    return made.verdict(UserInfo(who, groups=groups), verb, parse_path(path, BUILTIN)).level


def test_the_first_rule_that_matches_decides() -> None:
    made = policy(
        {"level": "None", "users": ["system:kube-proxy"], "verbs": ["watch"]},
        {"level": "None", "userGroups": ["quiet"]},
        {"level": "None", "nonResourceURLs": ["/healthz*", "/version"]},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "pods/log"]}]},
        {"level": "RequestResponse", "resources": [{"group": "apps"}], "namespaces": ["prod"]},
        {"level": "Request", "resources": [{"group": "", "resources": ["configmaps"], "resourceNames": ["one"]}]},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["pods/*"]}]},
    )
    assert level(made, "watch", "/api/v1/endpoints", "system:kube-proxy") is Level.NONE
    assert level(made, "list", "/api/v1/secrets") is Level.Metadata
    assert level(made, "list", "/api/v1/secrets", "bob", "quiet") is Level.NONE
    assert level(made, "get", "/healthz/etcd") is Level.NONE
    assert level(made, "get", "/api/v1/namespaces/a/pods/p/log") is Level.Metadata
    assert level(made, "get", "/api/v1/namespaces/a/pods/p/exec") is Level.Metadata
    assert level(made, "get", "/apis/apps/v1/namespaces/prod/deployments/d") is Level.RequestResponse
    assert level(made, "get", "/apis/apps/v1/namespaces/test/deployments/d") is Level.NONE
    assert level(made, "get", "/api/v1/namespaces/a/configmaps/one") is Level.Request
    assert level(made, "get", "/api/v1/namespaces/a/configmaps/two") is Level.NONE


def test_a_rule_may_be_about_all_groups() -> None:
    made = policy(
        {"level": "None", "resources": [{"group": "*", "resources": ["*/status"]}]},
        {"level": "Metadata", "resources": [{"group": "*", "resources": ["deployments", "pods"]}]},
    )
    assert level(made, "update", "/apis/apps/v1/namespaces/a/deployments/d/status") is Level.NONE
    assert level(made, "get", "/apis/apps/v1/namespaces/a/deployments/d") is Level.Metadata
    assert level(made, "get", "/api/v1/namespaces/a/pods/p") is Level.Metadata
    assert level(made, "get", "/api/v1/namespaces/a/configmaps/c") is Level.NONE
    with pytest.raises(PolicyInvalid, match=r"resources\[0\].group"):
        policy({"level": "None", "resources": [{"group": "*.k8s.io"}]})


def test_a_rule_about_cluster_scope_names_the_empty_namespace() -> None:
    made = policy({"level": "Metadata", "namespaces": [""]})
    assert level(made, "list", "/api/v1/nodes") is Level.Metadata
    assert level(made, "list", "/api/v1/namespaces/a/pods") is Level.NONE
    assert level(made, "get", "/version") is Level.NONE


def test_stages_and_managed_fields_of_rule_and_policy() -> None:
    rules = ({"level": "Request", "omitStages": ["Panic"], "omitManagedFields": False}, {"level": "Metadata"})
    made = policy(*rules, omitStages=["RequestReceived"], omitManagedFields=True)
    verdict = made.verdict(UserInfo("x"), "get", parse_path("/version", BUILTIN))
    assert verdict.omit_stages == {"Panic", "RequestReceived"}
    assert not verdict.omit_managed_fields


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "malformed YAML"),
        ("[]", "must be an object of kind Policy"),
        ("{apiVersion: audit.k8s.io/v1beta1, kind: Policy, rules: [{level: None}]}", "apiVersion: Unsupported value"),
        ("{apiVersion: audit.k8s.io/v1, kind: Policy}", "rules: Required value"),
        ("rules: [{}]", "rules[0].level: Required value"),
        ("rules: [{level: All}]", 'rules[0].level: Unsupported value: "All"'),
        ("rules: [{level: None, verb: [get]}]", "rules[0].verb: Forbidden: unknown field"),
        ("rules: [{level: None, verbs: get}]", "rules[0].verbs: Invalid value"),
        ("rules: [{level: None, omitStages: [End]}]", "rules[0].omitStages[0]: Unsupported value"),
        ("rules: [{level: None, nonResourceURLs: [x]}]", "must begin with a '/' character"),
        ("rules: [{level: None, nonResourceURLs: [/a*b]}]", "must be the final character of the rule"),
        ("rules: [{level: None, nonResourceURLs: [/a], namespaces: [b]}]", "both regular resources and non-resource"),
        ("rules: [{level: None, resources: [{resourceNames: [b]}]}]", "requires at least one resource"),
        ("rules: [{level: None, resources: [{group: 'a/b'}]}]", "rules[0].resources[0].group: Invalid value"),
    ],
)
def test_a_wrong_policy_is_explained(text: str, said: str) -> None:
    with pytest.raises(PolicyInvalid) as told:
        Policy.parse(text)
    assert said in str(told.value)


async def test_files_are_rotated_between_lines_and_old_ones_go(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "audit.log"), Rotation(megabytes=1, backups=2, days=0))
    log.open()
    line = b"x" * 1023 + b"\n"
    for _ in range(5):
        for _ in range(1000):
            log.put(line)
        await log.flush()
        await asyncio.sleep(0.002)  # backups are told apart by milliseconds
    await log.close()
    files = files_in(tmp_path)
    assert len(files) == 3
    assert log.written == 5000
    for file in files:
        content = file.read_bytes()
        assert len(content) <= 1 << 20
        assert set(content.splitlines()) == {line[:-1]}


async def test_nothing_put_before_the_end_is_lost(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "audit.log"))
    writing = asyncio.create_task(log.run())
    for number in range(5000):
        log.put(orjson.dumps(number) + b"\n")
        if number % 500 == 0:
            await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await log.close()
    assert [int(line) for line in (tmp_path / "audit.log").read_bytes().split()] == list(range(5000))


async def test_a_log_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "nowhere" / "audit.log"))
    (tmp_path / "nowhere").write_text("a file where a folder should be")
    with pytest.raises(OSError):
        log.open()
    log.put(b"{}\n")
    await log.flush()
    assert (log.written, log.lost) == (0, 1)


def test_a_full_disk_tears_no_line_that_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "audit.log", os.write
    log = RotatedFile(path, Rotation())
    room = [5]

    def full(file: int, data: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "no space left on device")
        room[0] -= (written := write(file, data[: room[0]]))
        return written

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="no space"):
        log.write([b"{1}\n", b"{2}\n"])
    monkeypatch.setattr(os, "write", write)
    log.write([b"{3}\n"])
    log.close()
    assert path.read_bytes() == b"{1}\n{\n{3}\n"
    path.write_bytes(b"{1}\n{")
    later = RotatedFile(path, Rotation())
    later.write([b"{2}\n"])
    later.close()
    assert path.read_bytes() == b"{1}\n{\n{2}\n"
