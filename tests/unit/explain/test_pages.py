"""What the agent's pages take from whoever may read this node, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from agents.explain import TracePages, pages


@pytest.mark.parametrize(
    ("ip", "protocol"),
    [
        ("10.96.0.1", "tcp . 80 }; flush ruleset; #"),
        ("10.96.0.1", "ICMP"),
        ("10.96.0.1", ""),
        ("fe80::1% }; flush ruleset; #", "TCP"),
    ],
)
async def test_nothing_but_an_address_and_a_protocol_becomes_part_of_a_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ip: str, protocol: str
) -> None:
    commands: list[tuple[str, ...]] = []

    async def nft(*argv: str) -> str:
        commands.append(argv)
        return ""

    monkeypatch.setattr(pages, "_nft", nft)
    proxy: Any = SimpleNamespace(backend=SimpleNamespace(name="nftables"))
    trace = TracePages(cast(Any, None), root=tmp_path, proxy=proxy)
    request = make_mocked_request("GET", "/")
    query = {"ip": ip, "port": "80", "protocol": protocol}
    with pytest.raises(web.HTTPException) as refused:
        await trace.service(cast(Any, SimpleNamespace(query=query, match_info=request.match_info)))
    assert refused.value.status == 400
    assert not commands
