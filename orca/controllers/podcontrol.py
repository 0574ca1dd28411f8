"""Making and deleting pods on behalf of a set, with the events people look for."""

import copy

from orca.api.builtin import PODS
from orca.api.errors import ApiError
from orca.api.objects import Obj, name, namespace
from orca.api.resources import Resource
from orca.client.events import EventRecorder
from orca.controllers.cache import Cache
from orca.controllers.claims import owner_reference


def pod_from_template(resource: Resource, owner: Obj, template: Obj) -> Obj:
    """A pod as the template says, controlled by `owner`, its name completed by the server. Pure."""
    metadata = template.get("metadata") or {}
    made: Obj = {
        "generateName": f"{name(owner)}-",
        "namespace": namespace(owner),
        "ownerReferences": [owner_reference(resource, owner)],
    }
    for part in ("labels", "annotations", "finalizers"):
        if metadata.get(part):
            made[part] = copy.copy(metadata[part])
    return {
        "apiVersion": PODS.api_version,
        "kind": PODS.kind,
        "metadata": made,
        "spec": copy.deepcopy(template.get("spec") or {}),
    }


class PodControl:
    """Creates and deletes pods; every success and failure is told as an event of the owner."""

    def __init__(self, pods: Cache, recorder: EventRecorder) -> None:
        self._pods = pods
        self._recorder = recorder

    async def create(self, owner: Obj, pod: Obj) -> Obj:
        """Creates the pod. ApiError as the server says; a namespace that is being deleted is told by nobody."""
        try:
            created = await self._pods.create(pod)
        except ApiError as error:
            if not namespace_is_terminating(error):
                self._recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self._recorder.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {name(created)}")
        return created

    async def delete(self, owner: Obj, pod: Obj) -> None:
        """Deletes the pod gracefully; fine when it is gone."""
        try:
            await self._pods.delete(pod)
        except ApiError as error:
            self._recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {error}")
            raise
        self._recorder.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name(pod)}")


def namespace_is_terminating(error: BaseException) -> bool:
    """A creation was refused because the namespace is being deleted."""
    if not isinstance(error, ApiError) or error.code != 403:
        return False
    causes = (error.details or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
