"""Reads nginx configurations as nginx does, into a tree, to see what a text really says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", '"': '"', "'": "'", "\\": "\\"}


@dataclass
class Directive:
    """Its words as nginx gets them, and what its block contains."""

    words: tuple[str, ...]
    inside: list[Directive] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.words[0]

    def shape(self) -> tuple[object, ...]:
        """Names and how many words of what is inside."""
        return tuple((one.name, len(one.words), one.shape()) for one in self.inside)

    def all(self, name: str) -> Iterator[Directive]:
        """Directives of that name, at any depth."""
        for one in self.inside:
            if one.name == name:
                yield one
            yield from one.all(name)


def parse(text: str) -> Directive:
    """The rules of ``ngx_conf_read_token``; AssertionError for what it would refuse."""
    root = Directive(("main",))
    rest = _parse(_tokens(text), root)
    assert rest == "end", "an unexpected }"
    return root


def _parse(tokens: Iterator[tuple[str, str]], into: Directive) -> str:
    words: list[str] = []
    for kind, text in tokens:
        if kind == "word":
            words.append(text)
        elif kind == ";":
            assert words, "an unexpected ;"
            into.inside.append(Directive(tuple(words)))
            words = []
        elif kind == "{":
            assert words, "an unexpected {"
            made = Directive(tuple(words))
            into.inside.append(made)
            if not words[0].endswith("_by_lua_block"):
                assert _parse(tokens, made) == "}", "a block is not closed"
            words = []
        else:
            assert not words, "a directive is not ended"
            return "}"
    assert not words
    return "end"


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    lua = False
    while at < len(text):
        char = text[at]
        if char in " \t\r\n":
            at += 1
        elif char == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif char in ";}":
            yield char, char
            at += 1
        elif char == "{":
            yield char, char
            at += 1
            if lua:
                at = text.index("}\n", at) + 1  # ours are of one line
                lua = False
        elif char in "\"'":
            word, at = _quoted(text, at)
            yield "word", word
            assert text[at] in " \t\r\n;{", f"{text[at]!r} after a quoted word"
        else:
            word, at = _bare(text, at)
            lua = word.endswith("_by_lua_block")
            yield "word", word


def _quoted(text: str, at: int) -> tuple[str, int]:
    quote, word = text[at], ""
    at += 1
    while text[at] != quote:
        if text[at] == "\\" and text[at + 1] in _ESCAPES:
            word += _ESCAPES[text[at + 1]]
            at += 2
        elif text[at] == "\\":
            word += text[at : at + 2]
            at += 2
        else:
            word += text[at]
            at += 1
    return word, at + 1


def _bare(text: str, at: int) -> tuple[str, int]:
    word = ""
    while text[at] not in " \t\r\n;{" or (text[at] == "{" and word.endswith("$")):
        word += text[at]
        at += 1
    return word, at
