"""What SQL filters and actions are made of, once they are read.

The documentation knows two sorts of nodes: predicates say yes, no or unknown, expressions have a
value. Chains of operators are lists, so that no tree is deeper than its text's parentheses.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Constant:
    """A value written down; None is NULL."""

    value: object


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that the rule brings along."""

    name: str


@dataclass(frozen=True, slots=True)
class Property:
    """A property of the message."""

    name: str
    is_system: bool


@dataclass(frozen=True, slots=True)
class Named:
    """property(…): the property whose name is computed."""

    name: Expression


@dataclass(frozen=True, slots=True)
class NewId:
    """newid(): a fresh UUID."""


@dataclass(frozen=True, slots=True)
class Signed:
    """Minuses and pluses before an expression."""

    is_negative: bool
    inner: Expression


@dataclass(frozen=True, slots=True)
class Chain:
    """first op second op third, all of one precedence."""

    first: Expression
    rest: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """left op right."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class IsNull:
    """property IS NULL, also when there is none."""

    inner: Property | Named


@dataclass(frozen=True, slots=True)
class Exists:
    """EXISTS(property)."""

    inner: Property | Named


@dataclass(frozen=True, slots=True)
class In:
    """left IN (…)."""

    left: Expression
    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """left LIKE pattern."""

    left: Expression
    pattern: Expression
    escape: Expression | None


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite; unknown stays unknown."""

    inner: Predicate


@dataclass(frozen=True, slots=True)
class Every:
    """All of them: a AND b AND so on."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """One of them: a OR b OR so on."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Assign:
    """SET target = value."""

    target: Property
    value: Expression


@dataclass(frozen=True, slots=True)
class Remove:
    """REMOVE target."""

    target: Property


type Expression = Constant | Parameter | Property | Named | NewId | Signed | Chain
type Predicate = Compare | IsNull | Exists | In | Like | Not | Every | Some
type Statement = Assign | Remove
EXPRESSIONS = (Constant, Parameter, Property, Named, NewId, Signed, Chain)
