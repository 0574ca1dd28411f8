"""Requests that are nearly right: every kind, verb, patch type, query parameter and header."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

from orca.api.builtin import BUILTIN
from orca.api.resources import Resource
from tests.api.fuzz.mutation import _TEXTS, encoded, junk, mutated
from tests.api.server.samples import sample

PATCHES = {
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
}
_CALLING = ("webhookconfigurations", "apiservices", "customresourcedefinitions")
_PARAMETERS = (
    "limit", "continue", "resourceVersion", "resourceVersionMatch", "labelSelector", "fieldSelector", "watch",
    "allowWatchBookmarks", "sendInitialEvents", "dryRun", "fieldManager", "fieldValidation", "force", "pretty",
    "propagationPolicy", "gracePeriodSeconds", "orphanDependents", "includeObject", "container", "tailLines",
    "sinceSeconds", "sinceTime", "limitBytes", "follow", "previous", "command", "stdin", "tty", "ports", "path",
    "timeout", "ignoreStoreReadErrorWithClusterBreakingPotential",
)  # fmt: skip
_VALUES = (
    "1", "0", "-1", "true", "false", "TRUE", "maybe", "All", "None", "Strict", "Warn", "Exact", "NotOlderThan",
    "Orphan",
    "Background", "Foreground", "a=b", "a in (b,c)", "a notin (", "!a", "a>1,b<2", "metadata.name=x", "spec.nodeName=",
    "metadata.name!=x,metadata.namespace=y", "status.phase==Running", "a\\=b=c\\", "99999999999999999999", "1" * 5000,
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJ4In0", "e30", "bnVsbA", "W10", "8080", "0x1f", "1_0", "\u0661",
    "1e3", "2026-01-01T00:00:00Z", "..", "%", "\x00", "\ud83d",
)  # fmt: skip
_HEADERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Accept",
        (
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            "application/yaml",
            "application/vnd.kubernetes.protobuf,application/json",
            "*/*;q=nan",
            "a" * 3000,
            ";;;,,,",
            "application/json;as=Table;v=v9;g=x",
            "application/json;stream=watch",
        ),
    ),
    ("Accept-Encoding", ("gzip", "gzip;q=0", "br, gzip;q=0.1", "identity;q=0", "\u00e9")),
    ("Content-Encoding", ("gzip", "deflate", "br", "x")),
    ("Audit-ID", ("x", "a" * 4000, "\t", '"><script>')),
    ("User-Agent", ("", "kubectl/v1.20.2", "a" * 4000)),
    ("Impersonate-User", ("bob", "", "system:serviceaccount:a", "system:serviceaccount:a:b:c", "system:anonymous")),
    ("Impersonate-Extra-%ZZ", ("x",)),
    ("If-None-Match", ('"x"', "*", "\\")),
    ("If-Match", ("x",)),
    ("Range", ("bytes=0-1",)),
    ("X-HTTP-Method-Override", ("DELETE",)),
    ("Upgrade", ("websocket", "SPDY/3.1", "h2c")),
    ("Expect", ("200-ok",)),
)


@dataclass
class Attempt:
    """One request."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path}\n{self.headers}\n{self.body!r:.3000}"


class Maker:
    """Makes requests from a seed."""

    def __init__(self, seed: int, space: str) -> None:
        self.random = Random(seed)
        self.space = space
        self.rows = list(BUILTIN)
        self._samples = {row: _sample(row, space) for row in self.rows}
        self._others = [sample for sample in self._samples.values() if sample]

    def request(self) -> Attempt:
        """The next one."""
        random = self.random
        row = random.choice(self.rows)
        path = self._path(row)
        what = random.randrange(20)
        if what < 6:
            attempt = Attempt("POST", path, encoded(self._object(row)))
        elif what < 8:
            attempt = Attempt("PUT", f"{path}/{self._name(row)}{self._sub(row)}", encoded(self._object(row)))
        elif what < 13:
            media = random.choice(sorted(PATCHES))
            where = f"{path}/{self._name(row)}{self._sub(row)}"
            attempt = Attempt("PATCH", where, self._patch(row, media), {"Content-Type": media})
        elif what < 16:
            attempt = Attempt("GET", path if random.random() < 0.6 else f"{path}/{self._name(row)}{self._sub(row)}")
        elif what < 18:
            body = encoded(mutated({"kind": "DeleteOptions", "apiVersion": "v1"}, random, self._others))
            named = f"{path}/{self._name(row)}" if random.random() < 0.8 else path
            attempt = Attempt("DELETE", named, body if random.random() < 0.5 else None)
        else:
            odd = quote(str(random.choice(_TEXTS)), safe=random.choice(("", "/%")), errors="surrogatepass")
            attempt = Attempt(random.choice(("GET", "POST", "DELETE", "HEAD", "OPTIONS")), f"{path}/{odd}/{odd}")
        self._dress(attempt)
        return attempt

    def _path(self, row: Resource) -> str:
        root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
        return f"{root}/namespaces/{self.space}/{row.plural}" if row.namespaced else f"{root}/{row.plural}"

    def _name(self, row: Resource) -> str:
        if row.plural in ("namespaces", "nodes") and self.random.random() < 0.5:
            return self.space
        return self.random.choice(("fuzz", "fuzz", "fuzz", "x", "fuzz-2"))

    def _sub(self, row: Resource) -> str:
        subs = [sub.name for sub in row.subresources if sub.name not in ("exec", "attach", "portforward", "proxy")]
        return f"/{self.random.choice(subs)}" if subs and self.random.random() < 0.3 else ""

    def _object(self, row: Resource) -> Any:
        sample = json.loads(json.dumps(self._samples[row] or {"spec": {}}))
        sample.setdefault("metadata", {})["name"] = self._name(row)
        if self.random.random() < 0.15:
            return sample
        return mutated(sample, self.random, self._others)

    def _patch(self, row: Resource, media: str) -> bytes:
        random = self.random
        if media != "application/json-patch+json":
            return encoded(self._object(row))
        operations = []
        for _ in range(random.choice((1, 1, 2, 30))):
            path = random.choice(
                ("", "/", "/metadata", "/metadata/name", "/spec", "/spec/-", "/a~1b~0~2", "/metadata/labels/x")
            )
            operation: dict[str, Any] = {
                "op": random.choice(("add", "remove", "replace", "move", "copy", "test", "spoil", "")),
                "path": path,
                "value": junk(random),
                "from": random.choice(("", "/metadata", "/spec/0", "x")),
            }
            for key in random.sample(sorted(operation), random.choice((0, 0, 1))):
                operation[key] = junk(random)
            operations.append(operation)
        return encoded(operations if random.random() < 0.95 else junk(random))

    def _dress(self, attempt: Attempt) -> None:
        random = self.random
        query = []
        for _ in range(random.choice((0, 0, 1, 2, 4))):
            name = random.choice(_PARAMETERS)
            value = random.choice(_VALUES) if random.random() < 0.8 else str(random.choice(_TEXTS))
            query.append(f"{name}={quote(value, safe='', errors='surrogatepass')}")
        # A watch must end by itself; the first value of a parameter counts.
        # What makes the server call somebody else is only tried.
        trial = "&dryRun=All" if any(word in attempt.path for word in _CALLING) else ""
        attempt.path += f"?timeoutSeconds=1{trial}" + "".join(f"&{one}" for one in query)
        if attempt.body is not None:
            attempt.headers.setdefault(
                "Content-Type",
                random.choice(("application/json",) * 9 + ("application/yaml", "application/vnd.kubernetes.protobuf")),
            )
        if random.random() < 0.25:
            name, values = random.choice(_HEADERS)
            attempt.headers[name] = random.choice(values)


_KEY = {"secretKeyRef": {"name": "s", "key": "k"}}
_POD = {
    "initContainers": [{"name": "first", "image": "i", "restartPolicy": "Always", "command": ["a", "$(B)"]}],
    "containers": [
        {
            "name": "main",
            "image": "registry.example.com:5000/team/web:1@sha256:" + "0" * 64,
            "ports": [{"name": "http", "containerPort": 80, "hostPort": 8080, "protocol": "TCP"}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": _KEY}],
            "envFrom": [{"prefix": "P", "configMapRef": {"name": "m", "optional": True}}],
            "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
            "livenessProbe": {"httpGet": {"path": "/", "port": "http", "scheme": "HTTPS"}, "periodSeconds": 5},
            "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
            "securityContext": {
                "runAsUser": 1000,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x", "readOnly": True}],
        }
    ],
    "volumes": [
        {"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {
            "name": "c",
            "configMap": {"name": "m", "defaultMode": 420, "items": [{"key": "a", "path": "b/c", "mode": 256}]},
        },
        {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 600}}]}},
        {"name": "h", "hostPath": {"path": "/tmp", "type": "Directory"}},
    ],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}]
            }
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "t", "labelSelector": {"matchLabels": {"a": "b"}}}}
            ]
        },
    },
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}],
    "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
    "dnsConfig": {"nameservers": ["10.0.0.1"], "options": [{"name": "ndots", "value": "5"}]},
    "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["a.b"]}],
    "securityContext": {"fsGroup": 5, "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
}
_ATTRIBUTES = {"verb": "get", "resource": "pods", "namespace": "default", "fieldSelector": {"rawSelector": "a=b"}}
_RICH: dict[str, dict[str, Any]] = {
    "pods": {"spec": _POD},
    "services": {
        "spec": {
            "type": "NodePort",
            "ports": [{"name": "a", "port": 80, "targetPort": "http", "nodePort": 31999}],
            "selector": {"a": "b"},
            "externalIPs": ["192.0.2.1"],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
        }
    },
    "bindings": {"target": {"kind": "Node", "name": "n"}},
    "tokenreviews.authentication.k8s.io": {"spec": {"token": "a.b.c", "audiences": ["x"]}},
    "subjectaccessreviews.authorization.k8s.io": {
        "spec": {"user": "u", "groups": ["g"], "extra": {"e": ["v"]}, "resourceAttributes": _ATTRIBUTES}
    },
    "selfsubjectaccessreviews.authorization.k8s.io": {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}},
    "selfsubjectrulesreviews.authorization.k8s.io": {"spec": {"namespace": "default"}},
}


def _sample(row: Resource, space: str) -> Any:
    try:
        found = sample(row, space, "LS0t")
    except (KeyError, AssertionError):
        found = {"apiVersion": row.api_version, "kind": row.kind, "metadata": {"name": "fuzz"}}
    return {**found, **_RICH.get(row.group_resource, {})}
