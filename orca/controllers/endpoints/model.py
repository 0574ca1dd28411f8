"""What one pod contributes to a Service. Pure."""

from collections.abc import Iterator
from ipaddress import ip_address

from orca.api.objects import Obj, is_terminating, labels, name, namespace, uid
from orca.controllers import podstate

ZONE_LABEL = "topology.kubernetes.io/zone"
HEADLESS_LABEL = "service.kubernetes.io/headless"


def is_headless(service: Obj) -> bool:
    """`clusterIP: None`."""
    return bool(service["spec"].get("clusterIP") == "None")


def has_selector(service: Obj) -> bool:
    """Its endpoints are ours to write; ExternalName and selector-less Services are someone else's."""
    return bool(service["spec"].get("selector")) and service["spec"].get("type") != "ExternalName"


def selects(service: Obj, pod: Obj) -> bool:
    """Every pair of the selector is among the pod's labels."""
    selector: dict[str, str] = service["spec"].get("selector") or {}
    return bool(selector) and selector.items() <= labels(pod).items()


def families(service: Obj) -> list[str]:
    """Address families the Service has endpoints in: IPv4 unless it says otherwise."""
    return list(service["spec"].get("ipFamilies") or ["IPv4"])


def address_of(pod: Obj, family: str) -> str | None:
    """The pod's address of that family."""
    status = pod.get("status") or {}
    found = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    for address in found:
        if address and (ip_address(address).version == 6) == (family == "IPv6"):
            return str(address)
    return None


def contributes(pod: Obj, *, terminating: bool) -> bool:
    """It is assigned an address and may still serve; pods being deleted only count with `terminating`."""
    return (
        not podstate.is_finished(pod)
        and bool((pod.get("status") or {}).get("podIP"))
        and (terminating or not is_terminating(pod))
    )


def ports_of(service: Obj, pod: Obj) -> list[Obj]:
    """The Service's ports as this pod serves them; a named target port the pod does not have is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = target_port(pod, port)
        if number is None:
            continue
        entry: Obj = {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        found.append(entry)
    return found


def target_port(pod: Obj, port: Obj) -> int | None:
    """The number behind `targetPort`, which may be a container port's name."""
    target = port.get("targetPort")
    if target is None or target == 0:
        return int(port["port"])
    if isinstance(target, int):
        return target
    protocol = port.get("protocol", "TCP")
    for container in _containers(pod):
        for offered in container.get("ports") or ():
            if offered.get("name") == target and offered.get("protocol", "TCP") == protocol:
                return int(offered["containerPort"])
    return None


def _containers(pod: Obj) -> Iterator[Obj]:
    yield from pod["spec"].get("containers") or ()
    for container in pod["spec"].get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield container


def hostname_of(service: Obj, pod: Obj) -> str:
    """The name under which DNS answers for this pod in a headless Service, "" for none."""
    spec = pod["spec"]
    return (spec.get("hostname") or "") if spec.get("subdomain") == name(service) else ""


def target_reference(pod: Obj) -> Obj:
    """`targetRef` of an endpoint."""
    return {"kind": "Pod", "namespace": namespace(pod), "name": name(pod), "uid": uid(pod)}


def fingerprint(pod: Obj) -> tuple[object, ...]:
    """Everything about a pod that endpoints depend on: an update that leaves it alone needs no work."""
    status = pod.get("status") or {}
    return (
        status.get("podIP"),
        status.get("podIPs"),
        podstate.phase(pod),
        podstate.is_ready(pod),
        is_terminating(pod),
        pod["spec"].get("nodeName"),
        labels(pod),
    )
