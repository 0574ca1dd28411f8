"""Token Secrets are filled, and go with their account."""

import base64

from orca.api.builtin import CONFIGMAPS, SECRETS, SERVICEACCOUNTS
from orca.api.legacytokens import ACCOUNT_NAME, ACCOUNT_UID
from orca.api.legacytokens import SECRET_TYPE as TYPE
from orca.api.objects import Obj
from orca.controllers.tokensecrets import TokenSecretsController
from tests.unit.controllers.support import running_one


def account() -> Obj:
    return {"metadata": {"name": "robot", "namespace": "default", "uid": "uid-robot"}}


def secret(who: str = "robot", kind: str = TYPE) -> Obj:
    metadata = {"name": f"of-{who}", "namespace": "default", "annotations": {ACCOUNT_NAME: who}}
    return {"metadata": metadata, "type": kind}


def plain(data: Obj) -> Obj:
    return {field: base64.b64decode(value).decode() for field, value in data.items()}


async def test_a_token_comes_and_goes_with_its_account() -> None:
    async with running_one(TokenSecretsController) as (cluster, _):
        bundle = {"metadata": {"name": "kube-root-ca.crt", "namespace": "default"}, "data": {"ca.crt": "CA"}}
        cluster.api.seed(CONFIGMAPS, bundle)
        cluster.api.seed(SERVICEACCOUNTS, account())
        cluster.api.seed(SECRETS, secret())
        cluster.api.seed(SECRETS, secret("other", "Opaque"))
        await cluster.settle(2)
        filled = await cluster.api.get(SECRETS, "of-robot", "default")
        assert plain(filled["data"]) == {"namespace": "default", "ca.crt": "CA", "token": "token-of-robot"}
        made = await cluster.api.get(SERVICEACCOUNTS, "robot", "default")
        assert filled["metadata"]["annotations"][ACCOUNT_UID] == made["metadata"]["uid"]
        await cluster.api.delete(SERVICEACCOUNTS, "robot", "default")
        await cluster.settle(2)
        assert [one["type"] for one in cluster.api.objects(SECRETS)] == ["Opaque"]


async def test_a_token_for_nobody_goes() -> None:
    async with running_one(TokenSecretsController) as (cluster, _):
        cluster.api.seed(SERVICEACCOUNTS, account())
        another = secret()
        another["metadata"]["annotations"][ACCOUNT_UID] = "uid-of-one-before"
        cluster.api.seed(SECRETS, another)
        cluster.api.seed(SECRETS, secret("stranger"))
        await cluster.settle(1)
        assert cluster.api.objects(SECRETS) == []


async def test_an_account_does_not_list_a_token_that_is_gone() -> None:
    async with running_one(TokenSecretsController) as (cluster, _):
        cluster.api.seed(SERVICEACCOUNTS, {**account(), "secrets": [{"name": "of-robot"}, {"name": "mine"}]})
        cluster.api.seed(SECRETS, secret())
        await cluster.settle(1)
        await cluster.api.delete(SECRETS, "of-robot", "default")
        await cluster.settle(1)
        found = await cluster.api.get(SERVICEACCOUNTS, "robot", "default")
        assert found["secrets"] == [{"name": "mine"}]
