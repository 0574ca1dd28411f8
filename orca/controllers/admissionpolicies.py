"""Type checking of ValidatingAdmissionPolicies: warnings in their status, and which generation they are about.

Reference: k8s.io/kubernetes ``pkg/controller/validatingadmissionpolicystatus``.
"""

import asyncio
from typing import Any

from orca.api.builtin import BUILTIN, CUSTOMRESOURCEDEFINITIONS, VALIDATINGADMISSIONPOLICIES
from orca.api.errors import ApiError, is_not_found
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
        spec = policy.get("spec") or {}
        definitions = await self._definitions() if _names_custom(spec) else []
        found = await asyncio.to_thread(_checked, spec, definitions)
        if found:
            status["typeChecking"] = {"expressionWarnings": found}
        try:
            await self._policies.update({**policy, "status": status}, subresource="status")
        except ApiError as error:
            if not is_not_found(error):  # deleted while it was judged
                raise
        return DONE

    async def _definitions(self) -> list[Obj]:
        """Asked for when needed: their schemas are large, and policies change seldom."""
        return (await self.client.list(CUSTOMRESOURCEDEFINITIONS)).items


def _names_custom(spec: Obj) -> bool:
    """Whether a policy is about a group that is not built in."""
    groups = {(spec.get("paramKind") or {}).get("apiVersion", "v1").rpartition("/")[0]}
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups |= set(rule.get("apiGroups") or ())
    return bool(groups - {"*"} - BUILTIN.groups().keys())


def _checked(spec: Obj, definitions: list[Obj]) -> list[Obj]:
    # Imported here: the language is heavy, and few clusters have policies.
    from orca.api.cel.typechecking import Kinds, warnings

    return warnings(spec, Kinds(BUILTIN, definitions))
