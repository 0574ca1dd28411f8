"""Secrets of type `kubernetes.io/service-account-token` get a token of the account they name, and go with it.

The token is bound to the Secret and ends with it; otherwise it lasts as long as tokens can, 136 years. Reference:
k8s.io/kubernetes ``pkg/controller/serviceaccount`` (tokens controller).
"""

import base64

from orca.api.builtin import CONFIGMAPS, SECRETS, SERVICEACCOUNTS
from orca.api.errors import ApiError, is_not_found
from orca.api.legacytokens import ACCOUNT_NAME, ACCOUNT_UID
from orca.api.legacytokens import SECRET_TYPE as TYPE
from orca.api.objects import Obj, annotations, is_terminating, key, name, namespace, split_key, uid
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter
from orca.controllers.namespacedefaults import ROOT_CA

LONGEST = 1 << 32
"""Seconds."""
RETRY_SECONDS = 1.0


class TokenSecretsController(Controller):
    """Keys are Secrets."""

    name = "tokens-controller"
    resource = SECRETS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._secrets = self.caches.of(SECRETS)
        self._accounts = self.caches.of(SERVICEACCOUNTS)
        self._bundles = self.caches.of(CONFIGMAPS)
        self._secrets.informer.on_add(self._seen)
        self._secrets.informer.on_update(lambda _, new: self._seen(new))
        self._secrets.informer.on_delete(self._gone)
        self._left: dict[str, str] = {}
        """Keys of Secrets that are gone, and the names of the accounts that may still list them."""
        self._accounts.informer.on_add(self._account_changed)
        self._accounts.informer.on_delete(self._account_changed)

    def _seen(self, secret: Obj) -> None:
        if secret.get("type") == TYPE:
            self.queue.add(key(secret))

    def _gone(self, secret: Obj) -> None:
        if secret.get("type") == TYPE and annotations(secret).get(ACCOUNT_NAME):
            self._left[key(secret)] = annotations(secret)[ACCOUNT_NAME]
            self.queue.add(key(secret))

    def _account_changed(self, account: Obj) -> None:
        for secret in self._secrets.by_index("namespace", namespace(account)):
            if annotations(secret).get(ACCOUNT_NAME) == name(account):
                self._seen(secret)

    async def sync(self, key: str) -> Outcome:
        """One Secret."""
        secret = self._secrets.get(key)
        if secret is None:
            await self._forget(key)
            return DONE
        self._left.pop(key, None)
        if secret.get("type") != TYPE or is_terminating(secret):
            return DONE
        space, noted = namespace(secret), annotations(secret)
        account = await self._account(secret)
        if account is None:
            await self._secrets.delete(secret)
            return DONE
        data = secret.get("data") or {}
        bundle = (self._bundles.get(f"{space}/{ROOT_CA}") or {}).get("data") or {}
        wanted = {"namespace": _encoded(space), **({"ca.crt": _encoded(bundle["ca.crt"])} if bundle else {})}
        if not data.get("token"):
            token = await self._token(secret, account)
            if token is None:
                return RetryAfter(RETRY_SECONDS)
            wanted["token"] = _encoded(token)
        if ACCOUNT_UID in noted and all(data.get(field) == value for field, value in wanted.items()):
            return DONE
        metadata = {**secret["metadata"], "annotations": {**noted, ACCOUNT_UID: uid(account)}}
        await self._secrets.update({**secret, "metadata": metadata, "data": {**data, **wanted}})
        return DONE

    async def _account(self, secret: Obj) -> Obj | None:
        """Of the name, and if one is noted of the uid, that a Secret says; asked of the server before it is said that
        there is none."""
        noted = annotations(secret)
        account = self._accounts.get(f"{namespace(secret)}/{noted.get(ACCOUNT_NAME, '')}")
        if account is None or noted.get(ACCOUNT_UID, uid(account)) != uid(account):
            try:
                account = await self.client.get(SERVICEACCOUNTS, noted.get(ACCOUNT_NAME, ""), namespace(secret))
            except ApiError as error:
                if is_not_found(error):
                    return None
                raise
        return account if noted.get(ACCOUNT_UID, uid(account)) == uid(account) else None

    async def _forget(self, secret_key: str) -> None:
        """A Secret that is gone is no longer one of its account's."""
        space, secret_name = split_key(secret_key)
        account = self._accounts.get(f"{space}/{self._left.get(secret_key, '')}")
        listed = (account or {}).get("secrets") or []
        kept = [one for one in listed if one.get("name") != secret_name]
        if account is not None and kept != listed:
            changed = {field: value for field, value in account.items() if field != "secrets"}
            await self._accounts.update({**changed, **({"secrets": kept} if kept else {})})
        self._left.pop(secret_key, None)

    async def _token(self, secret: Obj, account: Obj) -> str | None:
        """None when the account or the Secret went away meanwhile."""
        bound = {"apiVersion": "v1", "kind": "Secret", "name": name(secret), "uid": uid(secret)}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [], "expirationSeconds": LONGEST, "boundObjectRef": bound},
        }
        try:
            answer = await self.client.create_sub(SERVICEACCOUNTS, name(account), namespace(account), "token", body)
        except ApiError as error:
            if is_not_found(error):
                return None
            raise
        token: str = answer["status"]["token"]
        return token


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
