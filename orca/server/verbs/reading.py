"""get, list and watch: selectors become predicates and index hints for the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orca.api.errors import ApiError, FieldError, invalid_kind, is_not_found
from orca.api.objects import Obj, labels
from orca.api.resources import Resource
from orca.api.selectors import FieldSelector, Selector, field_matches, parse_field_selector, parse_label_selector
from orca.server.options import ListOptions
from orca.server.verbs.core import Core, served
from orca.store import Page, Watch

Predicate = Callable[[Obj], bool]


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

    @property
    def hint(self) -> tuple[str, str] | None:
        """The store's index that narrows the search, when there is one for these fields."""
        node = self.fields.exact("spec.nodeName")
        return ("spec.nodeName", node) if node else None


def select(resource: Resource, label_text: str, field_text: str) -> Selection:
    """Parse both selectors. Raises ApiError 400."""
    wanted = parse_label_selector(label_text) if label_text else Selector()
    fields = parse_field_selector(field_text, resource) if field_text else FieldSelector()
    if wanted.empty and fields.empty:
        return Selection(wanted, fields, None)
    if fields.empty:
        return Selection(wanted, fields, lambda obj: wanted.matches(labels(obj)))
    if wanted.empty:
        return Selection(wanted, fields, lambda obj: field_matches(resource, obj, fields))
    return Selection(wanted, fields, lambda obj: wanted.matches(labels(obj)) and field_matches(resource, obj, fields))


async def list_page(core: Core, resource: Resource, space: str, options: ListOptions) -> Page:
    """One page of a consistent list. Raises ApiError 400, 410."""
    if resource.virtual:
        return Page([], core.store.revision)
    wanted = select(resource, options.labels, options.fields)
    if wanted.name and not options.continue_ and not options.match and (space or not resource.namespaced):
        return await _single(core, resource, space, wanted)
    page = await core.store.list(
        resource,
        space,
        predicate=wanted.predicate,
        hint=wanted.hint,
        limit=options.limit,
        continue_=options.continue_,
        resource_version=options.resource_version,
        match=options.match,
    )
    if resource.api_version == resource.stored_as:
        return page
    return Page([served(resource, entry) for entry in page.entries], page.revision, page.continue_, page.remaining)


async def _single(core: Core, resource: Resource, space: str, wanted: Selection) -> Page:
    try:
        entry = await core.store.get(resource, space, wanted.name)
    except ApiError as error:
        if not is_not_found(error):
            raise
        return Page([], core.store.revision)
    matches = wanted.predicate is None or wanted.predicate(entry.obj)
    return Page([served(resource, entry)] if matches else [], core.store.revision)


async def open_watch(core: Core, resource: Resource, space: str, options: ListOptions) -> Watch:
    """A started watch. Its events carry stored objects: see ``core.served``. Raises ApiError 400, 405, 410."""
    wanted = select(resource, options.labels, options.fields)
    version = options.resource_version
    if version and not (version.isascii() and version.isdigit()):
        problem = FieldError.invalid("resourceVersion", version, "strconv.ParseUint: invalid syntax")
        raise invalid_kind("meta.k8s.io", "ListOptions", "", [problem])
    initial = options.send_initial_events
    if initial is None:
        initial = version in ("", "0")
    since = None if initial else int(version or 0) or core.store.revision
    watch = core.store.watch(
        resource,
        space,
        name=wanted.name,
        since=since,
        predicate=wanted.predicate,
        hint=wanted.hint,
        bookmarks=options.bookmarks,
        initial_end=bool(options.send_initial_events) and options.bookmarks,
    )
    await watch.start()
    return watch
