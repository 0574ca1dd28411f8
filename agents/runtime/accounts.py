"""Users and groups that an image knows: what its /etc/passwd and /etc/group say.

The engine tells neither. They are read out of a container that is created and never started, once for each image of
which somebody asks, and only when a pod's groups hang on them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import aiohttp

from agents.runtime.engine import Engine
from agents.runtime.errors import EngineUnavailable, NameTaken, NoSuchContainer, RefusedByEngine

PURPOSE = "io.orca.purpose"
"""Label of containers that are nobody's."""
READER = "accounts"
LARGEST_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Accounts:
    """``users``: name, uid, gid; ``groups``: name, gid, members; in the order of the files."""

    users: tuple[tuple[str, int, int], ...] = ()
    groups: tuple[tuple[str, int, frozenset[str]], ...] = ()

    def primary_group(self, user: str) -> int:
        """Of a user by name or number; 0 of one that is not there, as the engine has it."""
        return next((gid for name, uid, gid in self.users if user in (name, str(uid))), 0)

    def memberships(self, user: str) -> tuple[int, ...]:
        """Groups that list a user, given by name or number."""
        name = next((name for name, uid, _ in self.users if user in (name, str(uid))), user)
        return tuple(gid for _, gid, members in self.groups if name in members)


def parse(passwd: str, group: str) -> Accounts:
    """From the texts of the files; lines that are not of their format are left out."""
    users = []
    for line in passwd.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= 4 and fields[2].isdigit() and fields[3].isdigit():
            users.append((fields[0], int(fields[2]), int(fields[3])))
    groups = []
    for line in group.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= 4 and fields[2].isdigit():
            groups.append((fields[0], int(fields[2]), frozenset(filter(None, fields[3].split(",")))))
    return Accounts(tuple(users), tuple(groups))


async def read(engine: Engine, image_id: str) -> Accounts:
    """Those of an image on this host; empty for files it has not. Raises a ``RuntimeFailure``."""
    name = f"orca-accounts-{image_id.removeprefix('sha256:')[:24]}"
    body = {"Image": image_id, "Entrypoint": ["/"], "NetworkDisabled": True, "Labels": {PURPOSE: READER}}
    try:
        created = await engine.call("POST", "/containers/create", params={"name": name}, body=body)
    except NameTaken:
        await _remove(engine, name)  # of an agent that ended in the middle
        created = await engine.call("POST", "/containers/create", params={"name": name}, body=body)
    try:
        return parse(*[await _file(engine, created["Id"], path) for path in ("/etc/passwd", "/etc/group")])
    finally:
        await _remove(engine, created["Id"])


async def sweep(engine: Engine) -> None:
    """Remove what an agent before this one left behind. Raises a ``RuntimeFailure``."""
    params = {"all": "1", "filters": f'{{"label":["{PURPOSE}={READER}"]}}'}
    found: list[dict[str, Any]] = await engine.call("GET", "/containers/json", params=params)
    for container in found:
        await _remove(engine, container["Id"])


async def _file(engine: Engine, container: str, path: str) -> str:
    """Content of a file, "" when there is none, or none of a size that such a file has."""
    archive = f"/containers/{container}/archive"
    try:
        async with engine.stream("GET", archive, params={"path": path}) as response:
            raw = await response.content.read(LARGEST_FILE)
            while not response.content.at_eof() and len(raw) < LARGEST_FILE:
                raw += await response.content.read(LARGEST_FILE)
    except RefusedByEngine:
        return ""
    except aiohttp.ClientError as error:
        raise EngineUnavailable(str(error)) from error
    import tarfile  # few images name users

    try:
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            member = next((entry for entry in tar if entry.isfile()), None)
            content = tar.extractfile(member) if member is not None else None
            return content.read().decode(errors="replace") if content is not None else ""
    except tarfile.TarError:
        return ""


async def _remove(engine: Engine, container: str) -> None:
    try:
        await engine.call("DELETE", f"/containers/{container}", params={"force": "1", "v": "1"})
    except NoSuchContainer:
        return
