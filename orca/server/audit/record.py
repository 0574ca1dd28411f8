"""What is logged of one request: gathered while it is served, written as ``audit.k8s.io/v1`` Events stage by stage."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import yaml
from aiohttp import web

from orca.api.errors import ApiError
from orca.api.objects import Obj
from orca.api.times import format_micro
from orca.auth.identity import UserInfo, header_text
from orca.server.audit.log import AuditLog
from orca.server.audit.policy import Level, Policy, Verdict
from orca.server.connection import connection_of
from orca.server.impersonation import Acting
from orca.server.paths import Target

_PATCHES = "patch.webhook.admission.k8s.io/"
"""Annotations that show content, and so need level Request."""
_EARLY = "Connection closed early"
_NOTHING_SHOWN = "Authentication failed, no credentials provided"


class Audit:
    """The policy and where its events go."""

    def __init__(self, policy: Policy, log: AuditLog) -> None:
        self.policy = policy
        self.log = log
        self.by_level = dict.fromkeys((level.name for level in Level), 0)

    async def begin(
        self,
        http: web.BaseRequest,
        target: Target,
        verb: str,
        audit_id: str,
        user: UserInfo,
        notes: Mapping[str, str],
    ) -> Record | None:
        """The record of a request, None when the policy does not want one. Rules are about ``user``, who sent it, and
        not about whom they act as: by that name nobody leaves the log. ``notes`` are of what they showed for it."""
        record = await self._record(http, target, verb, audit_id, user)
        if record is not None:
            record.annotations.update(notes)
            record.stage("RequestReceived")
        return record

    async def strangers(self, http: web.BaseRequest, target: Target, verb: str, audit_id: str, error: ApiError) -> None:
        """The one event of a request whose credentials nobody vouched for."""
        record = await self._record(http, target, verb, audit_id, None)
        if record is not None:
            record.unknown(_attempted(http), error.code)

    async def _record(
        self, http: web.BaseRequest, target: Target, verb: str, audit_id: str, user: UserInfo | None
    ) -> Record | None:
        verdict = self.policy.verdict(user or UserInfo(""), verb, target)
        self.by_level[verdict.level.name] += 1
        if verdict.level is Level.NONE:
            return None
        if self.log.full:
            await self.log.drained()
        record = Record(self.log, verdict, _head(http, target, verb, audit_id, user))
        if target.resource is not None and target.resource.warning:
            record.annotations["k8s.io/deprecated"] = "true"
        return record


def _head(
    http: web.BaseRequest,
    target: Target,
    verb: str,
    audit_id: str,
    user: UserInfo | None,
) -> Obj:
    event: Obj = {
        "auditID": audit_id,
        "requestURI": http.raw_path,
        "verb": verb,
        "user": user.to_api() if user is not None else {},
    }
    event["sourceIPs"] = _addresses(http)
    agent = http.headers.get("User-Agent")
    if agent:
        event["userAgent"] = header_text(agent[:1024])
    if target.plural:
        reference = {
            "resource": target.plural,
            "namespace": target.namespace,
            "name": target.name,
            "apiGroup": target.group,
            "apiVersion": target.version,
            "subresource": target.subresource,
        }
        event["objectRef"] = {key: value for key, value in reference.items() if value}
    event["requestReceivedTimestamp"] = format_micro(datetime.now(UTC))
    return event


def _attempted(http: web.BaseRequest) -> str:
    """Which credentials were shown, in upstream's words."""
    shown = []
    sort = http.headers.get("Authorization", "").strip().partition(" ")[0].lower()
    if sort in ("basic", "bearer"):
        shown.append(sort)
    if connection_of(http).peer_der is not None:
        shown.append("x509")
    return f"Authentication failed, attempted: {', '.join(shown)}" if shown else _NOTHING_SHOWN


def _addresses(http: web.BaseRequest) -> list[str]:
    """As upstream: what proxies claim, then who is connected."""
    claimed = [part.strip() for part in header_text(http.headers.get("X-Forwarded-For", "")).split(",") if part.strip()]
    real = header_text(http.headers.get("X-Real-Ip", "")).strip()
    found = claimed or ([real] if real else [])
    if http.remote and http.remote not in found:
        found.append(http.remote)
    return found


class Record:
    """One request; ``annotations`` may be added to until it is over."""

    def __init__(self, log: AuditLog, verdict: Verdict, head: Obj) -> None:
        self._log = log
        self._verdict = verdict
        self._head = head
        self._request: Any = None
        self._answer: Obj | None = None
        self._response: Any = None
        self._begun = False
        self.lasts = False
        """Whether its answer may begin long before its end (watches, streams, proxies), which is logged then."""
        self.annotations: dict[str, str] = {}

    @property
    def level(self) -> Level:
        """How much is wanted."""
        return self._verdict.level

    @property
    def shows_answer(self) -> bool:
        """Whether the answer itself is to be logged."""
        return self.level >= Level.RequestResponse

    @property
    def omits_managers(self) -> bool:
        """Whether it is to be logged without managedFields."""
        return self._verdict.omit_managed_fields

    def acts_as(self, acting: Acting) -> None:
        """They may, for the rest of the request."""
        self._head["impersonatedUser"] = acting.user.to_api()
        if acting.constraint:
            self._head["authenticationMetadata"] = {"impersonationConstraint": acting.constraint}

    def unknown(self, why: str, code: int) -> None:
        """Nobody knows who sent it."""
        self._answer = {"metadata": {}, "message": why, "code": code}
        self.stage("ResponseStarted")

    def authorized(self, decision: str, reason: str) -> None:
        """``decision`` is "allow" or "forbid"."""
        self.annotations["authorization.k8s.io/decision"] = decision
        self.annotations["authorization.k8s.io/reason"] = reason

    def undecided(self) -> None:
        """The authorizers could not say."""
        self.annotations["authorization.k8s.io/reason"] = "internal error"

    def take_request(self, body: Any) -> None:
        """The decoded body, before anybody changes it."""
        if isinstance(body, dict) and "objectRef" in self._head:
            self._refer(body)
        if self.level >= Level.Request:
            self._request = orjson.Fragment(orjson.dumps(self.cleaned(body)))

    def _refer(self, body: Obj) -> None:
        metadata = body.get("metadata")
        if not isinstance(metadata, dict):
            return
        reference = self._head["objectRef"]
        for field in ("name", "namespace", "uid", "resourceVersion"):
            if metadata.get(field) and field not in reference:
                reference[field] = metadata[field]

    def begun(self, code: int) -> None:
        """The answer has begun, which is logged of one that lasts; again is harmless."""
        if not self._begun:
            self._begun = True
            self._answer = self._answer or {"metadata": {}, "code": code}
            if self.lasts:
                self.stage("ResponseStarted")

    def end(self, response: web.StreamResponse) -> None:
        """All is over, and this was answered."""
        if self.lasts:
            self.begun(response.status)
        self._take_response(response)
        self.stage("ResponseComplete")

    def cut(self) -> None:
        """All is over before the end of an answer, or before there was one."""
        self._answer = self._answer or {"metadata": {}, "status": "Success", "message": _EARLY, "code": 200}
        if self.lasts:
            self.begun(200)
        self.stage("ResponseComplete")

    def take_error(self, error: ApiError) -> None:
        """The request failed."""
        status = error.status()
        self._answer = {key: value for key, value in status.items() if key not in ("kind", "apiVersion")}
        self._response = None
        self.take_value(status)

    def take_value(self, value: Any) -> None:
        """What the client gets, whatever the form."""
        if self.shows_answer:
            self._response = orjson.Fragment(orjson.dumps(self.cleaned(value)))

    def take_json(self, body: bytes) -> None:
        """The same, encoded already, without blanks, and as it is to be logged."""
        self._response = orjson.Fragment(body.rstrip())  # an event is one line

    def take_object(self, body: bytes) -> None:
        """The same of one object as it is."""
        if self.shows_answer:
            self._take_answer(body, "application/json")

    def _take_answer(self, body: bytes, media: str) -> None:
        try:
            if media == "application/json":
                managed = self.omits_managers and "objectRef" in self._head and b'"managedFields"' in body
                if managed or b"\n" in body.rstrip():
                    self._response = self.cleaned(orjson.loads(body))
                else:
                    self.take_json(body)
            elif media == "application/yaml":
                self._response = self.cleaned(yaml.load(body, Loader=yaml.CSafeLoader))
        except (orjson.JSONDecodeError, yaml.YAMLError):
            self._response = None  # no object of ours: what a proxied server has answered

    def _take_response(self, response: web.StreamResponse) -> None:
        if self._answer is None:
            self._answer = {"metadata": {}, "code": response.status}
        if not self.shows_answer or self._response is not None or not isinstance(response, web.Response):
            return
        body = response.body
        if not isinstance(body, bytes) or not body:
            return
        if response.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self._take_answer(body, response.content_type)

    def cleaned(self, body: Any) -> Any:
        """``body``, or what of it is to be logged."""
        if not self.omits_managers or not isinstance(body, dict):
            return body
        cleaned = dict(body)
        metadata = cleaned.get("metadata")
        if isinstance(metadata, dict) and "managedFields" in metadata:
            cleaned["metadata"] = {key: value for key, value in metadata.items() if key != "managedFields"}
        if isinstance(cleaned.get("items"), list):
            cleaned["items"] = [self.cleaned(item) for item in cleaned["items"]]
        if cleaned.get("kind") == "Table" and isinstance(cleaned.get("rows"), list):
            cleaned["rows"] = [{**row, "object": self.cleaned(row.get("object"))} for row in cleaned["rows"]]
        return cleaned

    def stage(self, stage: str) -> None:
        """Write the event of a stage unless it is to be left out."""
        verdict = self._verdict
        if stage in verdict.omit_stages:
            return
        event: Obj = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": verdict.level.name,
            "auditID": self._head["auditID"],
            "stage": stage,
            **self._head,
        }
        if stage != "RequestReceived":
            event["responseStatus"] = self._answer or {"metadata": {}, "code": 200}
            if self._request is not None:
                event["requestObject"] = self._request
            if self._response is not None:
                event["responseObject"] = self._response
        event["stageTimestamp"] = format_micro(datetime.now(UTC))
        shown = self.annotations
        if verdict.level < Level.Request:
            shown = {key: value for key, value in shown.items() if not key.startswith(_PATCHES)}
        if shown:
            event["annotations"] = shown
        self._log.put(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))

    def panicked(self) -> None:
        """The server failed in a way nobody foresaw."""
        self._answer = {
            "metadata": {},
            "status": "Failure",
            "message": "APIServer panic'd: the server failed to handle the request; see its log",
            "reason": "InternalError",
            "code": 500,
        }
        self.stage("Panic")
