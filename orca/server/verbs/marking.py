"""What our own scheduler says of pods, and does to those that make way for others.

What is stored is complete and valid, and what is added to it is ours. So the new object is built from the parts of the
old one, and only what admission changes of it is judged as a client's would be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from orca.api import strategy
from orca.api.builtin import PODS
from orca.api.errors import ApiError, conflict, invalid, is_conflict
from orca.api.objects import Obj, meta
from orca.server.options import DeleteOptions
from orca.server.verbs import ownership
from orca.server.verbs.core import Call, Core
from orca.server.verbs.deleting import check, delete, marked
from orca.server.verbs.telling import told
from orca.store import Also, Entry, Raced

_ATTEMPTS = 64


async def mark(core: Core, call: Call, pod: Obj, condition: Obj, nominated: str | None, event: Obj | None) -> bool:
    """Set a condition of the pod with that name, namespace and uid, and with ``nominated`` the node that it waits for
    ("": none): what a patch of its status would do. An ``event`` that tells of it, which becomes ours, is written in
    the same transaction if that can be done at once. Answers whether it was. Raises ApiError 404, 409 for another uid.

    A pod that has its node by now is not marked any more as one that has none."""

    async def change(current: Entry, also: Sequence[Also]) -> None:
        old = current.obj
        if condition["type"] != "PodScheduled" or not (old.get("spec") or {}).get("nodeName"):
            new = _with(old, condition, nominated)
            ownership.updated(core, call, PODS, new, old, "status")
            new = await _admitted(core, call, current, new)
            if new["status"] != old.get("status"):
                await core.replace(PODS, current, new, also)
                return
        # Said already, or the pod has its node by now: nothing to write the event with.
        for one in also:
            raise Raced(one)

    return await _telling(core, call, pod, event, change)


async def disrupt(core: Core, call: Call, pod: Obj, condition: Obj, event: Obj | None) -> bool:
    """Set a condition of the pod with that name, namespace and uid that says why it has to go, and delete it: at once
    where nobody outside has a say about either. An ``event`` that tells of it, which becomes ours, is written in the
    same transaction if that can be done. Answers whether it was. Raises ApiError 404, 409 for another uid."""
    space, pod_name = pod["namespace"], pod["name"]
    options = DeleteOptions(uid=pod["uid"])
    stored = core.store.peek(PODS, space, pod_name)
    ways = (
        core.attributes(call, "UPDATE", PODS, space, pod_name, stored, stored, subresource="status"),
        core.attributes(call, "DELETE", PODS, space, pod_name, None, stored, options=options.to_api()),
    )
    if any(core.admission.asks_others(one) for one in ways):
        await mark(core, call, pod, condition, None, None)
        await delete(core, call, PODS, space, pod_name, options)
        return False
    return await _telling(
        core, call, pod, event, lambda current, also: _end(core, call, current, condition, options, also)
    )


Change = Callable[[Entry, Sequence[Also]], Awaitable[None]]
"""(pod as it is, what is to be written with it) writes another state. Raises ApiError 409 when it is not so now."""


async def _telling(core: Core, call: Call, pod: Obj, event: Obj | None, change: Change) -> bool:
    """Change a pod, together with an event if that can be done; whether it was."""
    space, pod_name = pod["namespace"], pod["name"]
    same = DeleteOptions(uid=pod["uid"])

    async def write(also: Sequence[Also]) -> None:
        for attempt in range(_ATTEMPTS):
            current = await _lately(core, pod) if not attempt else None
            if current is None:
                current = await core.read(PODS, space, pod_name)
                check(PODS, pod_name, current.obj, same)
            try:
                await change(current, also)
                return
            except ApiError as error:
                if not is_conflict(error) or isinstance(error, Raced):
                    raise
            await asyncio.sleep(0.001 * min(attempt, 10))
        raise conflict(PODS, pod_name)

    if event is not None and await told(core, call, space, event, write):
        return True
    await write(())
    return False


async def _lately(core: Core, pod: Obj) -> Entry | None:
    """The pod as the cache shows it, without waiting for what was written meanwhile: whoever asks has seen it. Should
    it be out of date, what is made of it is not written."""
    try:
        found = await core.store.get(PODS, pod["namespace"], pod["name"], fresh=False)
    except ApiError:
        return None
    return found if meta(found.obj)["uid"] == pod["uid"] else None


async def _end(
    core: Core, call: Call, current: Entry, condition: Obj, options: DeleteOptions, also: Sequence[Also]
) -> None:
    """Write the end of a pod as it is, on the condition that it still is so."""
    goes = marked(core, PODS, {**current.obj, "metadata": dict(meta(current.obj))}, options) is None
    new = _with(current.obj, condition, None)
    if not goes:  # of what is gone in a moment nobody asks who wrote what
        ownership.updated(core, call, PODS, new, current.obj, "status")
    new = await _admitted(core, call, current, new)
    attributes = core.attributes(
        call, "DELETE", PODS, current.namespace, current.name, None, new, options=options.to_api()
    )
    await core.admission.admit(attributes)
    await core.admission.validate(attributes)
    last = None if goes else marked(core, PODS, {**new, "metadata": dict(meta(new))}, options)
    if last is None:
        await core.remove(PODS, current, last=new, also=also)
    else:
        await core.replace(PODS, current, last, also)


def _with(old: Obj, condition: Obj, nominated: str | None) -> Obj:
    """``old``, which is frozen, with the condition; it shares the other parts."""
    status = dict(old.get("status") or {})
    generation = meta(old).get("generation")
    if generation:
        # What does not say of which generation it is, is of the one that is there.
        condition = {"observedGeneration": generation, **condition}
    conditions = list(status.get("conditions") or ())
    for at, known in enumerate(conditions):
        if known.get("type") == condition["type"]:
            conditions[at] = {**known, **condition}
            break
    else:
        conditions.append(dict(condition))
    status["conditions"] = conditions
    if nominated:
        status["nominatedNodeName"] = nominated
    elif nominated is not None:
        status.pop("nominatedNodeName", None)
    return {**old, "metadata": dict(meta(old)), "status": status}


async def _admitted(core: Core, call: Call, current: Entry, new: Obj) -> Obj:
    """``new`` as admission leaves it. Raises ApiError 403, 422."""
    old = current.obj
    attributes = core.attributes(call, "UPDATE", PODS, current.namespace, current.name, new, old, subresource="status")
    await core.admission.admit(attributes)
    if attributes.obj is not None and attributes.obj is not new:
        changed = attributes.obj
        ownership.guard(call, new, changed)
        strategy.prepare_update(PODS, changed, old, "status")
        problems = strategy.validate_update(PODS, changed, old, "status")
        if problems:
            raise invalid(PODS, current.name, problems)
        new = changed
    await core.admission.validate(attributes)
    return new
