"""Claims get volumes: those that fit, or new ones."""

from orca.api.builtin import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, STORAGECLASSES
from orca.api.errors import ApiError, is_already_exists
from orca.api.objects import Obj, annotations, is_terminating, key, labels, meta, name, namespace
from orca.api.volumes import (
    BUILT_IN,
    LOCAL_PATH,
    PROVISIONER,
    PROVISIONER_BETA,
    SELECTED_NODE,
    allowed_topology,
    annotation,
    capacity,
    class_of,
    has_class,
    is_bound,
    requested,
)
from orca.controllers import podstate
from orca.controllers.conditions import status_of
from orca.controllers.harness import DONE, Context, Controller, Outcome, RetryAfter
from orca.controllers.persistentvolume.plan import (
    Bind,
    Provision,
    Stay,
    bound_claim,
    bound_status,
    bound_volume,
    grown_volume,
    plan_claim,
)
from orca.controllers.persistentvolume.provisioning import ProvisioningError, claim_reference, provision
from orca.controllers.storageprotection import claims_of

EVENTS_FROM = "persistentvolume-controller"
RETRY_SECONDS = 15.0
"""After a failure that only somebody else can mend: upstream looks at everything again that often."""
_DEFAULT_MARKS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


class PersistentVolumeClaimBinder(Controller):
    """Keys are claims."""

    name = "persistentvolume-binder-controller"
    resource = PERSISTENTVOLUMECLAIMS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.recorder = context.recorder(EVENTS_FROM)
        self._claims = self.caches.of(PERSISTENTVOLUMECLAIMS)
        self._volumes = self.caches.of(PERSISTENTVOLUMES)
        self._classes = self.caches.of(STORAGECLASSES)
        self._nodes = self.caches.of(NODES)
        self._pods = self.caches.of(PODS)
        self._claims.informer.on_add(self.enqueue)
        self._claims.informer.on_update(lambda _, new: self.enqueue(new))
        self._claims.informer.on_delete(lambda gone: self.queue.forget(key(gone)))
        self._volumes.informer.on_change(self._volume_changed)
        self._classes.informer.on_add(self._class_changed)
        self._classes.informer.on_update(lambda _, new: self._class_changed(new))
        self._pods.informer.on_add(self._pod_came)

    def _volume_changed(self, volume: Obj) -> None:
        reference = volume["spec"].get("claimRef")
        if reference:
            self.queue.add(f"{reference.get('namespace')}/{reference.get('name')}")
        for claim in self._claims.by_index("volume", name(volume)):
            self.enqueue(claim)
        if not reference:
            for claim in self._claims.by_index("waiting", class_of(volume)):
                self.enqueue(claim)

    def _class_changed(self, storage_class: Obj) -> None:
        for claim in self._claims.by_index("waiting", name(storage_class)):
            self.enqueue(claim)
        if _is_default(storage_class):
            for claim in self._claims.by_index("waiting", ""):
                self.enqueue(claim)

    def _pod_came(self, pod: Obj) -> None:
        """What a claim waits for may be told anew; nothing else comes of it."""
        if not pod["spec"].get("nodeName"):
            for claim_name in claims_of(pod):
                self.queue.add(f"{namespace(pod)}/{claim_name}")

    async def sync(self, key: str) -> Outcome:
        """One claim."""
        claim = self._claims.get(key)
        if claim is None:
            return DONE
        if not claim["spec"].get("volumeName") and not has_class(claim) and not is_terminating(claim):
            claim = await self._with_default_class(claim)
        wanted = claim["spec"].get("volumeName")
        named = self._volumes.get(wanted) if wanted else None
        storage_class = self._classes.get(class_of(claim)) if class_of(claim) else None
        plan = plan_claim(
            claim,
            volumes=()
            if wanted
            else [*self._volumes.by_index("claim", key), *self._volumes.by_index("free", class_of(claim))],
            named=named,
            storage_class=storage_class,
            waits_for=self._waiting_pods(claim),
        )
        match plan:
            case Bind():
                await self._bind(claim, plan.volume)
                return DONE
            case Provision():
                return await self._provision(claim, plan.storage_class)
            case Stay():
                return await self._stay(claim, plan)

    async def _with_default_class(self, claim: Obj) -> Obj:
        """A claim that came before there was a default class gets it once there is one."""
        marked = sorted((one for one in self._classes.all() if _is_default(one)), key=name)
        default = max(marked, key=lambda one: meta(one).get("creationTimestamp") or "", default=None)
        if default is None:
            return claim
        return await self._claims.update({**claim, "spec": {**claim["spec"], "storageClassName": name(default)}})

    def _waiting_pods(self, claim: Obj) -> list[str]:
        """Pods that use an unbound claim and have no node yet."""
        if is_bound(claim):
            return []
        return sorted(
            name(pod)
            for pod in self._pods.by_index("namespace", namespace(claim))
            if not pod["spec"].get("nodeName") and not podstate.is_finished(pod) and name(claim) in claims_of(pod)
        )

    async def _bind(self, claim: Obj, volume: Obj) -> None:
        """In an order that any crash leaves to be finished: the volume points first."""
        bound = bound_volume(volume, claim, claim_reference(claim))
        if bound is not volume:
            volume = await self._volumes.update(bound)
        grown = grown_volume(volume, claim) if is_bound(claim) else None
        if grown is not None:
            volume = await self._volumes.update(grown)
            size = grown["spec"]["capacity"]["storage"]
            self.recorder.event(claim, "Normal", "VolumeResizeSuccessful", f"ExpandVolume succeeded: {size}")
        elif is_bound(claim) and requested(claim).value > capacity(volume).value:
            text = "waiting for an external controller to expand this PVC"
            self.recorder.event(claim, "Normal", "ExternalExpanding", text)
        if (volume.get("status") or {}).get("phase") != "Bound":
            written = await self._volumes.update_status(volume, {**(volume.get("status") or {}), "phase": "Bound"})
            volume = written or volume
        complete = bound_claim(claim, volume)
        if complete is not claim:
            claim = await self._claims.update(complete)
        status = bound_status(claim, volume)
        if status != claim.get("status"):
            await self._claims.update_status(claim, status)

    async def _stay(self, claim: Obj, plan: Stay) -> Outcome:
        if plan.event is not None:
            self.recorder.event(claim, *plan.event)
        if (claim.get("status") or {}).get("phase") != plan.phase:
            await self._claims.update_status(claim, {**(claim.get("status") or {}), "phase": plan.phase})
        return DONE if plan.event is None or plan.phase == "Lost" else RetryAfter(RETRY_SECONDS)

    async def _provision(self, claim: Obj, storage_class: Obj) -> Outcome:
        provisioner = storage_class["provisioner"]
        if provisioner not in BUILT_IN:
            return await self._leave_to(claim, provisioner)
        chosen = annotation(claim, SELECTED_NODE)
        if chosen and self._nodes.get(chosen) is None:
            return await self._choose_again(claim, chosen)
        try:
            node = self._node_for(claim, storage_class)
            volume = provision(claim, storage_class, node)
        except ProvisioningError as error:
            text = f'failed to provision volume with StorageClass "{name(storage_class)}": {error}'
            return await self._stay(claim, Stay("Pending", ("Warning", "ProvisioningFailed", text)))
        try:
            made = await self._volumes.create(volume)
        except ApiError as error:
            if not is_already_exists(error):
                text = f"Error creating provisioned PV object for claim {key(claim)}: {error}. Deleting the volume."
                self.recorder.event(claim, "Warning", "ProvisioningFailed", text)
                raise
            return RetryAfter()  # made by an earlier try; the watch brings it
        text = f"Successfully provisioned volume {name(made)} using {provisioner}"
        self.recorder.event(claim, "Normal", "ProvisioningSucceeded", text)
        await self._bind(claim, made)
        return DONE

    async def _choose_again(self, claim: Obj, gone: str) -> Outcome:
        """The node that the scheduler chose is gone: nothing can be made there, and pods would wait for it for ever."""
        text = f'Failed to get target node: node "{gone}" not found'
        self.recorder.event(claim, "Warning", "ProvisioningFailed", text)
        kept = {mark: value for mark, value in annotations(claim).items() if mark != SELECTED_NODE}
        await self._claims.update({**claim, "metadata": {**meta(claim), "annotations": kept}})
        return DONE

    async def _leave_to(self, claim: Obj, provisioner: str) -> Outcome:
        """Tell another provisioner, by the annotations it watches for."""
        if provisioner.startswith("kubernetes.io/"):
            text = f"no volume plugin matched name: {provisioner}"
            return await self._stay(claim, Stay("Pending", ("Warning", "ProvisioningFailed", text)))
        marks = {PROVISIONER: provisioner, PROVISIONER_BETA: provisioner}
        if any(annotation(claim, mark) != value for mark, value in marks.items()):
            wanted = {**annotations(claim), **marks}
            claim = await self._claims.update({**claim, "metadata": {**meta(claim), "annotations": wanted}})
        text = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
            "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
            "correctly registered."
        )
        return await self._stay(claim, Stay("Pending", ("Normal", "ExternalProvisioning", text)))

    def _node_for(self, claim: Obj, storage_class: Obj) -> Obj | None:
        """The one that the scheduler chose, else among those that may the one with the fewest such volumes."""
        chosen = annotation(claim, SELECTED_NODE)
        if chosen:
            return self._nodes.get(chosen)
        if storage_class["provisioner"] != LOCAL_PATH:
            return None
        ready = [
            node for node in self._nodes.all() if _takes_volumes(node) and allowed_topology(storage_class, labels(node))
        ]
        counts = dict.fromkeys(map(name, ready), 0)
        for volume in self._volumes.by_index("provisioner", LOCAL_PATH):
            for host in counts:
                counts[host] += host in _hosts_of(volume)
        return min(ready, key=lambda node: (counts[name(node)], name(node)), default=None)


def _takes_volumes(node: Obj) -> bool:
    spec = node.get("spec") or {}
    taints = [taint for taint in spec.get("taints") or () if taint.get("effect") != "PreferNoSchedule"]
    return status_of(node, "Ready") == "True" and not spec.get("unschedulable") and not taints


def _hosts_of(volume: Obj) -> list[str]:
    required = (volume["spec"].get("nodeAffinity") or {}).get("required") or {}
    expressions = [
        one for term in required.get("nodeSelectorTerms") or () for one in term.get("matchExpressions") or ()
    ]
    return [value for one in expressions for value in one.get("values") or ()]


def _is_default(storage_class: Obj) -> bool:
    return any(annotation(storage_class, mark) == "true" for mark in _DEFAULT_MARKS)
