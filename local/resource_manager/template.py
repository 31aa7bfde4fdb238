"""A template as it is read: its parts, its parameters bound, its variables ready to be asked.

Whatever can be known to be wrong is refused here, before anything is made. The graph of its
resources is in `graph`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from local.resource_manager.budget import spend
from local.resource_manager.errors import TemplateError
from local.resource_manager.evaluator import check, copies, resolve
from local.resource_manager.parameters import (
    LazyValues,
    bind,
    conform,
    declared_type,
    is_secure,
)
from local.resource_manager.scope import Scope
from local.resource_manager.values import UNKNOWN, NeedsRuntimeError, find_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.resource_manager.scope import Place

_TOP = {
    "$schema", "contentversion", "apiprofile", "languageversion", "metadata", "definitions",
    "parameters", "variables", "functions", "resources", "outputs",
}  # fmt: skip
_SCHEMA_SCOPES = {
    "deploymenttemplate.json": "group",
    "subscriptiondeploymenttemplate.json": "subscription",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One template with the scope its expressions stand in."""

    body: Mapping[str, Any]
    scope: Scope
    values: Mapping[str, Any]

    @property
    def declared(self) -> Mapping[str, Any]:
        """The parameters as declared."""
        return self.body.get("parameters") or {}

    def outputs(self, scope: Scope) -> dict[str, Any]:
        """`{name: {type, value}}`, evaluated; secure ones without their value.

        Raises:
            TemplateError: one has no value, or one of another type.
            ArmError: what one refers to does not exist.
        """
        made: dict[str, Any] = {}
        for name, declared in (self.body.get("outputs") or {}).items():
            kind = declared_type(declared, name, "output")
            if not resolve(declared.get("condition", True), scope):
                continue
            if is_secure(declared):
                made[name] = {"type": declared["type"]}
                continue
            value = _output(declared, scope)
            conform(name, {"type": kind, "nullable": declared.get("nullable")}, value)
            made[name] = {"type": declared["type"], "value": value}
        return made

    def foreseen_outputs(self, scope: Scope) -> dict[str, Any]:
        """As `outputs`, with UNKNOWN in the place of what only the deployment will know."""
        made: dict[str, Any] = {}
        for name, declared in (self.body.get("outputs") or {}).items():
            try:
                value = UNKNOWN if is_secure(declared) else _output(declared, scope)
            except NeedsRuntimeError:
                value = UNKNOWN
            made[name] = {"type": declared["type"], "value": value}
        return made

    def check_outputs(self, scope: Scope) -> None:
        """Refuse outputs without a type, and those that are already known to be wrong.

        Raises:
            TemplateError: as said.
        """
        for name, declared in (self.body.get("outputs") or {}).items():
            kind = declared_type(declared, name, "output")
            with contextlib.suppress(NeedsRuntimeError):
                value = _output(declared, scope)
                conform(name, {"type": kind, "nullable": declared.get("nullable")}, value)


def read(body: Any, given: Any, place: Place, *, outer: Scope | None = None) -> Template:  # noqa: ANN401 — as they came
    """Check a template's parts and bind its parameters.

    `outer` is the scope of the template around it, for a nested one that is evaluated there.

    Raises:
        TemplateError: it is wrong.
    """
    spend(100)
    body = _checked(body, place)
    if outer is not None:
        scope = replace(outer, into=place.id)
        return Template(body=body, scope=scope, values={})
    functions = _user_functions(body.get("functions") or [])
    scope = Scope(place=place, user_functions=functions)
    declared = _object(body, "parameters")
    if not isinstance(given, dict | None):
        raise TemplateError("The parameters of a deployment must be an object")
    values = bind(declared, given or {}, scope)
    variables = _object(body, "variables")
    names = frozenset(
        [key for key in variables if key != "copy"]
        + [loop["name"] for loop in _loops(variables)]
    )
    scope = Scope(
        place=place,
        parameters=values,
        user_functions=functions,
        variable_names=names,
        template={k: v for k, v in body.items() if k in ("$schema", "contentVersion")},
    ).refusing("newGuid", "utcNow")
    for name, function in functions.items():
        _check_function(name, function, scope)
    check(variables, scope.refusing("reference", "references", "list*"))
    scope = replace(scope, variables=_lazily(variables, scope))
    check(body.get("outputs") or {}, scope)
    return Template(body=body, scope=scope, values=values)


def _checked(body: Any, place: Place) -> dict[str, Any]:  # noqa: ANN401 — as it came
    if not isinstance(body, dict):
        raise TemplateError("The template must be an object")
    strange = [key for key in body if key.lower() not in _TOP]
    if strange:
        raise TemplateError(
            f"Could not find member '{strange[0]}' on object of type 'Template'"
        )
    for required in ("$schema", "contentVersion", "resources"):
        if required not in body:
            raise TemplateError(f"Required property '{required}' not found in the template")
    _object(body, "outputs")
    if not isinstance(body["resources"], list | dict):
        raise TemplateError("The template's 'resources' must be an array or an object")
    schema = str(body["$schema"]).rstrip("#").rpartition("/")[2].lower()
    wanted = _SCHEMA_SCOPES.get(schema)
    actual = "group" if place.group else "subscription"
    if wanted is None:
        raise TemplateError(f"Template schema '{body['$schema']}' is not supported")
    if wanted != actual:
        raise TemplateError(
            f"Template schema '{body['$schema']}' is not supported for a deployment at "
            f"{actual} scope"
        )
    return body


def _object(body: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = body.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise TemplateError(f"The template's '{key}' must be an object")
    return found


def _loops(variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    loops = variables.get("copy", [])
    well = isinstance(loops, list) and all(
        isinstance(one, dict) and isinstance(one.get("name"), str) and "input" in one
        for one in loops
    )
    if not well:
        raise TemplateError(
            "The variables' copy needs a list of loops with name, count and input"
        )
    return loops


def _lazily(variables: Mapping[str, Any], scope: Scope) -> Callable[[Scope, str], Any]:
    """Variables as a function of their name; each is computed once, in the template's own scope."""
    inner_refused = ("reference", "references", "list*", "copyIndex")
    compute: dict[str, Callable[[], Any]] = {}

    def computed(raw: Any) -> Callable[[], Any]:  # noqa: ANN401 — template value
        return lambda: resolve(raw, here.refusing(*inner_refused))

    def looped(loop: dict[str, Any]) -> Callable[[], Any]:
        return lambda: [
            resolve(loop["input"], turn.refusing("reference", "references", "list*"))
            for turn in copies(loop, here)
        ]

    for name, raw in variables.items():
        if name != "copy":
            compute[name] = computed(raw)
    for loop in _loops(variables):
        compute[loop["name"]] = looped(loop)
    lazy = LazyValues("variable", compute)

    def ask(asking: Scope, name: str) -> Any:  # noqa: ANN401 — template value
        del asking
        key = find_name(lazy, name)
        if key is None:
            raise TemplateError(f"The template variable '{name}' is not found")
        return lazy[key]

    here = replace(scope, variables=ask)
    for name in lazy:
        with contextlib.suppress(NeedsRuntimeError):
            ask(here, name)
    return ask


def _user_functions(namespaces: Any) -> dict[str, Any]:  # noqa: ANN401 — as it came
    found: dict[str, Any] = {}
    if not isinstance(namespaces, list):
        raise TemplateError("The template's 'functions' must be an array of namespaces")
    for one in namespaces:
        if not isinstance(one, dict):
            raise TemplateError("A namespace of functions must be an object")
        space, members = one.get("namespace"), one.get("members")
        if not isinstance(space, str) or not isinstance(members, dict):
            raise TemplateError("A namespace of functions needs a name and members")
        for name, function in members.items():
            output = function.get("output") if isinstance(function, dict) else None
            if not isinstance(output, dict) or "value" not in output:
                raise TemplateError(f"The user function '{space}.{name}' has no output")
            declared = function.get("parameters", [])
            if not isinstance(declared, list) or not all(
                isinstance(one, dict) and isinstance(one.get("name"), str) for one in declared
            ):
                raise TemplateError(
                    f"The parameters of the user function '{space}.{name}' need names"
                )
            found[f"{space}.{name}"] = function
    return found


def _check_function(name: str, function: Mapping[str, Any], scope: Scope) -> None:
    declared = {one["name"]: one for one in function.get("parameters", [])}
    for parameter in declared.values():
        if "defaultValue" in parameter:
            raise TemplateError(f"The user function '{name}' must not have default values")
    inner = Scope(place=scope.place, parameters=declared).refusing(
        "reference", "references", "list*"
    )
    check(function["output"]["value"], inner)


def _output(declared: Mapping[str, Any], scope: Scope) -> Any:  # noqa: ANN401 — template value
    if "copy" in declared:
        if not isinstance(declared["copy"], dict) or "input" not in declared["copy"]:
            raise TemplateError("The copy of an output needs count and input")
        loop = {"name": "output", **declared["copy"]}
        return [resolve(loop["input"], turn) for turn in copies(loop, scope)]
    return resolve(declared.get("value"), scope)
