"""Fields of a request as text: in a query, in a CSV cell, on the command line.

What cannot be split or is no number is passed on as it stands: the reader refuses it by name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LISTS = frozenset(
    {
        "data_subject_countries",
        "assertions",
        "withdrawn",
        "certifications",
        "exclude",
        "data_kinds",
    }
)
FLAGS = frozenset({"strict_residency", "allow_fallback", "accept_superseded"})


def field_of(name: str, text: str, separator: str) -> object:
    """The value of a field written as text."""
    plain = text.strip()
    if name in FLAGS:
        return {"true": True, "false": False}.get(plain.lower(), plain)
    if name in LISTS:
        return list_of(plain, separator)
    if name == "coordinates":
        return [number_or_text(entry) for entry in plain.split(separator)]
    if name == "measured_rtt":
        return samples_of(plain, separator)
    return plain


def text_of(value: object, separator: str) -> str:
    """A field of a canonical request as text; `field_of` reads it back."""
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return separator.join(str(entry) for entry in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case dict():
            pairs = [(name, ms) for name, taken in value.items() for ms in taken]  # pyright: ignore[reportUnknownVariableType]
            return separator.join(f"{name}={ms}" for name, ms in pairs)  # pyright: ignore[reportUnknownVariableType]
        case _:
            return str(value)


def query_of(form: Mapping[str, object]) -> dict[str, str]:
    """A canonical request as query parameters; empty lists are left out."""
    return {name: text_of(value, ",") for name, value in form.items() if value != []}


def list_of(text: str, separator: str) -> list[str]:
    """`DE, FR` as a list; an empty entry stays, to be refused."""
    return [entry.strip() for entry in text.split(separator)]


def number_or_text(text: str) -> object:
    """A finite number, or the text."""
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def samples_of(text: str, separator: str) -> dict[str, list[object]]:
    """`uk=12,uk=11,france=9` as the field `measured_rtt`; a cluster's samples are gathered."""
    samples: dict[str, list[object]] = {}
    for entry in text.split(separator):
        name, _, ms = entry.partition("=")
        samples.setdefault(name.strip(), []).append(number_or_text(ms))
    return samples
