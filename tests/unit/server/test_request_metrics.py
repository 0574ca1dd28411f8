"""Counting requests: what clients make up has no labels of its own."""

from __future__ import annotations

from aiohttp import web

from orca.api.builtin import BUILTIN
from orca.server.metrics.requests import Requests
from orca.server.paths import parse_path


def _seen(requests: Requests) -> set[tuple[str, str, str]]:
    [total] = [metric for metric in requests.collect() if metric.name == "apiserver_request"]
    return {
        (sample.labels["verb"], sample.labels["resource"], sample.labels["subresource"]) for sample in total.samples
    }


def _observe(requests: Requests, verb: str, path: str) -> None:
    requests.observe(verb, parse_path(path, BUILTIN), 200, 0.001, web.Response())


def test_requests_are_counted_by_what_they_ask_for() -> None:
    requests = Requests()
    pod = "/api/v1/namespaces/default/pods/web"
    _observe(requests, "get", pod)
    _observe(requests, "patch", f"{pod}/status")
    _observe(requests, "create", f"{pod}/exec")
    _observe(requests, "get", f"{pod}/proxy/some/page")
    assert _seen(requests) == {
        ("GET", "pods", ""),
        ("PATCH", "pods", "status"),
        ("CONNECT", "pods", "exec"),
        ("CONNECT", "pods", "proxy"),
    }


def test_a_scanner_fills_no_memory_with_labels() -> None:
    requests = Requests()
    for number in range(50):
        _observe(requests, "get", f"/api/v1/namespaces/default/pods/web/made-up-{number}")
        _observe(requests, "get", f"/apis/made-up-{number}/v1/things")
        _observe(requests, f"made-up-{number}", "/api/v1/namespaces/default/pods/web")
        _observe(requests, f"MADE-UP-{number}", "/healthz")
    assert _seen(requests) == {("GET", "", ""), ("other", "pods", ""), ("other", "", "")}


def test_deprecated_kinds_are_told_once_asked_for() -> None:
    requests = Requests()
    _observe(requests, "get", "/api/v1/namespaces/default/pods/web")
    _observe(requests, "list", "/api/v1/namespaces/default/endpoints")
    _observe(requests, "get", "/api/v1/namespaces/default/endpoints/web")
    [told] = [metric for metric in requests.collect() if metric.name == "apiserver_requested_deprecated_apis"]
    assert [(sample.labels["resource"], sample.labels["version"], sample.value) for sample in told.samples] == [
        ("endpoints", "v1", 1)
    ]
