"""The chain: what a plugin sees of a request, and the two passes over all of them."""

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol, TypeVar

from orca.api import names
from orca.api.errors import ApiError, forbidden
from orca.api.objects import Obj
from orca.api.resources import Resource
from orca.auth.identity import UserInfo
from orca.store.together import Also

T = TypeVar("T")
CREATE, UPDATE, DELETE = "CREATE", "UPDATE", "DELETE"


@dataclass(slots=True)
class Reinvocation:
    """Whether all mutating plugins run once more, because one that came late changed the object.

    ``wanted`` is set in the first round; ``running`` is true in the second, which is the last. ``notes`` keeps what a
    plugin remembers from round to round, by its name.
    """

    wanted: bool = False
    running: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Attributes:
    """One write. ``obj`` is ours to change in the first pass (None for DELETE), ``old`` is frozen.

    ``name`` may be empty on a create with ``generateName``.
    """

    operation: str
    resource: Resource
    namespace: str
    name: str
    obj: Obj | None
    old: Obj | None
    user: UserInfo
    subresource: str = ""
    dry_run: bool = False
    options: Obj = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)  # what the answer's Warning headers will say
    audit_annotations: dict[str, str] = field(default_factory=dict)  # what the audit log will say, see annotate()
    reinvocation: Reinvocation | None = None  # set by the first plugin that may want a second round

    def of(self, resource: Resource, *operations: str, subresource: str = "") -> bool:
        """Whether this is one of ``operations`` on that kind (or on its subresource)."""
        return self.resource is resource and self.subresource == subresource and self.operation in operations

    def forbidden(self, why: str) -> ApiError:
        """403 about the object of this request."""
        name = self.name
        if not name and self.obj is not None:
            fields = self.obj.get("metadata") or {}
            name = fields.get("name") or fields.get("generateName") or ""
        return forbidden(self.resource, name, why)

    def annotate(self, key: str, value: str) -> None:
        """An annotation of the audit event. A key that is no qualified name, or has another value, is left out.

        Keys that begin with ``patch.webhook.admission.k8s.io/`` belong into events of level Request and above only.
        """
        if not names.qualified_name(key) and "/" in key:
            self.audit_annotations.setdefault(key, value)

    def second_round(self) -> Reinvocation:
        """The request's ``reinvocation``, made when it is first asked for."""
        if self.reinvocation is None:
            self.reinvocation = Reinvocation()
        return self.reinvocation


class Cluster(Protocol):
    """What plugins may read: the store's cached side, and one fresh read."""

    def peek(self, resource: Resource, namespace: str, name: str, /) -> Obj | None:
        """One object as the cache shows it."""

    def peek_list(
        self, resource: Resource, namespace: str = "", /, *, hint: tuple[str, str] | None = None
    ) -> list[Obj]:
        """All objects of a namespace, or of the cluster."""

    def last_change(self, resource: Resource, /) -> int:
        """While this stays equal, nothing of the kind changed."""

    async def get(self, resource: Resource, namespace: str, name: str, /) -> Any:
        """An entry with ``obj``, never older than the last acknowledged write. Raises ApiError 404."""

    async def fresh(self) -> None:
        """Wait until the cached side shows all that was acknowledged before."""


STEP_BOUNDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)
_AT_ONCE = STEP_BOUNDS[0]


class StepTimes:
    """How long a pass took, or a plugin in it: all together, and how often up to each bound and beyond the last."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.counts = [0] * (len(STEP_BOUNDS) + 1)

    def note(self, seconds: float) -> None:
        self.seconds += seconds
        self.counts[bisect_left(STEP_BOUNDS, seconds)] += 1


Times = dict[tuple[str, bool], StepTimes]
"""By (operation, rejected)."""
Steps = tuple[tuple[Callable[[Attributes], Awaitable[None]], Times], ...]


def _note(times: Times, operation: str, rejected: bool, seconds: float) -> None:
    found = times.get((operation, rejected))
    if found is None:
        found = times[operation, rejected] = StepTimes()
    found.note(seconds)


async def _run(steps: Steps, attrs: Attributes) -> None:
    """One after the other; the end of one is the beginning of the next. Raises ApiError."""
    allowed = (attrs.operation, False)
    began = perf_counter()
    for step, times in steps:
        try:
            await step(attrs)
        except ApiError:
            _note(times, attrs.operation, True, perf_counter() - began)
            raise
        ended = perf_counter()
        found = times.get(allowed)
        if found is None:
            found = times[allowed] = StepTimes()
        found.seconds += ended - began
        found.counts[0 if ended - began <= _AT_ONCE else bisect_left(STEP_BOUNDS, ended - began)] += 1
        began = ended


class Chain:
    """Plugins in order.

    A plugin has ``async admit(attrs)``, the first pass, which may change ``attrs.obj`` in place, or ``async
    validate(attrs)``, the second pass, on the final object, which may only refuse; or both. Either raises ApiError to
    refuse the request. One that has a set of ``kinds`` is asked about these only, in the second pass about those it
    ``validates`` where it has such a set, one that has ``subresources`` about these only ("" is the object itself).
    ``asks(attrs)`` says whether the plugin would call somebody outside, ``guard`` (of one plugin at most) writes beside
    the object.
    """

    def __init__(self, plugins: Sequence[Any] = ()) -> None:
        self._plugins = tuple(plugins)
        self._of: dict[tuple[Resource | None, str], tuple[Steps, Steps]] = {}
        self.times: dict[str, Times] = {"admit": {}, "validate": {}}
        """By step, of all plugins together."""
        self.plugin_times: dict[tuple[str, str], Times] = {}
        """By (plugin, step)."""
        self._asking = tuple(plugin.asks for plugin in plugins if hasattr(plugin, "asks"))
        self._guard: Any = None  # the one plugin that keeps account of what is written
        for plugin in plugins:
            if hasattr(plugin, "guard"):
                assert self._guard is None, "only one plugin can write together with the object"
                self._guard = plugin.guard

    def _steps(self, resource: Resource, subresource: str) -> tuple[Steps, Steps]:
        """Both passes over the plugins that have to do with a kind; with custom ones only those that do with all."""
        key = None if resource.custom else resource
        found = self._of.get((key, subresource))
        if found is None:
            asked = [
                one
                for one in self._plugins
                if ((kinds := getattr(one, "kinds", None)) is None or key in kinds)
                and ((parts := getattr(one, "subresources", None)) is None or subresource in parts)
            ]
            found = self._of[key, subresource] = (
                tuple((plugin.admit, self._times(plugin, "admit")) for plugin in asked if hasattr(plugin, "admit")),
                tuple(
                    (plugin.validate, self._times(plugin, "validate"))
                    for plugin in asked
                    if hasattr(plugin, "validate")
                    and ((kinds := getattr(plugin, "validates", None)) is None or key in kinds)
                ),
            )
        return found

    def _times(self, plugin: Any, step: str) -> Times:
        """Plugins are called as upstream's, which mostly is what they are called here."""
        name = getattr(plugin, "upstream", type(plugin).__name__)
        return self.plugin_times.setdefault((name, step), {})

    async def admit(self, attrs: Attributes) -> None:
        """Let every plugin change the object. Raises ApiError."""
        began = perf_counter()
        try:
            await self._admit_all(attrs)
        except ApiError:
            _note(self.times["admit"], attrs.operation, True, perf_counter() - began)
            raise
        _note(self.times["admit"], attrs.operation, False, perf_counter() - began)

    async def _admit_all(self, attrs: Attributes) -> None:
        steps, _ = self._steps(attrs.resource, attrs.subresource)
        await _run(steps, attrs)
        again = attrs.reinvocation
        if again is not None and again.wanted:
            again.running = True
            await _run(steps, attrs)

    def asks_others(self, attrs: Attributes) -> bool:
        """Whether somebody outside of this process may be asked, who may take his time."""
        return any(asks(attrs) for asks in self._asking)

    async def validate(self, attrs: Attributes) -> None:
        """Let every plugin refuse the final object. Raises ApiError."""
        began = perf_counter()
        try:
            await _run(self._steps(attrs.resource, attrs.subresource)[1], attrs)
        except ApiError:
            _note(self.times["validate"], attrs.operation, True, perf_counter() - began)
            raise
        _note(self.times["validate"], attrs.operation, False, perf_counter() - began)

    def guard(self, attrs: Attributes, write: Callable[[Sequence[Also]], Awaitable[T]]) -> Awaitable[T]:
        """Let ``write`` happen together with what a plugin has to record for it, once that is awaited. Raises
        ApiError."""
        if self._guard is None:
            return write(())
        guarded: Awaitable[T] = self._guard(attrs, write)
        return guarded


async def find(cluster: Cluster, resource: Resource, namespace: str, name: str) -> Obj | None:
    """An object as the cache shows it, asked for afresh when it shows none: just created ones count."""
    found = cluster.peek(resource, namespace, name)
    if found is not None:
        return found
    try:
        entry = await cluster.get(resource, namespace, name)
    except ApiError as error:
        if error.code == 404:
            return None
        raise
    obj: Obj = entry.obj
    return obj
