"""Addresses of pods when the disk, or what is on it, is bad."""

from pathlib import Path

from structlog.testing import capture_logs

from agents.network.addresses import Allocator, HostPort, Lease, LeaseFile, render
from agents.network.pods import PodNetwork


def test_what_the_kernel_has_comes_before_the_file() -> None:
    port = HostPort(80, 8080)
    allocator = Allocator.over(
        ["10.1.0.0/24"],
        {"a": Lease(("10.1.0.9",), "a", (port,)), "b": Lease(("10.1.0.5",), "b"), "c": Lease(("10.1.0.7",), "c")},
    )
    allocator.adopt("a", Lease(("10.1.0.5",), "a"))
    allocator.adopt("d", Lease(("10.1.0.8",), "d"))
    assert allocator.leases == {
        "a": Lease(("10.1.0.5",), "a", (port,)),
        "c": Lease(("10.1.0.7",), "c"),
        "d": Lease(("10.1.0.8",), "d"),
    }


def test_a_full_disk_is_told_once_and_the_rest_is_written_when_there_is_room(tmp_path: Path) -> None:
    network = PodNetwork(tmp_path, "n", cluster_cidr="10.0.0.0/8", service_cidr="10.96.0.0/16")
    allocator = Allocator.over(["10.1.0.0/24"])
    (tmp_path / "network").touch()  # no directory can be made
    with capture_logs() as said:
        for uid in ("a", "b"):
            allocator.allocate(uid)
            network._save(render(allocator))
    assert [entry["event"] for entry in said] == ["addresses of pods cannot be written"]
    (tmp_path / "network").unlink()
    network._save(render(allocator))
    assert LeaseFile(tmp_path / "network" / "addresses.json").read()[0] == allocator.leases
