"""The published list of template functions: how many arguments, and in which way they are called.

*plain* functions are of values alone; *scoped* ones also see where the expression stands
(parameters, copy index, the running cloud); *lazy* ones get their arguments unevaluated, because
they choose which to evaluate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Style(StrEnum):
    """How a function is called."""

    PLAIN = "plain"
    SCOPED = "scoped"
    LAZY = "lazy"


@dataclass(frozen=True, slots=True)
class Function:
    """One template function. `most` None: any number of arguments."""

    name: str
    least: int
    most: int | None
    style: Style
    call: Callable[..., Any]
    group: str


FUNCTIONS: dict[str, Function] = {}


def template_function(
    name: str, least: int, most: int | None = -1, *, style: Style = Style.PLAIN
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function under its template name; `most` as `least` when left out."""

    def register(call: Callable[..., Any]) -> Callable[..., Any]:
        group = call.__module__.rpartition(".")[2]
        limit = least if most == -1 else most
        FUNCTIONS[name.lower()] = Function(name, least, limit, style, call, group)
        return call

    return register


def known(name: str) -> Function | None:
    """The function of this name in any case; every `list…` name is the list function."""
    lowered = name.lower()
    found = FUNCTIONS.get(lowered)
    if found is None and lowered.startswith("list") and len(lowered) > len("list"):
        return FUNCTIONS["list*"]
    return found
