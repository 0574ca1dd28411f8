"""Which form of an answer a client wants: the Accept header and what we can make.

Served: JSON, YAML, Table (``;as=Table;g=meta.k8s.io;v=v1``) and PartialObjectMetadata(List).
Not served: protobuf. A client that accepts nothing else gets 406.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from orca.api.errors import not_acceptable

JSON = "application/json"
YAML = "application/yaml"
SERVED = (JSON, YAML)
_TRANSFORMING = {"as", "g", "v"}
_TRANSFORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")


@dataclass(frozen=True, slots=True)
class Form:
    """``kind`` is "" for the object itself, or Table, PartialObjectMetadata, PartialObjectMetadataList."""

    media: str = JSON
    kind: str = ""
    version: str = "v1"

    @property
    def plain_json(self) -> bool:
        return self.kind == "" and self.media == JSON


PLAIN = Form()


@dataclass(frozen=True, slots=True)
class MediaRange:
    media: str
    parameters: dict[str, str]
    quality: float


@lru_cache(maxsize=512)
def media_ranges(accept: str) -> tuple[MediaRange, ...]:
    """The ranges of an Accept header, best first; equal qualities keep their order."""
    found: list[MediaRange] = []
    for clause in accept.split(","):
        media, *raw = (part.strip() for part in clause.split(";"))
        if not media:
            continue
        parameters = {}
        for item in raw:
            key, _, value = item.partition("=")
            parameters[key.strip().lower()] = value.strip().strip('"')
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if quality > 0:
            found.append(MediaRange(media.lower(), parameters, quality))
    return tuple(sorted(found, key=lambda r: -r.quality))


@lru_cache(maxsize=512)
def negotiate(accept: str, *, tables: bool = True) -> Form:
    """The form for objects and lists; what is no stored object has no ``tables``. Raises ApiError 406 when nothing
    acceptable is served."""
    if not accept or accept == JSON:
        return PLAIN
    for wanted in media_ranges(accept):
        if wanted.media in ("*/*", "application/*"):
            media = JSON
        elif wanted.media in SERVED:
            media = wanted.media
        else:
            continue
        if not _TRANSFORMING & wanted.parameters.keys():
            return Form(media)
        kind, version = wanted.parameters.get("as", ""), wanted.parameters.get("v", "")
        if kind == "Table" and not tables:
            continue
        if kind in _TRANSFORMS and wanted.parameters.get("g") == "meta.k8s.io" and version in ("v1", "v1beta1"):
            return Form(media, kind, version)
    raise not_acceptable(SERVED)


@lru_cache(maxsize=512)
def negotiate_discovery(accept: str) -> str:
    """Version of the aggregated discovery document wanted ("v2", "v2beta1"), or "" for the legacy lists."""
    for wanted in media_ranges(accept):
        if wanted.media in (JSON, "*/*", "application/*"):
            kind, version = wanted.parameters.get("as"), wanted.parameters.get("v", "")
            if not kind:
                return ""
            group_ok = wanted.parameters.get("g") == "apidiscovery.k8s.io"
            if kind == "APIGroupDiscoveryList" and group_ok and version in ("v2", "v2beta1"):
                return version
    return ""
