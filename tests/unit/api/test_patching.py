"""Patches: the examples of the RFCs and of strategic merge, and properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api.builtin import DEPLOYMENTS, PODS, SERVICES
from orca.api.errors import ApiError
from orca.api.patching import json_patch, merge_patch, strategic_merge
from tests.support.growth import grows_with_its_size

POD = PODS.definition
LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_examples_of_the_rfc(target, patch, result):
    assert merge_patch(target, patch) == result


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_applied_twice_changes_nothing_more(target, patch):
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@pytest.mark.parametrize(
    ("target", "operations", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        ({"foo": ["a", "c"]}, [{"op": "add", "path": "/foo/1", "value": "b"}], {"foo": ["a", "b", "c"]}),
        ({"foo": ["a"]}, [{"op": "add", "path": "/foo/-", "value": ["b"]}], {"foo": ["a", ["b"]]}),
        ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
        ({"foo": ["a", "b", "c"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["a", "c"]}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": None}], {"a": None}),
        ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/d"}], {"a": {}, "c": {"d": 1}}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        (
            {"a/b": 1, "m~n": 2},
            [{"op": "test", "path": "/a~1b", "value": 1}, {"op": "remove", "path": "/m~0n"}],
            {"a/b": 1},
        ),
        # What follows is upstream's library, not the RFC: a missing member is null, indices count from the end as well.
        ({"a": 1}, [{"op": "test", "path": "/x", "value": None}], {"a": 1}),
        ({"a": 1}, [{"op": "test", "path": "/x"}], {"a": 1}),
        ({"a": 1}, [{"op": "replace", "path": "/x", "value": 2}], {"a": 1, "x": 2}),
        ({"a": 1}, [{"op": "copy", "from": "/x", "path": "/y"}], {"a": 1, "y": None}),
        ({"a": 1}, [{"op": "add", "path": "/b"}], {"a": 1, "b": None}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": 1}, [{"op": "test", "path": "", "value": {"a": 1}}], {"a": 1}),
        ({"l": [1, 2]}, [{"op": "add", "path": "/l/-1", "value": 3}], {"l": [1, 2, 3]}),
        ({"l": [1, 2]}, [{"op": "remove", "path": "/l/-1"}], {"l": [1]}),
        ({"l": [1]}, [{"op": "add", "path": "/l/01", "value": 2}], {"l": [1, 2]}),
        ({"~1": 1}, [{"op": "test", "path": "/~01", "value": 1}], {"~1": 1}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/a/c"}], {"a": {"b": 1, "c": {"b": 1}}}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/a/b"}], {"a": {"b": 1}}),
    ],
)
def test_json_patch_examples(target, operations, result):
    assert json_patch(target, operations) == result


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "test", "path": "/a", "value": True},
        {"op": "remove", "path": "/x"},
        {"op": "test", "path": "/x/y", "value": None},
        {"op": "test", "path": "/a/b", "value": None},
        {"op": "test", "path": "/l/0", "value": None},
        {"op": "test", "path": "/l/-", "value": None},
        {"op": "test", "path": "", "value": None},
        {"op": "replace", "path": "/x/y", "value": 1},
        {"op": "replace", "path": "/l/0", "value": 1},
        {"op": "replace", "path": "", "value": 1},
        {"op": "add", "path": "/x/y", "value": 1},
        {"op": "add", "path": "/l/5", "value": 1},
        {"op": "add", "path": "/l/-2", "value": 1},
        {"op": "add", "path": "/l/a", "value": 1},
        {"op": "add", "path": "", "value": {}},
        {"op": "spoil", "path": "/a"},
        {"op": "add", "value": 1},
        {"op": "remove", "path": ""},
        {"op": "remove", "path": "/l/-"},
        {"op": "copy", "from": "", "path": "/x"},
        {"op": "move", "from": "/x", "path": "/y"},
        {"op": "move", "from": "/l", "path": "/l/0"},
    ],
)
def test_json_patch_that_does_not_apply(operation):
    with pytest.raises(ApiError) as caught:
        json_patch({"a": 1, "l": []}, [operation])
    assert caught.value.code == 422


def test_long_lists_take_no_longer_for_each_item():
    """They did: a patch of half a megabyte took seven seconds."""

    def finalizers(size):
        many = [str(number) for number in range(size)]
        metadata = {"$deleteFromPrimitiveList/finalizers": many, "finalizers": ["x", *reversed(many)]}
        patched = strategic_merge(POD, {"metadata": {"finalizers": many}}, {"metadata": metadata})
        assert patched["metadata"]["finalizers"] == ["x"]

    def ordered(size):
        named = [{"name": str(number)} for number in range(size)]
        order = {"$setElementOrder/containers": [*named, {"name": "x"}], "containers": [*named, {"name": "x"}]}
        patched = strategic_merge(POD, {}, {"spec": order})
        assert patched["spec"]["containers"] == [*named, {"name": "x"}]
        gone = {"containers": [{**one, "$patch": "delete"} for one in named]}
        assert strategic_merge(POD, patched, {"spec": gone})["spec"]["containers"] == [{"name": "x"}]

    assert grows_with_its_size(finalizers, 2_000)
    assert grows_with_its_size(ordered, 2_000)


def test_copies_that_nest_too_deep_do_not_apply():
    nested = [{"op": "add", "path": "/a" * depth, "value": {}} for depth in range(1, 400)]
    assert json_patch({}, nested)
    with pytest.raises(ApiError) as caught:
        json_patch({}, [*nested, {"op": "copy", "from": "/a", "path": "/b"}])
    assert caught.value.code == 422


def pod(*containers, **spec):
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


def test_containers_merge_by_name_and_keep_their_place():
    old = pod({"name": "a", "image": "1"}, {"name": "b", "image": "1"}, {"name": "c", "image": "1"})
    new = strategic_merge(POD, old, {"spec": {"containers": [{"name": "b", "image": "2"}]}})
    assert [(c["name"], c["image"]) for c in new["spec"]["containers"]] == [("a", "1"), ("b", "2"), ("c", "1")]
    assert old["spec"]["containers"][1]["image"] == "1"


def test_new_items_go_behind():
    new = strategic_merge(
        POD, pod({"name": "a"}), {"spec": {"containers": [{"name": "b"}, {"name": "a", "image": "x"}]}}
    )
    assert [c["name"] for c in new["spec"]["containers"]] == ["b", "a"]


def test_delete_directive_removes_an_item():
    patch = {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}
    assert strategic_merge(POD, pod({"name": "a"}, {"name": "b"}), patch)["spec"]["containers"] == [{"name": "b"}]


def test_replace_directive_in_a_list_replaces_it():
    patch = {"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}}
    assert strategic_merge(POD, pod({"name": "a"}, {"name": "b"}), patch)["spec"]["containers"] == [{"name": "z"}]


def test_replace_directive_in_a_map_replaces_it():
    old = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    assert strategic_merge(POD, old, {"metadata": {"labels": {"$patch": "replace", "c": "3"}}}) == {
        "metadata": {"labels": {"c": "3"}}
    }


def test_null_removes_a_field():
    old = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    assert strategic_merge(POD, old, {"metadata": {"labels": {"a": None}}}) == {"metadata": {"labels": {"b": "2"}}}


def test_lists_without_strategy_are_replaced():
    old = pod({"name": "a", "args": ["1", "2"]})
    new = strategic_merge(POD, old, {"spec": {"containers": [{"name": "a", "args": ["3"]}]}})
    assert new["spec"]["containers"][0]["args"] == ["3"]


def test_lists_of_scalars_merge_and_delete():
    old = {"metadata": {"finalizers": ["a/x", "b/y"]}}
    added = strategic_merge(POD, old, {"metadata": {"finalizers": ["c/z"]}})
    assert added["metadata"]["finalizers"] == ["c/z", "a/x", "b/y"]
    removed = strategic_merge(POD, old, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/x"]}})
    assert removed["metadata"]["finalizers"] == ["b/y"]


def test_set_element_order_reorders_and_keeps_items_of_the_server():
    old = pod({"name": "a"}, {"name": "server"}, {"name": "b"})
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "n"}],
            "containers": [{"name": "n"}],
        }
    }
    names = [c["name"] for c in strategic_merge(POD, old, patch)["spec"]["containers"]]
    assert [n for n in names if n != "server"] == ["b", "a", "n"]
    assert "server" in names


def test_set_element_order_must_agree_with_the_patch():
    patch = {"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}}
    with pytest.raises(ApiError):
        strategic_merge(POD, pod({"name": "a"}), patch)


def test_retain_keys_clears_the_rest_of_a_union():
    old = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge(DEPLOYMENTS.definition, old, patch) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_a_volume_changes_its_type_as_kubectl_apply_asks_for_it():
    obj = {"spec": {"volumes": [{"name": "cache", "emptyDir": {}}]}}
    volume = {"$retainKeys": ["hostPath", "name"], "emptyDir": None, "hostPath": {"path": "/tmp"}, "name": "cache"}
    patch = {"spec": {"$setElementOrder/volumes": [{"name": "cache"}], "volumes": [volume]}}
    merged = strategic_merge(POD, obj, patch)
    assert merged == {"spec": {"volumes": [{"name": "cache", "hostPath": {"path": "/tmp"}}]}}


def test_retain_keys_must_list_what_the_patch_sets():
    with pytest.raises(ApiError) as caught:
        strategic_merge(
            DEPLOYMENTS.definition, {"spec": {}}, {"spec": {"strategy": {"$retainKeys": ["a"], "type": "x"}}}
        )
    assert caught.value.code == 422


def test_service_ports_merge_by_port():
    old = {"spec": {"ports": [{"port": 80, "nodePort": 30000}, {"port": 443}]}}
    new = strategic_merge(SERVICES.definition, old, {"spec": {"ports": [{"port": 80, "targetPort": "web"}]}})
    assert new["spec"]["ports"] == [{"port": 80, "nodePort": 30000, "targetPort": "web"}, {"port": 443}]


def test_directives_never_reach_the_object():
    patch = {
        "spec": {"securityContext": {"$patch": "replace", "runAsUser": 1}, "$setElementOrder/volumes": [{"name": "v"}]}
    }
    assert strategic_merge(POD, {"spec": {}}, patch) == {"spec": {"securityContext": {"runAsUser": 1}}}


CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abcd"), "image": st.sampled_from("xyz")}),
    max_size=4,
    unique_by=lambda c: c["name"],
)


@given(CONTAINERS, CONTAINERS)
def test_a_patch_of_containers_wins_and_loses_nothing(old, patch):
    merged = strategic_merge(POD, pod(*old), {"spec": {"containers": patch}})["spec"]["containers"]
    images = {c["name"]: c["image"] for c in merged}
    assert images == {**{c["name"]: c["image"] for c in old}, **{c["name"]: c["image"] for c in patch}}
    assert len(images) == len(merged)
    order = [c["name"] for c in merged]
    assert [n for n in order if n in {c["name"] for c in patch}] == [c["name"] for c in patch]


def test_items_need_their_merge_key():
    with pytest.raises(ApiError) as caught:
        strategic_merge(POD, pod({"name": "a"}), {"spec": {"containers": [{"image": "x"}]}})
    assert caught.value.message == "map: map[image:x] does not contain declared merge key: name"
