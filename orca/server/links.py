"""Links of what is fetched through ``…/proxy/``: those that lead to the server behind lead through the proxy again.

Pure. Reference: k8s.io/apimachinery ``util/proxy`` Transport, which rewrites the same attributes of the same elements.
What is no HTML that can be followed to its end stays as it came from there on, as text after an unclosed quote.
"""

from __future__ import annotations

import html
import posixpath
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

PAGE_LIMIT = 8 << 20
"""Bytes. Larger pages, packed or not, are passed on as they are: nobody fills the server's memory with one."""

_ATTRIBUTES = {
    b"a": {b"href"},
    b"applet": {b"codebase"},
    b"area": {b"href"},
    b"audio": {b"src"},
    b"base": {b"href"},
    b"blockquote": {b"cite"},
    b"body": {b"background"},
    b"button": {b"formaction"},
    b"command": {b"icon"},
    b"del": {b"cite"},
    b"embed": {b"src"},
    b"form": {b"action"},
    b"frame": {b"longdesc", b"src"},
    b"head": {b"profile"},
    b"html": {b"manifest"},
    b"iframe": {b"longdesc", b"src"},
    b"img": {b"longdesc", b"src", b"usemap"},
    b"input": {b"src", b"usemap", b"formaction"},
    b"ins": {b"cite"},
    b"link": {b"href"},
    b"object": {b"classid", b"codebase", b"data", b"usemap"},
    b"q": {b"cite"},
    b"script": {b"src"},
    b"source": {b"src"},
    b"video": {b"poster", b"src"},
}
_RAW_TEXT = {
    name: re.compile(rb"</" + name + rb"(?=[\s/>])", re.IGNORECASE)
    for name in (b"iframe", b"noembed", b"noframes", b"script", b"style", b"textarea", b"title", b"xmp")
}
"""Elements that hold no elements, with what ends them."""
_NAME = re.compile(rb"[a-zA-Z][^\s/>]*+")
_ATTRIBUTE = re.compile(
    rb"""[\s/]*+(?P<name>[^\s/>][^\s/>=]*+)(?:\s*+=\s*+(?:"(?P<double>[^"]*+)"|'(?P<single>[^']*+)'|(?P<bare>[^\s>"'][^\s>]*+)))?+"""
)
_TAG_END = re.compile(rb"[\s/]*+>")


@dataclass(frozen=True)
class Links:
    """``prefix`` is the path of the proxy without its last slash, ``backend`` the ``host:port`` behind it, ``host``
    the one that the client asked."""

    prefix: str
    backend: str
    host: str

    def url(self, text: str) -> str:
        """The URL as the client has to name it: another one only where it is absolute and of the server behind."""
        try:
            parts = urlsplit(text)
        except ValueError:
            return text
        if parts.scheme not in ("", "http", "https") or not parts.path.startswith("/"):
            return text
        if parts.netloc and parts.netloc not in (self.backend, self.host):
            return text
        path = parts.path
        if not path.startswith(self.prefix):
            path = posixpath.normpath(self.prefix + path) + ("/" if path.endswith("/") else "")
        kept = parts if parts.netloc == self.host else parts._replace(scheme="", netloc="")
        return urlunsplit(kept._replace(path=path))

    def page(self, raw: bytes) -> bytes:
        """An HTML page with its links so."""
        return _rewritten(raw, self.url)


def rewritten(links: Links, body: bytes, encoding: str) -> bytes | None:
    """A page as it is sent, with its links changed; None when it cannot be read or is too large."""
    if encoding not in ("", "gzip", "deflate"):
        return None
    if not encoding:
        return links.page(body) if len(body) <= PAGE_LIMIT else None
    # "deflate" is raw, as upstream reads it, or has zlib's head, as the specification wants it.
    kinds = (16 + zlib.MAX_WBITS,) if encoding == "gzip" else (zlib.MAX_WBITS, -zlib.MAX_WBITS)
    for kind in kinds:
        opened = zlib.decompressobj(kind)
        try:
            page = opened.decompress(body, PAGE_LIMIT)
        except zlib.error:
            continue
        if opened.unconsumed_tail or not opened.eof:
            return None
        packer = zlib.compressobj(wbits=kind)
        return packer.compress(links.page(page)) + packer.flush()
    return None


def _rewritten(raw: bytes, change: Callable[[str], str]) -> bytes:
    """Each byte is looked at once, so a hostile page costs no more than a long one."""
    made: list[bytes] = []
    copied = at = 0
    while (start := raw.find(b"<", at)) >= 0:
        if raw.startswith(b"<!--", start):
            end = raw.find(b"-->", start + 4)
            at = end + 3
        elif raw.startswith((b"<!", b"<?", b"</"), start):
            end = raw.find(b">", start)
            at = end + 1
        else:
            found = _NAME.match(raw, start + 1)
            if found is None:
                at = start + 1
                continue
            tag = found.group().lower()
            wanted = _ATTRIBUTES.get(tag)
            end, copied = _tag(raw, found.end(), wanted or set(), change, made, copied)
            if end >= 0 and tag in _RAW_TEXT:
                closing = _RAW_TEXT[tag].search(raw, end)
                end = closing.start() if closing else -1
            at = end
        if end < 0:
            break
    made.append(raw[copied:])
    return b"".join(made)


def _tag(
    raw: bytes, at: int, wanted: set[bytes], change: Callable[[str], str], made: list[bytes], copied: int
) -> tuple[int, int]:
    """The end of a tag (-1: it has none) and how much of ``raw`` is in ``made``."""
    while True:
        if end := _TAG_END.match(raw, at):
            return end.end(), copied
        found = _ATTRIBUTE.match(raw, at)
        if found is None or raw.startswith(b"=", found.end()):  # nothing, or a quote that is never closed
            return -1, copied
        at = found.end()
        group = found.lastgroup
        if group in (None, "name") or found.group("name").lower() not in wanted:
            continue
        assert group is not None
        # Bytes beyond ASCII stay what they are, whatever the page's charset.
        before = html.unescape(found.group(group).decode("latin-1"))
        after = change(before)
        if after != before:
            value = html.escape(after, quote=True).encode("latin-1", "xmlcharrefreplace")
            begin, stop = found.span(group)
            made += (raw[copied:begin], value)
            copied = stop
