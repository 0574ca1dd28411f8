"""Which policies a request meets, through which bindings, with which parameters.

Reference: k8s.io/apiserver ``pkg/admission/plugin/policy/generic/policy_dispatcher.go``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from orca.admission.chain import Attributes, Cluster, find
from orca.admission.policies.configured import Binding, Policy
from orca.admission.views import Converter, Views
from orca.api.builtin import NAMESPACES
from orca.api.conversion import convert
from orca.api.errors import ApiError, not_found
from orca.api.objects import Obj, labels
from orca.api.resources import Resource, ResourceTable
from orca.api.selectors import from_label_selector
from orca.auth.authorization import Authorizer


@dataclass(slots=True)
class Shared:
    """What both plugins need. ``authorizer`` answers expressions that ask who may do what."""

    cluster: Cluster
    table: ResourceTable
    authorizer: Authorizer | None
    convert: Converter


class Misconfigured(Exception):
    """The policy or the binding cannot be used for this request: failurePolicy decides."""


@dataclass(slots=True, eq=False)
class Invocation:
    """A policy that is to be evaluated: ``row`` is how it sees the object, ``param`` None without parameters.

    ``failed`` is set instead when its configuration does not work for this request.
    """

    policy: Policy
    binding: Binding | None
    row: Resource
    param: Obj | None = None
    failed: str = ""


async def invocations(shared: Shared, policies: tuple[Policy, ...], attrs: Attributes) -> AsyncIterator[Invocation]:
    """In order of policies, bindings and parameters."""
    for policy in policies:
        row = policy.match.row(attrs, shared.table)
        if row is None:
            continue
        try:
            if not await policy.match.selects(shared.cluster, attrs):
                continue
            source = _param_source(shared.table, policy)
        except (ApiError, Misconfigured) as error:
            yield Invocation(policy, None, row, failed=f"failed to configure policy: {error}")
            continue
        for binding in policy.bindings:
            try:
                if binding.match is not None and (
                    binding.match.row(attrs, shared.table) is None
                    or not await binding.match.selects(shared.cluster, attrs)
                ):
                    continue
                params = await _params(shared, source, binding.param_ref, attrs.namespace)
            except (ApiError, Misconfigured) as error:
                yield Invocation(policy, binding, row, failed=f"failed to configure binding: {error}")
                continue
            for param in params:
                yield Invocation(policy, binding, row, param)


def _param_source(table: ResourceTable, policy: Policy) -> Resource | None:
    """The row of paramKind. Raises Misconfigured."""
    kind = policy.spec.get("paramKind")
    if kind is None:
        return None
    row = table.by_kind(kind.get("apiVersion") or "", kind.get("kind") or "")
    if row is None or row.virtual:
        shown = f"{kind.get('apiVersion')}, Kind={kind.get('kind')}"
        raise Misconfigured(f"failed to find resource referenced by paramKind: '{shown}'")
    return row


async def _params(shared: Shared, source: Resource | None, ref: Obj | None, namespace: str) -> list[Obj | None]:
    """Parameters of a binding; one None when there are none to be had. Raises Misconfigured."""
    if source is None or ref is None:
        return [None]
    where = ref.get("namespace") or ""
    if not source.namespaced:
        if where:
            raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
    else:
        where = where or namespace
        if not where:
            text = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            raise Misconfigured(text)
    found: list[Obj]
    if ref.get("name"):
        one = await find(shared.cluster, source, where, ref["name"])
        found = [] if one is None else [one]
    else:
        selector = from_label_selector(ref.get("selector") or {})
        found = [obj for obj in shared.cluster.peek_list(source, where) if selector.matches(labels(obj))]
    if not found and ref.get("parameterNotFoundAction") == "Deny":
        raise Misconfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
    return [await _in_version(shared, source, obj) for obj in found]


async def _in_version(shared: Shared, row: Resource, obj: Obj) -> Obj:
    told = obj.get("apiVersion")
    if told == row.api_version:
        return obj
    stored = shared.table.by_kind(str(told or ""), row.kind)
    return await shared.convert(stored, row, obj) if stored is not None else convert(obj, row.api_version)


class Surroundings:
    """Variables of expressions that are the same for all policies of a request."""

    def __init__(self, shared: Shared, attrs: Attributes) -> None:
        # Imported here, as all of CEL: there is a policy now.
        from orca.admission.expressions import authorizer_variables

        self._shared = shared
        self._attrs = attrs
        self._asking = authorizer_variables(attrs, shared.authorizer)
        self._requests: dict[str, Obj] = {}
        self._namespace: Any = None
        self._looked = False

    async def variables(self, invocation: Invocation, views: Views) -> dict[str, Any]:
        """``object``, ``oldObject``, ``request``, ``params``, ``namespaceObject``, ``authorizer``. Raises ApiError."""
        from orca.admission.webhooks.review import request_fields

        row = invocation.row
        obj, old = await views.objects(row)
        request = self._requests.get(row.api_version)
        if request is None:
            shown = obj if obj is not None else old
            request = self._requests[row.api_version] = request_fields(self._attrs, row, shown or {})
        return {
            "object": obj,
            "oldObject": old,
            "request": request,
            "params": invocation.param,
            "namespaceObject": await self._namespace_object(),
            **self._asking,
        }

    async def _namespace_object(self) -> Any:
        if not self._looked:
            from orca.admission.expressions import namespace_variable

            attrs = self._attrs
            if attrs.namespace and attrs.resource is not NAMESPACES:
                space = await find(self._shared.cluster, NAMESPACES, "", attrs.namespace)
                if space is None:
                    raise not_found(NAMESPACES, attrs.namespace)
                self._namespace = namespace_variable(space)
            self._looked = True
        return self._namespace
