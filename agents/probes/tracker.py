"""When a probe is due and what its results add up to. Pure: time is passed in.

Facts from the kubelet's prober: the first try is ``initialDelaySeconds`` after the container started, then every
``periodSeconds``; the verdict changes after ``successThreshold`` or ``failureThreshold`` equal results in a row; a
liveness or startup verdict of failure is final for that container.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orca.api.objects import Obj

Kind = Literal["startup", "liveness", "readiness"]
KINDS: tuple[Kind, ...] = ("startup", "liveness", "readiness")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """A probe of a container with upstream's defaults; times in seconds."""

    kind: Kind
    handler: Obj
    initial_delay: float
    period: float
    timeout: float
    successes: int
    failures: int


def probe_specs(container: Obj) -> dict[Kind, ProbeSpec]:
    """The probes a container has."""
    found: dict[Kind, ProbeSpec] = {}
    for kind in KINDS:
        raw = container.get(f"{kind}Probe")
        if raw:
            found[kind] = ProbeSpec(
                kind=kind,
                handler={name: raw[name] for name in _HANDLERS if raw.get(name) is not None},
                initial_delay=float(raw.get("initialDelaySeconds") or 0),
                period=float(raw.get("periodSeconds") or 10),
                timeout=float(raw.get("timeoutSeconds") or 1),
                successes=int(raw.get("successThreshold") or 1),
                failures=int(raw.get("failureThreshold") or 3),
            )
    return found


@dataclass(slots=True)
class Tracker:
    """Verdict of one probe of one container: None until there is one."""

    spec: ProbeSpec
    verdict: bool | None = None
    _last: bool | None = None
    _run: int = 0

    def feed(self, ok: bool) -> bool:
        """Take in a result; True when the verdict changed."""
        self._run = self._run + 1 if ok is self._last else 1
        self._last = ok
        if self._run < (self.spec.successes if ok else self.spec.failures):
            return False
        changed = self.verdict is not ok
        self.verdict = ok
        return changed

    @property
    def over(self) -> bool:
        """Nothing more to ask: a startup probe that has a verdict, a liveness probe that failed."""
        if self.spec.kind == "startup":
            return self.verdict is not None
        return self.spec.kind == "liveness" and self.verdict is False
