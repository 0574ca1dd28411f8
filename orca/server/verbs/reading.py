"""get, list and watch: selectors become predicates and index hints for the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orca.api import strategy
from orca.api.errors import ApiError, FieldError, invalid_kind, is_not_found
from orca.api.objects import Obj, labels
from orca.api.resources import Resource
from orca.api.selectors import FieldSelector, Selector, field_judge, parse_field_selector, parse_label_selector
from orca.server.fairness.turns import Lane
from orca.server.options import ListOptions
from orca.server.verbs.core import Core
from orca.server.verbs.serving import AnyWatch, ServedWatch, is_plain, serve, serve_all
from orca.store import Page

Predicate = Callable[[Obj], bool]
_VERSION_DIGITS = 20  # of 2^64


@dataclass(frozen=True, slots=True)
class Selection:
    """What part of a kind is wanted. ``predicate`` is None for everything."""

    labels: Selector
    fields: FieldSelector
    predicate: Predicate | None

    @property
    def name(self) -> str:
        """The one name that can match, or ""."""
        return self.fields.exact("metadata.name") or ""


def select(resource: Resource, label_text: str, field_text: str) -> Selection:
    """Parse both selectors. Raises ApiError 400."""
    wanted = parse_label_selector(label_text) if label_text else Selector()
    fields = parse_field_selector(field_text, resource) if field_text else FieldSelector()
    if wanted.empty and fields.empty:
        return Selection(wanted, fields, None)
    chosen, found = wanted.judge(), field_judge(resource, fields)
    if fields.empty:
        return Selection(wanted, fields, lambda obj: chosen(labels(obj)))
    if wanted.empty:
        return Selection(wanted, fields, found)
    return Selection(wanted, fields, lambda obj: chosen(labels(obj)) and found(obj))


async def list_page(core: Core, resource: Resource, space: str, options: ListOptions, lane: Lane | None = None) -> Page:
    """One page of a consistent list, converted in the turns of ``lane``. Raises ApiError 400, 410."""
    wanted = select(resource, options.labels, options.fields)
    if resource.virtual:
        entries = await core.computed[resource.group_resource](space, wanted.name, wanted.labels)
        return Page([one for one in entries if not wanted.predicate or wanted.predicate(one.obj)], core.store.revision)
    if wanted.name and not options.continue_ and not options.match and (space or not resource.namespaced):
        return await _single(core, resource, space, wanted)
    late = _selects_late(resource, wanted)
    page = await core.store.list(
        resource,
        space,
        predicate=None if late else wanted.predicate,
        hint=_hint(resource, wanted),
        limit=options.limit,
        continue_=options.continue_,
        resource_version=options.resource_version,
        match=options.match,
    )
    if is_plain(resource):
        return page
    entries = await serve_all(resource, page.entries, lane)
    if late and wanted.predicate is not None:
        # Pages may be shorter than the limit; what is left out is not counted as remaining.
        entries = [entry for entry in entries if wanted.predicate(entry.obj)]
        return Page(entries, page.revision, page.continue_)
    return Page(entries, page.revision, page.continue_, page.remaining)


def _hint(resource: Resource, wanted: Selection) -> tuple[str, str] | None:
    """The store's index that narrows the search, when there is one for these fields. Of custom kinds it knows nothing:
    the field may be a number, and what is stored may be of a version that has not got it, or not so."""
    node = "" if resource.custom else wanted.fields.exact("spec.nodeName")
    return ("spec.nodeName", node) if node else None


def _selects_late(resource: Resource, wanted: Selection) -> bool:
    """Whether selectors can only judge what a conversion webhook makes of an object."""
    if not resource.custom or wanted.predicate is None:
        return False
    versions = strategy.of(resource).versions
    return versions is not None and versions.hook is not None


async def _single(core: Core, resource: Resource, space: str, wanted: Selection) -> Page:
    try:
        entry = await core.store.get(resource, space, wanted.name)
    except ApiError as error:
        if not is_not_found(error):
            raise
        return Page([], core.store.revision)
    if not resource.custom:
        matches = wanted.predicate is None or wanted.predicate(entry.obj)
        return Page([await serve(resource, entry)] if matches else [], core.store.revision)
    entry = await serve(resource, entry)
    matches = wanted.predicate is None or wanted.predicate(entry.obj)
    return Page([entry] if matches else [], core.store.revision)


async def open_watch(core: Core, resource: Resource, space: str, options: ListOptions) -> AnyWatch:
    """A started watch. Raises ApiError 400, 405, 410, and 504 for initial events of a version that is not there yet."""
    wanted = select(resource, options.labels, options.fields)
    version = options.resource_version
    if version and not (version.isascii() and version.isdigit() and len(version) <= _VERSION_DIGITS):
        problem = FieldError.invalid("resourceVersion", version[:64], "strconv.ParseUint: invalid syntax")
        raise invalid_kind("meta.k8s.io", "ListOptions", "", [problem])
    initial = options.send_initial_events
    if initial is None:
        initial = version in ("", "0")
    if initial and int(version or 0):
        await core.store.reach(int(version))
    if not initial and not version:
        await core.store.fresh()  # "from now on" is not from some time ago
    since = None if initial else int(version or 0) or core.store.revision
    late = _selects_late(resource, wanted)
    watch = core.store.watch(
        resource,
        space,
        name=wanted.name,
        since=since,
        predicate=None if late else wanted.predicate,
        hint=_hint(resource, wanted),
        bookmarks=options.bookmarks,
        initial_end=bool(options.send_initial_events) and options.bookmarks,
    )
    await watch.start()
    if is_plain(resource):
        return watch
    served = ServedWatch(watch, resource, wanted.predicate if late else None)
    if late and since is not None:
        # What is gone or different since then was known to the watcher: it has to hear of that, too.
        try:
            then = await core.store.list(resource, space, resource_version=str(since), match="Exact")
            await served.seed(then.entries)
        except BaseException:  # also when the client goes: nobody else knows the watch yet, and it would fill up
            watch.close()
            raise
    return served
