"""Functions that take a lambda: `map(parameters('a'), lambda('x', toUpper(lambdaVariables('x'))))`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import TemplateError
from local.resource_manager.expressions import Call, Literal
from local.resource_manager.functions.registry import Style, template_function
from local.resource_manager.values import as_text, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.resource_manager.expressions import Node
    from local.resource_manager.functions.logic import Evaluate
    from local.resource_manager.scope import Scope


@template_function("lambda", 1, None, style=Style.LAZY)
def _lambda(scope: Scope, evaluate: Evaluate, *nodes: Node) -> Any:  # noqa: ANN401 — template values have no static type
    raise TemplateError(
        "The function 'lambda' stands only as an argument of filter, map and the like"
    )


@template_function("lambdaVariables", 1, style=Style.SCOPED)
def _lambda_variables(scope: Scope, name: str) -> Any:  # noqa: ANN401 — see above
    if text(name, "lambdaVariables") not in scope.lambda_values:
        raise TemplateError(f"The lambda variable '{name}' is not found")
    return scope.lambda_values[name]


@template_function("filter", 2, style=Style.LAZY)
def _filter(scope: Scope, evaluate: Evaluate, values: Node, function: Node) -> list[Any]:
    call, items = _callable(scope, evaluate, function), _items(scope, evaluate, values)
    return [item for i, item in enumerate(items) if call(item, i) is True]


@template_function("map", 2, style=Style.LAZY)
def _map(scope: Scope, evaluate: Evaluate, values: Node, function: Node) -> list[Any]:
    call, items = _callable(scope, evaluate, function), _items(scope, evaluate, values)
    return [call(item, i) for i, item in enumerate(items)]


@template_function("mapValues", 2, style=Style.LAZY)
def _map_values(
    scope: Scope, evaluate: Evaluate, values: Node, function: Node
) -> dict[str, Any]:
    call, mapping = _callable(scope, evaluate, function), evaluate(values, scope)
    if not isinstance(mapping, dict):
        raise TemplateError("mapValues expects an object")
    return {key: call(value) for key, value in mapping.items()}


@template_function("reduce", 3, style=Style.LAZY)
def _reduce(scope: Scope, evaluate: Evaluate, values: Node, first: Node, function: Node) -> Any:  # noqa: ANN401 — see above
    call, so_far = _callable(scope, evaluate, function), evaluate(first, scope)
    for i, item in enumerate(_items(scope, evaluate, values)):
        so_far = call(so_far, item, i)
    return so_far


@template_function("sort", 2, style=Style.LAZY)
def _sort(scope: Scope, evaluate: Evaluate, values: Node, function: Node) -> list[Any]:
    before = _callable(scope, evaluate, function)

    def order(a: Any, b: Any) -> int:  # noqa: ANN401 — see above
        return (before(b, a) is True) - (before(a, b) is True)

    return sorted(_items(scope, evaluate, values), key=functools.cmp_to_key(order))


@template_function("toObject", 2, 3, style=Style.LAZY)
def _to_object(
    scope: Scope, evaluate: Evaluate, values: Node, key: Node, value: Node | None = None
) -> dict[str, Any]:
    name = _callable(scope, evaluate, key)
    meaning = _callable(scope, evaluate, value) if value is not None else None
    items = _items(scope, evaluate, values)
    return {as_text(name(i)): meaning(i) if meaning else i for i in items}


@template_function("groupBy", 2, style=Style.LAZY)
def _group_by(scope: Scope, evaluate: Evaluate, values: Node, key: Node) -> dict[str, Any]:
    name = _callable(scope, evaluate, key)
    groups: dict[str, Any] = {}
    for item in _items(scope, evaluate, values):
        groups.setdefault(as_text(name(item)), []).append(item)
    return groups


def _items(scope: Scope, evaluate: Evaluate, node: Node) -> list[Any]:
    values = evaluate(node, scope)
    if not isinstance(values, list):
        raise TemplateError("filter, map, sort and the like expect an array")
    return values


def _callable(scope: Scope, evaluate: Evaluate, node: Node) -> Callable[..., Any]:
    """A function of as many values as the lambda names; further ones (the index) are dropped."""
    if not isinstance(node, Call) or node.name.lower() != "lambda":
        raise TemplateError("a lambda function is expected here")
    *named, body = node.arguments
    names: list[str] = []
    for one in named:
        if not isinstance(one, Literal) or not isinstance(one.value, str):
            raise TemplateError("lambda expects the names of its variables as strings")
        names.append(one.value)

    def call(*values: Any) -> Any:  # noqa: ANN401 — see above
        return evaluate(body, scope.with_lambda(dict(zip(names, values, strict=False))))

    return call
