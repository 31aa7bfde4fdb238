"""The SQL of rules, by table and by fuzzing; examples are those of the documentation and beyond."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from azure.servicebus._pyamqp._decode import decode_payload
from azure.servicebus._pyamqp._encode import encode_payload
from azure.servicebus._pyamqp.message import Header, Message, Properties
from hypothesis import example, given, settings
from hypothesis import strategies as st

from local.service_bus.decode import CodecError
from local.service_bus.errors import BrokerError
from local.service_bus.filters.envelope import Envelope
from local.service_bus.filters.evaluate import Evaluation
from local.service_bus.filters.lexer import KEYWORDS
from local.service_bus.filters.parser import parse_action, parse_filter
from local.service_bus.filters.values import FilterError, like

if TYPE_CHECKING:
    from collections.abc import Mapping

PROPERTIES: dict[str, Any] = {
    "color": "blue",
    "quantity": 10,
    "price": 2.5,
    "urgent": True,
    "nothing": None,
    "HR-EmployeeID": 7,
    "Prüfung": "ja",
    "quote": "it's 100% [sure]",
    "many": 2**30,
    "id": UUID(int=5),
}


def encoded(user: Mapping[str, Any] | None = None, **fields: Any) -> bytes:
    """A message as the SDK's own codec writes it."""
    message = Message(
        header=Header(durable=True),
        properties=Properties(
            message_id="m-1",
            subject="bus stop",
            to="here",
            correlation_id="c",
            content_type="text/plain",
            group_id="s",
            reply_to="back",
            reply_to_group_id="rs",
            **fields,
        ),
        application_properties=dict(PROPERTIES if user is None else user),
        data=[b"body"],
    )
    return bytes(encode_payload(bytearray(), message))


def decoded(raw: bytes) -> Any:
    return decode_payload(memoryview(raw))


def matches(text: str, parameters: Mapping[str, object] | None = None) -> bool | None:
    return Evaluation(Envelope(encoded()), parameters or {}).matches(parse_filter(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("color = 'blue'", True),
        ("COLOR = 'blue'", True),
        ("color = 'Blue'", False),
        ("user.color = 'blue' AND quantity = 10", True),
        ("color <> 'red'", True),
        ("color != 'blue'", False),
        ("quantity > 9 AND quantity >= 10 AND quantity < 11 AND quantity <= 10", True),
        ("quantity = 10.0", True),
        ("price * 2 = 5", True),
        ("quantity / 4 = 2", True),
        ("-quantity / 4 = -2", True),
        ("quantity % 4 = 2", True),
        ("1 + 2 * 3 = 7", True),
        ("(1 + 2) * 3 = 9", True),
        ("10 - 3 - 2 = 5", True),
        ("- -quantity = 10", True),
        ("+quantity = 10", True),
        ("9223372036854775807 + 1 < 0", True),
        ("color + '!' = 'blue!'", True),
        ("1.5e1 = 15", True),
        (".5 = 0.5", True),
        ("urgent = TRUE", True),
        ("urgent <> false", True),
        ("color LIKE 'b%'", True),
        ("color LIKE '_l_e'", True),
        ("color LIKE 'b'", False),
        ("color NOT LIKE 'r%'", True),
        ("quote LIKE '%100!%%' ESCAPE '!'", True),
        ("quote LIKE '%200!%%' ESCAPE '!'", False),
        ("quote = 'it''s 100% [sure]'", True),
        ("color IN ('red', 'blue')", True),
        ("color NOT IN ('red', 'green')", True),
        ("quantity IN (1, 2)", False),
        ("missing IS NULL", True),
        ("nothing IS NULL", True),
        ("color IS NULL", False),
        ("color IS NOT NULL", True),
        ("EXISTS(color)", True),
        ("EXISTS(missing)", False),
        ("NOT EXISTS(missing)", True),
        ("EXISTS(nothing)", True),
        ("EXISTS(sys.Label)", True),
        ("[HR-EmployeeID] = 7", True),
        ('"HR-EmployeeID" = 7', True),
        ("Prüfung = 'ja'", True),
        ("property('color') = 'blue'", True),
        ("p('co' + 'lor') = 'blue'", True),
        ("newid() <> newid()", True),
        ("sys.Label LIKE '%bus%' OR color IN ('queue', 'topic')", True),
        ("sys.label = 'bus stop' AND sys.Subject = 'bus stop'", True),
        ("sys.MessageId = 'm-1' AND sys.CorrelationId = 'c'", True),
        ("sys.To = 'here' AND sys.ReplyTo = 'back'", True),
        ("sys.SessionId = 's' AND sys.ReplyToSessionId = 'rs'", True),
        ("sys.ContentType = 'text/plain'", True),
        ("sys.PartitionKey IS NULL", True),
        ("sys.Size > 10", True),
        ("1=1", True),
        ("1>1", False),
        ("NOT (1=1)", False),
        ("NOT NOT 1=1", True),
        ("1=1 OR 1=2 AND 1=2", True),
        ("((color = 'blue'))", True),
    ],
)
def test_a_filter_says(text: str, expected: bool) -> None:
    assert matches(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("missing = 1", None),
        ("NOT missing = 1", None),
        ("missing <> 1", None),
        ("missing LIKE 'a'", None),
        ("color LIKE missing", None),
        ("missing IN (1, 2)", None),
        ("missing NOT IN (1, 2)", None),
        ("missing + 1 = 2", None),
        ("-missing = 2", None),
        ("missing = 1 AND 1=1", None),
        ("missing = 1 AND 1=2", False),
        ("missing = 1 OR 1=1", True),
        ("missing = 1 OR 1=2", None),
        ("nothing = NULL", None),
        ("color = NULL", None),
        ("property(missing) = 1", None),
    ],
)
def test_what_is_not_there_is_unknown(text: str, expected: bool | None) -> None:
    assert matches(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "sys.Colour = 'blue'",
        "color > 5",
        "quantity = 'ten'",
        "quantity LIKE '1%'",
        "1 / 0 = 1",
        "quantity % 0 = 1",
        "urgent + 1 = 2",
        "-color = 1",
        "color LIKE 'a' ESCAPE 'ab'",
        "quantity = @unknown",
        "property(quantity) = 1",
    ],
)
def test_what_cannot_be_computed_is_an_error(text: str) -> None:
    with pytest.raises(FilterError):
        matches(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "color",
        "color =",
        "= 1",
        "color == 1",
        "color = 'blue",
        "[color = 1",
        "[] = 1",
        "color = 1 AND",
        "AND",
        "color IN ()",
        "color IN 1",
        "color IS 1",
        "1 IS NULL",
        "color NOT 1",
        "(color = 1",
        "color = 1)",
        "color = 1 color = 2",
        "other.color = 1",
        "EXISTS color",
        "EXISTS('color')",
        "upper(color) = 'A'",
        "NOT color",
        "(color = 1) = 2",
        "1 + (color = 1) = 2",
        "select = ;",
        "color # 1",
        "a = 99999999999999999999",
        "a = 1x",
        "a = @",
        "SET a = 1",
        "(" * 40 + "1=1" + ")" * 40,
        "a = '" + "x" * 1_024 + "'",
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(BrokerError):
        parse_filter(text)


def test_parameters_are_found_in_any_case() -> None:
    assert matches("color = @One AND quantity = @two", {"@one": "blue", "@two": 10})


def test_times_and_durations_are_compared_as_such() -> None:
    when = datetime(2026, 11, 24, tzinfo=UTC)
    envelope = Envelope(encoded({"at": when}))
    values = {"@t": when + timedelta(hours=1), "@d": timedelta(hours=1)}
    for text in ("at < @t", "at + @d = @t", "@t - at = @d", "at IS NOT NULL"):
        assert Evaluation(envelope, values).matches(parse_filter(text))
    with pytest.raises(FilterError):
        Evaluation(envelope, values).matches(parse_filter("at < 5"))


def acted(text: str, parameters: Mapping[str, object] | None = None) -> Any:
    envelope = Envelope(encoded())
    Evaluation(envelope, parameters or {}).carry_out(parse_action(text))
    return decoded(envelope.encode())


def test_an_action_changes_what_it_names_and_nothing_else() -> None:
    message = acted(
        "SET quantity = quantity / 2; SET sys.Label = 'x' SET fresh = 'new'; REMOVE color"
    )
    before = decoded(encoded())
    properties = message.application_properties
    assert properties[b"quantity"] == 5
    assert properties[b"fresh"] == b"new"
    assert b"color" not in properties
    assert properties[b"price"] == 2.5
    assert message.properties.subject == b"x"
    assert message.properties.message_id == before.properties.message_id
    assert message.properties.group_id == before.properties.group_id
    assert message.data == [b"body"]
    assert message.header == before.header


def test_set_takes_the_type_of_what_was_there() -> None:
    properties = acted(
        "SET color = 5; SET quantity = '12'; SET price = 3; SET nothing = missing"
    ).application_properties
    assert properties[b"color"] == b"5"
    assert properties[b"quantity"] == 12
    assert properties[b"price"] == 3.0
    assert properties[b"nothing"] is None


def test_properties_of_the_service_are_set_and_removed() -> None:
    life = timedelta(minutes=1)
    message = acted(
        "SET sys.TimeToLive = @life; SET sys.SessionId = 'other'; REMOVE sys.ReplyTo;"
        "SET sys.PartitionKey = 'p'; SET sys.MessageId = newid(); SET sys.ContentType = 'a/b'",
        {"@life": life},
    )
    assert message.header.ttl == 60_000
    assert message.properties.group_id == b"other"
    assert message.properties.reply_to is None
    assert message.message_annotations == {b"x-opt-partition-key": b"p"}
    assert len(message.properties.message_id) == 36
    assert message.properties.content_type == b"a/b"


@pytest.mark.parametrize(
    "text",
    [
        "SET sys.SequenceNumber = 1",
        "SET sys.Nothing = 1",
        "SET a = sys.Nothing",
        "SET a = 1/0",
        "SET sys.TimeToLive = 5",
        "SET sys.ScheduledEnqueueTimeUtc = 'soon'",
        "SET big = 'xxxxxxxx'; " + "SET big = big + big; " * 13,
    ],
)
def test_an_action_that_cannot_be_carried_out_is_an_error(text: str) -> None:
    with pytest.raises(FilterError):
        acted(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SET",
        "SET a",
        "SET a = ",
        "SET a = b = c",
        "SET property('a') = 1",
        "REMOVE",
        "REMOVE 'a'",
        "color = 1",
        "SET a = 1;" * 33,
        ";",
    ],
)
def test_what_is_no_action_is_refused(text: str) -> None:
    with pytest.raises(BrokerError):
        parse_action(text)


# --- random texts


words = st.sampled_from(
    [
        *sorted(KEYWORDS),
        *"()+-*/%,.;=<>[]'\"@_",
        "<>",
        ">=",
        "!=",
        "color",
        "quantity",
        "missing",
        "nothing",
        "urgent",
        "id",
        "sys.Label",
        "sys.TimeToLive",
        "user.",
        "property(",
        "newid()",
        "'b%'",
        "''",
        "@p",
        "1",
        "0",
        "2.5",
        "9223372036854775807",
        "1e308",
    ]
)
texts = st.one_of(
    st.lists(words, max_size=30).map(" ".join),
    st.lists(words, max_size=30).map("".join),
    st.text(max_size=60),
)


@given(texts)
@example("(" * 1_000)
@example("NOT " * 250 + "1=1")
@example("- " * 500 + "1 = 1")
@example("1" + "+1" * 500 + " = 501")
@example("1=1" + " OR 1=1" * 140)
@example("p(" * 300)
@settings(max_examples=600, deadline=1_000)
def test_any_text_is_a_filter_or_is_refused(text: str) -> None:
    try:
        node = parse_filter(text)
    except BrokerError:
        return
    try:
        found = Evaluation(Envelope(encoded()), {"@p": 5}).matches(node)
    except FilterError:
        return
    assert found in {True, False, None}


@given(texts.map(lambda text: f"SET a = {text}") | texts)
@settings(max_examples=400, deadline=1_000)
def test_any_text_is_an_action_or_is_refused(text: str) -> None:
    try:
        statements = parse_action(text)
    except BrokerError:
        return
    envelope = Envelope(encoded())
    try:
        Evaluation(envelope, {"@p": timedelta(days=9)}).carry_out(statements)
    except FilterError:
        return
    assert decoded(envelope.encode()).data == [b"body"]


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_a_message_of_any_bytes_is_read_or_refused(data: bytes) -> None:
    try:
        envelope = Envelope(encoded()[:-8] + data)
        Evaluation(envelope, {}).matches(parse_filter("color = 'blue' OR id = id OR many > 1"))
    except (FilterError, CodecError):
        return


@given(st.text("ab%_", max_size=12), st.text("ab", max_size=12))
@settings(max_examples=400)
def test_like_agrees_with_a_plain_reading(pattern: str, text: str) -> None:
    def plain(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "%":
            return plain(p[1:], t) or (bool(t) and plain(p, t[1:]))
        return bool(t) and p[0] in {t[0], "_"} and plain(p[1:], t[1:])

    assert like(text, pattern) is plain(pattern, text)


def test_like_takes_no_time_on_hostile_patterns() -> None:
    begin = time.perf_counter()
    assert like("a" * 30_000, "%a" * 400 + "%b") is False
    assert like("a" * 30_000, "%" + "_" * 500 + "b%") is False
    assert time.perf_counter() - begin < 5
