"""The expression language of templates: text in square brackets, taken apart into a tree.

`"[concat('a', parameters('b').c[0])]"`. What a function means is not known here; `evaluate`
walks the tree with the functions. Grammar after the documentation of template expressions:
string and integer literals, calls, `.property`, `[index]`, and their safe forms `.?` and `[?]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from local.resource_manager.errors import TemplateError

MAX_LENGTH = 24_576  # the documented limit of one expression
MAX_DEPTH = 100  # ours: a deeper tree would end at Python's own limit, without a clear word

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')"
    r"|(?P<number>[+-]?\d+(?![\w.]))"
    r"|(?P<name>[A-Za-z_][\w]*(?:\.[A-Za-z_]\w*)*)"
    r"|(?P<safe>\.\?|\[\?)"
    r"|(?P<mark>[()\[\],.])"
    r"|(?P<end>$))",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Literal:
    """A string or an integer."""

    value: str | int


@dataclass(frozen=True, slots=True)
class Call:
    """`name(arguments)`; a user function's name holds a dot."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """`target.name`, or `target.?name`, which gives null where there is none."""

    target: Node
    name: str
    safe: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """`target[index]`, or `target[?index]`."""

    target: Node
    index: Node
    safe: bool = False


type Node = Literal | Call | Member | Index


def is_expression(text: str) -> bool:
    """Whether a string of a template is to be evaluated: `[…]`, but not `[[…`."""
    return text.startswith("[") and text.endswith("]") and not text.startswith("[[")


def unescape(text: str) -> str:
    """A string that is no expression, as it is meant: `[[a]` is `[a]`."""
    return text[1:] if text.startswith("[[") else text


@lru_cache(maxsize=4096)
def parse(text: str) -> Node:
    """The tree of one expression, brackets included in `text`.

    Raises:
        TemplateError: it does not parse.
    """
    if len(text) > MAX_LENGTH:
        raise TemplateError(f"The template expression is longer than {MAX_LENGTH} characters")
    return _Parser(text).parse()


def walk(node: Node) -> list[Node]:
    """The node and everything below it."""
    found: list[Node] = []
    ahead = [node]
    while ahead:
        here = ahead.pop()
        found.append(here)
        match here:
            case Call(arguments=arguments):
                ahead.extend(arguments)
            case Member(target=target):
                ahead.append(target)
            case Index(target=target, index=index):
                ahead.extend((target, index))
            case Literal():
                pass
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._inner = text[1:-1]
        self._tokens = self._split()
        self._at = 0

    def parse(self) -> Node:
        node = self._expression(0)
        if self._peek() != ("end", ""):
            raise self._wrong(f"unexpected '{self._peek()[1]}'")
        return node

    def _split(self) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        at = 0
        while True:
            found = _TOKEN.match(self._inner, at)
            if found is None:
                raise self._wrong(f"unexpected character at position {at + 1}")
            kind = found.lastgroup or "end"
            tokens.append((kind, found.group(kind)))
            if kind == "end":
                return tokens
            at = found.end()

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at]

    def _take(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _expect(self, mark: str) -> None:
        kind, text = self._take()
        if (kind, text) != ("mark", mark):
            raise self._wrong(f"expected '{mark}', found '{text or 'the end'}'")

    def _expression(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._wrong(f"nested deeper than {MAX_DEPTH} levels")
        node = self._primary(depth)
        while True:
            kind, text = self._peek()
            if (kind, text) == ("mark", "."):
                self._take()
                node = self._members(node, safe=False)
            elif (kind, text) == ("safe", ".?"):
                self._take()
                node = self._members(node, safe=True)
            elif text in ("[", "[?") and kind in ("mark", "safe"):
                self._take()
                node = Index(node, self._expression(depth + 1), safe=text == "[?")
                self._expect("]")
            else:
                return node

    def _members(self, node: Node, *, safe: bool) -> Node:
        kind, text = self._take()
        if kind != "name":
            raise self._wrong(f"expected a property name, found '{text or 'the end'}'")
        first, *others = text.split(".")
        node = Member(node, first, safe=safe)
        for name in others:
            node = Member(node, name)
        return node

    def _primary(self, depth: int) -> Node:
        kind, text = self._take()
        if kind == "string":
            return Literal(text[1:-1].replace("''", "'"))
        if kind == "number":
            return Literal(int(text))
        if kind == "name":
            if self._peek() != ("mark", "("):
                raise self._wrong(f"'{text}' is no function call")
            return Call(text, self._arguments(depth))
        raise self._wrong(f"unexpected '{text or 'end'}'")

    def _arguments(self, depth: int) -> tuple[Node, ...]:
        self._expect("(")
        if self._peek() == ("mark", ")"):
            self._take()
            return ()
        found = [self._expression(depth + 1)]
        while self._peek() == ("mark", ","):
            self._take()
            found.append(self._expression(depth + 1))
        self._expect(")")
        return tuple(found)

    def _wrong(self, why: str) -> TemplateError:
        shown = self._text if len(self._text) <= 200 else self._text[:200] + "…"
        return TemplateError(f"Unable to parse language expression '{shown}': {why}")
