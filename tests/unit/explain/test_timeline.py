"""One story of a workload, in the order in which things follow from each other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from rich.console import Console

from orca.api.objects import Obj
from orca.explain.timeline.printing import as_json, show
from orca.explain.timeline.story import tell


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def obj(kind: str, name: str, second: int = 0, **fields: Any) -> Obj:
    return {"kind": kind, "metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": at(second)}, **fields}


def event(of: Obj, reason: str, first: int, last: int | None = None, **fields: Any) -> Obj:
    about = {"kind": of["kind"], "name": of["metadata"]["name"], "uid": of["metadata"]["uid"]}
    return {
        "metadata": {"name": f"{reason}-{first}"},
        "involvedObject": {**about, **fields.pop("about", {})},
        "reason": reason,
        "message": f"{reason} it",
        "type": "Normal",
        "firstTimestamp": at(first),
        "lastTimestamp": at(last if last is not None else first),
        **fields,
    }


DEPLOYMENT = obj("Deployment", "web")
REPLICASET = obj("ReplicaSet", "web-1")
RUNNING = {"startedAt": at(5)}
LAST = {"terminated": {"startedAt": at(2), "finishedAt": at(4), "exitCode": 3, "reason": "Error"}}
POD = obj(
    "Pod",
    "web-1-a",
    status={
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(0)},
            {"type": "Ready", "status": "True", "lastTransitionTime": at(6)},
        ],
        "containerStatuses": [{"name": "main", "state": {"running": RUNNING}, "lastState": LAST}],
    },
)
EVENTS = [
    event(POD, "Started", 2, about={"fieldPath": "spec.containers{main}"}),
    event(POD, "Scheduled", 0),
    event(REPLICASET, "SuccessfulCreate", 0),
    event(DEPLOYMENT, "ScalingReplicaSet", 0),
    event(POD, "BackOff", 4, 9, count=3, type="Warning"),
    event(obj("Pod", "web-1-g0nex"), "Killing", 1),
    event(obj("Pod", "other"), "Killing", 1),
]


def told() -> list[tuple[str, str]]:
    return [(entry.about, entry.what) for entry in tell([DEPLOYMENT, REPLICASET, POD], EVENTS)]


def test_what_happened_in_one_second_is_in_the_order_of_cause_and_effect() -> None:
    assert told() == [
        ("deployment/web", "created"),
        ("deployment/web", "ScalingReplicaSet"),
        ("replicaset/web-1", "created"),
        ("replicaset/web-1", "SuccessfulCreate"),
        ("pod/web-1-a", "created"),
        ("pod/web-1-a", "Scheduled"),
        ("pod/web-1-g0nex", "Killing"),
        ("pod/web-1-a/main", "Started"),
        ("pod/web-1-a/main", "ended"),
        ("pod/web-1-a", "BackOff"),
        ("pod/web-1-a/main", "started"),
        ("pod/web-1-a", "Ready"),
        ("pod/web-1-a", "BackOff"),
    ]


def test_what_is_gone_is_known_by_its_name_and_nobody_elses_is_taken_for_it() -> None:
    other = obj("ReplicaSet", "web-api")
    events = [
        event(DEPLOYMENT, "ScalingReplicaSet", 3, message="Scaled down replica set web-0 from 1 to 0"),
        event(obj("Pod", "web-0-abcde"), "Killing", 4),
        event(obj("Pod", "web-api-abcde"), "Killing", 4),
        event(other, "SuccessfulDelete", 4),
    ]
    assert [one.about for one in tell([DEPLOYMENT], events)] == [
        "deployment/web",
        "deployment/web",
        "pod/web-0-abcde",
    ], "web-api is another Deployment's"
    later = {**DEPLOYMENT, "metadata": {**DEPLOYMENT["metadata"], "creationTimestamp": at(9)}}
    assert [one.about for one in tell([later], events[1:])] == ["deployment/web"], (
        "a Deployment before it had that name"
    )
    sets = [event(obj("Pod", called), "Killing", 4) for called in ("db-0", "db-x-0", "db-1-abcde")]
    assert [one.about for one in tell([obj("StatefulSet", "db")], sets)] == ["statefulset/db", "pod/db-0"]
    cron = [event(obj(kind, called), "Gone", 4) for kind, called in (("Job", "c-29"), ("Pod", "c-29-abcde"))]
    assert [one.about for one in tell([obj("CronJob", "c")], cron)] == ["cronjob/c", "job/c-29", "pod/c-29-abcde"]


def test_only_the_newest_when_asked_for() -> None:
    since = datetime(2026, 1, 1, 0, 0, 6, tzinfo=UTC)
    found = tell([DEPLOYMENT, REPLICASET, POD], EVENTS, since=since)
    assert [entry.what for entry in found] == ["Ready", "BackOff"], "what went on until then is among it"


def test_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    entries = tell([DEPLOYMENT, REPLICASET, POD], EVENTS)
    show(Console(width=200), entries)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2026-01-01 (UTC)"
    assert lines[1].split() == ["00:00:00", "+0s", "deployment/web", "created"]
    assert any("(the last of 3 times)" in line for line in lines)
    assert orjson.loads(as_json(entries))[0]["what"] == "created"
    show(Console(), [])
    assert "nothing is known of it" in capsys.readouterr().out
    show(Console(), [], since=datetime(2026, 1, 1, 0, 0, 6, tzinfo=UTC))
    assert "nothing is known of its time since 00:00:06 UTC" in capsys.readouterr().out
