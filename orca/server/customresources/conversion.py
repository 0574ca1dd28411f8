"""Conversion webhooks: custom objects from one version into another.

Reference: k8s.io/apiextensions-apiserver ``pkg/apiserver/conversion``.
"""

from __future__ import annotations

from orca.api.customresources import review
from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.client.hooks import HookCaller, HookError
from orca.server.identifiers import new_uid

TIMEOUT_SECONDS = 30.0
SPOKEN = ("v1", "v1beta1")
"""Versions of ConversionReview, the one we like best first."""


class Converter:
    """The webhook of one definition. ``webhook`` is its ``spec.conversion.webhook``."""

    def __init__(self, caller: HookCaller, webhook: Obj) -> None:
        self._caller = caller
        self._config: Obj = webhook.get("clientConfig") or {}
        wanted = webhook.get("conversionReviewVersions") or []
        # The first in the list that we speak, as upstream.
        self._version = next((one for one in wanted if one in SPOKEN), SPOKEN[0])

    async def __call__(self, objs: list[Obj], api_version: str) -> list[Obj]:
        """The objects in ``api_version``, in their order. Raises ApiError 500."""
        due = [obj for obj in objs if obj.get("apiVersion") != api_version]
        if not due:
            return objs
        uid = new_uid()
        body = review.ask(due, api_version, self._version, uid)
        try:
            answer = await self._caller.call(self._config, body, TIMEOUT_SECONDS)
            made = review.take(answer, due, api_version, self._version, uid)
        except HookError as error:
            raise _failed(f"conversion webhook for {review.gvk(due[0])} failed: {error.message}") from error
        except review.ConversionFailed as error:
            raise _failed(str(error)) from error
        converted = iter(made)
        return [obj if obj.get("apiVersion") == api_version else next(converted) for obj in objs]


def _failed(text: str) -> ApiError:
    return ApiError(500, "", text)
