"""Looking at a pod's containers: the engine's answer, and what only containers themselves can tell."""

from __future__ import annotations

from agents.pods.containers import told_message
from agents.pods.messages import read_message
from agents.pods.paths import pod_files
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.runtime.errors import NoSuchContainer, NoSuchImage
from agents.runtime.identity import linux_user
from agents.runtime.model import ContainerInfo


class Observer:
    """Puts what it sees into the memory of one pod."""

    def __init__(self, subject: Subject, tools: Tools) -> None:
        self._subject = subject
        self._tools = tools

    async def look(self, container_id: str) -> None:
        """Observe a container, and read its last words when it has ended."""
        memory = self._subject.memory
        try:
            info = await self._tools.runtime.inspect(container_id)
        except NoSuchContainer:
            memory.forget(container_id)
            return
        await self.take_in(info)

    async def take_in(self, info: ContainerInfo) -> None:
        """Memory of an inspected container, with image details and termination message."""
        memory = self._subject.memory
        if info.state == "exited" and not info.is_sandbox and info.id not in memory.messages:
            path = pod_files(self._tools.config, info.pod_uid).termination(info.container, info.attempt)
            # The file may have gone with the pod's other files, before an agent that was killed could end the rest.
            message = await read_message(info, path, self._tools.runtime)
            memory.messages[info.id] = message or told_message(self._subject.pod, info)
        if not info.is_sandbox and info.image_id not in memory.image_details:
            try:
                memory.image_details[info.image_id] = await self._tools.runtime.images.inspect(info.image_id)
            except NoSuchImage:
                pass  # a running container outlives its image's name
        self.note_user(info)
        memory.observe(info)

    def note_user(self, info: ContainerInfo) -> None:
        """Whom a container was started as; nobody can tell once it has ended."""
        users = self._subject.memory.users
        if info.running and not info.is_sandbox and info.id not in users:
            user = linux_user(info.id, info.pid)
            if user is not None:
                users[info.id] = {"linux": user}

    async def look_at_sandbox(self) -> None:
        """It may have gone."""
        sandbox = self._subject.memory.sandbox
        if sandbox is not None:
            await self.look(sandbox.id)

    async def adopt_by_name(self, engine_name: str) -> None:
        """A container that should have been ours already: made by an agent before this one."""
        try:
            await self.take_in(await self._tools.runtime.inspect(engine_name))
        except NoSuchContainer:
            return
