"""Regular expressions in the syntax of RE2, which is Go's: in schemas and in CEL. Whatever they say, they are quick.

Reference: Go's ``regexp/syntax`` for the syntax and the words of its errors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

_WORDS: Final = {
    "bad repetition operator": "invalid nested repetition operator",
    "invalid named capture group": "invalid named capture",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid repetition size": "invalid repeat count",
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "pattern too large - compile failed": "expression too large",
    "trailing \\": "trailing backslash at end of expression",
}
"""What the library calls an error, and what Go does."""


class BadPattern(ValueError):
    """An expression that cannot be compiled, in Go's words: ``error parsing regexp: missing closing ): `(` ``."""


@lru_cache(maxsize=512)
def compiled(pattern: str) -> Any:
    """The library's expression, for finding where it matches. Raises BadPattern."""
    import re2

    try:
        return re2.compile(pattern, _options())
    except re2.error as error:
        reason = error.args[0] if error.args else "unknown"
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        kind, _, part = text.partition(": ")
        raise BadPattern(f"error parsing regexp: {_WORDS.get(kind, kind)}: `{part}`") from None


@lru_cache(maxsize=4096)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Says whether the expression matches anywhere in a text. Raises BadPattern."""
    import re2

    compiled(pattern)
    # A set of one: it says yes or no, many times faster than the library's way of finding where.
    one = re2.Set.SearchSet(_options(never_capture=True))
    one.Add(pattern)
    one.Compile()
    match = one.Match
    return lambda text: bool(match(text))


def _options(*, never_capture: bool = False) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = never_capture
    return options
