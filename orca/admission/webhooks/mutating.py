"""MutatingAdmissionWebhook: hooks in order, each sees what the ones before it made of the object.

Reference: k8s.io/apiserver ``pkg/admission/plugin/webhook/mutating``.
"""

from __future__ import annotations

from typing import Any

import orjson

from orca.admission.chain import Attributes
from orca.admission.mutating import Memory, recall, take_over
from orca.admission.views import Views
from orca.admission.webhooks.calling import CallFailed, Calling, ask, failed_closed, failed_open, selected
from orca.admission.webhooks.configured import ConfiguredHooks, Hook
from orca.api.builtin import MUTATINGWEBHOOKCONFIGURATIONS
from orca.api.errors import ApiError, internal, quote
from orca.api.patching import json_patch
from orca.api.patching.failures import reason
from orca.api.resources import Resource

_NAME = "MutatingAdmissionWebhook"


class MutatingWebhooks:
    """The plugin. Raises ApiError: the hook's denial, 500 when a hook with failurePolicy Fail cannot be asked."""

    upstream = "MutatingAdmissionWebhook"

    def __init__(self, shared: Calling) -> None:
        self._shared = shared
        self._configured = ConfiguredHooks(shared.cluster, shared.table, MUTATINGWEBHOOKCONFIGURATIONS)

    def asks(self, attrs: Attributes) -> bool:
        """Whether a hook may be called for this request."""
        return bool(self._configured.candidates(attrs))

    async def admit(self, attrs: Attributes) -> None:
        """Call what is configured for this request."""
        candidates = self._configured.candidates(attrs)
        if not candidates:
            return
        rounds = attrs.second_round()
        memory = recall(attrs, _NAME)
        views = Views(attrs, self._shared.convert)
        try:
            for hook, row in candidates:
                # A hook that was not called in the first round is not called in the second.
                if rounds.running and hook.uid not in memory.again:
                    continue
                if not await selected(self._shared, hook, row, attrs, views, "admit"):
                    continue
                await self._call(hook, row, attrs, views, memory)
        finally:
            memory.left(attrs.obj)

    async def _call(self, hook: Hook, row: Resource, attrs: Attributes, views: Views, memory: Memory) -> None:
        rounds = attrs.second_round()
        round_ = 1 if rounds.running else 0
        changed = False
        try:
            verdict = await ask(self._shared, hook, row, attrs, views, mutating=True)
            if verdict.patch:
                told = _told(hook, verdict.patch)  # before the object has parts of it, which later operations change
                changed = await self._patch(hook, row, attrs, views, verdict.patch)
                attrs.annotate(f"patch.webhook.admission.k8s.io/round_{round_}_index_{hook.index}", told)
        except CallFailed as failure:
            if hook.fail:
                raise failed_closed(hook, failure) from failure
            failed_open(self._shared, hook, attrs, failure, round_=round_, mutating=True)
        finally:
            noted = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
            key = f"mutation.webhook.admission.k8s.io/round_{round_}_index_{hook.index}"
            attrs.annotate(key, orjson.dumps(noted).decode())
        if changed:
            memory.changed()
            rounds.wanted = True
        if hook.reinvocable:
            memory.called.add(hook.uid)

    async def _patch(self, hook: Hook, row: Resource, attrs: Attributes, views: Views, operations: list[Any]) -> bool:
        """Put the patched object into ``attrs``; whether it differs. Raises ApiError 500."""
        before, _ = await views.objects(row)
        if before is None:
            why = f"admission webhook {quote(hook.name)} attempted to modify the object, which is not supported for this operation"  # noqa: E501
            raise internal(why)
        try:
            made = json_patch(before, operations)
            differs = await take_over(attrs, row, before, made, self._shared.convert)
        except ApiError as error:
            # The client did nothing wrong: whatever is the matter, the hook is to blame.
            raise internal(reason(error)) from error
        if differs:
            views.changed()
        return differs


def _told(hook: Hook, operations: list[Any]) -> str:
    noted = {
        "configuration": hook.configuration,
        "webhook": hook.name,
        "patch": operations,
        "patchType": "JSONPatch",
    }
    return orjson.dumps(noted).decode()
