"""Apply and the upkeep of managedFields, on Deployments. Cases as upstream's integration and merge tests tell them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from orca.api import fields
from orca.api.builtin import CONFIGMAPS, CUSTOMRESOURCEDEFINITIONS, PODS, SERVICES
from orca.api.errors import ApiError
from orca.api.fields.comparing import compare
from orca.api.fields.types import OPEN, root
from tests.unit.api.fields.examples import (
    EARLY,
    LATE,
    SELECTOR,
    WEB,
    apply,
    at,
    config,
    create,
    owners,
    paths,
    pods,
    stored,
    update,
    writer,
)
from tests.unit.api.fields.paths import has

FULL = config(replicas=2, selector=SELECTOR, template=pods(WEB))


def test_creating_by_apply_owns_what_was_said_and_no_defaults() -> None:
    made = apply(None, FULL, "me")
    assert paths(owners(made)["+me"]) == {
        ".spec.replicas",
        ".spec.selector",
        ".spec.template.metadata.labels.app",
        '.spec.template.spec.containers[name="web"]',
        '.spec.template.spec.containers[name="web"].image',
        '.spec.template.spec.containers[name="web"].name',
    }


def test_what_is_owned_is_written_in_upstreams_order_whatever_the_order_it_was_said_in() -> None:
    said = {"name": "web", "image": "nginx:1", "env": [{"name": "Z"}, {"name": "A"}]}
    made = apply(None, config(template=pods(said), selector=SELECTOR, replicas=3), "me")
    (entry,) = made["metadata"]["managedFields"]
    container = entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}']
    assert list(entry["fieldsV1"]["f:spec"]) == ["f:replicas", "f:selector", "f:template"]
    assert list(container) == [".", "f:env", "f:image", "f:name"]
    assert list(container["f:env"]) == ['k:{"name":"A"}', 'k:{"name":"Z"}']


def test_creating_by_post_owns_defaults_too_and_writes_as_upstream_does() -> None:
    made = create(config(selector=SELECTOR, template=pods({**WEB, "ports": [{"containerPort": 80}]})), "kubectl-create")
    (entry,) = made["metadata"]["managedFields"]
    container = entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}']
    assert entry["fieldsV1"]["f:spec"]["f:strategy"] == {
        "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}},
        "f:type": {},
    }
    assert container["f:ports"] == {
        ".": {},
        'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}, "f:protocol": {}},
    }
    assert container["f:resources"] == {}
    assert "f:status" not in entry["fieldsV1"]
    assert "f:metadata" not in entry["fieldsV1"]
    assert [entry[key] for key in ("manager", "operation", "apiVersion", "fieldsType", "time")] == [
        "kubectl-create",
        "Update",
        "apps/v1",
        "FieldsV1",
        EARLY,
    ]


def test_conflict_names_manager_version_and_field() -> None:
    live = create(FULL, "kubectl-client-side-apply")
    with pytest.raises(ApiError) as caught:
        apply(live, config(replicas=3), "me")
    error = caught.value
    assert (error.code, error.reason) == (409, "Conflict")
    assert error.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas'
    )
    assert (error.details or {})["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-client-side-apply" using apps/v1',
            "field": ".spec.replicas",
        }
    ]


def test_several_conflicts_are_listed_by_manager() -> None:
    live = apply(None, FULL, "first")
    body = config(replicas=5, template=pods({**WEB, "image": "nginx:2"}))
    with pytest.raises(ApiError) as caught:
        apply(live, body, "second")
    assert caught.value.message == (
        'Apply failed with 2 conflicts: conflicts with "first":\n- .spec.replicas\n'
        '- .spec.template.spec.containers[name="web"].image'
    )


def test_force_takes_the_field_from_its_owner() -> None:
    live = apply(None, FULL, "first")
    forced = apply(live, config(replicas=5), "second", force=True)
    assert forced["spec"]["replicas"] == 5
    assert ".spec.replicas" not in paths(owners(forced)["+first"])
    assert paths(owners(forced)["+second"]) == {".spec.replicas"}


def test_the_same_value_is_owned_together() -> None:
    live = apply(None, FULL, "first")
    both = apply(live, config(replicas=2), "second")
    assert ".spec.replicas" in paths(owners(both)["+first"])
    assert ".spec.replicas" in paths(owners(both)["+second"])
    nothing = {key: value for key, value in config().items() if key != "spec"}
    left = apply(both, nothing, "second")
    assert left["spec"]["replicas"] == 2
    assert "+second" not in owners(left)


def test_a_field_no_longer_applied_goes_with_its_last_owner() -> None:
    live = apply(None, config(selector=SELECTOR, template=pods(WEB, {"name": "side", "image": "s"})), "me")
    less = apply(live, config(selector=SELECTOR, template=pods(WEB)), "me")
    assert [one["name"] for one in less["spec"]["template"]["spec"]["containers"]] == ["web"]


def test_an_item_another_applier_claims_stays() -> None:
    live = apply(None, config(selector=SELECTOR, template=pods(WEB, {"name": "side", "image": "s"})), "me")
    live = apply(live, config(template={"spec": {"containers": [{"name": "side", "image": "s"}]}}), "other")
    less = apply(live, config(selector=SELECTOR, template=pods(WEB)), "me")
    assert [one["name"] for one in less["spec"]["template"]["spec"]["containers"]] == ["web", "side"]


def test_a_struct_goes_with_the_defaults_inside_it() -> None:
    probe = {"httpGet": {"path": "/", "port": 80}}
    live = apply(None, config(selector=SELECTOR, template=pods({**WEB, "livenessProbe": probe})), "me")
    assert live["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["periodSeconds"] == 10
    less = apply(live, config(selector=SELECTOR, template=pods(WEB)), "me")
    assert "livenessProbe" not in less["spec"]["template"]["spec"]["containers"][0]


def test_an_update_takes_what_it_changes() -> None:
    live = apply(None, FULL, "me")
    changed = deepcopy(live)
    changed["spec"]["replicas"] = 7
    after = update(live, changed, "scaler")
    assert ".spec.replicas" not in paths(owners(after)["+me"])
    assert paths(owners(after)["scaler"]) == {".spec.replicas"}
    with pytest.raises(ApiError, match="1 conflict"):
        apply(after, FULL, "me")


def test_an_update_that_removes_a_field_removes_it_from_all() -> None:
    live = apply(None, config(replicas=2, selector=SELECTOR, template=pods(WEB), paused=True), "me")
    changed = deepcopy(live)
    del changed["spec"]["paused"]
    after = update(live, changed, "other")
    assert ".spec.paused" not in paths(owners(after)["+me"])
    assert "other" not in owners(after)


def test_an_update_without_a_change_keeps_entries_and_times() -> None:
    live = create(FULL, "me")
    after = update(live, deepcopy(live), "other")
    assert after["metadata"]["managedFields"] == live["metadata"]["managedFields"]
    assert fields.revert_times(after, live)


FLIPS = [
    (1, True),
    (0, False),
    (True, 1),
    ([1], [True]),
    ([{"a": 0}], [{"a": False}]),
    ({"x": {"y": 1}}, {"x": {"y": True}}),
]


@pytest.mark.parametrize(("before", "after"), FLIPS)
def test_true_is_not_1_at_any_depth(before: object, after: object) -> None:
    """Only free-form values can hold either."""
    old: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"values": {"enabled": before, "other": "x"}}}
    new: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"values": {"other": "x", "enabled": after}}}
    assert not fields.revert_times(new, old)
    assert fields.revert_times(deepcopy(old), old)
    assert "f:enabled" in compare(OPEN, old, new).modified["f:spec"]["f:values"]
    assert not compare(OPEN, old, deepcopy(old))


def test_true_is_not_1_in_what_a_built_in_kind_leaves_open() -> None:
    def definition(default: object) -> dict[str, Any]:
        schema = {"openAPIV3Schema": {"properties": {"x": {"default": default}}}}
        return {"metadata": {"name": "a"}, "spec": {"versions": [{"name": "v1", "schema": schema}]}}

    assert root(PODS).typed
    assert not root(CUSTOMRESOURCEDEFINITIONS).typed
    assert compare(root(CUSTOMRESOURCEDEFINITIONS), definition(1), definition(True))
    assert not compare(root(CUSTOMRESOURCEDEFINITIONS), definition(1), definition(1))


def test_applying_the_same_again_is_nothing_new() -> None:
    live = apply(None, FULL, "me", time=EARLY)
    again = apply(live, FULL, "me", time=LATE)
    assert fields.revert_times(again, live)


def test_untracked_objects_stay_so_until_an_apply() -> None:
    live = stored(FULL)
    changed = deepcopy(live)
    changed["spec"]["replicas"] = 3
    assert "managedFields" not in update(live, changed, "somebody")["metadata"]
    with pytest.raises(ApiError, match=r'conflict with "before-first-apply" using apps/v1: \.spec\.replicas'):
        apply(live, config(replicas=9), "me")
    assert set(owners(apply(live, config(replicas=2), "me"))) == {"+me", "before-first-apply"}


@pytest.mark.parametrize("reset", [[], [{}]])
def test_clients_may_reset_owners(reset: list[object]) -> None:
    live = create(FULL, "me")
    changed = deepcopy(live)
    changed["metadata"]["managedFields"] = reset
    assert "managedFields" not in update(live, changed, "other")["metadata"]


def test_clients_may_set_owners_and_nonsense_is_ignored() -> None:
    live = create(FULL, "me")
    changed = deepcopy(live)
    changed["metadata"]["managedFields"] = [{**live["metadata"]["managedFields"][0], "manager": "renamed"}]
    assert set(owners(update(live, changed, "other"))) == {"renamed"}
    changed["metadata"]["managedFields"] = [{"manager": "x", "operation": "Guess"}]
    assert set(owners(update(live, changed, "other"))) == {"me"}


def test_entries_of_versions_that_are_gone_disappear() -> None:
    live = create(FULL, "me")
    old = {**live["metadata"]["managedFields"][0], "manager": "old", "apiVersion": "apps/v1beta1"}
    live["metadata"]["managedFields"].append(old)
    changed = deepcopy(live)
    changed["spec"]["replicas"] = 5
    assert set(owners(update(live, changed, "me"))) == {"me"}


def test_the_oldest_of_many_updaters_become_ancient_changes() -> None:
    live = create(FULL, "m0")
    for number in range(1, 15):
        changed = deepcopy(live)
        changed["metadata"].setdefault("annotations", {})[f"key-{number}"] = "v"
        live = update(live, changed, f"m{number}", time=f"2026-01-01T00:00:{number:02}Z")
    names = [entry["manager"] for entry in live["metadata"]["managedFields"]]
    assert len(names) == 10
    assert names[0] == "ancient-changes"
    assert names[1:] == [f"m{number}" for number in range(6, 15)]
    assert ".metadata.annotations.key-3" in paths(owners(live)["ancient-changes"])


def test_status_and_spec_have_doors_of_their_own() -> None:
    live = create(FULL, "me")
    changed = deepcopy(live)
    changed["spec"]["replicas"] = 9
    changed["status"] = {"replicas": 2}
    by_status = update(live, changed, "controller", "status")
    assert paths(owners(by_status)["controller"]) == {".status.replicas"}
    assert by_status["metadata"]["managedFields"][-1]["subresource"] == "status"
    by_main = update(live, changed, "controller")
    assert paths(owners(by_main)["controller"]) == {".spec.replicas"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({**FULL, "apiVersion": "apps/v1beta1"}, "Incorrect version specified in apply patch"),
        (
            {**FULL, "metadata": {"managedFields": [{"manager": "x"}]}},
            "metadata.managedFields must be nil",
        ),
        (config(nonsense=1), r"\.spec\.nonsense: field not declared in schema"),
        (
            config(template=pods(WEB, WEB)),
            r"\(d/web; apps/v1, Kind=Deployment\): \.spec\.template\.spec\.containers: duplicate entries for key",
        ),
        (config(template=pods({"image": "x"})), 'element 0: .* omits key field "name"'),
    ],
)
def test_configurations_that_are_none(body: dict[str, object], text: str) -> None:
    with pytest.raises(ApiError, match=text) as caught:
        apply(stored(FULL), body, "me")
    assert caught.value.code == 400


def test_keys_of_lists_have_defaults() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "d"}}
    one = {**service, "spec": {"ports": [{"port": 80}]}}
    made = fields.apply(SERVICES, None, one, writer("me", SERVICES), at, force=False).obj
    assert list(owners(made)["+me"]["f:spec"]["f:ports"]) == ['k:{"port":80,"protocol":"TCP"}']
    two = {**service, "spec": {"ports": [{"port": 80}, {"port": 80, "protocol": "UDP"}]}}
    done = fields.apply(SERVICES, made, two, writer("me", SERVICES), at, force=False)
    assert len(done.obj["spec"]["ports"]) == 2


def test_lists_are_merged_in_the_order_of_the_configuration() -> None:
    def containers(*names: str) -> list[dict[str, str]]:
        return [{"name": name, "image": "i"} for name in names]

    def names_of(live: tuple[str, ...], wanted: tuple[str, ...]) -> list[str]:
        first = create(config(selector=SELECTOR, template=pods(*containers(*live))), "me")
        after = apply(first, config(template={"spec": {"containers": containers(*wanted)}}), "other")
        return [one["name"] for one in after["spec"]["template"]["spec"]["containers"]]

    assert names_of(("a", "b", "c"), ("c", "a")) == ["b", "c", "a"]
    assert names_of(("a", "b"), ("x", "b")) == ["a", "x", "b"]
    assert names_of(("a", "b"), ("b", "x")) == ["a", "b", "x"]
    assert names_of(("a", "b", "c"), ("a", "x", "c")) == ["a", "b", "x", "c"]


def test_maps_and_atomic_values() -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}}
    who = writer("me", CONFIGMAPS)
    made = fields.apply(CONFIGMAPS, None, body, who, at, force=False).obj
    assert owners(made)["+me"] == {"f:data": {"f:a": {}, "f:b": {}}}
    less = fields.apply(CONFIGMAPS, made, {**body, "data": {"b": "2"}}, who, at, force=False).obj
    assert less["data"] == {"b": "2"}
    live = apply(None, FULL, "first")
    with pytest.raises(ApiError, match=r"conflict with \"first\": \.spec\.selector"):
        apply(live, config(selector={"matchLabels": {"app": "web", "tier": "x"}}), "second")


def test_kubectl_takes_over_what_it_applied_before() -> None:
    text = '{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2}}'
    body = deepcopy(FULL)
    body["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": text}
    live = create(body, "kubectl-client-side-apply")
    with pytest.raises(ApiError):
        apply(live, config(replicas=4), "somebody")
    taken = apply(live, config(replicas=4), "kubectl")
    assert taken["spec"]["replicas"] == 4
    note = taken["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert '"replicas":4' in note
    with pytest.raises(ApiError, match="image"):
        apply(live, config(template=pods({**WEB, "image": "nginx:2"})), "kubectl")


def test_equal_shapes_share_one_set() -> None:
    one, two = create(FULL, "a"), create(config(replicas=5, selector=SELECTOR, template=pods(WEB)), "b")
    sets_of = [made["metadata"]["managedFields"][0]["fieldsV1"] for made in (one, two)]
    assert sets_of[0] is sets_of[1]
    assert has(sets_of[0], ("f:spec", "f:replicas"))


def test_a_map_applied_without_content_leaves_what_others_have_put_into_it() -> None:
    said = {**FULL, "metadata": {**FULL["metadata"], "annotations": {}}}
    made = apply(None, said, "me")
    controller = update(
        made, {**made, "metadata": {**made["metadata"], "annotations": {"revision": "1"}}}, "controller"
    )
    again = apply(controller, said, "me")
    assert again["metadata"]["annotations"] == {"revision": "1"}
    assert paths(owners(again)["controller"]) >= {".metadata.annotations.revision"}


def test_what_is_not_applied_any_more_goes_and_leaves_nothing_empty() -> None:
    said = {**FULL, "metadata": {**FULL["metadata"], "annotations": {"mine": "1"}}}
    made = apply(None, said, "me")
    assert "annotations" not in apply(made, FULL, "me")["metadata"]
