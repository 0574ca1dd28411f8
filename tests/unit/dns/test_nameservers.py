"""Whom to ask: the host's file and the ConfigMap."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.dns.nameservers import Address, ResolvConf, Settings, SettingsInvalid, parse_address


def test_resolv_conf_is_read_again_and_never_names_ourselves(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    conf = ResolvConf(path, own=["10.96.0.10"])
    assert conf.servers() == ()
    path.write_text("nameserver 192.0.2.1\nnameserver 10.96.0.10\n# nameserver 192.0.2.9\noptions ndots:5\n")
    assert conf.servers() == (Address("192.0.2.1"),)
    path.unlink()
    path.write_text("nameserver 192.0.2.2\nnameserver 192.0.2.2\n")
    assert conf.servers() == (Address("192.0.2.2"),)
    path.unlink()
    assert conf.servers() == ()


def test_the_file_is_looked_at_once_a_second(tmp_path: Path) -> None:
    path, now = tmp_path / "resolv.conf", [0.0]
    conf = ResolvConf(path, now=lambda: now[0])
    assert conf.servers() == ()
    path.write_text("nameserver 192.0.2.1\n")
    now[0] = 0.9
    assert conf.servers() == ()
    now[0] = 1.0
    assert conf.servers() == (Address("192.0.2.1"),)


def test_stub_domains_and_upstream_of_the_configmap() -> None:
    settings = Settings.parse(
        {
            "stubDomains": '{"Corp.Example.": ["192.0.2.53", "192.0.2.54:5353"], "a.corp.example": ["fd00::1"]}',
            "upstreamNameservers": '["192.0.2.1", "[fd00::2]:54"]',
        }
    )
    assert settings.upstream == (Address("192.0.2.1"), Address("fd00::2", 54))
    assert settings.stub_of("x.corp.example") == (Address("192.0.2.53"), Address("192.0.2.54", 5353))
    assert settings.stub_of("corp.example") == settings.stub_of("x.corp.example")
    assert settings.stub_of("x.a.corp.example") == (Address("fd00::1"),)
    assert settings.stub_of("notcorp.example") == ()
    assert Settings.parse({}) == Settings()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"stubDomains": "{"}, "stubDomains: not JSON"),
        ({"stubDomains": "[]"}, "must be a JSON object"),
        ({"upstreamNameservers": "{}"}, "must be a JSON array"),
        ({"stubDomains": '{"a": []}'}, "needs a list of addresses"),
        ({"stubDomains": '{"a": ["ns.example"]}'}, "is not an address"),
        ({"upstreamNameservers": '["192.0.2.1:99999"]'}, "is not an address"),
        ({"upstreamNameservers": '["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]'}, "at most 3"),
        ({"upstreamNameservers": '["10.96.0.10"]'}, "is the cluster's DNS itself"),
    ],
)
def test_settings_that_cannot_be_used(data: dict[str, str], why: str) -> None:
    with pytest.raises(SettingsInvalid, match=why):
        Settings.parse(data, own=["10.96.0.10"])


def test_addresses_say_their_port() -> None:
    assert [str(parse_address(text)) for text in ("192.0.2.1", "fd00::1")] == ["192.0.2.1:53", "[fd00::1]:53"]
