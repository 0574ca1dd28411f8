"""Having the image of a container: pull policy, credentials, and what is told about it."""

from __future__ import annotations

from agents.pods.containers import find_container
from agents.pods.credentials import credentials_for
from agents.pods.memory import FIRST_PULL_RETRY, LAST_PULL_RETRY
from agents.pods.subject import Subject
from agents.pods.tools import Tools
from agents.runtime.errors import (
    EngineUnavailable,
    InvalidReference,
    NoSuchImage,
    PullFailed,
    RuntimeFailure,
)
from agents.runtime.model import ImageInfo
from agents.runtime.references import parse_reference
from orca.api.errors import ApiError
from orca.api.objects import Obj


def pull_policy(container: Obj) -> str:
    """The spec's, or by the tag: Always for ``latest``, IfNotPresent otherwise."""
    policy: str = container.get("imagePullPolicy") or ""
    if policy:
        return policy
    try:
        return "Always" if parse_reference(container.get("image", "")).tag == "latest" else "IfNotPresent"
    except InvalidReference:
        return "IfNotPresent"


async def ensure_image(subject: Subject, tools: Tools, name: str) -> None:
    """Fills ``memory.images[name]`` or notes the failure to show."""
    container = find_container(subject.pod, name)
    assert container is not None, name
    key, image = f"image:{name}", container.get("image", "")
    try:
        info = await _have(subject, tools, container)
    except InvalidReference as error:
        message = f'Failed to apply default image tag "{image}": {error}'
        subject.failed(key, "InvalidImageName", message, first=FIRST_PULL_RETRY, last=LAST_PULL_RETRY)
        subject.tell("InspectFailed", message, container=name, warning=True)
        subject.tell("Failed", "Error: InvalidImageName", container=name, warning=True)
    except NoSuchImage:
        message = f'Container image "{image}" is not present with pull policy of Never'
        subject.failed(key, "ErrImageNeverPull", message, first=FIRST_PULL_RETRY, last=FIRST_PULL_RETRY)
        subject.tell("ErrImageNeverPull", message, container=name, warning=True)
        subject.tell("Failed", "Error: ErrImageNeverPull", container=name, warning=True)
    except PullFailed as error:
        subject.failed(key, "ErrImagePull", str(error), first=FIRST_PULL_RETRY, last=LAST_PULL_RETRY)
        subject.tell("Failed", f'Failed to pull image "{image}": {error}', container=name, warning=True)
        subject.tell("Failed", "Error: ErrImagePull", container=name, warning=True)
    except EngineUnavailable as error:
        subject.failed(key, "ContainerCreating", str(error), last=5.0)
    except (RuntimeFailure, ApiError) as error:
        subject.failed(key, "ImageInspectError", str(error))
        subject.tell("InspectFailed", f'Failed to inspect image "{image}": {error}', container=name, warning=True)
    else:
        subject.succeeded(key)
        subject.memory.images[name] = info
        subject.memory.image_details[info.id] = info


async def _have(subject: Subject, tools: Tools, container: Obj) -> ImageInfo:
    name, image, images = container["name"], container.get("image", ""), tools.runtime.images
    parse_reference(image)
    policy = pull_policy(container)
    if policy != "Always":
        try:
            info = await images.inspect(image)
        except NoSuchImage:
            if policy == "Never":
                raise
        else:
            subject.tell("Pulled", f'Container image "{image}" already present on machine', container=name)
            return info
    subject.tell("Pulling", f'Pulling image "{image}"', container=name)
    began = tools.clock.monotonic()
    await _pull(subject, tools, image)
    took = _go_duration(tools.clock.monotonic() - began)
    try:
        info = await images.inspect(image)
    except NoSuchImage as error:
        raise PullFailed(f"the engine pulled {image} but does not have it: {error}") from error
    subject.tell(
        "Pulled",
        f'Successfully pulled image "{image}" in {took} ({took} including waiting). Image size: {info.size} bytes.',
        container=name,
    )
    return info


async def _pull(subject: Subject, tools: Tools, image: str) -> None:
    """With every login that fits until one works, at last (or only) without any."""
    logins: list[dict[str, str] | None] = []
    logins += credentials_for(image, await tools.sources.pull_secrets(subject.pod))
    failure: PullFailed | None = None
    for login in logins or [None]:
        try:
            await tools.runtime.images.pull(image, auth=login)
            return
        except PullFailed as error:
            failure = error
    assert failure is not None
    raise failure


def _go_duration(seconds: float) -> str:
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60:
        return f"{round(seconds, 3):g}s"
    return f"{int(seconds // 60)}m{round(seconds % 60, 3):g}s"
