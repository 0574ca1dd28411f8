"""The process itself: what was acknowledged survives kill -9 of server and of etcd."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.server.api import Api
from tests.api.server.process import ServerProcess
from tests.support.patience import PATIENCE


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path, "--no-controllers")
    process.start()
    yield process
    if process.process is not None:
        process.stop()


def etcd_of(process: ServerProcess) -> int:
    assert process.process is not None
    children = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "etcd")


def gone(pid: int) -> bool:
    """Ended; whoever adopts orphans here may take a while to bury them."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


async def test_killed_server_loses_nothing(own: ServerProcess) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    kept: list[str] = []

    async def write(api: Api) -> None:
        for number in range(10_000):
            name = f"c{number}"
            answer = await api.post(path, {"metadata": {"name": name}})
            if answer.status == 201:
                kept.append(name)

    async with Api(own.kubeconfig) as api:
        writing = asyncio.create_task(write(api))
        async with asyncio.timeout(PATIENCE):
            while len(kept) < 50:  # noqa: ASYNC110 - what it waits for is another process
                await asyncio.sleep(0.02)
        etcd = etcd_of(own)
        own.kill()
        with pytest.raises(Exception):  # noqa: B017 - whatever a broken connection is called
            await writing
    await asyncio.to_thread(own.start)
    assert gone(etcd)
    async with Api(own.kubeconfig) as api:
        found = {item["metadata"]["name"] for item in (await api.get(path)).json["items"]}
    assert kept
    assert set(kept) <= found


async def test_killed_etcd_comes_back(own: ServerProcess) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    async with Api(own.kubeconfig) as api:
        assert (await api.post(path, {"metadata": {"name": "before"}})).status == 201
        os.kill(etcd_of(own), signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while (await api.post(path, {"metadata": {"name": "after"}})).status not in (201, 409):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        found = {item["metadata"]["name"] for item in (await api.get(path)).json["items"]}
        assert {"before", "after"} <= found


async def test_a_watch_resumes_over_a_restart(own: ServerProcess) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    async with Api(own.kubeconfig) as api:
        await api.post(path, {"metadata": {"name": "one"}})
        since = (await api.get(path)).json["metadata"]["resourceVersion"]
        await api.post(path, {"metadata": {"name": "two"}})
    own.kill()
    await asyncio.to_thread(own.start)
    async with Api(own.kubeconfig) as api:
        await api.post(path, {"metadata": {"name": "three"}})
        seen = await api.events(f"{path}?watch=1&resourceVersion={since}", 2)
        assert [event["object"]["metadata"]["name"] for event in seen] == ["two", "three"]


async def test_sigterm_ends_watches_and_leaves_nothing(own: ServerProcess) -> None:
    async with Api(own.kubeconfig) as api:
        begun = asyncio.Event()
        watching = asyncio.create_task(api.events("/api/v1/secrets?watch=1", 10_000, begun=begun))
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
        etcd = etcd_of(own)
        assert await asyncio.to_thread(own.stop) == 0
        await asyncio.wait([watching], timeout=PATIENCE)
        assert watching.done()
        watching.cancelled() or watching.exception()
    assert gone(etcd)


def test_a_second_server_on_one_directory_is_refused(own: ServerProcess) -> None:
    second = ServerProcess(own.directory)
    done = subprocess.run(second.command(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "another orca server runs on" in done.stderr


async def test_the_kubernetes_service_comes_back(own: ServerProcess) -> None:
    path = "/api/v1/namespaces/default/services/kubernetes"
    async with Api(own.kubeconfig) as api:
        before = (await api.get(path)).json
        assert (await api.delete(path)).status == 200
        async with asyncio.timeout(PATIENCE):
            while (found := await api.get(path)).status != 200:
                assert found.failure[:2] == (404, "NotFound")
                await asyncio.sleep(0.2)
    assert found.json["metadata"]["uid"] != before["metadata"]["uid"]
    assert found.json["spec"]["clusterIP"] == before["spec"]["clusterIP"]
