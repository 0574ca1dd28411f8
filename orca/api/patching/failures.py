"""How patches fail."""

from typing import Any

from orca.api.errors import ApiError


def unappliable(why: str) -> ApiError:
    """422: well formed, but it does not fit the object. The message is upstream's; the cause says more."""
    message = "the server rejected our request due to an error in our request"
    return ApiError(422, "Invalid", message, {"causes": [{"message": why, "field": "patch"}]})


class TestFailed(ApiError):
    """A patch's own test of the object said no; :func:`unappliable` besides."""

    __test__ = False  # for pytest

    def __init__(self, why: str) -> None:
        refusal = unappliable(why)
        super().__init__(refusal.code, refusal.reason, refusal.message, refusal.details)


def reason(error: ApiError) -> str:
    """Why a patch does not fit: the cause of an :func:`unappliable`, else the error's message."""
    causes = (error.details or {}).get("causes") or [{}]
    return causes[0].get("message") or error.message


def as_go(value: Any) -> str:
    """A JSON value as Go's ``%v`` prints it."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{as_go(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(as_go(item) for item in value) + "]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
