"""Template functions, by the chapters of their documentation."""

from local.resource_manager.functions import (
    arithmetic,
    arrays,
    cidr,
    dates,
    lambdas,
    logic,
    places,
    strings,
)
from local.resource_manager.functions.registry import FUNCTIONS, Function, Style, known

__all__ = [
    "FUNCTIONS",
    "Function",
    "Style",
    "arithmetic",
    "arrays",
    "cidr",
    "dates",
    "known",
    "lambdas",
    "logic",
    "places",
    "strings",
]
