"""Writes the ControllerRevisions of a DaemonSet or StatefulSet; what they hold is in :mod:`controllerrevisions`."""

from collections.abc import Sequence

from orca.api.errors import ApiError, is_already_exists
from orca.api.objects import Obj, controller_of, uid
from orca.controllers.cache import Cache
from orca.controllers.controllerrevisions import same


class RevisionHistory:
    """The revisions of one kind's objects. ``blank`` has the required fields of a status that nobody wrote yet."""

    def __init__(self, owners: Cache, revisions: Cache, blank: Obj) -> None:
        self._owners, self._revisions, self._blank = owners, revisions, blank

    async def keep(self, owner: Obj, revision: Obj, *, changed: bool) -> Obj | None:
        """The revision of the present template, written when it has to be; None: its name is taken, look again."""
        if not changed:
            return revision
        if uid(revision):
            return await self._revisions.update(revision)
        try:
            return await self._revisions.create(revision)
        except ApiError as error:
            if not is_already_exists(error):
                raise
        found = await self._revisions.fetch(revision)
        controller = controller_of(found)
        if same(found, revision) and (controller is None or controller["uid"] == uid(owner)):
            return None  # written by a look whose answer was lost, or about to be adopted: the watch will show it
        status = owner.get("status") or {}
        collisions = (status.get("collisionCount") or 0) + 1
        await self._owners.update_status(owner, {**self._blank, **status, "collisionCount": collisions})
        return None

    async def delete(self, surplus: Sequence[Obj]) -> None:
        """Forget revisions."""
        for revision in surplus:
            await self._revisions.delete(revision)
