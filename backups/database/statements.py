"""The statements of a script of definitions, one by one. Pure; knows PostgreSQL's quoting.

The scripts are pg_dump's.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    | (?P<mark>[;()])
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_RESTRICT = re.compile(rb"(?m)^\\restrict ([A-Za-z0-9]+)\n")
_COMMENTS = re.compile(rb"(?:--[^\n]*\n|\s)*")
_HEAD_BYTES = 4096


def without_token(pieces: Iterator[bytes]) -> Iterator[bytes]:
    r"""A script without psql's `\restrict` lines, whose token is random.

    They guard psql against its own commands hidden in names; nothing here is given to psql.
    """
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= _HEAD_BYTES:
            break
    found = _RESTRICT.search(head)
    if found is None or not _COMMENTS.fullmatch(head, 0, found.start()):
        yield head
        yield from pieces
        return
    last = b"\\unrestrict " + found[1] + b"\n"
    kept = head[: found.start()] + head[found.end() :]
    for piece in pieces:
        kept += piece
        ready = max(0, len(kept) - len(last) - 16)
        yield kept[:ready]
        kept = kept[ready:]
    yield kept.replace(last, b"")


def statements(script: str) -> Iterator[str]:
    """Each statement without its semicolon; comments before and inside it are kept out of sight."""
    begin, depth, bodies, words = 0, 0, 0, list[str]()
    at = 0
    while at < len(script):
        kind, text, at = _next(script, at)
        if kind == "word":
            word = text.upper()
            bodies = _body(words, word, bodies)
            words.append(word)
        elif text == "(" and kind == "mark":
            depth += 1
        elif text == ")" and kind == "mark":
            depth -= 1
        elif text == ";" and kind == "mark" and depth <= 0 and not bodies:
            statement = script[begin : at - 1]
            if words:
                yield _bare(statement)
            begin, depth, words = at, 0, []
    if words:
        yield _bare(script[begin:])


def _next(script: str, at: int) -> tuple[str, str, int]:
    found = _TOKEN.match(script, at)
    if found is None or found.lastgroup is None:
        raise ValueError("an empty match in a script")
    kind, text, end = found.lastgroup, found[0], found.end()
    if kind == "dollar":
        close = script.find(text, end)
        end = len(script) if close < 0 else close + len(text)
    elif kind == "comment":
        end = _after_comment(script, end)
    return kind, text, end


def _after_comment(script: str, at: int) -> int:
    depth = 1
    while depth:
        found = re.compile(r"/\*|\*/").search(script, at)
        if found is None:
            return len(script)
        depth += 1 if found[0] == "/*" else -1
        at = found.end()
    return at


def _body(words: list[str], word: str, bodies: int) -> int:
    """How deep in a body of SQL (`BEGIN ATOMIC … END`, with CASE inside) the next word is."""
    routine = words[:1] == ["CREATE"] and any(w in _ROUTINES for w in words[1:4])
    if not routine:
        return 0
    if word == "ATOMIC" and words[-1] == "BEGIN":
        return bodies + 1
    if bodies and word == "CASE":
        return bodies + 1
    if bodies and word == "END":
        return bodies - 1
    return bodies


_ROUTINES = {"FUNCTION", "PROCEDURE"}


def _bare(statement: str) -> str:
    """Without the blanks and comments before it."""
    at = 0
    while found := _TOKEN.match(statement, at):
        if found.lastgroup == "comment":
            at = _after_comment(statement, found.end())
        elif found.lastgroup == "space":
            at = found.end()
        else:
            break
    return statement[at:].rstrip()


# --- what a statement after the rows is for -------------------------------------------------------


class Kind(StrEnum):
    """In which order what follows the rows is done."""

    SETTING = "setting"
    INDEX = "index"
    ATTACH = "attach"
    FOREIGN_KEY = "foreign key"
    OTHER = "other"
    KEY_COMMENT = "comment on a constraint"
    GRANT = "grant"
    LAST = "last"


class Statement(msgspec.Struct, frozen=True):
    """A statement, its kind, and the quoted name of the table it is about where it has one."""

    text: str
    kind: Kind
    table: str = ""


_NAME = r'((?:"(?:[^"]|"")*"|[^\s".(]+)(?:\.(?:"(?:[^"]|"")*"|[^\s".(]+))*)'
_INDEX = re.compile(
    rf'CREATE (?:UNIQUE )?INDEX (?:"(?:[^"]|"")*"|[^\s"]+) ON (?:ONLY )?{_NAME}'
)
_ADDED = re.compile(
    rf'ALTER TABLE (?:ONLY )?{_NAME}\s+ADD CONSTRAINT (?:"(?:[^"]|"")*"|[^\s"]+) '
    r"(PRIMARY KEY|UNIQUE|EXCLUDE|FOREIGN KEY)"
)
_ATTACH = re.compile(r"ALTER INDEX [^;]*\bATTACH PARTITION\b")
_LAST = re.compile(r"REFRESH |(?:CREATE|ALTER) EVENT TRIGGER |COMMENT ON EVENT TRIGGER ")
_KEY_COMMENT = re.compile(r"COMMENT ON CONSTRAINT ")
_GRANT = re.compile(r"GRANT |REVOKE |ALTER DEFAULT PRIVILEGES ")
_SETTING = re.compile(r"SET |SELECT pg_catalog\.set_config\(")


def classified(text: str) -> Statement:
    """What a statement of pg_dump's is."""
    if found := _INDEX.match(text):
        return Statement(text, Kind.INDEX, found[1])
    if found := _ADDED.match(text):
        kind = Kind.FOREIGN_KEY if found[2] == "FOREIGN KEY" else Kind.INDEX
        return Statement(text, kind, found[1])
    for pattern, kind in (
        (_ATTACH, Kind.ATTACH),
        (_KEY_COMMENT, Kind.KEY_COMMENT),
        (_LAST, Kind.LAST),
        (_GRANT, Kind.GRANT),
        (_SETTING, Kind.SETTING),
    ):
        if pattern.match(text):
            return Statement(text, kind)
    return Statement(text, Kind.OTHER)
