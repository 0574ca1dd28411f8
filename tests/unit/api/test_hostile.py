"""Values whose size or form would cost more than they are worth."""

import pytest

from orca.api.builtin import CONFIGMAPS, LEASES
from orca.api.errors import ApiError
from orca.api.patching.json_patch import json_patch
from orca.api.quantity import canonical
from orca.api.schema import decode

LARGEST = str((1 << 63) - 1)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1e999999999", LARGEST),
        ("-1e999999999", "-" + LARGEST),
        ("1e-999999999", "1e-9"),
        ("9" * 400, LARGEST),
        ("0." + "0" * 300 + "1", "1n"),
        ("100Ei", LARGEST),
        ("0e999999999", "0"),
    ],
)
def test_quantities_are_bounded(text: str, written: str) -> None:
    assert canonical(text) == written


@pytest.mark.parametrize(
    "text", ["2026-11-21T13:04:09Z", "2026-11-21T13:04:09+00:00", "2026-11-21T14:04:09.5+01:00", "2026-11-21t13:04:09z"]
)
def test_times_have_one_form(text: str) -> None:
    body = {"metadata": {"name": "x", "creationTimestamp": text}}
    found, _ = decode(CONFIGMAPS, body, refuse_unknown=True)
    assert found["metadata"]["creationTimestamp"] == "2026-11-21T13:04:09Z"
    lease, _ = decode(LEASES, {"spec": {"renewTime": "2026-11-21T13:04:09Z"}}, refuse_unknown=True)
    assert lease["spec"]["renewTime"] == "2026-11-21T13:04:09.000000Z"


def test_days_that_are_none() -> None:
    for text in ("2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-04-31T00:00:00Z"):
        with pytest.raises(ApiError) as caught:
            decode(CONFIGMAPS, {"metadata": {"creationTimestamp": text}}, refuse_unknown=True)
        assert caught.value.code == 400


def test_copies_are_counted() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": f"/a/b{n}"} for n in range(40)]
    with pytest.raises(ApiError) as caught:
        json_patch({"a": {"x": "y" * 1000}}, doubling)
    assert caught.value.code == 422
    assert len(json_patch({"a": {"x": "y"}}, doubling[:3])["a"]) == 4
