"""Having the images of a container: pull policy, credentials, back-off, and what is told about it.

Upstream: ``pkg/kubelet/images/image_manager.go``, whose texts these are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from agents.images.access import SecretUse
from agents.images.mounts import ImageVolumeError
from agents.pods.containers import find_container, init_containers, spec_of
from agents.pods.credentials import Login, credentials_for, entries_in
from agents.pods.memory import FIRST_PULL_RETRY, LAST_PULL_RETRY
from agents.pods.pulls import VOLUME_PREFIX, failed_again
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.runtime.errors import (
    EngineTimeout,
    EngineUnavailable,
    InvalidReference,
    NoSuchImage,
    PullFailed,
    RegistryUnavailable,
    RuntimeFailure,
)
from agents.runtime.model import ImageInfo
from agents.runtime.pulling import PullProgress
from agents.runtime.references import parse_reference
from orca.api.durations import format_duration
from orca.api.objects import Obj, uid

FIRST_SHOWN = 3.0
"""A pull that takes longer than this shows how far it is …"""
SHOWN_EVERY = 5.0
"""… and again this often: every time is a write of the pod's status."""
EVENTS_AT = (10.0, 60.0)
"""An event tells it after so many seconds, then each time the last of these has passed again."""


@dataclass(frozen=True, slots=True)
class Need:
    """An image that a pod needs: ``key`` is the action's, ``container`` is "" for one that is a volume."""

    key: str
    image: str
    policy: str
    container: str = ""

    @property
    def trouble(self) -> str:
        """Key of a failure other than of the pull; another image of the same container knows nothing of it."""
        return f"{self.key}@{self.image}"


def pull_policy(image: str, policy: str) -> str:
    """The spec's, or by the tag: Always for ``latest``, IfNotPresent otherwise."""
    if policy:
        return policy
    try:
        return "Always" if parse_reference(image).tag == "latest" else "IfNotPresent"
    except InvalidReference:
        return "IfNotPresent"


async def ensure_image(subject: Subject, tools: Tools, name: str) -> None:
    """Fills ``memory.images[name]`` or notes the failure to show."""
    container = find_container(subject.pod, name)
    assert container is not None, name
    image = container.get("image", "")
    policy = pull_policy(image, container.get("imagePullPolicy") or "")
    info = await _ensure(subject, tools, Need(f"image:{name}", image, policy, name))
    if info is not None:
        subject.memory.images[name] = info
        subject.memory.image_details[info.id] = info


async def ensure_volume(subject: Subject, tools: Tools, name: str) -> None:
    """Mounts the image volume ``name`` and notes it in ``memory.pulls.volumes``, or notes the failure to show."""
    pod, memory, mounts = subject.pod, subject.memory, tools.images.mounts
    volume = next(item for item in spec_of(pod).get("volumes") or () if item["name"] == name)
    source: Obj = volume.get("image") or {}
    image = source.get("reference") or ""
    need = Need(f"image:{VOLUME_PREFIX}{name}", image, pull_policy(image, source.get("pullPolicy") or ""))
    if not await mounts.mounted(uid(pod), name):
        before = memory.failures.get(need.trouble)
        info = await _ensure(subject, tools, need)
        if info is None:
            return
        if before is not None:
            memory.failures[need.trouble] = before  # the delay goes on growing when it is the mount that fails
        try:
            await mounts.mount(info, uid(pod), name)
        except (ImageVolumeError, RuntimeFailure, OSError) as error:
            subject.failed(need.trouble, "CreateContainerError", str(error), first=1.0, last=120.0)
            text = f'MountVolume.SetUp failed for volume "{name}" : {error}'
            subject.tell("FailedMount", text, warning=True)
            return
        subject.succeeded(need.trouble)
    memory.pulls.volumes.add(name)


async def _ensure(subject: Subject, tools: Tools, need: Need) -> ImageInfo | None:
    """The image, or None when the failure is noted."""
    image, name = need.image, need.container

    def trouble(reason: str, message: str, event: str) -> None:
        subject.failed(need.trouble, reason, message, first=FIRST_PULL_RETRY, last=LAST_PULL_RETRY)
        subject.tell(event, message, container=name, warning=True)
        subject.tell("Failed", f"Error: {reason}", container=name, warning=True)

    try:
        info = await _have(subject, tools, need)
    except InvalidReference as error:
        trouble("InvalidImageName", f'Failed to apply default image tag "{image}": {error}', "InspectFailed")
    except NoSuchImage:
        text = f'Container image "{image}" is not present with pull policy of Never'
        trouble("ErrImageNeverPull", text, "ErrImageNeverPull")
    except PullFailed as error:
        reason, said, message = "ErrImagePull", str(error), str(error)
        if isinstance(error, RegistryUnavailable):
            reason, said = "RegistryUnavailable", f"RegistryUnavailable: {error}"
            message = f"image pull failed for {image} because the registry is unavailable: {error}"
        _note_failure(subject, image, reason, message)
        subject.tell("Failed", f'Failed to pull image "{image}": {said}', container=name, warning=True)
        subject.tell("Failed", f"Error: {reason}", container=name, warning=True)
    except (EngineUnavailable, EngineTimeout) as error:
        creating = "PodInitializing" if init_containers(subject.pod) else "ContainerCreating"
        subject.failed(need.trouble, creating, str(error), last=5.0)
    except (RuntimeFailure, OSError) as error:
        message = f'Failed to inspect image "{image}": {error}'
        subject.failed(need.trouble, "ImageInspectError", message)
        subject.tell("InspectFailed", message, container=name, warning=True)
    else:
        subject.succeeded(need.trouble)
        return info
    finally:
        subject.memory.pulls.progress.pop(need.key, None)
    return None


def _note_failure(subject: Subject, image: str, reason: str, message: str) -> None:
    """Containers of the pod that waited for the same pull raise the delay together, once."""
    failed, now = subject.memory.pulls.failed, subject.clock.now()
    old = failed.get(image)
    if old is None or now >= old.ready_at:
        failed[image] = failed_again(old, reason, message, now)


async def _have(subject: Subject, tools: Tools, need: Need) -> ImageInfo:
    """What the policy asks for. Raises ``InvalidReference``, ``NoSuchImage`` (never to be pulled), ``PullFailed``."""
    parse_reference(need.image)
    tally = tools.runtime.images.tally
    logins: list[Login] | None = None

    async def known_logins() -> list[Login]:
        nonlocal logins
        if logins is None:
            logins = await _logins(subject, tools, need.image)
        return logins

    async def secrets() -> Sequence[SecretUse]:
        return [login.source for login in await known_logins() if login.source is not None]

    if need.policy != "Always":
        try:
            info = await tools.runtime.images.inspect(need.image)
        except NoSuchImage:
            if need.policy == "Never":
                tally.asked(need.policy, False, None)
                raise
            tally.asked(need.policy, False, True)
        else:
            if await tools.images.records.may_use(need.image, info.id, secrets):
                text = f'Container image "{need.image}" already present on machine and can be accessed by the pod'
                subject.tell("Pulled", text, container=need.container)
                tally.asked(need.policy, True, False)
                return info
            tally.asked(need.policy, True, True)
            if need.policy == "Never":
                # As if it were not there: that it is, is nobody's business who cannot pull it.
                raise NoSuchImage(need.image)
    else:
        tally.asked(need.policy, None, True)
    return await _pull(subject, tools, need, await known_logins())


async def _logins(subject: Subject, tools: Tools, image: str) -> list[Login]:
    secrets, missing = await tools.sources.pull_secrets(subject.pod)
    if missing:
        subject.tell(
            "FailedToRetrieveImagePullSecret",
            f"Unable to retrieve some image pull secrets ({', '.join(missing)}); attempting to pull the image may not "
            "succeed.",
            warning=True,
        )
    files = await asyncio.to_thread(tools.images.node_logins)
    return credentials_for(image, secrets, [entries_in(content, wrapped=wrapped) for content, wrapped in files])


async def _pull(subject: Subject, tools: Tools, need: Need, logins: Sequence[Login]) -> ImageInfo:
    image, services, clock = need.image, tools.images, tools.clock
    subject.tell("Pulling", f'Pulling image "{image}"', container=need.container)
    began = clock.monotonic()
    try:
        await services.records.pulling(image)
        took, login = await _with_any_of(tools, image, logins, _Teller(subject, need))
        try:
            info = await tools.runtime.images.inspect(image)
        except NoSuchImage as error:
            raise PullFailed(f"the engine pulled {image} but does not have it: {error}") from error
    except BaseException:
        await asyncio.shield(services.records.failed(image))
        raise
    finally:
        tools.pulled(uid(subject.pod), began, clock.monotonic())
    await asyncio.shield(services.records.pulled(image, info.id, login.source if login else None))
    waited = clock.monotonic() - began
    tools.runtime.images.tally.pulled(waited, info.size)
    subject.tell(
        "Pulled",
        f'Successfully pulled image "{image}" in {format_took(took)} ({format_took(waited)} including waiting). '
        f"Image size: {info.size} bytes.",
        container=need.container,
    )
    return info


async def _with_any_of(
    tools: Tools, image: str, logins: Sequence[Login], teller: _Teller
) -> tuple[float, Login | None]:
    """With each login until one works; anonymously only where there is none. Answers seconds and the login."""
    failures: list[PullFailed] = []
    candidates: Sequence[Login | None] = logins or (None,)
    for login in candidates:
        try:
            return await tools.images.puller.pull(image, auth=login.auth if login else None, watch=teller), login
        except PullFailed as error:
            failures.append(error)
    texts = list(dict.fromkeys(str(error) for error in failures))
    if len(texts) == 1:
        raise failures[0]
    raise PullFailed(f"[{', '.join(texts)}]")


class _Teller:
    """Shows how far a pull has come, without spamming the API."""

    def __init__(self, subject: Subject, need: Need) -> None:
        self._subject = subject
        self._need = need
        self._began = subject.clock.monotonic()
        self._show_at = FIRST_SHOWN
        self._tell_at = EVENTS_AT[0]

    def __call__(self, progress: PullProgress) -> None:
        passed, text = self._subject.clock.monotonic() - self._began, progress.text()
        if not text:
            return
        if passed >= self._show_at:
            self._show_at = passed + SHOWN_EVERY
            self._subject.memory.pulls.progress[self._need.key] = text
            self._subject.changed()
        if passed >= self._tell_at:
            self._tell_at = passed + EVENTS_AT[-1]
            message = f'Pulling image "{self._need.image}": {text}'
            self._subject.tell("Pulling", message, container=self._need.container)


def format_took(seconds: float) -> str:
    """As Go prints a duration, cut to milliseconds: ``393ms``, ``1.2s``, ``1m2.5s``, ``1h0m3s``."""
    return format_duration(int(seconds * 1000) / 1000)
