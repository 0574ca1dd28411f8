"""``orca server``: etcd, certificates, the API, and — while leader — controllers and scheduler, in one process."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import importlib
import ipaddress
import os
import signal
import socket
import uuid
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import structlog
import uvloop
import yaml

from orca.api.builtin import EVENTS
from orca.api.errors import ApiError, is_away
from orca.api.objects import Obj
from orca.auth.kubeconfig import write_kubeconfig
from orca.auth.pki import PkiPaths, ensure_pki
from orca.cli.authentication import Authentication, authentication_options
from orca.cli.authorization import Authorizing, authorization_options
from orca.cli.etcd import START_SECONDS, EtcdChild, EtcdEnded, EtcdMissing
from orca.cli.flags import Duration, Recalled, certificates, etcd_members, flags_in_force, host_names, ip_address
from orca.cli.interpreter import share_interpreter
from orca.cli.leading import Election, Work, election_options, lead_when_elected
from orca.cli.logs import set_up_logging
from orca.cli.memory import bound_heap, give_back, keep_giving_back
from orca.cli.operation import Operation, operation_options
from orca.client.clock import SystemClock
from orca.client.keeping import keep_running
from orca.client.kubeconfig import KubeconfigError
from orca.server.assembly import ApiServer, PortTaken, ServerConfig
from orca.server.audit import Audit
from orca.server.peers import WrongCluster, agree, expect_keys
from orca.store import Store
from orca.store.channels import EtcdTls, EtcdTlsInvalid
from orca.store.encryption import ConfigFile, ConfigInvalid, SealedEtcd, Transforms, load_config
from orca.store.etcd import Etcd
from orca.store.outages import persistently

log = structlog.get_logger()


class Unusable(click.ClickException):
    """The server cannot start; the message tells the user what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the command line says."""

    data_dir: Path
    etcd_servers: str
    etcd_cafile: Path | None
    etcd_certfile: Path | None
    etcd_keyfile: Path | None
    bind_address: str
    secure_port: int
    advertise_address: str
    tls_san: tuple[str, ...]
    service_cidr: str
    node_ports: tuple[int, int]
    cluster_cidr: str
    node_cidr_mask_sizes: tuple[int, int]
    client_ca_file: Path | None
    encryption_config: Path | None
    encryption_reload: bool
    kubeconfig: Path
    controllers: bool
    scheduler_config: Path | None
    node_monitor_grace_period: float
    authentication: Authentication
    authorizing: Authorizing
    operation: Operation
    election: Election
    shown: Mapping[str, str]
    """All flags as `/flagz` tells them."""


def _ranges(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """One range, or one of each address family: the first is the cluster's preferred."""
    try:
        found = [ipaddress.ip_network(one.strip()) for one in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if len({network.version for network in found}) != len(found):
        raise click.BadParameter(f"{value!r}: one IPv4 and one IPv6 range at most")
    return ",".join(map(str, found))


def refuse_overlap(cluster_cidr: str, service_cidr: str) -> None:
    """Hosts keep what goes to a range of Services to themselves: pods there could not be reached.

    Raises click.UsageError.
    """
    for pods in map(ipaddress.ip_network, cluster_cidr.split(",")):
        for services in map(ipaddress.ip_network, service_cidr.split(",")):
            if pods.version == services.version and pods.overlaps(services):
                text = f"--cluster-cidr {pods} and --service-cluster-ip-range {services} overlap"
                raise click.UsageError(f"{text}; pods and Services need ranges of their own")


def _mask_sizes(cluster_cidr: str, both: int | None, ipv4: int | None, ipv6: int | None) -> tuple[int, int]:
    """(IPv4, IPv6) from the three flags, which exclude each other as in kube-controller-manager."""
    ranges = [ipaddress.ip_network(one) for one in cluster_cidr.split(",")]
    if len(ranges) > 1 and both is not None:
        raise click.UsageError("--node-cidr-mask-size is not for dual-stack clusters; use the flags of each family")
    if len(ranges) == 1 and both is not None and (ipv4 is not None or ipv6 is not None):
        raise click.UsageError("--node-cidr-mask-size and the flags of each family exclude each other")
    sizes = {4: ipv4 or both or 24, 6: ipv6 or both or 64}
    for network in ranges:
        size = sizes[network.version]
        most = min(network.max_prefixlen - 2, network.prefixlen + 16 if network.version == 6 else 32)
        if not network.prefixlen <= size <= most:
            raise click.UsageError(f"nodes cannot have a /{size} of {network}: /{network.prefixlen} to /{most} fit")
    return sizes[4], sizes[6]


def _port_range(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, int]:
    low, _, high = value.partition("-")
    if low.isdigit() and high.isdigit() and 0 < int(low) <= int(high) < 65536:
        return int(low), int(high)
    raise click.BadParameter(f"{value!r} is not a range of ports like 30000-32767")


_path = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("server", cls=Recalled, context_settings={"show_default": True})
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("/var/lib/orca"), help="State: etcd, pki.")
@click.option(
    "--etcd-servers",
    default="",
    callback=etcd_members,
    help="An etcd cluster to use, comma separated; without one, a child process.",
)
@click.option("--etcd-cafile", type=_path, default=None, help="The CA that signs the certificates of etcd's servers.")
@click.option("--etcd-certfile", type=_path, default=None, help="The certificate to show to etcd.")
@click.option("--etcd-keyfile", type=_path, default=None, help="Its key.")
@click.option("--bind-address", default="0.0.0.0", callback=ip_address, help="Address to listen on.")
@click.option("--secure-port", type=click.IntRange(1, 65535), default=6443, help="Port to listen on.")
@click.option(
    "--advertise-address",
    default="",
    callback=ip_address,
    help="Address clients and hosts reach this server at.",
    show_default="guessed",
)
@click.option(
    "--tls-san",
    multiple=True,
    callback=host_names,
    help="A further name or address of the server, as of a load balancer; may be repeated.",
)
@click.option(
    "--service-cluster-ip-range", "service_cidr", default="10.96.0.0/16", callback=_ranges, help="Service addresses."
)
@click.option(
    "--service-node-port-range",
    "node_ports",
    default="30000-32767",
    callback=_port_range,
    help="Ports of NodePort Services.",
)
@click.option(
    "--cluster-cidr", default="10.244.0.0/16", callback=_ranges, help="Pod addresses: a range, or one a family."
)
@click.option("--node-cidr-mask-size", type=int, default=None, help="Prefix of a node's part of --cluster-cidr.")
@click.option(
    "--node-cidr-mask-size-ipv4", type=int, default=None, show_default="24", help="The same of a dual-stack cluster."
)
@click.option(
    "--node-cidr-mask-size-ipv6", type=int, default=None, show_default="64", help="The same of a dual-stack cluster."
)
@authentication_options
@click.option(
    "--client-ca-file",
    type=_path,
    default=None,
    callback=certificates,
    help="A further CA whose client certificates are accepted.",
)
@click.option(
    "--encryption-provider-config",
    "encryption_config",
    type=_path,
    default=None,
    help="EncryptionConfiguration: how objects are kept in etcd.",
)
@click.option(
    "--encryption-provider-config-automatic-reload",
    "encryption_reload",
    is_flag=True,
    help="Use the encryption configuration anew when its file changes.",
)
@authorization_options
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    default=Path("/etc/orca/kubeconfig"),
    help="Admin kubeconfig to write.",
)
@operation_options
@click.option("--controllers/--no-controllers", default=True, help="Run controllers and scheduler while leader.")
@election_options
@click.option(
    "--node-monitor-grace-period",
    type=Duration(),
    default="40s",
    help="A node that gives no sign of life for so long is taken for lost.",
)
@click.option(
    "--scheduler-config",
    type=_path,
    default=None,
    help="KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1): profiles of the scheduler.",
)
@click.option("--v", "verbosity", type=int, default=2, help="Log level: 0 warnings, 2 normal, 4 debug.")
def command(verbosity: int, **values: Any) -> None:
    """Run the API server, controllers and scheduler."""
    set_up_logging(verbosity)
    bound_heap()
    authentication = Authentication.taken_from(values, click.get_current_context())
    authorizing = Authorizing.taken_from(values)
    operation = Operation.taken_from(values)
    election = Election.taken_from(values)
    masks = (values.pop(f"node_cidr_mask_size{suffix}") for suffix in ("", "_ipv4", "_ipv6"))
    refuse_overlap(values["cluster_cidr"], values["service_cidr"])
    values["node_cidr_mask_sizes"] = _mask_sizes(values["cluster_cidr"], *masks)
    flags = Flags(
        authentication=authentication,
        authorizing=authorizing,
        operation=operation,
        election=election,
        shown=flags_in_force(click.get_current_context()),
        **{**values, "advertise_address": values["advertise_address"] or guess_address()},
    )
    share_interpreter()
    try:
        uvloop.run(_run(flags))
    except click.ClickException:
        raise
    except (PortTaken, EtcdMissing, EtcdEnded, WrongCluster) as error:
        raise Unusable(str(error)) from error
    except ApiError as error:
        if not is_away(error):
            raise
        raise Unusable(f"etcd went away while the server started: {error.message}") from error
    except PermissionError as error:
        raise Unusable(f"{error.strerror}: {error.filename}; run as root or choose another --data-dir") from error
    except OSError as error:
        if not error.filename:
            raise
        raise Unusable(f"{error.strerror}: {error.filename}") from error


def guess_address() -> str:
    """The address the default route leaves by; nothing is sent."""
    for probe, family in (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6)):
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            try:
                one.connect((probe, 9))
                return str(one.getsockname()[0])
            except OSError:
                continue
    return "127.0.0.1"


async def _run(flags: Flags) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        stack.enter_context(_Lock(flags.data_dir))
        working = asyncio.create_task(_serve(flags, stack))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not working.done():
            log.info("stopping")
            working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        if not working.cancelled() and working.exception() is not None:
            raise working.exception() or AssertionError


async def _serve(flags: Flags, stack: AsyncExitStack) -> None:
    """Everything, until cancelled; ``stack`` undoes it in reverse order."""
    clock = SystemClock()
    profiles = _profiles(flags.scheduler_config)
    tls = _etcd_tls(flags)
    transforms, content = _transforms(flags.encryption_config)
    audit = flags.operation.audit()
    if audit is not None:
        stack.push_async_callback(audit.log.close)
    service_addresses = [str(ipaddress.ip_network(cidr)[1]) for cidr in flags.service_cidr.split(",")]
    names = [flags.advertise_address, *service_addresses, socket.gethostname(), *flags.tls_san]

    def certify() -> Awaitable[PkiPaths]:
        return asyncio.to_thread(ensure_pki, flags.data_dir / "pki", names, clock=clock)

    endpoint: str | list[str] = flags.etcd_servers.split(",") if flags.etcd_servers else []
    keeping: list[asyncio.Task[None]] = []
    etcd = EtcdChild(flags.data_dir / "etcd") if not endpoint else None
    if etcd is not None:
        stack.push_async_callback(etcd.stop)
        # In this order: etcd is forked before there is a thread, and starts while keys are made.
        _, pki = await asyncio.gather(etcd.start(), certify())
        keeping.append(asyncio.create_task(keep_running("etcd", etcd.keep_running, clock)))
        stack.push_async_callback(_cancel, keeping)
        endpoint = etcd.endpoint
    try:
        connection = SealedEtcd(endpoint, transforms, tls=tls) if transforms is not None else Etcd(endpoint, tls=tls)
    except EtcdTlsInvalid as error:
        raise Unusable(str(error)) from error
    store = Store(
        connection, clock=clock, shared=bool(flags.etcd_servers), lifetimes={EVENTS: int(flags.operation.event_ttl)}
    )
    stack.push_async_callback(store.close)
    await _begin(store, etcd)
    if flags.etcd_servers:
        await persistently(lambda: expect_keys(store, flags.data_dir / "pki"))
        pki = ours = await certify()
        await persistently(lambda: agree(store, ours, flags.service_cidr))
    followed = None
    if flags.encryption_config is not None and transforms is not None and flags.encryption_reload:
        followed = ConfigFile(flags.encryption_config, transforms, content, store.mend, clock)
        keeping.append(asyncio.create_task(keep_running("encryption configuration", followed.follow, clock)))
        stack.push_async_callback(_cancel, keeping)
    try:
        server = ApiServer(_config(flags, audit), pki, store, clock)
    except KubeconfigError as error:
        raise Unusable(str(error)) from error
    stack.push_async_callback(server.stop)
    if followed is not None:
        followed.tell(server.reloads("encryption"))
    await server.start()
    url = f"https://{_bracketed(flags.advertise_address)}:{flags.secure_port}"
    write_kubeconfig(flags.kubeconfig, server=url, ca=pki.ca.cert.read_bytes(), pair=pki.admin, user="admin")
    _tune_collector()
    keeping.append(asyncio.create_task(keep_running("memory", lambda: keep_giving_back(clock), clock)))
    stack.push_async_callback(_cancel, keeping)
    log.info("ready", url=url, kubeconfig=str(flags.kubeconfig))
    if not flags.controllers:
        await asyncio.Event().wait()

    works = (
        Work(name="controllers", run=lambda: _controllers(server, flags, clock)),
        Work(name="scheduler", run=lambda: _scheduler(server, profiles, clock)),
    )
    await lead_when_elected(
        works,
        client=server.client,
        store=store,
        identity=_identity(flags.data_dir),
        clock=clock,
        election=flags.election,
    )


async def _begin(store: Store, etcd: EtcdChild | None) -> None:
    """Load what is stored. An etcd of our own is waited for as long as it lives: a large one on a slow disk may take
    minutes to read its data, and would have to begin anew with every server that gives up. Raises Unusable."""
    while True:
        try:
            await store.start(START_SECONDS)
            return
        except ApiError as error:
            trouble = etcd.trouble if etcd is not None else ""
            if etcd is None or trouble or etcd.age < START_SECONDS:
                raise Unusable(f"no etcd to store anything in: {trouble or error.message}") from error
            log.warning("etcd takes long to read its data", seconds=round(etcd.age))


def _etcd_tls(flags: Flags) -> EtcdTls | None:
    files = (flags.etcd_cafile, flags.etcd_certfile, flags.etcd_keyfile)
    if not any(files):
        return None
    if not flags.etcd_servers:
        raise Unusable("--etcd-cafile, --etcd-certfile and --etcd-keyfile are for an etcd named by --etcd-servers")
    try:
        return EtcdTls.load(*files)
    except EtcdTlsInvalid as error:
        raise Unusable(str(error)) from error


def _transforms(path: Path | None) -> tuple[Transforms | None, bytes]:
    """How objects are sealed, and the content of the file that says so."""
    if path is None:
        return None, b""
    try:
        return load_config(path)
    except ConfigInvalid as error:
        raise Unusable(f"--encryption-provider-config {path}: {error}") from error


def _config(flags: Flags, audit: Audit | None) -> ServerConfig:
    return ServerConfig(
        bind_address=flags.bind_address,
        port=flags.secure_port,
        advertise_address=flags.advertise_address,
        service_cidr=flags.service_cidr,
        node_ports=flags.node_ports,
        authorization=flags.authorizing.config,
        authorization_file=flags.authorizing.followed,
        client_ca_file=flags.client_ca_file,
        token_methods=flags.authentication.tokens,
        anonymous=flags.authentication.anonymous.enabled,
        anonymous_paths=flags.authentication.anonymous.paths,
        api_audiences=flags.authentication.audiences,
        account_tokens=flags.authentication.account_tokens,
        remote=flags.authentication.remote,
        request_timeout=flags.operation.request_timeout,
        min_request_timeout=flags.operation.min_request_timeout,
        fairness=flags.operation.fairness,
        audit=audit,
        shutdown_delay=flags.operation.shutdown_delay_duration,
        flags=flags.shown,
        configz={"componentconfig": _scheduler_config(flags.scheduler_config)} if flags.controllers else {},
    )


def _scheduler_config(path: Path | None) -> Obj:
    """What the scheduler goes by, as whoever explains its decisions needs it; ``_profiles`` has checked the file."""
    if path is None:
        return {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
    loaded: Obj = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    return loaded


async def _controllers(server: ApiServer, flags: Flags, clock: SystemClock) -> None:
    module = importlib.import_module("orca.controllers")
    config = module.ControllersConfig(
        table=server.table,
        remote=server.aggregator.kinds,
        pages=server.pages,
        cluster_cidr=flags.cluster_cidr,
        node_cidr_mask_size=flags.node_cidr_mask_sizes[0],
        node_cidr_mask_size_ipv6=flags.node_cidr_mask_sizes[1],
        service_cidr=flags.service_cidr,
        node_monitor_grace=flags.node_monitor_grace_period,
        ca_cert_path=flags.data_dir / "pki" / "ca.crt",
        ca_key_path=flags.data_dir / "pki" / "ca.key",
    )
    await module.run_all(server.client.named("kube-controller-manager"), clock=clock, config=config)


async def _scheduler(server: ApiServer, profiles: Any, clock: SystemClock) -> None:
    module = importlib.import_module("orca.scheduler")
    await module.run(server.client.named("kube-scheduler"), clock=clock, config=profiles)


def _profiles(path: Path | None) -> Any:
    """The scheduler's configuration, read before anything starts: who wrote it wrong wants to know now."""
    if path is None:
        return None
    module = importlib.import_module("orca.scheduler.config")
    try:
        loaded = module.load(path.read_text())
    except module.ConfigurationInvalid as error:
        raise Unusable(f"--scheduler-config {path}: {error}") from error
    if loaded.unused:
        log.warning("settings of kube-scheduler's own process have no effect here", fields=list(loaded.unused))
    return importlib.import_module("orca.scheduler").SchedulerConfig(
        profiles=loaded.profiles, first_backoff=loaded.first_backoff, last_backoff=loaded.last_backoff
    )


def _tune_collector() -> None:
    """Objects are JSON, which has no cycles: looking through the whole cache for some would only stop the world."""
    gc.collect()
    give_back()
    gc.freeze()
    gc.set_threshold(10_000, 20, 1000)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _identity(data_dir: Path) -> str:
    """Stable across restarts: the data directory's lock keeps a second holder out, so a restart leads again at once."""
    path = data_dir / "identity"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        made = f"{socket.gethostname()}_{uuid.uuid4()}"
        path.write_text(made + "\n")
        return made


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


class _Lock:
    """One server a data directory. Raises Unusable when another one runs."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._file = -1

    def __enter__(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise Unusable(f"another orca server runs on {self._path.parent}") from None

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
