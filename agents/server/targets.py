"""What a request to the agent means: its flags, the container it names, and how it is refused."""

from __future__ import annotations

from aiohttp import web

from agents.pods.containers import api_status, find_container
from agents.pods.ports import ContainerRefs, PodView
from agents.server.remote import StreamOptions
from orca.api.objects import Obj, name

_WORDS = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
"""What a kubelet says of these reasons when it is asked for logs."""


def failure(status: int, text: str) -> web.HTTPException:
    """An answer of that status, to be raised."""
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        404: web.HTTPNotFound,
        422: web.HTTPUnprocessableEntity,
    }
    return kinds.get(status, web.HTTPInternalServerError)(text=text)


def flag(request: web.Request, name: str) -> bool:
    """A query parameter that is true or not."""
    return request.query.get(name, "").lower() in ("1", "true")


def container_of(view: PodView, container: str) -> Obj:
    """The container in the pod's spec, of whatever sort. Raises web.HTTPException 404."""
    found = find_container(view.pod, container)
    if found is None:
        raise failure(404, f"container {container} not found in pod {name(view.pod)}")
    return found


def logged(view: PodView, container: Obj, *, previous: bool) -> str:
    """Engine id of the container whose logs are meant. Raises web.HTTPException 400."""
    called, pod = container["name"], name(view.pod)
    refs = view.containers.get(called)
    if previous:
        if refs is None or not refs.previous:
            raise failure(400, f'previous terminated container "{called}" in pod "{pod}" not found')
        return refs.previous
    if refs is None or not refs.current:
        reason = _waiting_reason(view, called)
        raise failure(400, f'container "{called}" in pod "{pod}" is waiting to start: {_WORDS.get(reason, reason)}')
    return refs.current


def _waiting_reason(view: PodView, container: str) -> str:
    state = api_status(view.pod, container).get("state") or {}
    return str((state.get("waiting") or {}).get("reason") or "ContainerCreating")


def running(view: PodView, container: Obj) -> ContainerRefs:
    """The container as the engine has it. Raises web.HTTPException 500 when it does not run."""
    refs = view.containers.get(container["name"])
    if refs is None or not refs.running:
        raise failure(500, f'container not found ("{container["name"]}")')
    return refs


def stream_options(request: web.Request) -> StreamOptions:
    """kubelet's names are input, output, error and tty; those of the API are taken too."""
    options = StreamOptions(
        stdin=flag(request, "input") or flag(request, "stdin"),
        stdout=flag(request, "output") or flag(request, "stdout"),
        stderr=flag(request, "error") or flag(request, "stderr"),
        tty=flag(request, "tty"),
    )
    if not (options.stdin or options.stdout or options.stderr):
        raise failure(400, "you must specify at least 1 of stdin, stdout, stderr")
    return options
