"""configMap, secret, downwardAPI and projected: files made of objects, and made again when these change.

Reference: k8s.io/kubernetes ``pkg/volume/{configmap,secret,downwardapi,projected}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agents.pods.environment import Place
from agents.pods.ports import Mounted
from agents.threads import to_the_end
from agents.volumes import atomic, payload
from agents.volumes.errors import VolumeError
from agents.volumes.payload import File
from agents.volumes.plugin import Places, fs_group
from agents.volumes.sources import ObjectSource
from agents.volumes.tokens import TokenSource
from orca.api.builtin import CONFIGMAPS, SECRETS
from orca.api.errors import ApiError
from orca.api.objects import Obj, namespace, uid
from orca.client.clock import Clock

DEFAULT_TOKEN_SECONDS = 3600
LEAST_TOKEN_SECONDS = 600
TOKEN_MODE = 0o600
_NO_SECRET_KEY = "references non-existent secret"
DIRECTORIES = {
    "configMap": "configmap",
    "secret": "secret",
    "downwardAPI": "downward-api",
    "projected": "projected",
}


class FilesFromApi:
    """One of the four types: ``kind`` is the field of the volume. ``place`` tells what the downward API knows of the
    host and of the pod's addresses."""

    follows_api = True

    def __init__(
        self,
        kind: str,
        *,
        places: Places,
        sources: ObjectSource,
        tokens: TokenSource,
        place: Callable[[Obj], Place],
        clock: Clock,
    ) -> None:
        self._kind = kind
        self._places = places
        self._sources = sources
        self._tokens = tokens
        self._place = place
        self._clock = clock

    async def make(self, pod: Obj, name: str, source: Obj) -> Mounted:
        if self._kind == "projected":
            parts = source.get("sources") or []
        else:
            parts = [{self._kind: _plain(source, self._kind)}]
        files = await self._all(pod, parts, default_mode=_mode(source))
        path = self._places.in_memory(pod, DIRECTORIES[self._kind], name)
        await to_the_end(atomic.write, path, files, now=self._clock.now(), group=fs_group(pod))
        # Never writable, whatever the mount says: an update would undo the change.
        return Mounted(str(path), read_only=True)

    async def _all(self, pod: Obj, parts: Iterable[Obj], *, default_mode: int) -> dict[str, File]:
        """Files of all sources, the later over the earlier; raises VolumeError with what is wrong with any of them."""
        files: dict[str, File] = {}
        problems: list[str] = []
        for part in parts:
            try:
                files |= await self._projection(pod, part, default_mode=default_mode)
            except VolumeError as error:
                problems.append(str(error))
        if problems:
            distinct = list(dict.fromkeys(problems))
            raise VolumeError(distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]")
        return files

    async def _projection(self, pod: Obj, part: Obj, *, default_mode: int) -> dict[str, File]:
        """Files of one source of a projected volume; the plain volume types are such sources too."""
        kind = next(iter(part), "")
        source = part.get(kind) or {}
        if kind in ("configMap", "secret"):
            return await self._objects_files(pod, kind, source, default_mode)
        if kind == "downwardAPI":
            return payload.downward_files(pod, source.get("items") or [], self._place(pod), default_mode=default_mode)
        if kind == "serviceAccountToken":
            seconds = max(int(source.get("expirationSeconds") or DEFAULT_TOKEN_SECONDS), LEAST_TOKEN_SECONDS)
            try:
                token = await self._tokens.get(pod, audience=source.get("audience") or "", seconds=seconds)
            except ApiError as error:
                raise VolumeError(f"failed to fetch token: {error}") from error
            owner = _only_user(pod)
            private = owner is not None or fs_group(pod) is not None
            mode = TOKEN_MODE if private else default_mode
            return {source["path"]: File(token.encode(), mode, owner)}
        raise VolumeError(f"projected source {kind or 'unknown'} is not supported by this host")

    async def _objects_files(self, pod: Obj, kind: str, source: Obj, default_mode: int) -> dict[str, File]:
        resource = CONFIGMAPS if kind == "configMap" else SECRETS
        optional = bool(source.get("optional"))
        what = f"{namespace(pod)}/{source['name']}"
        try:
            obj = await self._sources.get(resource, namespace(pod), source["name"], user=uid(pod))
        except TimeoutError:
            raise VolumeError(f"timed out waiting for {resource.singular} {what}") from None
        if obj is None:
            if optional:
                return {}
            raise VolumeError(f'{resource.singular} "{source["name"]}" not found')
        data = payload.config_map_data(obj) if kind == "configMap" else payload.secret_data(obj)
        return payload.data_files(
            data,
            source.get("items"),
            default_mode=default_mode,
            missing="configmap references non-existent config" if kind == "configMap" else _NO_SECRET_KEY,
            optional=optional,
        )


def _plain(source: Obj, kind: str) -> Obj:
    """A volume source as a projection of the same kind: a secret volume names its secret in a field of its own."""
    return {**source, "name": source["secretName"]} if kind == "secret" else source


def _mode(source: Obj) -> int:
    mode = source.get("defaultMode")
    return payload.DEFAULT_MODE if mode is None else int(mode)


def _only_user(pod: Obj) -> int | None:
    """The user all containers run as, when the spec says so and it is one: the owner of token files."""
    spec = pod["spec"]
    default = (spec.get("securityContext") or {}).get("runAsUser")
    users = {
        (container.get("securityContext") or {}).get("runAsUser", default)
        for sort in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(sort) or []
    }
    return users.pop() if len(users) == 1 else None
