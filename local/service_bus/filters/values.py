"""Comparing and computing with property values, as C# does it with the same types.

None stands for what is null or not there: "unknown" in the documentation, and so is every result
that depends on it. What C# has no operator for is an error of the filter.
"""

from __future__ import annotations

import math
import operator
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
MAX_TEXT = 32_768  # what one property may hold, in the table of quotas

_ORDERED = (str, datetime, timedelta)
_SAME = (*_ORDERED, bool, UUID, bytes)


class FilterError(Exception):
    """A filter or an action that cannot be carried out on this message."""


def compare(sign: str, left: object, right: object) -> bool | None:
    """Whether left and right stand in this relation; None when one is unknown."""
    if left is None or right is None:
        return None
    is_comparable = _is_number(left) and _is_number(right)
    if sign in _ORDER:
        if is_comparable or _are_both(left, right, _ORDERED):
            return _ORDER[sign](left, right)
    elif is_comparable or _are_both(left, right, _SAME):
        return (left == right) is (sign == "=")
    raise FilterError(f"{_name(left)} {sign} {_name(right)} cannot be compared")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_both(left: object, right: object, kinds: Iterable[type]) -> bool:
    return any(isinstance(left, kind) and isinstance(right, kind) for kind in kinds)


def compute(sign: str, left: object, right: object) -> object:
    """What the operator makes of both; None when one is unknown."""
    if left is None or right is None:
        return None
    if sign == "+" and (isinstance(left, str) or isinstance(right, str)):
        text = as_text(left) + as_text(right)
        if len(text) > MAX_TEXT:
            raise FilterError(f"a text of more than {MAX_TEXT} characters")
        return text
    if isinstance(left, int | float) and isinstance(right, int | float):
        if isinstance(left, bool) or isinstance(right, bool):
            raise FilterError(f"{_name(left)} {sign} {_name(right)} cannot be computed")
        if isinstance(left, int) and isinstance(right, int):
            return _whole(sign, left, right)
        return _floating(sign, float(left), float(right))
    try:
        return _with_times(sign, left, right)
    except OverflowError as error:
        raise FilterError(str(error)) from None


def _with_times(sign: str, left: object, right: object) -> object:
    if isinstance(right, timedelta):
        if isinstance(left, timedelta | datetime) and sign in {"+", "-"}:
            return left + right if sign == "+" else left - right
    elif isinstance(left, datetime) and isinstance(right, datetime) and sign == "-":
        return left - right
    raise FilterError(f"{_name(left)} {sign} {_name(right)} cannot be computed")


def _whole(sign: str, left: int, right: int) -> int:
    if sign in {"/", "%"} and right == 0:
        raise FilterError("division by zero")
    match sign:
        case "+":
            result = left + right
        case "-":
            result = left - right
        case "*":
            result = left * right
        case "/":
            quotient = abs(left) // abs(right)
            result = quotient if (left < 0) is (right < 0) else -quotient
        case _:
            result = abs(left) % abs(right) * (-1 if left < 0 else 1)
    return (result + 2**63) % 2**64 - 2**63  # 64 bits, wrapping round as C# does


def _floating(sign: str, left: float, right: float) -> float:
    match sign:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            if right == 0:
                return (
                    math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left)
                )
            return left / right
        case _:
            is_odd = right == 0 or math.isinf(left) or math.isnan(left) or math.isnan(right)
            return math.nan if is_odd else math.fmod(left, right)


def negate(value: object) -> object:
    """The value with the other sign."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        return -value
    if isinstance(value, float):
        return -value
    if isinstance(value, int) and not isinstance(value, bool):
        return _whole("-", 0, value)
    raise FilterError(f"{_name(value)} has no sign")


def like(value: object, pattern: object, escape: object = None) -> bool | None:
    """Whether a text is of a pattern with % (anything) and _ (one character)."""
    if value is None or pattern is None:
        return None
    if not isinstance(value, str) or not isinstance(pattern, str):
        raise FilterError(f"{_name(value)} LIKE {_name(pattern)} cannot be compared")
    if escape is not None and (not isinstance(escape, str) or len(escape) != 1):
        raise FilterError("ESCAPE needs a text of one character")
    return _matches(value, _pieces(pattern, escape))


type _Piece = tuple[re.Pattern[str], int]


@lru_cache(256)
def _pieces(pattern: str, escape: str | None) -> tuple[_Piece, ...]:
    """What stands between the % of a pattern, each with its length.

    Piece by piece, each from where the last one ended: one expression for the whole pattern could
    take forever on a long text.
    """
    parts: list[list[str]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            parts[-1].append(re.escape(next(characters, character)))
        elif character == "%":
            parts.append([])
        else:
            parts[-1].append("." if character == "_" else re.escape(character))
    return tuple((re.compile("".join(part), re.DOTALL), len(part)) for part in parts)


def _matches(value: str, pieces: tuple[_Piece, ...]) -> bool:
    first, at = pieces[0]
    if len(pieces) == 1:
        return first.fullmatch(value) is not None
    if first.match(value) is None:
        return False
    for piece, length in pieces[1:-1]:
        if (found := piece.search(value, at)) is None:
            return False
        at = found.start() + length
    last, length = pieces[-1]
    return len(value) - length >= at and last.match(value, len(value) - length) is not None


def as_text(value: object) -> str:
    """A value as a text, when one is added to a text or set where one stands."""
    match value:
        case bool():
            return "True" if value else "False"
        case datetime():
            return value.astimezone(UTC).isoformat()
        case _:
            return str(value)


def _name(value: object) -> str:
    return type(value).__name__
