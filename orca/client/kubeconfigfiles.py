"""What files of a kubeconfig say together, as client-go merges them.

The first file to set something wins: ``current-context``, and each cluster, user and context as a whole. Paths are
meant as seen from the file that names them. Reference: k8s.io/client-go ``tools/clientcmd/loader.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_KINDS = {"clusters": "cluster", "contexts": "context", "users": "user"}
_SHAPES: dict[str, tuple[type, type]] = {
    **dict.fromkeys(("certificate-authority", "client-certificate", "client-key", "tokenFile"), (str, str)),
    **dict.fromkeys(("certificate-authority-data", "client-certificate-data", "client-key-data"), (str, str)),
    "as-groups": (list, str),
    "as-user-extra": (dict, list),
    "extensions": (list, dict),
    "exec": (dict, object),
    "args": (list, object),
    "env": (list, dict),
}
"""Fields for which not any value will do: what they are, and what they hold."""
_WORDS: dict[type, str] = {str: "a text", list: "a list", dict: "an object"}


class KubeconfigError(ValueError):
    """The file cannot be used; the message says why and names the file."""


class Section(NamedTuple):
    """A cluster, user or context, and the file that describes it."""

    fields: dict[str, Any]
    file: Path


class Merged:
    """All that the files say. ``files`` are those that exist."""

    def __init__(self, paths: Sequence[Path], *, needed: bool) -> None:
        """``needed``: each must be there; otherwise one of them. Raises KubeconfigError."""
        self._name = ":".join(map(str, paths))
        self.files: list[Path] = []
        self.current = ""
        self._sections: dict[tuple[str, str], Section] = {}
        for path in paths:
            try:
                parsed = yaml.safe_load(path.read_text()) or {}
            except FileNotFoundError as error:
                if needed:
                    raise KubeconfigError(f"{path}: {error}") from error
                continue
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise KubeconfigError(f"{path}: {error}") from error
            if not isinstance(parsed, dict):
                raise KubeconfigError(f"{path}: is no kubeconfig")
            self.files.append(path)
            self._take(path, parsed)
        if not self.files:
            raise KubeconfigError(f"{self._name}: none of these files exists")

    def _take(self, path: Path, parsed: dict[str, Any]) -> None:
        self.current = self.current or str(parsed.get("current-context") or "")
        for plural, singular in _KINDS.items():
            for entry in _as(list, parsed.get(plural) or [], f"{path}: {plural}"):
                name = str(_as(dict, entry, f"{path}: what is in {plural}").get("name"))
                where = f"{path}: {singular} {name!r}"
                fields = _as(dict, entry.get(singular) or {}, where)
                _check(fields, where)
                self._sections.setdefault((singular, name), Section(fields, path))

    def section(self, kind: str, name: str) -> Section:
        """Raises KubeconfigError for one that no file describes."""
        found = self._sections.get((kind, name))
        if found is not None:
            return found
        if not name:
            told = "there is no current-context" if kind == "context" else f"the context names no {kind}"
            raise KubeconfigError(f"{self._name}: {told}")
        raise KubeconfigError(f"{self._name}: there is no {kind} {name!r}")


def _check(fields: dict[str, Any], where: str) -> None:
    """Raises KubeconfigError for a field that holds something else than it can."""
    for field, (kind, inner) in _SHAPES.items():
        value = fields.get(field)
        if not value:
            continue
        _as(kind, value, f"{where}: {field}")
        if kind is not str:
            for one in value.values() if kind is dict else value:
                _as(inner, one, f"{where}: what is in {field}")
        if field == "exec":
            _check(value, f"{where}: {field}")


def _as(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, kind):
        raise KubeconfigError(f"{where} is not {_WORDS[kind]}")
    return value
