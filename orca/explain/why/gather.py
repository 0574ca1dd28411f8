"""Asks the API for what an explanation needs. Changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orca.api.builtin import (
    BUILTIN,
    CRONJOBS,
    CSINODES,
    DAEMONSETS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    LEASES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
    STORAGECLASSES,
)
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, name, uid
from orca.api.resources import Resource
from orca.client.http import HttpsClient
from orca.explain.why.findings import World
from orca.explain.why.profiles import asks_for_siblings, read_profiles
from orca.explain.why.profiles import siblings as siblings_of
from orca.explain.why.workload import tree
from orca.scheduler.profile import DEFAULT_NAME
from orca.scheduler.volumes import claims_of

WORKLOADS = (DEPLOYMENTS, STATEFULSETS, DAEMONSETS, JOBS, CRONJOBS, REPLICASETS, REPLICATIONCONTROLLERS)
_BETWEEN = {
    DEPLOYMENTS: (REPLICASETS,),
    CRONJOBS: (JOBS,),
}
LOG_LINES = 3
LOGS = 5
"""Of so many containers at most the end of the log is asked for."""
_LEADER = "orca-controllers"


class NothingFound(Exception):
    """There is no such object, or no such kind; the text says which."""


async def find(client: HttpsClient, target: str, space: str) -> tuple[Resource, Obj]:
    """``kind/name``, or a bare name: a pod's, else a workload's. Raises NothingFound, ApiError."""
    kind, slash, called = target.rpartition("/")
    if slash:
        row = BUILTIN.find(kind)
        if row is None or row not in (PODS, *WORKLOADS):
            known = ", ".join(one.singular for one in (PODS, *WORKLOADS))
            raise NothingFound(f"{kind!r} is none of: {known}")
        rows: tuple[Resource, ...] = (row,)
    else:
        rows = (PODS, *WORKLOADS)
    for row in rows:
        try:
            found = await client.get(row, called, space)
        except ApiError as error:
            if not is_not_found(error):
                raise
        else:
            return row, {**found, "kind": row.kind}
    what = rows[0].singular if slash else "pod or workload"
    raise NothingFound(f'there is no {what} "{called}" in namespace {space}')


async def owned(client: HttpsClient, row: Resource, owner: Obj, space: str) -> list[Obj]:
    """What an object owns: pods, and what stands between. Raises ApiError."""
    rows = (*_BETWEEN.get(row, ()), PODS)
    lists = await asyncio.gather(*(client.list(one, space) for one in rows))
    objects = [{**obj, "kind": one.kind} for one, listed in zip(rows, lists, strict=True) for obj in listed.items]
    return tree(owner, objects)


async def claims(client: HttpsClient, objects: Sequence[Obj], space: str) -> list[Obj]:
    """The claims that pods among ``objects`` use; none when they may not be read. Raises ApiError."""
    wanted = {called for one in objects if one["kind"] == "Pod" for called, _ in claims_of(one)}
    if not wanted:
        return []
    found = World()
    kind = PERSISTENTVOLUMECLAIMS
    return [{**one, "kind": kind.kind} for one in await _all(client, kind, found, space) if name(one) in wanted]


async def world(client: HttpsClient, concerned: Sequence[Obj], space: str) -> World:
    """The cluster, as far as the asker may see it, and events and logs of ``concerned``."""
    found = World()
    pods = [one for one in concerned if one["kind"] == "Pod"]
    found.nodes = await _all(client, NODES, found)
    waiting = [pod for pod in pods if not pod["spec"].get("nodeName")]
    if any(next(claims_of(pod), None) for pod in pods):
        found.claims = await _all(client, PERSISTENTVOLUMECLAIMS, found)
        found.volumes = await _all(client, PERSISTENTVOLUMES, found)
        found.classes = await _all(client, STORAGECLASSES, found)
    if waiting or any(one["kind"] == "DaemonSet" for one in concerned):
        found.pods = await _all(client, PODS, found)
        found.namespaces = await _all(client, NAMESPACES, found)
        if found.claims:
            found.csi_nodes = await _all(client, CSINODES, found)
        await _profiles(client, waiting, found)
    uids = {uid(one) for one in (*concerned, *found.claims)}
    found.events = await _events(client, uids, space, found)
    found.leader_renewed = await _leader(client)
    await _logs(client, pods, space, found)
    return found


async def _profiles(client: HttpsClient, waiting: Sequence[Obj], found: World) -> None:
    found.profiles = await read_profiles(client)
    if found.profiles is None:
        found.unread.append("profiles")
        return
    siblings = {}
    for pod in waiting:
        profile = found.profiles.get(pod["spec"].get("schedulerName") or DEFAULT_NAME)
        if profile is not None and asks_for_siblings(profile, pod):
            selector = await siblings_of(client, pod)
            if selector is not None:
                siblings[uid(pod)] = selector
    found.siblings = siblings


async def _leader(client: HttpsClient) -> str | None:
    """When whoever runs controllers and scheduler last said that it does."""
    try:
        lease = await client.get(LEASES, _LEADER, "kube-system")
    except ApiError as error:
        if error.code not in (403, 404):
            raise
        return None
    renewed = (lease.get("spec") or {}).get("renewTime")
    return str(renewed) if renewed else None


async def _all(client: HttpsClient, row: Resource, found: World, space: str = "") -> list[Obj]:
    try:
        return (await client.list(row, space)).items
    except ApiError as error:
        if error.code != 403:
            raise
        found.unread.append(row.plural)
        return []


async def _events(client: HttpsClient, uids: set[str], space: str, found: World) -> list[Obj]:
    try:
        listed = await client.list(EVENTS, space)
    except ApiError as error:
        if error.code != 403:
            raise
        found.unread.append(EVENTS.plural)
        return []
    return [event for event in listed.items if (event.get("involvedObject") or {}).get("uid") in uids]


async def _logs(client: HttpsClient, pods: Sequence[Obj], space: str, found: World) -> None:
    """The end of what crashed containers printed, and init containers that others wait for."""
    for pod in pods:
        if len(found.logs) >= LOGS:
            return
        status = pod.get("status") or {}
        initial = status.get("initContainerStatuses") or ()
        for one in (*initial, *(status.get("containerStatuses") or ())):
            state = one.get("state") or {}
            waits = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
            runs = one in initial and "running" in state and not one.get("ready")
            if not waits and not runs and not (state.get("terminated") or {}).get("exitCode"):
                continue
            query = {"container": one["name"], "tailLines": str(LOG_LINES)}
            try:
                text = await client.raw(f"/api/v1/namespaces/{space}/pods/{name(pod)}/log", query)
            except ApiError:
                continue  # it only adds to what is known
            found.logs[name(pod), one["name"]] = text.decode(errors="replace")
