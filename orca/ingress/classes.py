"""Which Ingresses this controller serves: those of IngressClasses with its name, as ingress-nginx decides it."""

from collections.abc import Iterable
from dataclasses import dataclass

from orca.api.objects import Obj, annotations, name

CONTROLLER = "k8s.io/ingress-nginx"
"""ingress-nginx's own name: classes written for it are served without a change."""
ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_MARK = "ingressclass.kubernetes.io/is-default-class"


@dataclass(frozen=True, slots=True)
class Ours:
    """``by_name`` are the classes that name our controller; ``annotated`` is what the old annotation calls us."""

    by_name: frozenset[str]
    annotated: str = "nginx"
    without_class: bool = False

    def serves(self, ingress: Obj) -> bool:
        """Whether the Ingress is ours. The annotation counts before the field, as it did before there was one; an
        Ingress with neither is left alone unless ``without_class`` (the API gives new ones the default class)."""
        wanted = (ingress.get("spec") or {}).get("ingressClassName")
        old = annotations(ingress).get(ANNOTATION)
        if old:
            return old == self.annotated or old in self.by_name
        if wanted is not None:
            return wanted in self.by_name
        return self.without_class


def ours(classes: Iterable[Obj], *, controller: str = CONTROLLER, annotated: str = "nginx") -> Ours:
    """What the cluster's IngressClasses make ours."""
    mine = [one for one in classes if (one.get("spec") or {}).get("controller") == controller]
    default = any(annotations(one).get(DEFAULT_MARK) == "true" for one in mine)
    return Ours(frozenset(map(name, mine)), annotated, default)
