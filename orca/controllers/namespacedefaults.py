"""What every namespace has from the start: the ServiceAccount `default` and the cluster's CA certificate."""

from abc import abstractmethod
from pathlib import Path

from orca.api.builtin import CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS
from orca.api.errors import ApiError, is_already_exists
from orca.api.objects import Obj, is_terminating, name, namespace
from orca.api.resources import Resource
from orca.controllers.harness import DONE, Context, Controller, Outcome
from orca.controllers.podcontrol import namespace_is_terminating

ROOT_CA = "kube-root-ca.crt"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class NamespaceFollower(Controller):
    """Queues live namespaces when they appear, and when the object they should have changes or vanishes."""

    resource = NAMESPACES
    object_name = ""

    def __init__(self, context: Context, kept: Resource) -> None:
        super().__init__(context)
        self._namespaces = self.caches.of(NAMESPACES)
        self._objects = objects = self.caches.of(kept)
        self._namespaces.informer.on_add(self.enqueue)
        self._namespaces.informer.on_update(lambda _, new: self.enqueue(new))
        objects.informer.on_update(lambda _, new: self._object_changed(new))
        objects.informer.on_delete(self._object_changed)

    @abstractmethod
    def wanted(self, current: Obj | None) -> Obj | None:
        """The object without its namespace; None when `current` is right."""

    def _object_changed(self, obj: Obj) -> None:
        if name(obj) == self.object_name:
            self.queue.add(namespace(obj))

    async def sync(self, key: str) -> Outcome:
        """One namespace."""
        found = self._namespaces.get(key)
        if found is None or is_terminating(found):
            return DONE
        current = self._objects.get(f"{key}/{self.object_name}")
        made = self.wanted(current)
        if made is None:
            return DONE
        try:
            if current is None:
                await self._objects.create(made, key)
            else:
                await self._objects.update({**current, **made, "metadata": {**current["metadata"], **made["metadata"]}})
        except ApiError as error:
            if not is_already_exists(error) and not namespace_is_terminating(error):
                raise
        return DONE


class ServiceAccountsController(NamespaceFollower):
    """The account pods run under when they name none."""

    name = "service-account-controller"
    object_name = "default"

    def __init__(self, context: Context) -> None:
        super().__init__(context, SERVICEACCOUNTS)

    def wanted(self, current: Obj | None) -> Obj | None:
        """Only its existence matters."""
        if current is not None:
            return None
        return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}


class RootCAController(NamespaceFollower):
    """The ConfigMap pods verify the API server with."""

    name = "root-ca-certificate-publisher-controller"
    object_name = ROOT_CA

    def __init__(self, context: Context) -> None:
        super().__init__(context, CONFIGMAPS)
        path: Path | None = context.config.ca_cert_path
        self._bundle = path.read_text() if path is not None else ""

    def wanted(self, current: Obj | None) -> Obj | None:
        """The bundle, whatever someone made of it."""
        data = {"ca.crt": self._bundle}
        if not self._bundle or (current is not None and current.get("data") == data):
            return None
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOT_CA, "annotations": {"kubernetes.io/description": DESCRIPTION}},
            "data": data,
        }
