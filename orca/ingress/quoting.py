"""Words of an nginx configuration that come from objects of the API, written so that they stay words.

nginx reads a double-quoted word up to the next quote that no backslash precedes, and turns ``\\"``, ``\\\\``, ``\\t``,
``\\r`` and ``\\n`` in it into characters (``ngx_conf_read_token``). Some directives then expand ``$name`` in the word;
nginx has no way to write a dollar sign there, so the configuration defines a variable that holds one.
"""

from __future__ import annotations

import re
from collections.abc import Collection

DOLLAR = "orca_dollar"
"""The nginx variable that holds a dollar sign."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REFERENCE = re.compile(r"\$(?:\{([a-z_][a-z0-9_]*)\}|([a-z_][a-z0-9_]*)|([1-9]))|\$")


class Unquotable(ValueError):
    """The text cannot be part of a configuration: it has control characters, or names a variable that is not open.
    ``owner`` is the Ingress it is of, where that is known."""

    owner = ""


def quoted(text: str) -> str:
    """One word for a directive that expands no variables: paths and expressions of ``location``, files, addresses."""
    if _CONTROL.search(text) or not _encodable(text):
        raise Unquotable(f"{text!r} has control characters")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal(text: str) -> str:
    """One word for a directive that expands variables (``set``, ``return``, ``add_header`` …), none of which is."""
    return quoted(text).replace("$", f"${{{DOLLAR}}}")


def template(text: str, variables: Collection[str]) -> str:
    """One word in which ``$name`` of these variables (``1`` for a capture) is expanded; raises for any other."""

    def checked(found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[3]
        if name not in variables:
            raise Unquotable(f"{found[0]!r} in {text!r} is not one of the variables that may be used")
        return f"${name}" if found[3] else f"${{{name}}}"  # nginx knows no braces around the number of a group

    return quoted(_REFERENCE.sub(checked, text))


def _encodable(text: str) -> bool:
    """Whether it has no half surrogates, which JSON can carry and a file cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
