"""Rules as XML, both ways: the shapes of the administration protocol's RuleDescription."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID
from xml.sax.saxutils import escape

from local.service_bus.errors import BrokerError, Condition
from local.service_bus.filters.rule import Correlation, Rule, RuleText, Sql, Written

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SB = "{http://schemas.microsoft.com/netservices/2010/10/servicebus/connect}"
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_SCHEMA = "http://www.w3.org/2001/XMLSchema"
_SERIALIZATION = "http://schemas.microsoft.com/2003/10/Serialization/"
_OF_SERIALIZATION = frozenset({"duration", "guid", "char"})

_FIXED = {"TrueFilter": "1=1", "FalseFilter": "1=0"}
_CORRELATED = (
    "CorrelationId",
    "MessageId",
    "To",
    "ReplyTo",
    "Label",
    "SessionId",
    "ReplyToSessionId",
    "ContentType",
)
_WHOLE = {
    "byte": 8,
    "unsignedByte": 8,
    "short": 16,
    "unsignedShort": 16,
    "int": 32,
    "unsignedInt": 32,
    "long": 64,
    "unsignedLong": 64,
}
_DURATION = re.compile(
    r"(-?)P(?:(\d{1,8})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,10})M)?(?:(\d{1,12}(?:\.\d+)?)S)?)?"
)


def read_rule(description: Element, *, name: str, now: int) -> Rule:
    """The rule of a RuleDescription.

    Raises:
        BrokerError: it is none, or its SQL is not.
    """
    asked = description.find(f"{_SB}Filter")
    kind = "TrueFilter" if asked is None else asked.get(_TYPE, "").rpartition(":")[2]
    sql = correlation = None
    if asked is None or kind in _FIXED:
        sql = Sql(text=_FIXED[kind])
    elif kind == "SqlFilter":
        sql = _read_sql(asked)
    elif kind == "CorrelationFilter":
        correlation = _read_correlation(asked)
    else:
        raise _bad(f"{kind!r} is no kind of filter.")
    action = description.find(f"{_SB}Action")
    has_action = action is not None and action.get(_TYPE, "").endswith("SqlRuleAction")
    return compiled(
        RuleText(
            name=name,
            kind=kind,
            sql=sql,
            correlation=correlation,
            action=_read_sql(action) if has_action and action is not None else None,
            created_ms=now,
        )
    )


def compiled(text: RuleText) -> Rule:
    """A rule that was kept, or read, made ready."""
    return Rule(text, _value)


def _read_sql(element: Element) -> Sql:
    text = element.findtext(f"{_SB}SqlExpression") or ""
    if not text.strip():
        raise _bad("The SQL expression is empty.")
    level = element.findtext(f"{_SB}CompatibilityLevel") or "20"
    return Sql(text=text, parameters=_read_pairs(element, "Parameters"), level=level)


def _read_correlation(element: Element) -> Correlation:
    texts = {name: element.findtext(f"{_SB}{name}") for name in _CORRELATED}
    system = {name: text for name, text in texts.items() if text is not None}
    return Correlation(system=system, user=_read_pairs(element, "Properties"))


def _read_pairs(element: Element, name: str) -> dict[str, Written]:
    found: dict[str, Written] = {}
    for pair in element.iterfind(f"{_SB}{name}/{_SB}KeyValueOfstringanyType"):
        key, value = pair.findtext(f"{_SB}Key"), pair.find(f"{_SB}Value")
        if not key or value is None:
            raise _bad(f"{name} needs a key and a value in each pair.")
        found[key] = (value.get(_TYPE, "string").rpartition(":")[2], value.text or "")
    return found


def _value(written: Written) -> object:
    kind, text = written
    try:
        if kind in _WHOLE:
            return _whole(text, _WHOLE[kind])
        return _READERS[kind](text.strip() if kind != "string" else text)
    except (KeyError, ValueError, OverflowError):
        raise _bad(f"{text!r} is no {kind}.") from None


def _whole(text: str, bits: int) -> int:
    number = int(text)
    if not -(2 ** (bits - 1)) <= number < 2**bits:
        raise ValueError(text)
    return number


def _boolean(text: str) -> bool:
    return {"true": True, "false": False, "1": True, "0": False}[text.lower()]


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    sign, days, hours, minutes, seconds = match.groups()
    length = timedelta(
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=float(seconds or 0),
    )
    return -length if sign else length


_READERS = {
    "string": str,
    "anyURI": str,
    "char": str,
    "boolean": _boolean,
    "double": float,
    "float": float,
    "decimal": float,
    "dateTime": _time,
    "duration": _duration,
    "guid": UUID,
}


def _bad(what: str) -> BrokerError:
    return BrokerError(Condition.ARGUMENT, what)


# --- writing


def write_rule(rule: RuleText, created: str) -> str:
    """The RuleDescription of a rule, without its outermost element."""
    if rule.correlation is not None:
        inner = "".join(
            f"<{name}>{escape(text)}</{name}>" for name, text in rule.correlation.system.items()
        ) + _write_pairs("Properties", rule.correlation.user)
    else:
        inner = _write_sql(rule.sql)
    action = '<Action i:type="EmptyRuleAction"/>'
    if rule.action is not None:
        action = f'<Action i:type="SqlRuleAction">{_write_sql(rule.action)}</Action>'
    return (
        f'<Filter i:type="{rule.kind}">{inner}</Filter>{action}'
        f"<CreatedAt>{created}</CreatedAt><Name>{escape(rule.name)}</Name>"
    )


def _write_sql(sql: Sql | None) -> str:
    if sql is None:
        return ""
    return (
        f"<SqlExpression>{escape(sql.text)}</SqlExpression>"
        f"<CompatibilityLevel>{escape(sql.level)}</CompatibilityLevel>"
        f"{_write_pairs('Parameters', sql.parameters)}"
    )


def _write_pairs(name: str, pairs: dict[str, Written]) -> str:
    if not pairs:
        return ""
    written = "".join(
        f"<KeyValueOfstringanyType><Key>{escape(key)}</Key>"
        f'<Value i:type="d6p1:{kind}" xmlns:d6p1="{_namespace(kind)}">{escape(text)}</Value>'
        "</KeyValueOfstringanyType>"
        for key, (kind, text) in pairs.items()
    )
    return f"<{name}>{written}</{name}>"


def _namespace(kind: str) -> str:
    return _SERIALIZATION if kind in _OF_SERIALIZATION else _SCHEMA
