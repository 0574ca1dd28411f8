"""Files of environment variables (``fileKeyRef``): a strict subset of what a POSIX shell reads. Pure.

    # comment
    NAME='value, kept as it is, over as many lines as it likes'  # comment

Reference: k8s.io/kubernetes ``pkg/kubelet/util/env``.
"""

from __future__ import annotations

from collections.abc import Iterator

_BLANK = " \t"


def variables(text: str) -> Iterator[tuple[str, str]]:
    """Name and value of every variable, in order. Raises ValueError at the first line that is not of the format: what
    comes before it has been given by then."""
    lines = iter(enumerate(text.split("\n"), start=1))
    for number, line in lines:
        rest = line.lstrip(_BLANK)
        if not rest.rstrip("\r") or rest.startswith("#"):
            continue
        name, equals, value = rest.partition("=")
        trouble = _trouble_with(name, equals)
        if trouble:
            raise _invalid(number, trouble)
        if not value or value[0] in _BLANK:
            yield name, ""
            continue
        if value[0] != "'":
            raise _invalid(number, "value must be enclosed in single quotes")
        value = value[1:]
        while "'" not in value:
            further = next(lines, None)
            if further is None:
                raise _invalid(number, "unclosed single quote")
            value += f"\n{further[1]}"
        value, _, after = value.partition("'")
        if after.strip(_BLANK + "\r") and not after.lstrip(_BLANK).startswith("#"):
            raise _invalid(number, "unexpected content after closing quote")
        yield name, value


def find(text: str, key: str) -> str:
    """The value of a variable, "" when the file has none of that name. Raises ValueError, unless the variable comes
    before what is wrong."""
    return next((value for name, value in variables(text) if name == key), "")


def _trouble_with(name: str, equals: str) -> str:
    if not equals:
        return "missing '='"
    if not name:
        return "empty variable name"
    return "whitespace before '=' is not allowed" if name != name.rstrip(_BLANK) else ""


def _invalid(number: int, why: str) -> ValueError:
    return ValueError(f"invalid environment variable format at line {number}: {why}")
