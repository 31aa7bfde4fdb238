"""Functions of numbers."""

from __future__ import annotations

from typing import Any

from local.resource_manager.errors import TemplateError
from local.resource_manager.functions.registry import template_function
from local.resource_manager.values import whole


@template_function("add", 2)
def _add(a: int, b: int) -> int:
    return whole(a, "add") + whole(b, "add")


@template_function("sub", 2)
def _sub(a: int, b: int) -> int:
    return whole(a, "sub") - whole(b, "sub")


@template_function("mul", 2)
def _mul(a: int, b: int) -> int:
    return whole(a, "mul") * whole(b, "mul")


@template_function("div", 2)
def _div(a: int, b: int) -> int:
    if whole(b, "div") == 0:
        raise TemplateError("div: division by zero")
    quotient = abs(whole(a, "div")) // abs(
        b
    )  # the language cuts towards zero, Python downwards
    return quotient if (a < 0) == (b < 0) else -quotient


@template_function("mod", 2)
def _mod(a: int, b: int) -> int:
    return whole(a, "mod") - _div(a, b) * b


@template_function("int", 1)
def _int(value: Any) -> int:  # noqa: ANN401 — template values have no static type
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return int(value)
        except (ValueError, OverflowError) as error:
            raise TemplateError(f"int cannot read '{value}'") from error
    raise TemplateError("int expects a string or a number")


@template_function("float", 1)
def _float(value: Any) -> float:  # noqa: ANN401 — see above
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError as error:
            raise TemplateError(f"float cannot read '{value}'") from error
    raise TemplateError("float expects a string or a number")


@template_function("max", 1, None)
def _max(*values: Any) -> int:  # noqa: ANN401 — see above
    return max(_numbers("max", values))


@template_function("min", 1, None)
def _min(*values: Any) -> int:  # noqa: ANN401 — see above
    return min(_numbers("min", values))


def _numbers(name: str, values: tuple[Any, ...]) -> list[int]:
    listed = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    if not listed:
        raise TemplateError(f"{name} expects at least one integer")
    return [whole(value, name) for value in listed]
