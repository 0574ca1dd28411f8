"""The resource table, error texts, times."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.api import errors
from orca.api.builtin import BUILTIN, DEPLOYMENTS, EVENTS, EVENTS_V1, NODES, PODS
from orca.api.errors import ApiError, FieldError
from orca.api.resources import Resource
from orca.api.times import format_micro, format_time, human_duration, parse_time


@pytest.mark.parametrize(
    ("typed", "plural"),
    [
        ("po", "pods"),
        ("Pod", "pods"),
        ("deploy", "deployments"),
        ("deployments.apps", "deployments"),
        ("deployment.v1.apps", "deployments"),
        ("svc", "services"),
        ("netpol", "networkpolicies"),
        ("hpa", "horizontalpodautoscalers"),
        ("nothing", None),
    ],
)
def test_what_people_type(typed, plural):
    found = BUILTIN.find(typed)
    assert (found.plural if found else None) == plural


def test_core_wins_over_groups_and_versions_share_storage():
    assert BUILTIN.find("events") is EVENTS
    assert EVENTS.storage == EVENTS_V1.storage
    assert EVENTS != EVENTS_V1
    assert EVENTS.ttl == 3600


def test_rows_are_unique():
    rows = list(BUILTIN)
    assert (
        len({(r.group, r.version, r.plural) for r in rows}) == len(rows) == len({(r.api_version, r.kind) for r in rows})
    )


def test_names_of_a_row():
    assert (DEPLOYMENTS.api_version, DEPLOYMENTS.list_kind) == ("apps/v1", "DeploymentList")
    assert (DEPLOYMENTS.group_resource, PODS.group_resource) == ("deployments.apps", "pods")
    assert DEPLOYMENTS.has("scale")
    assert not NODES.has("scale")


def test_custom_rows_come_and_go():
    table = BUILTIN.copy()
    heard = []
    table.subscribe(lambda what, row: heard.append((what, row.plural)))
    row = Resource("x.io", "v1", "things", "thing", "Thing", True, "", "/registry/x.io/things", custom=True)
    table.add(row)
    assert table.by_kind("x.io/v1", "Thing") is table.find("things.x.io") is row
    assert BUILTIN.find("things") is None
    table.remove(row)
    assert table.lookup("x.io", "v1", "things") is None
    assert heard == [("added", "things"), ("removed", "things")]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FieldError.required("spec.selector"), "spec.selector: Required value"),
        (FieldError.invalid("a", "x", "no"), 'a: Invalid value: "x": no'),
        (FieldError.invalid("a", 3, "no"), "a: Invalid value: 3: no"),
        (FieldError.invalid("a", {"b": "c"}, "no"), 'a: Invalid value: {"b":"c"}: no'),
        (FieldError.not_supported("a", "X", ["A", "B"]), 'a: Unsupported value: "X": supported values: "A", "B"'),
        (FieldError.duplicate("a[1].name", "x"), 'a[1].name: Duplicate value: "x"'),
        (FieldError.forbidden("a", "no"), "a: Forbidden: no"),
        (FieldError.too_long("a", "xxx", 2), "a: Too long: may not be more than 2 bytes"),
        (FieldError.too_many("a", 3, 2), "a: Too many: 3: must have at most 2 items"),
        (FieldError.not_found("a", "x"), 'a: Not found: "x"'),
    ],
)
def test_field_errors_read_as_upstreams(error, text):
    assert str(error) == text


def test_many_errors_are_not_all_told():
    wrong = [FieldError.invalid("metadata.labels", f"k{number} !", "x" * 100) for number in range(20_000)]
    refused = errors.invalid(PODS, "p", wrong)
    assert refused.message.endswith(" more]")
    assert len(refused.message) < 600_000
    told = len(refused.details["causes"])
    assert refused.message.endswith(f", and {20_000 - told} more]")
    assert len(errors.invalid(PODS, "p", wrong[:100]).details["causes"]) == 100


def test_invalid_lists_causes():
    problems = [FieldError.required("spec.a"), FieldError.invalid("spec.b", 1, "no")]
    status = errors.invalid(DEPLOYMENTS, "x", problems).status()
    assert status["code"] == 422
    assert status["message"] == (
        'Deployment.apps "x" is invalid: [spec.a: Required value, spec.b: Invalid value: 1: no]'
    )
    assert status["details"]["causes"][0] == {
        "reason": "FieldValueRequired",
        "message": "Required value",
        "field": "spec.a",
    }


@pytest.mark.parametrize(
    ("error", "code", "reason", "text"),
    [
        (errors.not_found(PODS, "x"), 404, "NotFound", 'pods "x" not found'),
        (errors.already_exists(DEPLOYMENTS, "x"), 409, "AlreadyExists", 'deployments.apps "x" already exists'),
        (errors.forbidden(PODS, "", "no"), 403, "Forbidden", "pods is forbidden: no"),
        (errors.expired(), 410, "Expired", "The resourceVersion for the provided watch is too old."),
        (errors.too_large(5), 413, "RequestEntityTooLarge", "Request entity too large: limit is 5"),
        (errors.internal("x"), 500, "InternalError", "Internal error occurred: x"),
    ],
)
def test_statuses_read_as_upstreams(error, code, reason, text):
    assert (error.code, error.reason, error.message) == (code, reason, text)
    again = ApiError.from_status(error.status())
    assert again.status() == error.status()


@given(st.integers(0, 7 * 10**15))
def test_times_survive_the_wire(micros):
    when = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)
    assert parse_time(format_time(when)) == when.replace(microsecond=0)
    assert parse_time(format_micro(when)) == when


def test_times_with_offsets():
    assert format_time(parse_time("2026-01-01T02:00:00+02:00")) == "2026-01-01T00:00:00Z"
    with pytest.raises(ValueError, match="not an RFC 3339 time"):
        parse_time("yesterday")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (10800, "3h"),
        (11700, "3h15m"),
        (86400, "24h"),
    ],
)
def test_ages_as_kubectl_shows_them(seconds, text):
    assert human_duration(timedelta(seconds=seconds)) == text


def test_old_ages():
    assert human_duration(timedelta(days=3)) == "3d"
    assert human_duration(timedelta(days=3, hours=5)) == "3d5h"
    assert human_duration(timedelta(days=20, hours=5)) == "20d"
    assert human_duration(timedelta(days=800)) == "2y70d"
