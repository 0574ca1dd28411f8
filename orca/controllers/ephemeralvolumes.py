"""Claims that are made for one pod alone, from the template in its volume, and go with it.

Reference: k8s.io/kubernetes ``pkg/controller/volume/ephemeral``.
"""

from collections.abc import Iterator

from orca.api.builtin import PERSISTENTVOLUMECLAIMS, PODS
from orca.api.errors import ApiError, is_already_exists
from orca.api.objects import Obj, controller_of, is_terminating, key, name, namespace, uid
from orca.controllers import podstate
from orca.controllers.claims import owner_reference
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter


def wanted(pod: Obj) -> Iterator[Obj]:
    """The claims of a pod's ephemeral volumes."""
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("ephemeral") is None:
            continue
        template = volume["ephemeral"].get("volumeClaimTemplate") or {}
        metadata = template.get("metadata") or {}
        kept = {part: dict(metadata[part]) for part in ("labels", "annotations") if metadata.get(part)}
        yield {
            "apiVersion": PERSISTENTVOLUMECLAIMS.api_version,
            "kind": PERSISTENTVOLUMECLAIMS.kind,
            "metadata": {
                "name": f"{name(pod)}-{volume['name']}",
                "namespace": namespace(pod),
                **kept,
                "ownerReferences": [owner_reference(PODS, pod)],
            },
            "spec": template.get("spec") or {},
        }


class EphemeralVolumeController(Controller):
    """Keys are pods with such volumes."""

    name = "ephemeral-volume-controller"
    resource = PODS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = self.caches.of(PODS)
        self._claims = self.caches.of(PERSISTENTVOLUMECLAIMS)
        self._pods.informer.on_add(self._seen)
        self._claims.informer.on_delete(self._claim_gone)

    def _seen(self, pod: Obj) -> None:
        if any(volume.get("ephemeral") is not None for volume in pod["spec"].get("volumes") or ()):
            self.enqueue(pod)

    def _claim_gone(self, claim: Obj) -> None:
        owner = controller_of(claim)
        if owner is not None and owner["kind"] == PODS.kind:
            self.queue.add(f"{namespace(claim)}/{owner['name']}")

    async def sync(self, key: str) -> Outcome:
        """One pod: what it lacks is made; a claim of that name that is somebody else's is told of."""
        pod = self._pods.get(key)
        if pod is None or is_terminating(pod) or podstate.is_finished(pod):
            return DONE
        done = True
        for claim in wanted(pod):
            present = self._claims.get(f"{namespace(claim)}/{name(claim)}")
            done &= self._is_own(pod, present) if present is not None else await self._make(pod, claim)
        # A claim that is in the way may go, and nothing tells whose name it had taken.
        return DONE if done else RetryAfter()

    async def _make(self, pod: Obj, claim: Obj) -> bool:
        try:
            await self._claims.create(claim)
        except ApiError as error:
            if is_already_exists(error):
                return False  # whose it is, the watch will tell
            text = f"create PVC {name(claim)}: {error}"
            self.recorder.event(pod, "Warning", "EphemeralVolumeClaimFailed", text)
            return False
        return True

    def _is_own(self, pod: Obj, present: Obj) -> bool:
        owner = controller_of(present)
        if owner is not None and owner["uid"] == uid(pod):
            return True
        text = f'PVC "{name(present)}" was not created for pod "{key(pod)}" (pod is not owner)'
        self.recorder.event(pod, "Warning", "EphemeralVolumeClaimFailed", text)
        return False
