"""DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or unreachable, unless they say."""

from orca.admission.chain import CREATE, UPDATE, Attributes
from orca.api.builtin import PODS
from orca.api.objects import Obj

SECONDS = 300
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class DefaultTolerationSeconds:
    """As upstream's plugin of this name."""

    kinds = frozenset({PODS})
    subresources = frozenset({""})

    async def admit(self, attrs: Attributes) -> None:
        """Adds tolerations."""
        if not attrs.of(PODS, CREATE, UPDATE) or attrs.obj is None:
            return
        spec = attrs.obj.setdefault("spec", {})
        held = spec.get("tolerations") or []
        added = [
            {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}
            for taint in _TAINTS
            if not any(_covers(toleration, taint) for toleration in held)
        ]
        if added:
            spec["tolerations"] = [*held, *added]


def _covers(toleration: Obj, taint: str) -> bool:
    return toleration.get("key") in (taint, None, "") and toleration.get("effect") in ("NoExecute", None, "")
