"""What to do next for a pod: a pure decision from its object, what is known of it, and the time.

The worker calls :func:`plan` whenever anything changed, starts the actions that are not running yet, and calls again
when they end. A decision never waits for an answer; it says when it wants to be asked again (``wake_at``).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from agents.pods.containers import (
    asked_for_again,
    ended,
    init_containers,
    is_sidecar,
    main_containers,
    may_restart,
    policy_of,
    restarts_all,
    spec_of,
)
from agents.pods.decision import Decision
from agents.pods.deletion import is_deleting
from agents.pods.lifecycle import HOLDS_NOTHING, Life, move
from agents.pods.memory import Doom, Memory
from agents.pods.refusal import refusal
from agents.pods.sizes import Changes
from agents.pods.steps import Plan
from agents.pods.takedown import take_down
from agents.pods.upkeep import Upkeep
from orca.api.objects import Obj
from orca.api.podphase import is_finished
from orca.api.times import parse_time


def plan(pod: Obj, memory: Memory, now: datetime) -> Plan:
    """Decide. Raises ``IllegalMove`` on a bug."""
    return _Planner(pod, memory, now).decide()


class _Planner:
    """Which way a pod goes: up or down."""

    def __init__(self, pod: Obj, memory: Memory, now: datetime) -> None:
        self.pod = pod
        self.memory = memory
        self.doom = memory.doom
        self._decision = Decision(pod, memory, now)

    def decide(self) -> Plan:
        decision, changes = self._decision, Changes()
        self._check_refusal()
        self._check_deadline()
        if self._is_over():
            life = take_down(decision)
        else:
            upkeep = Upkeep(decision)
            life, changes = upkeep.keep_up(), upkeep.changes
        return Plan(
            life=move(self.memory.life, life),
            actions=tuple(decision.actions),
            wake_at=decision.wake_at,
            waiting=decision.waiting,
            doom=self.doom,
            changes=changes,
        )

    def _check_refusal(self) -> None:
        begun = is_finished(self.pod) or self.memory.everything() or self.memory.in_flight
        if self.doom is None and not begun and not is_deleting(self.pod, self.memory):
            self.doom = self.memory.refused or refusal(self.pod)

    def _check_deadline(self) -> None:
        seconds = spec_of(self.pod).get("activeDeadlineSeconds")
        started = (self.pod.get("status") or {}).get("startTime")
        began = parse_time(started) + self.memory.start_moved if started else self.memory.first_seen
        if seconds is None or began is None or self.memory.life in HOLDS_NOTHING:
            return
        end = began + timedelta(seconds=seconds)
        if self._decision.now < end:
            self._decision.wake(end)
        elif self.doom is None:
            self.doom = Doom("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")

    def _is_over(self) -> bool:
        if is_deleting(self.pod, self.memory) or self.doom is not None or is_finished(self.pod):
            return True
        if self.memory.life is Life.STOPPING or self.memory.life in HOLDS_NOTHING:
            return True
        return self._work_is_done()

    def _work_is_done(self) -> bool:
        """No main container runs or will; or an init container failed for good."""
        if restarts_all(self.pod, self.memory):
            return False
        for container in init_containers(self.pod):
            info = self.memory.newest(container["name"])
            end = ended(info) if info is not None else None
            if (
                end is not None
                and not is_sidecar(container)
                and end.exit_code != 0
                and not may_restart(container, policy_of(self.pod, container, init=True), end)
                and not self._decision.busy(container)
            ):
                return True
        for container in main_containers(self.pod):
            info = self.memory.newest(container["name"])
            end = ended(info) if info is not None else None
            if info is None or end is None or self._decision.busy(container) or asked_for_again(info, self.memory):
                return False
            if may_restart(container, policy_of(self.pod, container, init=False), end):
                return False
        return bool(main_containers(self.pod))
