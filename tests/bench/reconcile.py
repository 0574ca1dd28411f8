"""Bench ``reconcile``: an ``orca server`` of its own, simulated nodes and kubelets, and the real controllers at work.

A Deployment is scaled up, ten thousand owned objects are collected, a Service of a thousand pods is kept. Beside each
stands the floor of the same run: a client that makes by hand, through the same API, the writes that cannot be done
without, where no controller has anything to do.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable

import click
import uvloop
from rich.console import Console
from rich.table import Table

from orca.api.builtin import CONFIGMAPS, DEPLOYMENTS, ENDPOINTSLICES, PODS, SERVICES
from orca.api.objects import Obj, name
from tests.bench import floors, load, workloads
from tests.bench.api import Server
from tests.bench.kubelets import MERGE, Kubelets, address_of, status, while_running
from tests.bench.rig import NODE_COUNT, Goal, Rig, Row, following
from tests.bench.workloads import NAMESPACE

CORE = f"/api/v1/namespaces/{NAMESPACE}"
TOGGLES = 100


# --- a Deployment ----------------------------------------------------------------------------------------------------


def _small(labels: dict[str, str], **spec: object) -> Obj:
    return workloads.plain(labels, cpu="10m", memory="10Mi", terminationGracePeriodSeconds=0, **spec)


async def deployment(rig: Rig, replicas: int) -> list[Row]:
    """Scale up from nothing, and down again."""
    labels = {"app": "scaled"}
    wanted: Obj = {
        "apiVersion": DEPLOYMENTS.api_version,
        "kind": DEPLOYMENTS.kind,
        "metadata": {"name": "scaled", "namespace": NAMESPACE},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": _small(labels)["spec"]},
        },
    }
    await rig.client.create(DEPLOYMENTS, wanted)
    created: set[str] = set()
    bound: set[str] = set()
    there: set[str] = set()
    available, pods, own = 0, Goal(), Goal()

    def pod_seen(kind: str, pod: Obj) -> None:
        called = name(pod)
        if kind == "DELETED":
            there.discard(called)
        else:
            created.add(called)
            there.add(called)
            if pod["spec"].get("nodeName"):
                bound.add(called)
        pods.hear()

    def deployment_seen(_: str, found: Obj) -> None:
        nonlocal available
        available = int((found.get("status") or {}).get("availableReplicas") or 0)
        own.hear()

    rows: list[Row] = []
    hosts = Kubelets(rig.client, rig.address, rig.tls, NAMESPACE, pod_seen)

    async def scale(to: int) -> float:
        began = time.perf_counter()
        change = {"spec": {"replicas": to}}
        await rig.client.patch(DEPLOYMENTS, "scaled", change, NAMESPACE)
        return began

    async def up() -> float:
        began = await scale(replicas)
        made = await pods.reached(lambda: len(created) >= replicas, "all pods created")
        placed = await pods.reached(lambda: len(bound) >= replicas, "all pods bound")
        done = await own.reached(lambda: available >= replicas, "all pods available")
        stages.extend((made - began, placed - began))
        return done - began

    async def down() -> float:
        began = await scale(0)
        return await pods.reached(lambda: not there, "all pods gone") - began

    stages: list[float] = []

    async def work() -> None:
        async with following(rig, DEPLOYMENTS, deployment_seen):
            row = await rig.measured(f"scale up to {replicas:,}", replicas, up())
            row.floor = floor
            row.note = f"created {stages[0]:.2f} s, bound {stages[1]:.2f} s; {row.kinds()}"
            rows.append(row)
            row = await rig.measured(f"scale down from {replicas:,}", replicas, down())
            row.floor = gone
            rows.append(row)

    floor, gone = await _pods_by_hand(rig, replicas)
    await while_running(hosts, work())
    await rig.client.delete(DEPLOYMENTS, "scaled", NAMESPACE)
    return [floor, gone, *rows]


async def _pods_by_hand(rig: Rig, many: int) -> tuple[Row, Row]:
    """The three writes in the life of a pod until it is ready, and its removal."""
    path, numbers = f"{CORE}/pods", range(many)
    pod = _small({"app": "floor"}, schedulerName="none")

    async def up() -> float:
        named = ({**pod, "metadata": {**pod["metadata"], "name": f"floor-{number}"}} for number in numbers)
        took = await rig.send(rig.request("POST", path, one) for one in named)
        targets = ({"target": {"kind": "Node", "name": f"node-{number % NODE_COUNT:05d}"}} for number in numbers)
        bindings = (
            rig.request("POST", f"{path}/floor-{number}/binding", {"metadata": {"name": f"floor-{number}"}, **target})
            for number, target in enumerate(targets)
        )
        took += await rig.send(bindings)
        return took + await rig.send(_made_ready(rig, "floor", numbers))

    async def down() -> float:
        body = {"gracePeriodSeconds": 0}
        return await rig.send(rig.request("DELETE", f"{path}/floor-{number}", body) for number in numbers)

    return (
        await rig.measured(f"floor: {many:,} pods made, bound, told ready by hand", many, up()),
        await rig.measured(f"floor: {many:,} pods deleted by hand", many, down()),
    )


def _made_ready(rig: Rig, prefix: str, numbers: range, *, ready: bool = True) -> list[bytes]:
    return [
        rig.request(
            "PATCH",
            f"{CORE}/pods/{prefix}-{number}/status",
            {"status": status(address_of(number), ready=ready)},
            MERGE,
        )
        for number in numbers
    ]


# --- the garbage collector -------------------------------------------------------------------------------------------


async def garbage(rig: Rig, many: int) -> list[Row]:
    """Owned objects go with their owner, in the background and in the foreground."""
    path, rows = f"{CORE}/configmaps", []
    await rig.send(rig.request("POST", path, {"metadata": {"name": f"floor-{at}"}}) for at in range(many))

    async def by_hand() -> float:
        return await rig.send(rig.request("DELETE", f"{path}/floor-{at}") for at in range(many))

    async def changed() -> float:
        change = {"metadata": {"labels": {"touched": "yes"}}}
        return await rig.send(rig.request("PATCH", f"{path}/floor-{at}", change, MERGE) for at in range(many))

    touched = await rig.measured(f"floor: {many:,} objects patched by hand", many, changed())
    floor = await rig.measured(f"floor: {many:,} objects deleted by hand", many, by_hand())
    rows += [touched, floor]
    for policy in ("Background", "Foreground", "Orphan"):
        owner = await rig.client.create(CONFIGMAPS, {"metadata": {"name": "owner"}}, NAMESPACE)
        reference = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "owner",
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": True,
        }
        owned = ({"metadata": {"name": f"owned-{at}", "ownerReferences": [reference]}} for at in range(many))
        await rig.send(rig.request("POST", path, one) for one in owned)
        left, goal = {"owner", *(f"owned-{at}" for at in range(many))}, Goal()

        def seen(kind: str, obj: Obj, left: set[str] = left, goal: Goal = goal) -> None:
            orphaned = name(obj) != "owner" and not obj["metadata"].get("ownerReferences")
            if kind == "DELETED" or orphaned:
                left.discard(name(obj))
                goal.hear()

        async def collect(policy: str = policy, left: set[str] = left, goal: Goal = goal) -> float:
            began = time.perf_counter()
            await rig.client.delete(CONFIGMAPS, "owner", NAMESPACE, propagation=policy)  # type: ignore[arg-type]
            return await goal.reached(lambda: not left, f"{policy}: all gone") - began

        async with following(rig, CONFIGMAPS, seen):
            row = await rig.measured(f"{policy.lower()}: {many:,} objects of one owner", many, collect())
        row.floor = touched if policy == "Orphan" else floor
        rows.append(row)
    await rig.send(rig.request("DELETE", f"{path}/owned-{at}") for at in range(many))
    return rows


# --- endpoints -------------------------------------------------------------------------------------------------------


async def endpoints(rig: Rig, many: int) -> list[Row]:
    """A Service's slices while its pods become ready one by one, and when one of them changes."""
    for prefix in ("alone", "served"):
        pods = []
        for number in range(many):
            one = _small({"app": prefix}, schedulerName="none", nodeName=f"node-{number % NODE_COUNT:05d}")
            one["metadata"]["name"] = f"{prefix}-{number}"
            pods.append(rig.request("POST", f"{CORE}/pods", one))
        await rig.send(pods)
    service = {
        "metadata": {"name": "served"},
        "spec": {"selector": {"app": "served"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    await rig.client.create(SERVICES, service, NAMESPACE)
    states: dict[str, dict[str, bool]] = {}
    goal, pod_goal, told = Goal(), Goal(), {"alone-0": False}

    def seen(kind: str, obj: Obj) -> None:
        found = {one["targetRef"]["name"]: one["conditions"]["ready"] for one in obj.get("endpoints") or ()}
        states[name(obj)] = {} if kind == "DELETED" else found
        goal.hear()

    def pod_seen(_: str, pod: Obj) -> None:
        if name(pod) in told:
            ready = [one for one in (pod.get("status") or {}).get("conditions") or () if one["type"] == "Ready"]
            told[name(pod)] = bool(ready) and ready[0]["status"] == "True"
            pod_goal.hear()

    def ready() -> int:
        return sum(sum(one.values()) for one in states.values())

    async def one_by_one(prefix: str) -> float:
        began = time.perf_counter()
        await rig.send(_made_ready(rig, prefix, range(many)), connections=1)
        if prefix == "served":
            await goal.reached(lambda: ready() == many, "all endpoints ready")
        return time.perf_counter() - began

    async def toggled(prefix: str, is_so: Callable[[str, bool], bool], waits: Goal) -> float:
        waited = []
        for turn in range(TOGGLES):
            number, to = (turn // 2) * (many // TOGGLES) if prefix == "served" else 0, bool(turn % 2)
            (change,) = _made_ready(rig, prefix, range(number, number + 1), ready=to)
            await asyncio.sleep(0.1)
            began = time.perf_counter()
            target = f"{prefix}-{number}"

            def reached(target: str = target, to: bool = to) -> bool:
                return is_so(target, to)

            await asyncio.gather(pool.ask(change), waits.reached(reached, f"{target} is ready: {to}"))
            waited.append(waits.at - began)
        waited.sort()
        latencies.append(f"p50 {1e3 * waited[TOGGLES // 2]:.0f} ms, p99 {1e3 * waited[int(TOGGLES * 0.99)]:.0f} ms")
        return sum(waited)

    latencies: list[str] = []
    pool = load.Pool(rig.address, rig.tls)
    await pool.open(1)

    def in_slices(called: str, to: bool) -> bool:
        return any(one.get(called) is to for one in states.values())

    async with following(rig, ENDPOINTSLICES, seen), following(rig, PODS, pod_seen):
        floor = await rig.measured(f"floor: {many:,} pods ready one by one, no Service", many, one_by_one("alone"))
        row = await rig.measured(f"{many:,} pods of a Service ready one by one", many, one_by_one("served"))
        row.floor = floor
        without = toggled("alone", lambda called, to: told[called] is to, pod_goal)
        alone = await rig.measured("floor: one pod's readiness changes, no Service", TOGGLES, without)
        within = toggled("served", in_slices, goal)
        change = await rig.measured(f"one of {many:,} pods changes, slice seen", TOGGLES, within)
        change.floor = alone
    pool.close()
    for told_of, latency in zip((alone, change), latencies, strict=True):
        told_of.note = f"{latency}; {told_of.kinds()}"
    return [floor, row, alone, change]


CAPTION = (
    "seconds: until the goal was seen on a watch. CPU µs: of the server for each object; writes: changes stored for "
    "each object, with all that follows (events among it). Ratios: to the floor above it, by wall clock and by CPU."
)


@click.command()
@click.option("--replicas", default=1000, show_default=True, help="Of the Deployment, and pods of the Service.")
@click.option("--objects", default=10_000, show_default=True, help="Owned by one.")
@click.option("--only", "chosen", multiple=True, type=click.Choice(["deployment", "garbage", "endpoints"]))
def command(replicas: int, objects: int, chosen: tuple[str, ...]) -> None:
    """Measure the controllers."""
    parts: dict[str, Callable[[Rig], Awaitable[list[Row]]]] = {
        "deployment": lambda rig: deployment(rig, replicas),
        "garbage": lambda rig: garbage(rig, objects),
        "endpoints": lambda rig: endpoints(rig, replicas),
    }
    console = Console(width=max(150, Console().width))
    columns = ("what", "objects", "seconds", "objects/s", "CPU µs", "writes", "wall ratio", "CPU ratio", "of what")
    table = Table(*columns, caption=CAPTION)
    etcd = floors.etcd()
    table.add_row("floor: etcd compare-and-put", "", "", f"{etcd.rate:,.0f}")
    for part in chosen or tuple(parts):
        for row in measure(parts[part]):
            table.add_row(*row.cells())
    console.print(table)


def measure(part: Callable[[Rig], Awaitable[list[Row]]]) -> list[Row]:
    """One part on a server of its own."""
    with tempfile.TemporaryDirectory(prefix="orca-bench-") as directory:
        server = Server(directory, "--node-monitor-grace-period=24h")
        try:
            server.start()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_run(server, part))
        finally:
            server.stop()


async def _run(server: Server, part: Callable[[Rig], Awaitable[list[Row]]]) -> list[Row]:
    rig = Rig(server)
    try:
        await rig.prepare()
        return await part(rig)
    finally:
        await rig.client.aclose()
