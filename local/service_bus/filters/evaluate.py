"""A filter's tree and a message: does it match; an action's tree and a message: what changes.

Three values: True, False, and None for unknown, which matches nothing and stays unknown under NOT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from local.service_bus.filters import tree
from local.service_bus.filters.values import FilterError, compare, compute, like, negate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Properties(Protocol):
    """A message as filters see it."""

    def user(self, name: str) -> object:
        """An application property in any case; None when there is none, or it is null."""
        ...

    def has_user(self, name: str) -> bool:
        """Whether there is such an application property."""
        ...

    def system(self, name: str) -> object:
        """A property of the service; FilterError when it knows none of this name."""
        ...

    def set_user(self, name: str, value: object) -> None:
        """Set an application property."""
        ...

    def set_system(self, name: str, value: object) -> None:
        """Set a property of the service."""
        ...

    def remove_user(self, name: str) -> None:
        """Take an application property away."""
        ...


class Evaluation:
    """Filters and actions on one message, with the parameters of a rule."""

    def __init__(self, message: Properties, parameters: Mapping[str, object]) -> None:
        self._message = message
        self._parameters = parameters

    def matches(self, node: tree.Predicate) -> bool | None:  # noqa: PLR0911 — one per node
        """Whether the message is so; None: not known."""
        match node:
            case tree.Compare(operator=sign, left=left, right=right):
                return compare(sign, self._value(left), self._value(right))
            case tree.Every(parts=parts):
                return self._all(parts)
            case tree.Some(parts=parts):
                return _opposite(self._all([tree.Not(part) for part in parts]))
            case tree.Not(inner=inner):
                return _opposite(self.matches(inner))
            case tree.IsNull(inner=inner):
                return self._value(inner) is None
            case tree.Exists(inner=inner):
                return self._exists(inner)
            case tree.In(left=left, items=items):
                return self._is_in(self._value(left), items)
            case tree.Like(left=left, pattern=pattern, escape=escape):
                return self._like(left, pattern, escape)

    def _all(self, parts: Iterable[tree.Predicate]) -> bool | None:
        is_unknown = False
        for part in parts:
            found = self.matches(part)
            if found is False:
                return False
            is_unknown |= found is None
        return None if is_unknown else True

    def _exists(self, node: tree.Property | tree.Named) -> bool:
        if isinstance(node, tree.Property) and not node.is_system:
            return self._message.has_user(node.name)
        if isinstance(node, tree.Named):
            name = self._value(node.name)
            return isinstance(name, str) and self._message.has_user(name)
        return self._value(node) is not None

    def _is_in(self, left: object, items: Iterable[tree.Expression]) -> bool | None:
        is_unknown = False
        for item in items:
            found = compare("=", left, self._value(item))
            if found:
                return True
            is_unknown |= found is None
        return None if is_unknown else False

    def _like(
        self, left: tree.Expression, pattern: tree.Expression, escape: tree.Expression | None
    ) -> bool | None:
        value, wanted = self._value(left), self._value(pattern)
        if escape is None:
            return like(value, wanted)
        mark = self._value(escape)
        return None if mark is None else like(value, wanted, mark)

    def _value(self, node: tree.Expression) -> object:  # noqa: PLR0911 — one per node
        match node:
            case tree.Constant(value=value):
                return value
            case tree.Property(name=name, is_system=is_system):
                return self._message.system(name) if is_system else self._message.user(name)
            case tree.Parameter(name=name):
                return self._parameter(name)
            case tree.Chain(first=first, rest=rest):
                value = self._value(first)
                for sign, operand in rest:
                    value = compute(sign, value, self._value(operand))
                return value
            case tree.Signed(is_negative=is_negative, inner=inner):
                value = negate(self._value(inner))
                return value if is_negative else negate(value)
            case tree.Named(name=name):
                wanted = self._value(name)
                if wanted is not None and not isinstance(wanted, str):
                    raise FilterError("property() needs the name as a text")
                return None if wanted is None else self._message.user(wanted)
            case tree.NewId():
                return uuid4()

    def _parameter(self, name: str) -> object:
        if name.lower() not in self._parameters:
            raise FilterError(f"the parameter {name} has no value")
        return self._parameters[name.lower()]

    def carry_out(self, statements: Iterable[tree.Statement]) -> None:
        """Change the message as an action says."""
        for statement in statements:
            target = statement.target
            match statement:
                case tree.Assign(value=node) if target.is_system:
                    self._message.set_system(target.name, self._value(node))
                case tree.Assign(value=node):
                    self._message.set_user(target.name, self._value(node))
                case tree.Remove() if target.is_system:
                    self._message.set_system(target.name, None)
                case tree.Remove():
                    self._message.remove_user(target.name)


def _opposite(value: bool | None) -> bool | None:
    return None if value is None else not value
