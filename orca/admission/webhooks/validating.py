"""ValidatingAdmissionWebhook: all hooks at once, on the final object; one refusal is enough.

Reference: k8s.io/apiserver ``pkg/admission/plugin/webhook/validating``.
"""

from __future__ import annotations

import asyncio

from orca.admission.chain import Attributes
from orca.admission.views import Views
from orca.admission.webhooks.calling import CallFailed, Calling, ask, failed_closed, failed_open, selected
from orca.admission.webhooks.configured import ConfiguredHooks, Hook
from orca.api.builtin import VALIDATINGWEBHOOKCONFIGURATIONS
from orca.api.resources import Resource


class ValidatingWebhooks:
    """The plugin. Raises ApiError: the first hook's denial, 500 when one with failurePolicy Fail cannot be asked."""

    upstream = "ValidatingAdmissionWebhook"

    def __init__(self, shared: Calling) -> None:
        self._shared = shared
        self._configured = ConfiguredHooks(shared.cluster, shared.table, VALIDATINGWEBHOOKCONFIGURATIONS)

    def asks(self, attrs: Attributes) -> bool:
        """Whether a hook may be called for this request."""
        return bool(self._configured.candidates(attrs))

    async def validate(self, attrs: Attributes) -> None:
        """Call what is configured for this request."""
        candidates = self._configured.candidates(attrs)
        if not candidates:
            return
        views = Views(attrs, self._shared.convert)
        chosen: list[tuple[Hook, Resource]] = []
        for hook, row in candidates:
            if await selected(self._shared, hook, row, attrs, views, "validating"):
                await views.encoded(row)  # before they run side by side, so that each version is made once
                chosen.append((hook, row))
        if not chosen:
            return
        if len(chosen) == 1:
            await self._call(*chosen[0], attrs, views)
            return
        # All are heard, also after a refusal: they may keep account of what they saw.
        results = await asyncio.gather(
            *(self._call(hook, row, attrs, views) for hook, row in chosen), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _call(self, hook: Hook, row: Resource, attrs: Attributes, views: Views) -> None:
        """Raises ApiError."""
        try:
            await ask(self._shared, hook, row, attrs, views, mutating=False)
        except CallFailed as failure:
            if hook.fail:
                raise failed_closed(hook, failure) from failure
            failed_open(self._shared, hook, attrs, failure, round_=0, mutating=False)
