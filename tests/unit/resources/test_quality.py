"""Quality of service, and the likelihood of being the kernel's victim."""

from __future__ import annotations

import pytest

from agents.resources.amounts import limits_of_pod, requests_of
from agents.resources.quality import is_critical, is_node_critical, oom_score, qos_class
from orca.api.objects import Obj
from tests.unit.resources.pods import pod, same, sizes

GI = 1 << 30


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (pod({}), "BestEffort"),
        (pod(sizes({"ephemeral-storage": "1Gi"})), "BestEffort"),
        (pod(sizes({"cpu": "0", "memory": "0"})), "BestEffort"),
        (pod(same(cpu="1", memory="1Gi")), "Guaranteed"),
        (pod(same(cpu="1", memory="1Gi"), same(cpu="1")), "Burstable"),
        (pod(sizes({"cpu": "500m", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"})), "Burstable"),
        (pod(same(cpu="1", memory="1Gi"), init=((sizes({"cpu": "1"}), False),)), "Burstable"),
        (pod(sizes({"memory": "1Gi"})), "Burstable"),
        # What the pod says as a whole is all that counts.
        (pod({}, resources=same(cpu="1", memory="1Gi")), "Guaranteed"),
        (pod(same(cpu="1", memory="1Gi"), resources=sizes({"cpu": "2"})), "Burstable"),
        (pod({}, resources={"requests": {}}), "BestEffort"),
        (pod(same(cpu="1", memory="1Gi"), ephemeralContainers=[{"name": "debug"}]), "Guaranteed"),
    ],
)
def test_classes_by_cpu_and_memory(subject: Obj, expected: str) -> None:
    assert qos_class(subject) == expected


@pytest.mark.parametrize(
    ("subject", "container", "expected"),
    [
        (pod({}), "a", 1000),
        (pod(same(cpu="1", memory="1Gi")), "a", -997),
        (pod({}, priority=2_000_001_000), "a", -997),
        (pod({}, priority=2_000_000_000), "a", 1000),  # critical for the cluster, not for the node
        (pod({}, notes={"kubernetes.io/config.source": "file"}), "a", -997),
        (pod(sizes({"memory": "1Gi"})), "a", 900),
        (pod(sizes({"cpu": "1"})), "a", 999),
        (pod(sizes({"memory": "9990Mi"})), "a", 25),
        (pod(sizes({"memory": "20Gi"})), "a", 3),
        # A sidecar is as safe as the least safe of those it serves.
        (pod(sizes({"memory": "1Gi"}), sizes({"memory": "2Gi"}), init=((sizes({"memory": "1Mi"}), True),)), "i0", 900),
        (pod(sizes({"memory": "1Gi"}), init=((sizes({"memory": "3Gi"}), True),)), "i0", 700),
        (pod(sizes({"memory": "1Gi"}), init=((sizes({"memory": "1Mi"}), False),)), "i0", 999),
        # What the pod has beyond its containers is shared out: 6Gi - 2Gi over two.
        (pod(sizes({"memory": "2Gi"}), {}, resources=sizes({"memory": "6Gi"})), "a", 600),
        (pod(sizes({"memory": "2Gi"}), {}, resources=sizes({"memory": "6Gi"})), "b", 800),
        (pod({}, init=(({}, True),), resources=sizes({"memory": "4Gi"})), "i0", 800),
    ],
)
def test_scores_of_victims(subject: Obj, container: str, expected: int) -> None:
    spec = subject["spec"]
    one = next(c for c in (*spec.get("initContainers", ()), *spec["containers"]) if c["name"] == container)
    assert oom_score(subject, one, 10 * GI) == expected


def test_critical_pods() -> None:
    assert is_critical(pod({}, priority=2_000_000_000))
    assert not is_critical(pod({}, priority=1_999_999_999))
    assert not is_node_critical(pod({}, priority=2_000_000_000))
    for note in ("kubernetes.io/config.mirror", "kubernetes.io/config.source"):
        assert is_node_critical(pod({}, notes={note: "http"}))
    assert not is_critical(pod({}, notes={"kubernetes.io/config.source": "api"}))


def test_requests_and_limits_of_whole_pods() -> None:
    inits = ((same(cpu="3"), False), (same(cpu="500m"), True), (same(cpu="2"), False))
    both = pod(same(cpu="1", memory="1Gi"), same(cpu="200m"), init=inits)
    # 2 beside the sidecar's 500m is less than the first init container's 3.
    assert requests_of(both) == {"cpu": 3000, "memory": GI}
    own = pod(
        same(cpu="1", memory="1Gi"),
        resources=sizes({"cpu": "2", "hugepages-2Mi": "4Mi"}, {"memory": "3Gi"}),
        overhead={"cpu": "250m", "memory": "1Mi"},
    )
    assert requests_of(own) == {"cpu": 2250, "memory": GI + (1 << 20), "hugepages-2Mi": 4 << 20}
    assert limits_of_pod(own) == {"cpu": 1250, "memory": 3 * GI + (1 << 20)}
