"""Asks metrics APIs for what an autoscaler's metrics need: resource, custom and external ones.

Reference: k8s.io/kubernetes ``pkg/controller/podautoscaler/metrics/client.go``, k8s.io/metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import quote

from orca.api.builtin import BUILTIN
from orca.api.errors import ApiError, is_not_found
from orca.api.objects import Obj
from orca.api.resources import ResourceTable
from orca.api.selectors import from_label_selector
from orca.api.times import parse_time
from orca.controllers.config import Pages
from orca.controllers.horizontalpodautoscaler.describing import FIELD_OF
from orca.controllers.horizontalpodautoscaler.plan import Measured
from orca.controllers.horizontalpodautoscaler.readings import MetricsError, Reading, milli, resource_readings
from orca.controllers.selectortext import selector_text

RESOURCE_METRICS = "/apis/metrics.k8s.io/v1beta1"
CUSTOM_METRICS = ("/apis/custom.metrics.k8s.io/v1beta2", "/apis/custom.metrics.k8s.io/v1beta1")
EXTERNAL_METRICS = "/apis/external.metrics.k8s.io/v1beta1"


class Measuring:
    """One per controller."""

    def __init__(self, pages: Pages, table: ResourceTable = BUILTIN) -> None:
        self._pages = pages
        self._table = table

    async def measure(self, metric: Obj, space: str, selector: str) -> Measured:
        """One entry of ``spec.metrics``; ``selector`` is that of the target's pods. Raises nothing of the API's."""
        kind = metric["type"]
        details = metric[FIELD_OF[kind]]
        try:
            if kind in ("Resource", "ContainerResource"):
                found = await self._pages.get(
                    f"{RESOURCE_METRICS}/namespaces/{space}/pods", {"labelSelector": selector}
                )
                container = details.get("container") or ""
                return Measured(readings=resource_readings(found.get("items") or (), details["name"], container))
            if kind == "Pods":
                return await self._of_pods(details["metric"], space, selector)
            if kind == "Object":
                return await self._of_object(details, space)
            return await self._external(details["metric"], space)
        except ApiError as error:
            return Measured(error=_failed(metric, space, f"unable to fetch metrics from {_API[kind]} API: {error}"))
        except MetricsError as error:
            return Measured(error=_failed(metric, space, str(error)))

    async def _of_pods(self, metric: Obj, space: str, selector: str) -> Measured:
        path = f"/namespaces/{space}/pods/*/{quote(metric['name'], safe='')}"
        found = await self._custom(path, {"labelSelector": selector, **_chosen(metric, "metricLabelSelector")})
        readings = {}
        for item in found.get("items") or ():
            window = timedelta(seconds=item.get("windowSeconds") or item.get("window") or 60)
            at = parse_time(item["timestamp"])
            readings[item["describedObject"]["name"]] = Reading(milli(item["value"]), at, window)
        if not readings:
            raise MetricsError("no metrics returned from custom metrics API")
        return Measured(readings=readings)

    async def _of_object(self, details: Obj, space: str) -> Measured:
        metric, described = details["metric"], details["describedObject"]
        name, what = quote(described["name"], safe=""), quote(metric["name"], safe="")
        row = self._table.by_kind(described.get("apiVersion") or "v1", described["kind"])
        if row is None:
            raise MetricsError(f'no matches for kind "{described["kind"]}" in version "{described.get("apiVersion")}"')
        if row.kind == "Namespace" and not row.group:
            path = f"/namespaces/{name}/metrics/{what}"
        elif row.namespaced:
            path = f"/namespaces/{space}/{row.group_resource}/{name}/{what}"
        else:
            path = f"/{row.group_resource}/{name}/{what}"
        found = await self._custom(path, _chosen(metric, "metricLabelSelector"))
        items = found.get("items") or ()
        if not items:
            raise MetricsError("no metrics returned from custom metrics API")
        return Measured(value=milli(items[0]["value"]))

    async def _external(self, metric: Obj, space: str) -> Measured:
        path = f"{EXTERNAL_METRICS}/namespaces/{space}/{quote(metric['name'], safe='')}"
        found = await self._pages.get(path, _chosen(metric, "labelSelector"))
        items = found.get("items") or ()
        if not items:
            raise MetricsError("no metrics returned from external metrics API")
        return Measured(value=sum(milli(item["value"]) for item in items))

    async def _custom(self, path: str, query: Mapping[str, str]) -> Obj:
        """From the newest version that somebody serves. Raises ApiError."""
        for base in CUSTOM_METRICS[:-1]:
            try:
                return await self._pages.get(base + path, query)
            except ApiError as error:
                if not is_not_found(error):
                    raise
        return await self._pages.get(CUSTOM_METRICS[-1] + path, query)


_API = {
    "Resource": "resource metrics",
    "ContainerResource": "resource metrics",
    "Pods": "custom metrics",
    "Object": "custom metrics",
    "External": "external metrics",
}


def _failed(metric: Obj, space: str, why: str) -> str:
    """Why an entry of ``spec.metrics`` could not be measured, in upstream's words."""
    kind = metric["type"]
    details = metric[FIELD_OF[kind]]
    if kind in ("Resource", "ContainerResource"):
        return f"unable to get metrics for resource {details['name']}: {why}"
    name = details["metric"]["name"]
    if kind == "External":
        return f"unable to get external metric {space}/{name}/{selector_text(details['metric'].get('selector'))}: {why}"
    text = f"unable to get metric {name}: {why}"
    if kind == "Object":
        described = details["describedObject"]
        text += f" on {described['kind']} {space}/{described['name']}"
    return text


def _chosen(metric: Obj, parameter: str) -> dict[str, str]:
    selector = metric.get("selector")
    return {parameter: str(from_label_selector(selector))} if selector else {}
