"""What containers see of volumes: contents, modes, owners, what may be written; and how changes get to them."""

from __future__ import annotations

import base64
import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from orca.api.objects import Obj
from orca.lab.layout import Lab
from tests.cluster.conformance.runs import Case, Ran, apply, case, ran
from tests.cluster.podset import container, inside
from tests.support.kubectl import Kubectl, eventually

BINARY = base64.b64encode(b"\xde\xca\xfe\xba\xd0\xfe\xff").decode()
OBJECTS: list[Obj] = [
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "map"},
        "data": {"data-1": "value-1", "data-2": "value-2", "data-3": "value-3"},
        "binaryData": {"dump.bin": BINARY},
    },
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"}, "stringData": {"data-1": "value-1"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fixed"}, "data": {"a": "1"}, "immutable": True},
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sealed"}, "data": {"a": "MQ=="}, "immutable": True},
]


def mounting(volume: Obj, path: str = "/v", **mount: Any) -> Obj:
    """Fields for a pod whose container ``c`` has a volume at ``path``."""
    return {
        "of": {"volumeMounts": [{"name": "v", "mountPath": path, **mount}]},
        "volumes": [{"name": "v", **volume}],
    }


def seen(name: str, script: str, *prints: str, volume: Obj, user: int = 0, group: int = 0, **more: Any) -> Case:
    """A container that looks into a volume, as this user when it is not 0, with this fsGroup when it is not 0."""
    context: Obj = {**({"runAsUser": user} if user else {}), **({"fsGroup": group} if group else {})}
    mount = {name: more.pop(name) for name in ("path", "subPath", "subPathExpr", "readOnly") if name in more}
    made = mounting(volume, **mount)
    made["of"].update(more.pop("of", {}))
    made["volumes"] += more.pop("volumes", [])
    return case(name, script, *prints, **made, securityContext=context, **more)


MEDIA: dict[str, Obj] = {"disk": {}, "memory": {"medium": "Memory"}}
USERS = {"root": 0, "user": 1001}
NEW = "umask 0; echo new > /v/f && chmod {mode} /v/f && stat -c '%a %u %g' /v/f; cat /v/f; grep ' /v ' /proc/mounts"


def of_medium(medium: str) -> tuple[str, ...]:
    return ("tmpfs /v tmpfs .*",) if medium == "memory" else ()


EMPTY = [
    *(
        seen(
            f"empty-{medium}-{who}-0{mode}",
            NEW.format(mode=mode),
            rf"{mode} {user} .*",
            "new",
            *of_medium(medium),
            volume={"emptyDir": MEDIA[medium]},
            user=user,
        )
        for (who, user), mode, medium in itertools.product(USERS.items(), (644, 666, 777), MEDIA)
    ),
    *(
        seen(
            f"empty-{medium}-mode",
            "stat -c %a /v; grep ' /v ' /proc/mounts",
            "777",
            *of_medium(medium),
            volume={"emptyDir": MEDIA[medium]},
        )
        for medium in MEDIA
    ),
    *(
        seen(
            f"empty-{medium}-{who}-of-a-group",
            "umask 0; echo new > /v/f && chmod 660 /v/f; stat -c '%a %g' /v/f; stat -c '%a %u %g' /v",
            "660 123",
            "2777 0 123",
            volume={"emptyDir": MEDIA[medium]},
            user=user,
            group=123,
        )
        for (who, user), medium in itertools.product(USERS.items(), MEDIA)
    ),
    *(
        seen(
            f"empty-{medium}-part-of-a-group",
            "stat -c '%a %u %g' /v",
            "2777 0 123",
            volume={"emptyDir": MEDIA[medium]},
            subPath="part",
            group=123,
        )
        for medium in MEDIA
    ),
    seen(
        "empty-of-some-size",
        "df -k /v | tail -n 1",
        r"tmpfs\s+10240\s.*",
        volume={"emptyDir": {"medium": "Memory", "sizeLimit": "10Mi"}},
    ),
    seen(
        "empty-shared",
        "until [ -s /v/f ]; do sleep 0.1; done; cat /v/f",
        "from the other",
        volume={"emptyDir": {}},
        more=[
            container(
                name="other",
                command=["sh", "-c", "echo from the other > /data/part; mv /data/part /data/f"],
                volumeMounts=[{"name": "v", "mountPath": "/data"}],
            )
        ],
    ),
]

LOOK = "cat {path}; echo; stat -L -c '%a %u %g' {path}"


def sources(kind: str, **more: Any) -> dict[str, Obj]:
    """The same content as a volume of its own and as part of a projected one. ``more`` has ``items``, ``defaultMode``
    and ``optional``."""
    own = {"configMap": {"configMap": {"name": "map", **more}}, "secret": {"secret": {"secretName": "secret", **more}}}
    mode = {"defaultMode": more.pop("defaultMode")} if "defaultMode" in more else {}
    name = "map" if kind == "configMap" else "secret"
    return {kind: own[kind], f"projected-{kind}": {"projected": {"sources": [{kind: {"name": name, **more}}], **mode}}}


def configured(suffix: str, script: str, *prints: str, user: int = 0, group: int = 0, **more: Any) -> list[Case]:
    """The case for all four kinds of volume that hold configuration."""
    return [
        seen(f"{name.lower()}-{suffix}", script, *prints, volume=volume, user=user, group=group)
        for kind in ("configMap", "secret")
        for name, volume in sources(kind, **more).items()
    ]


ONE = [{"key": "data-1", "path": "path/to/one"}]
MODED = [{"key": "data-1", "path": "path/to/one", "mode": 0o400}]
CONFIGURED = [
    *configured("whole", LOOK.format(path="/v/data-1"), "value-1", "644 0 0"),
    *configured("as-a-user", LOOK.format(path="/v/data-1"), "value-1", "644 0 0", user=1000),
    *configured("default-mode", LOOK.format(path="/v/data-1"), "value-1", "400 0 0", defaultMode=0o400),
    *configured(
        "mode-and-group",
        LOOK.format(path="/v/data-1"),
        "value-1",
        "440 0 1001",
        user=1000,
        group=1001,
        defaultMode=0o440,
    ),
    *configured("items", LOOK.format(path="/v/path/to/one") + "; ls /v", "value-1", "644 0 0", "path", items=ONE),
    *configured("items-as-a-user", LOOK.format(path="/v/path/to/one"), "value-1", "644 0 0", user=1000, items=ONE),
    *configured("item-mode", LOOK.format(path="/v/path/to/one"), "value-1", "400 0 0", items=MODED),
    *configured(
        "is-a-link-into-a-directory-of-versions",
        "readlink /v/data-1; readlink /v/..data | head -c 2",
        r"\.\.data/data-1",
        r"\.\.",
    ),
    *configured(
        "cannot-be-written",
        "echo x > /v/data-1 || echo refused; echo x > /v/new || echo refused-new",
        "refused",
        "refused-new",
    ),
    seen(
        "configmap-binary",
        "wc -c < /v/dump.bin; cat /v/dump.bin | busybox od -An -tx1",
        "7",
        " de ca fe ba d0 fe ff",
        volume={"configMap": {"name": "map"}},
    ),
    seen(
        "configmap-twice",
        "cat /v/data-1 /w/data-2",
        "value-1value-2",
        volume={"configMap": {"name": "map"}},
        of={"volumeMounts": [{"name": n, "mountPath": f"/{n}"} for n in "vw"]},
        volumes=[{"name": "w", "configMap": {"name": "map"}}],
    ),
    seen(
        "configmap-optional-and-absent",
        "ls -A /v | wc -l",
        "0|1|2",
        volume={"configMap": {"name": "none", "optional": True}},
    ),
    seen("configmap-part", "cat /v", "value-2", volume={"configMap": {"name": "map"}}, subPath="data-2"),
]

LABELLED = {"labels": {"conformance": "case", "key1": "value1"}, "annotations": {"build": "two"}}
ITEMS = [
    {"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}},
    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
    {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
    *(
        {"path": path, "resourceFieldRef": {"containerName": "c", "resource": resource}}
        for path, resource in {
            "cpu_limit": "limits.cpu",
            "cpu_request": "requests.cpu",
            "memory_limit": "limits.memory",
            "memory_request": "requests.memory",
        }.items()
    ),
]
SHOWN = (
    "cd /v; for f in podname labels annotations cpu_limit cpu_request memory_limit memory_request; "
    "do echo $f: $(cat $f); done"
)
BOUNDS = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}


def downward(
    suffix: str, script: str, *prints: str, user: int = 0, group: int = 0, of: Obj | None = None, **more: Any
) -> list[Case]:
    mode = {"defaultMode": more["defaultMode"]} if "defaultMode" in more else {}
    items = more.get("items", ITEMS)
    volumes = {
        "downward": {"downwardAPI": {"items": items, **mode}},
        "projected-downward": {"projected": {"sources": [{"downwardAPI": {"items": items}}], **mode}},
    }
    return [
        seen(f"{name}-{suffix}", script, *prints, volume=volume, user=user, group=group, meta=LABELLED, of=of or {})
        for name, volume in volumes.items()
    ]


NAME_ONLY = [{"path": "podname", "mode": 0o400, "fieldRef": {"fieldPath": "metadata.name"}}]
DOWNWARD = [
    *downward(
        "all",
        SHOWN,
        "podname: .*downward-all",
        'labels: conformance="case" key1="value1"',
        r'annotations: build="two".*',
        "cpu_limit: 2",
        "cpu_request: 1",
        "memory_limit: 67108864",
        "memory_request: 33554432",
        of={"resources": BOUNDS},
    ),
    *downward(
        "what-the-node-has",
        SHOWN,
        "cpu_limit: [1-9][0-9]*",
        "memory_limit: [1-9][0-9]{7,}",
        "cpu_request: 0",
        "memory_request: 0",
    ),
    *downward("default-mode", "stat -L -c %a /v/podname", "400", defaultMode=0o400),
    *downward("item-mode", "stat -L -c %a /v/podname", "400", items=NAME_ONLY),
    *downward(
        "mode-and-group",
        "stat -L -c '%a %u %g' /v/podname; cat /v/podname",
        "440 0 1234",
        ".*-mode-and-group",
        user=1001,
        group=1234,
        defaultMode=0o440,
    ),
]

PROJECTED = [
    seen(
        "projected-together",
        "cd /v; cat podname map/data-1 secret/data-1",
        "projected-togethervalue-1value-1",
        volume={
            "projected": {
                "sources": [
                    {"configMap": {"name": "map", "items": [{"key": "data-1", "path": "map/data-1"}]}},
                    {"secret": {"name": "secret", "items": [{"key": "data-1", "path": "secret/data-1"}]}},
                    {"downwardAPI": {"items": [ITEMS[0]]}},
                ]
            }
        },
    ),
    seen(
        "projected-token",
        "cut -c 1-3 /v/token; stat -L -c '%a %u %g' /v/token; cat /v/ca.crt | head -n 1",
        "eyJ",
        "600 1000 0",
        "-----BEGIN CERTIFICATE-----",
        volume={
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "me"}},
                    {"configMap": {"name": "kube-root-ca.crt"}},
                ]
            }
        },
        user=1000,
    ),
    seen(
        "projected-token-of-a-group",
        "cut -c 1-3 /v/token; stat -L -c '%a %u %g' /v/token",
        "eyJ",
        "640 1000 10000",
        volume={"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        user=1000,
        group=10000,
    ),
    case(
        "account-mounted",
        "cd /var/run/secrets/kubernetes.io/serviceaccount; cat namespace; echo; ls | sort | tr '\\n' ' '; "
        "stat -L -c %a token",
        "conformance-.*",
        "ca.crt namespace token .*",
        automountServiceAccountToken=True,
    ),
    case("account-not-mounted", "ls /var/run/secrets/kubernetes.io || echo nothing", "nothing"),
]

PARTS = [
    seen(
        "part-named-by-variables",
        "echo here > /v/f; cat /w/part-named-by-variables/f",
        "here",
        volume={"emptyDir": {}},
        of={
            "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "volumeMounts": [
                {"name": "v", "mountPath": "/v", "subPathExpr": "$(POD)"},
                {"name": "v", "mountPath": "/w"},
            ],
        },
    ),
    *(
        seen(
            f"part-named-{kind}",
            "true",
            volume={"emptyDir": {}},
            subPathExpr="$(BAD)",
            of={"env": [{"name": "BAD", "value": value}]},
            phase="Pending",
        )
        for kind, value in {"absolutely": "/tmp", "upwards": "../up"}.items()
    ),
    seen(
        "part-of-the-host",
        "echo there > /v/f; cat /v/f",
        "there",
        volume={"hostPath": {"path": "/tmp"}},
        subPath="conformance-part",
    ),
    seen("host-path-mode", "stat -c %a /v", "1777|777", volume={"hostPath": {"path": "/tmp"}}),
    seen(
        "host-path-written",
        "echo x > /v/conformance-file; cat /v/conformance-file; rm /v/conformance-file",
        "x",
        volume={"hostPath": {"path": "/tmp"}},
    ),
    seen("read-only-mount", "echo x > /v/f || echo refused", "refused", volume={"emptyDir": {}}, readOnly=True),
]

SOURCES: dict[str, Obj] = {
    "configmap": {"configMap": {"name": "map", "items": ONE}},
    "secret": {"secret": {"secretName": "secret", "items": ONE}},
    "downward": {"downwardAPI": {"items": [{**ITEMS[0], "path": "path/to/one"}]}},
    "projected": {"projected": {"sources": [{"configMap": {"name": "map", "items": ONE}}]}},
}
OVER = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/etc/passwd")
WRITTEN_PARTS = [
    *(
        seen(
            f"part-of-{kind}",
            "cat /v/one /f",
            "part-of-downwardpart-of-downward" if kind == "downward" else "value-1value-1",
            volume=volume,
            of={
                "volumeMounts": [
                    {"name": "v", "mountPath": "/v", "subPath": "path/to"},
                    {"name": "v", "mountPath": "/f", "subPath": "path/to/one"},
                ]
            },
        )
        for kind, volume in SOURCES.items()
    ),
    seen(
        "part-over-files-that-are-there",
        f"cat {' '.join(OVER)}",
        "value-1" * len(OVER),
        volume={"configMap": {"name": "map"}},
        of={"volumeMounts": [{"name": "v", "mountPath": path, "subPath": "data-1"} for path in OVER]},
    ),
    seen(
        "host-path-made-where-no-type-says-otherwise",
        "rmdir /above/made && echo made",
        "made",
        volume={"hostPath": {"path": "/tmp/conformance-parent/made"}},
        of={"volumeMounts": [{"name": "above", "mountPath": "/above"}]},
        volumes=[{"name": "above", "hostPath": {"path": "/tmp/conformance-parent", "type": "DirectoryOrCreate"}}],
    ),
]

ALL = [*EMPTY, *CONFIGURED, *DOWNWARD, *PROJECTED, *PARTS, *WRITTEN_PARTS]


@pytest.fixture(scope="module")
def here(admin: Kubectl, lab: Lab) -> Iterator[Ran]:
    """All cases of this module, run at once."""
    with ran(admin, f"conformance-volumes-{os.getpid()}", ALL, OBJECTS) as found:
        yield found


@pytest.mark.parametrize("one", ALL, ids=[one.name for one in ALL])
def test_a_volume_looks_as_it_should(here: Ran, one: Case) -> None:
    here.judge(one)


FOLLOWED: dict[str, Obj] = {
    "map": {"configMap": {"name": "map"}},
    "secret": {"secret": {"secretName": "secret"}},
    "late": {"configMap": {"name": "late", "optional": True}},
    "late-secret": {"secret": {"secretName": "late", "optional": True}},
    "about": {"downwardAPI": {"items": [ITEMS[1], ITEMS[2]]}},
    "all": {
        "projected": {
            "sources": [
                {"configMap": {"name": "map", "items": [{"key": "data-1", "path": "map"}]}},
                {"secret": {"name": "secret", "items": [{"key": "data-1", "path": "secret"}]}},
                {"configMap": {"name": "late", "optional": True}},
                {"downwardAPI": {"items": [ITEMS[1]]}},
            ]
        }
    },
    "leaving": {"configMap": {"name": "leaving", "optional": True}},
}


def test_volumes_follow_what_they_were_made_of(here: Ran) -> None:
    kubectl = here.kubectl
    gone = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "leaving"}, "data": {"x": "y"}}
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in FOLLOWED]
    follower: Obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "follower", "labels": {"a": "1"}, "annotations": {"b": "1"}},
        "spec": {
            "containers": [container(volumeMounts=mounts)],
            "volumes": [{"name": name, **volume} for name, volume in FOLLOWED.items()],
            "terminationGracePeriodSeconds": 0,
        },
    }
    apply(kubectl, gone, follower)
    kubectl("wait", "--for=condition=Ready", "pod/follower", "--timeout=120s")
    assert (
        inside(kubectl, "follower", "cat /map/data-1 /leaving/x; ls /late /late-secret")
        == "value-1y/late:\n\n/late-secret:"
    )
    patch = ("patch", "--type=merge", "-p")
    kubectl(*patch, json.dumps({"data": {"data-1": "changed", "data-2": None}}), "configmap", "map")
    kubectl(*patch, json.dumps({"stringData": {"data-1": "changed-too"}}), "secret", "secret")
    kubectl("create", "configmap", "late", "--from-literal=came=later")
    kubectl("create", "secret", "generic", "late", "--from-literal=came=later-too")
    kubectl("label", "pod", "follower", "a=2", "--overwrite")
    kubectl("annotate", "pod", "follower", "b=2", "--overwrite")
    kubectl("delete", "configmap", "leaving")
    look = (
        "cat /map/data-1; echo; ls /map/data-2 2>&1; cat /secret/data-1 /late/came /late-secret/came; echo; "
        "cat /about/labels; echo; cat /about/annotations; echo; "
        "cat /all/map /all/secret /all/came /all/labels; echo; ls /leaving"
    )
    wanted = 'changed\nls: /map/data-2: No such file or directory\nchanged-toolaterlater-too\na="2"\nb="2"\n'

    def followed() -> bool:
        text = inside(kubectl, "follower", look)
        assert text.startswith(wanted), text
        assert 'changedchanged-toolatera="2"' in text, text
        return text.endswith('a="2"')

    eventually(followed, every=1, what="the changes in the container")


@pytest.mark.parametrize(("kind", "name"), [("configmap", "fixed"), ("secret", "sealed")])
def test_what_is_immutable_stays(here: Ran, kind: str, name: str) -> None:
    for patch in ({"data": {"a": "Mg=="}}, {"immutable": False}, {"data": {"b": "Mg=="}}):
        done = here.kubectl.try_("patch", kind, name, "--type=merge", "-p", json.dumps(patch))
        assert done.code == 1, done
        assert "field is immutable when `immutable` is set" in done.err, done
    here.kubectl("label", kind, name, "may=change")
    here.kubectl("delete", kind, name)


def test_a_part_that_cannot_be_named_yet_is_named_later(here: Ran) -> None:
    """The variable comes of an annotation that is mended while the container waits."""
    kubectl = here.kubectl
    late = seen(
        "part-named-later",
        "echo named > /v/f; cat /w/better/f",
        volume={"emptyDir": {}},
        of={
            "env": [{"name": "PART", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['part']"}}}],
            "volumeMounts": [
                {"name": "v", "mountPath": "/v", "subPathExpr": "$(PART)"},
                {"name": "v", "mountPath": "/w"},
            ],
        },
        meta={"annotations": {"part": "/absolute"}},
    )
    apply(kubectl, late.pod)

    def waits() -> bool:
        (status,) = kubectl.json("get", "pod", late.name)["status"].get("containerStatuses") or [{"state": {}}]
        return bool((status["state"].get("waiting") or {}).get("reason") == "CreateContainerConfigError")

    eventually(waits, what="the container waits")
    kubectl("annotate", "pod", late.name, "part=better", "--overwrite")
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{late.name}", "--timeout=120s")
