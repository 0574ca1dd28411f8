"""Telling people what happened: Events, without ever slowing down or failing the work they tell about.

As client-go's correlator does (facts from k8s.io/client-go tools/record): an event that repeats becomes one object
whose `count` grows; more than ten different messages of one reason on one object within ten minutes are combined into
one; a source that keeps talking about one object is held to a burst of 25 and then one event every five minutes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from orca.api.builtin import EVENTS
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, meta, name, namespace, uid
from orca.api.times import format_time
from orca.client.base import Client
from orca.client.clock import Clock, SystemClock

log = structlog.get_logger()

COMBINE_AFTER = 10
COMBINE_WITHIN = 600.0
COMBINED = "(combined from similar events): "
SPAM_BURST = 25
SPAM_REFILL_SECONDS = 300.0
REMEMBERED = 4096
QUEUED = 10_000
SENDERS = 4
ATTEMPTS = 5
YIELDS_SECONDS = 20.0
YIELD_STEP = 0.2

Identity = tuple[str, ...]


@dataclass(slots=True)
class _Seen:
    """The stored event that repetitions are counted on."""

    name: str
    count: int = 0
    first: str = ""
    created: bool = False


@dataclass(slots=True)
class Telling:
    """``event`` is to be written by whoever asked, unless None; ``done`` is theirs to say that it was."""

    event: Obj | None
    done: bool = False


@dataclass(slots=True)
class _Tokens:
    left: float = SPAM_BURST
    at: float = 0.0


@dataclass(slots=True)
class _Similar:
    messages: set[str] = field(default_factory=set)
    at: float = 0.0


class _Recent(OrderedDict[Identity, Any]):
    """So many entries; the least recently used goes first."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def touch(self, identity: Identity, fresh: Any) -> Any:
        if identity in self:
            self.move_to_end(identity)
        else:
            self[identity] = fresh
            if len(self) > self._most:
                self.popitem(last=False)
        return self[identity]


class EventRecorder:
    """Records events of one component. `event` never waits and never raises; sending goes on in the background.

    What has not been sent yet and happens again is only counted: a slow server means fewer writes, not a longer queue.
    When too many different events are waiting the newest is dropped: events are best effort.
    """

    def __init__(
        self,
        client: Client,
        component: str,
        host: str = "",
        *,
        clock: Clock | None = None,
        qps: float = 0.0,
        burst: int = 1,
        remembered: int = REMEMBERED,
    ) -> None:
        """At most ``burst`` events are sent at once and ``qps`` a second then; 0 for no such limit. Of so many
        different events as ``remembered`` says repetitions are known; one takes about 2 KB."""
        self._client = client
        self._component = component
        self._host = host
        self._clock = clock or SystemClock()
        self._qps = qps
        self._burst = max(burst, 1)
        self._budget = _Tokens(float(self._burst))
        self._seen = _Recent(remembered)
        self._similar = _Recent(remembered)
        self._tokens = _Recent(remembered)
        self._unsent: OrderedDict[str, tuple[_Seen, Obj, float]] = OrderedDict()
        self._busy: set[str] = set()
        self._senders: set[asyncio.Task[None]] = set()
        self._in_the_way: Callable[[], bool] = lambda: False
        self._waiting = False

    def yield_to(self, busy: Callable[[], bool]) -> None:
        """While ``busy`` says so a Normal event may be sent up to `YIELDS_SECONDS` late: what it tells of goes first.
        For what a warning tells of somebody waits: it is sent at once."""
        self._in_the_way = busy

    def event(
        self,
        obj: Obj,
        kind: str,
        reason: str,
        message: str,
        *,
        field_path: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Tells that `reason` happened to `obj`. `kind` is Normal or Warning; `field_path` names a part of the object,
        as in "spec.containers{nginx}"; `annotations` are the event's. Must be called inside the event loop."""
        found = self._identified(obj, kind, reason, message, field_path)
        if found is not None:
            self._enqueue(*found, kind, reason, annotations or {})

    @contextmanager
    def telling(self, obj: Obj, kind: str, reason: str, message: str) -> Iterator[Telling]:
        """As `event`, for whoever can write it together with what it tells of: what is told for the first time is in
        ``event`` and is theirs to write, and sent by us if they did not get to it. Must be called inside the loop."""
        found = self._identified(obj, kind, reason, message, "")
        if found is None:
            yield Telling(None)
            return
        seen: _Seen = self._seen.touch(found[0], _Seen(self._name(found[1], self._clock.now())))
        if seen.count:
            self._enqueue(*found, kind, reason, {})
            yield Telling(None)
            return
        stamp = format_time(self._clock.now())
        seen.count, seen.first = 1, stamp
        telling = Telling(self._composed(seen, found[1], kind, reason, found[2], stamp))
        self._busy.add(seen.name)
        try:
            yield telling
        finally:
            self._busy.discard(seen.name)
            seen.created = telling.done
            if not telling.done and seen.name not in self._unsent:
                again = self._composed(seen, found[1], kind, reason, found[2], stamp)
                self._unsent[seen.name] = (seen, again, self._clock.monotonic())
            if self._unsent:
                self._send()

    def _identified(
        self, obj: Obj, kind: str, reason: str, message: str, field_path: str
    ) -> tuple[Identity, Obj, str] | None:
        """What counts as the same event, whom it is about and its message; None for one too many."""
        reference = _reference(obj, field_path)
        about = tuple(str(reference.get(part, "")) for part in ("kind", "namespace", "name", "uid"))
        if not self._allowed(about):
            return None
        about = (*about, field_path)
        message = message[:1024]
        similar: _Similar = self._similar.touch((*about, kind, reason), _Similar())
        elapsed = self._clock.monotonic()
        if elapsed - similar.at > COMBINE_WITHIN:
            similar.messages.clear()
        similar.at = elapsed
        similar.messages.add(message)
        identity: Identity = (*about, kind, reason, message)
        if len(similar.messages) > COMBINE_AFTER:
            similar.messages = set(list(similar.messages)[:COMBINE_AFTER])
            message = COMBINED + message
            identity = (*about, kind, reason, COMBINED)
        return identity, reference, message

    def _allowed(self, identity: Identity) -> bool:
        tokens: _Tokens = self._tokens.touch(identity, _Tokens(at=self._clock.monotonic()))
        elapsed = self._clock.monotonic()
        tokens.left = min(SPAM_BURST, tokens.left + (elapsed - tokens.at) / SPAM_REFILL_SECONDS)
        tokens.at = elapsed
        if tokens.left < 1:
            return False
        tokens.left -= 1
        return True

    def _enqueue(
        self,
        identity: Identity,
        reference: Obj,
        message: str,
        kind: str,
        reason: str,
        annotations: Mapping[str, str],
    ) -> None:
        if len(self._unsent) >= QUEUED:
            log.warning("event dropped, too many are waiting", reason=reason, message=message)
            return
        moment = self._clock.now()
        stamp = format_time(moment)
        seen: _Seen = self._seen.touch(identity, _Seen(self._name(reference, moment)))
        seen.count += 1
        seen.first = seen.first or stamp
        event = self._composed(seen, reference, kind, reason, message, stamp)
        if annotations:
            event["metadata"]["annotations"] = dict(annotations)
        self._unsent[seen.name] = (seen, event, self._clock.monotonic())
        self._send()

    def _send(self) -> None:
        if self._unsent and len(self._senders) < SENDERS:
            # What was done is to be told whoever leads by now, so not under the conditions of the work that did it.
            sender = asyncio.get_running_loop().create_task(self._send_all(), context=Context())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)

    def new(self, obj: Obj, kind: str, reason: str, message: str) -> Obj:
        """An event about what happens to ``obj`` only once, for whoever writes it together with what it tells of:
        neither sent nor remembered here."""
        moment, reference = self._clock.now(), _reference(obj, "")
        stamp = format_time(moment)
        seen = _Seen(self._name(reference, moment), 1, stamp)
        return self._composed(seen, reference, kind, reason, message[:1024], stamp)

    def _name(self, reference: Obj, moment: datetime) -> str:
        return f"{reference['name']}.{int(moment.timestamp() * 1e6) * 1000 + len(self._seen) % 1000:x}"

    def _composed(self, seen: _Seen, reference: Obj, kind: str, reason: str, message: str, stamp: str) -> Obj:
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": seen.name, "namespace": reference.get("namespace") or "default"},
            "involvedObject": reference,
            "reason": reason,
            "message": message,
            "source": {"component": self._component, **({"host": self._host} if self._host else {})},
            "firstTimestamp": seen.first,
            "lastTimestamp": stamp,
            "count": seen.count,
            "type": kind,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }

    async def flush(self) -> None:
        """Returns when everything recorded so far has been sent or dropped."""
        while self._senders:
            await asyncio.wait(set(self._senders))

    def _free(self) -> Iterator[str]:
        """Events whose stored object nobody is writing, the oldest first."""
        return (event_name for event_name in self._unsent if event_name not in self._busy)

    def _next(self) -> tuple[_Seen, Obj] | None:
        """The event to send now."""
        yields, now = self._in_the_way(), self._clock.monotonic()
        for event_name in self._free():
            seen, event, told_at = self._unsent[event_name]
            if not yields or event["type"] != "Normal" or now - told_at >= YIELDS_SECONDS:
                del self._unsent[event_name]
                return seen, event
        return None

    async def _send_all(self) -> None:
        while next(self._free(), None) is not None:
            found = self._next()
            if found is None:
                if self._waiting:
                    return  # one sender is enough to wait
                self._waiting = True
                try:
                    await self._clock.sleep(YIELD_STEP)
                finally:
                    self._waiting = False
                continue
            seen, event = found
            self._send()  # and others beside, where there is more
            self._busy.add(seen.name)
            try:
                await self._wait_for_turn()
                await self._try_to_send(seen, event)
            finally:
                self._busy.discard(seen.name)

    async def _wait_for_turn(self) -> None:
        if not self._qps:
            return
        now, budget = self._clock.monotonic(), self._budget
        budget.left = min(self._burst, budget.left + (now - budget.at) * self._qps)
        budget.at = now
        budget.left -= 1
        if budget.left < 0:
            await self._clock.sleep(-budget.left / self._qps)

    async def _try_to_send(self, seen: _Seen, event: Obj) -> None:
        for attempt in range(ATTEMPTS):
            try:
                await self._write(seen, event)
                return
            except ApiError as error:
                if error.code not in (429, 500, 503, 504):
                    # Refused for good, e.g. the namespace is being deleted.
                    log.debug("event refused", reason=event["reason"], error=str(error))
                    return
                await self._clock.sleep(min(0.5 * 2**attempt, 10))
        log.warning("event lost, the server cannot be reached", reason=event["reason"])

    async def _write(self, seen: _Seen, event: Obj) -> None:
        space = event["metadata"]["namespace"]
        if seen.created:
            counted = {part: event[part] for part in ("count", "lastTimestamp", "message")}
            try:
                await self._client.patch(EVENTS, seen.name, counted, space, kind="merge")
            except ApiError as error:
                if not is_not_found(error):
                    raise
                # It lived out its hour: tell it anew.
                seen.created = False
            else:
                return
        await self._client.create(EVENTS, event, space)
        seen.created = True


def _reference(obj: Obj, field_path: str) -> Obj:
    """ObjectReference of `obj`; an object that already is one (no metadata) is taken as it is."""
    if "metadata" not in obj:
        found = {part: obj.get(part, "") for part in ("kind", "namespace", "name", "uid", "apiVersion")}
    else:
        found = {
            "kind": obj.get("kind", ""),
            "namespace": namespace(obj),
            "name": name(obj),
            "uid": uid(obj),
            "apiVersion": obj.get("apiVersion", ""),
        }
        version = meta(obj).get("resourceVersion")
        if version:
            found["resourceVersion"] = version
    if field_path:
        found["fieldPath"] = field_path
    return {part: value for part, value in found.items() if value}
