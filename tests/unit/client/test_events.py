"""Events are counted, combined and held back as client-go does."""

from __future__ import annotations

from contextvars import ContextVar

from orca.api import errors
from orca.api.builtin import EVENTS
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.client.clock import VirtualClock
from orca.client.events import COMBINED, YIELDS_SECONDS, EventRecorder
from orca.client.fake import FakeClient

POD: Obj = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "7"},
}


def recorder() -> tuple[FakeClient, VirtualClock, EventRecorder]:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    return client, clock, EventRecorder(client, "kubelet", "node-1", clock=clock)


async def test_a_repeated_event_is_counted() -> None:
    client, clock, events = recorder()
    for version in range(3):
        changed = {**POD, "metadata": {**POD["metadata"], "resourceVersion": str(version)}}
        events.event(changed, "Warning", "BackOff", "Back-off restarting failed container")
        await clock.advance(5)
    await events.flush()
    (event,) = client.objects(EVENTS)
    assert event["count"] == 3
    assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["lastTimestamp"] == "2026-01-01T00:00:10Z"
    assert event["metadata"]["namespace"] == "shop"
    assert event["involvedObject"]["uid"] == "u1"
    assert event["source"] == {"component": "kubelet", "host": "node-1"}


async def test_what_was_done_is_told_outside_of_the_work_that_did_it() -> None:
    client, _, events = recorder()
    condition: ContextVar[str] = ContextVar("condition", default="none")
    under: list[str] = []
    client.intercepts.append(lambda *_: under.append(condition.get()))
    condition.set("only while this server leads")
    events.event(POD, "Normal", "Killing", "Stopping container main")
    await events.flush()
    assert under == ["none"]


async def test_many_different_messages_are_combined() -> None:
    client, _, events = recorder()
    for number in range(15):
        events.event(POD, "Normal", "Pulling", f"message {number}")
    await events.flush()
    found = client.objects(EVENTS)
    assert len(found) == 11
    combined = [event for event in found if event["message"].startswith(COMBINED)]
    assert [event["count"] for event in combined] == [5]


async def test_a_chatterbox_is_held_back() -> None:
    client, clock, events = recorder()
    for number in range(40):
        events.event(POD, "Normal", f"Reason{number}", "x")
    await events.flush()
    assert len(client.objects(EVENTS)) == 25
    await clock.advance(300)
    events.event(POD, "Normal", "Later", "x")
    await events.flush()
    assert len(client.objects(EVENTS)) == 26


async def test_an_unreachable_server_delays_and_a_refusal_drops() -> None:
    client, clock, events = recorder()
    refusals = [errors.service_unavailable("down"), errors.forbidden(EVENTS, "x", "namespace is terminating")]

    def refuse(verb: str, resource: Resource, key: str, subresource: str) -> None:
        if refusals:
            raise refusals.pop(0)

    client.intercepts.append(refuse)
    events.event(POD, "Normal", "Dropped", "x")
    await clock.advance(1)
    events.event(POD, "Normal", "Kept", "x")
    await events.flush()
    assert [event["reason"] for event in client.objects(EVENTS)] == ["Kept"]


async def test_no_more_events_a_second_than_allowed() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    recorder = EventRecorder(client, "kubelet", clock=clock, qps=2, burst=3)
    for number in range(9):
        about = {"kind": "Pod", "namespace": "default", "name": f"p{number}", "uid": str(number), "apiVersion": "v1"}
        recorder.event(about, "Normal", "Started", "up")
    await clock.settle()
    assert len(client.objects(EVENTS)) == 3
    await clock.advance(1)
    assert len(client.objects(EVENTS)) == 5
    await clock.advance(2)
    assert len(client.objects(EVENTS)) == 9


async def test_events_make_way_for_what_they_tell_of_but_not_for_long() -> None:
    client, clock, events = recorder()
    crowd = [True]
    events.yield_to(lambda: crowd[0])
    events.event(POD, "Normal", "Started", "x")
    await clock.advance(YIELDS_SECONDS - 1)
    assert not client.objects(EVENTS)
    await clock.advance(2)
    assert len(client.objects(EVENTS)) == 1
    events.event(POD, "Normal", "Pulled", "x")
    await clock.advance(1)
    crowd[0] = False
    await clock.advance(1)
    assert len(client.objects(EVENTS)) == 2


async def test_warnings_do_not_make_way() -> None:
    client, clock, events = recorder()
    events.yield_to(lambda: True)
    for number in range(6):
        events.event(POD, "Normal", "Pulled", f"image {number}")
    events.event(POD, "Warning", "FailedMount", "no such volume")
    await clock.advance(1)
    assert [event["reason"] for event in client.objects(EVENTS)] == ["FailedMount"]
    events.yield_to(lambda: False)
    await clock.advance(1)
    assert len(client.objects(EVENTS)) == 7


async def test_an_event_may_be_written_by_who_does_what_it_tells_of() -> None:
    client, _, events = recorder()
    with events.telling(POD, "Warning", "FailedScheduling", "no node") as first:
        assert first.event is not None
        first.done = bool(await client.create(EVENTS, first.event))
    with events.telling(POD, "Warning", "FailedScheduling", "no node") as second:
        assert second.event is None, "a repetition is counted, and that is nobody else's to write"
    await events.flush()
    (event,) = client.objects(EVENTS)
    assert (event["reason"], event["count"]) == ("FailedScheduling", 2)


async def test_an_event_that_they_did_not_get_to_is_sent() -> None:
    client, _, events = recorder()
    with events.telling(POD, "Warning", "FailedScheduling", "no node"):
        events.event(POD, "Warning", "FailedScheduling", "no node")
        await events.flush()
        assert not client.objects(EVENTS), "it is theirs as long as they are at it"
    await events.flush()
    (event,) = client.objects(EVENTS)
    assert event["count"] == 2
