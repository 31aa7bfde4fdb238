"""Functions of truth and comparison, and the choices that evaluate one branch only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import TemplateError
from local.resource_manager.functions.registry import Style, template_function
from local.resource_manager.values import same

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.resource_manager.expressions import Node
    from local.resource_manager.scope import Scope

type Evaluate = Callable[[Node, Scope], Any]


@template_function("true", 0)
def _true() -> bool:
    return True


@template_function("false", 0)
def _false() -> bool:
    return False


@template_function("null", 0)
def _null() -> None:
    return None


@template_function("bool", 1)
def _bool(value: Any) -> bool:  # noqa: ANN401 — template values have no static type
    match value:
        case bool():
            return value
        case int():
            return value != 0
        case str() if value.lower() in ("true", "1"):
            return True
        case str() if value.lower() in ("false", "0"):
            return False
        case _:
            raise TemplateError(f"bool cannot read '{value}'")


@template_function("not", 1)
def _not(value: Any) -> bool:  # noqa: ANN401 — see above
    return not _truth(value, "not")


@template_function("xor", 2, None)
def _xor(*values: Any) -> bool:  # noqa: ANN401 — see above
    return sum(_truth(v, "xor") for v in values) % 2 == 1


@template_function("and", 2, None, style=Style.LAZY)
def _and(scope: Scope, evaluate: Evaluate, *nodes: Node) -> bool:
    return all(_truth(evaluate(node, scope), "and") for node in nodes)


@template_function("or", 2, None, style=Style.LAZY)
def _or(scope: Scope, evaluate: Evaluate, *nodes: Node) -> bool:
    return any(_truth(evaluate(node, scope), "or") for node in nodes)


@template_function("if", 3, style=Style.LAZY)
def _if(scope: Scope, evaluate: Evaluate, condition: Node, yes: Node, no: Node) -> Any:  # noqa: ANN401 — see above
    return evaluate(yes if _truth(evaluate(condition, scope), "if") else no, scope)


@template_function("coalesce", 1, None, style=Style.LAZY)
def _coalesce(scope: Scope, evaluate: Evaluate, *nodes: Node) -> Any:  # noqa: ANN401 — see above
    return next((v for node in nodes if (v := evaluate(node, scope)) is not None), None)


@template_function("equals", 2)
def _equals(a: Any, b: Any) -> bool:  # noqa: ANN401 — see above
    return same(a, b)


@template_function("less", 2)
def _less(a: Any, b: Any) -> bool:  # noqa: ANN401 — see above
    return _ordered("less", a, b) < 0


@template_function("lessOrEquals", 2)
def _less_or_equals(a: Any, b: Any) -> bool:  # noqa: ANN401 — see above
    return _ordered("lessOrEquals", a, b) <= 0


@template_function("greater", 2)
def _greater(a: Any, b: Any) -> bool:  # noqa: ANN401 — see above
    return _ordered("greater", a, b) > 0


@template_function("greaterOrEquals", 2)
def _greater_or_equals(a: Any, b: Any) -> bool:  # noqa: ANN401 — see above
    return _ordered("greaterOrEquals", a, b) >= 0


def _truth(value: Any, name: str) -> bool:  # noqa: ANN401 — see above
    if not isinstance(value, bool):
        raise TemplateError(f"{name} expects a boolean")
    return value


def _ordered(name: str, a: Any, b: Any) -> int:  # noqa: ANN401 — see above
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (a, b))
    if not numbers and not (isinstance(a, str) and isinstance(b, str)):
        raise TemplateError(f"{name} expects two numbers or two strings")
    return (a > b) - (a < b)
