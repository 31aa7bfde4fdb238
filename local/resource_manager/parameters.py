"""Parameters of a template: given values against declared types and constraints.

Values of secure parameters never come into an error message, nor into what a deployment shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError, TemplateError
from local.resource_manager.evaluator import check, is_known, resolve
from local.resource_manager.values import (
    UNKNOWN,
    NeedsRuntimeError,
    find_name,
    same,
    type_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from local.resource_manager.scope import Scope

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "securestring": (str,),
    "int": (int,),
    "bool": (bool,),
    "array": (list,),
    "object": (dict,),
    "secureobject": (dict,),
}
SECURE = ("securestring", "secureobject")
_KEYS = {
    "type", "defaultvalue", "allowedvalues", "minlength", "maxlength", "minvalue", "maxvalue",
    "metadata", "nullable", "$ref", "items", "properties", "additionalproperties", "sealed",
}  # fmt: skip


class LazyValues(dict[str, Any]):
    """Values that are computed when first asked for, each once, with a guard against circles."""

    def __init__(self, kind: str, compute: Mapping[str, Callable[[], Any]]) -> None:
        super().__init__()
        self._kind = kind
        self._compute = dict(compute)
        self._running: list[str] = []

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 — template values have no static type
        if name not in self._compute:
            raise KeyError(name)
        if name in self._running:
            circle = " -> ".join([*self._running[self._running.index(name) :], name])
            raise TemplateError(f"Circular reference between {self._kind}s: {circle}")
        self._running.append(name)
        try:
            self[name] = self._compute[name]()
        finally:
            self._running.pop()
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._compute)

    def __contains__(self, name: object) -> bool:
        return name in self._compute

    def __len__(self) -> int:
        return len(self._compute)

    def keys(self) -> Any:  # noqa: ANN401 — a view, as dict has it
        """The declared names, computed or not."""
        return self._compute.keys()


def is_secure(declared: Mapping[str, Any]) -> bool:
    """Whether a declaration is of a secure type."""
    return str(declared.get("type", "")).lower() in SECURE


def declared_type(declared: Any, name: str, what: str) -> str:  # noqa: ANN401 — as it came
    """The lower-case type of a parameter or output.

    Raises:
        TemplateError: the declaration has none.
    """
    kind = declared.get("type") if isinstance(declared, dict) else None
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TemplateError(
            f"The template {what} '{name}' has no valid type; expected one of "
            f"string, securestring, int, bool, array, object, secureobject"
        )
    return kind.lower()


def bind(declared: Mapping[str, Any], given: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    """The value of every declared parameter.

    `given` holds `{"value": …}` entries, a value UNKNOWN where only the deployment will know.

    Raises:
        TemplateError: one is missing, unknown, or not as declared.
        ArmError: a form of value that the local Resource Manager does not take.
    """
    for name, declaration in declared.items():
        declared_type(declaration, name, "parameter")
        strange = [key for key in declaration if key.lower() not in _KEYS]
        if strange:
            raise TemplateError(
                f"The parameter '{name}' has an unknown property '{strange[0]}'"
            )
    names = {name: find_name(declared, name) for name in given}
    extra = [name for name, found in names.items() if found is None]
    if extra:
        raise TemplateError(
            "The following parameters were supplied, but do not correspond to any parameters "
            f"defined in the template: '{', '.join(extra)}'. The parameters defined in the "
            f"template are: '{', '.join(declared)}'"
        )
    values = {found: _given(name, given[name]) for name, found in names.items() if found}

    def compute(name: str) -> Callable[[], Any]:
        return lambda: _value(name, declared[name], values, inner)

    lazy = LazyValues("parameter", {name: compute(name) for name in declared})
    inner = type(scope)(
        place=scope.place,
        parameters=lazy,
        user_functions=scope.user_functions,
    ).refusing("reference", "references", "list*", "copyIndex")
    return {name: lazy[name] for name in declared}


def shown(declared: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as a deployment answers them: secure ones by their type alone."""
    answer: dict[str, Any] = {}
    for name, value in values.items():
        kind = declared[name]["type"]
        hidden = is_secure(declared[name]) or value is UNKNOWN
        answer[name] = {"type": kind} if hidden else {"type": kind, "value": value}
    return answer


def conform(name: str, declared: Mapping[str, Any], value: Any) -> None:  # noqa: ANN401 — see above
    """Hold a value against type and constraints.

    Raises:
        TemplateError: it does not conform.
    """
    kind = declared_type(declared, name, "parameter")
    if value is None and declared.get("nullable") is True:
        return
    fits = isinstance(value, _TYPES[kind]) and (kind == "bool") == isinstance(value, bool)
    if not fits:
        raise TemplateError(
            f"Template parameter '{name}' JToken type is not valid. Expected '{kind}'. "
            f"Actual '{type_name(value)}'"
        )
    quoted = "" if is_secure(declared) else f" '{value}'"
    allowed = declared.get("allowedValues")
    if isinstance(allowed, list) and not _is_allowed(value, allowed):
        raise TemplateError(
            f"The provided value{quoted} for the template parameter '{name}' is not valid. "
            f"It is not part of the allowed value(s): '{','.join(map(str, allowed))}'"
        )
    size = len(value) if isinstance(value, str | list | dict) else None
    for key, measure, too in (
        ("minLength", size, "Length of the value should be greater than or equal to"),
        ("maxLength", size, "Length of the value should be less than or equal to"),
        ("minValue", value if kind == "int" else None, "It should be greater than or equal to"),
        ("maxValue", value if kind == "int" else None, "It should be less than or equal to"),
    ):
        limit = declared.get(key)
        if limit is None or measure is None:
            continue
        if measure < limit if key.startswith("min") else measure > limit:
            raise TemplateError(
                f"The provided value{quoted} for the template parameter '{name}' is not valid. "
                f"{too} '{limit}'"
            )


def _is_allowed(value: Any, allowed: list[Any]) -> bool:  # noqa: ANN401 — see above
    if isinstance(value, list):
        return all(any(same(item, one) for one in allowed) for item in value)
    return any(same(value, one) for one in allowed)


def _given(name: str, entry: Any) -> Any:  # noqa: ANN401 — as it came
    if not isinstance(entry, dict):
        raise TemplateError(f"The parameter '{name}' must be an object with a 'value'")
    if "reference" in entry:
        raise ArmError(
            "KeyVaultParameterReferenceNotSupported",
            f"The parameter '{name}' refers to a key vault: give it by value "
            "(the local Resource Manager does not read secrets for templates).",
        )
    return entry.get("value")


def _value(
    name: str, declared: Mapping[str, Any], values: Mapping[str, Any], scope: Scope
) -> Any:  # noqa: ANN401 — see above
    value = values.get(name)
    if value is None and "defaultValue" in declared:
        check(declared["defaultValue"], scope)
        try:
            value = resolve(declared["defaultValue"], scope)
        except NeedsRuntimeError as error:
            if error.function:
                raise TemplateError(
                    f"The template function '{error.function}' is not expected in the default "
                    f"value of the parameter '{name}'"
                ) from error
            value = UNKNOWN
    elif value is None and name not in values and declared.get("nullable") is not True:
        raise TemplateError(f"The value for the template parameter '{name}' is not provided")
    if not is_known(value):
        return UNKNOWN
    conform(name, declared, value)
    return value
