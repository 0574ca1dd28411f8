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
            for entry in parsed.get(plural) or ():
                self._sections.setdefault((singular, str(entry.get("name"))), Section(entry.get(singular) or {}, path))

    def section(self, kind: str, name: str) -> Section:
        """Raises KubeconfigError for one that no file describes."""
        found = self._sections.get((kind, name))
        if found is not None:
            return found
        if not name:
            told = "there is no current-context" if kind == "context" else f"the context names no {kind}"
            raise KubeconfigError(f"{self._name}: {told}")
        raise KubeconfigError(f"{self._name}: there is no {kind} {name!r}")
