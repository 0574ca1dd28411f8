"""Labels of Secrets with tokens of service accounts, and what tells since when they are kept. Pure."""

import re
from datetime import date, datetime

SECRET_TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
"""A token with this label is not let in any more."""
TRACKING_NAMESPACE, TRACKING = "kube-system", "kube-apiserver-legacy-service-account-token-tracking"
"""The ConfigMap whose ``since`` is the first day on which uses were noted."""
SINCE = "since"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def day(now: datetime) -> str:
    """As the labels have it."""
    return now.strftime("%Y-%m-%d")


def day_of(text: str) -> date | None:
    """None for what is no day."""
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        return None
