"""What the generic part of every kind's strategy keeps, resets and counts."""

import json
from copy import deepcopy

import pytest

from orca.api import strategy
from orca.api.builtin import (
    CONFIGMAPS,
    DAEMONSETS,
    DEPLOYMENTS,
    INGRESSES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    REPLICASETS,
    STATEFULSETS,
)
from orca.api.errors import ApiError
from orca.api.objects import meta
from orca.api.resources import Resource, Subresource

CUSTOM = Resource(
    group="x.io",
    version="v1",
    plural="things",
    singular="thing",
    kind="Thing",
    namespaced=True,
    definition="",
    storage="/registry/x.io/things",
    subresources=(Subresource("status", ("get", "patch", "update")),),
    custom=True,
)


def stored(**fields):
    metadata = {"name": "a", "namespace": "d", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3}
    return {"metadata": metadata, **fields}


def test_a_new_object_has_no_past():
    obj = stored(spec={}, status={"replicas": 3})
    obj["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "5"}
    strategy.prepare_create(DEPLOYMENTS, obj)
    assert obj == {"metadata": {"name": "a", "namespace": "d", "generation": 1}, "spec": {}, "status": {}}


def test_the_main_door_keeps_status_and_counts_generations():
    old = stored(spec={"replicas": 1}, status={"replicas": 1})
    new = {"metadata": {"name": "a"}, "spec": {"replicas": 2}, "status": {"replicas": 9}}
    strategy.prepare_update(DEPLOYMENTS, new, old)
    assert new["status"] == {"replicas": 1}
    assert meta(new) == {**meta(old), "generation": 4}


def test_labels_are_no_new_generation_but_annotations_of_deployments_are():
    old = stored(spec={"replicas": 1})
    new = {**old, "metadata": {**meta(old), "labels": {"a": "b"}}}
    strategy.prepare_update(DEPLOYMENTS, new, old)
    assert meta(new)["generation"] == 3
    new["metadata"]["annotations"] = {"a": "b"}
    strategy.prepare_update(DEPLOYMENTS, new, old)
    assert meta(new)["generation"] == 4


def test_the_status_door_changes_status_only():
    old = stored(spec={"replicas": 1}, status={"replicas": 1})
    old["metadata"]["labels"] = {"a": "b"}
    new = {"metadata": {"name": "a", "labels": {"c": "d"}}, "spec": {"replicas": 2}, "status": {"replicas": 2}}
    strategy.prepare_update(DEPLOYMENTS, new, old, "status")
    assert new["spec"] == {"replicas": 1}
    assert new["status"] == {"replicas": 2}
    assert meta(new)["labels"] == {"a": "b"}
    assert meta(new)["generation"] == 3


def test_nodes_are_labelled_through_their_status():
    old = stored(spec={}, status={})
    new = {"metadata": {"name": "a", "labels": {"c": "d"}}, "spec": {}, "status": {"x": 1}}
    strategy.prepare_update(NODES, new, old, "status")
    assert meta(new)["labels"] == {"c": "d"}


def test_nodes_take_no_configuration_from_elsewhere():
    asked = {"configMap": {"name": "c"}}
    obj = {"metadata": {"name": "n"}, "spec": {"configSource": asked}, "status": {"config": {"error": "x"}}}
    new = deepcopy(obj)
    strategy.prepare_create(NODES, new)
    assert new["spec"] == new["status"] == {}
    new, old = deepcopy(obj), {"metadata": {"name": "n"}, "spec": {}}
    strategy.prepare_update(NODES, new, old)
    assert new["spec"] == {}
    new = deepcopy(obj)
    strategy.prepare_update(NODES, new, deepcopy(obj))
    assert new["spec"] == {"configSource": asked}


def test_kinds_without_status_or_generation():
    obj = {"metadata": {"name": "a", "namespace": "d", "generation": 7}, "data": {}}
    strategy.prepare_create(CONFIGMAPS, obj)
    assert "generation" not in meta(obj)


def test_custom_kinds_count_everything_but_status():
    old = stored(spec={"a": 1}, extra=1, status={"x": 1})
    new = {"metadata": {"name": "a"}, "spec": {"a": 1}, "extra": 2, "status": {"x": 2}}
    strategy.prepare_update(CUSTOM, new, old)
    assert meta(new)["generation"] == 4
    assert new["status"] == {"x": 1}


def test_true_instead_of_1_is_a_new_generation():
    old = stored(spec={"values": {"enabled": 1}})
    same = {"metadata": {"name": "a"}, "spec": {"values": {"enabled": 1}}}
    strategy.prepare_update(CUSTOM, same, old)
    assert meta(same)["generation"] == 3
    new = {"metadata": {"name": "a"}, "spec": {"values": {"enabled": True}}}
    strategy.prepare_update(CUSTOM, new, old)
    assert meta(new)["generation"] == 4


def test_identity_is_immutable():
    old = stored(spec={})
    new = {"metadata": {**meta(old), "uid": "other", "name": "b"}, "spec": {}}
    fields = [error.field for error in strategy.validate_update(CUSTOM, new, old)]
    assert fields == ["metadata.name", "metadata.uid"]


def test_no_new_finalizers_on_the_way_out():
    old = stored()
    old["metadata"] |= {"deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["a/b"]}
    new = {"metadata": {**meta(old), "finalizers": ["a/b", "c/d"]}}
    (error,) = strategy.validate_update(CUSTOM, new, old)
    assert str(error) == (
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"c/d"}'
    )
    new["metadata"]["finalizers"] = []
    assert strategy.validate_update(CUSTOM, new, old) == []


def test_bad_metadata_is_told_field_by_field():
    obj = {"metadata": {"name": "A_", "labels": {"-": "x", "ok": "no good"}, "annotations": {"a b": "x"}}}
    errors = strategy.validate_create(CUSTOM, obj)
    assert [e.field for e in errors] == [
        "metadata.name",
        "metadata.namespace",
        "metadata.labels",
        "metadata.labels",
        "metadata.annotations",
    ]


def test_owners_are_complete_and_one_controls():
    one = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1", "controller": True}
    obj = {"metadata": {"name": "a", "namespace": "d", "ownerReferences": [one, {**one, "name": "y", "uid": ""}]}}
    fields = [error.field for error in strategy.validate_create(CUSTOM, obj)]
    assert fields == ["metadata.ownerReferences.uid", "metadata.ownerReferences"]


def test_of_many_that_control_all_are_shown_once():
    many = [{"apiVersion": "v1", "kind": "Pod", "name": f"p{n}", "uid": str(n), "controller": True} for n in range(50)]
    obj = {"metadata": {"name": "a", "namespace": "d", "ownerReferences": many}}
    (error,) = strategy.validate_create(CUSTOM, obj)
    assert error.value == many
    assert error.detail.endswith('Found "true" in references for Pod/p0 and Pod/p1')


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (REPLICASETS, {"replicas": 0}),
        (STATEFULSETS, {"replicas": 0, "availableReplicas": 0}),
        (INGRESSES, {"loadBalancer": {}}),
        (PERSISTENTVOLUMECLAIMS, {"phase": "Pending"}),
    ],
)
def test_a_status_is_there_before_anybody_wrote_one(row, status):
    obj = {"metadata": {"name": "a"}, "spec": {}, "status": {"replicas": 9}}
    strategy.prepare_create(row, obj)
    assert obj["status"] == status
    new = {"metadata": {"name": "a"}, "spec": {}}
    strategy.prepare_update(row, new, obj, "status")
    assert new["status"] == status


def test_templates_of_daemonsets_are_counted_in_an_annotation():
    counted = "deprecated.daemonset.template.generation"

    def count(obj):
        return meta(obj)["annotations"][counted]

    made = {"metadata": {"name": "a"}, "spec": {"template": {"spec": {}}}}
    strategy.apply_defaults(DAEMONSETS, made)
    assert count(made) == "0"
    strategy.prepare_create(DAEMONSETS, made)
    assert count(made) == "1"
    given = {"metadata": {"annotations": {counted: "5", "own": "x"}}, "spec": {"template": {"spec": {}}}}
    strategy.prepare_create(DAEMONSETS, given)
    assert meta(given)["annotations"] == {counted: "5", "own": "x"}
    for template, subresource, expected in (
        (made["spec"]["template"], "", "1"),
        ({"spec": {"hostNetwork": True}}, "", "2"),
        ({"spec": {"hostNetwork": True}}, "status", "1"),
    ):
        new = {"metadata": {"name": "a", "annotations": {counted: "7"}}, "spec": {"template": template}}
        strategy.prepare_update(DAEMONSETS, new, made, subresource)
        assert count(new) == expected


def daemon_set(generation):
    annotations = {"deprecated.daemonset.template.generation": generation}
    return {"metadata": {"name": "a", "annotations": annotations}, "spec": {"template": {"spec": {}}}}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "invalid syntax"),
        ("x", "invalid syntax"),
        ("1_0", "invalid syntax"),
        (" 7 ", "invalid syntax"),
        ("7\n", "invalid syntax"),
        ("٣", "invalid syntax"),
        ("9223372036854775808", "value out of range"),
        ("-9223372036854775809", "value out of range"),
        ("9" * 5000, "value out of range"),
    ],
)
def test_counts_of_daemonsets_are_whole_numbers_as_go_reads_them(said, why):
    for prepare in (
        lambda obj: strategy.prepare_create(DAEMONSETS, obj),
        lambda obj: strategy.prepare_update(DAEMONSETS, obj, daemon_set("1")),
    ):
        with pytest.raises(ApiError) as caught:
            prepare(daemon_set(said))
        assert (caught.value.code, caught.value.message) == (
            400,
            f"strconv.ParseInt: parsing {json.dumps(said, ensure_ascii=False)}: {why}",
        )


def test_a_daemonset_that_was_stored_with_another_word_can_be_changed():
    counted = "deprecated.daemonset.template.generation"
    for said in ("x", "1"):
        for subresource in ("", "status"):
            new = daemon_set(said)
            strategy.prepare_update(DAEMONSETS, new, daemon_set("x"), subresource)
            assert meta(new)["annotations"][counted] == "1"
    for said in ("+7", "-3", "007", "9223372036854775807"):
        strategy.prepare_update(DAEMONSETS, daemon_set(said), daemon_set("1"))
    with pytest.raises(ApiError, match="invalid syntax"):
        strategy.prepare_create(DAEMONSETS, {"metadata": {"annotations": {counted: "x"}}, "spec": {}})
