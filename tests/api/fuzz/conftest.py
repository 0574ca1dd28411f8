"""A server of its own for fuzzing, whose health is checked when it has been through it all."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator

import pytest

from tests.api.server.process import ServerProcess

TOKEN = "fuzz-token"
SOAK_SECONDS = max(int(float(os.environ.get("ORCA_SOAK_MINUTES", 10)) * 60), 60)
"""How long each fuzzer runs when there is time (``scripts/test soak``); reading the schemas alone takes seconds."""
WARM_UP_SECONDS = max(SOAK_SECONDS // 5, 25)
"""After that the server's memory is measured for the first time."""


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Without controllers; ``TOKEN`` may do everything."""
    directory = tmp_path_factory.mktemp("fuzzed")
    tokens = directory / "tokens.csv"
    tokens.write_text(f'{TOKEN},fuzzer,1,"system:masters"\n')
    process = ServerProcess(directory, "--no-controllers", f"--token-auth-file={tokens}")
    process.start()
    yield process
    assert process.process is not None
    assert process.process.poll() is None, process.log.read_text()[-3000:]
    process.stop()


@pytest.fixture
def healthy(server: ServerProcess) -> Iterator[ServerProcess]:
    """The server; afterwards nothing in its log may tell of something nobody thought of."""
    begin = server.log.stat().st_size
    yield server
    said = server.log.read_bytes()[begin:].decode(errors="replace")
    broken = re.search(r"Traceback.*", said, re.DOTALL)
    assert broken is None, f"the server's log:\n{broken and broken[0][:4000]}"


def seed() -> int:
    """Another one each time, which a failure names; ``ORCA_FUZZ_SEED`` repeats it."""
    return int(os.environ.get("ORCA_FUZZ_SEED", 0)) or random.randrange(1, 1 << 30)
