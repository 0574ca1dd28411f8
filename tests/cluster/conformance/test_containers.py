"""What a container is given: its command, environment, names, identity and rights; and what is told of its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orca.api.objects import Obj
from orca.lab.layout import Lab
from tests.cluster.conformance.runs import Case, Ran, case, exits, ran, says, terminated
from tests.cluster.conftest import orca
from tests.cluster.podset import container
from tests.support import images
from tests.support.kubectl import Kubectl

SAYS = "orca-test/says:1"
"""Prints its arguments; has an entry point and default arguments; its user is 1000."""
ROOT_BY_NAME = "orca-test/named:1"
"""As ``SAYS``, but its user is a name."""


def config(kind: str, name: str, data: dict[str, str], **more: Any) -> Obj:
    field = "stringData" if kind == "Secret" else "data"
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: data, **more}


OBJECTS = [
    config("ConfigMap", "settings", {"one": "value-1", "two.dotted": "value-2"}),
    config("Secret", "hidden", {"one": "secret-1", "two": "secret-2"}),
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "foo-service"},
        "spec": {"ports": [{"port": 8765, "targetPort": 8080}], "selector": {"no": "pod"}},
    },
]


def key(kind: str, name: str, key: str, **more: Any) -> Obj:
    return {f"{kind}KeyRef": {"name": name, "key": key, **more}}


def field(path: str) -> Obj:
    return {"fieldRef": {"fieldPath": path}}


def amount(resource: str, divisor: str | None = None) -> Obj:
    return {"resourceFieldRef": {"resource": resource, **({"divisor": divisor} if divisor else {})}}


def env(**variables: str | Obj) -> list[Obj]:
    return [
        {"name": name, **({"value": value} if isinstance(value, str) else {"valueFrom": value})}
        for name, value in variables.items()
    ]


NODE_AMOUNTS = env(CPU=amount("limits.cpu"), MEMORY=amount("limits.memory"), DISK=amount("limits.ephemeral-storage"))
DOWNWARD = env(
    NAME=field("metadata.name"),
    NAMESPACE=field("metadata.namespace"),
    UID_=field("metadata.uid"),
    LABEL=field("metadata.labels['conformance']"),
    NOTE=field("metadata.annotations['example.com/note']"),
    NODE=field("spec.nodeName"),
    ACCOUNT=field("spec.serviceAccountName"),
    IP=field("status.podIP"),
    IPS=field("status.podIPs"),
    HOST=field("status.hostIP"),
    HOSTS=field("status.hostIPs"),
    ABSENT=field("metadata.labels['absent']"),
)
BOUNDS = {
    "requests": {"cpu": "250m", "memory": "32Mi", "ephemeral-storage": "32Mi"},
    "limits": {"cpu": "1250m", "memory": "64Mi", "ephemeral-storage": "64Mi"},
}
HOSTS = "cat /etc/hosts"
MANAGED = "# Kubernetes-managed hosts file."
OF_HOST = {"name": "hosts", "hostPath": {"path": "/etc/hosts", "type": "File"}}
STATUS = "grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status"


def not_started(reason: str, text: str) -> Any:
    """Of a pod that stays Pending: why its container waits."""

    def check(pod: Obj) -> None:
        (status,) = pod["status"]["containerStatuses"]
        waiting = status["state"]["waiting"]
        assert waiting["reason"] == reason, waiting
        assert text in waiting["message"], waiting

    return check


ENVIRONMENT = [
    case("image-defaults", None, "entry point default arguments", of={"image": SAYS}),
    case("image-arguments", None, "entry point other ones", of={"image": SAYS, "args": ["other", "ones"]}),
    case("image-command", None, "mine", of={"image": SAYS, "command": ["/bin/echo", "mine"]}),
    case("image-both", None, "a b", of={"image": SAYS, "command": ["/bin/echo"], "args": ["a", "b"]}),
    case(
        "composed-variables",
        "env",
        "FOO=foo-value",
        "BAR=bar-value",
        "FOOBAR=foo-value;;bar-value",
        r"ESCAPED=\$\(FOO\)",
        r"LATER=\$\(AFTER\)",
        r"UNKNOWN=\$\(NOWHERE\)",
        of={
            "env": env(
                FOO="foo-value",
                BAR="bar-value",
                FOOBAR="$(FOO);;$(BAR)",
                ESCAPED="$$(FOO)",
                LATER="$(AFTER)",
                AFTER="x",
                UNKNOWN="$(NOWHERE)",
            )
        },
    ),
    case(
        "variables-in-command-and-arguments",
        None,
        r"test-value test-value \$\(TEST\) \$\(NOWHERE\)",
        of={
            "command": ["sh", "-c", 'echo "$(TEST)" "$@"', "sh"],
            "args": ["$(TEST)", "$$(TEST)", "$(NOWHERE)"],
            "env": env(TEST="test-value"),
        },
    ),
    case(
        "about-the-pod",
        "env",
        "NAME=about-the-pod",
        "NAMESPACE=conformance-.*",
        "UID_=[0-9a-f-]{36}",
        "LABEL=case",
        "NOTE=noted",
        "NODE=host-.*",
        "ACCOUNT=default",
        r"IP=10\.244\.[0-9.]+",
        r"IPS=10\.244\.[0-9.]+",
        r"HOST=172\.[0-9.]+",
        r"HOSTS=172\.[0-9.]+",
        "ABSENT=",
        of={"env": DOWNWARD},
        meta={"annotations": {"example.com/note": "noted"}},
    ),
    case(
        "about-a-pod-of-the-host",
        '[ "$IP" = "$HOST" ] && [ "$IPS" = "$HOSTS" ] && echo "same $IP"',
        r"same 172\..*",
        of={"env": DOWNWARD},
        hostNetwork=True,
    ),
    case(
        "about-its-resources",
        "env",
        "CPU=2",
        "REQUEST=1",
        "MILLI=250",
        "MEMORY=67108864",
        "MEMORY_MI=64",
        "REQUESTED=33554432",
        "DISK=67108864",
        "DISK_REQUEST=33554432",
        of={
            "env": env(
                CPU=amount("limits.cpu"),
                REQUEST=amount("requests.cpu"),
                MILLI=amount("requests.cpu", "1m"),
                MEMORY=amount("limits.memory"),
                MEMORY_MI=amount("limits.memory", "1Mi"),
                REQUESTED=amount("requests.memory"),
                DISK=amount("limits.ephemeral-storage"),
                DISK_REQUEST=amount("requests.ephemeral-storage"),
            ),
            "resources": BOUNDS,
        },
    ),
    case(
        "about-what-the-node-has",
        "env",
        "CPU=[1-9][0-9]*",
        "MEMORY=[1-9][0-9]{7,}",
        "DISK=[1-9][0-9]{7,}",
        of={"env": NODE_AMOUNTS},
    ),
    case("one-key-of-a-configmap", "env", "ONE=value-1", of={"env": env(ONE=key("configMap", "settings", "one"))}),
    case("one-key-of-a-secret", "env", "ONE=secret-1", of={"env": env(ONE=key("secret", "hidden", "one"))}),
    case(
        "all-of-both",
        None,
        "one=secret-1",
        "p-one=value-1",
        "p-two.dotted=value-2",
        "two=secret-2",
        of={
            "command": ["env"],
            "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "p-"}, {"secretRef": {"name": "hidden"}}],
        },
    ),
    case(
        "optional-and-absent",
        "env",
        but=("^ABSENT=", "^KEY="),
        of={
            "env": env(
                ABSENT=key("configMap", "nowhere", "one", optional=True),
                KEY=key("secret", "hidden", "nowhere", optional=True),
            ),
            "envFrom": [{"configMapRef": {"name": "nowhere", "optional": True}}],
        },
    ),
    case(
        "absent",
        "env",
        phase="Pending",
        check=not_started("CreateContainerConfigError", 'configmap "nowhere" not found'),
        of={"env": env(ABSENT=key("configMap", "nowhere", "one"))},
    ),
    case(
        "services",
        "env",
        r"FOO_SERVICE_SERVICE_HOST=10\.96\..*",
        "FOO_SERVICE_SERVICE_PORT=8765",
        r"FOO_SERVICE_PORT=tcp://10\.96\..*:8765",
        r"FOO_SERVICE_PORT_8765_TCP=tcp://10\.96\..*:8765",
        "FOO_SERVICE_PORT_8765_TCP_PROTO=tcp",
        "FOO_SERVICE_PORT_8765_TCP_PORT=8765",
        r"FOO_SERVICE_PORT_8765_TCP_ADDR=10\.96\..*",
        r"KUBERNETES_SERVICE_HOST=10\.96\.0\.1",
    ),
    case("no-service-links", "env", "KUBERNETES_SERVICE_PORT=443", but=("^FOO_SERVICE",), enableServiceLinks=False),
    case(
        "variables-from-a-file",
        "env",
        "ONE=value1",
        but=("^MISSING=",),
        of={
            "env": env(
                ONE={"fileKeyRef": {"volumeName": "v", "path": "config.env", "key": "CONFIG_1"}},
                MISSING={"fileKeyRef": {"volumeName": "v", "path": "config.env", "key": "NO", "optional": True}},
            )
        },
        initContainers=[
            container(
                name="setup",
                command=["sh", "-c", "echo \"CONFIG_1='value1'\" > /data/config.env"],
                volumeMounts=[{"name": "v", "mountPath": "/data"}],
            )
        ],
        volumes=[{"name": "v", "emptyDir": {}}],
    ),
]

NAMES = [
    case("hosts", HOSTS, MANAGED, r"127\.0\.0\.1\s+localhost", r"10\.244\..*\s+hosts"),
    case(
        "hosts-with-aliases",
        HOSTS,
        MANAGED,
        r"123\.45\.67\.89\s+foo\s+bar",
        hostAliases=[{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}],
    ),
    case(
        "hosts-mounted-by-the-pod",
        HOSTS,
        but=("Kubernetes-managed",),
        of={"volumeMounts": [{"name": "hosts", "mountPath": "/etc/hosts"}]},
        volumes=[OF_HOST],
    ),
    case("hosts-of-the-host", HOSTS, r"# Kubernetes-managed hosts file \(host network\)\.", hostNetwork=True),
    case(
        "own-name",
        "hostname; hostname -f",
        "custom",
        r"custom\.sub\.conformance-.*\.svc\.cluster\.local",
        hostname="custom",
        subdomain="sub",
    ),
    case("name-overridden", "hostname; hostname -f", "override.example.host", hostnameOverride="override.example.host"),
    case(
        "name-overridden-all-the-same",
        "hostname; hostname -f",
        "override-host",
        but=("custom", "sub"),
        hostname="custom",
        subdomain="sub",
        hostnameOverride="override-host",
    ),
    case(
        "own-resolver",
        "cat /etc/resolv.conf",
        r"nameserver 1\.1\.1\.1",
        r"search resolv\.conf\.local",
        "options ndots:2",
        but=("cluster.local", "10.96"),
        dnsPolicy="None",
        dnsConfig={
            "nameservers": ["1.1.1.1"],
            "searches": ["resolv.conf.local"],
            "options": [{"name": "ndots", "value": "2"}],
        },
    ),
]

RIGHTS = [
    case("user-of-the-image", None, "uid=1000.*", of={"image": SAYS, "command": ["id"]}),
    case("user-by-number", "id -u", "1001", of={"securityContext": {"runAsUser": 1001}}),
    case(
        "user-of-the-container-wins",
        "id -u; id -g",
        "1002",
        "2002",
        of={"securityContext": {"runAsUser": 1002}},
        securityContext={"runAsUser": 1001, "runAsGroup": 2002},
    ),
    case("user-zero", "id -u", "0", of={"securityContext": {"runAsUser": 0}}),
    case("not-root-by-number", "id -u", "1234", of={"securityContext": {"runAsNonRoot": True, "runAsUser": 1234}}),
    case(
        "not-root-by-image",
        None,
        "1000",
        of={"image": SAYS, "command": ["id", "-u"], "securityContext": {"runAsNonRoot": True}},
    ),
    case(
        "not-root-but-zero",
        "id -u",
        phase="Pending",
        check=not_started("CreateContainerConfigError", "container's runAsUser breaks non-root policy"),
        of={"securityContext": {"runAsNonRoot": True, "runAsUser": 0}},
    ),
    case(
        "not-root-but-image-is",
        "id -u",
        phase="Pending",
        check=not_started("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
        of={"securityContext": {"runAsNonRoot": True}},
    ),
    case(
        "not-root-but-image-has-a-name",
        None,
        phase="Pending",
        check=not_started("CreateContainerConfigError", "container has runAsNonRoot and image has non-numeric user"),
        of={"image": ROOT_BY_NAME, "securityContext": {"runAsNonRoot": True}},
    ),
    case(
        "more-groups",
        "id -G",
        "0 1234 5678|1234 5678|0 10 1234 5678",
        securityContext={"supplementalGroups": [1234, 5678]},
    ),
    case(
        "groups-and-user",
        "id -G",
        "123 1234 456 5678|123 456 1234 5678",
        securityContext={"runAsUser": 9, "runAsGroup": 123, "fsGroup": 456, "supplementalGroups": [1234, 5678]},
    ),
    case(
        "read-only-root",
        "echo x > /file || echo refused",
        "refused",
        of={"securityContext": {"readOnlyRootFilesystem": True}},
    ),
    case(
        "writable-root", "echo x > /file && cat /file", "x", of={"securityContext": {"readOnlyRootFilesystem": False}}
    ),
    case(
        "privileged", "mount -t tmpfs t /tmp && echo mounted", "mounted", of={"securityContext": {"privileged": True}}
    ),
    case(
        "not-privileged",
        "mount -t tmpfs t /tmp || echo refused",
        "refused",
        of={"securityContext": {"privileged": False}},
    ),
    case(
        "no-new-privileges",
        STATUS,
        r"NoNewPrivs:\s1",
        of={"securityContext": {"allowPrivilegeEscalation": False, "runAsUser": 1000}},
    ),
    case("new-privileges-when-nothing-is-said", STATUS, r"NoNewPrivs:\s0", of={"securityContext": {"runAsUser": 1000}}),
    case(
        "new-privileges-when-asked",
        STATUS,
        r"NoNewPrivs:\s0",
        of={"securityContext": {"allowPrivilegeEscalation": True, "runAsUser": 1000}},
    ),
    case("seccomp-unconfined-when-nothing-is-said", STATUS, r"Seccomp:\s0"),
    case(
        "seccomp-unconfined",
        STATUS,
        r"Seccomp:\s0",
        of={"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        securityContext={"seccompProfile": {"type": "RuntimeDefault"}},
    ),
    case("seccomp-of-the-pod", STATUS, r"Seccomp:\s2", securityContext={"seccompProfile": {"type": "RuntimeDefault"}}),
    case(
        "seccomp-of-the-container",
        STATUS,
        r"Seccomp:\s2",
        of={"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},
    ),
    case(
        "sysctl",
        "cat /proc/sys/kernel/shm_rmid_forced",
        "1",
        securityContext={"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]},
    ),
    case(
        "sysctl-with-slashes",
        "cat /proc/sys/kernel/shm_rmid_forced",
        "1",
        securityContext={"sysctls": [{"name": "kernel/shm_rmid_forced", "value": "1"}]},
    ),
    case(
        "sysctl-not-safe",
        "true",
        phase="Failed",
        check=lambda pod: _says(pod, "SysctlForbidden"),
        securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "10000000000"}]},
    ),
    case("selinux-is-harmless-without", "echo on", "on", securityContext={"seLinuxOptions": {"level": "s0"}}),
    case("pids-of-the-host", "ls /proc | grep -c '^[0-9]'", "[1-9][0-9]+", hostPID=True),
    case("pids-of-its-own", "ls /proc | grep '^[0-9]'", "1", but=("^[0-9]{3,}$",)),
    case("ipc-of-the-host", "ls -l /proc/self/ns/ipc", hostIPC=True),
]


def _says(pod: Obj, reason: str) -> None:
    assert pod["status"]["reason"] == reason, pod["status"]


MESSAGE = "/dev/termination-log"
FALLBACK = {"terminationMessagePolicy": "FallbackToLogsOnError"}
ENDS = [
    case("message", f"echo -n DONE > {MESSAGE}", check=says("DONE"), of={"securityContext": {"runAsUser": 0}}),
    case(
        "message-of-another-user-elsewhere",
        "echo -n DONE > /dev/termination-custom-log",
        check=says("DONE"),
        of={"terminationMessagePath": "/dev/termination-custom-log", "securityContext": {"runAsUser": 10000}},
    ),
    case("message-from-the-log", "echo -n DONE; false", "DONE", phase="Failed", check=says("DONE"), of=FALLBACK),
    case("no-message-when-well", "echo -n DONE", "DONE", check=says(""), of=FALLBACK),
    case("message-of-the-file-when-well", f"echo -n OK > {MESSAGE}; echo DONE", check=says("OK"), of=FALLBACK),
    case("no-message-of-the-log-without-asking", "echo DONE; false", phase="Failed", check=says("")),
    case(
        "message-is-cut",
        f"head -c 5000 /dev/zero | tr '\\0' x > {MESSAGE}; false",
        phase="Failed",
        check=lambda pod: _is(len(terminated(pod)["message"]), 4096),
    ),
    case("exit-code", "exit 42", phase="Failed", check=exits(42)),
    case("always-fails", None, phase="Failed", check=exits(1), of={"command": ["/bin/false"]}),
    case(
        "no-such-command",
        None,
        phase="Failed",
        check=lambda pod: _is((terminated(pod)["exitCode"], terminated(pod)["reason"]), (128, "StartError")),
        of={"command": ["/no/such/thing"]},
    ),
    case("prints", "echo 'Hello World'; echo to-the-other >&2", "Hello World", "to-the-other"),
]


def _is(seen: object, wanted: object) -> None:
    assert seen == wanted


ALL = [*ENVIRONMENT, *NAMES, *RIGHTS, *ENDS]


@pytest.fixture(scope="module")
def here(admin: Kubectl, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """All cases of this module, run at once."""
    files = {
        "bin/busybox": Path("/bin/busybox").read_bytes(),
        "etc/passwd": b"root:x:0:0::/:/bin/sh\napp:x:1000:50::/:/bin/sh\n",
    }
    links = {f"bin/{applet}": "busybox" for applet in images.APPLETS.split()}
    for name, user in ((SAYS, "1000"), (ROOT_BY_NAME, "app")):
        archive = tmp_path_factory.mktemp("images") / "image.tar"
        words = {"entrypoint": ["/bin/echo", "entry", "point"], "command": ["default", "arguments"]}
        archive.write_bytes(images.archive(name, files, links=links, user=user, **words))
        orca("lab", "load-image", "--name", lab.name, str(archive))
    with ran(admin, f"conformance-containers-{os.getpid()}", ALL, OBJECTS) as found:
        yield found


@pytest.mark.parametrize("one", ALL, ids=[one.name for one in ALL])
def test_a_container_is_given_what_it_should(here: Ran, one: Case) -> None:
    here.judge(one)
