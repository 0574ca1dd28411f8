"""Admission policies: ValidatingAdmissionPolicy and MutatingAdmissionPolicy with their bindings.

``configured`` keeps the policies as they are in the cache, compiled once; ``invocations`` says which of them a request
meets, with which parameters; ``validating`` and ``mutating`` are the plugins. Nothing of CEL is imported before there
is a policy. Webhooks have a room of their own; the language is in ``orca.api.cel``.

Reference: k8s.io/apiserver ``pkg/admission/plugin/policy``.
"""

from orca.admission.policies.invocations import Shared
from orca.admission.policies.mutating import MutatingPolicies
from orca.admission.policies.validating import ValidatingPolicies

__all__ = ["MutatingPolicies", "Shared", "ValidatingPolicies"]
