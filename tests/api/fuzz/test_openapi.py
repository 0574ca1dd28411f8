"""Schemathesis over what the server itself says it serves: ``/openapi/v3`` of every group.

Every run takes the operations in another order, and gets as far as its time allows; the long run sees them all.
"""

from __future__ import annotations

import json
import random
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.api.fuzz.conftest import SOAK_SECONDS, TOKEN, WARM_UP_SECONDS, seed
from tests.api.security.authority import client_tls
from tests.api.server.process import ServerProcess

# What would stream until somebody hangs up, or be answered by a host.
_ENDLESS = frozenset({"watch", "allowWatchBookmarks", "sendInitialEvents", "follow", "timeoutSeconds"})
_CONNECTING = frozenset({"proxy", "exec", "attach", "portforward", "log"})
# What would make the server call somebody else.
_CALLING = ("webhookconfigurations", "apiservices")


def fetch(server: ServerProcess, path: str) -> Any:
    request = Request(f"https://127.0.0.1:{server.port}{path}", headers={"Authorization": f"Bearer {TOKEN}"})
    context: ssl.SSLContext = client_tls()
    with urlopen(request, context=context, timeout=120) as answer:
        return json.load(answer)


def whole(server: ServerProcess, order: random.Random) -> Any:
    """One document of all groups' documents, its paths shuffled."""
    documents = [fetch(server, found["serverRelativeURL"]) for found in fetch(server, "/openapi/v3")["paths"].values()]
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for document in documents:
        schemas |= document.get("components", {}).get("schemas", {})
        for path, item in document.get("paths", {}).items():
            if wanted(path):
                paths[path] = finite(item)
    assert len(paths) > 150
    names = sorted(paths)
    order.shuffle(names)
    return {
        "openapi": "3.0.0",
        "info": {"title": "orca", "version": "v1"},
        "paths": {name: paths[name] for name in names},
        "components": {"schemas": schemas},
    }


def wanted(path: str) -> bool:
    parts = path.strip("/").split("/")
    return not (_CONNECTING & set(parts) or "watch" in parts[:4] or any(word in path for word in _CALLING))


def finite(item: Any) -> Any:
    """Without the parameters that make an answer endless."""
    for holder in (item, *(operation for operation in item.values() if isinstance(operation, dict))):
        if "parameters" in holder:
            holder["parameters"] = [one for one in holder["parameters"] if one.get("name") not in _ENDLESS]
    return item


def run(server: ServerProcess, folder: Path, seconds: int) -> None:
    """Fails with what schemathesis prints when it finds an answer of 500 and above, or none at all."""
    number = seed()
    document = folder / "openapi.json"
    document.write_text(json.dumps(whole(server, random.Random(number))))
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run", str(document)),
        f"--url=https://127.0.0.1:{server.port}",
        "--tls-verify=false",
        f"--header=Authorization: Bearer {TOKEN}",
        "--checks=not_a_server_error",
        "--phases=coverage,fuzzing",
        f"--max-time={seconds}",
        f"--seed={number}",
        "--request-timeout=60",
        "--suppress-health-check=all",
        "--continue-on-failure",
        "--max-failures=10",
        "--warnings=off",
        "--generation-database=none",
        "--no-color",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds + 400, check=False)
    assert done.returncode == 0, f"seed {number}\n{done.stdout[-6000:]}\n{done.stderr[-1000:]}"
    if "Empty test suite" in done.stdout and seconds < SOAK_SECONDS:
        run(server, folder, seconds * 3)  # its time was over before it had read the schemas
    else:
        assert " passed" in done.stdout, done.stdout[-3000:]


def test_a_while(healthy: ServerProcess, tmp_path: Path) -> None:
    run(healthy, tmp_path, 20)


@pytest.mark.slow
@pytest.mark.timeout(SOAK_SECONDS + 600)
def test_soak(healthy: ServerProcess, tmp_path: Path) -> None:
    run(healthy, tmp_path, WARM_UP_SECONDS)
    settled = healthy.memory()
    run(healthy, tmp_path, SOAK_SECONDS - WARM_UP_SECONDS)
    grown = healthy.memory() - settled
    print(f"{grown / (1 << 20):.1f} MiB more")
    assert grown < 64 << 20, f"{grown >> 20} MiB"
