"""CronJobs while the server's clock is set forward and back; and what else goes by the clock.

Told alone: the clock is the whole cluster's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from orca.client.wallclock import SLOW_LOOK_SECONDS
from orca.lab import host as hosts
from orca.lab import services
from orca.lab.cluster import wait_for_server
from orca.lab.layout import Lab
from tests.cluster.conftest import LAB, orca
from tests.cluster.kinds.manifests import (
    Manifest,
    apply,
    columns,
    condition,
    job,
    living,
    messages,
    names,
    row,
    soon,
    workload,
)
from tests.cluster.kinds.stories import Stories
from tests.support.kubectl import Kubectl


@pytest.fixture
def alone(stories: Stories, lab: Lab, kubectl: Kubectl) -> Iterator[Kubectl]:
    """When all stories are told. Afterwards the server is again one whose clock is the machine's."""
    stories.wait()
    yield kubectl
    hosts.stop_service(lab.host(0), services.SERVER, seconds=1)
    hosts.start_service(lab.host(0), services.server(lab.host(0)))
    wait_for_server(lab)


def cron(name: str, schedule: str, command: str = "sleep 3600", **spec: object) -> Manifest:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {"schedule": schedule, "jobTemplate": {"spec": job("", command)["spec"]}, **spec},
    }


def _jobs(kubectl: Kubectl, of: str) -> list[str]:
    """Living Jobs of a CronJob, by name."""
    metas = [found["metadata"] for found in kubectl.items("jobs")]
    owned = [meta for meta in metas if meta.get("ownerReferences", [{}])[0].get("name") == of]
    return sorted(meta["name"] for meta in owned if "deletionTimestamp" not in meta)


def _set(to: datetime) -> None:
    seconds = (to - datetime.now(UTC)).total_seconds()
    orca("lab", "clock", "--name", LAB, f"{seconds:.0f}s")


def test_cron_jobs_over_clock_changes(alone: Kubectl) -> None:
    kubectl, started = alone, datetime.now(UTC)
    orca("lab", "clock", "--name", LAB, "1s")  # the server is started anew for it, here
    hour = (datetime.now(UTC) + timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
    india = hour.astimezone(ZoneInfo("Asia/Kolkata"))  # half an hour off
    apply(
        kubectl,
        cron("plain", f"0 {hour.hour} * * *"),
        cron("zoned", f"{india.minute} {india.hour} * * *", timeZone="Asia/Kolkata"),
        cron("elsewhere", f"0 {hour.hour} * * *", timeZone="Asia/Kolkata"),
        cron("forbid", "* * * * *", concurrencyPolicy="Forbid"),
        cron("replace", "* * * * *", concurrencyPolicy="Replace"),
        cron("strict", f"0 {hour.hour} * * *", startingDeadlineSeconds=30),
        cron("paused", "* * * * *", suspend=True, concurrencyPolicy="Forbid"),
        job("old", "true", ttlSecondsAfterFinished=600),
        job("limited", "sleep 3600", activeDeadlineSeconds=3000),
        workload("Deployment", "web", replicas=1),
    )
    kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    kubectl("wait", "--for=condition=complete", "job/old", "--timeout=120s")
    soon(lambda: kubectl.json("get", "job", "limited")["status"].get("ready") == 1, "it works")
    shown = {cell["NAME"]: cell for cell in columns(kubectl, "cronjobs")}
    assert (shown["plain"]["TIMEZONE"], shown["zoned"]["TIMEZONE"]) == ("<none>", "Asia/Kolkata")
    assert (shown["plain"]["LAST SCHEDULE"], shown["paused"]["SUSPEND"]) == ("<none>", "True")
    began = names(living(kubectl, "-l", "app=web"))

    # Forward, over the time of a schedule: it was missed, and is started now, once.
    _set(hour + timedelta(seconds=70))
    for name in ("plain", "zoned", "forbid", "replace"):
        soon(lambda name=name: len(_jobs(kubectl, name)) == 1, f"{name} has begun")
    assert _jobs(kubectl, "plain") == [f"plain-{int(hour.timestamp()) // 60}"]
    assert _jobs(kubectl, "zoned") == [f"zoned-{int(hour.timestamp()) // 60}"]
    (stamp,) = {
        found["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
        for found in kubectl.items("jobs")
        if found["metadata"]["name"].startswith("zoned-")
    }
    assert datetime.fromisoformat(stamp) == hour
    assert stamp.endswith("+05:30")
    assert row(kubectl, "cronjob", "plain")["ACTIVE"] == "1"
    soon(lambda: kubectl.try_("get", "job", "old").code == 1, "a finished Job's time is over")
    soon(lambda: condition(kubectl, "job/limited", "Failed").get("reason") == "DeadlineExceeded", "so is another's")
    first = _jobs(kubectl, "replace")

    # On to another minute.
    _set(hour + timedelta(seconds=200))
    soon(lambda: "Forbid" in " ".join(messages(kubectl, "JobAlreadyActive")), "one that still runs forbids the next")
    soon(lambda: len(now := _jobs(kubectl, "replace")) == 1 and now != first, "the next replaces one that still runs")
    kubectl("patch", "cronjob", "paused", "-p", '{"spec":{"suspend":false}}')
    soon(lambda: len(_jobs(kubectl, "paused")) == 1, "what was missed while suspended is made up for, once")
    kubectl("patch", "cronjob", "paused", "-p", '{"spec":{"suspend":true}}')

    # Back: nothing is started a second time.
    there = {name: _jobs(kubectl, name) for name in ("plain", "zoned", "forbid", "paused")}
    orca("lab", "clock", "--name", LAB, "0")
    soon(lambda: abs(_age(kubectl)) < 60, "the clock is back")
    time.sleep(SLOW_LOOK_SECONDS + 1)  # of what the controllers make of it nothing is to be seen
    assert {name: _jobs(kubectl, name) for name in there} == there
    assert _jobs(kubectl, "elsewhere") == [], "its time is at another hour"
    assert _jobs(kubectl, "strict") == [], "it was more than its deadline late"
    # Nobody was taken for lost over it.
    assert names(living(kubectl, "-l", "app=web")) == began
    assert {found["STATUS"] for found in columns(kubectl, "nodes")} == {"Ready"}
    lost = kubectl.within("default").items("events", "--field-selector=reason=NodeNotReady")
    assert not [one for one in lost if datetime.fromisoformat(one["metadata"]["creationTimestamp"]) > started]


def _age(kubectl: Kubectl) -> float:
    """Seconds since now, as the server's clock says."""
    kubectl("delete", "configmap", "stamp", "--ignore-not-found")
    kubectl("create", "configmap", "stamp")
    made = kubectl("get", "configmap", "stamp", "-o", "jsonpath={.metadata.creationTimestamp}")
    return (datetime.now(UTC) - datetime.fromisoformat(made)).total_seconds()
