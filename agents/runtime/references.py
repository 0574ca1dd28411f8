"""Image names as registries understand them: pure.

Spec: the distribution project's reference grammar (``[domain/]path[:tag][@digest]``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agents.runtime.errors import InvalidReference

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::\d+)?"
_REFERENCE = re.compile(
    rf"^(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?$"
)
DEFAULT_DOMAIN = "docker.io"


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed image name; ``tag`` defaults to ``latest`` when there is neither tag nor digest."""

    domain: str
    path: str
    tag: str
    digest: str
    text: str

    @property
    def repository(self) -> str:
        """What the engine pulls: the name without tag and digest, as the user wrote it."""
        name = self.text.partition("@")[0]
        head, slash, last = name.rpartition("/")
        return f"{head}{slash}{last.partition(':')[0]}"

    @property
    def version(self) -> str:
        """Digest when there is one, otherwise the tag."""
        return self.digest or self.tag


def parse_reference(text: str) -> Reference:
    """Raises ``InvalidReference`` with upstream's wording."""
    match = _REFERENCE.match(text)
    if match is None:
        raise _unreadable(text)
    domain, path = match["domain"] or "", match["path"]
    if domain and not ("." in domain or ":" in domain or domain == "localhost"):
        if domain != domain.lower():
            raise _unreadable(text)
        domain, path = "", f"{domain}/{path}"
    if not domain:
        domain = DEFAULT_DOMAIN
        if "/" not in path:
            path = f"library/{path}"
    tag, digest = match["tag"] or "", match["digest"] or ""
    return Reference(domain=domain, path=path, tag=tag or ("" if digest else "latest"), digest=digest, text=text)


def _unreadable(text: str) -> InvalidReference:
    """With the words of the distribution project's parser."""
    head, slash, rest = text.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        repository = rest
    else:
        repository = text if slash else f"library/{text}"
    repository = repository.partition(":")[0]
    why = "invalid reference format"
    if repository != repository.lower():
        why += f": repository name ({repository}) must be lowercase"
    return InvalidReference(f'couldn\'t parse image name "{text}": {why}')
