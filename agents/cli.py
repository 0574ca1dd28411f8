"""The `orca-agent` command: makes a host a node of a cluster."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
import structlog
import uvloop

from agents import heap
from agents.assembly import Agent
from agents.cleanup import clean_up
from agents.config import Configuration, ConfigurationError, load, override
from agents.config.model import Taint
from agents.logging import configure
from agents.network import NetworkBackend, NetworkOptions, NetworkPlugin
from agents.network.ranges import family_of, split
from agents.node.join import JoinError, JoinToken
from agents.node.model import parse_labels, parse_taint
from agents.options import AgentOptions, version
from agents.process import AnotherAgent, become, check_host, take_alone
from agents.proxy import HostView, ProxyModeError, check_mode, mode_problem
from agents.proxy.backend import PRIMARY
from agents.server.tls import unknown_suites
from orca.api.names import dns1123_subdomain, ip_address, label_value
from orca.client.clock import SystemClock


def _taints(context: click.Context, parameter: click.Parameter, text: str) -> tuple[tuple[str, str, str], ...]:
    try:
        return tuple(parse_taint(part) for part in text.split(",") if part)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _server(context: click.Context, parameter: click.Parameter, text: str) -> str:
    try:
        url = urlsplit(text)
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port out of range, brackets that do not match
        good = False
    if text and not good:
        raise click.BadParameter(f"{text!r} is no URL of a server like https://10.0.0.1:6443")
    return text


def _token(context: click.Context, parameter: click.Parameter, text: str) -> str:
    try:
        if text:
            JoinToken.parse(text)
    except JoinError as error:
        raise click.BadParameter(str(error)) from error
    return text


def _mode(context: click.Context, parameter: click.Parameter, text: str) -> str:
    try:
        check_mode(text)
    except ProxyModeError as error:
        raise click.BadParameter(str(error)) from error
    return text


def _ranges(context: click.Context, parameter: click.Parameter, text: str) -> str:
    try:
        return ",".join(split(text).ordered)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _addresses(context: click.Context, parameter: click.Parameter, text: str) -> str:
    found = [part.strip() for part in text.split(",") if part.strip()]
    for one in found:
        if ip_address(one):
            raise click.BadParameter(f"{one!r} is not an IP address")
    if len({family_of(one) for one in found}) != len(found):
        raise click.BadParameter(f"{text!r}: one IPv4 and one IPv6 address at most")
    return ",".join(found)


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(version())
        context.exit()


def _networks(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(part.strip(), strict=False)) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _node_port_addresses(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    if text.strip() == PRIMARY:
        return (PRIMARY,)
    return _networks(context, parameter, text)


def _domain(context: click.Context, parameter: click.Parameter, text: str) -> str:
    if problems := dns1123_subdomain(text):
        raise click.BadParameter(f"{text!r} is no domain like cluster.local: {problems[0]}")
    return text


def _node_name(given: str) -> str:
    """As a kubelet makes it of the flag or the host's name. Raises click.UsageError for what no node can be called."""
    name = (given or socket.gethostname()).strip().lower()
    if problems := dns1123_subdomain(name) or label_value(name):
        if given:
            raise click.UsageError(f"--hostname-override: {given!r} cannot be the name of a node: {problems[0]}")
        text = f"the name of this host, {name!r}, cannot be that of a node: {problems[0]}"
        raise click.UsageError(f"{text}; give the node another name by --hostname-override")
    return name


def _labels(context: click.Context, parameter: click.Parameter, text: str) -> dict[str, str]:
    try:
        return parse_labels(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--server", default="", callback=_server, help="URL of the API server, to join with --token.")
@click.option(
    "--token", default="", envvar="ORCA_TOKEN", callback=_token, help="Join token, as `orca token create` prints it."
)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Kubeconfig of this node, instead of --server and --token.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="A KubeletConfiguration file (kubelet.config.k8s.io/v1beta1). Flags that are given override it.",
)
@click.option(
    "--config-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Directory of drop-ins (*.conf) that are laid over --config in the order of their names.",
)
@click.option("--hostname-override", default="", help="Name of the node; the host's name otherwise.")
@click.option(
    "--node-ip",
    default="",
    callback=_addresses,
    help="Address of the node, or one of each family, comma separated; otherwise the one it reaches the server from.",
)
@click.option(
    "--root-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/var/lib/orca-agent"),
    show_default=True,
    help="Where the agent keeps its state.",
)
@click.option("--docker-socket", default="/run/docker.sock", show_default=True, help="Socket of Docker Engine.")
@click.option("--cgroup-parent", default="", help="Cgroup below which pods run.")
@click.option("--pause-image", default="orca/pause:1", show_default=True, help="Image that holds a pod's namespaces.")
@click.option(
    "--proxy-mode",
    default="auto",
    callback=_mode,
    show_default=True,
    help="How services are written into the kernel: nftables, iptables, ipvs, or auto for the first that works.",
)
@click.option(
    "--nodeport-addresses",
    default="",
    callback=_node_port_addresses,
    help="Networks, separated by commas, whose addresses on this host serve node ports; `primary` for the node's own.",
)
@click.option("--masquerade-all", is_flag=True, help="Packets to cluster IPs always get this host's address.")
@click.option(
    "--iptables-localhost-nodeports/--no-iptables-localhost-nodeports",
    "localhost_node_ports",
    default=True,
    help="Node ports on 127.0.0.1, also in modes other than iptables.",
)
@click.option("--ipvs-scheduler", default="rr", show_default=True, help="One of rr, wrr, lc, wlc, sh, dh, mh.")
@click.option("--ipvs-strict-arp", is_flag=True, help="Answer ARP only for addresses of the device that was asked.")
@click.option("--ipvs-exclude-cidrs", default="", callback=_networks, help="IPVS rules in these networks are not ours.")
@click.option("--cluster-dns", default="10.96.0.10", show_default=True, help="Address of the cluster's DNS.")
@click.option(
    "--cluster-domain",
    default="cluster.local",
    callback=_domain,
    show_default=True,
    help="Domain of the cluster's names.",
)
@click.option(
    "--cluster-cidr",
    default="10.244.0.0/16",
    callback=_ranges,
    show_default=True,
    help="Addresses of all pods: a range, or one of each family separated by a comma.",
)
@click.option(
    "--network-backend",
    type=click.Choice([one.value for one in NetworkBackend]),
    default=NetworkBackend.AUTO.value,
    show_default=True,
    help="Ways to pods of other hosts: direct on one segment and vxlan across segments (auto), or one of them only.",
)
@click.option(
    "--network-plugin",
    type=click.Choice([one.value for one in NetworkPlugin]),
    default=NetworkPlugin.OWN.value,
    show_default=True,
    help="Who wires pods: the agent itself, or CNI plugins.",
)
@click.option(
    "--cni-conf-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/etc/cni/net.d"),
    show_default=True,
    help="Where networks of --network-plugin=cni are described.",
)
@click.option(
    "--cni-bin-dir",
    default="/opt/cni/bin,/usr/lib/cni",
    show_default=True,
    help="Where CNI plugins are, separated by commas.",
)
@click.option(
    "--service-cluster-ip-range",
    default="10.96.0.0/16",
    callback=_ranges,
    show_default=True,
    help="Addresses of services.",
)
@click.option("--register-with-taints", default="", callback=_taints, help="key[=value]:effect, separated by commas.")
@click.option("--node-labels", default="", callback=_labels, help="key=value, separated by commas.")
@click.option("--max-pods", default=110, show_default=True, help="Pods that the node takes.")
@click.option("--port", default=10250, show_default=True, help="Port of the agent's server.")
@click.option("--cleanup", is_flag=True, help="Remove what the agent made on this host (pods, rules, mounts), and end.")
@click.option("--v", "verbosity", default=0, show_default=True, help="Log level; 4 and more is for debugging.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.pass_context
def main(
    context: click.Context,
    server: str,
    token: str,
    kubeconfig: Path | None,
    config_file: Path | None,
    config_dir: Path | None,
    hostname_override: str,
    node_ip: str,
    root_dir: Path,
    docker_socket: str,
    cgroup_parent: str,
    pause_image: str,
    proxy_mode: str,
    nodeport_addresses: tuple[str, ...],
    masquerade_all: bool,
    localhost_node_ports: bool,
    ipvs_scheduler: str,
    ipvs_strict_arp: bool,
    ipvs_exclude_cidrs: tuple[str, ...],
    cluster_dns: str,
    cluster_domain: str,
    cluster_cidr: str,
    network_backend: str,
    network_plugin: str,
    cni_conf_dir: Path,
    cni_bin_dir: str,
    service_cluster_ip_range: str,
    register_with_taints: tuple[tuple[str, str, str], ...],
    node_labels: dict[str, str],
    max_pods: int,
    port: int,
    cleanup: bool,
    verbosity: int,
) -> None:
    """Run this host as a node of an orca cluster, until SIGTERM. Containers go on without the agent."""
    if kubeconfig is None and not server and not cleanup:
        raise click.UsageError("give --server and --token, or --kubeconfig")
    # What was made here can be taken away whatever this host is called.
    node_name = (hostname_override or socket.gethostname()).lower() if cleanup else _node_name(hostname_override)
    try:
        configuration = _configuration(load(config_file, config_dir), context)
        if unknown := unknown_suites(configuration.tls_cipher_suites):
            raise ConfigurationError(f"tlsCipherSuites: cannot serve {', '.join(unknown)}")
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    if os.geteuid() != 0:
        raise click.ClickException("orca-agent must be run as root")
    try:
        check_host(configuration)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    services = HostView(
        cluster_cidrs=tuple(cluster_cidr.split(",")),
        node_port_addresses=nodeport_addresses,
        masquerade_all=masquerade_all,
        localhost_node_ports=localhost_node_ports,
        ipvs_scheduler=ipvs_scheduler,
        ipvs_strict_arp=ipvs_strict_arp,
        ipvs_exclude_cidrs=ipvs_exclude_cidrs,
    )
    if not cleanup and (problem := mode_problem(proxy_mode, services)):
        raise click.ClickException(problem)
    configure(max(verbosity, configuration.logging.verbosity), form=configuration.logging.format)
    docker_socket = configuration.container_runtime_endpoint.removeprefix("unix://")
    network = NetworkOptions(
        NetworkPlugin(network_plugin),
        NetworkBackend(network_backend),
        cni_conf_dir,
        tuple(Path(one) for one in cni_bin_dir.split(",") if one),
    )
    if cleanup:
        cleaning = clean_up(
            root_dir,
            docker_socket=docker_socket,
            cluster_cidr=cluster_cidr,
            service_cidr=service_cluster_ip_range,
            node_name=node_name,
            cgroup_root=cgroup_parent or configuration.cgroup_root,
            pod_logs=Path(configuration.pod_logs_dir),
            network_options=network,
        )
        sys.exit(0 if asyncio.run(cleaning) else 1)
    options = AgentOptions(
        node_name=node_name,
        server=server.rstrip("/"),
        token=token,
        kubeconfig=kubeconfig,
        node_ip=node_ip,
        root=root_dir,
        docker_socket=docker_socket,
        cgroup_parent=cgroup_parent,
        pause_image=pause_image,
        proxy_mode=proxy_mode,
        services=services,
        cluster_cidr=cluster_cidr,
        service_cidr=service_cluster_ip_range,
        network=network,
        labels=node_labels,
        configuration=configuration,
    )
    try:
        take_alone(root_dir)
    except AnotherAgent as error:
        raise click.ClickException(str(error)) from error
    heap.bound()
    heap.settle()
    become(configuration)
    uvloop.run(_run(options))


def _configuration(configuration: Configuration, context: click.Context) -> Configuration:
    """What the files say, with the flags that were given on the command line over it, and those that were not given
    where the files say nothing. Raises ConfigurationError."""
    flags = context.params
    values = {
        "cluster_dns": tuple(filter(None, flags["cluster_dns"].split(","))),
        "cluster_domain": flags["cluster_domain"],
        "container_runtime_endpoint": f"unix://{flags['docker_socket'].removeprefix('unix://')}",
        "max_pods": flags["max_pods"],
        "port": flags["port"],
        "register_with_taints": tuple(Taint(*taint) for taint in flags["register_with_taints"]),
    }
    sources = {"container_runtime_endpoint": "docker_socket"}
    default = click.core.ParameterSource.DEFAULT
    changes = {
        field: value
        for field, value in values.items()
        if context.get_parameter_source(sources.get(field, field)) is not default or not getattr(configuration, field)
    }
    return override(configuration, **changes)


async def _run(options: AgentOptions) -> None:
    """Until SIGTERM or SIGINT; a second one does not wait for anything. SIGUSR1 says that the host goes down."""
    loop = asyncio.get_running_loop()
    agent = Agent(options, SystemClock())
    running = asyncio.create_task(agent.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    loop.add_signal_handler(signal.SIGUSR1, agent.host_goes_down)
    try:
        await running
    except (ConfigurationError, JoinError) as error:
        raise click.ClickException(str(error)) from error
    except asyncio.CancelledError:
        structlog.get_logger().info("the agent ends; containers go on")
