"""The scheduler's decision loop alone: CPU µs a pod, without API, etcd and watches.

One snapshot of simulated nodes, one pod after the other decided about and placed, as `Scheduler` does it.
"""

from __future__ import annotations

import time

from orca.api.objects import Obj
from orca.scheduler.decision import decide
from orca.scheduler.filters import Task
from orca.scheduler.preemption import Answers, find
from orca.scheduler.snapshot import Snapshot
from tests.bench import workloads


def decision_us(workload: workloads.Workload, nodes: int, pods: int) -> float:
    """CPU µs a pod of a workload, its node found and the pod counted there; of one that fits nowhere, where the
    workload has such."""
    snapshot = Snapshot()
    for number in range(nodes):
        snapshot.set_node(workloads.node(number))
    for number, (there, where) in enumerate(workload.before(nodes)):
        snapshot.place(_made(there, f"before-{number}"), where)
    make = workload.hopeless or workload.pod
    wanted = [_made(make(number), f"pod-{number}") for number in range(pods)]
    answers: Answers = {}
    began = time.process_time()
    for turn, pod in enumerate(wanted):
        task = Task.of(pod)
        decision = decide(task, snapshot, turn)
        node = decision.node
        if not node:
            preemption = find(task, snapshot, decision, lambda _: set(), turn=turn, answers=answers)
            for victim in preemption.victims:
                snapshot.remove(victim.uid)
            node = preemption.node
        if node:
            snapshot.place(pod, node)
    return 1e6 * (time.process_time() - began) / pods


def _made(pod: Obj, name: str) -> Obj:
    metadata = {"namespace": workloads.NAMESPACE, **pod["metadata"], "name": name, "uid": name}
    return {**pod, "metadata": metadata}
