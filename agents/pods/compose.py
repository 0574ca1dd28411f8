"""A pod's spec to the specs of its sandbox and containers. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from agents.pods.containers import every_container, spec_of
from agents.pods.environment import ConfigError
from agents.pods.expansion import expand
from agents.pods.files import hostname_of
from agents.pods.memory import container_hash
from agents.pods.naming import container_name
from agents.pods.paths import pod_files
from agents.pods.ports import Mounted, PodsConfig, Stage
from agents.pods.resources import limits_of, oom_score
from agents.pods.security import security_of
from agents.pods.sizes import label_of
from agents.runtime import model
from agents.runtime.accounts import Accounts
from agents.runtime.model import ContainerSpec, ImageInfo, Mount, SandboxSpec, Security
from agents.sysctls import dotted
from orca.api.objects import Obj, name, namespace, uid

DEFAULT_TERMINATION_PATH = "/dev/termination-log"
_PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}


def _labels(pod: Obj, container: str, attempt: int) -> dict[str, str]:
    return {
        model.POD_NAME: name(pod),
        model.POD_NAMESPACE: namespace(pod),
        model.POD_UID: uid(pod),
        model.CONTAINER_NAME: container,
        model.ATTEMPT: str(attempt),
    }


def refuse_unsupported(pod: Obj) -> None:
    """Raises ``ConfigError`` for what this agent would otherwise have to ignore."""
    spec = spec_of(pod)
    if spec.get("hostUsers") is False:
        raise ConfigError("hostUsers: false is not supported: Docker Engine has no user namespace for one pod alone")
    contexts = (subject.get("securityContext") or {} for subject in (spec, *every_container(pod)))
    if any(context.get("windowsOptions") for context in contexts):
        raise ConfigError("windowsOptions are not supported by this node: it runs Linux")
    if spec.get("resourceClaims"):
        raise ConfigError("resourceClaims are not supported by this node")
    if spec.get("schedulingGroup"):
        raise ConfigError("schedulingGroup is not supported by this cluster: pods are placed one by one")
    for container in every_container(pod):
        if container.get("volumeDevices"):
            raise ConfigError(f"container {container['name']}: volumeDevices are not supported")


def sandbox_spec(pod: Obj, attempt: int, config: PodsConfig, *, runtime: str = "") -> SandboxSpec:
    """The pause container; ``runtime`` is the handler of the pod's RuntimeClass."""
    spec = spec_of(pod)
    shared = spec.get("securityContext") or {}
    return SandboxSpec(
        name=container_name(pod, model.SANDBOX_NAME, attempt),
        image=config.pause_image,
        labels={**_labels(pod, model.SANDBOX_NAME, attempt), model.CONTAINER_TYPE: "podsandbox"},
        hostname=hostname_of(pod, config.cluster_domain),
        host_network=bool(spec.get("hostNetwork")),
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        sysctls={dotted(item["name"]): item["value"] for item in shared.get("sysctls") or ()},
        cgroup_parent=config.cgroup_parent,
        runtime=runtime,
        security=Security(seccomp="unconfined"),
    )


def container_spec(
    pod: Obj,
    container: Obj,
    *,
    attempt: int,
    sandbox_id: str,
    image: ImageInfo | None,
    environment: Mapping[str, str],
    volumes: Mapping[str, Mounted],
    config: PodsConfig,
    node_memory: int,
    staged: Mapping[int, str] | None = None,
    target_id: str = "",
    runtime: str = "",
    accounts: Accounts | None = None,
) -> ContainerSpec:
    """One app container; ``staged`` are the paths made for :func:`stages_of`, ``target_id`` is the container whose
    processes an ephemeral one is to see, ``runtime`` is the sandbox's, ``accounts`` are the image's where the
    container's groups hang on them.

    Raises ``ConfigError`` for what cannot be, ``RefusedByEngine`` for what this host cannot give.
    """
    spec = spec_of(pod)
    files = pod_files(config, uid(pod))
    termination_path = container.get("terminationMessagePath") or DEFAULT_TERMINATION_PATH
    mounts = _volume_mounts(container, volumes, staged or {})
    targets = {mount.target for mount in mounts}
    for source, target in ((files.hosts, "/etc/hosts"), (files.resolver, "/etc/resolv.conf")):
        if target not in targets:
            mounts.append(Mount(str(source), target))
    mounts.append(Mount(str(files.termination(container["name"], attempt)), termination_path))
    labels = _labels(pod, container["name"], attempt)
    labels |= {
        model.CONTAINER_TYPE: "container",
        model.SANDBOX_ID: sandbox_id,
        model.HASH: container_hash(container),
        model.SIZES: label_of(container, spec.get("resources")),
        model.TERMINATION_PATH: termination_path,
        model.TERMINATION_POLICY: container.get("terminationMessagePolicy") or "File",
    }
    if spec.get("terminationGracePeriodSeconds") is not None:
        labels[model.GRACE_PERIOD] = str(spec["terminationGracePeriodSeconds"])
    command, args = container.get("command"), container.get("args")
    return ContainerSpec(
        name=container_name(pod, container["name"], attempt),
        image=container["image"],
        labels=labels,
        sandbox_id=sandbox_id,
        command=tuple(expand(word, environment) for word in command) if command else None,
        args=tuple(expand(word, environment) for word in args) if args else None,
        environment=tuple(f"{key}={value}" for key, value in environment.items()),
        working_dir=container.get("workingDir") or "",
        mounts=tuple(mounts),
        tty=bool(container.get("tty")),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        host_network=bool(spec.get("hostNetwork")),
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        process_namespace=target_id or (sandbox_id if spec.get("shareProcessNamespace") else ""),
        resources=limits_of(container, spec.get("resources"), period=config.cpu_period),
        security=security_of(
            pod,
            container,
            image,
            config.root / "seccomp",
            seccomp_default=config.seccomp_default,
            accounts=accounts,
        ),
        oom_score_adj=oom_score(pod, container, node_memory),
        stop_signal=(container.get("lifecycle") or {}).get("stopSignal") or "",
        cgroup_parent=config.cgroup_parent,
        runtime=runtime,
        log_max_size=config.log_max_size,
        log_max_files=config.log_max_files,
    )


def stages_of(container: Obj, environment: Mapping[str, str], *, in_depth: bool) -> list[Stage]:
    """What a container's ``volumeMounts`` ask for beyond whole volumes; ``in_depth`` is whether this host can make
    mounts read-only in depth. Raises ``ConfigError``."""
    stages = []
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        sub = mount.get("subPath") or ""
        if mount.get("subPathExpr"):
            sub = _expanded(mount, environment)
        if sub.startswith("/"):
            raise ConfigError(f"error SubPath `{sub}` must not be an absolute path")
        if ".." in sub.split("/"):
            raise ConfigError(f"unable to provision SubPath `{sub}`: must not contain '..'")
        deep = _in_depth(mount, in_depth)
        if sub or deep:
            stages.append(Stage(index, mount["name"], sub, deep))
    return stages


def _expanded(mount: Obj, environment: Mapping[str, str]) -> str:
    """``subPathExpr`` with its references replaced: unlike elsewhere, all of them must be known and not empty."""
    missing: set[str] = set()

    class Known(dict[str, str]):
        def __contains__(self, name: object) -> bool:
            if not environment.get(str(name)):
                missing.add(str(name))
                return False
            return True

    text = expand(mount["subPathExpr"], Known(environment))
    if missing:
        raise ConfigError(f"missing value for {', '.join(sorted(missing))}")
    return text


def _in_depth(mount: Obj, supported: bool) -> bool:
    wish = mount.get("recursiveReadOnly") or "Disabled"
    if wish == "Disabled" or not mount.get("readOnly"):
        return False
    if wish == "Enabled" and not supported:
        text = f'volume "{mount["name"]}" requested recursive read-only mode, but it is not supported by the runtime'
        raise ConfigError(f"failed to resolve recursive read-only mode: {text}")
    return supported


def _volume_mounts(container: Obj, volumes: Mapping[str, Mounted], staged: Mapping[int, str]) -> list[Mount]:
    mounts = []
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        volume = volumes.get(mount["name"])
        if volume is None:
            raise ConfigError(f'cannot find volume "{mount["name"]}" to mount into container "{container["name"]}"')
        mounts.append(
            Mount(
                staged.get(index, volume.path),
                mount["mountPath"],
                read_only=bool(mount.get("readOnly")) or volume.read_only,
                propagation=_PROPAGATION.get(mount.get("mountPropagation") or "", ""),
            )
        )
    return mounts
