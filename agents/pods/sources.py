"""What pods refer to by name, fetched when a container starts: ConfigMaps, Secrets, files, RuntimeClasses."""

from __future__ import annotations

import asyncio

from agents.pods.environment import Sources, wanted_files, wanted_sources
from agents.pods.ports import Volumes
from orca.api.builtin import CONFIGMAPS, RUNTIMECLASSES, SECRETS
from orca.api.errors import ApiError, is_not_found, not_found
from orca.api.objects import Obj, namespace
from orca.api.resources import Resource
from orca.client.base import Client


class SourceReader:
    """Many containers that ask for the same object at the same moment are one request; nothing is kept longer, so that
    a restarted container sees the present values."""

    def __init__(self, client: Client, volumes: Volumes) -> None:
        self._client = client
        self._volumes = volumes
        self._asking: dict[tuple[Resource, str, str], asyncio.Task[Obj | None]] = {}

    async def read(self, pod: Obj, container: Obj) -> Sources:
        """What exists of the objects and files the container's environment refers to. Raises ``ApiError``."""
        config_maps, secrets = wanted_sources(container)
        read = {one: await self._volumes.read(pod, *one) for one in wanted_files(container)}
        files = {one: raw.decode(errors="replace") for one, raw in read.items() if raw is not None}
        if not config_maps and not secrets:
            return Sources(files=files)
        space = namespace(pod)
        wanted = [(CONFIGMAPS, name) for name in sorted(config_maps)] + [(SECRETS, name) for name in sorted(secrets)]
        found = await asyncio.gather(*(self._get(resource, space, name) for resource, name in wanted))
        sources: dict[Resource, dict[str, Obj]] = {CONFIGMAPS: {}, SECRETS: {}}
        for (resource, name), obj in zip(wanted, found, strict=True):
            if obj is not None:
                sources[resource][name] = obj
        return Sources(sources[CONFIGMAPS], sources[SECRETS], files)

    async def _get(self, resource: Resource, space: str, name: str) -> Obj | None:
        key = (resource, space, name)
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(resource, space, name), name=f"get {resource.plural} {space}/{name}")
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _fetch(self, resource: Resource, space: str, name: str) -> Obj | None:
        try:
            return await self._client.get(resource, name, space)
        except ApiError as error:
            if is_not_found(error):
                return None
            raise

    async def runtime_handler(self, pod: Obj) -> str:
        """The handler of the pod's RuntimeClass, "" for the default. Raises ``ApiError``, 404 when there is no such
        class."""
        wanted = (pod.get("spec") or {}).get("runtimeClassName")
        if not wanted:
            return ""
        found = await self._get(RUNTIMECLASSES, "", wanted)
        if found is None:
            raise not_found(RUNTIMECLASSES, wanted)
        return str(found.get("handler") or "")

    async def pull_secrets(self, pod: Obj) -> tuple[list[Obj], list[str]]:
        """``imagePullSecrets`` of the pod, and the names of those that could not be had."""
        names = [item["name"] for item in (pod.get("spec") or {}).get("imagePullSecrets") or () if item.get("name")]

        async def get(name: str) -> Obj | None:
            try:
                return await self._get(SECRETS, namespace(pod), name)
            except ApiError:
                return None  # as good as missing: the pull is tried without, as upstream

        found = await asyncio.gather(*(get(name) for name in names))
        missing = [name for name, obj in zip(names, found, strict=True) if obj is None]
        return [obj for obj in found if obj is not None], missing
