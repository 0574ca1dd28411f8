"""The resource table: one declarative row per served kind; routes, discovery, RBAC names and storage derive from it.

A row is found by URL (``lookup``), by what an object says it is (``by_kind``) or by what a person types (``find``).
CustomResourceDefinitions add and remove rows at run time; listeners hear of it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
READ_WRITE = ("get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Subresource:
    """One subresource of a kind. Without ``kind`` its body is the parent's kind, otherwise group/version/kind.

    ``also`` are older apiVersions of the body that mean the same and are taken as well.
    """

    name: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""
    kind: str = ""
    definition: str = ""
    also: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """``apiVersion`` of its body; "" when that is the parent's."""
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, eq=False)
class Resource:
    """One served group/version/plural.

    ``definition`` is the schema's key. ``storage`` is the etcd prefix: equal for rows that are versions of one thing,
    whose stored version is ``stored_as`` (an apiVersion). ``virtual`` rows are answered, never stored. ``ttl`` is in
    seconds. ``warning`` is what every answer warns of (deprecated versions); ``fingerprint`` changes with everything
    that is known of a custom kind, which is ``terminating`` while its definition is. Equality is (group, version,
    plural, storage), so a row replaced by an update of its CRD stays equal.
    """

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    definition: str
    storage: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    ttl: int | None = None
    virtual: bool = False
    stored_as: str = ""
    list_kind: str = ""
    custom: bool = False
    warning: str = ""
    fingerprint: str = ""
    terminating: bool = False
    api_version: str = field(init=False)
    group_resource: str = field(init=False)
    _key: tuple[str, str, str, str] = field(init=False, repr=False)
    _hash: int = field(init=False, repr=False)
    _subresources: dict[str, Subresource] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "api_version", f"{self.group}/{self.version}" if self.group else self.version)
        put(self, "group_resource", f"{self.plural}.{self.group}" if self.group else self.plural)
        put(self, "list_kind", self.list_kind or f"{self.kind}List")
        put(self, "stored_as", self.stored_as or self.api_version)
        put(self, "_key", (self.group, self.version, self.plural, self.storage))
        put(self, "_hash", hash(self._key))
        put(self, "_subresources", {sub.name: sub for sub in self.subresources})

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Resource) and self._key == other._key)

    def __repr__(self) -> str:
        return f"<Resource {self.api_version} {self.plural}>"

    def has(self, subresource: str) -> bool:
        """Whether the kind has that subresource."""
        return subresource in self._subresources

    def subresource(self, name: str) -> Subresource | None:
        """The subresource's row."""
        return self._subresources.get(name)


_VERSION = re.compile(r"^v(\d+)(?:(alpha|beta)(\d+))?$")


def version_order(version: str) -> tuple[int, int, int, int, str]:
    """Sorts versions as discovery shows them: v2, v1, v1beta2, v1beta1, v1alpha1, then other words by alphabet."""
    found = _VERSION.match(version)
    if found is None:
        return (1, 0, 0, 0, version)
    stage = 0 if not found[2] else 1 if found[2] == "beta" else 2
    return (0, stage, -int(found[1]), -int(found[3] or 0), "")


Listener = Callable[[str, Resource], None]


class ResourceTable:
    """Rows in discovery order (first row of a group is its preferred version)."""

    def __init__(self, rows: tuple[Resource, ...] = ()) -> None:
        self._rows: dict[tuple[str, str, str], Resource] = {}
        self._versions: dict[tuple[str, str], dict[str, Resource]] = {}
        self._kinds: dict[tuple[str, str], Resource] = {}
        self._names: dict[str, Resource] | None = None
        self._listeners: list[Listener] = []
        for row in rows:
            self.add(row)

    def __iter__(self) -> Iterator[Resource]:
        return iter(tuple(self._rows.values()))

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<ResourceTable of {len(self._rows)} rows>"

    def copy(self) -> "ResourceTable":
        """A table of its own with the same rows and no listeners."""
        return ResourceTable(tuple(self._rows.values()))

    def lookup(self, group: str, version: str, plural: str) -> Resource | None:
        """The row behind a URL."""
        return self._rows.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The row of an object's ``apiVersion`` and ``kind``."""
        return self._kinds.get((api_version, kind))

    def find(self, text: str) -> Resource | None:
        """What a person types: plural, singular, short name or kind, optionally ``.group`` or ``.version.group``."""
        if self._names is None:
            self._names = self._index()
        return self._names.get(text.lower())

    def groups(self) -> dict[str, list[str]]:
        """group -> versions, preferred first, in discovery order; the core group is ""."""
        found: dict[str, list[str]] = {}
        for (group, version), rows in self._versions.items():
            versions = found.setdefault(group, [])
            versions.append(version)
            if len(versions) > 1 and next(iter(rows.values())).custom:
                versions.sort(key=version_order)
        return found

    def of_group_version(self, group: str, version: str) -> list[Resource]:
        """All rows of one group version."""
        return list(self._versions.get((group, version), {}).values())

    def add(self, resource: Resource) -> None:
        """Serve a row; replaces the row of the same group, version and plural."""
        self._rows[resource.group, resource.version, resource.plural] = resource
        self._versions.setdefault((resource.group, resource.version), {})[resource.plural] = resource
        self._kinds[resource.api_version, resource.kind] = resource
        self._changed("added", resource)

    def remove(self, resource: Resource) -> None:
        """Stop serving a row; harmless when it is not there."""
        gone = self._rows.pop((resource.group, resource.version, resource.plural), None)
        if gone is None:
            return
        self._kinds.pop((gone.api_version, gone.kind), None)
        rows = self._versions[gone.group, gone.version]
        del rows[gone.plural]
        if not rows:
            del self._versions[gone.group, gone.version]
        self._changed("removed", gone)

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener("added" | "removed", row)`` synchronously on every change."""
        self._listeners.append(listener)

    def _changed(self, what: str, resource: Resource) -> None:
        self._names = None
        for listener in self._listeners:
            listener(what, resource)

    def _index(self) -> dict[str, Resource]:
        names: dict[str, Resource] = {}
        for row in self._rows.values():
            for word in (row.plural, row.singular, row.kind.lower(), *row.short_names):
                names.setdefault(word, row)
                names.setdefault(f"{word}.{row.group}", row)
                names.setdefault(f"{word}.{row.version}.{row.group}", row)
        return names
