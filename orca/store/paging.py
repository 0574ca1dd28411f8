"""Continue tokens: where a list goes on, and at which revision."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import orjson

from orca.api.errors import ApiError, bad_request
from orca.api.objects import Obj

_VERSION = "meta.k8s.io/v1"
_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, slots=True)
class Position:
    """The next key at or after `start`, in the state at `revision`; -1: in whatever state there is then."""

    revision: int
    start: str


class ContinueExpired(ApiError):
    """410 that carries a token with which the rest can be had inconsistently."""

    def __init__(self, position: Position) -> None:
        super().__init__(410, "Expired", _TOO_OLD)
        self.token = encode(Position(-1, position.start))

    def status(self) -> Obj:
        status = super().status()
        status["metadata"] = {"continue": self.token}
        return status


def encode(position: Position) -> str:
    """An opaque token for clients."""
    body = orjson.dumps({"v": _VERSION, "rv": position.revision, "start": position.start})
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def decode(token: str) -> Position:
    """Raises ApiError 400 for what we did not make."""
    try:
        parsed = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if parsed["v"] != _VERSION or not isinstance(parsed["rv"], int) or not isinstance(parsed["start"], str):
            raise ValueError("unknown version")
        return Position(parsed["rv"], parsed["start"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise bad_request(f"continue key is not valid: {error}") from error
