"""A message's properties, to be read by filters and changed by actions.

What nobody touches stays the bytes that came. Types are read from the wire, where a time and a
number are told apart, and written back as what they were; names of application properties are
found in any case.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from local.service_bus import codec
from local.service_bus.decode import Described, Symbol, decode, slices
from local.service_bus.filters.values import FilterError, as_text
from local.service_bus.message import sections

if TYPE_CHECKING:
    from local.service_bus.model import Message

_HEADER, _DELIVERY_ANNOTATIONS, _ANNOTATIONS, _PROPERTIES, _APPLICATION = (
    0x70,
    0x71,
    0x72,
    0x73,
    0x74,
)
_TIMESTAMP = 0x83
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS_EPOCH = 621_355_968_000_000_000  # 1970 in ticks of 100 ns since the year 1
_MILLISECOND = timedelta(milliseconds=1)
_FOREVER = timedelta(days=10_675_199)  # what the service calls no end
_LAST_TIME = datetime.max.replace(tzinfo=UTC)

# The properties section, by position; the names are those of the service's message class.
_FIELDS = {
    "messageid": 0,
    "to": 2,
    "label": 3,
    "subject": 3,
    "replyto": 4,
    "correlationid": 5,
    "contenttype": 6,
    "sessionid": 10,
    "replytosessionid": 12,
}
_SYMBOLIC = frozenset({6})
_LAST_FIELD = 12
_ANNOTATED = {
    "partitionkey": "x-opt-partition-key",
    "viapartitionkey": "x-opt-via-partition-key",
    "transactionpartitionkey": "x-opt-via-partition-key",
    "scheduledenqueuetimeutc": "x-opt-scheduled-enqueue-time",
}


class Pair(NamedTuple):
    """A key as it was written, and its value's bytes."""

    key: bytes
    value: bytes


class Envelope:
    """One message, as it is being published."""

    def __init__(self, raw: bytes, message: Message | None = None) -> None:
        self._raw = raw
        self._message = message  # what the topic knows of it
        self._header: list[bytes] = []
        self._fields: list[bytes] = []
        self._annotations: dict[str, Pair] = {}
        self._user: dict[str, Pair] = {}
        self._rest = 0  # where the body begins
        self._front = b""  # delivery annotations
        for code, start, end in sections(raw):
            if code == _HEADER:
                self._header = slices(raw, start)
            elif code == _DELIVERY_ANNOTATIONS:
                self._front = codec.described(code, raw[start:end])
            elif code == _ANNOTATIONS:
                self._annotations = _pairs(raw, start)
            elif code == _PROPERTIES:
                self._fields = slices(raw, start)
            elif code == _APPLICATION:
                self._user = _pairs(raw, start)
            else:
                break
            self._rest = end

    # --- reading

    def user(self, name: str) -> object:
        """An application property in any case; None when there is none, or it is null."""
        pair = self._user.get(name.lower())
        return None if pair is None else _plain(pair.value)

    def has_user(self, name: str) -> bool:
        """Whether there is such an application property."""
        return name.lower() in self._user

    def system(self, name: str) -> object:
        """A property of the service.

        Raises:
            FilterError: it knows none of this name.
        """
        key = name.lower()
        if key in _FIELDS:
            position = _FIELDS[key]
            value = _plain(self._fields[position]) if position < len(self._fields) else None
            return None if value is None else as_text(value)  # ids of any type are texts here
        if key in _ANNOTATED:
            pair = self._annotations.get(_ANNOTATED[key])
            return None if pair is None else _plain(pair.value)
        if key == "size":
            return len(self._raw)
        known = self._of_message()
        if key not in known:
            raise FilterError(f"sys.{name} is no property of a message")
        return known[key]

    def _of_message(self) -> dict[str, object]:
        message = self._message
        names = (
            "timetolive",
            "expiresatutc",
            "enqueuedtimeutc",
            "sequencenumber",
            "enqueuedsequencenumber",
            "deliverycount",
            "state",
            "locktoken",
            "lockeduntilutc",
            "deadlettersource",
            "forcepersistence",
        )
        known: dict[str, object] = {name: None for name in names}  # noqa: C420 — keeps the type of its keys
        known["forcepersistence"] = False
        if message is None:
            return known
        enqueued = _EPOCH + message.enqueued_ms * _MILLISECOND
        life = _FOREVER if message.ttl_ms is None else message.ttl_ms * _MILLISECOND
        return known | {
            "timetolive": life,
            "expiresatutc": enqueued + life if life < _LAST_TIME - enqueued else _LAST_TIME,
            "enqueuedtimeutc": enqueued,
            "sequencenumber": message.sequence,
            "enqueuedsequencenumber": message.sequence,
            "deliverycount": message.delivery_count,
            "state": int(message.state),
            "deadlettersource": None if message.travel is None else message.travel.source,
        }

    # --- changing

    def set_user(self, name: str, value: object) -> None:
        """Set an application property; where one stands, the value becomes of its type."""
        old = self._user.get(name.lower())
        if old is None:
            self._user[name.lower()] = Pair(codec.string(name), _encoded(value))
            return
        self._user[name.lower()] = Pair(old.key, _encoded(_converted(value, _plain(old.value))))

    def remove_user(self, name: str) -> None:
        """Take an application property away."""
        self._user.pop(name.lower(), None)

    def set_system(self, name: str, value: object) -> None:
        """Set a property of the service; None takes it away.

        Raises:
            FilterError: there is none of this name that can be set, or not to this.
        """
        key = name.lower()
        if key in _FIELDS:
            self._set_field(_FIELDS[key], value)
        elif key == "timetolive":
            self._set_ttl(value)
        elif key in _ANNOTATED:
            self._annotate(_ANNOTATED[key], value)
        else:
            raise FilterError(f"sys.{name} cannot be set")

    def _set_field(self, position: int, value: object) -> None:
        self._fields += [codec.NULL] * (_LAST_FIELD + 1 - len(self._fields))
        if value is None:
            self._fields[position] = codec.NULL
        elif position in _SYMBOLIC:
            text = as_text(value)
            if not text.isascii():
                raise FilterError("a content type is ASCII")
            self._fields[position] = codec.symbol(text)
        else:
            self._fields[position] = codec.string(as_text(value))

    def _set_ttl(self, value: object) -> None:
        if not isinstance(value, timedelta | None) or (value and value < timedelta(0)):
            raise FilterError("TimeToLive is a duration")
        self._header += [codec.NULL] * (5 - len(self._header))
        ms = None if value is None else min(value // _MILLISECOND, 0xFFFFFFFF)
        self._header[2] = codec.NULL if ms is None else codec.uint(ms)

    def _annotate(self, name: str, value: object) -> None:
        if value is None:
            self._annotations.pop(name, None)
            return
        is_time = name == _ANNOTATED["scheduledenqueuetimeutc"]
        if is_time is not isinstance(value, datetime):
            raise FilterError(f"{name} cannot be set to a {type(value).__name__}")
        self._annotations[name] = Pair(
            codec.symbol(name), _encoded(value if is_time else as_text(value))
        )

    def encode(self) -> bytes:
        """The message with what was changed."""
        parts = []
        if self._header:
            parts.append(codec.composite(_HEADER, self._header))
        parts.append(self._front)
        if self._annotations:
            parts.append(codec.described(_ANNOTATIONS, _map(self._annotations)))
        if self._fields:
            parts.append(codec.composite(_PROPERTIES, self._fields))
        if self._user:
            parts.append(codec.described(_APPLICATION, _map(self._user)))
        parts.append(self._raw[self._rest :])
        return b"".join(parts)


def _pairs(raw: bytes, at: int) -> dict[str, Pair]:
    items = slices(raw, at)
    found: dict[str, Pair] = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        name, _ = decode(key)
        found[
            (name.decode(errors="replace") if isinstance(name, bytes) else str(name)).lower()
        ] = Pair(key, value)
    return found


def _map(pairs: dict[str, Pair]) -> bytes:
    return codec.map_([part for pair in pairs.values() for part in pair])


def _plain(encoded: bytes) -> object:
    """A value in one of the types that filters know; others are equal to nothing."""
    value, _ = decode(encoded)
    if encoded[0] == _TIMESTAMP:
        return _time(value)
    if isinstance(value, Described):
        return _described(value)
    return str(value) if isinstance(value, Symbol) else value


def _time(ms: int) -> datetime:
    try:
        return _EPOCH + ms * _MILLISECOND
    except OverflowError:
        raise FilterError("a time beyond the year 9999") from None


def _described(value: Described) -> object:
    kind, inner = str(value.descriptor), value.value
    try:
        if kind == "com.microsoft:timespan" and isinstance(inner, int):
            return timedelta(microseconds=inner // 10)
        if kind == "com.microsoft:datetime-offset" and isinstance(inner, int):
            return _EPOCH + timedelta(microseconds=(inner - _TICKS_EPOCH) // 10)
    except OverflowError:
        raise FilterError("a time beyond the year 9999") from None
    return str(inner) if kind == "com.microsoft:uri" else inner


def _encoded(value: object) -> bytes:  # noqa: PLR0911 — one per type
    match value:
        case None:
            return codec.NULL
        case bool():
            return codec.boolean(value)
        case int():
            return codec.long(_within(value))
        case float():
            return codec.double(value)
        case str():
            return codec.string(value)
        case UUID():
            return codec.uuid(value.bytes)
        case datetime():
            return codec.timestamp((value - _EPOCH) // _MILLISECOND)
        case timedelta():
            ticks = value // timedelta(microseconds=1) * 10
            return b"\x00" + codec.symbol("com.microsoft:timespan") + codec.long(_within(ticks))
        case bytes():
            return codec.binary(value)
        case _:
            raise FilterError(f"a {type(value).__name__} cannot be set")


def _within(number: int) -> int:
    if not -(2**63) <= number < 2**63:
        raise FilterError(f"{number} is more than 64 bits hold")
    return number


def _converted(value: object, old: object) -> object:  # noqa: PLR0911 — one per type
    """The value as the type of the one it replaces, where that can be done."""
    if value is None or old is None or type(value) is type(old):
        return value
    try:
        if isinstance(old, str):
            return as_text(value)
        if isinstance(old, float) and isinstance(value, int | str):
            return float(value)
        is_whole = isinstance(old, int) and not isinstance(old, bool)
        if is_whole and isinstance(value, str):
            return int(value)
        if is_whole and isinstance(value, float):
            return round(value)
    except (ValueError, OverflowError):
        return value
    return value
