"""Certificates are made once, renewed when they must be, and readable by their owner only."""

import stat
from datetime import timedelta

import pytest
from cryptography import x509

from orca.auth.kubeconfig import write_kubeconfig
from orca.auth.pki import ensure_pki, spki_hash
from orca.cli.token import parse_duration
from tests.unit.auth.fakes import FixedClock


@pytest.fixture
def clock():
    return FixedClock()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_repeating_changes_nothing(tmp_path, clock):
    ensure_pki(tmp_path, ["10.96.0.1"], clock=clock)
    before = contents(tmp_path)
    ensure_pki(tmp_path, ["10.96.0.1"], clock=clock)
    assert contents(tmp_path) == before


def test_keys_are_private(tmp_path, clock):
    ensure_pki(tmp_path, [], clock=clock)
    for path in tmp_path.glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_address_needs_a_new_serving_certificate_only(tmp_path, clock):
    ensure_pki(tmp_path, ["10.96.0.1"], clock=clock)
    before = contents(tmp_path)
    paths = ensure_pki(tmp_path, ["10.96.0.1", "host-0", "172.30.0.10"], clock=clock)
    changed = {name for name, content in contents(tmp_path).items() if before[name] != content}
    assert changed == {"apiserver.crt", "apiserver.key"}
    certificate = x509.load_pem_x509_certificate(paths.apiserver.cert.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "host-0" in names.get_values_for_type(x509.DNSName)
    assert "kubernetes.default.svc.cluster.local" in names.get_values_for_type(x509.DNSName)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(paths.ca.cert.read_bytes()))


def test_renewal_before_the_end_keeps_the_ca(tmp_path, clock):
    ensure_pki(tmp_path, [], clock=clock)
    before = contents(tmp_path)
    clock.time += timedelta(days=310)
    ensure_pki(tmp_path, [], clock=clock)
    after = contents(tmp_path)
    assert after["ca.crt"] == before["ca.crt"]
    assert after["sa.key"] == before["sa.key"]
    assert after["admin.crt"] != before["admin.crt"]


def test_a_broken_file_is_replaced(tmp_path, clock):
    paths = ensure_pki(tmp_path, [], clock=clock)
    paths.admin.cert.write_bytes(b"half a certif")
    ensure_pki(tmp_path, [], clock=clock)
    x509.load_pem_x509_certificate(paths.admin.cert.read_bytes())


def test_the_ca_hash_survives_a_new_file_of_the_same_key(tmp_path, clock):
    paths = ensure_pki(tmp_path, [], clock=clock)
    found = spki_hash(paths.ca.cert.read_bytes())
    assert len(found) == 64
    assert found == spki_hash(paths.ca.cert.read_bytes())


def test_kubeconfigs_are_private_and_rewritten_only_when_needed(tmp_path, clock):
    paths = ensure_pki(tmp_path / "pki", [], clock=clock)
    target = tmp_path / "etc" / "kubeconfig"
    facts = {"server": "https://a:6443", "ca": paths.ca.cert.read_bytes(), "pair": paths.admin, "user": "admin"}
    assert write_kubeconfig(target, **facts)
    assert not write_kubeconfig(target, **facts)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86400), ("1h30m", 5400), ("7d", 604800), ("90s", 90), ("0", None)]
)
def test_durations(text, seconds):
    found = parse_duration(text)
    assert found == (timedelta(seconds=seconds) if seconds else None)


@pytest.mark.parametrize("text", ["", "1", "h", "1x", "1h x"])
def test_unreadable_durations(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)
