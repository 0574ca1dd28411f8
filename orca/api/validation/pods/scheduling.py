"""Where a pod may run: tolerations, affinity, spreading, gates."""

from __future__ import annotations

from orca.api import names
from orca.api.errors import FieldError
from orca.api.validation import common
from orca.api.validation.registry import Errors, Obj

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def tolerations(items: list[Obj], path: str, out: Errors) -> None:
    """``tolerations``."""
    for i, toleration in enumerate(items):
        at = f"{path}[{i}]"
        key, operator, value = toleration.get("key"), toleration.get("operator"), toleration.get("value")
        effect = toleration.get("effect")
        if key:
            common.messages(names.qualified_name(key), key, f"{at}.key", out)
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            out.append(FieldError.invalid(f"{at}.operator", operator or "", text))
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            out.append(FieldError.invalid(f"{at}.effect", effect or "", text))
        if operator in ("Equal", "", None):
            wrong = names.label_value(value or "")
            if wrong:
                out.append(FieldError.invalid(f"{at}.operator", value, ";".join(wrong)))
        elif operator == "Exists":
            if value:
                text = "value must be empty when `operator` is 'Exists'"
                out.append(FieldError.invalid(f"{at}.operator", value, text))
        elif operator in ("Lt", "Gt"):
            out.append(FieldError.not_supported(f"{at}.operator", operator, ("Equal", "Exists", "Lt", "Gt")))
        else:
            out.append(FieldError.not_supported(f"{at}.operator", operator, ("Equal", "Exists")))
        common.choice(effect, EFFECTS, f"{at}.effect", out)


def node_selector(selector: Obj, path: str, out: Errors) -> None:
    """A NodeSelector: at least one term."""
    terms = selector.get("nodeSelectorTerms")
    at = f"{path}.nodeSelectorTerms"
    if not terms:
        out.append(FieldError.required(at, "must have at least one node selector term"))
    for i, term in enumerate(terms or ()):
        _term(term, f"{at}[{i}]", out)


def _term(term: Obj, path: str, out: Errors, *, preferred: bool = False) -> None:
    """One term; values of a *preferred* one are not judged, as stored pods have all sorts."""
    for i, rule in enumerate(term.get("matchExpressions") or ()):
        at = f"{path}.matchExpressions[{i}]"
        operator, values = rule.get("operator"), rule.get("values")
        _operator(operator, values, at, out)
        key = rule.get("key") or ""
        common.messages(names.qualified_name(key), key, f"{at}.key", out)
        if not preferred:
            for j, value in enumerate(values or ()):
                common.messages(names.label_value(value), value, f"{at}.values[{j}]", out)
    for i, rule in enumerate(term.get("matchFields") or ()):
        at = f"{path}.matchFields[{i}]"
        operator, values = rule.get("operator"), rule.get("values") or []
        if operator not in ("In", "NotIn"):
            out.append(FieldError.invalid(f"{at}.operator", operator or "", "not a valid selector operator"))
        elif len(values) != 1:
            text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            out.append(FieldError.required(f"{at}.values", text))
        if rule.get("key") != "metadata.name":
            out.append(FieldError.invalid(f"{at}.key", rule.get("key") or "", "not a valid field selector key"))
            continue
        for j, value in enumerate(values):
            common.messages(names.dns1123_subdomain(value), value, f"{at}.values[{j}]", out)


def _operator(operator: str | None, values: list[str] | None, path: str, out: Errors) -> None:
    if operator in ("In", "NotIn"):
        if not values:
            text = "must be specified when `operator` is 'In' or 'NotIn'"
            out.append(FieldError.required(f"{path}.values", text))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            out.append(FieldError.forbidden(f"{path}.values", text))
    elif operator in ("Gt", "Lt"):
        if len(values or ()) != 1:
            text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            out.append(FieldError.required(f"{path}.values", text))
    else:
        out.append(FieldError.invalid(f"{path}.operator", operator or "", "not a valid selector operator"))


def _weight(item: Obj, path: str, out: Errors) -> None:
    if not 1 <= (item.get("weight") or 0) <= 100:
        out.append(FieldError.invalid(f"{path}.weight", item.get("weight") or 0, "must be in the range 1-100"))


def _pod_term(term: Obj, path: str, out: Errors) -> None:
    common.label_selector(term.get("labelSelector"), f"{path}.labelSelector", out)
    common.label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector", out)
    for namespace in term.get("namespaces") or ():
        common.messages(names.dns1123_label(namespace), namespace, f"{path}.namespace", out)
    if term.get("matchLabelKeys") or term.get("mismatchLabelKeys"):
        _label_keys(term, path, out)
    key = term.get("topologyKey") or ""
    if not key:
        out.append(FieldError.required(f"{path}.topologyKey", "can not be empty"))
    common.messages(names.qualified_name(key), key, f"{path}.topologyKey", out)


def _label_keys(rule: Obj, path: str, out: Errors) -> None:
    """Keys of the pod's own labels: they become expressions of the selector when the pod is made.

    A key may then stand in one expression only: that which was made of it.
    """
    selector = rule.get("labelSelector")
    listed = {kind: rule.get(kind) or [] for kind in ("matchLabelKeys", "mismatchLabelKeys")}
    for kind, keys in listed.items():
        if keys and selector is None:
            text = "must not be specified when labelSelector is not set"
            out.append(FieldError.forbidden(f"{path}.{kind}", text))
            continue
        for i, key in enumerate(keys):
            common.messages(names.qualified_name(key), key, f"{path}.{kind}[{i}]", out)
    wanted = listed["matchLabelKeys"]
    places = {key: i for i, key in reversed(list(enumerate(wanted)))}
    known = set((selector or {}).get("matchLabels") or ())
    for expression in (selector or {}).get("matchExpressions") or ():
        key = expression.get("key")
        if key in known and key in places:
            text = "exists in both matchLabelKeys and labelSelector"
            out.append(FieldError.invalid(f"{path}[{places[key]}]", key, text))
        known.add(key)
    unwanted = set(listed["mismatchLabelKeys"])
    for i, key in enumerate(wanted):
        if key in unwanted:
            text = "exists in both matchLabelKeys and mismatchLabelKeys"
            out.append(FieldError.invalid(f"{path}.matchLabelKeys[{i}]", key, text))


def affinity(obj: Obj, path: str, out: Errors) -> None:
    """``affinity``."""
    node = obj.get("nodeAffinity")
    if node:
        hard = node.get("requiredDuringSchedulingIgnoredDuringExecution")
        if hard is not None:
            node_selector(hard, f"{path}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", out)
        for i, item in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            at = f"{path}.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[{i}]"
            _weight(item, at, out)
            _term(item.get("preference") or {}, f"{at}.preference", out, preferred=True)
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = obj.get(kind) or {}
        for i, term in enumerate(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
            _pod_term(term, f"{path}.{kind}.requiredDuringSchedulingIgnoredDuringExecution[{i}]", out)
        for i, item in enumerate(rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            at = f"{path}.{kind}.preferredDuringSchedulingIgnoredDuringExecution[{i}]"
            _weight(item, at, out)
            _pod_term(item.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm", out)


def topology_spread(items: list[Obj], path: str, out: Errors) -> None:
    """``topologySpreadConstraints``."""
    allowed = ("DoNotSchedule", "ScheduleAnyway")
    pairs = [(rule.get("topologyKey"), rule.get("whenUnsatisfiable")) for rule in items]
    again = common.there_before(reversed(pairs))[::-1]
    for i, rule in enumerate(items):
        at = f"{path}[{i}]"
        skew, key, action = rule.get("maxSkew") or 0, rule.get("topologyKey"), rule.get("whenUnsatisfiable") or ""
        if skew <= 0:
            out.append(FieldError.invalid(f"{at}.maxSkew", skew, "must be greater than zero"))
        if not key:
            out.append(FieldError.required(f"{at}.topologyKey", "can not be empty"))
        if action not in allowed:
            out.append(FieldError.not_supported(f"{at}.whenUnsatisfiable", action, allowed))
        if again[i]:
            pair = f"{{{key or ''}, {action}}}"
            out.append(FieldError.duplicate(f"{at}.{{topologyKey, whenUnsatisfiable}}", pair))
        domains = rule.get("minDomains")
        if domains is not None:
            if domains <= 0:
                out.append(FieldError.invalid(f"{at}.minDomains", domains, "must be greater than zero"))
            if action != "DoNotSchedule":
                text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                out.append(FieldError.invalid(f"{at}.minDomains", domains, text))
        for policy in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            value = rule.get(policy)
            if value is not None and value not in ("Honor", "Ignore"):
                out.append(FieldError.not_supported(f"{at}.{policy}", value, ("Honor", "Ignore")))
        if rule.get("matchLabelKeys"):
            _label_keys(rule, at, out)
        common.label_selector(rule.get("labelSelector"), f"{at}.labelSelector", out)


def gates(items: list[Obj], path: str, out: Errors) -> None:
    """``schedulingGates``."""
    seen = set()
    for i, gate in enumerate(items):
        name = gate.get("name") or ""
        common.messages(names.qualified_name(name), name, f"{path}[{i}]", out)
        if name in seen:
            out.append(FieldError.duplicate(f"{path}[{i}]", name))
        seen.add(name)
