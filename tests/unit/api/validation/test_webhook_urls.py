"""URLs of webhooks that are none."""

from __future__ import annotations

import pytest

from orca.api.errors import FieldError
from orca.api.validation.admissionregistration import client_config


def problems(url: str) -> list[FieldError]:
    found: list[FieldError] = []
    client_config({"url": url}, "clientConfig", found)
    return found


@pytest.mark.parametrize("url", ["http://[::1", "https://[::1]:port/x", "https://host:99999999/"])
def test_what_cannot_be_read_is_told(url: str) -> None:
    [problem] = problems(url)
    assert problem.field == "clientConfig.url"
    assert "url must be a valid URL" in str(problem)


def test_what_can_be_read_is_judged() -> None:
    assert not problems("https://[::1]:8443/validate")
    assert "https" in str(problems("http://host/")[0])
