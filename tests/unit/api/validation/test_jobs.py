"""Jobs and CronJobs: what upstream refuses, where, and in which words."""

from copy import deepcopy

import pytest

from orca.api import strategy
from orca.api.builtin import CRONJOBS, JOBS
from tests.unit.api.validation.objects import changed, made, refused

TEMPLATE = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}


def job(**spec):
    return {"spec": {"template": deepcopy(TEMPLATE), **spec}}


def indexed(**spec):
    return job(completionMode="Indexed", completions=3, **spec)


def failure(*rules, **spec):
    return job(podFailurePolicy={"rules": list(rules)}, **spec)


def success(**rule):
    return indexed(successPolicy={"rules": [rule]})


F, S = "spec.podFailurePolicy.rules[0]", "spec.successPolicy.rules[0]"
CODES = {"operator": "In", "values": [1]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (indexed(), []),
        (job(completionMode="Indexed", parallelism=1),
         ["spec.completions: Required value: when completion mode is Indexed"]),
        (job(completionMode="Odd"),
         ['spec.completionMode: Unsupported value: "Odd": supported values: "NonIndexed", "Indexed"']),
        (job(backoffLimitPerIndex=1),
         ["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"]),
        (indexed(maxFailedIndexes=1),
         ["spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"]),
        (indexed(maxFailedIndexes=4, backoffLimitPerIndex=1),
         ["spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions"]),
        (job(completionMode="Indexed", completions=100_001, backoffLimitPerIndex=1, parallelism=10_001),
         ["spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
          "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above "
          "100000 and used with backoff limit per index"]),
        (job(managedBy="me"),
         ['spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")']),
        (job(managedBy="a.b/" + "c" * 60), ["spec.managedBy: Too long: may not be more than 63 bytes"]),
        (job(managedBy="a.b/c d"),
         ['spec.managedBy: Invalid value: "c d": Invalid path (regex used for validation is '
          "'[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')"]),
        (job(podReplacementPolicy="Odd"),
         ['spec.podReplacementPolicy: Unsupported value: "Odd": supported values: "Failed", "TerminatingOrFailed"']),
        (job(template={"spec": {"containers": [{"name": "c", "image": "i"}]}}),
         ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"']),
        (failure({"action": "FailJob", "onExitCodes": CODES}), []),
        (failure({"onExitCodes": CODES}),
         [f'{F}.action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]']),
        (failure({"action": "FailIndex", "onExitCodes": CODES}),
         [f'{F}.action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set']),
        (failure({"action": "Count"}),
         [f"{F}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"]),
        (failure({"action": "Count", "onExitCodes": {"operator": "In", "values": [0, 2, 1, 1], "containerName": "x"}}),
         [f'{F}.onExitCodes.containerName: Invalid value: "x": '
          "must be one of the container or initContainer names in the pod template",
          f"{F}.onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
          f"{F}.onExitCodes.values[3]: Duplicate value: 1",
          f"{F}.onExitCodes.values: Invalid value: [0,2,1,1]: must be ordered"]),
        (failure({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "Maybe"}]}),
         [f'{F}.onPodConditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"']),
        (success(), [f"{S}: Required value: at least one of succeededCount or succeededIndexes must be specified"]),
        (success(succeededCount=4),
         [f"{S}.succeededCount: Invalid value: 4: "
          "must be less than or equal to 3 (the number of specified completions)"]),
        (success(succeededIndexes="0-1", succeededCount=3),
         [f"{S}.succeededCount: Invalid value: 3: must be less than or equal to 2 "
          "(the number of indexes in the specified succeededIndexes field)"]),
        (success(succeededIndexes="1,0"),
         [f'{S}.succeededIndexes: Invalid value: "1,0": error parsing succeededIndexes: '
          "non-increasing order, previous: 1, current: 0"]),
        (success(succeededIndexes="5"),
         [f'{S}.succeededIndexes: Invalid value: "5": error parsing succeededIndexes: too large index: "5"']),
        (job(successPolicy={"rules": []}), None),
    ],
)  # fmt: skip
def test_jobs(body, expected):
    found = refused(JOBS, body)
    if expected is None:
        assert found == ['spec.successPolicy: Invalid value: {"rules":[]}: requires indexed completion mode']
    else:
        assert found == expected


def test_the_longest_host_of_an_indexed_job_is_a_label():
    body = {**indexed(), "metadata": {"name": "a" * 62, "namespace": "d"}}
    assert refused(JOBS, body) == [
        f'metadata.name: Invalid value: "{"a" * 62}": will not able to create pod with invalid DNS label: {"a" * 62}-2'
    ]


@pytest.mark.parametrize(
    ("body", "change", "expected"),
    [
        (indexed(parallelism=3), {"completions": 4, "parallelism": 4}, []),
        (indexed(parallelism=3), {"completions": 4},
         ["spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism"]),
        (job(suspend=True), {"template": {"spec": {**TEMPLATE["spec"], "nodeSelector": {"a": "b"}}}}, []),
        (job(suspend=True), {"template": {"spec": {**TEMPLATE["spec"], "containers": [
            {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}}}, []),
        (job(suspend=True), {"template": {"spec": {**TEMPLATE["spec"], "containers": [{"name": "c", "image": "j"}]}}},
         "spec.template.spec"),
        (job(), {"template": {"spec": {**TEMPLATE["spec"], "nodeSelector": {"a": "b"}}}}, "spec.template"),
    ],
)  # fmt: skip
def test_changes(body, change, expected):
    def do(obj):
        template = change.get("template")
        if template:
            spec = {**obj["spec"]["template"]["spec"], **template["spec"]}
            obj["spec"]["template"] = {**obj["spec"]["template"], "spec": spec}
        obj["spec"].update({key: value for key, value in change.items() if key != "template"})

    found = changed(JOBS, body, do)
    if isinstance(expected, str):
        assert len(found) == 1
        assert found[0].startswith(f"{expected}: Invalid value: ")
        assert found[0].endswith(": field is immutable")
    else:
        assert found == expected


def conditions(*kinds):
    return [{"type": kind, "status": "True"} for kind in kinds]


START, END = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
DONE = {"startTime": START, "completionTime": END, "conditions": conditions("SuccessCriteriaMet", "Complete")}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, DONE, []),
        ({}, {**DONE, "active": 1}, ["status.active: Invalid value: 1: active>0 is invalid for finished job"]),
        ({}, {**DONE, "conditions": conditions("Complete")},
         ["status.conditions: Invalid value: "
          "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"]),
        ({}, {"startTime": START, "conditions": conditions("Failed")},
         ["status.conditions: Invalid value: "
          "cannot set Failed=True condition without the FailureTarget=true condition"]),
        ({}, {**DONE, "completionTime": None},
         ["status.completionTime: Required value: completionTime is required for Complete jobs"]),
        ({}, {**DONE, "startTime": END, "completionTime": START},
         [f'status.completionTime: Invalid value: "{START}": must be equal to or after `startTime`']),
        (DONE, {**DONE, "conditions": conditions("SuccessCriteriaMet")},
         ["status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
          f'status.completionTime: Invalid value: "{END}": '
          "cannot set completionTime when there is no Complete=True condition"]),
        ({"startTime": START}, {"startTime": END},
         [f'status.startTime: Invalid value: "{END}": field is immutable for unsuspended job once set']),
        ({"startTime": START}, {},
         ["status.startTime: Invalid value: null: field is immutable for unsuspended job once set"]),
        # A job that was started and suspended begins anew when it is resumed.
        ({"startTime": START, "conditions": conditions("Suspended")},
         {"startTime": END, "conditions": [{"type": "Suspended", "status": "False"}]}, []),
        ({"failed": 2}, {"failed": 1}, ["status.failed: Invalid value: 1: cannot decrease the failed counter"]),
        ({}, {"ready": 1}, ["status.ready: Invalid value: 1: cannot set more ready pods than active"]),
        ({}, {"completedIndexes": "0"},
         ['status.completedIndexes: Invalid value: "0": '
          "cannot set non-empty completedIndexes when non-indexed completion mode"]),
    ],
)  # fmt: skip
def test_statuses(old, new, expected):
    before = {**made(JOBS, job(completions=3)), "status": old}
    after = {**deepcopy(before), "status": new}
    assert [str(error) for error in strategy.validate_update(JOBS, after, before, "status")] == expected


def cron(template=None, **spec):
    return {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {**job()["spec"], **(template or {})}}, **spec}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (cron(), []),
        (cron(timeZone="Continent/Zone"),
         ['spec.timeZone: Invalid value: "Continent/Zone": unknown time zone Continent/Zone']),
        (cron(timeZone="Europe/../Oslo"),
         ['spec.timeZone: Invalid value: "Europe/../Oslo": unknown time zone Europe/../Oslo']),
        (cron(timeZone="local"),
         ['spec.timeZone: Invalid value: "local": '
          "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"]),
        (cron(concurrencyPolicy="Odd"),
         ['spec.concurrencyPolicy: Unsupported value: "Odd": supported values: "Allow", "Forbid", "Replace"']),
        (cron({"selector": {"matchLabels": {"a": "b"}}}),
         ['spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: '
          "`selector` will be auto-generated"]),
        ({**cron(), "metadata": {"name": "a" * 53, "namespace": "d"}},
         [f'metadata.name: Invalid value: "{"a" * 53}": must be no more than 52 bytes']),
    ],
)  # fmt: skip
def test_cron_jobs(body, expected):
    assert refused(CRONJOBS, body) == expected
