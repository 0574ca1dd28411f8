"""Cell texts shared by several kinds: label sets, selectors, container lists, shortened lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from orca.api.printing.columns import Obj

NONE = "<none>"
UNSET = "<unset>"
SHOWN = 3
"""Of a list of names; the rest is counted."""


def labels(values: dict[str, str] | None) -> str:
    """``a=1,b=2`` in key order, or ``<none>``."""
    if not values:
        return NONE
    return ",".join(f"{key}={values[key]}" for key in sorted(values))


def selector_text(selector: Obj | None) -> str:
    """A metav1.LabelSelector in the query form that ``-l`` takes; empty when it has no requirement."""
    if not selector:
        return ""
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for rule in selector.get("matchExpressions") or ():
        key, operator = rule.get("key", ""), rule.get("operator")
        values = ",".join(sorted(rule.get("values") or ()))
        if operator == "In":
            parts.append((key, f"{key} in ({values})"))
        elif operator == "NotIn":
            parts.append((key, f"{key} notin ({values})"))
        elif operator == "Exists":
            parts.append((key, key))
        elif operator == "DoesNotExist":
            parts.append((key, f"!{key}"))
    parts.sort(key=lambda part: part[0])
    return ",".join(part for _, part in parts)


def selector(value: Obj | None) -> str:
    """As ``selector_text``, with ``<none>`` for an empty one."""
    return selector_text(value) or NONE


def containers(pod_spec: Obj | None) -> tuple[str, str]:
    """Names and images of the containers, each joined with commas."""
    items = (pod_spec or {}).get("containers") or ()
    return ",".join(c.get("name", "") for c in items), ",".join(c.get("image", "") for c in items)


def template_spec(spec: Obj) -> Obj:
    """The pod spec inside ``spec.template``, or an empty dict."""
    return (spec.get("template") or {}).get("spec") or {}


def shortened(values: Sequence[str], *, empty: str = UNSET) -> str:
    """The first values, with how many more there are."""
    if len(values) > SHOWN:
        return f"{','.join(values[:SHOWN])} + {len(values) - SHOWN} more..."
    return ",".join(values) or empty


def truth(value: Any) -> str:
    """``True``, ``False``, or ``<unset>`` for None."""
    if value is None:
        return UNSET
    return "True" if value else "False"


def number(value: Any) -> int:
    """*value*, or 0 when it is missing."""
    return value or 0


def quantity(value: Any) -> str:
    """A stored quantity as text; a missing one is ``0``."""
    return "0" if value is None else str(value)


_MODES = (
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
)


def access_modes(modes: Iterable[str] | None) -> str:
    """``RWO,ROX,RWX,RWOP``: always in this order, each once."""
    present = set(modes or ())
    return ",".join(short for mode, short in _MODES if mode in present)


def load_balancer(state: Obj | None) -> str:
    """Addresses or host names a load balancer reported, sorted."""
    ingress = (state or {}).get("ingress") or ()
    return ",".join(sorted({value for i in ingress if (value := i.get("ip") or i.get("hostname"))}))
