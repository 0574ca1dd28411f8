"""Pods and containers for decisions in virtual time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from agents.pods.lifecycle import Life
from agents.pods.memory import Memory, container_hash
from agents.pods.plan import plan
from agents.pods.steps import Action, EnsureImage, Plan
from agents.runtime import model
from agents.runtime.model import ContainerInfo, ImageInfo
from orca.api.objects import Obj

T0 = datetime(2026, 1, 1, tzinfo=UTC)
IMAGE = ImageInfo(id="sha256:aa", tags=("app:1",), digests=("app@sha256:bb",), size=1)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def spec_container(name: str = "c", **more: Any) -> Obj:
    return {"name": name, "image": "app:1", **more}


def pod(*containers: Obj, init: list[Obj] | None = None, status: Obj | None = None, **spec: Any) -> Obj:
    made: Obj = {
        "metadata": {"name": "web", "namespace": "ns", "uid": "u1", "generation": 1},
        "spec": {"containers": list(containers) or [spec_container()], "terminationGracePeriodSeconds": 30, **spec},
    }
    if init:
        made["spec"]["initContainers"] = init
    if status:
        made["status"] = status
    return made


def deleting(obj: Obj, grace: int = 30) -> Obj:
    metadata = {**obj["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
    return {**obj, "metadata": metadata}


def info(
    container: Obj | str = "POD",
    state: str = "running",
    *,
    attempt: int = 0,
    code: int = 0,
    started: float = 0,
    finished: float = 0,
    sandbox: str = "POD-0",
    **more: Any,
) -> ContainerInfo:
    name = container if isinstance(container, str) else container["name"]
    labels = {model.POD_UID: "u1", model.CONTAINER_NAME: name, model.ATTEMPT: str(attempt)}
    if not isinstance(container, str):
        labels |= {model.HASH: container_hash(container), model.SANDBOX_ID: sandbox}
    values: dict[str, Any] = {
        "id": f"{name}-{attempt}",
        "name": f"k8s_{name}",
        "state": state,
        "labels": labels,
        "image": "app:1",
        "image_id": "sha256:aa",
        "pid": 7,
        "exit_code": code,
        "oom_killed": False,
        "error": "",
        "created_at": at(started),
        "started_at": at(started) if state != "created" else None,
        "finished_at": at(finished) if state == "exited" else None,
    }
    return ContainerInfo(**{**values, **more})


def up(*containers: ContainerInfo, life: Life | None = Life.RUNNING) -> Memory:
    """A wired sandbox with ready volumes, and these containers."""
    memory = Memory(life=life, sandbox=info(), wired=True, ips=("10.0.0.9",), volumes={}, first_seen=T0)
    for found in containers:
        memory.observe(found)
    return memory


def decide(obj: Obj, memory: Memory, seconds: float = 0) -> Plan:
    """Plan, with every image that is asked for at hand at once."""
    decided = plan(obj, memory, at(seconds))
    wanted = [action.container for action in decided.actions if isinstance(action, EnsureImage)]
    if not wanted:
        return decided
    for name in wanted:
        memory.images[name] = IMAGE
    return plan(obj, memory, at(seconds))


def run(memory: Memory, *actions: Action) -> None:
    """These actions are under way."""
    for action in actions:
        memory.in_flight[action.key] = T0
