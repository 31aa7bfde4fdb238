"""Functions of strings."""

from __future__ import annotations

import base64
import binascii
import json
import re
import urllib.parse
import uuid
from typing import Any

from local.resource_manager.errors import TemplateError
from local.resource_manager.functions.hashing import murmur64
from local.resource_manager.functions.registry import template_function
from local.resource_manager.values import MAX_TEXT, as_text, find_name, same, text, whole

# The namespace that the service's guid() hashes in: what a template calls is the same everywhere.
_GUID_NAMESPACE = uuid.UUID("11fb06fb-712d-4ddd-98c7-e71bbd588830")
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_MAX_PADDED = 16_384


@template_function("base64", 1)
def _base64(value: Any) -> str:  # noqa: ANN401 — template values have no static type
    return base64.b64encode(text(value, "base64").encode()).decode()


@template_function("base64ToString", 1)
def _base64_to_string(value: Any) -> str:  # noqa: ANN401 — see above
    try:
        return base64.b64decode(text(value, "base64ToString"), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise TemplateError("base64ToString expects a base64 encoded string") from error


@template_function("base64ToJson", 1)
def _base64_to_json(value: Any) -> Any:  # noqa: ANN401 — see above
    return _json(_base64_to_string(value))


@template_function("concat", 1, None)
def _concat(*values: Any) -> Any:  # noqa: ANN401 — see above
    if all(isinstance(v, list) for v in values):
        return [item for v in values for item in v]
    if any(isinstance(v, list | dict) for v in values):
        raise TemplateError("concat expects strings, or arrays, not both")
    return "".join(as_text(v) for v in values)


@template_function("contains", 2)
def _contains(container: Any, item: Any) -> bool:  # noqa: ANN401 — see above
    match container:
        case str():
            return as_text(item) in container
        case list():
            return any(same(item, one) for one in container)
        case dict():
            return find_name(container, as_text(item)) is not None
        case _:
            raise TemplateError("contains expects an array, an object or a string")


@template_function("dataUri", 1)
def _data_uri(value: str) -> str:
    encoded = base64.b64encode(text(value, "dataUri").encode()).decode()
    return f"data:text/plain;charset=utf8;base64,{encoded}"


@template_function("dataUriToString", 1)
def _data_uri_to_string(value: str) -> str:
    head, comma, body = text(value, "dataUriToString").partition(",")
    if not comma or not head.startswith("data:"):
        raise TemplateError("dataUriToString expects a data URI")
    return _base64_to_string(body) if head.endswith(";base64") else urllib.parse.unquote(body)


@template_function("empty", 1)
def _empty(value: Any) -> bool:  # noqa: ANN401 — see above
    if value is not None and not isinstance(value, str | list | dict):
        raise TemplateError("empty expects an array, an object or a string")
    return not value


@template_function("endsWith", 2)
def _ends_with(value: str, end: str) -> bool:
    return text(value, "endsWith").lower().endswith(text(end, "endsWith").lower())


@template_function("startsWith", 2)
def _starts_with(value: str, start: str) -> bool:
    return text(value, "startsWith").lower().startswith(text(start, "startsWith").lower())


@template_function("format", 1, None)
def _format(pattern: str, *values: Any) -> str:  # noqa: ANN401 — see above
    def put(found: re.Match[str]) -> str:
        if found.group(0) in ("{{", "}}"):
            return found.group(0)[0]
        index = int(found.group(1))
        if index >= len(values):
            raise TemplateError(f"format has no argument {index}")
        return _formatted(values[index], found.group(2))

    pattern = text(pattern, "format")
    if sum(len(one) for one in values if isinstance(one, str)) * pattern.count("{") > (
        16 * MAX_TEXT
    ):
        raise TemplateError(f"'format' gives more than {MAX_TEXT} characters")
    return re.sub(r"\{\{|\}\}|\{(\d{1,4})(?::([^}]*))?\}", put, pattern)


def _formatted(value: Any, how: str | None) -> str:  # noqa: ANN401 — see above
    if not how or not isinstance(value, int) or isinstance(value, bool):
        return as_text(value)
    if not re.fullmatch("[DdXxNn][0-9]{0,2}|0{1,99}", how):
        raise TemplateError(f"format does not know the number format '{how}'")
    kind, digits = how[0].upper(), int(how[1:] or 0)
    if kind == "D":
        return f"{value:0{digits}d}"
    if kind == "X":
        shown = f"{value & 0xFFFFFFFF if value < 0 else value:0{digits}X}"
        return shown if how[0] == "X" else shown.lower()
    if kind == "N":
        return f"{value:,.{digits if how[1:] else 2}f}"
    return f"{value:0{len(how)}d}"


@template_function("guid", 1, None)
def _guid(*values: str) -> str:
    return str(uuid.uuid5(_GUID_NAMESPACE, "-".join(text(v, "guid") for v in values)))


@template_function("newGuid", 0)
def _new_guid() -> str:
    return str(uuid.uuid4())


@template_function("uniqueString", 1, None)
def _unique_string(*values: str) -> str:
    number = murmur64("-".join(text(v, "uniqueString") for v in values).encode())
    return "".join(
        _BASE32[(number >> shift) & 31 if shift >= 0 else (number << -shift) & 31]
        for shift in range(59, -2, -5)
    )


@template_function("indexOf", 2)
def _index_of(container: Any, item: Any) -> int:  # noqa: ANN401 — see above
    if isinstance(container, list):
        return next((i for i, one in enumerate(container) if same(one, item)), -1)
    return text(container, "indexOf").lower().find(text(item, "indexOf").lower())


@template_function("lastIndexOf", 2)
def _last_index_of(container: Any, item: Any) -> int:  # noqa: ANN401 — see above
    if isinstance(container, list):
        found = [i for i, one in enumerate(container) if same(one, item)]
        return found[-1] if found else -1
    return text(container, "lastIndexOf").lower().rfind(text(item, "lastIndexOf").lower())


@template_function("join", 2)
def _join(values: list[Any], delimiter: str) -> str:
    if not isinstance(values, list):
        raise TemplateError("join expects an array")
    if len(values) * len(text(delimiter, "join")) > MAX_TEXT:
        raise TemplateError(f"'join' gives more than {MAX_TEXT} characters")
    return text(delimiter, "join").join(as_text(v) for v in values)


@template_function("json", 1)
def _json(value: Any) -> Any:  # noqa: ANN401 — see above
    try:
        return json.loads(text(value, "json"))
    except ValueError as error:
        raise TemplateError(f"json expects valid JSON: {error}") from error


@template_function("length", 1)
def _length(value: Any) -> int:  # noqa: ANN401 — see above
    if not isinstance(value, str | list | dict):
        raise TemplateError("length expects an array, an object or a string")
    return len(value)


@template_function("padLeft", 2, 3)
def _pad_left(value: Any, width: int, mark: str = " ") -> str:  # noqa: ANN401 — see above
    if not 0 <= whole(width, "padLeft") <= _MAX_PADDED or len(text(mark, "padLeft")) != 1:
        raise TemplateError(f"padLeft expects a width up to {_MAX_PADDED} and one character")
    return as_text(value).rjust(width, mark)


@template_function("replace", 3)
def _replace(value: str, old: str, new: str) -> str:
    if not text(old, "replace"):
        raise TemplateError("replace expects something to replace")
    source, put = text(value, "replace"), text(new, "replace")
    if len(source) + source.count(old) * len(put) > 2 * MAX_TEXT:
        raise TemplateError(f"'replace' gives more than {MAX_TEXT} characters")
    return source.replace(old, put)


@template_function("split", 2)
def _split(value: str, delimiters: Any) -> list[str]:  # noqa: ANN401 — see above
    marks = delimiters if isinstance(delimiters, list) else [delimiters]
    wanted = [re.escape(text(mark, "split")) for mark in marks if mark != ""]
    source = text(value, "split")
    return re.split("|".join(wanted), source) if wanted else [source]


@template_function("string", 1)
def _string(value: Any) -> str:  # noqa: ANN401 — see above
    return as_text(value)


@template_function("substring", 2, 3)
def _substring(value: str, start: int, length: int | None = None) -> str:
    source = text(value, "substring")
    first = whole(start, "substring")
    last = len(source) if length is None else first + whole(length, "substring")
    if not 0 <= first <= last <= len(source):
        raise TemplateError("substring: start and length lie outside of the string")
    return source[first:last]


@template_function("toLower", 1)
def _to_lower(value: str) -> str:
    return text(value, "toLower").lower()


@template_function("toUpper", 1)
def _to_upper(value: str) -> str:
    return text(value, "toUpper").upper()


@template_function("trim", 1)
def _trim(value: str) -> str:
    return text(value, "trim").strip()


@template_function("uri", 2)
def _uri(base: str, relative: str) -> str:
    return urllib.parse.urljoin(text(base, "uri"), text(relative, "uri"))


@template_function("uriComponent", 1)
def _uri_component(value: str) -> str:
    return urllib.parse.quote(text(value, "uriComponent"), safe="-_.~")


@template_function("uriComponentToString", 1)
def _uri_component_to_string(value: str) -> str:
    return urllib.parse.unquote(text(value, "uriComponentToString"))
