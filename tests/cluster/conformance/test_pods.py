"""Pods as objects: generations, what is put right in them, why they were evicted, and logs and commands in frames."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from orca.api.objects import Obj
from orca.lab.layout import Lab
from tests.cluster.conformance.history import History, condition, phase, ready, recorded
from tests.cluster.conformance.runs import apply
from tests.cluster.podset import container, pod
from tests.support.kubectl import Kubectl, eventually
from tests.support.patience import PATIENCE

NOTED = [{"name": "PART", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['part']"}}}]
PARTS = [{"name": "v", "mountPath": "/v", "subPathExpr": "$(PART)"}]
PODS = [
    pod("changes", initContainers=[container(name="i", command=["true"])], terminationGracePeriodSeconds=-1),
    pod("fits-nowhere", container(resources={"requests": {"cpu": "1000000"}})),
    pod("talks", container(command=["sh", "-c", "echo container is alive; exec sleep 1000"])),
    pod("in-no-part", container(env=NOTED, volumeMounts=PARTS), volumes=[{"name": "v", "emptyDir": {}}]),
    pod("evicted", container(), terminationGracePeriodSeconds=1),
]


@dataclass
class Here:
    kubectl: Kubectl
    seen: History


@pytest.fixture(scope="module")
def here(admin: Kubectl, lab: Lab) -> Iterator[Here]:
    """All pods of this module, and what happens to them from their first moment on."""
    with recorded(admin, f"conformance-pods-{os.getpid()}") as (kubectl, seen):
        apply(kubectl, *PODS)
        yield Here(kubectl, seen)


def observed(pod: Obj) -> set[int | None]:
    """The generations that a pod's status is of, as a whole and each condition."""
    status = pod["status"]
    return {status.get("observedGeneration"), *(one.get("observedGeneration") for one in status["conditions"])}


def test_each_change_of_the_spec_is_a_generation_that_the_host_confirms(here: Here) -> None:
    kubectl, name = here.kubectl, "changes"
    found = here.seen.when(name, ready)
    assert found["metadata"]["generation"] == 1
    assert observed(found) == {1}
    assert found["spec"]["terminationGracePeriodSeconds"] == 1
    toleration = {"key": "x", "operator": "Exists", "effect": "NoSchedule"}
    patches: list[tuple[Obj, int]] = [
        ({"metadata": {"annotations": {"a": "b"}}}, 1),
        ({"spec": {"tolerations": [*found["spec"]["tolerations"], toleration]}}, 2),
        ({"spec": {"activeDeadlineSeconds": 5000}}, 3),
        ({"metadata": {"generation": 1}}, 3),
    ]
    for patch, generation in patches:
        kubectl("patch", "pod", name, "--type=merge", "-p", json.dumps(patch))
        assert kubectl.json("get", "pod", name)["metadata"]["generation"] == generation
    here.seen.when(name, lambda pod: pod["status"].get("conditions") and observed(pod) == {3})
    kubectl("delete", "pod", name, "--wait=false")
    here.seen.when(name, lambda pod: pod["metadata"].get("deletionTimestamp") and pod["metadata"]["generation"] == 4)


def test_who_cannot_be_placed_says_of_which_generation_that_is(here: Here) -> None:
    found = here.seen.when("fits-nowhere", lambda pod: condition(pod, "PodScheduled"))
    [only] = found["status"]["conditions"]
    assert (only["status"], only["reason"], only["observedGeneration"]) == ("False", "Unschedulable", 1)


def test_a_part_without_a_name_holds_the_container_back(here: Here) -> None:
    def waits(pod: Obj) -> bool:
        (status,) = pod["status"].get("containerStatuses") or [{"state": {}}]
        return "missing value for PART" in (status["state"].get("waiting") or {}).get("message", "")

    here.seen.when("in-no-part", waits)
    here.kubectl("annotate", "pod", "in-no-part", "part=named")
    here.seen.when("in-no-part", phase("Running"))


def test_an_evicted_pod_tells_why(here: Here) -> None:
    here.seen.when("evicted", ready)
    path = f"/api/v1/namespaces/{here.kubectl.namespace}/pods/evicted/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "evicted"}}
    here.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    last = here.seen.was_gone("evicted")
    assert condition(last, "DisruptionTarget")["reason"] == "EvictionByEvictionAPI"


class Frames:
    """WebSockets by hand, as the administrator."""

    def __init__(self, kubectl: Kubectl, pod: str) -> None:
        config = yaml.safe_load(Path(kubectl.kubeconfig).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._url = f"{cluster['server']}/api/v1/namespaces/{kubectl.namespace}/pods/{pod}"
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)
        pair = Path(kubectl.kubeconfig).parent / f"frames-{os.getpid()}.pem"
        try:
            pair.touch(mode=0o600)
            pair.write_bytes(b"".join(base64.b64decode(user[f"client-{one}-data"]) for one in ("certificate", "key")))
            self._tls.load_cert_chain(pair)
        finally:
            pair.unlink()

    async def of(self, path: str, protocol: str) -> list[Any]:
        """All frames until the end. Raises aiohttp.WSServerHandshakeError."""
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                f"{self._url}/{path}", ssl=self._tls, protocols=(protocol,) if protocol else ()
            ) as socket,
            asyncio.timeout(PATIENCE),
        ):
            return [message.data async for message in socket]


async def test_logs_and_commands_come_in_frames(here: Here) -> None:
    """Logs behind an empty frame; who offers another protocol or asks for what is not there is refused."""
    await asyncio.to_thread(here.seen.when, "talks", ready)
    await asyncio.to_thread(eventually, lambda: here.kubectl("logs", "talks"), what="what it says")
    frames, log = Frames(here.kubectl, "talks"), b"container is alive\n"
    for protocol in ("binary.k8s.io", ""):
        first, *rest = await frames.of("log?container=c", protocol)
        assert (first, b"".join(rest)) == (b"", log)
    first, *texts = await frames.of("log?container=c", "base64.binary.k8s.io")
    assert (first, b"".join(map(base64.b64decode, texts))) == ("", log)
    for path, protocol, code in (("log?container=c", "channel.k8s.io", 400), ("log?container=x", "", 400)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await frames.of(path, protocol)
        assert refused.value.status == code
    words = "command=echo&command=remote+execution+test&stdout=1&stderr=1"
    told = await frames.of(f"exec?container=c&{words}", "channel.k8s.io")
    assert b"".join(one[1:] for one in told if one[:1] == b"\x01") == b"remote execution test\n"
    assert not [one for one in told if one[:1] != b"\x01" and len(one) > 1]
