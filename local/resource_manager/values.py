"""Values of templates: JSON, and the two ways in which a value can be missing.

`UNKNOWN` stands, while a template is checked, for what only the deployment will know (a
parameter computed with `reference()`). Asking for it, or for the running cloud, raises
`NeedsRuntimeError`: no error of the template, unless it stands where the answer is needed at once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from local.resource_manager.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Collection


class Unknown:
    """The type of UNKNOWN."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()
MAX_TEXT: Final = 131_072
"""The documented limit of a string."""
_TYPE_NAMES: dict[type, str] = {
    bool: "Boolean",
    int: "Integer",
    float: "Float",
    str: "String",
    list: "Array",
    dict: "Object",
    type(None): "Null",
}


class NeedsRuntimeError(Exception):
    """The value depends on what will have been deployed; `function` asked for it, if one did."""

    def __init__(self, function: str | None = None) -> None:
        super().__init__(function or "an unknown parameter")
        self.function = function


def find_name(names: Collection[str], name: str) -> str | None:
    """The one of `names` (a mapping's keys) that `name` means: exactly spelled, else in any case."""
    if name in names:
        return name
    wanted = name.lower()
    return next((key for key in names if key.lower() == wanted), None)


def type_name(value: object) -> str:
    """What the language calls the type of a value."""
    return _TYPE_NAMES.get(type(value), type(value).__name__)


def same(a: object, b: object) -> bool:
    """`equals()`: by type and value; true is not 1."""
    return type_name(a) == type_name(b) and _plain(a) == _plain(b)


def as_text(value: object) -> str:
    """`string()`: a string itself, JSON for arrays and objects."""
    match value:
        case str():
            return value
        case bool():
            return "True" if value else "False"
        case None:
            return ""
        case dict() | list():
            return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        case _:
            return str(value)


def whole(value: object, where: str) -> int:
    """An integer or a template error.

    Raises:
        TemplateError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TemplateError(
            f"{where} expects an integer, not a value of type {type_name(value)}"
        )
    return value


def text(value: object, where: str) -> str:
    """A string or a template error.

    Raises:
        TemplateError: it is none.
    """
    if not isinstance(value, str):
        raise TemplateError(f"{where} expects a string, not a value of type {type_name(value)}")
    return value


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True)
