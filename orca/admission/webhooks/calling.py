"""One webhook call: should it be made, what is sent, and what comes of it.

Reference: k8s.io/apiserver ``pkg/admission/plugin/webhook/generic`` and the two dispatchers.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import structlog

from orca.admission.chain import Attributes, Cluster
from orca.admission.matching import namespace_selected, object_selected
from orca.admission.webhooks.configured import Hook
from orca.admission.webhooks.metrics import WebhookMetrics
from orca.admission.webhooks.review import BadAnswer, Verdict, denial, read_answer, request_body
from orca.api import strategy
from orca.api.conversion import convert
from orca.api.errors import ApiError, bad_request, forbidden, internal, quote
from orca.api.objects import Obj
from orca.api.resources import Resource, ResourceTable
from orca.auth.authorization import Authorizer
from orca.client.hooks import HookError

log = structlog.get_logger()


class Caller(Protocol):
    """Calls what a ``clientConfig`` leads to."""

    async def call(self, client_config: Obj, body: Any, timeout_seconds: float) -> Any:
        """The decoded JSON answer. Raises HookError."""


class Converter(Protocol):
    """Gives an object of one version of a kind in another version."""

    def __call__(self, source: Resource, target: Resource, obj: Obj) -> Awaitable[Obj]:
        """``obj`` itself when both are one. Raises ApiError."""


async def convert_version(source: Resource, target: Resource, obj: Obj) -> Obj:
    """By rules for built-in kinds, by the definition's strategy for custom ones (which may ask a webhook)."""
    if source.api_version == target.api_version:
        return obj
    versions = strategy.of(source).versions if source.custom else None
    if versions is not None and versions.hook is not None:
        made = (await versions.hook([obj], target.api_version))[0]
    else:
        made = convert(obj, target.api_version)
    wanted = strategy.of(target).versions if target.custom else None
    return wanted.settle(made) if wanted is not None else made


class CallFailed(Exception):
    """A hook gave no verdict: ``failurePolicy`` decides. The text is upstream's ``failed calling webhook …``."""

    def __init__(self, hook: Hook, why: str, code: int) -> None:
        super().__init__(f"failed calling webhook {quote(hook.name)}: {why}")
        self.code = code


@dataclass(slots=True)
class Calling:
    """What both plugins share."""

    cluster: Cluster
    caller: Caller
    table: ResourceTable
    authorizer: Authorizer | None = None
    convert: Converter = convert_version
    metrics: WebhookMetrics | None = None


class Views:
    """The object and the old one in the versions hooks ask for, converted and encoded once each."""

    def __init__(self, attrs: Attributes, converter: Converter) -> None:
        self._attrs = attrs
        self._convert = converter
        self._converted: dict[tuple[str, bool], Obj | None] = {}
        self._encoded: dict[tuple[str, bool], bytes | None] = {}

    async def objects(self, row: Resource) -> tuple[Obj | None, Obj | None]:
        """(object, old object) as ``row``. Raises ApiError."""
        return await self._object(row, old=False), await self._object(row, old=True)

    async def encoded(self, row: Resource) -> tuple[bytes | None, bytes | None]:
        """As :meth:`objects`, in JSON."""
        found = []
        for old in (False, True):
            key = (row.api_version, old)
            if key not in self._encoded:
                obj = await self._object(row, old=old)
                self._encoded[key] = None if obj is None else orjson.dumps(obj)
            found.append(self._encoded[key])
        return found[0], found[1]

    def changed(self) -> None:
        """The new object is another one now."""
        for held in (self._converted, self._encoded):
            for key in [key for key in held if not key[1]]:
                del held[key]

    async def _object(self, row: Resource, *, old: bool) -> Obj | None:
        key = (row.api_version, old)
        if key not in self._converted:
            obj = self._attrs.old if old else self._attrs.obj
            mine = self._attrs.resource
            # Bodies of a kind of their own (Scale, Eviction, PodExecOptions …) have one version only.
            if obj is not None and row.api_version != mine.api_version and obj.get("kind") == mine.kind:
                obj = await self._convert(mine, row, obj)
            self._converted[key] = obj
        return self._converted[key]


async def selected(shared: Calling, hook: Hook, row: Resource, attrs: Attributes, views: Views, kind: str) -> bool:
    """Whether a hook whose rules match is to be called: selectors and match conditions.

    Raises ApiError 403 for conditions that cannot be evaluated, 404 for a request in a namespace that is not there.
    """
    if not hook.namespaces.empty and not await namespace_selected(shared.cluster, hook.namespaces, attrs):
        return False
    if not hook.objects.empty and not object_selected(hook.objects, attrs):
        return False
    if not hook.conditions:
        return True
    # Imported here: CEL is heavy, and few webhooks have conditions.
    from orca.admission.webhooks.conditions import conditions_hold

    try:
        holds = await conditions_hold(shared, hook, row, attrs, views)
    except ValueError as error:
        if hook.fail:
            raise forbidden(attrs.resource, attrs.name, str(error)) from error
        holds = False
    if not holds and shared.metrics is not None:
        shared.metrics.excluded.labels(hook.name, "webhook", kind, attrs.operation).inc()
    return holds


async def ask(
    shared: Calling, hook: Hook, row: Resource, attrs: Attributes, views: Views, *, mutating: bool
) -> Verdict:
    """Call one hook; its warnings and audit annotations are noted.

    Raises ApiError for a denial and for a dry run it does not support, CallFailed when it gave no verdict.
    """
    kind = "admit" if mutating else "validating"
    started = time.perf_counter()
    code, rejected, error_type = 200, False, ""
    try:
        verdict = await _asked(shared, hook, row, attrs, views, mutating=mutating)
        if not verdict.allowed:
            refusal = denial(hook.name, verdict.status)
            code, rejected, error_type = refusal.code, True, "no_error"
            raise refusal
        return verdict
    except CallFailed as failure:
        code, rejected, error_type = failure.code, hook.fail, "calling_webhook_error"
        raise
    except ApiError as error:
        if not error_type:
            code, rejected, error_type = error.code, True, "apiserver_internal_error"
        raise
    finally:
        if shared.metrics is not None:
            elapsed = time.perf_counter() - started
            shared.metrics.called(hook.name, kind, attrs.operation, elapsed, code, rejected=rejected)
            if rejected:
                shown = str(code) if error_type == "no_error" else "0"
                shared.metrics.rejections.labels(hook.name, kind, attrs.operation, error_type, shown).inc()


async def _asked(
    shared: Calling, hook: Hook, row: Resource, attrs: Attributes, views: Views, *, mutating: bool
) -> Verdict:
    if attrs.dry_run and not hook.dry_run:
        if hook.dry_run is None:
            raise CallFailed(hook, "Webhook SideEffects is nil", 400)
        raise bad_request(f"admission webhook {quote(hook.name)} does not support dry run")
    if not hook.review:
        why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"
        raise CallFailed(hook, why, 400)
    uid = str(uuid.uuid4())
    obj, old = await views.encoded(row)
    shown, shown_old = await views.objects(row)
    body = request_body(attrs, hook.review, uid, row, obj, old, shown or shown_old or {})
    try:
        answer = await shared.caller.call(hook.client, body, hook.seconds)
    except HookError as error:
        raise CallFailed(hook, f"failed to call webhook: {error.message}", error.code or 503) from error
    try:
        verdict = read_answer(answer, hook.review, uid, mutating=mutating)
    except BadAnswer as error:
        raise CallFailed(hook, f"received invalid webhook response: {error}", 503) from error
    for key, value in verdict.annotations.items():
        attrs.annotate(f"{hook.name}/{key}", value)
    attrs.warnings.extend(verdict.warnings)
    return verdict


def failed_open(
    shared: Calling, hook: Hook, attrs: Attributes, failure: CallFailed, *, round_: int, mutating: bool
) -> None:
    """Note a call that failed and is ignored."""
    log.warning("failed calling webhook, failing open", webhook=hook.name, error=str(failure))
    sort = "mutating" if mutating else "validating"
    attrs.annotate(f"failed-open.{sort}.webhook.admission.k8s.io/round_{round_}_index_{hook.index}", hook.name)
    if shared.metrics is not None:
        shared.metrics.open.labels(hook.name, "admit" if mutating else "validating").inc()


def failed_closed(hook: Hook, failure: CallFailed) -> ApiError:
    """The answer to a request whose hook had to be asked and could not."""
    log.warning("failed calling webhook, failing closed", webhook=hook.name, error=str(failure))
    return internal(str(failure))
