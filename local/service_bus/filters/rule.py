"""Rules of a subscription: a filter, and what is changed in a message that it lets through.

A rule is kept as it was written and compiled once. Source: "Topic filters and actions" of the
Service Bus documentation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from local.service_bus.filters.evaluate import Evaluation
from local.service_bus.filters.parser import parse_action, parse_filter
from local.service_bus.filters.values import FilterError, compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.service_bus.filters.envelope import Envelope

DEFAULT = "$Default"
RULE_NAME = "RuleName"

# A parameter or a property to compare with: its XML type and its text, as the client wrote them.
type Written = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sql:
    """An SQL expression with its parameters."""

    text: str
    parameters: dict[str, Written] = field(default_factory=dict)
    level: str = "20"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Properties that must be equal, all of them."""

    system: dict[str, str] = field(default_factory=dict)  # by the name in the XML
    user: dict[str, Written] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleText:
    """A rule as it is kept: what kind of filter, and what it says."""

    name: str
    kind: str  # the type in the XML: TrueFilter, FalseFilter, SqlFilter, CorrelationFilter
    sql: Sql | None = None
    correlation: Correlation | None = None
    action: Sql | None = None
    created_ms: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the store."""
        return asdict(self)


def from_json(kept: dict[str, Any]) -> RuleText:
    """What the store kept."""
    sql, correlation, action = (kept.get(name) for name in ("sql", "correlation", "action"))
    return RuleText(
        name=kept["name"],
        kind=kept["kind"],
        sql=None if sql is None else _sql(sql),
        correlation=None if correlation is None else _correlation(correlation),
        action=None if action is None else _sql(action),
        created_ms=kept["created_ms"],
    )


def _sql(kept: dict[str, Any]) -> Sql:
    written = {name: (kind, text) for name, (kind, text) in kept["parameters"].items()}
    return Sql(text=kept["text"], parameters=written, level=kept["level"])


def _correlation(kept: dict[str, Any]) -> Correlation:
    written = {name: (kind, text) for name, (kind, text) in kept["user"].items()}
    return Correlation(system=kept["system"], user=written)


class Rule:
    """A rule that can be asked."""

    def __init__(self, text: RuleText, read: Callable[[Written], object]) -> None:
        """Compile what was written; `read` makes values of parameters.

        Raises:
            BrokerError: the filter or the action is no SQL, or a value is not of its type.
        """
        self.text = text
        self._predicate = None
        self._parameters: dict[str, object] = {}
        if text.kind == "SqlFilter" and text.sql is not None:
            self._predicate = parse_filter(text.sql.text)
            self._parameters = _parameters(text.sql, read)
        self._wanted: dict[str, object] = {}
        if text.correlation is not None:
            self._wanted = {n: read(written) for n, written in text.correlation.user.items()}
        self._action = None
        self._action_parameters: dict[str, object] = {}
        if text.action is not None:
            self._action = parse_action(text.action.text)
            self._action_parameters = _parameters(text.action, read)

    @property
    def name(self) -> str:
        """As it was given."""
        return self.text.name

    @property
    def has_action(self) -> bool:
        """Whether a match makes a message of its own."""
        return self._action is not None

    def matches(self, read: Callable[[], Envelope]) -> bool:
        """Whether the message gets through; it is read only when the filter looks into it.

        Raises:
            FilterError: the filter cannot be carried out on it.
        """
        if self.text.correlation is not None:
            return self._correlates(read(), self.text.correlation)
        if self._predicate is None:
            return self.text.kind == "TrueFilter"
        return Evaluation(read(), self._parameters).matches(self._predicate) is True

    def _correlates(self, message: Envelope, wanted: Correlation) -> bool:
        if any(message.system(name) != value for name, value in wanted.system.items()):
            return False
        return all(_is_equal(message.user(n), value) for n, value in self._wanted.items())

    def changed(self, message: Envelope) -> bytes:
        """The message after the action.

        Raises:
            FilterError: the action cannot be carried out on it.
        """
        Evaluation(message, self._action_parameters).carry_out(self._action or ())
        message.set_user(RULE_NAME, self.name)
        return message.encode()


def _parameters(sql: Sql, read: Callable[[Written], object]) -> dict[str, object]:
    return {
        f"@{n.removeprefix('@')}".lower(): read(value) for n, value in sql.parameters.items()
    }


def _is_equal(value: object, wanted: object) -> bool:
    try:
        return compare("=", value, wanted) is True
    except FilterError:
        return False  # of another type, so not equal
