"""Protocol buffers and header blocks by hand: against the specifications' examples and against each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca.store import hpack
from orca.store.wire import blob, fields, number, varint


def test_examples_of_the_encoding_guide() -> None:
    assert varint(150) == b"\x96\x01"
    assert number(1, 150) == b"\x08\x96\x01"
    assert blob(2, b"testing") == b"\x12\x07testing"


@given(st.lists(st.tuples(st.integers(1, 15), st.integers(0, 2**63 - 1) | st.binary(max_size=300))))
def test_what_is_written_is_read(wanted: list[tuple[int, int | bytes]]) -> None:
    raw = b"".join(number(field, value) if isinstance(value, int) else blob(field, value) for field, value in wanted)
    assert list(fields(raw)) == wanted


def test_fixed_fields_are_passed_over() -> None:
    assert list(fields(b"\x09" + bytes(8) + b"\x15" + bytes(4) + b"\x18\x05")) == [(1, bytes(8)), (2, bytes(4)), (3, 5)]


@pytest.mark.parametrize("raw", [b"\x08", b"\x0a\x05ab", b"\x0b", b"\x08" + b"\xff" * 11])
def test_broken_messages_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):
        list(fields(raw))


def test_packed_strings_of_rfc_7541() -> None:
    # C.4.1: ":authority: www.example.com" packed, and C.6.1's status 302.
    assert hpack.decode(bytes.fromhex("418cf1e3c2e5f23a6ba0ab90f4ff")) == {"": "www.example.com"}
    assert hpack.decode(bytes.fromhex("4882 6402".replace(" ", ""))) == {":status": "302"}


def test_an_answer_and_its_trailer_as_go_writes_them() -> None:
    block = bytes.fromhex("20 88 5f 8b 1d75d0620d263d4c4d6564")  # size update, :status 200, packed content type
    assert hpack.decode(block) == {":status": "200", "content-type": "application/grpc"}
    assert hpack.decode(b"\x40\x0bgrpc-status\x015") == {"grpc-status": "5"}


@pytest.mark.parametrize("block", [b"\x40\x0bgrpc", b"\x7f\xff\xff\xff\xff\xff\xff", b"\x00"])
def test_broken_blocks_are_refused(block: bytes) -> None:
    with pytest.raises(ValueError):
        hpack.decode(block)
