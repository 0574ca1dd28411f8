"""What an access review asks the authorizers."""

from __future__ import annotations

import pytest

from orca.api.objects import Obj
from orca.api.selectors import EVERYTHING, parse_label_selector
from orca.server.reviews import _action


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"rawSelector": "a=b,c"}, "a=b,c"),
        (
            {"requirements": [{"key": "a", "operator": "In", "values": ["b"]}, {"key": "c", "operator": "Exists"}]},
            "a=b,c",
        ),
        ({"requirements": [{"key": "a", "operator": "In", "values": ["b"]}, {"key": "c", "operator": "Near"}]}, "a=b"),
        ({"rawSelector": "a=(,"}, ""),
        (None, ""),
    ],
)
def test_a_label_selector_narrows_what_is_asked(asked: Obj | None, text: str) -> None:
    attributes: Obj = {"verb": "list", "resource": "persistentvolumes"}
    if asked is not None:
        attributes["labelSelector"] = asked
    found = _action({"resourceAttributes": attributes}).labels
    assert found == (parse_label_selector(text) if text else EVERYTHING)
