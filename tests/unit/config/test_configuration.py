"""KubeletConfiguration files: read strictly, merged, defaulted, judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from agents.cli import main
from agents.config import Configuration, ConfigurationError, encode, load
from agents.config.kinds import encode as plain
from agents.config.support import NOT_HONOURED, refusals

HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

Read = Callable[..., Configuration]

# What `kubeadm init` of Kubernetes 1.36 writes to /var/lib/kubelet/config.yaml, but for the driver of cgroups.
KUBEADM = """
authentication:
  anonymous: {enabled: false}
  webhook: {cacheTTL: 0s, enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: ""
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
logging:
  flushFrequency: 0
  options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
"""


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str, **drop_ins: str) -> Configuration:
        path = tmp_path / "config.yaml"
        path.write_text(HEAD + text)
        for name, patch in drop_ins.items():
            (tmp_path / "conf.d").mkdir(exist_ok=True)
            (tmp_path / "conf.d" / f"{name}.conf").write_text(HEAD + patch)
        return load(path, tmp_path / "conf.d" if drop_ins else None)

    return read


def test_no_file_is_all_defaults() -> None:
    assert load(None) == Configuration()


def test_zeros_that_kubeadm_writes_mean_the_defaults(read: Read) -> None:
    configuration = read(KUBEADM)
    expected = Configuration()
    assert configuration.authentication.x509.client_ca_file == "/etc/kubernetes/pki/ca.crt"
    assert configuration.static_pod_path == "/etc/kubernetes/manifests"
    for field in ("file_check_frequency", "node_status_report_frequency", "image_minimum_gc_age", "authorization"):
        assert getattr(configuration, field) == getattr(expected, field)
    assert configuration.authentication.webhook.cache_ttl == 120


def test_a_pointer_keeps_its_zero(read: Read) -> None:
    configuration = read("healthzPort: 0\nnodeStatusMaxImages: 0\nport: 0\n")
    assert (configuration.healthz_port, configuration.node_status_max_images, configuration.port) == (0, 0, 10250)


def test_what_is_written_out_is_read_back(read: Read) -> None:
    configuration = read("shutdownGracePeriod: 1m30s\nregisterWithTaints: [{key: a, effect: NoSchedule}]\nmaxPods: 7\n")
    document = encode(configuration)
    assert document["shutdownGracePeriod"] == "1m30s"
    assert document["containerLogMaxSize"] == "10Mi"
    assert (document.pop("kind"), document.pop("apiVersion")) == tuple(reversed(yaml.safe_load(HEAD).values()))
    assert read(yaml.safe_dump(document)) == configuration


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("maxPod: 3\n", 'unknown field "maxPod"'),
        ("MaxPods: 3\n", 'unknown field "MaxPods"'),
        ("authentication: {x509: {caFile: a}}\n", 'unknown field "authentication.x509.caFile"'),
        ("maxPods: 3\nmaxPods: 4\n", 'key "maxPods" already set in map'),
        ("maxPods: many\n", 'maxPods: expected an integer, got "many"'),
        ("maxPods: 3.5\n", "maxPods: expected an integer"),
        ("maxPods: 3000000000\n", "maxPods: 3000000000 does not fit in 32 bits"),
        ("healthzPort: true\n", "healthzPort: expected an integer, got true"),
        ("clusterDNS: 10.96.0.10\n", 'clusterDNS: expected a list, got "10.96.0.10"'),
        ("clusterDNS: [1]\n", "clusterDNS[0]: expected a string, got 1"),
        ("evictionHard: {memory.available: 5}\n", "evictionHard[memory.available]: expected a string"),
        ("registerWithTaints: [{key: a, effec: b}]\n", 'registerWithTaints[0]: unknown field "effec"'),
        ("syncFrequency: 3 minutes\n", 'syncFrequency: time: invalid duration "3 minutes"'),
        ("maxPods: -1\n", "maxPods: -1 must not be a negative number"),
        ("port: 70000\n", "port: 70000 must be between 1 and 65535"),
        ("containerLogMaxFiles: 1\n", "containerLogMaxFiles: must be greater than 1"),
        ("shutdownGracePeriod: 500ms\n", "shutdownGracePeriod: must be either zero or at least 1s"),
        ("shutdownGracePeriodCriticalPods: 5s\n", "shutdownGracePeriodCriticalPods: must not be longer than"),
        (
            "shutdownGracePeriod: 5s\nshutdownGracePeriodByPodPriority: [{shutdownGracePeriodSeconds: 1}]\n",
            "shutdownGracePeriodByPodPriority: cannot be set together",
        ),
        ("systemReserved: {gpu: '1'}\n", 'systemReserved: cannot reserve "gpu"'),
        ("evictionSoft: {memory.available: 1Gi}\n", "evictionSoft[memory.available]: needs a grace period"),
        ("enforceNodeAllocatable: [kube-reserved]\n", "kubeReservedCgroup: must be specified"),
        ("hairpinMode: yours\n", 'hairpinMode: "yours" must be one of'),
        ("tlsCertFile: /a\n", "tlsCertFile: must be given together with tlsPrivateKeyFile"),
        ("allowedUnsafeSysctls: [vm.swappiness]\n", 'allowedUnsafeSysctls: the sysctl "vm.swappiness" is not known'),
    ],
)
def test_what_is_wrong_is_named(read: Read, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    assert named in str(caught.value)
    assert "config.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("kind: KubeletConfiguration\n", "apiVersion"),
        ("apiVersion: kubelet.config.k8s.io/v1beta1\n", "Kind"),
        ("apiVersion: kubelet.config.k8s.io/v1alpha1\nkind: KubeletConfiguration\n", "v1alpha1"),
        ("apiVersion: v1\nkind: Pod\n", 'no kind "Pod"'),
        ("- 1\n", "not an object"),
        ("a: [\n", "parsing"),
    ],
)
def test_other_documents_are_refused(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"other\.yaml") as caught:
        load(path)
    assert named in str(caught.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError, match="no such directory"):
        load(None, tmp_path / "none.d")


def test_drop_ins_are_laid_over_in_order(read: Read) -> None:
    configuration = read(
        "maxPods: 1\nclusterDNS: [10.0.0.1]\nauthentication: {webhook: {cacheTTL: 1s}, anonymous: {enabled: true}}\n",
        **{
            "20-late": "maxPods: 20\n",
            "10-early": "maxPods: 10\nclusterDNS: [10.0.0.2]\nauthentication: {webhook: {cacheTTL: 9s}}\n",
        },
    )
    assert configuration.max_pods == 20
    assert configuration.cluster_dns == ("10.0.0.2",)
    assert configuration.authentication.webhook.cache_ttl == 9
    assert configuration.authentication.anonymous.enabled


def test_defaults_that_hang_on_other_fields(read: Read) -> None:
    assert read("nodeStatusUpdateFrequency: 4s\n").node_status_report_frequency == 4
    assert read("nodeStatusUpdateFrequency: 4s\nnodeStatusReportFrequency: 8s\n").node_status_report_frequency == 8


def test_every_field_not_honoured_exists_and_is_refused_by_name() -> None:
    document = plain(Configuration())
    for name in NOT_HONOURED:
        assert name.partition(".")[0] in {*document, "tracing", "singleProcessOOMKill", "maxParallelImagePulls"}
    assert refusals(Configuration()) == []
    [refusal] = refusals(dataclasses.replace(Configuration(), run_once=True))
    assert refusal.startswith("runOnce: orca-agent does not support True")


def test_the_agent_ends_with_the_name_of_a_field_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(HEAD + "maxPod: 3\n")
    result = CliRunner().invoke(main, ["--config", str(path), "--kubeconfig", "/none"])
    assert result.exit_code == 1
    assert 'unknown field "maxPod"' in result.output


def test_a_host_whose_name_no_node_can_have_is_told_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "My_Host")
    result = CliRunner().invoke(main, ["--kubeconfig", "/none"])
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "the name of this host, 'my_host', cannot be that of a node" in said
    assert said.endswith("give the node another name by --hostname-override")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--node-ip=web"], "'--node-ip': 'web' is not an IP address"),
        (["--node-ip=10.0.0.1,10.0.0.2"], "one IPv4 and one IPv6 address at most"),
        (["--service-cluster-ip-range=web"], "'--service-cluster-ip-range': 'web' does not appear to be"),
        (["--cluster-dns=web"], 'clusterDNS: "web" is not an IP address'),
        (["--server=10.0.0.1:6443"], "'--server': '10.0.0.1:6443' is no URL of a server like https://10.0.0.1:6443"),
        (["--server=https://:6443"], "is no URL of a server"),
        (["--server=https://[fd00::1]:66443"], "is no URL of a server"),
        (["--cluster-domain=cluster.local."], "'--cluster-domain': 'cluster.local.' is no domain like cluster.local"),
        (["--cluster-domain="], "'--cluster-domain': '' is no domain like cluster.local"),
        (["--hostname-override=my_host"], "--hostname-override: 'my_host' cannot be the name of a node: a lowercase"),
        ([f"--hostname-override={'a' * 64}"], "cannot be the name of a node: must be no more than 63 bytes"),
        (["--node-labels=a b=c"], "'--node-labels': invalid label 'a b=c': name part must consist of"),
        (["--node-labels=kubernetes.io/zone=c"], "unknown 'kubernetes.io' or 'k8s.io' labels: kubernetes.io/zone;"),
    ],
)
def test_the_agent_ends_with_the_name_of_a_flag_that_is_wrong(flags: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["--kubeconfig", "/none", *flags])
    assert result.exit_code in (1, 2)
    assert said in " ".join(result.output.split())
