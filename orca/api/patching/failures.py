"""How patches fail."""

from orca.api.errors import ApiError


def unappliable(why: str) -> ApiError:
    """422: well formed, but it does not fit the object. The message is upstream's; the cause says more."""
    message = "the server rejected our request due to an error in our request"
    return ApiError(422, "Invalid", message, {"causes": [{"message": why}]})
