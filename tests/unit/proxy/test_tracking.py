"""How long the kernel remembers connections."""

from pathlib import Path

from agents.proxy.tracking import keep_connections


def _host(root: Path, **settings: int) -> Path:
    root.mkdir()
    for name, value in settings.items():
        (root / name).write_text(f"{value}\n")
    return root


def _read(path: Path) -> int:
    return int(path.read_text())


def test_times_and_number(tmp_path: Path) -> None:
    established, close_wait = "nf_conntrack_tcp_timeout_established", "nf_conntrack_tcp_timeout_close_wait"
    host = _host(tmp_path / "host", **{established: 432000, close_wait: 60, "nf_conntrack_max": 65536})
    buckets = tmp_path / "hashsize"
    buckets.write_text("16384\n")
    keep_connections(host, buckets, cores=2)
    assert (_read(host / established), _read(host / close_wait)) == (86400, 3600)
    assert (_read(host / "nf_conntrack_max"), _read(buckets)) == (131072, 32768)
    keep_connections(host, buckets, cores=16)
    assert (_read(host / "nf_conntrack_max"), _read(buckets)) == (524288, 131072)
    keep_connections(host, buckets, cores=1)
    assert (_read(host / "nf_conntrack_max"), _read(buckets)) == (524288, 131072), "never lowered"


def test_a_host_without_connection_tracking(tmp_path: Path) -> None:
    keep_connections(tmp_path / "none", tmp_path / "hashsize", cores=2)
    assert list(tmp_path.iterdir()) == []
