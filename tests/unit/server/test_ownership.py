"""Owner references on their way through the verbs."""

from __future__ import annotations

from typing import Any

from orca.auth import UserInfo
from orca.server.verbs import ownership
from orca.server.verbs.core import Call


def reference(number: int, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": str(number)} | more


def single(*references: Any) -> tuple[list[Any], list[str]]:
    """What is kept, and the warnings."""
    call = Call(UserInfo("me"))
    obj: dict[str, Any] = {"metadata": {"name": "a", "ownerReferences": list(references)}}
    ownership.single_owners(call, obj)
    return obj["metadata"]["ownerReferences"], call.options.warnings


def test_owners_that_say_the_same_are_kept_once() -> None:
    one, other, controlling = reference(1), reference(2), reference(1, controller=True)
    turned = dict(reversed(one.items()))
    kept, warnings = single(one, other, controlling, turned, other)
    assert kept == [one, other, controlling]
    assert len(warnings) == 1
    assert warnings[0].endswith("duplicate UID(s) observed: 1, 2")
    assert single(one, other) == ([one, other], [])


def test_many_owners_are_not_compared_one_with_the_other() -> None:
    compared = 0

    class Counting(dict[str, Any]):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return super().__eq__(other)

    kept, warnings = single(*(Counting(reference(number)) for number in range(500)))
    assert (len(kept), warnings) == (500, [])
    assert compared <= 500
