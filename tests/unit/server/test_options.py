"""Query parameters and option bodies."""

from __future__ import annotations

import pytest

from orca.api.errors import ApiError
from orca.server.options import DeleteOptions, ListOptions, WriteOptions, flag
from orca.server.request import parse_query


def test_list_options() -> None:
    options = ListOptions.from_query(parse_query("labelSelector=a%3Db&limit=5&watch=1&allowWatchBookmarks=true"))
    assert (options.labels, options.limit, options.watch, options.bookmarks) == ("a=b", 5, True, True)


@pytest.mark.parametrize(
    "text",
    [
        "resourceVersionMatch=Exact",
        "resourceVersion=5&resourceVersionMatch=Sometimes",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "watch=1&resourceVersion=5&resourceVersionMatch=Exact",
        "watch=1&sendInitialEvents=true",
        "sendInitialEvents=true",
        "limit=few",
    ],
)
def test_contradictions_are_refused(text: str) -> None:
    with pytest.raises(ApiError):
        ListOptions.from_query(parse_query(text))


def test_write_options() -> None:
    options = WriteOptions.from_query(parse_query("dryRun=All&fieldValidation=Strict&fieldManager=me"), "CreateOptions")
    assert (options.dry_run, options.field_validation, options.field_manager) == (True, "Strict", "me")
    assert options.to_api("CreateOptions")["fieldValidation"] == "Strict"
    unsaid = WriteOptions.from_query(parse_query("fieldManager=me"), "CreateOptions").to_api("CreateOptions")
    assert unsaid == {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"}
    for text in ("dryRun=Some", "fieldValidation=Maybe", f"fieldManager={'x' * 129}"):
        with pytest.raises(ApiError):
            WriteOptions.from_query(parse_query(text), "CreateOptions")


def test_delete_options() -> None:
    body = {"kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "dryRun": ["All"]}
    options = DeleteOptions.from_body(body)
    assert (options.grace_seconds, options.uid, options.dry_run) == (0, "u", True)
    for wrong in (
        {"kind": "Pod"},
        {"propagationPolicy": "Sideways"},
        {"propagationPolicy": "Orphan", "orphanDependents": True},
        {"gracePeriodSeconds": "soon"},
        {"preconditions": []},
    ):
        with pytest.raises(ApiError):
            DeleteOptions.from_body(wrong)


def test_a_list_goes_on_in_the_state_it_began_in() -> None:
    assert ListOptions.from_query({"continue": "c", "resourceVersion": "0"}).continue_ == "c"
    with pytest.raises(ApiError) as refused:
        ListOptions.from_query({"continue": "c", "resourceVersion": "7"})
    assert (refused.value.code, refused.value.message) == (
        400,
        "specifying resource version is not allowed when using continue",
    )


@pytest.mark.parametrize("query", ["watch", "watch=", "watch=1", "watch=true", "watch=yes", "watch=no"])
def test_whatever_else_is_said_is_true(query: str) -> None:
    assert flag(parse_query(query), "watch")


@pytest.mark.parametrize("query", ["", "watch=0", "watch=false", "watch=FALSE"])
def test_0_and_false_are_false(query: str) -> None:
    assert not flag(parse_query(query), "watch")
