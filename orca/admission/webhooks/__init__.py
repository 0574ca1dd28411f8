"""Mutating and validating admission webhooks: programs outside that may change or refuse a write.

``configured`` says which hooks a request concerns, ``review`` what is sent and what an answer means (pure),
``calling`` makes one call, ``mutating`` and ``validating`` are the two plugins of the chain. Without a configuration a
request costs one comparison. Reference: k8s.io/apiserver ``pkg/admission/plugin/webhook``.
"""

from orca.admission.webhooks.calling import Caller, Calling
from orca.admission.webhooks.metrics import WebhookMetrics
from orca.admission.webhooks.mutating import MutatingWebhooks
from orca.admission.webhooks.validating import ValidatingWebhooks

__all__ = ["Caller", "Calling", "MutatingWebhooks", "ValidatingWebhooks", "WebhookMetrics"]
