"""KubeSchedulerConfiguration: profiles that decide differently, and complaints that name what is wrong."""

from __future__ import annotations

import pytest

from orca.api.builtin import NODES, PODS
from orca.api.objects import Obj
from orca.client.clock import VirtualClock
from orca.client.fake import FakeClient
from orca.scheduler import Scheduler, SchedulerConfig
from orca.scheduler.config import ConfigurationInvalid, load
from orca.scheduler.decision import Decision, decide
from orca.scheduler.filters import Task
from orca.scheduler.profile import DEFAULT, Profile
from orca.scheduler.snapshot import Snapshot
from tests.unit.scheduler.test_scheduler import placed, running
from tests.unit.scheduler.things import cluster, node, pod

HEAD = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"


def profile(text: str) -> Profile:
    """The only profile of a file that has this under `profiles`."""
    (one,) = load(f"{HEAD}profiles:\n{text}").profiles
    return one


def chosen(snapshot: Snapshot, wanted: Obj, by: Profile) -> Decision:
    return decide(Task.of(wanted), snapshot, 0, by)


def test_without_profiles_it_is_the_default() -> None:
    (one,) = load(HEAD).profiles
    assert (one.name, one.gates, one.preemption) == ("default-scheduler", True, DEFAULT.preemption)
    assert [rule.name for rule in one.filters] == [rule.name for rule in DEFAULT.filters]
    assert [(score.name, score.weight) for score in one.scores] == [(one.name, one.weight) for one in DEFAULT.scores]


@pytest.mark.parametrize(
    ("strategy", "node_chosen"),
    [
        ("{type: LeastAllocated}", "empty"),
        ("{type: MostAllocated, resources: [{name: cpu, weight: 5}]}", "busy"),
        (
            "{type: RequestedToCapacityRatio, resources: [{name: cpu, weight: 1}], "
            "requestedToCapacityRatio: {shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]}}",
            "busy",
        ),
        (
            "{type: RequestedToCapacityRatio, resources: [{name: cpu, weight: 1}], "
            "requestedToCapacityRatio: {shape: [{utilization: 0, score: 10}, {utilization: 100, score: 0}]}}",
            "empty",
        ),
    ],
)
def test_strategies_pack_or_spread(strategy: str, node_chosen: str) -> None:
    by = profile(
        "- plugins: {score: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit, weight: 1}]},"
        " preScore: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit}]}}\n"
        f"  pluginConfig: [{{name: NodeResourcesFit, args: {{scoringStrategy: {strategy}}}}}]"
    )
    assert [score.name for score in by.scores] == ["NodeResourcesFit"]
    snapshot = cluster(node("empty"), node("busy"), pods={"busy": [pod("there", cpu="2", memory="4Gi")]})
    assert chosen(snapshot, pod("p", cpu="1", memory="1Gi"), by).node == node_chosen


def test_rules_and_weights_are_chosen_by_name() -> None:
    by = profile(
        "- schedulerName: lax\n"
        "  plugins:\n"
        "    multiPoint: {disabled: [{name: TaintToleration}, {name: DefaultPreemption}]}\n"
        "    score: {enabled: [{name: ImageLocality, weight: 7}]}"
    )
    assert (by.name, by.preemption) == ("lax", None)
    assert "TaintToleration" not in [rule.name for rule in by.filters] + [score.name for score in by.scores]
    assert {score.name: score.weight for score in by.scores}["ImageLocality"] == 7
    snapshot = cluster(node("a", taints=[{"key": "k", "effect": "NoSchedule"}]))
    assert chosen(snapshot, pod("p"), by).node == "a"
    assert chosen(snapshot, pod("p"), DEFAULT).node == ""


def test_added_affinity_and_ignored_resources() -> None:
    by = profile(
        "- pluginConfig:\n"
        "  - name: NodeAffinity\n"
        "    args: {addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
        "[{matchExpressions: [{key: pool, operator: In, values: [mine]}]}]}}}\n"
        "  - {name: NodeResourcesFit, args: {ignoredResources: [example.com/foo]}}"
    )
    wanted = pod("p")
    wanted["spec"]["containers"][0]["resources"]["requests"]["example.com/foo"] = "1"
    decision = chosen(cluster(node("other")), wanted, by)
    assert decision.reasons == {"other": ["node(s) didn't match scheduler-enforced node affinity"]}
    assert chosen(cluster(node("other"), node("own", labels={"pool": "mine"})), wanted, by).node == "own"


def test_percentage_bounds_what_is_compared() -> None:
    by = load(f"{HEAD}percentageOfNodesToScore: 50").profiles[0]
    assert (by.enough(90), by.enough(150), by.enough(5000), DEFAULT.enough(5000)) == (90, 100, 2500, 5000)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("extenders: [{urlPrefix: http://x}]", "extenders: not supported"),
        ("wrong: 1", 'unknown field "wrong"'),
        ("percentageOfNodesToScore: 101", "percentageOfNodesToScore: 101"),
        ("podInitialBackoffSeconds: 20", "podMaxBackoffSeconds: must not be less"),
        ("profiles: [{}, {}]", 'schedulerName: "default-scheduler" is there twice'),
        ("profiles: [{plugins: {score: {enabled: [{name: Magic}]}}}]", 'plugin "Magic" does not exist'),
        ("profiles: [{plugins: {score: {enabled: [{name: NodeName}]}}}]", '"NodeName" does not extend score'),
        ("profiles: [{plugins: {bind: {disabled: [{name: '*'}]}}}]", '"DefaultBinder" cannot be disabled'),
        (
            "profiles: [{plugins: {preFilter: {disabled: [{name: NodePorts}]}}}]",
            "is enabled at filter",
        ),
        ("profiles: [{pluginConfig: [{name: NodePorts, args: {}}]}]", '"NodePorts" takes no arguments'),
        ("profiles: [{pluginConfig: [{name: InterPodAffinity, args: {foo: 1}}]}]", 'unknown field "foo"'),
        (
            "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: "
            "{type: RequestedToCapacityRatio}}}]}]",
            "at least one point must be specified",
        ),
        (
            "profiles: [{pluginConfig: [{name: PodTopologySpread, args: {defaultConstraints: "
            "[{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule}]}}]}]",
            "only with defaultingType List",
        ),
    ],
)
def test_complaints_name_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationInvalid) as raised:
        load(HEAD + text)
    assert complaint in str(raised.value)


def test_other_versions_are_refused_and_foreign_settings_told() -> None:
    with pytest.raises(ConfigurationInvalid):
        load("apiVersion: kubescheduler.config.k8s.io/v1beta3\nkind: KubeSchedulerConfiguration")
    assert load(f"{HEAD}leaderElection: {{leaderElect: true}}").unused == ("leaderElection",)


async def test_each_pod_is_scheduled_by_its_profile() -> None:
    clock = VirtualClock()
    client = FakeClient(clock=clock)
    for name in ("a", "b"):
        client.seed(NODES, node(name))
    client.seed(PODS, pod("there", cpu="2", memory="4Gi", nodeName="a"))
    packing = (
        "- {schedulerName: packing, pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: "
        "{type: MostAllocated}}}], plugins: {multiPoint: {disabled: [{name: NodeResourcesBalancedAllocation}]}}}\n"
        "- {schedulerName: default-scheduler}"
    )
    config = load(f"{HEAD}profiles:\n{packing}")
    scheduler = Scheduler(client, clock=clock, config=SchedulerConfig(profiles=config.profiles))
    async with running(scheduler, clock):
        await client.create(PODS, pod("packed", cpu="1", memory="2Gi", labels={}, schedulerName="packing"))
        await clock.advance(1)
        await client.create(PODS, pod("spread", cpu="1", memory="2Gi", labels={}))
        await client.create(PODS, pod("foreign", schedulerName="nobody"))
        await clock.advance(1)
        assert placed(client) == {"there": "a", "packed": "a", "spread": "b", "foreign": ""}
