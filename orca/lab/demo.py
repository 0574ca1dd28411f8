"""What ``scripts/up`` shows at the end: a manifest applied, its rollout live, and its page from every host.

Run as ``python -m orca.lab.demo MANIFESTS [--name LAB]``. Everything goes through ``kubectl`` and plain HTTP from
outside the hosts, as a person would do it.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from typing import Any

import click

from orca.lab.layout import DEFAULT_NAME, Lab, LabError, load
from orca.lab.shell import run

ROLLOUT_SECONDS = 120.0
PAGE_SECONDS = 120.0


class Kubectl:
    """``kubectl`` with the lab's kubeconfig."""

    def __init__(self, lab: Lab) -> None:
        self._prefix = ("kubectl", f"--kubeconfig={lab.kubeconfig}")

    def __call__(self, *argv: str) -> str:
        return run(*self._prefix, *argv)

    def get(self, *argv: str) -> list[dict[str, Any]]:
        """The items of a ``get`` as dicts."""
        items: list[dict[str, Any]] = json.loads(self("get", "-o", "json", *argv))["items"]
        return items


def story(pods: list[dict[str, Any]]) -> str:
    """One line on what the pods of a rollout do now: ``1 Ready, 1 ContainerCreating``."""
    counts: dict[str, int] = {}
    for pod in pods:
        state = _state(pod)
        counts[state] = counts.get(state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no pods yet"


def _state(pod: dict[str, Any]) -> str:
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])):
        return "Ready"
    for container in status.get("containerStatuses", []):
        reason = container.get("state", {}).get("waiting", {}).get("reason")
        if reason:
            return str(reason)
    return "Pending" if not pod["spec"].get("nodeName") else str(status.get("phase", "Pending"))


def wait_for_rollout(kubectl: Kubectl, name: str) -> None:
    """Print each change of a Deployment's rollout until it is complete; raises ``LabError`` with the last state."""
    began = time.monotonic()
    last = ""
    while time.monotonic() - began < ROLLOUT_SECONDS:
        deployment = json.loads(kubectl("get", "deployment", name, "-o", "json"))
        wanted = deployment["spec"]["replicas"]
        status = deployment.get("status", {})
        now = story(kubectl.get("pods", "-l", f"app={name}"))
        if now != last:
            click.echo(f"    {time.monotonic() - began:5.1f} s  {now}")
            last = now
        current = status.get("observedGeneration") == deployment["metadata"]["generation"]
        if current and status.get("updatedReplicas") == status.get("availableReplicas") == wanted == status["replicas"]:
            return
        time.sleep(0.1)
    raise LabError(f"deployment {name} is not complete after {ROLLOUT_SECONDS:.0f} s: {last}")


def title_of(url: str) -> str:
    """The title of a page; raises ``LabError`` when it cannot be fetched within ``PAGE_SECONDS``."""
    deadline = time.monotonic() + PAGE_SECONDS
    problem: Exception | None = None
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=3) as answer:
                found = re.search(rb"<title>(.*?)</title>", answer.read())
                return found[1].decode() if found else "(a page without a title)"
        except (urllib.error.URLError, OSError) as error:
            problem = error
            time.sleep(0.2)
    raise LabError(f"{url} does not answer: {problem}")


@click.command()
@click.argument("manifests")
@click.option("--name", envvar="ORCA_LAB", default=DEFAULT_NAME, show_default=True, help="Which lab.")
def main(manifests: str, name: str) -> None:
    """Apply MANIFESTS, wait for the rollout and fetch the page from every host."""
    try:
        show(load(name), manifests)
    except LabError as error:
        raise click.ClickException(str(error)) from error


def show(lab: Lab, manifests: str) -> None:
    """Run the whole demonstration; raises ``LabError`` at the first step that fails."""
    kubectl = Kubectl(lab)
    click.echo(f"kubectl apply -f {manifests}")
    for line in kubectl("apply", "-f", manifests).splitlines():
        click.echo(f"    {line}")
    wait_for_rollout(kubectl, "nginx")
    port = json.loads(kubectl("get", "service", "nginx", "-o", "json"))["spec"]["ports"][0]["nodePort"]
    for host in lab.hosts:
        url = f"http://{host.address}:{port}"
        click.echo(f"curl {url}  →  {title_of(url)}")
    click.echo(f"\nNext:\n  export KUBECONFIG={lab.kubeconfig}\n  kubectl get pods -o wide")
    click.echo(f"  curl http://{lab.hosts[-1].address}:{port}")


if __name__ == "__main__":
    main()
