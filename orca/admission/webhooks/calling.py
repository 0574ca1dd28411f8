"""One webhook call: should it be made, what is sent, and what comes of it.

Reference: k8s.io/apiserver ``pkg/admission/plugin/webhook/generic`` and the two dispatchers.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from orca.admission.chain import Attributes, Cluster
from orca.admission.matching import namespace_selected, object_selected
from orca.admission.views import Converter, Views, convert_version
from orca.admission.webhooks.configured import Hook
from orca.admission.webhooks.metrics import WebhookMetrics
from orca.admission.webhooks.review import BadAnswer, Verdict, denial, read_answer, request_body
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
