"""Who controls whom: adopting children that match a selector, releasing those that no longer do.

`decide` is pure; `claim` carries it out and answers the children that are now controlled.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from orca.api.errors import ApiError, conflict, is_not_found
from orca.api.objects import Obj, controller_of, finalizers, is_terminating, labels, name, uid
from orca.api.resources import Resource
from orca.api.selectors import Selector
from orca.controllers.cache import Cache
from orca.controllers.harness import gather_all, raise_first


@dataclass(frozen=True, slots=True)
class Claims:
    """What to do with the candidates of one owner."""

    owned: list[Obj]
    adopt: list[Obj]
    release: list[Obj]


def owner_reference(resource: Resource, owner: Obj) -> Obj:
    """The reference by which `owner` controls a child."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": name(owner),
        "uid": uid(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def decide(
    owner: Obj, candidates: Iterable[Obj], selector: Selector, adoptable: Callable[[Obj], bool] = lambda _: True
) -> Claims:
    """Sorts candidates. Children of another controller are never touched; an owner that is being deleted neither
    adopts nor releases, and nothing that is being deleted is adopted."""
    claims = Claims([], [], [])
    deleting = is_terminating(owner)
    for child in candidates:
        controller = controller_of(child)
        if controller is not None:
            if controller["uid"] != uid(owner):
                continue
            if selector.matches(labels(child)):
                claims.owned.append(child)
            elif not deleting:
                claims.release.append(child)
        elif not deleting and not is_terminating(child) and adoptable(child) and selector.matches(labels(child)):
            claims.adopt.append(child)
    return claims


async def claim(
    owners: Cache,
    owner: Obj,
    children: Cache,
    selector: Selector,
    adoptable: Callable[[Obj], bool] = lambda _: True,
    *,
    finalizer: str = "",
) -> list[Obj]:
    """The children of `owner` after adopting and releasing; adopted ones get the `finalizer`, released ones lose it.

    Before the first adoption the owner is read from the server: a cache that is behind must not give children to an
    owner that was deleted or replaced (ApiError 409 then).
    """
    space = owner["metadata"]["namespace"]
    candidates = [*children.by_index("owner", uid(owner)), *children.by_index("owner", f"orphan:{space}")]
    claims = decide(owner, candidates, selector, adoptable)
    if not claims.adopt and not claims.release:
        return claims.owned
    if claims.adopt:
        await _still_alive(owners, owner)
    reference = owner_reference(owners.resource, owner)
    adopted: list[Obj] = []

    async def adopt(child: Obj) -> None:
        references = [*(child["metadata"].get("ownerReferences") or ()), reference]
        held = finalizers(child)
        if finalizer and finalizer not in held:
            held = [*held, finalizer]
        adopted.append(await _set_owners(children, child, references, held))

    async def release(child: Obj) -> None:
        references = [r for r in child["metadata"].get("ownerReferences") or () if r["uid"] != uid(owner)]
        try:
            await _set_owners(children, child, references, [one for one in finalizers(child) if one != finalizer])
        except ApiError as error:
            if not is_not_found(error):
                raise

    errors = await gather_all([*map(adopt, claims.adopt), *map(release, claims.release)])
    # A child that vanished meanwhile is no failure of the others.
    raise_first([error for error in errors if not is_not_found(error)])
    return [*claims.owned, *adopted]


async def _set_owners(children: Cache, child: Obj, references: list[Obj], held: Sequence[str]) -> Obj:
    # The version as precondition: two owners that adopt at once must not both succeed.
    change: Obj = {"ownerReferences": references or None, "resourceVersion": child["metadata"]["resourceVersion"]}
    if list(held) != list(finalizers(child)):
        change["finalizers"] = list(held) or None
    return await children.patch(child, {"metadata": change})


async def _still_alive(owners: Cache, owner: Obj) -> None:
    fresh = await owners.fetch(owner)
    if uid(fresh) != uid(owner):
        raise conflict(owners.resource, name(owner), "it was replaced")
    if is_terminating(fresh):
        raise conflict(owners.resource, name(owner), "it is being deleted")
