"""Environment, files, security and limits: spec to what the engine is told."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from agents.pods import envfiles
from agents.pods.compose import container_spec, refuse_unsupported, sandbox_spec, stages_of
from agents.pods.environment import ConfigError, Place, Sources, build_environment
from agents.pods.expansion import expand
from agents.pods.files import Resolver, hostname_of, hosts_text, parse_resolver, resolver_for
from agents.pods.ports import Mounted, PodsConfig, Stage
from agents.pods.resources import limits_of, oom_score, qos_class
from agents.pods.security import needs_accounts, security_of
from agents.runtime.accounts import Accounts, parse
from agents.runtime.errors import RefusedByEngine
from agents.runtime.model import ImageInfo, Mount
from orca.api.objects import Obj
from tests.unit.pods.build import pod, spec_container

PLACE = Place("n1", ("192.0.2.1",), ("10.0.0.9",), {"cpu": "4", "memory": "8Gi"})


def environment(
    container: Obj, services: list[Obj] | None = None, sources: Sources | None = None, **spec: Any
) -> dict[str, str]:
    return build_environment(pod(container, **spec), container, services or [], sources or Sources(), PLACE).values


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("$(A)$(B)", "1$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A $", "$A $"),
        ("a$(A", "a$(A"),
        ("$()", "$()"),
    ],
)
def test_expansion(text: str, result: str) -> None:
    assert expand(text, {"A": "1"}) == result


def test_environment_sources() -> None:
    container = spec_container(
        resources={"limits": {"memory": "64Mi"}},
        env=[
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "URL", "value": "http://$(DB_SERVICE_HOST):$(DB_SERVICE_PORT)/$(NAME)"},
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k", "optional": True}}},
        ],
        envFrom=[{"secretRef": {"name": "s"}, "prefix": "S_"}, {"configMapRef": {"name": "no", "optional": True}}],
    )
    service = {
        "metadata": {"name": "db", "namespace": "ns"},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "sql", "port": 5432}]},
    }
    sources = Sources({"cm": {"data": {"k": "v"}}}, {"s": {"data": {"p": base64.b64encode(b"x").decode()}}})
    values = environment(container, [service], sources)
    assert values["URL"] == "http://10.96.0.7:5432/web"
    assert (values["MEM"], values["CPU"], values["KEY"], values["S_p"]) == ("64", "4", "v", "x")
    assert "NONE" not in values
    assert values["DB_PORT_5432_TCP_ADDR"] == "10.96.0.7"
    assert values["DB_SERVICE_PORT_SQL"] == "5432"


def test_service_links_can_be_turned_off_except_the_api_server() -> None:
    services = [
        {
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 443}]},
        },
        {"metadata": {"name": "db", "namespace": "ns"}, "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 1}]}},
    ]
    values = environment(spec_container(), services, enableServiceLinks=False)
    assert values["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert not [key for key in values if key.startswith("DB")]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"valueFrom": {"configMapKeyRef": {"name": "no", "key": "k"}}}, 'configmap "no" not found'),
        ({"valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}, 'secret "no" not found'),
        ({"valueFrom": {"configMapKeyRef": {"name": "cm", "key": "z"}}}, "couldn't find key z in ConfigMap ns/cm"),
    ],
)
def test_missing_sources_are_named(entry: Obj, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        environment(spec_container(env=[{"name": "X", **entry}]), sources=Sources({"cm": {"data": {}}}))


def test_values_from_files_of_volumes() -> None:
    def entry(key: str, **more: Any) -> Obj:
        return {"name": key, "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "env", "key": key, **more}}}

    text = "# made by init\n  A='1 # $X'\nMANY='a\n b' # twice\nEMPTY=''\nNEXT= \nBAD=x\n"
    sources = Sources(files={("v", "env"): text})
    container = spec_container(env=[entry("A"), entry("MANY"), entry("EMPTY", optional=True)])
    assert environment(container, sources=sources) == {"A": "1 # $X", "MANY": "a\n b"}
    for key, problem in (("EMPTY", "environment variable key"), ("BAD", "couldn't parse"), ("NO", "couldn't parse")):
        with pytest.raises(ConfigError, match=problem):
            environment(spec_container(env=[entry(key)]), sources=sources)
    with pytest.raises(ConfigError, match="couldn't parse env file"):
        environment(spec_container(env=[entry("A", optional=True)]), sources=Sources())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A", "at line 1: missing '='"),
        ("\n='x'", "at line 2: empty variable name"),
        ("A ='x'", "whitespace before '=' is not allowed"),
        ('A="x"', "value must be enclosed in single quotes"),
        ("A='x''y'", "unexpected content after closing quote"),
        ("A='x\nB='y'", "at line 1: unexpected content"),
        ("A='x", "unclosed single quote"),
    ],
)
def test_env_files_are_strict(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        list(envfiles.variables(text))


def test_invalid_names_are_skipped_and_reported() -> None:
    container = spec_container(envFrom=[{"configMapRef": {"name": "cm"}}])
    sources = Sources({"cm": {"data": {"a=b": "1", "ok": "2"}}})
    made = build_environment(pod(container), container, [], sources, PLACE)
    assert made.values == {"ok": "2"}
    assert made.skipped == {"configmap ns/cm": ["a=b"]}


HOST = parse_resolver("# x\nnameserver 1.1.1.1\nsearch corp\noptions edns0\n")


def resolver(obj: Obj, host: Resolver | None = HOST, servers: tuple[str, ...] = ("10.96.0.10",)) -> Resolver:
    found, problems = resolver_for(obj, host, servers, "cluster.local")
    assert problems == []
    return found


def test_resolver_by_policy() -> None:
    assert resolver(pod()).text() == (
        "search ns.svc.cluster.local svc.cluster.local cluster.local corp\nnameserver 10.96.0.10\noptions ndots:5\n"
    )
    assert resolver(pod(dnsPolicy="ClusterFirstWithHostNet", hostNetwork=True)) == resolver(pod())
    assert resolver(pod(dnsPolicy="Default")) == HOST
    assert resolver(pod(hostNetwork=True)) == HOST
    found, [(reason, text)] = resolver_for(pod(), HOST, (), "cluster.local")
    assert (found, reason) == (HOST, "MissingClusterDNS")
    assert text.startswith('pod: "web_ns(u1)". kubelet does not have ClusterDNS IP configured')
    assert resolver(pod(dnsPolicy="Default"), None) == Resolver(("127.0.0.1",), (".",))
    none = pod(dnsPolicy="None", dnsConfig={"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}]})
    assert resolver(none) == Resolver(("9.9.9.9",), (), ("ndots:2",))
    more = pod(dnsConfig={"nameservers": ["9.9.9.9"], "searches": ["corp", "x"], "options": [{"name": "ndots"}]})
    assert resolver(more) == Resolver(
        ("10.96.0.10", "9.9.9.9"),
        ("ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp", "x"),
        ("ndots",),
    )


def test_what_a_resolver_cannot_hold_is_left_out_and_told() -> None:
    servers = [f"9.9.9.{number}" for number in range(5)]
    config = {"nameservers": servers, "searches": [f"d{number}" for number in range(33)]}
    found, problems = resolver_for(pod(dnsPolicy="None", dnsConfig=config), HOST, [], "cluster.local")
    assert (len(found.nameservers), len(found.searches)) == (3, 32)
    assert problems[0] == (
        "DNSConfigForming",
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
        "9.9.9.0 9.9.9.1 9.9.9.2",
    )
    assert problems[1][1].startswith("Search Line limits were exceeded, some search paths have been omitted")
    long = {"nameservers": ["9.9.9.9"], "searches": ["x" * 254, *(f"{n:03}.{'y' * 240}" for n in range(9))]}
    found, problems = resolver_for(pod(dnsPolicy="None", dnsConfig=long), HOST, [], "cluster.local")
    assert len(found.searches) == 8
    assert len(problems) == 1


def test_hosts_and_hostname() -> None:
    obj = pod(hostname="h", subdomain="s", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}])
    text = hosts_text(obj, ["10.0.0.9"], "cluster.local", "")
    assert "10.0.0.9\th.s.ns.svc.cluster.local\th\n" in text
    assert text.endswith("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")
    assert hostname_of(obj, "cluster.local") == "h"
    assert hostname_of(pod(subdomain="s", setHostnameAsFQDN=True), "cluster.local") == "web.s.ns.svc.cluster.local"


def test_hostnames_that_are_too_long() -> None:
    assert hostname_of(pod(hostname="a" * 62 + "-b"), "x") == "a" * 62
    full = pod(hostname="a" * 41, subdomain="s", setHostnameAsFQDN=True)
    assert len(hostname_of(full, "cluster.local")) == 64
    longer = pod(hostname="a" * 42, subdomain="s", setHostnameAsFQDN=True)
    with pytest.raises(ConfigError, match=r"is too long \(64 characters is the max, 65 characters requested\)"):
        hostname_of(longer, "cluster.local")


def resources(**kinds: dict[str, str]) -> Obj:
    return spec_container(resources=kinds)


@pytest.mark.parametrize(
    ("container", "quality"),
    [
        (spec_container(), "BestEffort"),
        (resources(requests={"cpu": "1"}), "Burstable"),
        (resources(limits={"cpu": "1", "memory": "1Gi"}), "Guaranteed"),
        (resources(limits={"cpu": "1", "memory": "1Gi"}, requests={"cpu": "1000m", "memory": "1024Mi"}), "Guaranteed"),
        (resources(limits={"cpu": "1", "memory": "1Gi"}, requests={"cpu": "0.5"}), "Burstable"),
        (resources(limits={"memory": "1Gi"}), "Burstable"),
    ],
)
def test_quality_of_service(container: Obj, quality: str) -> None:
    assert qos_class(pod(container)) == quality


def test_limits_in_the_kernels_units() -> None:
    limits = limits_of(resources(requests={"cpu": "250m"}, limits={"cpu": "500m", "memory": "64Mi"}))
    assert (limits.cpu_shares, limits.cpu_quota, limits.cpu_period, limits.memory) == (256, 50_000, 100_000, 64 << 20)
    assert limits_of(spec_container()).cpu_shares == 2
    burstable = resources(requests={"memory": "1Gi"})
    assert oom_score(pod(burstable), burstable, 4 << 30) == 750
    assert oom_score(pod(spec_container()), spec_container(), 4 << 30) == 1000


def secured(own: Obj | None = None, user: str = "", accounts: Accounts | None = None, **shared: Any) -> Any:
    container = spec_container(securityContext=own or {})
    obj = pod(container, securityContext=shared)
    image = ImageInfo("i", (), (), 0, user=user)
    assert needs_accounts(obj, container, image) == (accounts is not None)
    return security_of(obj, container, image, Path("/nowhere"), accounts=accounts)


ACCOUNTS = parse("root:x:0:0::/:\napp:x:1000:50::/:\n", "root:x:0:\nwheel:x:10:root,app\nvideo:x:44:app\nbad\n")


@pytest.mark.parametrize(
    ("shared", "image", "user", "groups"),
    [
        # The engine adds memberships by itself as long as it is given no group.
        ({"runAsUser": 1000, "supplementalGroups": [7]}, "", "1000", ("7",)),
        ({}, "app", "", ()),
        ({"runAsUser": 1000, "runAsGroup": 5}, "", "1000:5", ("10", "44")),
        ({"runAsGroup": 5, "supplementalGroups": [44]}, "app", "app:5", ("44", "10")),
        ({}, "app:7", "", ("10", "44")),
        ({"runAsUser": 1234, "runAsGroup": 5}, "", "1234:5", ()),
        # Given one, it adds none: what Strict asks for.
        ({"supplementalGroupsPolicy": "Strict", "runAsUser": 1000, "fsGroup": 9}, "", "1000:50", ("9",)),
        ({"supplementalGroupsPolicy": "Strict", "runAsUser": 1000, "runAsGroup": 5}, "", "1000:5", ()),
        ({"supplementalGroupsPolicy": "Strict"}, "app", "app:50", ()),
        ({"supplementalGroupsPolicy": "Strict"}, "", "0:0", ()),
        ({"supplementalGroupsPolicy": "Strict"}, "app:7", "app:7", ()),
    ],
)
def test_who_a_container_is(shared: Obj, image: str, user: str, groups: tuple[str, ...]) -> None:
    container = spec_container()
    obj, info = pod(container, securityContext=shared), ImageInfo("i", (), (), 0, user=image)
    accounts = ACCOUNTS if needs_accounts(obj, container, info) else None
    made = security_of(obj, container, info, Path("/nowhere"), accounts=accounts)
    assert (made.user, made.groups) == (user, groups)


def test_security_of_container_goes_over_pod() -> None:
    made = secured(
        {"runAsUser": 7, "capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False},
        accounts=Accounts(),
        runAsUser=1,
        runAsGroup=2,
        fsGroup=3,
    )
    assert (made.user, made.groups, made.drop_capabilities, made.no_new_privileges) == ("7:2", ("3",), ("ALL",), True)
    assert made.seccomp == "unconfined"
    assert secured(seccompProfile={"type": "RuntimeDefault"}).seccomp == ""


@pytest.mark.parametrize(
    ("own", "user", "text"),
    [
        ({}, "", "container has runAsNonRoot and image will run as root"),
        ({}, "0", "container has runAsNonRoot and image will run as root"),
        ({}, "app", "image has non-numeric user (app), cannot verify user is non-root"),
        ({"runAsUser": 0}, "7", "container's runAsUser breaks non-root policy"),
    ],
)
def test_root_is_refused_when_it_must_not_be(own: Obj, user: str, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f'{text} (pod: "web_ns(u1)", container: c)')):
        secured(own, user, runAsNonRoot=True)


def test_non_root_images_are_taken() -> None:
    assert secured({}, "1000", runAsNonRoot=True).user == ""


def test_seccomp_profiles(tmp_path: Path) -> None:
    def profile(kind: str | None, **more: str) -> str:
        container = spec_container(securityContext={"seccompProfile": {"type": kind, **more}} if kind else {})
        return security_of(pod(container), container, None, tmp_path, seccomp_default=more.get("on") == "1").seccomp

    (tmp_path / "p.json").write_text("{}")
    assert profile(None) == "unconfined"
    assert profile("RuntimeDefault") == ""
    assert profile("Unconfined", on="1") == "unconfined"
    assert profile("Localhost", localhostProfile="p.json") == "{}"
    plain = spec_container()
    assert security_of(pod(plain), plain, None, tmp_path, seccomp_default=True).seccomp == ""
    with pytest.raises(RefusedByEngine, match=r"cannot load seccomp profile .*no\.json.*no such file or directory"):
        profile("Localhost", localhostProfile="no.json")


CONFIG = PodsConfig("n1", ("192.0.2.1",), root=Path("/r"))


def test_container_spec(tmp_path: Path) -> None:
    container = spec_container(
        command=["run", "$(A)"],
        volumeMounts=[{"name": "v", "mountPath": "/v", "readOnly": True, "mountPropagation": "HostToContainer"}],
    )
    made = container_spec(
        pod(container),
        container,
        attempt=2,
        sandbox_id="s",
        image=None,
        environment={"A": "1"},
        volumes={"v": Mounted(str(tmp_path))},
        config=CONFIG,
        node_memory=0,
    )
    assert made.name == "k8s_c_web_ns_u1_2"
    assert made.command == ("run", "1")
    assert made.mounts == (
        Mount(str(tmp_path), "/v", read_only=True, propagation="rslave"),
        Mount("/r/pods/u1/etc-hosts", "/etc/hosts"),
        Mount("/r/pods/u1/resolv.conf", "/etc/resolv.conf"),
        Mount("/r/pods/u1/containers/c/2", "/dev/termination-log"),
    )
    assert sandbox_spec(pod(), 0, CONFIG).name == "k8s_POD_web_ns_u1_0"


def stages(*mounts: Obj, in_depth: bool = True) -> list[Stage]:
    volume_mounts = [{"name": "v", "mountPath": "/v", **mount} for mount in mounts]
    return stages_of(
        spec_container(volumeMounts=volume_mounts), {"POD": "web", "UP": "../x", "EMPTY": ""}, in_depth=in_depth
    )


def test_what_a_mount_asks_for_beyond_its_volume() -> None:
    deep = {"readOnly": True, "recursiveReadOnly": "IfPossible"}
    assert stages({}, {"subPath": "a/b"}, {"subPathExpr": "$(POD)/$$(x)"}, deep) == [
        Stage(1, "v", "a/b"),
        Stage(2, "v", "web/$(x)"),
        Stage(3, "v", read_only_in_depth=True),
    ]
    assert stages(deep, in_depth=False) == []


@pytest.mark.parametrize(
    ("mount", "text"),
    [
        ({"subPathExpr": "$(NO)"}, "missing value for NO"),
        ({"subPathExpr": "$(NONE)/$(EMPTY)/$(POD)"}, "missing value for EMPTY, NONE"),
        ({"subPathExpr": "$(UP)"}, "must not contain '..'"),
        ({"subPathExpr": "/$(POD)"}, "must not be an absolute path"),
        ({"readOnly": True, "recursiveReadOnly": "Enabled"}, "not supported by the runtime"),
    ],
)
def test_mounts_that_cannot_be(mount: Obj, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        stages(mount, in_depth=False)


def test_staged_paths_replace_the_volume_and_read_only_volumes_stay_so() -> None:
    mounts = [{"name": "v", "mountPath": "/v", "subPath": "x"}, {"name": "w", "mountPath": "/w"}]
    container = spec_container(volumeMounts=mounts)
    made = container_spec(
        pod(container),
        container,
        attempt=0,
        sandbox_id="s",
        image=None,
        environment={},
        volumes={"v": Mounted("/host/v"), "w": Mounted("/host/w", read_only=True)},
        staged={0: "/stage/0"},
        config=CONFIG,
        node_memory=0,
    )
    assert made.mounts[:2] == (Mount("/stage/0", "/v"), Mount("/host/w", "/w", read_only=True))


@pytest.mark.parametrize(
    "spec",
    [
        {"hostUsers": False},
        {"resourceClaims": [{}]},
        {"securityContext": {"windowsOptions": {"runAsUserName": "x"}}},
        {"schedulingGroup": {"podGroupName": "g"}},
    ],
)
def test_unsupported_fields_are_refused(spec: Obj) -> None:
    with pytest.raises(ConfigError):
        refuse_unsupported(pod(**spec))


def test_hostname_override_wins_over_everything() -> None:
    subject = pod(hostname="h", subdomain="s", hostnameOverride="db.example")
    assert hostname_of(subject, "cluster.local") == "db.example"
    assert "10.0.0.9\tdb.example\n" in hosts_text(subject, ["10.0.0.9"], "cluster.local", "")


def test_selinux_options_reach_the_engine() -> None:
    options = {"user": "u", "type": "container_t", "level": "s0:c1"}
    subject = pod(securityContext={"seLinuxOptions": options})
    found = security_of(subject, spec_container(), None, Path("/none"))
    assert found.selinux == ("user:u", "type:container_t", "level:s0:c1")
    own = spec_container(securityContext={"seLinuxOptions": {"type": "spc_t"}})
    assert security_of(subject, own, None, Path("/none")).selinux == ("type:spc_t",)
