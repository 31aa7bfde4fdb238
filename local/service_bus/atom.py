"""Queue descriptions as the Atom entries of the administration protocol, and back.

What this broker does not do (forwarding, deleting idle queues, partitions, express) is refused by
name; nothing is accepted and then ignored. Bounds: Service Bus quotas and REST reference.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from local.service_bus.errors import BrokerError, Condition
from local.service_bus.model import QueueSettings
from local.service_bus.namespace import ONLY_QUEUES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local.service_bus.core import Queue

_ATOM = "http://www.w3.org/2005/Atom"
_SB = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
_COUNTS = "http://schemas.microsoft.com/netservices/2011/06/servicebus"
_FOREVER = "P10675199DT2H48M5.4775807S"
_FOREVER_MS = 10_675_199 * 86_400_000
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_MIB = 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._~/-]{0,258}[A-Za-z0-9_])?")
_DURATION = re.compile(
    r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)
_STATUS = {
    "Active": (True, True),
    "Disabled": (False, False),
    "SendDisabled": (False, True),
    "ReceiveDisabled": (True, False),
}


# --- writing


def entry(queue: Queue, counts: dict[str, int]) -> bytes:
    """One queue with its settings and runtime counts."""
    return f'<?xml version="1.0" encoding="utf-8"?>{_entry(queue, counts)}'.encode()


def feed(
    queues: Iterable[tuple[Queue, dict[str, int]]],
    *,
    here: int = 0,
    following: int | None = None,
    top: int = 100,
) -> bytes:
    """A page of queues, with where the next one begins; an empty one also means: no such queue."""
    links = _link("self", here, top)
    if following is not None:
        links += _link("next", following, top)
    entries = "".join(_entry(queue, counts) for queue, counts in queues)
    return (
        f'<?xml version="1.0" encoding="utf-8"?><feed xmlns="{_ATOM}">'
        f'<title type="text">Queues</title>{links}{entries}</feed>'
    ).encode()


def _link(relation: str, skip: int, top: int) -> str:
    # The client takes the numbers from the address and goes nowhere else.
    return f'<link rel="{relation}" href="/$Resources/queues?$skip={skip}&amp;$top={top}"/>'


def namespace() -> bytes:
    """The namespace itself."""
    return (
        f'<?xml version="1.0" encoding="utf-8"?><entry xmlns="{_ATOM}">'
        '<title type="text">kpax-local</title><content type="application/xml">'
        f'<NamespaceInfo xmlns="{_SB}"><CreatedTime>2026-01-01T00:00:00Z</CreatedTime>'
        "<MessagingSKU>Standard</MessagingSKU><ModifiedTime>2026-01-01T00:00:00Z</ModifiedTime>"
        "<Name>kpax-local</Name><NamespaceType>Messaging</NamespaceType></NamespaceInfo>"
        "</content></entry>"
    ).encode()


def error(status: int, detail: str) -> bytes:
    """A refusal."""
    return f"<Error><Code>{status}</Code><Detail>{escape(detail)}</Detail></Error>".encode()


def _entry(queue: Queue, counts: dict[str, int]) -> str:
    fields = "".join(
        f"<{name}>{escape(text)}</{name}>" for name, text in _fields(queue, counts)
    )
    return (
        f'<entry xmlns="{_ATOM}"><title type="text">{escape(queue.name)}</title>'
        f'<content type="application/xml"><QueueDescription xmlns="{_SB}">{fields}'
        f"{_details(counts)}</QueueDescription></content></entry>"
    )


def _fields(queue: Queue, counts: dict[str, int]) -> list[tuple[str, str]]:
    settings = queue.settings
    total = counts["active"] + counts["scheduled"] + counts["dead_letter"]
    status = next(
        s for s, can in _STATUS.items() if can == (settings.can_send, settings.can_receive)
    )
    window_ms = settings.duplicate_window_ms
    return [
        ("LockDuration", _duration(settings.lock_ms)),
        ("MaxSizeInMegabytes", str(settings.max_bytes // _MIB)),
        ("RequiresDuplicateDetection", _bool(bool(window_ms))),
        ("RequiresSession", _bool(settings.requires_session)),
        ("DefaultMessageTimeToLive", _duration(settings.ttl_ms)),
        ("DeadLetteringOnMessageExpiration", _bool(settings.dead_letter_expired)),
        ("DuplicateDetectionHistoryTimeWindow", _duration(window_ms or 10 * _MINUTE_MS)),
        ("MaxDeliveryCount", str(settings.max_delivery_count)),
        ("EnableBatchedOperations", _bool(settings.batched)),
        ("SizeInBytes", str(queue.bytes)),
        ("MessageCount", str(total)),
        ("Status", status),
        *([("UserMetadata", settings.user_metadata)] if settings.user_metadata else []),
        ("CreatedAt", _time(settings.created_ms)),
        ("UpdatedAt", _time(settings.updated_ms)),
        ("AccessedAt", _time(queue.accessed_ms)),
        ("AutoDeleteOnIdle", _FOREVER),
        ("EnablePartitioning", "false"),
        ("EntityAvailabilityStatus", "Available"),
        ("EnableExpress", "false"),
    ]


def _details(counts: dict[str, int]) -> str:
    parts = (
        ("ActiveMessageCount", counts["active"]),
        ("DeadLetterMessageCount", counts["dead_letter"]),
        ("ScheduledMessageCount", counts["scheduled"]),
        ("TransferMessageCount", 0),
        ("TransferDeadLetterMessageCount", 0),
    )
    inner = "".join(f"<d:{name}>{count}</d:{name}>" for name, count in parts)
    return f'<CountDetails xmlns:d="{_COUNTS}">{inner}</CountDetails>'


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def _duration(ms: int | None) -> str:
    if ms is None:
        return _FOREVER
    days, rest = divmod(ms, _DAY_MS)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"P{days}DT{seconds}S" if days else f"PT{seconds}S"


# --- reading


def read_settings(
    name: str, body: bytes, *, old: QueueSettings | None, now: int
) -> QueueSettings:
    """The settings that a request asks for; with `old`, as a change of these.

    Raises:
        BrokerError: a name or a setting is not possible, or not offered here.
    """
    if not _NAME.fullmatch(name) or "//" in name or "$" in name:
        raise _bad(f"'{name}' is no name for a queue: letters, digits and . _ ~ / - inside.")
    asked = _description(body)
    _refuse_unknown(asked)
    has_window = _flag(asked, "RequiresDuplicateDetection", default=False)
    window_ms = _bounded(
        asked, "DuplicateDetectionHistoryTimeWindow", 10 * _MINUTE_MS, 20_000, 7 * _DAY_MS
    )
    can_send, can_receive = _STATUS.get(asked.get("Status") or "Active", (None, None))
    if can_send is None or can_receive is None:
        raise _bad(f"The status {asked['Status']!r} is not known.")
    settings = QueueSettings(
        name=name if old is None else old.name,
        lock_ms=_bounded(asked, "LockDuration", _MINUTE_MS, 1, 5 * _MINUTE_MS),
        max_delivery_count=_number(asked, "MaxDeliveryCount", 10, 1, 2_000),
        duplicate_window_ms=window_ms if has_window else 0,
        requires_session=_flag(asked, "RequiresSession", default=False),
        ttl_ms=_ttl(asked),
        dead_letter_expired=_flag(asked, "DeadLetteringOnMessageExpiration", default=False),
        max_bytes=_size(asked) * _MIB,
        can_send=can_send,
        can_receive=can_receive,
        batched=_flag(asked, "EnableBatchedOperations", default=True),
        user_metadata=asked.get("UserMetadata", ""),
        created_ms=now if old is None else old.created_ms,
        updated_ms=now,
    )
    if len(settings.user_metadata) > 1_024:
        raise _bad("UserMetadata is longer than 1024 characters.")
    if old is not None:
        _refuse_change(old, settings)
    return settings


def _description(body: bytes) -> dict[str, str]:
    from xml.etree import ElementTree as ET  # noqa: PLC0415 — 1 MiB that a quiet broker never needs

    try:
        # The parser knows no external entities, and the body's length is bounded.
        root = ET.fromstring(body)  # noqa: S314
    except ET.ParseError as error:
        raise _bad(f"The body is not XML: {error}.") from None
    found = next(root.iter(f"{{{_SB}}}QueueDescription"), None)
    if found is None:
        raise BrokerError(Condition.NOT_IMPLEMENTED, ONLY_QUEUES)
    fields = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in found}
    rules = found.find(f"{{{_SB}}}AuthorizationRules")
    return fields | {"AuthorizationRules": "" if rules is None or not len(rules) else "some"}


_NOT_OFFERED = ("ForwardTo", "ForwardDeadLetteredMessagesTo", "AuthorizationRules")
_NOT_OFFERED_FLAGS = ("EnablePartitioning", "EnableExpress", "IsAnonymousAccessible")


def _refuse_unknown(asked: dict[str, str]) -> None:
    wanted = [name for name in _NOT_OFFERED if asked.get(name)]
    wanted += [name for name in _NOT_OFFERED_FLAGS if _flag(asked, name, default=False)]
    idle_ms = _milliseconds(asked, "AutoDeleteOnIdle")
    if idle_ms is not None and idle_ms < _FOREVER_MS:
        wanted.append("AutoDeleteOnIdle")
    if asked.get("MaxMessageSizeInKilobytes") not in {None, "", "0", "1024"}:
        raise _bad("MaxMessageSizeInKilobytes can be 1024 and nothing else.")
    if wanted:
        raise BrokerError(Condition.NOT_IMPLEMENTED, f"Not implemented: {', '.join(wanted)}.")


def _refuse_change(old: QueueSettings, new: QueueSettings) -> None:
    if old.requires_session != new.requires_session:
        raise _bad("RequiresSession cannot be changed after the queue was made.")
    if bool(old.duplicate_window_ms) != bool(new.duplicate_window_ms):
        raise _bad("RequiresDuplicateDetection cannot be changed after the queue was made.")


def _flag(asked: dict[str, str], name: str, *, default: bool) -> bool:
    text = asked.get(name, "").lower()
    if text not in {"", "true", "false"}:
        raise _bad(f"{name} must be true or false.")
    return text == "true" if text else default


def _number(asked: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    text = asked.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise _bad(f"{name} must be between {low} and {high}.")
    return int(text)


def _size(asked: dict[str, str]) -> int:
    size = _number(asked, "MaxSizeInMegabytes", 1_024, 1_024, 81_920)
    if size % 1_024:
        raise _bad("MaxSizeInMegabytes must be a multiple of 1024.")
    return size


def _bounded(asked: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    ms = _milliseconds(asked, name)
    if ms is None:
        return default
    if not low <= ms <= high:
        raise _bad(f"{name} must be between {_duration(low)} and {_duration(high)}.")
    return ms


def _ttl(asked: dict[str, str]) -> int | None:
    ms = _milliseconds(asked, "DefaultMessageTimeToLive")
    if ms is not None and ms < 1_000:
        raise _bad("DefaultMessageTimeToLive must be at least one second.")
    return None if ms is None or ms >= _FOREVER_MS else ms


def _milliseconds(asked: dict[str, str], name: str) -> int | None:
    text = asked.get(name)
    if not text:
        return None
    match = _DURATION.fullmatch(text)
    if match is None or text in {"P", "PT"}:
        raise _bad(f"{name}: {text!r} is no ISO 8601 duration.")
    weeks, days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    whole_days = weeks * 7 + days
    return round(whole_days * _DAY_MS + (hours * 60 + minutes) * _MINUTE_MS + seconds * 1000)


def _bad(what: str) -> BrokerError:
    return BrokerError(Condition.ARGUMENT, what)
