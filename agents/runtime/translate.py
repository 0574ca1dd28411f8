"""Our specs to the engine's JSON and back: pure."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from agents.runtime.model import (
    ContainerInfo,
    ContainerSpec,
    HostAbilities,
    ImageInfo,
    Resources,
    SandboxSpec,
    Security,
    State,
)
from orca.api.times import parse_time

Json = dict[str, Any]

_CAPABILITIES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES = _CAPABILITIES.split()
"""By bit number, as linux/capability.h names them."""
OLD_ENGINE_CAPABILITIES = CAPABILITIES.index("AUDIT_READ") + 1
"""Engines before 23.0 refuse the names of later ones."""
SANDBOX_SHARES = 2
SANDBOX_OOM_SCORE = -998


def sandbox_body(spec: SandboxSpec, abilities: HostAbilities) -> Json:
    """Body of ``POST /containers/create`` for a pause container."""
    host: Json = {
        "NetworkMode": "host" if spec.host_network else "none",
        "IpcMode": "host" if spec.host_ipc else "shareable",
        "CpuShares": SANDBOX_SHARES,
        # Nothing reads what pause prints: no log file to create and rotate.
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
    }
    if spec.host_pid:
        host["PidMode"] = "host"
    if spec.host_network:
        host["UTSMode"] = "host"
    if spec.sysctls:
        host["Sysctls"] = dict(spec.sysctls)
    if spec.cgroup_parent:
        host["CgroupParent"] = spec.cgroup_parent
    if spec.runtime:
        host["Runtime"] = spec.runtime
    if abilities.full_privileges:
        host["OomScoreAdj"] = SANDBOX_OOM_SCORE
    _secure(host, spec.security, abilities)
    body: Json = {"Image": spec.image, "Labels": dict(spec.labels), "HostConfig": host}
    if not spec.host_network:
        body["Hostname"] = spec.hostname
        # A network namespace all the same: its lowest runtime makes one, and the engine leaves it alone. Otherwise the
        # engine runs itself once more, as a hook of the start, to take note of it: half of the CPU a pod costs.
        body["NetworkDisabled"] = True
    if spec.security.user:
        body["User"] = spec.security.user
    return body


def container_body(spec: ContainerSpec, abilities: HostAbilities) -> Json:
    """Body of ``POST /containers/create`` for an app container.

    The engine knows no ``container:`` mode for UTS; a container that joins another's network is given that one's
    hostname in a UTS namespace of its own, so all containers of a pod see the same name, and setting it in one does not
    change the others.
    """
    joined = f"container:{spec.sandbox_id}"
    host: Json = {
        "NetworkMode": joined,
        "IpcMode": "host" if spec.host_ipc else joined,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": spec.log_max_size, "max-file": str(spec.log_max_files)},
        },
    }
    if spec.host_pid:
        host["PidMode"] = "host"
    elif spec.process_namespace:
        host["PidMode"] = f"container:{spec.process_namespace}"
    if spec.host_network:
        host["UTSMode"] = "host"
    if spec.cgroup_parent:
        host["CgroupParent"] = spec.cgroup_parent
    if spec.runtime:
        host["Runtime"] = spec.runtime
    host |= limits_body(spec.resources)
    # A process may always make itself a likelier victim; sparing it needs CAP_SYS_RESOURCE.
    host["OomScoreAdj"] = spec.oom_score_adj if abilities.full_privileges else max(spec.oom_score_adj, 0)
    mounts = []
    for mount in spec.mounts:
        entry: Json = {"Type": "bind", "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}
        if mount.propagation:
            entry["BindOptions"] = {"Propagation": mount.propagation}
        mounts.append(entry)
    _secure(host, spec.security, abilities, mounts)
    if mounts:
        host["Mounts"] = mounts
    body: Json = {
        "Image": spec.image,
        "Labels": dict(spec.labels),
        "Env": list(spec.environment),
        "Tty": spec.tty,
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin_once,
        # Whatever health check the image brings is not Kubernetes' business.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }
    if spec.command is not None:
        body["Entrypoint"] = list(spec.command)
    if spec.args is not None:
        body["Cmd"] = list(spec.args)
    if spec.working_dir:
        body["WorkingDir"] = spec.working_dir
    if spec.security.user:
        body["User"] = spec.security.user
    if spec.stop_signal:
        body["StopSignal"] = spec.stop_signal
    return body


def limits_body(limits: Resources) -> Json:
    """Limits as a part of ``HostConfig``, and as the body of ``POST /containers/{id}/update``, where what is missing
    stays as it is. Memory never goes to swap."""
    body: Json = {}
    if limits.cpu_shares:
        body["CpuShares"] = limits.cpu_shares
    if limits.cpu_quota:
        body["CpuQuota"], body["CpuPeriod"] = limits.cpu_quota, limits.cpu_period
    if limits.memory:
        body["Memory"] = body["MemorySwap"] = limits.memory
    if limits.pids:
        body["PidsLimit"] = limits.pids
    if limits.cpuset:
        body["CpusetCpus"] = limits.cpuset
    return body


def _secure(host: Json, security: Security, abilities: HostAbilities, mounts: list[Json] | None = None) -> None:
    options: list[str] = []
    if security.groups:
        host["GroupAdd"] = list(security.groups)
    if security.read_only_root:
        host["ReadonlyRootfs"] = True
    if security.privileged and abilities.full_privileges:
        host["Privileged"] = True
        return
    if security.privileged:
        # The engine's own --privileged asks for capabilities this host lacks; grant every one it has.
        host["CapAdd"] = list(abilities.capabilities)
        host["DeviceCgroupRules"] = ["a *:* rwm"]
        host["Devices"] = [
            {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"} for path in host_devices()
        ]
        host["MaskedPaths"] = host["ReadonlyPaths"] = []
        host["SecurityOpt"] = ["seccomp=unconfined", "apparmor=unconfined"]
        if mounts is not None and not any(mount["Target"] == "/sys" for mount in mounts):
            mounts.append({"Type": "bind", "Source": "/sys", "Target": "/sys", "ReadOnly": False})
        return
    added, dropped = _capabilities(security, abilities)
    if added:
        host["CapAdd"] = added
    if dropped:
        host["CapDrop"] = dropped
    if security.no_new_privileges:
        options.append("no-new-privileges")
    if security.seccomp:
        options.append(f"seccomp={security.seccomp}")
    if security.apparmor:
        options.append(f"apparmor={security.apparmor}")
    options += [f"label={part}" for part in security.selinux]
    if security.unmasked_proc:
        host["MaskedPaths"] = host["ReadonlyPaths"] = []
    if options:
        host["SecurityOpt"] = options


def _capabilities(security: Security, abilities: HostAbilities) -> tuple[list[str], list[str]]:
    """What the engine is to add and to drop. As Kubernetes' runtimes have it, a capability that is named in both lists
    is dropped; the engine by itself would add it."""
    wanted = [_bare(one) for one in security.add_capabilities]
    unwanted = [_bare(one) for one in security.drop_capabilities]
    named = abilities.capabilities if "ALL" in wanted and "ALL" not in unwanted else wanted
    return [one for one in named if one != "ALL" and one not in unwanted], unwanted


def _bare(capability: str) -> str:
    return capability.upper().removeprefix("CAP_")


def host_devices() -> list[str]:
    """Device nodes under /dev, without what containers get anyway (terminals, shared memory, the standard ones)."""
    own = {"pts", "shm", "mqueue", "console", "ptmx", "tty", "null", "zero", "full", "random", "urandom", "fd"}
    found = []
    for entry in sorted(Path("/dev").iterdir()):
        if entry.name in own or entry.is_symlink():
            continue
        if entry.is_block_device() or entry.is_char_device():
            found.append(str(entry))
    return found


def host_capabilities(engine_version: str) -> tuple[tuple[str, ...], bool]:
    """Capabilities that we hold and the engine knows, and whether none of the kernel's is missing."""
    bounding = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            bounding = int(line.split()[1], 16)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    major = engine_version.partition(".")[0]
    known = OLD_ENGINE_CAPABILITIES if major.isdigit() and int(major) < 23 else len(CAPABILITIES)
    held = tuple(name for bit, name in enumerate(CAPABILITIES[:known]) if bounding >> bit & 1)
    return held, all(bounding >> bit & 1 for bit in range(min(last + 1, len(CAPABILITIES))))


def container_info(raw: Json) -> ContainerInfo:
    """From ``GET /containers/{id}/json``."""
    state, config = raw["State"], raw["Config"]
    running = state["Running"]
    status: State = "running" if running else ("created" if state["Status"] == "created" else "exited")
    started, finished = _when(state["StartedAt"]), _when(state["FinishedAt"])
    if started is not None and finished is not None and not running:
        # The engine stamps the start when its runtime has told of it: one that ends at once has ended before.
        finished = max(started, finished)
    host = raw.get("HostConfig") or {}
    return ContainerInfo(
        id=raw["Id"],
        name=raw["Name"].lstrip("/"),
        state=status,
        labels=config["Labels"] or {},
        image=config["Image"],
        image_id=raw["Image"],
        pid=state["Pid"],
        exit_code=state["ExitCode"],
        oom_killed=state["OOMKilled"],
        error=state["Error"],
        created_at=_when(raw["Created"]),
        started_at=started,
        # A restarted engine keeps the time of the run before.
        finished_at=None if running else finished,
        hostname=config.get("Hostname", ""),
        stop_signal=config.get("StopSignal") or "",
        resources=Resources(
            cpu_shares=host.get("CpuShares") or 0,
            cpu_quota=host.get("CpuQuota") or 0,
            cpu_period=host.get("CpuPeriod") or 0,
            memory=host.get("Memory") or 0,
            pids=host.get("PidsLimit") or 0,
            cpuset=host.get("CpusetCpus") or "",
        ),
        runtime=host.get("Runtime") or "",
        layer=((raw.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir") or "",
        log_path=raw.get("LogPath") or "",
    )


def image_info(raw: Json) -> ImageInfo:
    """From ``GET /images/{name}/json`` or an item of ``GET /images/json``."""
    return ImageInfo(
        id=raw["Id"],
        tags=tuple(tag for tag in raw.get("RepoTags") or () if tag != "<none>:<none>"),
        digests=tuple(digest for digest in raw.get("RepoDigests") or () if digest != "<none>@<none>"),
        size=raw.get("Size", 0),
        user=(raw.get("Config") or {}).get("User", ""),
    )


def image_layers(raw: Json) -> tuple[str, ...]:
    """Directories of an image's layers from ``GET /images/{name}/json``, the uppermost first; () when the engine's
    storage driver keeps none that could be mounted by others."""
    driver = raw.get("GraphDriver") or {}
    data = driver.get("Data") or {}
    if driver.get("Name") != "overlay2" or not data.get("UpperDir"):
        return ()
    lower = data.get("LowerDir") or ""
    return (data["UpperDir"], *filter(None, lower.split(":")))


def _when(text: str) -> datetime | None:
    """The engine's zero time is the year 1."""
    return None if not text or text.startswith("0001-") else parse_time(text)


def descendants(pid: int) -> list[int]:
    """A process and all its descendants as seen now, children before parents."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += descendants(int(child))
    except OSError:
        pass  # it ended meanwhile
    return [*found, pid]
