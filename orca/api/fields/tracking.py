"""The upkeep of ``managedFields`` on every write, and apply.

Reference: k8s.io/apimachinery ``util/managedfields/internal`` (the order of its managers) and
sigs.k8s.io/structured-merge-diff ``merge/update.go``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from orca.api.builtin import SECRETS
from orca.api.errors import bad_request
from orca.api.fields import conflicts, lastapplied, managers, sets
from orca.api.fields.comparing import Comparison, compare
from orca.api.fields.managers import APPLY, BEFORE_FIRST_APPLY, UPDATE, Door, Entry, Identity
from orca.api.fields.merging import merge, named, owned, problems, remove
from orca.api.fields.reconciling import reconciled
from orca.api.fields.sets import EMPTY, FieldSet
from orca.api.fields.shapes import filled
from orca.api.fields.types import Node, root
from orca.api.objects import Obj, ensure_meta, meta, same
from orca.api.resources import Resource

At = Callable[[Obj, str], "tuple[Node, Obj] | None"]
"""(object, apiVersion) -> the object's type and form in that version; None when the version is not served."""

_INTERNED = 2048
_LARGE = 16384  # bytes
_interned: dict[int, FieldSet] = {}  # by hash of their JSON


def intern(fields: FieldSet) -> FieldSet:
    """The one set that equals ``fields``, in the order it is shown in, so that objects share it."""
    if not fields:
        return fields
    encoded = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    if len(encoded) > _LARGE:
        return sets.in_order(fields)
    key = hash(encoded)
    found = _interned.get(key)
    if found is None:
        if len(_interned) >= _INTERNED:
            _interned.clear()
        # As it was built where that is in order: it shares the parts it has in common with others.
        found = _interned[key] = sets.in_order(fields)
    return found if found is fields or found == fields else fields


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes through which door, and when (RFC 3339, seconds)."""

    manager: str
    door: Door
    time: str

    def identity(self, api_version: str) -> Identity:
        """Of its updates."""
        return UPDATE, self.manager, api_version, self.door.subresource


def track_create(resource: Resource, obj: Obj, writer: Writer) -> None:
    """Give ``obj``, new and ours, its first ``managedFields``: all it says belongs to the writer."""
    fields = ensure_meta(obj)
    given = fields.pop("managedFields", None)
    mine = filled(root(resource), obj, writer.door.ignored)
    if writer.door.only is not None:
        mine = writer.door.limit(mine)
    entries: list[Entry] = []
    if given and not managers.is_reset(given):
        for entry in managers.decode(given) or ():
            rest = sets.difference(entry["fieldsV1"], mine)
            if rest:
                entries.append(managers.with_fields(entry, intern(rest)))
    if mine:
        entry = managers.make(writer.identity(resource.api_version), resource.api_version, mine, writer.time)
        entries = managers.ordered([*entries, entry]) if entries else [entry]
    if entries:
        fields["managedFields"] = entries


def track_update(resource: Resource, new: Obj, old: Obj, writer: Writer, at: At) -> None:
    """Give ``new``, ours, the ``managedFields`` that follow from ``old``, frozen: what changed is the writer's."""
    fields = ensure_meta(new)
    given = fields.pop("managedFields", None)
    known = meta(old).get("managedFields")
    before: list[Entry] | None = None
    if given is not None and not writer.door.subresource:
        if managers.is_reset(given):
            return
        if given != known:
            decoded = managers.decode(given) or ()
            before = managers.ordered([managers.with_fields(one, intern(one["fieldsV1"])) for one in decoded])
    if not before:
        before = known or []
    if not before:
        return  # nobody's fields are tracked until somebody applies
    if resource.custom:
        before = reconciled(before, old, at)
    version = resource.api_version
    node = root(resource)
    change = _compare(node, old, new, writer.door)
    after = _updated(before, change, writer.identity(version), version, writer.time, _others(old, new, writer.door, at))
    if after is not before:
        if len(after) > managers.MAX_UPDATERS:
            after = managers.capped(after)
        # Who wrote last stands last already, unless others wrote in the same second.
        if len(after) > 1 and (after[-1].get("time") != writer.time or (after[-2].get("time") or "") >= writer.time):
            after = managers.ordered(after)
    if after:
        fields["managedFields"] = after


def _compare(node: Node, old: Obj, new: Obj, door: Door) -> Comparison:
    found = compare(node, old, new, door.ignored)
    if door.only is None or not found:
        return found
    return Comparison(*(sets.keep(one, door.only) for one in (found.added, found.modified, found.removed)))


Others = Callable[[str], "Comparison | None"]
"""apiVersion -> what changed in that version; None when it is not served."""


def _others(old: Obj, new: Obj, door: Door, at: At) -> Others:
    found: dict[str, Comparison | None] = {}

    def others(version: str) -> Comparison | None:
        if version not in found:
            before, after = at(old, version), at(new, version)
            if before is None or after is None:
                found[version] = None
            else:
                found[version] = _compare(after[0], before[1], after[1], door)
        return found[version]

    return others


def _updated(
    before: list[Entry], change: Comparison, who: Identity, version: str, time: str, others: Others
) -> list[Entry]:
    """Entries after an update; ``before`` itself when nothing about them changed."""
    written, removed = change.written, change.removed
    gone = sets.union(written, removed)
    after: list[Entry] = []
    mine: Entry | None = None
    touched = False
    for entry in before:
        own = entry["fieldsV1"]
        if entry["apiVersion"] == version:
            lost = gone
        else:
            other = others(entry["apiVersion"])
            if other is None:
                touched = True
                continue
            lost = sets.union(other.written, other.removed) if other else EMPTY
        if managers.identity(entry) == who:
            mine = entry
            continue
        rest = sets.difference(own, lost) if lost else own
        if rest is not own:
            touched = True
            if not rest:
                continue
            entry = managers.with_fields(entry, intern(rest))
        after.append(entry)
    if mine is not None or written:
        own = mine["fieldsV1"] if mine is not None else EMPTY
        kept = sets.difference(own, removed) if removed else own
        now = sets.union(kept, written)
        if mine is None:
            after.append(managers.make(who, version, intern(now), time))
            touched = True
        elif now is not own or written:
            touched = True
            if now:
                changed = mine if now is own else managers.with_fields(mine, intern(now))
                after.append({**changed, "time": time} if written else changed)
        else:
            after.append(mine)
    return after if touched else before


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply makes: the object, ours, with its managedFields. ``changed`` tells whether more than those did."""

    obj: Obj
    changed: bool


def apply(
    resource: Resource,
    live: Obj | None,
    config: Obj,
    writer: Writer,
    at: At,
    *,
    force: bool,
    told_as: str = "",
) -> Applied:
    """``live`` (None: to be created), frozen, with ``config`` applied by ``writer``.

    Raises ApiError 400 for a configuration that cannot be applied, 409 with a cause for every field another manager
    owns with another value, unless ``force``; ``told_as`` is the version it names for them where that is not their own
    (a subresource's).
    """
    check(resource, config)
    type_ = root(resource)
    before = managers.decode(meta(live).get("managedFields")) if live else []
    if before is None:
        raise bad_request("failed to decode managed fields of the live object")
    if live and before and resource.custom:
        before = reconciled(before, live, at)
    if live and not before and meta(live):
        before = _before_first(resource, live, type_, writer)
    allowed = lastapplied.allowed(type_, live) if live and writer.manager == lastapplied.KUBECTL else None
    base: Obj = {name: value for name, value in (live or {}).items() if name != "metadata"}
    if live:
        base["metadata"] = {name: value for name, value in meta(live).items() if name != "managedFields"}
    made, entries = _apply(
        resource, base, config, before, writer, at, type_, force=force, allowed=allowed, told_as=told_as
    )
    if writer.manager == lastapplied.KUBECTL:
        lastapplied.keep_up(made, config)
    changed = not same(made, base)
    fields = dict(made.get("metadata") or {})
    if entries:
        fields["managedFields"] = entries
    else:
        fields.pop("managedFields", None)
    return Applied({**made, "metadata": fields}, changed)


def check(resource: Resource, config: Obj, node: Node | None = None) -> None:
    """Raises ApiError 400 for a configuration of another version, with managedFields, or not of its type."""
    version = config.get("apiVersion") or ""
    if node is None and version != resource.api_version:
        raise bad_request(
            "Incorrect version specified in apply patch. "
            f"Specified patch version: {version}, expected: {resource.api_version}"
        )
    if node is None and config.get("kind") != resource.kind:
        raise bad_request(
            "Incorrect kind specified in apply patch. "
            f"Specified patch kind: {config.get('kind') or ''}, expected: {resource.kind}"
        )
    fields = config.get("metadata")
    if isinstance(fields, dict) and fields.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    found = list(problems(node or root(resource), config))
    if found and resource is SECRETS:  # unlike upstream: it would be in the audit log
        found = [_GOT.sub("got <secret contents redacted>", one) for one in found]
    if found:
        name = meta(config).get("name") if isinstance(fields, dict) else ""
        space = meta(config).get("namespace") if isinstance(fields, dict) else ""
        group = f"{resource.group}/{resource.version}, Kind={config.get('kind', resource.kind)}"
        listed = found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {one}" for one in found)
        raise bad_request(f"failed to create typed patch object ({space or ''}/{name or ''}; {group}): {listed}")


_GOT = re.compile(r"got &\{.*\}$", re.DOTALL)


def _before_first(resource: Resource, live: Obj, node: Node, writer: Writer) -> list[Entry]:
    """An object nobody tracked belongs to whoever wrote it before."""
    fields = filled(node, live, writer.door.ignored)
    if writer.door.only is not None:
        fields = writer.door.limit(fields)
    if not fields:
        return []
    who: Identity = (UPDATE, BEFORE_FIRST_APPLY, resource.api_version, "")
    return [managers.make(who, resource.api_version, fields, writer.time)]


def _apply(
    resource: Resource,
    live: Obj,
    config: Obj,
    before: list[Entry],
    writer: Writer,
    at: At,
    node: Node,
    *,
    force: bool,
    allowed: FieldSet | None,
    told_as: str,
) -> tuple[Obj, list[Entry]]:
    version = config.get("apiVersion") or resource.api_version
    who: Identity = (APPLY, writer.manager, "", writer.door.subresource)
    last = next((entry for entry in before if managers.identity(entry) == who), None)
    mine = writer.door.limit(owned(node, config))
    entries = [entry for entry in before if entry is not last]
    appliers = [entry for entry in entries if entry["operation"] == APPLY]
    made: Obj = merge(node, live, config)
    if last is not None and last["fieldsV1"]:
        made = _pruned(made, last, [*appliers, managers.make(who, version, mine, None)], version, at, node)
    change = _compare(node, live, made, writer.door)
    others = _others(live, made, writer.door, at)
    found: list[tuple[Entry, FieldSet]] = []
    after: list[Entry] = []
    touched = False
    for entry in entries:
        other = change if entry["apiVersion"] == version else others(entry["apiVersion"])
        if other is None:
            touched = True
            continue
        clash = sets.intersection(entry["fieldsV1"], other.written)
        if clash:
            found.append((entry, clash))
        rest = sets.difference(sets.difference(entry["fieldsV1"], other.written), other.removed)
        if rest is not entry["fieldsV1"]:
            touched = True
            if not rest:
                continue
            entry = managers.with_fields(entry, intern(rest))
        after.append(entry)
    if found and not force:
        if allowed is not None:
            found = [(entry, rest) for entry, clash in found if (rest := sets.difference(clash, allowed))]
        if found:
            raise conflicts.error(found, told_as)
    if mine:
        fields = last["fieldsV1"] if last is not None and last["fieldsV1"] == mine else intern(mine)
        unchanged = last is not None and fields is last["fieldsV1"] and last["apiVersion"] == version and not touched
        if unchanged and not change:
            return made, before
        after.append(managers.make(who, version, fields, writer.time))
    return made, managers.ordered(after)


def _pruned(merged: Obj, last: Entry, appliers: list[Entry], version: str, at: At, node: Node) -> Obj:
    """``merged`` without what was applied last time, is not any more, and no other applier claims."""
    there = at(merged, last["apiVersion"]) if last["apiVersion"] != version else (node, merged)
    if there is None:
        return merged
    type_, whole = there
    gone = named(type_, last["fieldsV1"])
    rest = remove(type_, whole, gone, emptied=True)
    claims: dict[str, FieldSet] = {}
    for entry in appliers:
        claims[entry["apiVersion"]] = sets.union(claims.get(entry["apiVersion"], EMPTY), entry["fieldsV1"])
    versions = sorted(claims, key=lambda one: one != last["apiVersion"])
    for claimed in versions:
        left = (type_, whole) if claimed == last["apiVersion"] else at(whole, claimed)
        right = (type_, rest) if claimed == last["apiVersion"] else at(rest, claimed)
        if left is None or right is None:
            continue
        kept = sets.union(
            named(left[0], owned(left[0], right[1])),
            named(left[0], claims[claimed]),
        )
        surplus = sets.difference(named(left[0], owned(left[0], left[1])), kept)
        back = remove(left[0], left[1], surplus, emptied=True)
        converted = (type_, back) if claimed == last["apiVersion"] else at(back, last["apiVersion"])
        if converted is not None:
            rest = converted[1]
    dropped = sets.difference(named(type_, owned(type_, whole)), named(type_, owned(type_, rest)))
    made = remove(type_, whole, sets.intersection(dropped, gone))
    if last["apiVersion"] == version:
        return made
    converted = at(made, version)
    return merged if converted is None else converted[1]


def revert_times(new: Obj, old: Obj) -> bool:
    """Whether ``new`` says the same as ``old``, times of managers aside: then nothing is to be written."""
    fields, before = meta(new), meta(old)
    if len(new) != len(old) or fields.keys() | {"managedFields"} != before.keys() | {"managedFields"}:
        return False
    # The end first: what changes most is the status. A second look at what is equal costs more, and is rarely needed.
    for name in reversed(new):
        if name != "metadata" and new[name] != old.get(name):
            return False
    now, then = fields.get("managedFields"), before.get("managedFields")
    if now is not then and not _alike(now or [], then or []):
        return False
    return all(same(value, before.get(name)) for name, value in fields.items() if name != "managedFields") and all(
        same(value, old.get(name)) for name, value in new.items() if name != "metadata"
    )


def _alike(now: list[Entry], then: list[Entry]) -> bool:
    if len(now) != len(then):
        return False
    found = {managers.identity(entry): entry for entry in then}
    for entry in now:
        other = found.get(managers.identity(entry))
        if other is None or entry["apiVersion"] != other["apiVersion"] or entry["fieldsV1"] != other["fieldsV1"]:
            return False
    return True
