"""Kinds that are answers, not objects: access reviews, token reviews, token requests, legacy bindings."""

from __future__ import annotations

from collections.abc import Mapping

from orca.api.builtin import (
    BINDINGS,
    COMPONENTSTATUSES,
    LOCALSUBJECTACCESSREVIEWS,
    SELFSUBJECTACCESSREVIEWS,
    SELFSUBJECTREVIEWS,
    SELFSUBJECTRULESREVIEWS,
    SERVICEACCOUNTS,
    SUBJECTACCESSREVIEWS,
    TOKENREVIEWS,
)
from orca.api.errors import ApiError, bad_request
from orca.api.objects import Obj, meta, name, namespace
from orca.api.selectors import (
    ALL_FIELDS,
    EVERYTHING,
    FieldRequirement,
    FieldSelector,
    Selector,
    from_label_selector,
    parse_field_selector,
    parse_label_selector,
)
from orca.api.times import format_time
from orca.auth import Action, Authenticator, Authorizer, UserInfo
from orca.auth.authentication import authenticated
from orca.auth.identity import service_account_of
from orca.auth.service_accounts import ServiceAccountTokens
from orca.auth.token_requests import TokenIssuer, Told
from orca.auth.verdicts import Verdict
from orca.server.verbs.core import Call, Core, VirtualHandler
from orca.server.verbs.pods import bind


class Reviews:
    """Handlers of all virtual kinds; ``handlers`` goes into ``Core.virtual``."""

    def __init__(
        self,
        core: Core,
        authenticator: Authenticator,
        authorizer: Authorizer,
        issuer: TokenIssuer,
        account_tokens: ServiceAccountTokens,
    ) -> None:
        self._core = core
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._issuer = issuer
        self._account_tokens = account_tokens

    @property
    def handlers(self) -> Mapping[str, VirtualHandler]:
        """By group resource, subresources behind a slash."""
        return {
            BINDINGS.group_resource: self._bind,
            COMPONENTSTATUSES.group_resource: self._not_creatable,
            SUBJECTACCESSREVIEWS.group_resource: self._subject_access,
            LOCALSUBJECTACCESSREVIEWS.group_resource: self._local_access,
            SELFSUBJECTACCESSREVIEWS.group_resource: self._self_access,
            SELFSUBJECTRULESREVIEWS.group_resource: self._self_rules,
            SELFSUBJECTREVIEWS.group_resource: self._self,
            TOKENREVIEWS.group_resource: self._token_review,
            f"{SERVICEACCOUNTS.group_resource}/token": self._token_request,
        }

    async def _bind(self, call: Call, body: Obj) -> Obj:
        if not name(body):
            raise bad_request("name is required")
        return await bind(self._core, call, namespace(body), name(body), body)

    async def _not_creatable(self, _call: Call, _body: Obj) -> Obj:
        raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    # -- access

    async def _subject_access(self, _call: Call, body: Obj) -> Obj:
        return await self._reviewed(body, _subject(body.get("spec") or {}))

    async def _local_access(self, _call: Call, body: Obj) -> Obj:
        return await self._reviewed(body, _subject(body.get("spec") or {}))

    async def _self_access(self, call: Call, body: Obj) -> Obj:
        return await self._reviewed(body, call.user)

    async def _reviewed(self, body: Obj, user: UserInfo) -> Obj:
        decision = await self._authorizer.authorize(user, _action(body.get("spec") or {}))
        status: Obj = {"allowed": decision.allowed}
        if decision.denied:
            status["denied"] = True
        if decision.reason:
            status["reason"] = decision.reason
        if decision.error:
            status["evaluationError"] = decision.error
        return {**body, "status": status}

    async def _self_rules(self, call: Call, body: Obj) -> Obj:
        space = (body.get("spec") or {}).get("namespace") or ""
        if not space:
            raise bad_request("no namespace on request")
        known = self._authorizer.rules_for(call.user, space)
        status = {
            "resourceRules": [rule for rule in known.rules if "nonResourceURLs" not in rule],
            "nonResourceRules": [rule for rule in known.rules if "nonResourceURLs" in rule],
            "incomplete": known.incomplete,
        }
        if known.error:
            status["evaluationError"] = known.error
        return {**body, "status": status}

    # -- identity

    async def _self(self, call: Call, body: Obj) -> Obj:
        stamped = {**meta(body), "creationTimestamp": format_time(self._core.clock.now())}
        return {**body, "metadata": stamped, "status": {"userInfo": call.user.to_api()}}

    async def _token_review(self, _call: Call, body: Obj) -> Obj:
        spec = body.get("spec") or {}
        token = spec.get("token") or ""
        if not token:
            raise bad_request("token is required for TokenReview in authentication")
        wanted = [audience for audience in spec.get("audiences") or () if audience]
        if self._account_tokens.unseen(token):
            await self._core.store.fresh()  # what another server was told of a moment ago
        return {**body, "status": await self._review(token, wanted)}

    async def _review(self, token: str, wanted: list[str]) -> Obj:
        found = self._account_tokens.review(token, wanted or self._issuer.keys.audiences)
        if found is not None:
            user, audiences = found
            return {"authenticated": True, "user": authenticated(user).to_api(), "audiences": audiences}
        if wanted:
            # Tokens that name no audience are meant for this server.
            ours = [audience for audience in wanted if audience in self._issuer.keys.audiences]
            other = self._authenticator.by_token(token) if ours else None
            if other is not None and service_account_of(other.name) is None:
                return {"authenticated": True, "user": other.to_api(), "audiences": ours}
            return await self._elsewhere(token, wanted, "[invalid bearer token, token audiences do not match]")
        known = self._authenticator.by_token(token)
        if known is None:
            return await self._elsewhere(token, wanted, "invalid bearer token")
        return {"authenticated": True, "user": known.to_api(), "audiences": list(self._issuer.keys.audiences)}

    async def _elsewhere(self, token: str, wanted: list[str], otherwise: str) -> Obj:
        """What others say of a token that is not known here."""
        remote = self._authenticator.remote
        verdict = await remote.review(token, wanted) if remote is not None else Verdict(None)
        if verdict.user is None:
            return {"user": {}, "error": verdict.error or otherwise}
        return {
            "authenticated": True,
            "user": authenticated(verdict.user).to_api(),
            "audiences": list(verdict.audiences),
        }

    async def _token_request(self, call: Call, body: Obj) -> Obj:
        account = await self._core.read(SERVICEACCOUNTS, namespace(body), name(body))
        if call.dry_run:
            return body
        await self._core.store.fresh()
        told = Told(call.options.warnings, call.audit_annotations)
        return self._issuer.request(account.obj, body, told)


def _subject(spec: Obj) -> UserInfo:
    extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return UserInfo(spec.get("user") or "", spec.get("uid") or "", tuple(spec.get("groups") or ()), extra)


def _action(spec: Obj) -> Action:
    path = spec.get("nonResourceAttributes")
    if path is not None:
        return Action(verb=path.get("verb") or "", path=path.get("path") or "")
    asked = spec.get("resourceAttributes") or {}
    return Action(
        verb=asked.get("verb") or "",
        group=asked.get("group") or "",
        resource=asked.get("resource") or "",
        subresource=asked.get("subresource") or "",
        name=asked.get("name") or "",
        namespace=asked.get("namespace") or "",
        fields=_fields(asked.get("fieldSelector") or {}),
        labels=_labels(asked.get("labelSelector") or {}),
        version=asked.get("version") or "*",
    )


def _labels(asked: Obj) -> Selector:
    """As `_fields`."""
    if asked.get("rawSelector"):
        try:
            return parse_label_selector(asked["rawSelector"])
        except ApiError:
            return EVERYTHING
    known = [one for one in asked.get("requirements") or () if one.get("operator") in _LABEL_OPERATORS]
    return from_label_selector({"matchExpressions": known})


_LABEL_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})


def _fields(asked: Obj) -> FieldSelector:
    """What narrows the request asked about; terms that cannot be understood narrow nothing, as upstream."""
    if asked.get("rawSelector"):
        try:
            return parse_field_selector(asked["rawSelector"])
        except ApiError:
            return ALL_FIELDS
    found = []
    for requirement in asked.get("requirements") or ():
        values = requirement.get("values") or []
        if requirement.get("operator") in ("In", "NotIn") and len(values) == 1:
            equal = requirement["operator"] == "In"
            found.append(FieldRequirement(requirement.get("key") or "", values[0], equal))
    return FieldSelector(tuple(found))
