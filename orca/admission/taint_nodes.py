"""TaintNodesByCondition: a node is born tainted and loses the taint when it first reports Ready."""

from orca.admission.chain import CREATE, Attributes
from orca.api.builtin import NODES

NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


class TaintNodesByCondition:
    """As upstream's plugin of this name."""

    kinds = frozenset({NODES})

    async def admit(self, attrs: Attributes) -> None:
        """Adds the taint to new nodes."""
        if not attrs.of(NODES, CREATE) or attrs.obj is None:
            return
        spec = attrs.obj.setdefault("spec", {})
        held = spec.get("taints") or []
        if not any(t.get("key") == NOT_READY["key"] and t.get("effect") == NOT_READY["effect"] for t in held):
            spec["taints"] = [*held, dict(NOT_READY)]
