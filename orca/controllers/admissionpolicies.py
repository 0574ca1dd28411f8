"""Type checking of ValidatingAdmissionPolicies: warnings in their status, and which generation they are about.

Reference: k8s.io/kubernetes ``pkg/controller/validatingadmissionpolicystatus``.
"""

import asyncio
from typing import Any

from orca.api.builtin import BUILTIN, VALIDATINGADMISSIONPOLICIES
from orca.api.objects import Obj
from orca.controllers.harness import DONE, Context, Controller, Outcome


def needs_check(policy: Obj) -> bool:
    """Whether the status is about an older generation, or about none."""
    seen = (policy.get("status") or {}).get("observedGeneration")
    return bool(seen != policy["metadata"].get("generation"))


class ValidatingAdmissionPolicyStatusController(Controller):
    """Checks each generation of a policy once."""

    name = "validatingadmissionpolicy-status-controller"
    resource = VALIDATINGADMISSIONPOLICIES

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._policies = self.caches.of(VALIDATINGADMISSIONPOLICIES)
        self._policies.informer.on_change(self._changed)

    def _changed(self, policy: Obj) -> None:
        if needs_check(policy):
            self.enqueue(policy)

    async def sync(self, key: str) -> Outcome:
        """Compile the policy's expressions against the schemas of what it constrains."""
        policy = self._policies.get(key)
        if policy is None or not needs_check(policy):
            return DONE
        status: dict[str, Any] = {
            **(policy.get("status") or {}),
            "observedGeneration": policy["metadata"].get("generation"),
            "typeChecking": {},
        }
        found = await asyncio.to_thread(_checked, policy.get("spec") or {})
        if found:
            status["typeChecking"] = {"expressionWarnings": found}
        await self._policies.update({**policy, "status": status}, subresource="status")
        return DONE


def _checked(spec: Obj) -> list[Obj]:
    # Imported here: the language is heavy, and few clusters have policies.
    from orca.api.cel.typechecking import warnings

    return warnings(spec, BUILTIN)
