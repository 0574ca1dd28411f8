"""Ingress in a cluster as a person uses it: the manifests of this repository, kubectl, and requests from outside."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orca.lab.layout import Lab
from tests.cluster.conftest import LAB, orca
from tests.support.kubectl import Kubectl, eventually
from tests.support.tls import Authority

MANIFESTS = Path(__file__).parents[2] / "manifests"
SITE = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: site
spec:
  tls:
    - hosts: [site.test]
      secretName: site
  rules:
    - host: site.test
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: nginx, port: {name: http}}}
    - host: plain.test
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: nginx, port: {number: 80}}}
"""
MORE = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: rewritten
  annotations:
    nginx.ingress.kubernetes.io/rewrite-target: /$2
spec:
  rules:
    - host: plain.test
      http:
        paths:
          - path: /app(/|$)(.*)
            pathType: ImplementationSpecific
            backend: {service: {name: nginx, port: {name: http}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: broken
  annotations:
    nginx.ingress.kubernetes.io/use-regex: "true"
    nginx.ingress.kubernetes.io/made-up: "1"
spec:
  rules:
    - host: broken.test
      http:
        paths:
          - path: /x(
            pathType: ImplementationSpecific
            backend: {service: {name: nginx, port: {name: http}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: foreign
spec:
  ingressClassName: somebody-elses
  defaultBackend: {service: {name: nginx, port: {name: http}}}
"""


@pytest.fixture(scope="module")
def edge(lab: Lab, admin: Kubectl) -> Iterator[str]:
    """The controller as the README installs it; the address of a host it runs on."""
    orca("lab", "load-image", "--name", LAB, "ingress")
    own = admin.within("ingress-nginx")
    own("apply", "-f", str(MANIFESTS / "ingress"))
    # In a cluster of tests the class is the default one, so that these show that admission fills it in.
    own("annotate", "--overwrite", "ingressclass", "nginx", "ingressclass.kubernetes.io/is-default-class=true")
    own("rollout", "status", "daemonset/ingress-nginx-controller", "--timeout=120s")
    yield lab.host(lab.size - 1).address
    # Gone, as somebody else may want it next, and nothing is installed into a namespace that is going.
    own("delete", "-f", str(MANIFESTS / "ingress"))


@pytest.fixture
def site(kubectl: Kubectl, edge: str, tmp_path: Path) -> Iterator[Authority]:
    """Two pods behind ``site.test`` with TLS and ``plain.test`` without."""
    authority = Authority(tmp_path)
    _keep_secret(kubectl, authority)
    manifest = (MANIFESTS / "nginx" / "nginx.yaml").read_text()
    kubectl(
        "apply", "-f", "-", stdin=manifest.replace("type: NodePort", "type: ClusterIP").replace("nodePort: 30080", "")
    )
    kubectl("apply", "-f", "-", stdin=SITE)
    # Both are to serve: one alone may be on its way out, or be asked too late by its probe on a busy machine.
    kubectl("rollout", "status", "deployment/nginx", "--timeout=120s")
    eventually(lambda: get(edge, "plain.test")[0] == 200, what="the page through the Ingress")
    yield authority
    # Of Ingresses for one host the oldest counts: none is to be left when the next test begins.
    kubectl("delete", "ingress", "--all")


def _keep_secret(kubectl: Kubectl, authority: Authority) -> bytes:
    files = authority.files("site.test", "site.test")
    pair = (f"--cert={files.cert}", f"--key={files.key}")
    made = kubectl("create", "secret", "tls", "site", *pair, "--dry-run=client", "-o", "yaml")
    kubectl("apply", "-f", "-", stdin=made)
    return ssl.PEM_cert_to_DER_cert(files.cert.read_text())


def get(address: str, host: str, path: str = "/", port: int = 80) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of one request from outside; status 0 when there is no answer."""
    talk = http.client.HTTPConnection(address, port, timeout=30)
    try:
        talk.request("GET", path, headers={"Host": host})
        answer = talk.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    except OSError as error:
        return 0, str(error), {}
    finally:
        talk.close()


def shown_certificate(address: str, host: str, trusting: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection((address, 443), 30) as raw,
        trusting.wrap_socket(raw, server_hostname=host) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def test_people_see_what_is_served_and_what_is_not(kubectl: Kubectl, site: Authority, edge: str) -> None:
    kubectl("apply", "-f", "-", stdin=MORE)
    line = eventually(
        lambda: (
            (found := kubectl("get", "ingress", "site", "--no-headers").split())
            and edge in found[3].split(",")
            and found
        ),
        what="an address in the status",
    )
    assert line[:3] == ["site", "nginx", "site.test,plain.test"]
    assert line[4:6] == ["80,", "443"]

    status, _, headers = get(edge, "site.test", "/deep?x=1")
    assert (status, headers["Location"]) == (308, "https://site.test/deep?x=1")
    trusting = ssl.create_default_context(cafile=str(site.pair.cert))
    assert shown_certificate(edge, "site.test", trusting)
    with pytest.raises(ssl.SSLCertVerificationError):
        shown_certificate(edge, "plain.test", trusting)
    assert get(edge, "unknown.test")[0] == 404

    eventually(lambda: "Welcome" in get(edge, "plain.test", "/app/index.html")[1], what="the rewritten path")
    for name, text in (
        ("broken", "Rejected"),
        ("broken", "nginx.ingress.kubernetes.io/made-up: is not supported"),
        ("broken", "missing"),
        ("site", "Scheduled for sync"),
    ):
        eventually(lambda name=name, text=text: text in kubectl("describe", "ingress", name), what=f"{text} of {name}")
    foreign = kubectl.json("get", "ingress", "foreign")
    assert not foreign["status"]["loadBalancer"].get("ingress")
    described = kubectl("describe", "ingress", "foreign")
    assert "Events:" in described
    assert "Sync" not in described

    kubectl("scale", "deployment/nginx", "--replicas=0")
    eventually(lambda: get(edge, "plain.test")[0] == 503, what="503 without endpoints")


def test_no_request_fails_while_pods_roll_and_certificates_change(kubectl: Kubectl, site: Authority, edge: str) -> None:
    trusting = ssl.create_default_context(cafile=str(site.pair.cert))
    problems: list[str] = []
    counts = [0, 0]
    over = threading.Event()

    def repeat(which: int, ask: Callable[[], str]) -> None:
        while not over.is_set():
            try:
                said = ask()
                if said:
                    problems.append(said)
            except (OSError, http.client.HTTPException) as error:
                problems.append(repr(error))
            counts[which] += 1
            time.sleep(0.005)

    kept = http.client.HTTPConnection(edge, 80, timeout=30)

    def over_one_connection() -> str:
        kept.request("POST", "/", b"x", {"Host": "plain.test"})
        answer = kept.getresponse()
        answer.read()
        return "" if answer.status == 405 else f"POST: {answer.status}"  # nginx's own answer: it has reached the pod

    def by_tls() -> str:
        talk = http.client.HTTPSConnection(edge, 443, timeout=30, context=trusting)
        talk._create_connection = lambda *_: socket.create_connection((edge, 443), 30)  # type: ignore[attr-defined]
        talk.host = "site.test"  # the name to ask for; the address is above
        talk.request("GET", "/")
        status = talk.getresponse().status
        talk.close()
        return "" if status == 200 else f"GET: {status}"

    threads = [threading.Thread(target=repeat, args=(at, ask)) for at, ask in enumerate((over_one_connection, by_tls))]
    for thread in threads:
        thread.start()
    try:
        kubectl("set", "env", "deployment/nginx", "GREETING=again")
        fresh = _keep_secret(kubectl, site)
        eventually(lambda: shown_certificate(edge, "site.test", trusting) == fresh, what="the new certificate")
        kubectl("rollout", "status", "deployment/nginx", "--timeout=120s")
        kubectl("scale", "deployment/nginx", "--replicas=3")
        kubectl("rollout", "status", "deployment/nginx", "--timeout=120s")
        kubectl("scale", "deployment/nginx", "--replicas=1")
        time.sleep(1)
        eventually(lambda: min(counts) > 100, what="enough requests")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert problems == []
