"""All pods of a host as one source, with mirrors of those that the API does not know of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agents.origin import HASH, MIRROR, SOURCE
from agents.static.feed import PodFeed
from agents.static.sources import Source
from agents.static.starts import Starts
from orca.api.builtin import NODES, PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj, key, meta, uid
from orca.api.resources import Resource
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "node-uid"}}


class Hand(Source):
    """A source that a test feeds."""

    def __init__(self, clock: VirtualClock, name: str = "file") -> None:
        super().__init__("n", clock=clock)
        self.name = name

    async def run(self) -> None:
        await asyncio.Event().wait()


def static(pod_uid: str, *, image: str = "a", name: str = "web-n", source: str = "file") -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": pod_uid,
            "annotations": {SOURCE: source, HASH: pod_uid},
        },
        "spec": {"nodeName": "n", "containers": [{"name": "main", "image": image}]},
        "status": {"phase": "Pending"},
    }


def of_api(name: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": "n", "containers": [{"name": "main", "image": "a"}]},
        "status": {"phase": "Pending"},
    }


class Host:
    """A feed with a listener in the place of the pod manager."""

    def __init__(self, root: Path, *sources: str) -> None:
        self.clock = VirtualClock()
        self.client = FakeClient(clock=self.clock)
        self.sources = {name: Hand(self.clock, name) for name in sources or ("file",)}
        self.root = root
        self.heard: list[str] = []
        self.starts = Starts()
        self.services = asyncio.Event()
        self.services.set()
        self.running: dict[str, str] = {}
        """Uid -> key of what runs."""
        self.stopped = asyncio.Event()
        self.feed = self.make()

    def make(self) -> PodFeed:
        return PodFeed(
            self.client,
            "n",
            list(self.sources.values()),
            root=self.root,
            clock=self.clock,
            node=lambda: NODE,
            known=self.services.wait,
            vacated=self._vacated,
            running=lambda: list(self.running),
            starts=self.starts,
        )

    async def _vacated(self, object_key: str, pod_uid: str) -> None:
        while any(at == object_key and one != pod_uid for one, at in self.running.items()):
            self.stopped.clear()
            await self.stopped.wait()

    def listen(self) -> None:
        self.feed.on_add(lambda pod: self.heard.append(f"+{uid(pod) if meta(pod).get('annotations') else key(pod)}"))
        self.feed.on_update(lambda old, new: self.heard.append(f"~{uid(new)}"))
        self.feed.on_delete(lambda pod: self.heard.append(f"-{uid(pod)}"))

    def end(self, pod_uid: str) -> None:
        del self.running[pod_uid]
        self.stopped.set()

    async def mirrors(self) -> dict[str, str]:
        """Key -> hash of the mirror pods in the API."""
        pods = (await self.client.list(PODS)).items
        return {
            key(pod): meta(pod)["annotations"][MIRROR] for pod in pods if MIRROR in meta(pod).get("annotations", {})
        }


@asynccontextmanager
async def running(host: Host) -> AsyncIterator[None]:
    task = asyncio.create_task(host.feed.run())
    await host.clock.settle()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_static_pods_run_while_no_server_answers(host: Host) -> None:
    def down(verb: str, resource: Resource, object_key: str, subresource: str) -> None:
        raise ApiError(503, "ServiceUnavailable", "away")

    host.client.intercepts.append(down)
    async with running(host):
        host.sources["file"].take([static("s1")])
        synced = asyncio.create_task(host.feed.synced())
        await host.clock.advance(2)
        assert synced.done()
        host.listen()
        await host.clock.settle()
        assert host.heard == ["+s1"]
        told = await host.feed.write_status(static("s1"), {"status": {"phase": "Running"}})
        assert told["status"]["phase"] == "Running"
        assert await host.feed.current_uid("default", "web-n") == "s1"
        host.client.intercepts.clear()
        await host.clock.advance(60)
        assert await host.mirrors() == {"default/web-n": "s1"}
        mirror = await host.client.get(PODS, "web-n", "default")
        assert mirror["status"]["phase"] == "Running"
        assert meta(mirror)["ownerReferences"] == [
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "node-uid", "controller": True}
        ]
        assert uid(mirror) != "s1"
        assert host.heard == ["+s1"], "the mirror is no pod to run"


async def test_pods_of_the_api_wait_for_services_and_static_ones_do_not(host: Host) -> None:
    host.services.clear()
    host.client.seed(PODS, of_api("app"))
    async with running(host):
        host.sources["file"].take([static("s1")])
        host.listen()
        await host.clock.advance(2)
        assert host.heard == ["+s1"]
        assert [key(pod) for pod in host.feed.list()] == ["default/web-n"]
        host.services.set()
        await host.clock.settle()
        assert host.heard == ["+s1", "+default/app"]
        assert {key(pod) for pod in host.feed.list()} == {"default/web-n", "default/app"}


async def test_a_deleted_mirror_is_made_again_and_the_pod_does_not_notice(host: Host) -> None:
    async with running(host):
        host.listen()
        host.sources["file"].take([static("s1")])
        await host.clock.settle()
        first = uid(await host.client.get(PODS, "web-n", "default"))
        await host.client.delete(PODS, "web-n", "default")  # with grace: the mirror is marked first
        await host.clock.advance(5)
        assert await host.mirrors() == {"default/web-n": "s1"}
        again = await host.client.get(PODS, "web-n", "default")
        assert uid(again) != first
        assert not meta(again).get("deletionTimestamp")
        assert host.heard == ["+s1"]


async def test_another_manifest_waits_until_the_pod_it_replaces_has_ended(host: Host) -> None:
    async with running(host):
        host.listen()
        host.sources["file"].take([static("s1")])
        await host.clock.settle()
        host.running["s1"] = "default/web-n"
        host.sources["file"].take([static("s2", image="b")])
        await host.clock.advance(5)
        assert host.heard == ["+s1", "-s1"]
        assert await host.mirrors() == {"default/web-n": "s1"}, "shown as long as it runs"
        host.end("s1")
        await host.clock.advance(70)
        assert host.heard == ["+s1", "-s1", "+s2"]
        assert await host.mirrors() == {"default/web-n": "s2"}


async def test_without_its_manifest_the_pod_and_then_its_mirror_go(host: Host) -> None:
    async with running(host):
        host.listen()
        host.sources["file"].take([static("s1")])
        await host.clock.settle()
        host.running["s1"] = "default/web-n"
        host.sources["file"].take([])
        await host.clock.advance(3)
        assert host.heard == ["+s1", "-s1"]
        assert await host.mirrors() == {"default/web-n": "s1"}
        host.end("s1")
        await host.clock.advance(70)
        assert await host.mirrors() == {}


async def test_a_manifest_that_names_its_uid_changes_the_pod(host: Host) -> None:
    async with running(host):
        host.listen()
        host.sources["file"].take([static("mine")])
        await host.clock.settle()
        host.sources["file"].take([static("mine", image="b")])
        await host.clock.settle()
        assert host.heard == ["+mine", "~mine"]


async def test_an_agent_that_comes_after_knows_what_was_static(tmp_path: Path) -> None:
    before = Host(tmp_path)
    async with running(before):
        before.sources["file"].take([static("s1")])
        for _ in range(5000):
            if (tmp_path / "static-pods.json").exists():
                break
            await asyncio.sleep(0.02)
    after = Host(tmp_path, "file", "http")
    async with running(after):
        after.sources["file"].take([])
        assert await after.feed.current_uid("default", "web-n") == "", "asked without the API"


async def test_a_web_server_that_did_not_answer_yet_may_still_want_its_pods(tmp_path: Path) -> None:
    before = Host(tmp_path, "http")
    async with running(before):
        before.sources["http"].take([static("s1", source="http")])
        before.listen()
        await before.clock.settle()
        for _ in range(5000):
            if (tmp_path / "static-pods.json").exists():
                break
            await asyncio.sleep(0.02)
    mirror = await before.client.get(PODS, "web-n", "default")
    after = Host(tmp_path, "file", "http")
    after.client = before.client
    after.feed = after.make()
    async with running(after):
        after.sources["file"].take([])
        after.listen()
        await after.clock.advance(100)
        assert await after.feed.current_uid("default", "web-n") == "s1"
        assert uid(await after.client.get(PODS, "web-n", "default")) == uid(mirror)
        after.sources["http"].take([])
        await after.clock.advance(100)
        assert await after.mirrors() == {}


async def test_what_the_mirror_told_is_kept_by_the_next_agent(tmp_path: Path) -> None:
    host = Host(tmp_path)
    async with running(host):
        host.listen()
        host.sources["file"].take([static("s1")])
        await host.clock.settle()
        running_since = {"phase": "Running", "startTime": "2026-01-01T00:00:00Z"}
        await host.feed.write_status(static("s1"), {"status": running_since})
        await host.clock.advance(2)
    host.feed = host.make()
    seen: list[Obj] = []
    async with running(host):
        host.feed.on_add(seen.append)
        host.sources["file"].take([static("s1")])
        await host.clock.settle()
    assert [pod["status"] for pod in seen] == [running_since]


async def test_a_pod_that_begins_anew_gets_a_new_mirror(tmp_path: Path) -> None:
    host = Host(tmp_path)
    async with running(host):
        host.listen()
        host.sources["file"].take([static("s1")])
        await host.clock.settle()
        ended = {
            "phase": "Failed",
            "reason": "Terminated",
            "conditions": [{"type": "DisruptionTarget", "status": "True"}],
        }
        await host.feed.write_status(static("s1"), {"status": ended})
        await host.clock.advance(2)
        before = await host.client.get(PODS, "web-n", "default")
        assert before["status"]["reason"] == "Terminated"
    host.feed = host.make()
    async with running(host):
        host.listen()
        host.sources["file"].take([static("s1")])
        await host.clock.advance(5)
        after = await host.client.get(PODS, "web-n", "default")
    assert uid(after) != uid(before)
    assert after["status"] == {"phase": "Pending"}


async def test_orphans_of_other_times_are_removed(tmp_path: Path) -> None:
    host = Host(tmp_path)
    orphan = static("gone")
    del orphan["metadata"]["uid"]
    orphan["metadata"]["annotations"][MIRROR] = "gone"
    host.client.seed(PODS, orphan)
    host.client.seed(NODES, NODE)
    async with running(host):
        host.listen()
        host.sources["file"].take([])
        await host.clock.advance(5)
        assert await host.mirrors() == {}
        assert host.heard == []


async def test_pods_of_the_api_are_timed_from_their_creation_and_pulls_are_taken_off(host: Host) -> None:
    started = {"state": {"running": {"startedAt": "2026-01-01T00:00:07Z"}}}
    async with running(host):
        made = await host.client.create(PODS, of_api("web"), "default")
        await host.clock.advance(8)
        host.feed.pulled(uid(made), 1.0, 4.0)
        status = {"phase": "Running", "startTime": "2026-01-01T00:00:01Z", "containerStatuses": [started]}
        await host.client.patch(PODS, "web", {"status": status}, "default", subresource="status")
        await host.clock.settle()
        assert (host.starts.total.seconds, host.starts.own.seconds) == (8.0, 5.0)
        await host.client.delete(PODS, "web", "default", grace_seconds=0)
        await host.clock.settle()
        assert repr(host.feed._latency) == "<Latency of 0 pods>"
