"""The words of SQL filters and actions.

Source: "Subscription Rule SQL Filter Syntax" and "… SQL Action Syntax" of the Service Bus
documentation; numbers are 64-bit, names begin with a letter or stand in brackets or quotes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from local.service_bus.errors import BrokerError, Condition

MAX_LENGTH = 1_024  # characters, says the table of quotas

KEYWORDS = frozenset(
    {
        "AND",
        "OR",
        "NOT",
        "IN",
        "LIKE",
        "ESCAPE",
        "IS",
        "NULL",
        "EXISTS",
        "TRUE",
        "FALSE",
        "SET",
        "REMOVE",
    }
)
_OPERATORS = ("<>", "!=", ">=", "<=", "=", ">", "<", "+", "-", "*", "/", "%", "(", ")", ",")
_PUNCTUATION = (*_OPERATORS, ".", ";")
_LARGEST = 2**63 - 1


class Kind(Enum):
    """What a token is."""

    KEYWORD = auto()
    NAME = auto()
    QUOTED = auto()  # a name in brackets or double quotes: never a keyword, never a function
    PARAMETER = auto()
    TEXT = auto()
    INTEGER = auto()
    NUMBER = auto()
    MARK = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """One word, with where it begins."""

    kind: Kind
    value: str | int | float
    at: int


def syntax_error(what: str, at: int) -> BrokerError:
    """The refusal of a text that is no expression."""
    return BrokerError(Condition.ARGUMENT, f"SQL expression: {what} at position {at}.")


def tokens(text: str) -> list[Token]:
    """The words of an expression, with an end.

    Raises:
        BrokerError: too long, or a character that begins nothing.
    """
    if len(text) > MAX_LENGTH:
        raise BrokerError(
            Condition.ARGUMENT, f"SQL expression: {len(text)} characters, {MAX_LENGTH} allowed."
        )
    found: list[Token] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token, at = _token(text, at)
        found.append(token)
    return [*found, Token(Kind.END, "", len(text))]


def _token(text: str, at: int) -> tuple[Token, int]:
    first = text[at]
    if first == "'":
        value, end = _enclosed(text, at, "'", "string")
        return Token(Kind.TEXT, value, at), end
    if first in '["':
        closing = "]" if first == "[" else '"'
        value, end = _enclosed(text, at, closing, "name")
        if not value:
            raise syntax_error("an empty name", at)
        return Token(Kind.QUOTED, value, at), end
    if first.isalpha() or first == "@":
        return _word(text, at)
    if first.isdecimal() or (first == "." and text[at + 1 : at + 2].isdecimal()):
        return _number(text, at)
    for mark in _PUNCTUATION:
        if text.startswith(mark, at):
            return Token(Kind.MARK, mark, at), at + len(mark)
    raise syntax_error(f"{first!r} means nothing", at)


def _enclosed(text: str, at: int, closing: str, what: str) -> tuple[str, int]:
    """What stands up to the closing character, which is doubled where it stands for itself."""
    parts = []
    start = at + 1
    while (end := text.find(closing, start)) >= 0:
        parts.append(text[start:end])
        if text[end + 1 : end + 2] != closing:
            return closing.join(parts), end + 1
        start = end + 2
    raise syntax_error(f"a {what} without an end", at)


def _word(text: str, at: int) -> tuple[Token, int]:
    end = at + 1
    while end < len(text) and (
        text[end].isalpha() or text[end].isdecimal() or text[end] == "_"
    ):
        end += 1
    word = text[at:end]
    if word[0] == "@":
        if len(word) == 1:
            raise syntax_error("a parameter without a name", at)
        return Token(Kind.PARAMETER, word, at), end
    if word.upper() in KEYWORDS:
        return Token(Kind.KEYWORD, word.upper(), at), end
    return Token(Kind.NAME, word, at), end


def _number(text: str, at: int) -> tuple[Token, int]:
    end = _digits(text, at)
    is_whole = True
    if text[end : end + 1] == ".":
        is_whole, end = False, _digits(text, end + 1)
    if text[end : end + 1] in {"e", "E"}:
        exponent = end + 1
        if text[exponent : exponent + 1] in {"+", "-"}:
            exponent += 1
        if (after := _digits(text, exponent)) > exponent:
            is_whole, end = False, after
    word = text[at:end]
    if text[end : end + 1].isalpha() or not word.isascii():
        raise syntax_error(f"{word!r} is no number", at)
    if not is_whole:
        return Token(Kind.NUMBER, float(word), at), end
    if int(word) > _LARGEST:
        raise syntax_error(f"{word} is more than 64 bits hold", at)
    return Token(Kind.INTEGER, int(word), at), end


def _digits(text: str, at: int) -> int:
    while at < len(text) and text[at].isdecimal():
        at += 1
    return at
