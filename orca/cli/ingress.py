"""``orca ingress``: the ingress controller, in a pod with nginx beside it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import click

from orca.cli.logs import set_up_logging
from orca.client.clock import SystemClock
from orca.client.http import HttpsClient
from orca.client.incluster import InCluster
from orca.client.kubeconfig import Kubeconfig, KubeconfigError
from orca.ingress.classes import CONTROLLER
from orca.ingress.controller import Identity, IngressController
from orca.ingress.engine import Engine
from orca.ingress.host import Host
from orca.ingress.serving import Pages

_FILES_FOR_ITSELF = 1024


@click.command()
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Instead of the pod's own service account.")
@click.option("--ingress-class", default="nginx", show_default=True, help="What kubernetes.io/ingress.class calls us.")
@click.option(
    "--controller-class", default=CONTROLLER, show_default=True, help="spec.controller of our IngressClasses."
)
@click.option("--publish-service", default="", help="NAMESPACE/NAME of the Service before us, for status addresses.")
@click.option("--election-id", default="ingress-nginx-leader", show_default=True, help="The Lease of the leader.")
@click.option("--update-status/--no-update-status", default=True, show_default=True, help="Fill status.loadBalancer.")
@click.option("--default-ssl-certificate", default="", help="NAMESPACE/NAME of a TLS Secret for hosts without one.")
@click.option("--trusted-proxies", default="", help="Networks whose X-Forwarded-* headers are believed.")
@click.option("--http-port", default=8080, show_default=True)
@click.option("--https-port", default=8443, show_default=True)
@click.option("--healthz-port", default=10254, show_default=True, help="Of /healthz and /metrics.")
@click.option("--worker-processes", default="auto", show_default=True, help="Workers of nginx; auto: one a core.")
@click.option("--worker-shutdown-timeout", default=240, show_default=True, help="Seconds for connections to end.")
@click.option("--state-dir", default="/run/orca-ingress", show_default=True, type=click.Path(path_type=Path))
@click.option("--nginx", "binary", default="nginx", show_default=True, help="The program.")
@click.option("--v", "verbosity", default=2, show_default=True, help="Verbosity of the log.")
def command(
    kubeconfig: Path | None,
    ingress_class: str,
    controller_class: str,
    publish_service: str,
    election_id: str,
    update_status: bool,
    default_ssl_certificate: str,
    trusted_proxies: str,
    http_port: int,
    https_port: int,
    healthz_port: int,
    worker_processes: str,
    worker_shutdown_timeout: int,
    state_dir: Path,
    binary: str,
    verbosity: int,
) -> None:
    """Serve Ingress objects with nginx."""
    set_up_logging(verbosity)
    if worker_processes != "auto" and not worker_processes.isdigit():
        raise click.BadParameter("a number or auto", param_hint="--worker-processes")
    inside = InCluster()
    identity = Identity(
        pod=os.environ.get("POD_NAME") or socket.gethostname(),
        namespace=os.environ.get("POD_NAMESPACE") or inside.namespace() or "default",
        service=publish_service,
        lease=election_id,
        controller=controller_class,
        ingress_class=ingress_class,
        default_certificate=default_ssl_certificate,
        update_status=update_status,
    )
    files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536)
    host = Host(
        state=state_dir,
        lua=(Path(__file__).parent.parent / "ingress", Path("/usr/share/lua/5.1")),
        http_port=http_port,
        https_port=https_port,
        user="root" if os.geteuid() == 0 else "",
        workers=worker_processes,
        connections=max(min(16384, files - _FILES_FOR_ITSELF), 512),
        files=files,
        ipv6=_has_ipv6(),
        resolvers=tuple(_resolvers()),
        trusted=tuple(word.strip() for word in trusted_proxies.split(",") if word.strip()),
        drain_seconds=worker_shutdown_timeout,
    )
    try:
        source = Kubeconfig(kubeconfig) if kubeconfig else inside
        client = HttpsClient(source, agent="nginx-ingress-controller")
    except KubeconfigError as error:
        raise click.ClickException(str(error)) from error
    asyncio.run(_run(client, host, identity, binary, healthz_port))


async def _run(client: HttpsClient, host: Host, identity: Identity, binary: str, healthz_port: int) -> None:
    clock = SystemClock()
    engine = Engine(host, binary=binary, clock=clock)
    engine.prepare(await _self_signed())
    controller = IngressController(client, engine, host, identity, clock=clock)
    pages = await Pages(controller, engine, pod=identity.pod, namespace=identity.namespace).run(healthz_port)
    task = asyncio.create_task(controller.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass
    finally:
        await pages.cleanup()
        await client.aclose()


async def _self_signed() -> bytes:
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orca.ingress", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    pair, _ = await made.communicate()
    if made.returncode != 0:
        raise click.ClickException("the default certificate cannot be made")
    return pair


def _resolvers() -> list[str]:
    """Name servers as nginx writes them."""
    found = []
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            found.append(f"[{words[1]}]" if ":" in words[1] else words[1])
    return found


def _has_ipv6() -> bool:
    """Whether this network namespace has IPv6 at all."""
    try:
        return bool(Path("/proc/net/if_inet6").read_text().strip())
    except OSError:
        return False
