"""Authorization by webhooks: programs elsewhere that are sent a SubjectAccessReview and say whether a user may.

What is asked, when it is asked at all, how long answers hold, and what follows when there is none. The requests
themselves are ``orca.auth.posting``'s. Reference: k8s.io/apiserver ``plugin/pkg/authorizer/webhook``.
"""

from orca.auth.webhook.asking import Settings, WebhookAuthorizer
from orca.auth.webhook.metrics import AuthorizationMetrics, Decisions, Reloads

__all__ = ["AuthorizationMetrics", "Decisions", "Reloads", "Settings", "WebhookAuthorizer"]
