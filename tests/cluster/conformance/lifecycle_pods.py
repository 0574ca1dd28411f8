"""The pods of :mod:`tests.cluster.conformance.test_lifecycle`: each is made once and lives as its case wants it."""

from __future__ import annotations

from typing import Any

from orca.api.objects import Obj
from tests.cluster.podset import container

SLEEP = ["sh", "-c", "trap exit TERM; while :; do sleep 0.2; done"]
DEAF = ["sh", "-c", "trap '' TERM; while :; do sleep 0.2; done"]


def runs(script: str, name: str = "c", **more: Any) -> Obj:
    return container(**{"name": name, "command": ["sh", "-c", script], **more})


def pod(name: str, *containers: Obj, init: tuple[Obj, ...] = (), **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **spec.pop("meta", {})},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "containers": list(containers) or [container()],
            **({"initContainers": list(init)} if init else {}),
            **spec,
        },
    }


def sidecar(name: str, script: str | None = None, **more: Any) -> Obj:
    return container(name=name, command=["sh", "-c", script] if script else SLEEP, restartPolicy="Always", **more)


def probe(*command: str, **more: Any) -> Obj:
    return {"exec": {"command": list(command)}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 60, **more}


ON_42: Obj = {"exitCodes": {"operator": "In", "values": [42]}}
RULE = [{"action": "Restart", **ON_42}]
ALL_RULE = [{"action": "RestartAllContainers", **ON_42}]
WORK: dict[str, Any] = {"volumeMounts": [{"name": "work", "mountPath": "/mnt"}]}
WORKDIR: dict[str, Any] = {"volumes": [{"name": "work", "emptyDir": {}}]}
THIRD_TIME = "echo x >> /mnt/n; case $(wc -l < /mnt/n) in 1) exit 1;; 2) exit 0;; esac; while :; do sleep 0.2; done"
ONCE_42 = "[ -f /mnt/done ] && exec sleep 1000; touch /mnt/done; sleep 3; exit 42"
HTTPD = (
    "mkdir -p /www/cgi-bin; printf '%s' \"$PAGE\" > /www/cgi-bin/page; "
    "chmod +x /www/cgi-bin/page; exec httpd -f -p 8080 -h /www"
)
REDIRECT = "#!/bin/sh\nprintf 'HTTP/1.0 302 Found\\r\\nLocation: {to}\\r\\n\\r\\n<a href=\"{to}\">Found</a>.'\n"
STOPPING = "echo stopping > /proc/1/fd/1; until [ -e /tmp/end ]; do sleep 0.1; done"
UNWELL = "#!/bin/sh\nprintf 'HTTP/1.0 500 No\\r\\n\\r\\nunwell'\n"


def web(page: str, **more: Any) -> Obj:
    return runs(HTTPD, env=[{"name": "PAGE", "value": page}], **more)


def http(path: str = "/cgi-bin/page", **more: Any) -> Obj:
    return {
        "httpGet": {"path": path, "port": 8080},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "initialDelaySeconds": 1,
        "timeoutSeconds": 60,
        **more,
    }


AFTER_ITS_START: Any = {"initialDelaySeconds": 1, "failureThreshold": 20}
"""For what is well and must not be restarted: on a busy machine it takes seconds until it is."""

UP = probe("cat", "/tmp/up")
"""It can be told to end: a signal that comes before its trap is lost."""

PODS = [
    # restart policies and rules
    pod("always", runs(THIRD_TIME, **WORK), **WORKDIR, restartPolicy="Always"),
    pod("on-failure", runs(THIRD_TIME, **WORK), **WORKDIR, restartPolicy="OnFailure"),
    pod("never", runs(THIRD_TIME, **WORK), **WORKDIR),
    pod("rule-matches", runs("exit 42", restartPolicy="Never", restartPolicyRules=RULE)),
    pod("rule-does-not", runs("exit 1", restartPolicy="Never", restartPolicyRules=RULE)),
    pod("container-never", runs("exit 1", restartPolicy="Never"), restartPolicy="Always"),
    pod("container-always", runs("exit 1", restartPolicy="Always")),
    pod(
        "all-anew",
        runs(ONCE_42, "source", restartPolicy="Never", restartPolicyRules=ALL_RULE, **WORK),
        container(name="other"),
        init=(runs("exit 0", "init"), sidecar("side")),
        **WORKDIR,
    ),
    pod(
        "all-anew-by-init",
        container(name="other"),
        init=(
            sidecar("side"),
            runs("exit 0", "init"),
            runs(
                "[ -f /mnt/done ] && exit 0; touch /mnt/done; exit 42",
                "source",
                restartPolicy="Never",
                restartPolicyRules=ALL_RULE,
                **WORK,
            ),
        ),
        **WORKDIR,
    ),
    pod(
        "all-anew-by-sidecar",
        container(name="other"),
        init=(
            runs("exit 0", "init"),
            sidecar("side"),
            sidecar(
                "source",
                "[ -f /mnt/done ] && exec sleep 1000; touch /mnt/done; sleep 4; exit 42",
                restartPolicyRules=ALL_RULE,
                **WORK,
            ),
        ),
        **WORKDIR,
    ),
    # init containers
    pod("init-then-end", runs("exit 0"), init=(runs("exit 0", "init1"), runs("exit 0", "init2"))),
    pod("init-then-stay", init=(runs("exit 0", "init1"), runs("exit 0", "init2")), restartPolicy="Always"),
    pod("init-fails-always", init=(runs("exit 1", "init1"), runs("exit 0", "init2")), restartPolicy="Always"),
    pod("init-fails-never", runs("exit 0"), init=(runs("exit 0", "init1"), runs("exit 1", "init2"))),
    pod(
        "side-before-init",
        runs("exit 0"),
        init=(sidecar("side", startupProbe=probe("sh", "-c", "true", initialDelaySeconds=2)), runs("exit 0", "init")),
    ),
    pod("side-restarts", init=(sidecar("side", "sleep 1; exit 3"),)),
    pod("side-unready", init=(sidecar("side", readinessProbe=probe("false")),), restartPolicy="Always"),
    # probes
    pod(
        "readiness-delayed",
        runs(
            "exec httpd -f -p 8080",
            readinessProbe={"tcpSocket": {"port": 8080}, "initialDelaySeconds": 5, "periodSeconds": 1},
        ),
    ),
    pod("readiness-fails", container(readinessProbe=http("/none"))),
    pod("readiness-too-slow", container(readinessProbe=probe("sleep", "10", timeoutSeconds=1))),
    pod(
        "liveness-file",
        runs(
            "echo ok > /tmp/health; sleep 3; rm /tmp/health; exec sleep 600",
            livenessProbe=probe("cat", "/tmp/health", initialDelaySeconds=1),
        ),
        restartPolicy="Always",
    ),
    pod(
        "liveness-well",
        runs("echo ok > /tmp/health; exec sleep 600", livenessProbe=probe("cat", "/tmp/health", **AFTER_ITS_START)),
        restartPolicy="Always",
    ),
    pod("liveness-http", web(UNWELL, livenessProbe=http()), restartPolicy="Always"),
    pod(
        "liveness-tcp",
        web(
            UNWELL,
            livenessProbe={
                "tcpSocket": {"port": 8080},
                "periodSeconds": 1,
                "timeoutSeconds": 60,
                **AFTER_ITS_START,
            },
        ),
        restartPolicy="Always",
    ),
    pod(
        "liveness-too-slow",
        container(livenessProbe=probe("sleep", "10", timeoutSeconds=1, initialDelaySeconds=1)),
        restartPolicy="Always",
    ),
    pod(
        "liveness-leaves-a-child",
        container(livenessProbe=probe("sh", "-c", "sleep 10 & exit 1", timeoutSeconds=1, initialDelaySeconds=1)),
        restartPolicy="Always",
    ),
    pod("liveness-redirected-here", web(REDIRECT.format(to="/nowhere"), livenessProbe=http()), restartPolicy="Always"),
    pod(
        "liveness-redirected-away",
        web(REDIRECT.format(to="http://0.0.0.0/"), livenessProbe=http(**AFTER_ITS_START)),
        restartPolicy="Always",
    ),
    pod(
        "liveness-no-grpc",
        container(
            livenessProbe={"grpc": {"port": 2333}, "periodSeconds": 1, "initialDelaySeconds": 1, "failureThreshold": 1}
        ),
        restartPolicy="Always",
    ),
    pod(
        "startup-fails",
        container(startupProbe=probe("false", failureThreshold=2), livenessProbe=probe("true")),
        restartPolicy="Always",
    ),
    pod(
        "startup-holds-liveness",
        container(startupProbe=probe("false", failureThreshold=600), livenessProbe=probe("false")),
        restartPolicy="Always",
    ),
    pod(
        "startup-then-liveness",
        runs(
            "sleep 2; echo > /tmp/up; exec sleep 600",
            startupProbe=probe("cat", "/tmp/up", failureThreshold=60),
            livenessProbe=probe("false"),
        ),
        restartPolicy="Always",
    ),
    pod(
        "startup-then-ready-at-once",
        runs(
            "sleep 3; echo > /tmp/up; exec sleep 600",
            startupProbe=probe("cat", "/tmp/up", failureThreshold=60),
            readinessProbe=probe("true", periodSeconds=600),
        ),
    ),
    pod(
        "liveness-has-its-grace",
        container(command=DEAF, livenessProbe=probe("false", terminationGracePeriodSeconds=2)),
        restartPolicy="Always",
        terminationGracePeriodSeconds=500,
    ),
    pod(
        "startup-has-its-grace",
        container(command=DEAF, startupProbe=probe("false", terminationGracePeriodSeconds=2)),
        restartPolicy="Always",
        terminationGracePeriodSeconds=500,
    ),
    pod(
        "side-liveness",
        init=(sidecar("side", livenessProbe=probe("false", initialDelaySeconds=1)),),
        restartPolicy="Always",
    ),
    pod(
        "side-startup-fails",
        init=(sidecar("side", startupProbe=probe("false", failureThreshold=2)),),
        restartPolicy="Always",
    ),
    # pods that are ended by the cases
    pod(
        "ends-unready",
        runs(
            "trap 'rm /tmp/ready /tmp/live; until [ -e /tmp/end ]; do sleep 0.1; done; exit 0' TERM; "
            "touch /tmp/ready /tmp/live; while :; do sleep 0.2; done",
            startupProbe=probe("cat", "/tmp/live", failureThreshold=600),
            readinessProbe=probe("cat", "/tmp/ready"),
            livenessProbe=probe("cat", "/tmp/live"),
        ),
        terminationGracePeriodSeconds=600,
    ),
    pod(
        "hook-sleeps",
        container(lifecycle={"preStop": {"sleep": {"seconds": 5}}}),
        meta={"finalizers": ["test.orca/kept"]},
        terminationGracePeriodSeconds=600,
    ),
    pod(
        "hook-sleeps-too-long",
        container(command=["sleep", "1000"], lifecycle={"preStop": {"sleep": {"seconds": 500}}}),
        meta={"finalizers": ["test.orca/kept"]},
        terminationGracePeriodSeconds=600,
    ),
    pod(
        "hook-sleeps-not",
        container(lifecycle={"preStop": {"sleep": {"seconds": 0}}}),
        terminationGracePeriodSeconds=600,
    ),
    pod(
        "hook-of-an-ended",
        runs("sleep 1", lifecycle={"preStop": {"sleep": {"seconds": 500}}}),
        terminationGracePeriodSeconds=600,
    ),
    pod(
        "hook-starts",
        container(
            lifecycle={
                "postStart": {"exec": {"command": ["sh", "-c", "echo started > /proc/1/fd/1"]}},
                "preStop": {"exec": {"command": ["sh", "-c", STOPPING]}},
            }
        ),
        terminationGracePeriodSeconds=600,
    ),
    pod("hook-fails", container(lifecycle={"postStart": {"exec": {"command": ["false"]}}}), restartPolicy="Always"),
    pod(
        "stop-signal",
        runs(
            "trap 'exit 7' USR1; touch /tmp/up; while :; do sleep 0.1; done",
            lifecycle={"stopSignal": "SIGUSR1"},
            readinessProbe=UP,
        ),
        os={"name": "linux"},
        meta={"finalizers": ["test.orca/kept"]},
        terminationGracePeriodSeconds=30,
    ),
    pod("deaf", container(command=DEAF), meta={"finalizers": ["test.orca/kept"]}, terminationGracePeriodSeconds=2),
    pod(
        "ends-well",
        runs("trap 'exit 0' TERM; touch /tmp/up; while :; do sleep 0.1; done", readinessProbe=UP),
        meta={"finalizers": ["test.orca/kept"]},
        terminationGracePeriodSeconds=30,
    ),
    pod("always-fails", container(command=["/bin/false"]), restartPolicy="Always"),
    pod("deadline-later"),
    pod("gated", readinessGates=[{"conditionType": "example.com/1"}, {"conditionType": "example.com/2"}]),
    pod("debugged"),
]
