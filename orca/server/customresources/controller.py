"""What every server does about definitions: give them names, establish them, empty those that are being deleted.

Each step is a compare-and-put on what was seen, so servers that do the same at once do no harm.
Reference: k8s.io/apiextensions-apiserver ``pkg/controller/{status,establish,finalizer}``.
"""

from __future__ import annotations

import asyncio

import structlog

from orca.api.builtin import CUSTOMRESOURCEDEFINITIONS
from orca.api.customresources import naming
from orca.api.customresources.rows import stored_row
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj, finalizers, is_terminating, meta
from orca.api.resources import Resource
from orca.api.times import format_time
from orca.client.base import Client
from orca.client.clock import Clock
from orca.server.customresources.registry import CustomKinds
from orca.store import Store

log = structlog.get_logger()

LOOK_AGAIN = 1.0
"""Seconds between looks at objects that are still going away."""
RETRY = (0.05, 5.0)
"""Seconds after a failed step: the first time, and at most."""


class DefinitionController:
    """``notice`` is told of every changed definition; ``run`` works until cancelled."""

    def __init__(self, store: Store, kinds: CustomKinds, client: Client, clock: Clock) -> None:
        self._store = store
        self._kinds = kinds
        self._client = client
        self._clock = clock
        self._due: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, int] = {}

    def notice(self, name: str) -> None:
        """A definition changed or went."""
        self._due[name] = None
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._due:
                    name = next(iter(self._due))
                    del self._due[name]
                    await self._step(name)
        finally:
            for task in self._tasks.values():
                task.cancel()

    async def _step(self, name: str) -> None:
        try:
            await self._settle(name)
            self._failures.pop(name, None)
        except ApiError as error:
            if is_not_found(error):
                return
            # Somebody was faster, or the store is away: look again, with growing pauses.
            log.debug("a CustomResourceDefinition could not be settled", name=name, error=error.message)
            self._again(name)
        except Exception:
            # Whatever one definition holds, the others are to be settled.
            log.exception("a CustomResourceDefinition could not be settled", name=name)
            self._again(name)

    def _again(self, name: str) -> None:
        failures = self._failures[name] = min(self._failures.get(name, 0) + 1, 16)
        pause = min(RETRY[0] * 2.0**failures, RETRY[1])
        asyncio.get_running_loop().call_later(pause, self.notice, name)

    async def _settle(self, name: str) -> None:
        head = self._kinds.head(name)
        if head is None:
            self._failures.pop(name, None)
            # Names it held are free for others of its group.
            self._notice_refused(name.partition(".")[2])
            return
        if is_terminating(head):
            if naming.FINALIZER in finalizers(head) and name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._empty_until_done(name))
            return
        others = self._kinds.of_group(head["spec"]["group"])
        status = naming.settle(head, others, format_time(self._clock.now()))
        if status is not None:
            await self._write(head, status)

    def _notice_refused(self, group: str) -> None:
        for one in self._kinds.of_group(group):
            accepted = naming.find_condition(one["status"], "NamesAccepted")
            if accepted is not None and accepted.get("status") != "True":
                self.notice(meta(one)["name"])

    async def _write(self, head: Obj, status: Obj) -> Obj:
        fields = meta(head)
        before = (head.get("status") or {}).get("acceptedNames") or {}
        names = {**dict.fromkeys(before), **(status.get("acceptedNames") or {})}  # a merge patch removes by null
        change = {
            "metadata": {"resourceVersion": fields["resourceVersion"]},
            "status": {**status, "acceptedNames": names},
        }
        return await self._client.patch(
            CUSTOMRESOURCEDEFINITIONS, fields["name"], change, kind="merge", subresource="status"
        )

    # -- the end of a definition

    async def _empty_until_done(self, name: str) -> None:
        pause = RETRY[0]
        try:
            while True:
                try:
                    if await self._empty(name):
                        return
                    pause = LOOK_AGAIN
                except ApiError as error:
                    if is_not_found(error):
                        return
                    log.info("objects of a CustomResourceDefinition remain", name=name, error=error.message)
                    pause = min(pause * 2, RETRY[1])
                except Exception:
                    # Else the definition, and its namespaces, would be going for ever.
                    log.exception("objects of a CustomResourceDefinition could not be deleted", name=name)
                    pause = RETRY[1]
                await self._clock.sleep(pause)
        finally:
            del self._tasks[name]

    async def _empty(self, name: str) -> bool:
        """Delete what there is; whether nothing is left and the definition went."""
        obj = await self._client.get(CUSTOMRESOURCEDEFINITIONS, name)
        if naming.FINALIZER not in finalizers(obj):
            return True
        row = stored_row(obj)
        if await self._client_list(row):
            text = "CustomResource deletion is in progress"
            obj = await self._tell(obj, "True", "InstanceDeletionInProgress", text)
            try:
                await self._delete_all(row)
            except ApiError as error:
                await self._tell(obj, "True", "InstanceDeletionFailed", f"could not delete instances: {error.message}")
                raise
            left = await self._client_list(row)
            if left:
                text = f"could not confirm zero CustomResources remaining: {len(left)} remaining"
                await self._tell(obj, "True", "InstanceDeletionCheck", text)
                return False
        obj = await self._tell(obj, "False", "InstanceDeletionCompleted", "removed all instances")
        rest = [one for one in finalizers(obj) if one != naming.FINALIZER]
        change = {"metadata": {"resourceVersion": meta(obj)["resourceVersion"], "finalizers": rest or None}}
        await self._client.patch(CUSTOMRESOURCEDEFINITIONS, name, change, kind="merge")
        return True

    async def _client_list(self, row: Resource) -> list[tuple[str, str]]:
        """Namespace and name of all objects; they need not be converted for that."""
        page = await self._store.list(row)
        return [(entry.namespace, entry.name) for entry in page.entries]

    async def _delete_all(self, row: Resource) -> None:
        for space, name in await self._client_list(row):
            try:
                await self._client.delete(row, name, space)
            except ApiError as error:
                if not is_not_found(error):
                    raise

    async def _tell(self, obj: Obj, status: str, reason: str, message: str) -> Obj:
        now = format_time(self._clock.now())
        made = naming.terminating(obj, now, status, reason, message)
        return await self._write(obj, made) if made != obj.get("status") else obj
