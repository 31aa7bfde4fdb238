"""SQL filters and actions as trees.

One rule of grammar per method, loosest binding first. Parentheses may hold a predicate or an
expression, so each operator checks which of them it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.service_bus.filters.lexer import Kind, Token, syntax_error, tokens
from local.service_bus.filters.tree import (
    EXPRESSIONS,
    Assign,
    Chain,
    Compare,
    Constant,
    Every,
    Exists,
    Expression,
    In,
    IsNull,
    Like,
    Named,
    NewId,
    Not,
    Parameter,
    Predicate,
    Property,
    Remove,
    Signed,
    Some,
    Statement,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH = 32
MAX_STATEMENTS = 32  # "maximum number of expressions per rule action" in the table of quotas

_COMPARISONS = frozenset({"=", "<>", "!=", ">", ">=", "<", "<="})


def parse_filter(text: str) -> Predicate:
    """The predicate that a text says.

    Raises:
        BrokerError: it says none.
    """
    parser = _Parser(text)
    found = parser.predicate()
    parser.end()
    return found


def parse_action(text: str) -> tuple[Statement, ...]:
    """The statements of an action.

    Raises:
        BrokerError: the text is none.
    """
    parser = _Parser(text)
    found: list[Statement] = []
    while not found or not parser.is_at_end():
        found.append(parser.statement())
        while parser.takes(";", ","):
            pass
    if len(found) > MAX_STATEMENTS:
        raise syntax_error(f"{len(found)} statements, {MAX_STATEMENTS} allowed", 0)
    return tuple(found)


class _Parser:
    """The words and how far they were read."""

    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._at = 0
        self._depth = 0

    # --- words

    @property
    def _here(self) -> Token:
        return self._tokens[self._at]

    def _is(self, *words: str) -> bool:
        here = self._here
        return here.kind in {Kind.KEYWORD, Kind.MARK} and here.value in words

    def takes(self, *words: str) -> str | None:
        """Go past one of these words, if one is here."""
        if not self._is(*words):
            return None
        word = str(self._here.value)
        self._at += 1
        return word

    def _needs(self, word: str) -> None:
        if self.takes(word) is None:
            raise self._unexpected(f"{word} is expected")

    def _unexpected(self, why: str) -> Exception:
        here = self._here
        found = "the end" if here.kind is Kind.END else repr(here.value)
        return syntax_error(f"{why}, not {found},", here.at)

    def is_at_end(self) -> bool:
        """Whether all was read."""
        return self._here.kind is Kind.END

    def end(self) -> None:
        """Refuse what is left over."""
        if not self.is_at_end():
            raise self._unexpected("the end is expected")

    def _deeper[T](self, read: Callable[[], T]) -> T:
        if self._depth >= MAX_DEPTH:
            raise syntax_error(f"nested deeper than {MAX_DEPTH}", self._here.at)
        self._depth += 1
        found = read()
        self._depth -= 1
        return found

    # --- predicates

    def predicate(self) -> Predicate:
        """A whole predicate."""
        return self._as_predicate(self._or(), 0)

    def _as_predicate(self, node: Expression | Predicate, at: int) -> Predicate:
        if isinstance(node, EXPRESSIONS):
            raise syntax_error("a condition is expected, not a value,", at)
        return node

    def _as_expression(self, node: Expression | Predicate, at: int) -> Expression:
        if not isinstance(node, EXPRESSIONS):
            raise syntax_error("a value is expected, not a condition,", at)
        return node

    def _or(self) -> Expression | Predicate:
        at, node = self._here.at, self._and()
        if not self._is("OR"):
            return node
        parts = [self._as_predicate(node, at)]
        while self.takes("OR"):
            at = self._here.at
            parts.append(self._as_predicate(self._and(), at))
        return Some(tuple(parts))

    def _and(self) -> Expression | Predicate:
        at, node = self._here.at, self._not()
        if not self._is("AND"):
            return node
        parts = [self._as_predicate(node, at)]
        while self.takes("AND"):
            at = self._here.at
            parts.append(self._as_predicate(self._not(), at))
        return Every(tuple(parts))

    def _not(self) -> Expression | Predicate:
        times = 0
        while self.takes("NOT"):
            times += 1
        at, node = self._here.at, self._comparison()
        if not times:
            return node
        inner = self._as_predicate(node, at)
        return Not(inner) if times % 2 else inner

    def _comparison(self) -> Expression | Predicate:
        if self.takes("EXISTS"):
            self._needs("(")
            found = Exists(self._property())
            self._needs(")")
            return found
        at, node = self._here.at, self._sum()
        if self._is(*_COMPARISONS):
            operator = str(self.takes(*_COMPARISONS))
            left, there = self._as_expression(node, at), self._here.at
            return Compare(operator, left, self._as_expression(self._sum(), there))
        if self.takes("IS"):
            is_not = self.takes("NOT") is not None
            self._needs("NULL")
            if not isinstance(node, Property | Named):
                raise syntax_error("only a property IS NULL", at)
            return Not(IsNull(node)) if is_not else IsNull(node)
        is_not = self._is("NOT")
        if is_not:
            self._at += 1
        if self._is("IN", "LIKE"):
            left = self._as_expression(node, at)
            found = self._in(left) if self.takes("IN") else self._like(left)
            return Not(found) if is_not else found
        if is_not:
            raise self._unexpected("IN or LIKE is expected")
        return node

    def _in(self, left: Expression) -> Predicate:
        self._needs("(")
        items = [self._value()]
        while self.takes(","):
            items.append(self._value())
        self._needs(")")
        return In(left, tuple(items))

    def _like(self, left: Expression) -> Predicate:
        self._needs("LIKE")
        pattern = self._value()
        return Like(left, pattern, self._value() if self.takes("ESCAPE") else None)

    # --- expressions

    def _value(self) -> Expression:
        at = self._here.at
        return self._as_expression(self._sum(), at)

    def _sum(self) -> Expression | Predicate:
        return self._chain(self._product, "+", "-")

    def _product(self) -> Expression | Predicate:
        return self._chain(self._signed, "*", "/", "%")

    def _chain(
        self, operand: Callable[[], Expression | Predicate], *operators: str
    ) -> Expression | Predicate:
        at, node = self._here.at, operand()
        if not self._is(*operators):
            return node
        first = self._as_expression(node, at)
        rest: list[tuple[str, Expression]] = []
        while (operator := self.takes(*operators)) is not None:
            at = self._here.at
            rest.append((operator, self._as_expression(operand(), at)))
        return Chain(first, tuple(rest))

    def _signed(self) -> Expression | Predicate:
        is_signed = is_negative = False
        while (sign := self.takes("+", "-")) is not None:
            is_signed = True
            is_negative ^= sign == "-"
        at, node = self._here.at, self._primary()
        return Signed(is_negative, self._as_expression(node, at)) if is_signed else node

    def _primary(self) -> Expression | Predicate:
        here = self._here
        if self.takes("("):
            inner = self._deeper(self._or)
            self._needs(")")
            return inner
        if (word := self.takes("TRUE", "FALSE", "NULL")) is not None:
            return Constant({"TRUE": True, "FALSE": False, "NULL": None}[word])
        if here.kind in {Kind.TEXT, Kind.INTEGER, Kind.NUMBER}:
            self._at += 1
            return Constant(here.value)
        if here.kind is Kind.PARAMETER:
            self._at += 1
            return Parameter(str(here.value))
        if here.kind is Kind.NAME and self._tokens[self._at + 1].value == "(":
            return self._function()
        return self._property()

    def _function(self) -> Expression:
        here = self._here
        self._at += 2
        match str(here.value).lower():
            case "newid":
                self._needs(")")
                return NewId()
            case "property" | "p":
                name = self._deeper(self._value)
                self._needs(")")
                return Named(name)
        raise syntax_error(f"{here.value!r} is no function", here.at)

    def _property(self) -> Property | Named:
        here = self._here
        if here.kind is Kind.NAME and self._tokens[self._at + 1].value == "(":
            found = self._function()
            if isinstance(found, Named):
                return found
            raise syntax_error("a property is expected", here.at)
        return self.plain_property()

    def plain_property(self) -> Property:
        """A property by its written name."""
        name = self._name()
        if not self._is("."):
            return Property(name, is_system=False)
        if name.lower() not in {"sys", "user"}:
            raise syntax_error(f"{name!r} is no scope: sys or user", self._here.at)
        self._needs(".")
        return Property(self._name(), is_system=name.lower() == "sys")

    def _name(self) -> str:
        here = self._here
        if here.kind not in {Kind.NAME, Kind.QUOTED}:
            raise self._unexpected("a property or a value is expected")
        self._at += 1
        return str(here.value)

    # --- actions

    def statement(self) -> Statement:
        """One statement of an action."""
        if self.takes("REMOVE"):
            return Remove(self.plain_property())
        if not self.takes("SET"):
            raise self._unexpected("SET or REMOVE is expected")
        target = self.plain_property()
        self._needs("=")
        return Assign(target, self._value())
