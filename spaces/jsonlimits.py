"""JSON as strangers send it: bounded, UTF-8, no duplicate keys, no NaN."""

from __future__ import annotations

import json

from spaces.errors import InvalidError

MAX_DEPTH = 16


def decode_strictly(raw: bytes, *, max_depth: int = MAX_DEPTH) -> object:
    """The JSON value of `raw`; raise `InvalidError` (`malformed-json`) naming what is wrong."""
    if not raw:
        raise _malformed("the body is empty", "Send a JSON object.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed("the body is not UTF-8", f"Byte {error.start} is wrong.") from error
    # Fewer brackets than levels cannot nest too deeply: most requests need no second look.
    if text.count("[") + text.count("{") > max_depth and _depth(text) > max_depth:
        raise _malformed("the JSON is nested too deeply", f"At most {max_depth} levels.")
    try:
        value: object = _decode(text)
    except json.JSONDecodeError as error:
        raise _malformed(
            "the body is not JSON", f"{error.msg} at line {error.lineno} column {error.colno}."
        ) from error
    except ValueError as error:  # a number with more digits than Python converts
        raise _malformed("the body is not JSON", "A number is too long.") from error
    if "\\u" in text and not _encodable(value):
        raise _malformed("the JSON holds a lone surrogate", "Send whole characters.")
    return value


def _depth(text: str) -> int:
    """The deepest nesting of brackets outside strings."""
    depth = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _malformed("a key stands twice in the JSON", f"Key: {twice[:64]!r}.")
    return result


def _no_constant(name: str) -> object:
    raise _malformed("the JSON holds no number", f"{name} is not JSON.")


# Made once: `json.loads` makes a decoder for each call that has a hook.
_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant).decode


def _encodable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _malformed(what: str, remedy: str) -> InvalidError:
    return InvalidError(what, remedy=remedy, slug="malformed-json")
