"""Evaluate expressions, and whole JSON values with expressions in them.

Bounded: depth by the parser, size by `MAX_TEXT` and `MAX_ITEMS`; nothing a template says can
make it run without end or grow without limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.resource_manager.budget import spend
from local.resource_manager.errors import TemplateError
from local.resource_manager.expressions import (
    MAX_DEPTH,
    Call,
    Index,
    Literal,
    Member,
    is_expression,
    parse,
    unescape,
    walk,
)
from local.resource_manager.functions import Style, known
from local.resource_manager.functions.places import list_call
from local.resource_manager.values import (
    MAX_TEXT,
    UNKNOWN,
    NeedsRuntimeError,
    find_name,
    type_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.resource_manager.expressions import Node
    from local.resource_manager.functions import Function
    from local.resource_manager.scope import Scope

MAX_ITEMS = 100_000
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
# What these give was paid for when it was made.
_GIVEN = ("parameters", "variables", "lambdavariables", "reference")
_MAX_LOOP = 800  # the documented limit of resources and copies


def evaluate(node: Node, scope: Scope) -> Any:  # noqa: ANN401 — template values have no static type
    """The value of a tree.

    Raises:
        TemplateError: it has none.
        NeedsRuntimeError: it will have one while deploying.
    """
    spend()
    match node:
        case Literal(value=value):
            return value
        case Call():
            value = _call(node, scope)
        case Member(target=target, name=name, safe=safe):
            value = _member(evaluate(target, scope), name, safe=safe)
        case Index(target=target, index=index, safe=safe):
            value = _index(evaluate(target, scope), evaluate(index, scope), safe=safe)
    if value is UNKNOWN:
        raise NeedsRuntimeError
    return value


def resolve(value: Any, scope: Scope) -> Any:  # noqa: ANN401 — see above
    """A JSON value with every expression and copy loop in it evaluated."""
    spend()
    match value:
        case str():
            if not is_expression(value):
                return unescape(value)
            found = evaluate(parse(value), scope)
            if isinstance(found, str | list | dict):
                spend(4 * _weight(found))  # it will be written, once more each time
            return found
        case list():
            return [resolve(item, scope) for item in value]
        case dict():
            return _resolved_object(value, scope)
        case _:
            return value


def resolve_known(value: Any, scope: Scope) -> Any:  # noqa: ANN401 — see above
    """As `resolve`, with UNKNOWN in the place of what only the deployment will know."""
    if isinstance(value, list):
        return [resolve_known(item, scope) for item in value]
    if isinstance(value, dict) and not isinstance(value.get("copy"), list):
        return {_key(k, scope): resolve_known(v, scope) for k, v in value.items()}
    try:
        return resolve(value, scope)
    except NeedsRuntimeError:
        return UNKNOWN


def is_known(value: Any) -> bool:  # noqa: ANN401 — see above
    """Whether no UNKNOWN stands anywhere in it."""
    match value:
        case list():
            return all(is_known(item) for item in value)
        case dict():
            return all(is_known(item) for item in value.values())
        case _:
            return value is not UNKNOWN


def expressions_in(value: Any) -> Iterator[str]:  # noqa: ANN401 — see above
    """Every expression of a JSON value, keys included."""
    match value:
        case str():
            if is_expression(value):
                yield value
        case list():
            for item in value:
                yield from expressions_in(item)
        case dict():
            for key, item in value.items():
                yield from expressions_in(key)
                yield from expressions_in(item)
        case _:
            return


def check(value: Any, scope: Scope) -> None:  # noqa: ANN401 — see above
    """Refuse what is wrong in any branch, taken or not: syntax, functions, names, their numbers.

    Raises:
        TemplateError: the first thing found.
    """
    for text in expressions_in(value):
        spend(len(text) // 8)
        for node in walk(parse(text)):
            if isinstance(node, Call):
                _check_call(node, scope)


def copies(loop: dict[str, Any], scope: Scope) -> Iterator[Scope]:
    """The scopes of one copy loop's turns: `{"name", "count"}`."""
    name, count = loop.get("name"), resolve(loop.get("count"), scope)
    if not isinstance(name, str) or not isinstance(count, int) or isinstance(count, bool):
        raise TemplateError("A copy loop needs a name and an integer count")
    if not 0 <= count <= _MAX_LOOP:
        raise TemplateError(
            f"The copy loop '{name}' runs {count} times; {_MAX_LOOP} is the most"
        )
    for index in range(count):
        spend(10)
        yield scope.with_loop(name, index)


def _resolved_object(value: dict[str, Any], scope: Scope) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, item in value.items():
        if key == "copy" and isinstance(item, list):
            for loop in item:
                whole = isinstance(loop, dict) and "input" in loop
                if not whole or not isinstance(loop.get("name"), str):
                    raise TemplateError("A property copy loop needs name, count and input")
                made[loop["name"]] = [
                    resolve(loop["input"], turn) for turn in copies(loop, scope)
                ]
        else:
            made[_key(key, scope)] = resolve(item, scope)
    return made


def _key(key: str, scope: Scope) -> str:
    found = resolve(key, scope)
    if not isinstance(found, str):
        raise TemplateError(f"A property name must be a string, not {type_name(found)}")
    return found


def _call(node: Call, scope: Scope) -> Any:  # noqa: ANN401 — see above
    if "." in node.name:
        return _call_user(node, scope)
    function = _function(node, scope)
    if function.style is Style.LAZY:
        return _bounded(function.call(scope, evaluate, *node.arguments), node.name)
    arguments = [evaluate(argument, scope) for argument in node.arguments]
    spend(sum(len(one) for one in arguments if isinstance(one, list | dict)) // 4)
    try:
        if function.name == "list*":
            return list_call(scope, node.name, arguments)
        if function.style is Style.SCOPED:
            return _bounded(function.call(scope, *arguments), node.name)
        return _bounded(function.call(*arguments), node.name)
    except (
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        OverflowError,
        AttributeError,
    ) as error:
        kinds = ", ".join(type_name(argument) for argument in arguments)
        raise TemplateError(
            f"Unable to evaluate template language function '{node.name}': "
            f"it does not take ({kinds})"
        ) from error


def _call_user(node: Call, scope: Scope) -> Any:  # noqa: ANN401 — see above
    function = _user_function(node, scope)
    declared = function.get("parameters", [])
    values = {
        one["name"]: evaluate(argument, scope)
        for one, argument in zip(declared, node.arguments, strict=True)
    }
    # A user function sees its own parameters and nothing else, not even another user function.
    inner = type(scope)(place=scope.place, parameters=values).refusing(
        "reference", "references", "list*"
    )
    return resolve(function["output"]["value"], inner)


def _function(node: Call, scope: Scope) -> Function:
    function = known(node.name)
    if function is None:
        raise TemplateError(f"The template function '{node.name}' is not valid")
    if function.name.lower() in scope.refused:
        raise TemplateError(
            f"The template function '{node.name}' is not expected at this location"
        )
    least, most, given = function.least, function.most, len(node.arguments)
    if given < least or (most is not None and given > most):
        wanted = f"{least}" if most == least else f"{least} to {most or 'any number'}"
        raise TemplateError(
            f"Unable to evaluate template language function '{node.name}': "
            f"function requires {wanted} argument(s) while {given} were provided"
        )
    return function


def _user_function(node: Call, scope: Scope) -> dict[str, Any]:
    key = find_name(scope.user_functions, node.name)
    if key is None:
        raise TemplateError(f"The template function '{node.name}' is not valid")
    function = scope.user_functions[key]
    if len(function.get("parameters", [])) != len(node.arguments):
        raise TemplateError(
            f"The user function '{node.name}' is given a wrong number of arguments"
        )
    return function


def _check_call(node: Call, scope: Scope) -> None:
    if "." in node.name:
        _user_function(node, scope)
        return
    _function(node, scope)
    match node:
        case Call(name=name, arguments=(Literal(value=str(wanted)),)):
            lowered = name.lower()
            if lowered == "parameters" and not _has(scope.parameters, wanted):
                raise TemplateError(f"The template parameter '{wanted}' is not found")
            if lowered == "variables" and not _has(scope.variable_names, wanted):
                raise TemplateError(f"The template variable '{wanted}' is not found")


def _has(names: Any, wanted: str) -> bool:  # noqa: ANN401 — a mapping or a set of names
    return any(name.lower() == wanted.lower() for name in names)


def _member(target: Any, name: str, *, safe: bool) -> Any:  # noqa: ANN401 — see above
    if target is None and safe:
        return None
    if not isinstance(target, dict):
        raise TemplateError(f"The property '{name}' cannot be selected on {type_name(target)}")
    key = find_name(target, name)
    if key is None:
        if safe:
            return None
        names = ", ".join(list(target)[:10])
        raise TemplateError(
            f"The language expression property '{name}' doesn't exist, "
            f"available properties are '{names}'"
        )
    return target[key]


def _index(target: Any, index: Any, *, safe: bool) -> Any:  # noqa: ANN401 — see above
    if isinstance(index, str):
        return _member(target, index, safe=safe)
    if target is None and safe:
        return None
    if not isinstance(target, list) or isinstance(index, bool) or not isinstance(index, int):
        raise TemplateError(f"An index cannot be selected on {type_name(target)}")
    if not 0 <= index < len(target):
        if safe:
            return None
        raise TemplateError(
            f"The language expression property array index '{index}' is out of bounds"
        )
    return target[index]


def _bounded(value: Any, name: str) -> Any:  # noqa: ANN401 — see above
    """The value, when it is not too large; building it is paid for."""
    limit = MAX_TEXT if isinstance(value, str) else MAX_ITEMS
    if isinstance(value, str | list | dict) and len(value) > limit:
        raise TemplateError(f"'{name}' gives more than {limit} characters or items")
    if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        raise TemplateError(f"'{name}' gives a number beyond 64 bits")
    if name.lower() not in _GIVEN:
        spend(_weight(value))
    return value


def _weight(value: Any) -> int:  # noqa: ANN401 — see above
    """How much there is in it, counted as it would be written: what is shared counts again."""
    total = 0
    ahead: list[tuple[int, Any]] = [(0, value)]
    while ahead and total <= MAX_ITEMS:
        depth, here = ahead.pop()
        if depth > MAX_DEPTH:
            raise TemplateError(
                f"A value of the template is nested deeper than {MAX_DEPTH} levels"
            )
        match here:
            case str():
                total += len(here) // 64
            case list() | dict():
                total += len(here)
                items = here.values() if isinstance(here, dict) else here
                ahead += [(depth + 1, i) for i in items if isinstance(i, str | list | dict)]
            case _:
                pass
    if total > MAX_ITEMS:
        raise TemplateError(f"A value of the template has more than {MAX_ITEMS} items")
    return total
