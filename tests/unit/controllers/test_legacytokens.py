"""Tokens nobody used for a year are invalid for another, and then go; those somebody may need stay."""

from datetime import timedelta
from typing import Any

import pytest

from orca.api.builtin import CONFIGMAPS, PODS, SECRETS, SERVICEACCOUNTS
from orca.api.legacytokens import ACCOUNT_NAME, INVALID_SINCE, LAST_USED, SECRET_TYPE, TRACKING, day
from orca.api.objects import Obj, labels
from orca.controllers.legacytokens import LegacyTokenCleaner, Verdict, judge, secrets_of
from tests.unit.controllers.support import NOW, Cluster, pod, running_one

ACCOUNT: Obj = {
    "metadata": {"name": "robot", "namespace": "default", "uid": "uid-robot"},
    "secrets": [{"name": "old"}],
}


def token(secret_name: str = "old", kind: str = SECRET_TYPE, **said: str) -> Obj:
    metadata: Obj = {
        "name": secret_name,
        "namespace": "default",
        "creationTimestamp": "2020-01-01T00:00:00Z",
        "annotations": {ACCOUNT_NAME: "robot"},
        "labels": {"kubernetes.io/legacy-token-" + what.replace("_", "-"): on for what, on in said.items()},
    }
    return {"metadata": metadata, "type": kind}


@pytest.mark.parametrize(
    ("secret", "verdict"),
    [
        (token(), Verdict.INVALIDATE),
        (token(last_used="2024-06-01"), Verdict.INVALIDATE),
        (token(invalid_since="nonsense"), Verdict.INVALIDATE),
        (token(invalid_since="2024-06-01"), Verdict.DELETE),
        (token(invalid_since="2025-06-01"), Verdict.KEEP),
        (token(last_used="2025-06-01"), Verdict.KEEP),
        (token(last_used="lately"), Verdict.KEEP),
        (token(kind="Opaque"), Verdict.KEEP),
        (token("by-hand"), Verdict.KEEP),
        ({**token(), "metadata": {**token()["metadata"], "creationTimestamp": "2025-12-01T00:00:00Z"}}, Verdict.KEEP),
    ],
)
def test_what_becomes_of_a_token(secret: Obj, verdict: Verdict) -> None:
    assert judge(secret, ACCOUNT, (), NOW) is verdict
    assert judge(secret, ACCOUNT, {"old", "by-hand"}, NOW) is Verdict.KEEP
    assert judge(secret, None, (), NOW) is Verdict.KEEP


def test_secrets_that_pods_use() -> None:
    spec: dict[str, Any] = {
        "imagePullSecrets": [{"name": "a"}],
        "containers": [
            {"envFrom": [{"secretRef": {"name": "b"}}], "env": [{"valueFrom": {"secretKeyRef": {"name": "c"}}}]}
        ],
        "volumes": [{"secret": {"secretName": "d"}}, {"projected": {"sources": [{"secret": {"name": "e"}}]}}],
    }
    assert set(secrets_of({"spec": spec})) - {""} == set("abcde")


async def test_a_token_is_invalid_for_a_year_before_it_goes() -> None:
    cluster = Cluster()
    since = {"metadata": {"name": TRACKING, "namespace": "kube-system"}, "data": {"since": day(NOW)}}
    cluster.api.seed(CONFIGMAPS, since)
    cluster.api.seed(SERVICEACCOUNTS, {**ACCOUNT, "secrets": [{"name": "old"}, {"name": "mounted"}, {"name": "used"}]})
    for made in (token(), token("mounted"), token("used", last_used=day(NOW + timedelta(days=200))), token("by-hand")):
        cluster.api.seed(SECRETS, made)
    user = pod("user")
    user["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "mounted"}}]
    cluster.api.seed(PODS, user)

    def left() -> set[str]:
        return {one["metadata"]["name"] for one in cluster.api.objects(SECRETS)}

    async with running_one(LegacyTokenCleaner, cluster=cluster):
        await cluster.settle(365 * 86400.0)
        assert not any(INVALID_SINCE in labels(one) for one in cluster.api.objects(SECRETS))
        await cluster.settle(3 * 86400.0)
        invalid = {one["metadata"]["name"] for one in cluster.api.objects(SECRETS) if INVALID_SINCE in labels(one)}
        assert invalid == {"old"}
        await cluster.settle(360 * 86400.0)
        assert "old" in left()
        await cluster.settle(9 * 86400.0)
        assert left() == {"mounted", "used", "by-hand"}
        assert LAST_USED not in labels(await cluster.api.get(SECRETS, "mounted", "default"))
