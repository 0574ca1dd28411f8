"""``/livez`` and ``/readyz``: what they list, what may be left out, and when the start is done."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from orca.api.errors import ApiError
from orca.client.clock import VirtualClock
from orca.server import poststart
from orca.server.health import Health


async def fine() -> None:
    pass


async def broken() -> None:
    raise OSError("no disk")


async def asked(health: Health, path: str, query: Mapping[str, str] | None = None) -> tuple[int, str]:
    response = await health.respond(path, query or {})
    return response.status, response.text or ""


def of_a_start() -> Health:
    health = Health()
    health.add("etcd", fine)
    health.add("informer-sync", fine, ready_only=True)
    health.expect(("poststarthook/one", "poststarthook/two"))
    health.add("shutdown", health.not_stopping, ready_only=True)
    return health


async def test_a_start_that_is_not_done_is_no_ok() -> None:
    health = of_a_start()
    health.finish("poststarthook/one")
    with capture_logs() as told:
        status, text = await asked(health, "/readyz")
    assert status == 500
    assert text == (
        "[+]ping ok\n[+]etcd ok\n[+]informer-sync ok\n[+]poststarthook/one ok\n"
        "[-]poststarthook/two failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n"
    )
    assert [one["log_level"] for one in told] == ["debug"]
    health.finish("poststarthook/two")
    assert await asked(health, "/readyz") == (200, "ok")
    assert (await asked(health, "/livez", {"verbose": ""}))[1] == (
        "[+]ping ok\n[+]etcd ok\n[+]poststarthook/one ok\n[+]poststarthook/two ok\nlivez check passed\n"
    )


async def test_a_start_that_takes_too_long_is_told_of() -> None:
    clock = VirtualClock()
    health = Health(clock)
    health.expect(("autoregister-completion",))
    health.add("autoregister-completion", broken)  # as the server does it: what knows better takes the place
    for seconds, level in ((0, "debug"), (29, "debug"), (1, "warning"), (3600, "warning")):
        await clock.advance(seconds)
        with capture_logs() as told:
            assert (await asked(health, "/readyz"))[0] == 500
        assert [one["log_level"] for one in told] == [level]


async def test_one_alone_says_what_is_wrong() -> None:
    health = of_a_start()
    health.add("etcd", broken)
    assert await asked(health, "/livez/etcd") == (500, "internal server error: no disk\n")
    assert await asked(health, "/livez/poststarthook/one") == (500, "internal server error: not finished\n")
    assert await asked(health, "/livez/ping") == (200, "ok")
    with pytest.raises(ApiError):
        await asked(health, "/livez/shutdown")
    assert health.names("readyz") == [
        "ping", "etcd", "informer-sync", "poststarthook/one", "poststarthook/two", "shutdown",
    ]  # fmt: skip


def test_every_part_of_a_start_has_its_check() -> None:
    fair, counted = set(poststart.hooks(fair=True)), set(poststart.hooks(fair=False))
    done = {
        *poststart.LOADED,
        *poststart.CUSTOM_KINDS,
        *poststart.ADDRESSES,
        *poststart.INITIAL_OBJECTS,
        *poststart.SERVICE,
        *poststart.IDENTITY,
        *poststart.TOKENS,
        *poststart.AGGREGATED,
        poststart.DISCOVERED,
        poststart.REGISTERED,
    }
    assert fair == done | set(poststart.FAIRNESS)
    assert counted == done | set(poststart.COUNTS)
