"""What a server tells of itself at /statusz and /flagz."""

from __future__ import annotations

import click
import orjson
import pytest
from aiohttp import web
from click.testing import CliRunner

from orca.api.errors import ApiError
from orca.cli.authentication import Authentication, authentication_options
from orca.cli.flags import Duration, Recalled, flags_in_force
from orca.client.clock import VirtualClock
from orca.server.zpages import ZPages

STATUSZ = "application/json;v=v1beta1;g=config.k8s.io;as=Statusz"
FLAGZ = "application/json;v=v1beta1;g=config.k8s.io;as=Flagz"


async def answer(path: str, accept: str) -> web.Response:
    clock = VirtualClock()
    pages = ZPages({"v": "2", "advertise-address": "10.0.0.1"}, ["/healthz", "/livez"], clock)
    await clock.advance(3723)
    found = pages.respond(path, accept)
    assert found is not None
    return found


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "application/json, */*"])
async def test_text_for_people(accept: str) -> None:
    lines = ((await answer("/statusz", accept)).text or "").splitlines()
    assert lines[1] == "kube-apiserver statusz"
    assert lines[2].startswith("Warning: This endpoint is not meant to be machine parseable")
    assert lines[4:6] == ["Started: Thu Jan  1 00:00:00 UTC 2026", "Up: 1 hr 02 min 03 sec"]
    assert lines[-1] == "Paths: /healthz /livez"
    lines = ((await answer("/flagz", accept)).text or "").splitlines()
    assert lines[1] == "kube-apiserver flags"
    assert lines[-2:] == ["advertise-address=10.0.0.1", "v=2"]


async def test_objects_for_programs_that_name_them() -> None:
    status = orjson.loads((await answer("/statusz", STATUSZ)).body)
    assert status["kind"] == "Statusz"
    assert status["apiVersion"] == "config.k8s.io/v1beta1"
    assert status["metadata"] == {"name": "kube-apiserver"}
    assert (status["startTime"], status["uptimeSeconds"]) == ("2026-01-01T00:00:00Z", 3723)
    assert (status["emulationVersion"], status["minimumCompatibilityVersion"]) == ("1.36", "1.35")
    flags = orjson.loads((await answer("/flagz", f"{FLAGZ},text/plain;q=0.5")).body)
    assert flags["flags"] == {"v": "2", "advertise-address": "10.0.0.1"}


@pytest.mark.parametrize("accept", ["application/json", FLAGZ, STATUSZ.replace("v1beta1", "v1"), "image/png"])
async def test_whatever_else_is_asked_for_is_not_there(accept: str) -> None:
    with pytest.raises(ApiError) as caught:
        await answer("/statusz", accept)
    assert caught.value.code == 406


def test_flags_are_told_as_they_were_said() -> None:
    told: dict[str, str] = {}

    @click.command(cls=Recalled)
    @authentication_options
    @click.option("--grace", type=Duration(), default="40s")
    @click.option("--controllers/--no-controllers", default=True)
    @click.option("--reload", "reloads", is_flag=True)
    def command(**values: object) -> None:
        Authentication.taken_from(values, click.get_current_context())
        told.update(flags_in_force(click.get_current_context()))

    given = ["--no-controllers", "--grace=1m30s", "--api-audiences=a,b", "--api-audiences", "c"]
    assert CliRunner().invoke(command, given).exit_code == 0
    assert told["controllers"] == "false"
    assert told["grace"] == "1m30s"
    assert told["reload"] == "false"
    assert told["api-audiences"] == "[a,b,c]"
    assert (told["anonymous-auth"], told["token-auth-file"]) == ("true", "")
    assert "help" not in told
    assert CliRunner().invoke(command, ["--none"]).exit_code == 2
