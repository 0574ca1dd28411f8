"""Keeps the configuration and its objects in step: defaults stored, changes taken over, dangling references told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import structlog

from orca.api import objects
from orca.api.builtin import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS
from orca.api.errors import ApiError, is_already_exists, is_conflict, is_not_found
from orca.api.objects import Obj, meta, name, thaw
from orca.api.resources import Resource
from orca.api.times import format_time
from orca.client.base import Client
from orca.client.clock import Clock
from orca.server.fairness.defaults import AUTO_UPDATE, CATCH_ALL, EXEMPT, MANDATORY, SUGGESTED
from orca.server.fairness.fairness import Fairness
from orca.store import Store

log = structlog.get_logger()

ENSURE_SECONDS = 60.0
_RETRY_SECONDS = 1.0


class Upkeep:
    """``run`` until cancelled, after ``ensure`` at the start."""

    def __init__(self, fairness: Fairness, store: Store, client: Client, clock: Clock) -> None:
        self._fairness = fairness
        self._store = store
        self._client = client
        self._clock = clock

    async def run(self) -> None:
        """Follow both kinds, and look after the defaults every minute."""
        await asyncio.gather(
            self._follow(FLOWSCHEMAS),
            self._follow(PRIORITYLEVELCONFIGURATIONS),
            self._ensure_for_ever(),
            self._fairness.keep_borrowing(),
        )

    def load(self) -> None:
        """Take over what is stored."""
        self._fairness.configure(self._store.peek_list(FLOWSCHEMAS), self._store.peek_list(PRIORITYLEVELCONFIGURATIONS))

    async def _follow(self, resource: Resource) -> None:
        while True:
            watch = self._store.watch(resource)
            try:
                while await watch.batch():
                    self.load()
                    await self._tell_dangling()
            except ApiError as error:
                log.warning("following priority and fairness objects was interrupted", error=error.message)
            finally:
                await watch.aclose()
            await self._clock.sleep(_RETRY_SECONDS)

    async def _ensure_for_ever(self) -> None:
        while True:
            await self._clock.sleep(ENSURE_SECONDS)
            try:
                await self.ensure()
            except ApiError as error:
                log.warning("priority and fairness objects could not be looked after", error=error.message)

    async def ensure(self) -> None:
        """Mandatory objects are as they must be, suggested ones as suggested unless somebody took them over; those
        that were suggested once and are no more go. Raises ApiError."""
        known: set[tuple[str, str]] = set()
        for suggested, defaults in ((False, MANDATORY), (True, SUGGESTED)):
            for resource, obj in defaults:
                known.add((resource.plural, name(obj)))
                await self._keep(resource, obj, suggested)
        for resource in (FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS):
            for held in self._store.peek_list(resource):
                if objects.annotations(held).get(AUTO_UPDATE) == "true" and (resource.plural, name(held)) not in known:
                    with contextlib.suppress(ApiError):
                        await self._client.delete(resource, name(held), uid=meta(held)["uid"])

    async def _keep(self, resource: Resource, wanted: Obj, suggested: bool) -> None:
        held = self._store.peek(resource, "", name(wanted))
        if held is None:
            made = thaw(wanted)
            made["metadata"]["annotations"] = {AUTO_UPDATE: "true"}
            try:
                await self._client.create(resource, made)
            except ApiError as error:
                if not is_already_exists(error):
                    raise
            return
        mark = objects.annotations(held).get(AUTO_UPDATE)
        if suggested:
            # Without the mark, an object nobody has changed is taken to be ours.
            ours = mark == "true" if mark in ("true", "false") else meta(held).get("generation") == 1
            right = "true" if ours else "false"
        else:
            ours, right = True, "true"
        spec = wanted["spec"]
        if not suggested and name(wanted) == EXEMPT and "exempt" in held["spec"] and "exempt" in spec:
            spec = {**spec, "exempt": held["spec"]["exempt"]}  # the only part people may change
        if mark == right and (not ours or _same(held["spec"], spec)):
            return
        changed = thaw(held)
        changed["metadata"].setdefault("annotations", {})[AUTO_UPDATE] = right
        if ours:
            changed["spec"] = thaw(spec)
        try:
            await self._client.update(resource, changed)
        except ApiError as error:
            if not is_conflict(error) and not is_not_found(error):
                raise

    async def _tell_dangling(self) -> None:
        levels = {name(obj) for obj in self._store.peek_list(PRIORITYLEVELCONFIGURATIONS)} | {EXEMPT, CATCH_ALL}
        for schema in self._store.peek_list(FLOWSCHEMAS):
            level = schema["spec"]["priorityLevelConfiguration"]["name"]
            said = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
            if level in levels:
                state, reason, message = "False", "Found", f"{said} and it exists"
            else:
                state, reason, message = "True", "NotFound", f"{said} but there is no such object"
            conditions = (schema.get("status") or {}).get("conditions") or []
            before: Obj = next((one for one in conditions if one.get("type") == "Dangling"), {})
            if before.get("status") == state and before.get("message") == message:
                continue
            condition: Obj = {"type": "Dangling", "status": state, "reason": reason, "message": message}
            same = before.get("status") == state
            condition["lastTransitionTime"] = (same and before.get("lastTransitionTime")) or format_time(
                self._clock.now()
            )
            changed = thaw(schema)
            others = [one for one in conditions if one.get("type") != "Dangling"]
            changed["status"] = {**(schema.get("status") or {}), "conditions": [*others, condition]}
            try:
                await self._client.update(FLOWSCHEMAS, changed, subresource="status")
            except ApiError as error:
                # Somebody was faster; their event brings us here again.
                if not is_conflict(error) and not is_not_found(error):
                    log.warning(
                        "the status of a FlowSchema could not be written", name=name(schema), error=error.message
                    )


def _same(held: Any, wanted: Any) -> bool:
    """Whether all that is wanted is so, whatever defaults were added."""
    if isinstance(wanted, dict):
        return isinstance(held, dict) and all(_same(held.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(held, list) and len(held) == len(wanted) and all(map(_same, held, wanted))
    return held == wanted
