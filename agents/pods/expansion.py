"""``$(NAME)`` in commands, arguments and environment values. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")


def expand(text: str, *known: Mapping[str, str]) -> str:
    """``$(NAME)`` becomes its value, ``$$`` a single ``$`` (so ``$$(NAME)`` is left as ``$(NAME)``), and what is not
    known stays as written. The first mapping that has the name wins."""
    if "$" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        for values in known:
            if name in values:
                return values[name]
        return match[0]

    return _REFERENCE.sub(replace, text)
