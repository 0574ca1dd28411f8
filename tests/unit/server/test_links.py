"""Links of pages that are fetched through a proxy."""

from __future__ import annotations

import gzip
import zlib

import pytest

from orca.server.links import PAGE_LIMIT, Links, rewritten
from tests.support.growth import grows_with_its_size

PREFIX = "/api/v1/namespaces/n/pods/http:web:80/proxy"
LINKS = Links(PREFIX, "10.244.1.5:80", "127.0.0.1:8001")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/rewriteme", f"{PREFIX}/rewriteme"),
        ("/", f"{PREFIX}/"),
        ("/a/../b/?q=/x#f", f"{PREFIX}/b/?q=/x#f"),
        ("http://10.244.1.5:80/a", f"{PREFIX}/a"),
        ("http://127.0.0.1:8001/a", f"http://127.0.0.1:8001{PREFIX}/a"),
        (f"{PREFIX}/a", f"{PREFIX}/a"),
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("relative/page", "relative/page"),
        ("#here", "#here"),
        ("?q=1", "?q=1"),
        ("", ""),
        ("http://elsewhere/a", "http://elsewhere/a"),
        ("//elsewhere/a", "//elsewhere/a"),
        ("mailto:a@b", "mailto:a@b"),
        ("javascript:/x/.test(y)", "javascript:/x/.test(y)"),
        ("http://[::1", "http://[::1"),
    ],
)
def test_urls(before: str, after: str) -> None:
    assert LINKS.url(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<a href="/x">test</a>', f'<a href="{PREFIX}/x">test</a>'),
        ("<A  HREF = '/x' class=b>", f"<A  HREF = '{PREFIX}/x' class=b>"),
        ("<a href=/x>", f"<a href={PREFIX}/x>"),
        ("<img alt=\"a>b\" src='/i.png'/>", f"<img alt=\"a>b\" src='{PREFIX}/i.png'/>"),
        ('<a href="/x?a=1&amp;b=2">', f'<a href="{PREFIX}/x?a=1&amp;b=2">'),
        ("<p title=it's><a href=/x>", f"<p title=it's><a href={PREFIX}/x>"),
        ('<p href="/x">', '<p href="/x">'),
        ('<!-- <a href="/x"> --><link rel=s href="/c">', f'<!-- <a href="/x"> --><link rel=s href="{PREFIX}/c">'),
        (
            "<script src='/s'>if (a<b) t('<a href=\"/x\">')</SCRIPT ><a href='/y'>",
            f"<script src='{PREFIX}/s'>if (a<b) t('<a href=\"/x\">')</SCRIPT ><a href='{PREFIX}/y'>",
        ),
        ('1 < 2 <a disabled href="/x">', f'1 < 2 <a disabled href="{PREFIX}/x">'),
        ('<a href="/x', '<a href="/x'),
        ('<a href="/x"><a href="/y', f'<a href="{PREFIX}/x"><a href="/y'),
        ("<!-- <a href=/x>", "<!-- <a href=/x>"),
        ('<video poster="/p" src="/v">', f'<video poster="{PREFIX}/p" src="{PREFIX}/v">'),
    ],
)
def test_pages(before: str, after: str) -> None:
    assert LINKS.page(before.encode()).decode() == after


def test_bytes_of_any_charset_stay() -> None:
    page = b"\xff\xfe<a href='/\xe4'>\xc3\xa4</a>"
    assert LINKS.page(page) == page.replace(b"'/", b"'" + PREFIX.encode() + b"/")


def test_packed_pages_stay_packed() -> None:
    page, wanted = b"<a href=/x>", f"<a href={PREFIX}/x>".encode()
    packed = rewritten(LINKS, gzip.compress(page), "gzip")
    assert packed is not None
    assert gzip.decompress(packed) == wanted
    for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        packer = zlib.compressobj(wbits=bits)
        packed = rewritten(LINKS, packer.compress(page) + packer.flush(), "deflate")
        assert packed is not None
        assert zlib.decompress(packed, bits) == wanted


def test_what_cannot_be_read_or_is_too_large_is_left() -> None:
    assert rewritten(LINKS, b"<a href=/x>", "br") is None
    assert rewritten(LINKS, b"no gzip", "gzip") is None
    assert rewritten(LINKS, gzip.compress(b"<a href=/x>")[:-4], "gzip") is None
    assert rewritten(LINKS, gzip.compress(b" " * (PAGE_LIMIT + 1)), "gzip") is None
    assert rewritten(LINKS, b" " * (PAGE_LIMIT + 1), "") is None


@pytest.mark.parametrize(
    "piece", [b'<a "', b"<a href='", b"<a ", b"<", b"<!--", b"<script>", b"</", b"<a x=", b"<a / "]
)
def test_hostile_pages_take_no_longer_than_long_ones(piece: bytes) -> None:
    assert grows_with_its_size(lambda size: LINKS.page(piece * (size // len(piece))), 125_000)
