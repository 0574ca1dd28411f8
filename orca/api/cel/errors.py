"""What can go wrong with an expression, worded as upstream's compiler and runtime word it."""


class CelCompileError(Exception):
    """The expression does not compile; the text is what upstream shows after ``compilation failed:``."""


class CelError(Exception):
    """The evaluation has no result: a missing key, an index out of bounds, operands that do not fit."""


class CelCostError(CelError):
    """The evaluation was stopped because it cost more than allowed. Not absorbed by ``||`` and ``&&``."""


EXCEEDED = "operation cancelled: actual cost limit exceeded"
NO_SUCH_OVERLOAD = "no such overload"


def no_such_overload() -> CelError:
    """Operands of types that the function does not take, found out while evaluating."""
    return CelError(NO_SUCH_OVERLOAD)
