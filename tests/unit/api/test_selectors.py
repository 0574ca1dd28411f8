"""Selectors: parsing, matching, supported fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api import builtin
from orca.api.builtin import DEPLOYMENTS, EVENTS, EVENTS_V1, NODES, PODS
from orca.api.errors import ApiError
from orca.api.resources import Resource
from orca.api.selectors import (
    NOTHING,
    drop_fields,
    field_judge,
    field_matches,
    from_label_selector,
    from_map,
    parse_field_selector,
    parse_label_selector,
    put_fields,
    supported_fields,
)

WEB = {"app": "web", "tier": "front", "weight": "5"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web", True),
        ("app!=web", False),
        ("missing!=x", True),
        ("app in (web,db)", True),
        ("app notin (web)", False),
        ("missing notin (x)", True),
        ("app", True),
        ("!app", False),
        ("!missing", True),
        ("weight>4", True),
        ("weight<4", False),
        ("app>4", False),
        ("app=web,tier!=back", True),
        ("app=web,tier=back", False),
        ("app=", False),
    ],
)
def test_label_selectors(text, matches):
    selector = parse_label_selector(text)
    assert selector.matches(WEB) is matches
    assert selector.judge()(WEB) is matches


def test_any_number_of_requirements_is_judged():
    many = ",".join(f"!k{number}" for number in range(5000))
    judge = parse_label_selector(f"app=web,{many}").judge()
    assert judge(WEB)
    assert not judge({**WEB, "k4999": ""})


@pytest.mark.parametrize("text", ["=a", "a=b,", ",a=b", "a in b", "a in (b", "a b", "a=b=c", "a>x", "-a=b", "a=b c"])
def test_unreadable_label_selectors(text):
    with pytest.raises(ApiError) as caught:
        parse_label_selector(text)
    assert caught.value.code == 400


KEYS, VALUES = st.sampled_from(["a", "b", "x.io/c"]), st.sampled_from(["", "1", "v-2"])


@given(st.dictionaries(KEYS, VALUES), st.dictionaries(KEYS, VALUES))
def test_a_printed_selector_means_the_same(wanted, labels):
    selector = parse_label_selector(",".join(f"{k}={v}" for k, v in wanted.items()))
    assert selector.matches(labels) == all(labels.get(k) == v for k, v in wanted.items())
    assert parse_label_selector(str(selector)) == selector
    assert selector.exact() == wanted
    assert selector.judge()(labels) == selector.matches(labels)


def test_selectors_of_objects():
    expressions = [{"key": "tier", "operator": "In", "values": ["front"]}, {"key": "gone", "operator": "DoesNotExist"}]
    assert from_label_selector({"matchLabels": {"app": "web"}, "matchExpressions": expressions}).matches(WEB)
    assert from_label_selector({}).matches(WEB)
    assert from_label_selector(None) is NOTHING
    assert not from_map({}).matches(WEB)
    assert from_map({"app": "web"}).matches(WEB)
    with pytest.raises(ValueError, match="not a valid label selector operator"):
        from_label_selector({"matchExpressions": [{"key": "a", "operator": "Like"}]})


POD = {
    "metadata": {"name": "p", "namespace": "d"},
    "spec": {"nodeName": "n", "restartPolicy": "Always"},
    "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("metadata.name=p", True),
        ("metadata.namespace!=d", False),
        ("spec.nodeName=n,status.phase=Running", True),
        ("status.phase!=Running", False),
        ("status.podIP=10.0.0.1", True),
        ("spec.hostNetwork=false", True),
        ("status.nominatedNodeName=", True),
    ],
)
def test_field_selectors_of_pods(text, matches):
    selector = parse_field_selector(text, PODS)
    assert field_matches(PODS, POD, selector) is matches
    assert field_judge(PODS, selector)(POD) is matches


def test_unsupported_fields_are_refused():
    with pytest.raises(ApiError) as caught:
        parse_field_selector("spec.replicas=1", DEPLOYMENTS)
    assert caught.value.code == 400
    assert caught.value.message == "field label not supported: spec.replicas"


def test_events_are_found_by_what_they_tell_of():
    event = {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"}, "type": "Warning"}
    assert field_matches(EVENTS, event, parse_field_selector("involvedObject.name=p,type!=Normal", EVENTS))
    assert field_matches(EVENTS_V1, event, parse_field_selector("regarding.kind=Pod", EVENTS_V1))


def test_absent_booleans_are_false():
    assert field_matches(NODES, {"metadata": {}}, parse_field_selector("spec.unschedulable=false", NODES))
    cordoned = {"spec": {"unschedulable": True}}
    assert field_matches(NODES, cordoned, parse_field_selector("spec.unschedulable=true", NODES))
    assert field_judge(NODES, parse_field_selector("spec.unschedulable=true", NODES))(cordoned)
    assert field_judge(NODES, parse_field_selector("spec.unschedulable=false", NODES))({"spec": None})


def test_what_selects_nothing_judges_so():
    assert not NOTHING.judge()(WEB)
    assert from_map({}).judge()(WEB) is False


def test_exact_fields_and_escapes():
    selector = parse_field_selector(r"metadata.name=a\,b,spec.nodeName!=c")
    assert selector.exact("metadata.name") == "a,b"
    assert selector.exact("spec.nodeName") is None


LABEL_ERRORS = [
    ("a===b", "unable to parse requirement: found '=', expected: identifier"),
    ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
    ("a in b", "unable to parse requirement: found 'b' expected: '('"),
    ("a in ()", "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set"),
    ("!!a", "unable to parse requirement: found '!', expected: identifier"),
    ("!a=b", "found '=', expected: ',' or 'end of string'"),
    ("a foo b", "unable to parse requirement: found 'foo', expected: in, notin, =, ==, !=, gt, lt"),
    (",a", "found ',', expected: !, identifier, or 'end of string'"),
    ("a,", "found '', expected: identifier after ','"),
    ("a b c", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
    ("a=b c", "found 'c', expected: ',' or 'end of string'"),
    ("a>b", "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value"),
    ("-a=b", 'unable to parse requirement: key: Invalid value: "-a": name part must consist of'),
    ("a=-b", 'unable to parse requirement: values[0][a]: Invalid value: "-b": a valid label must be'),
]


@pytest.mark.parametrize(("text", "message"), LABEL_ERRORS)
def test_what_is_no_label_selector_is_refused_with_upstreams_words(text: str, message: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_label_selector(text)
    assert refused.value.code == 400
    assert refused.value.message.startswith(message)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a", "a"),
        ("!a", "!a"),
        ("a=", "a="),
        ("a=,b", "a=,b"),
        ("in=notin", "in=notin"),
        ("a in (,b)", "a in (,b)"),
        ("a notin ( x , y )", "a notin (x,y)"),
        (" a == b , c!=d", "a=b,c notin (d)"),
        ("a>-1,a<+5", "a>-1,a<+5"),
    ],
)
def test_label_selectors_that_are_fine(text: str, shown: str) -> None:
    assert str(parse_label_selector(text)) == shown


FIELDS = [
    (builtin.PODS, "spec.host", True),
    (builtin.PODS, "spec.priority", False),
    (builtin.NODES, "metadata.namespace", False),
    (builtin.NAMESPACES, "name", False),
    (builtin.CONFIGMAPS, "metadata.namespace", True),
    (builtin.PERSISTENTVOLUMES, "metadata.namespace", True),
    (builtin.PERSISTENTVOLUMES, "name", False),
    (builtin.EVENTS, "involvedObject.name", True),
    (builtin.EVENTS, "regarding.name", False),
    (builtin.EVENTS_V1, "regarding.name", True),
    (builtin.EVENTS_V1, "involvedObject.name", False),
    (builtin.EVENTS_V1, "reportingController", True),
    (builtin.RESOURCESLICES, "spec.driver", True),
    (builtin.DEPLOYMENTS, "status.replicas", False),
    (builtin.REPLICASETS, "status.replicas", True),
]


@pytest.mark.parametrize(("row", "field", "known"), FIELDS, ids=str)
def test_each_kind_selects_by_its_own_fields(row: Resource, field: str, known: bool) -> None:
    if known:
        assert str(parse_field_selector(f"{field}=x", row)) == f"{field}=x"
        return
    with pytest.raises(ApiError, match=f"field label not supported: {field}"):
        parse_field_selector(f"{field}=x", row)


def test_custom_kinds_in_no_namespace_are_not_selected_by_one() -> None:
    for namespaced in (True, False):
        row = Resource("e.com", "v1", "things", "thing", "Thing", namespaced, "d", "/r", custom=True)
        put_fields(row, {"spec.color": ("spec", "color")})
        assert ("metadata.namespace" in supported_fields(row)) is namespaced
        assert {"metadata.name", "spec.color"} <= set(supported_fields(row))
        drop_fields(row)
