"""Images from a private registry: credentials, failures and their back-off, progress, who may use what, and garbage."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agents.config import Configuration
from agents.images.collector import CollectionFailed
from agents.images.garbage import Policy
from orca.api.builtin import PODS
from orca.api.objects import Obj
from tests.cluster.apihost import NODE, ApiHost, api_host, manifest
from tests.support import images
from tests.support.engine import PrivateEngine
from tests.support.patience import PATIENCE
from tests.support.registry import ADDRESS, Registry, end, slowed
from tests.support.server import running_server
from tests.support.tls import Authority

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SECURE, SLOW, PLAIN, DOWN = 5000, 5001, 5002, 5003
SLOW_BYTES, SLOW_RATE = 3_000_000, 230_000


@dataclass
class Place:
    """The registries, and the digest of the image ``app:1`` that is in them."""

    secure: Registry
    plain: Registry
    digest: str


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    private = PrivateEngine(f"images-{os.getpid()}")
    yield private
    private.stop()


@pytest.fixture(scope="module")
def place(engine: PrivateEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One store behind two doors: TLS with password, and plain http, which the engine allows there; the latter also
    through a narrow pipe."""
    directory = tmp_path_factory.mktemp("registry")
    authority = Authority(directory)
    engine.trust(f"{ADDRESS}:{SECURE}", ca=authority.pair.cert.read_bytes())
    os.system(f"ip -n {engine.netns} addr add {ADDRESS}/32 dev lo")
    engine.start(*(f"--insecure-registry={ADDRESS}:{port}" for port in (SLOW, PLAIN, DOWN)))
    engine.docker("load", text=images.pause())
    secure = Registry(engine, directory, directory / "store", SECURE, authority)
    plain = Registry(engine, directory, directory / "store", PLAIN)
    secure.start()
    plain.start()
    others = [
        slowed(engine, directory, SLOW, PLAIN, SLOW_RATE),
        slowed(engine, directory, DOWN, 503, 0),
    ]
    digest = ""
    busybox = Path("/bin/busybox").read_bytes()
    for name, blob in (("app:1", b"app"), ("back:1", b"back"), ("big:1", os.urandom(SLOW_BYTES))):
        there = f"{plain.name}/{name}"
        engine.docker("load", text=images.archive(there, {"bin/busybox": busybox, "blob": blob}))
        pushed = engine.docker("push", there)
        if name == "app:1":
            digest = re.search(r"sha256:[0-9a-f]{64}", pushed)[0]  # type: ignore[index]
        engine.docker("rmi", there)
    yield Place(secure, plain, digest)
    for process in others:
        end(process)
    secure.stop()
    plain.stop()


@pytest.fixture(scope="module")
async def host(engine: PrivateEngine, place: Place) -> AsyncIterator[ApiHost]:
    async with running_server(controllers=True) as server, api_host(engine, server) as made:
        for name, password in (("right", "p"), ("wrong", "q")):
            await made.kubectl(
                "create",
                "secret",
                "docker-registry",
                name,
                f"--docker-server=https://{place.secure.name}",
                "--docker-username=ann",
                f"--docker-password={password}",
            )
        await made.until("the account", bool, "get", "serviceaccount", "default", "--ignore-not-found")
        await made.kubectl("create", "serviceaccount", "puller")
        await made.kubectl(
            "patch", "serviceaccount", "puller", "-p", json.dumps({"imagePullSecrets": [{"name": "right"}]})
        )
        yield made


async def apply(host: ApiHost, *pods: Obj) -> None:
    await host.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))


async def test_credentials_decide_and_what_was_pulled_with_them_is_for_those_who_have_them(
    host: ApiHost, place: Place
) -> None:
    image = f"{place.secure.name}/app:1"
    await apply(
        host,
        manifest("wrong", image, imagePullSecrets=[{"name": "wrong"}, {"name": "absent"}]),
        manifest("missing", f"{place.secure.name}/app:2", serviceAccountName="puller"),
    )
    await host.shows("wrong", "ErrImagePull")
    await host.says("wrong", "unauthorized", "no basic auth")
    await host.shows("missing", "ErrImagePull")
    await host.says("missing", "manifest unknown")
    # By the account's secret; and by the second of two, the first being wrong.
    await apply(
        host,
        manifest("account", image, serviceAccountName="puller"),
        manifest("second", image, imagePullSecrets=[{"name": "wrong"}, {"name": "right"}], policy="Always"),
    )
    await host.shows("account", "Running")
    await host.shows("second", "Running")
    await host.tells(
        "account",
        ("Normal", "Pulled", rf'Successfully pulled image "{image}" in [0-9.ms]+ \([0-9.ms]+ including waiting\)\. '
                             r"Image size: \d+ bytes\."),
    )  # fmt: skip
    # It is here now, which helps only those who could have pulled it.
    await apply(
        host,
        manifest("same", image, imagePullSecrets=[{"name": "right"}]),
        manifest("nobody", image),
        manifest("never", image, policy="Never"),
    )
    await host.shows("same", "Running")
    present = f'Container image "{image}" already present on machine and can be accessed by the pod'
    await host.tells("same", ("Normal", "Pulled", present))
    await host.shows("nobody", "ErrImagePull")
    await host.shows("never", "ErrImageNeverPull")
    # The pods that failed back off, with the reason in sight.
    await host.shows("wrong", "ImagePullBackOff")
    await host.says("wrong", f'Back-off pulling image "{image}": ErrImagePull: ')
    await host.tells(
        "wrong",
        ("Warning", "Failed", "Error: ErrImagePull"),
        ("Normal", "BackOff", f'Back-off pulling image "{image}"'),
        ("Warning", "Failed", "Error: ImagePullBackOff"),
        ("Warning", "FailedToRetrieveImagePullSecret", r".*\(absent\).*"),
    )
    # An agent that starts anew still knows who pulled what.
    await host.stop()
    await host.start()
    await apply(host, manifest("later", image), manifest("later-same", image, imagePullSecrets=[{"name": "right"}]))
    await host.shows("later-same", "Running")
    await host.shows("later", "ErrImagePull")
    await host.kubectl("delete", "pods", "--all")


async def test_a_slow_pull_shows_how_far_it_is_while_a_registry_that_returns_is_found(
    host: ApiHost, place: Place
) -> None:
    place.secure.stop()
    # By default one pull waits for the other, as with the kubelet.
    await host.stop()
    await host.start(Configuration(serialize_image_pulls=False))
    await apply(
        host,
        manifest("slow", f"{ADDRESS}:{SLOW}/big:1"),
        manifest("back", f"{place.secure.name}/back:1", serviceAccountName="puller"),
        manifest("down", f"{ADDRESS}:{DOWN}/app:1"),
    )
    # All that is shown of it: on a busy machine what follows takes longer than the pull.
    shown: set[str] = set()
    looking = asyncio.create_task(_look_at_pull(host, "slow", shown))
    await host.shows("down", "RegistryUnavailable")
    await host.says("down", "because the registry is unavailable: ")
    await host.shows("back", "ErrImagePull")
    await host.says("back", "connection refused")
    await host.shows("back", "ImagePullBackOff")
    place.secure.start()
    await host.shows("slow", "Running")
    looking.cancel()
    told = [re.fullmatch(r'pulling image ".*/big:1": (\d+)% \(([0-9.]+)/([0-9.]+) MB\)', text) for text in shown]
    percents = {int(found[1]) for found in told if found}
    assert len(percents) >= 2, shown
    assert all(0 < percent < 100 for percent in percents), shown
    await host.tells("slow", ("Normal", "Pulling", r".*: \d+% \([0-9.]+/[0-9.]+ MB\)"))
    assert len([reason for _, reason, _ in await host.events("slow") if reason == "Pulling"]) >= 2
    await host.shows("back", "Running")
    await host.kubectl("delete", "pods", "--all")


async def _look_at_pull(host: ApiHost, pod: str, shown: set[str]) -> None:
    """Note all that a pod's container says it waits for, until this is cancelled."""
    async with host.client.watch(PODS, "default", since="", fields=f"metadata.name={pod}") as events:
        async for event in events:
            for one in (event.obj.get("status") or {}).get("containerStatuses") or ():
                shown.add((one["state"].get("waiting") or {}).get("message", ""))


async def test_images_by_digest_from_a_plain_registry_are_listed_by_the_node_and_collected_when_unused(
    host: ApiHost, place: Place
) -> None:
    await host.no_container_is_left()  # of the pods before: they are gone from the API first
    by_digest = f"{place.plain.name}/app@{place.digest}"
    host.engine.docker("pull", f"{place.plain.name}/big:1")  # which no pod uses
    await apply(
        host,
        manifest("digest", by_digest),
        manifest("both", f"{place.plain.name}/app:1@{place.digest}"),
    )
    await host.shows("digest", "Running")
    await host.shows("both", "Running")
    image_id = await host.kubectl("get", "pod", "digest", "-o", "jsonpath={.status.containerStatuses[0].imageID}")
    assert image_id.endswith(place.digest)
    names = ("get", "node", NODE, "-o", "jsonpath={.status.images[*].names}")
    listed = await host.until("the image", lambda text: by_digest in text, *names)
    assert "orca/pause:1" in listed
    assert "/big:1" in listed
    collector = host.images.collector
    # All is too much for this policy: what nothing uses goes, and then it says that there is no more.
    collector.policy = Policy(high=1, low=0, minimum_age=0)
    with pytest.raises(CollectionFailed, match="Failed to garbage collect required amount of images"):
        await collector.collect()
    assert host.told[-1][0] == "FreeDiskSpaceFailed"
    await host.until("big:1 gone", lambda text: "/big:1" not in text, *names)
    left = host.engine.docker("images", "--digests", "--format", "{{.Repository}}@{{.Digest}} {{.Repository}}:{{.Tag}}")
    assert by_digest in left
    assert "orca/pause:1" in left
    assert "back" not in left
    await host.kubectl("delete", "pods", "--all")
    await host.no_container_is_left()
    async with asyncio.timeout(PATIENCE):
        while not await collector.delete_unused():  # noqa: ASYNC110 - the agent may have to hear that the pods are gone
            await asyncio.sleep(0.1)
    assert by_digest not in host.engine.docker("images", "--digests")
