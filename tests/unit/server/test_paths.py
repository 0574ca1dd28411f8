"""Paths of the API and what they ask for."""

from __future__ import annotations

import pytest

from orca.api.builtin import BUILTIN
from orca.server.paths import origin_form, parse_path

CASES = {
    "/api/v1/pods": ("pods", "", "", "", ""),
    "/api/v1/namespaces/a/pods/": ("pods", "a", "", "", ""),
    "/api/v1/namespaces/a/pods/p": ("pods", "a", "p", "", ""),
    "/api/v1/namespaces/a/pods/p/log": ("pods", "a", "p", "log", ""),
    "/api/v1/namespaces/a/pods/p/proxy": ("pods", "a", "p", "proxy", ""),
    "/api/v1/namespaces/a/pods/https:p:443/proxy/x/y": ("pods", "a", "https:p:443", "proxy", "/x/y"),
    "/api/v1/namespaces/a/services/s/proxy/": ("services", "a", "s", "proxy", "/"),
    "/api/v1/namespaces": ("namespaces", "", "", "", ""),
    "/api/v1/namespaces/a": ("namespaces", "a", "a", "", ""),
    "/api/v1/namespaces/a/status": ("namespaces", "a", "a", "status", ""),
    "/api/v1/namespaces/a/finalize": ("namespaces", "a", "a", "finalize", ""),
    "/api/v1/nodes/n/proxy/healthz": ("nodes", "", "n", "proxy", "/healthz"),
    "/apis/apps/v1/namespaces/a/deployments/d/scale": ("deployments", "a", "d", "scale", ""),
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode": ("clusterroles", "", "system:node", "", ""),
    "/apis/apps/v1/nothings": ("nothings", "", "", "", ""),
}


@pytest.mark.parametrize("path", CASES)
def test_object_paths(path: str) -> None:
    target = parse_path(path, BUILTIN)
    found = (target.plural, target.namespace, target.name, target.subresource, target.tail)
    assert found == CASES[path]
    assert (target.resource is None) == (target.plural == "nothings")


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "//", ""])
def test_other_paths(path: str) -> None:
    assert not parse_path(path, BUILTIN).is_object_path


def test_the_deprecated_watch_prefix() -> None:
    target = parse_path("/api/v1/watch/namespaces/a/pods/p", BUILTIN)
    assert (target.watch, target.namespace, target.plural, target.name) == (True, "a", "pods", "p")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("https://host:6443/api/v1/pods?limit=1", "/api/v1/pods?limit=1"),
        ("http://[fd00::1]/api/http://x/", "/api/http://x/"),
        ("https://host", "/"),
        ("https://host?verbose", "/?verbose"),
        ("//api/v1", "//api/v1"),
        ("host:443", "host:443"),
        ("*", "*"),
    ],
)
def test_the_path_of_a_target_in_absolute_form(target: str, path: str) -> None:
    assert origin_form(target) == path
