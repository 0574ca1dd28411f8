"""One request on its way through the handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict

from orca.auth import UserInfo
from orca.server.fairness.turns import Lane, Turns
from orca.server.negotiation import PLAIN, Form, negotiate
from orca.server.paths import Target

_TRUE = ("1", "t", "T", "true", "True", "TRUE")
_READ_BY_PEOPLE = ("curl", "Wget", "Mozilla/5.0")
if TYPE_CHECKING:
    from orca.server.audit.record import Record

_NO_QUERY: Mapping[str, str] = MultiDict()


def parse_query(text: str) -> Mapping[str, str]:
    """The query string as a multidict; blank values are kept."""
    return MultiDict(parse_qsl(text, keep_blank_values=True)) if text else _NO_QUERY


def for_people(user_agent: str) -> bool:
    """Whether a person reads what this program gets."""
    return user_agent.startswith(_READ_BY_PEOPLE)


@dataclass(slots=True)
class Request:
    """``http`` is the transport's view, the rest is ours: who asks for what."""

    http: web.BaseRequest
    method: str
    target: Target
    query: Mapping[str, str]
    query_text: str
    user: UserInfo
    audit_id: str
    begun: Callable[[], None] | None = None
    """Called by what streams when it has begun: from then on it takes no seat and has no deadline."""
    record: Record | None = None
    """What the audit log will say; None when it says nothing about this request."""
    lane: Lane = field(default_factory=lambda: Turns().lane(""))
    """Where it waits between the parts of a long answer, so that others are served."""
    stored: Callable[[], AbstractContextManager[None]] = nullcontext
    """Within it the answer to a write is made that is stored by now: neither its deadline nor a client that goes ends
    that."""

    def answering(self, status: int) -> None:
        """An answer has begun that may not come to its end."""
        if self.record is not None:
            self.record.begun(status)

    @property
    def form(self) -> Form:
        """The negotiated form of the answer. Raises ApiError 406."""
        accept = self.http.headers.get("Accept", "")
        return negotiate(accept) if accept else PLAIN

    @property
    def form_without_tables(self) -> Form:
        """The same for answers that are no stored objects, as reviews. Raises ApiError 406."""
        return negotiate(self.http.headers.get("Accept", ""), tables=False)

    @property
    def pretty(self) -> bool:
        """Whether a person reads the answer: ``?pretty`` says so, else the program that asks."""
        wanted = self.query.get("pretty") if self.query else None
        if wanted:
            return wanted in _TRUE
        return for_people(self.http.headers.get("User-Agent", ""))

    @property
    def accept_encoding(self) -> str:
        return self.http.headers.get("Accept-Encoding", "")
