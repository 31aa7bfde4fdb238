"""Queues, topics, subscriptions and rules as the Atom entries of the administration protocol.

Elements stand in the order of the service's own answers, as the recordings in the tests of the
Python SDK show them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from local.service_bus.errors import BrokerError, Condition
from local.service_bus.filters.rule import Rule
from local.service_bus.filters.wire import write_rule
from local.service_bus.model import State
from local.service_bus.settings import MIB, duration, status_of
from local.service_bus.topics import Subscription, Topic

if TYPE_CHECKING:
    from collections.abc import Iterable
    from xml.etree.ElementTree import Element  # noqa: TC004 — the name only: see `read`

    from local.service_bus.core import Queue
    from local.service_bus.model import AccessRule, QueueSettings

_ATOM = "http://www.w3.org/2005/Atom"
SB = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
_COUNTS = "http://schemas.microsoft.com/netservices/2011/06/servicebus"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_XML = '<?xml version="1.0" encoding="utf-8"?>'
_DESCRIPTIONS = {
    "QueueDescription": "queue",
    "TopicDescription": "topic",
    "SubscriptionDescription": "subscription",
    "RuleDescription": "rule",
}


# --- writing


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page of a list begins, how many it may hold, and where the next one begins."""

    path: str
    here: int
    top: int
    following: int | None


def entry(shown: Queue | Rule) -> bytes:
    """One entity with its settings and runtime counts."""
    return f"{_XML}{_entry(shown)}".encode()


def feed(shown: Iterable[Queue | Rule], page: Page | None = None) -> bytes:
    """A page of entities; an empty one without a page also means: there is no such entity."""
    links = ""
    if page is not None:
        links = _link("self", page.path, page.here, page.top)
        if page.following is not None:
            links += _link("next", page.path, page.following, page.top)
    entries = "".join(map(_entry, shown))
    return (
        f'{_XML}<feed xmlns="{_ATOM}"><title type="text">Entities</title>{links}{entries}</feed>'
    ).encode()


def _link(relation: str, path: str, skip: int, top: int) -> str:
    # The client takes the numbers from the address and goes nowhere else.
    return f'<link rel="{relation}" href="{escape(path)}?$skip={skip}&amp;$top={top}"/>'


def namespace() -> bytes:
    """The namespace itself."""
    return (
        f'{_XML}<entry xmlns="{_ATOM}">'
        '<title type="text">kpax-local</title><content type="application/xml">'
        f'<NamespaceInfo xmlns="{SB}"><CreatedTime>2026-01-01T00:00:00Z</CreatedTime>'
        "<MessagingSKU>Standard</MessagingSKU><ModifiedTime>2026-01-01T00:00:00Z</ModifiedTime>"
        "<Name>kpax-local</Name><NamespaceType>Messaging</NamespaceType></NamespaceInfo>"
        "</content></entry>"
    ).encode()


def error(status: int, detail: str) -> bytes:
    """A refusal."""
    return f"<Error><Code>{status}</Code><Detail>{escape(detail)}</Detail></Error>".encode()


def _entry(shown: Queue | Rule) -> str:
    if isinstance(shown, Rule):
        title, kind = shown.name, "Rule"
        inner = write_rule(shown.text, _time(shown.text.created_ms))
    elif isinstance(shown, Topic):
        title, kind, inner = shown.name, "Topic", _topic(shown)
    elif isinstance(shown, Subscription):
        title, kind, inner = shown.own_name, "Subscription", _subscription(shown)
    else:
        title, kind, inner = shown.name, "Queue", _queue(shown)
    return (
        f'<entry xmlns="{_ATOM}"><title type="text">{escape(title)}</title>'
        f'<content type="application/xml"><{kind}Description xmlns="{SB}"'
        f' xmlns:i="{_INSTANCE}">{inner}</{kind}Description></content></entry>'
    )


def _queue(queue: Queue) -> str:
    settings, found = queue.settings, counts(queue)
    return _elements(
        ("LockDuration", duration(settings.lock_ms)),
        ("MaxSizeInMegabytes", str(settings.max_bytes // MIB)),
        ("RequiresDuplicateDetection", _bool(settings.duplicate_window_ms)),
        ("RequiresSession", _bool(settings.requires_session)),
        ("DefaultMessageTimeToLive", duration(settings.ttl_ms)),
        ("DeadLetteringOnMessageExpiration", _bool(settings.dead_letter_expired)),
        ("DuplicateDetectionHistoryTimeWindow", duration(_window(settings))),
        ("MaxDeliveryCount", str(settings.max_delivery_count)),
        ("EnableBatchedOperations", _bool(settings.batched)),
        ("SizeInBytes", str(queue.used_bytes)),
        ("MessageCount", str(_total(found))),
        *_access(queue),
        ("AutoDeleteOnIdle", duration(settings.idle_ms)),
        ("EnablePartitioning", _bool(settings.partitioned)),
        ("EntityAvailabilityStatus", "Available"),
        ("EnableExpress", _bool(settings.express)),
        ("ForwardTo", settings.forward_to),
        ("UserMetadata", settings.user_metadata),
        ("ForwardDeadLetteredMessagesTo", settings.forward_dead_to),
        ("MaxMessageSizeInKilobytes", "1024"),
    )


def _topic(topic: Topic) -> str:
    settings = topic.settings
    return _elements(
        ("DefaultMessageTimeToLive", duration(settings.ttl_ms)),
        ("MaxSizeInMegabytes", str(settings.max_bytes // MIB)),
        ("RequiresDuplicateDetection", _bool(settings.duplicate_window_ms)),
        ("DuplicateDetectionHistoryTimeWindow", duration(_window(settings))),
        ("EnableBatchedOperations", _bool(settings.batched)),
        ("SizeInBytes", str(topic.used_bytes)),
        ("FilteringMessagesBeforePublishing", "false"),
        *_access(topic),
        ("SubscriptionCount", str(len(topic.subscriptions))),
        ("AutoDeleteOnIdle", duration(settings.idle_ms)),
        ("EnablePartitioning", _bool(settings.partitioned)),
        ("EntityAvailabilityStatus", "Available"),
        ("EnableSubscriptionPartitioning", "false"),
        ("EnableExpress", _bool(settings.express)),
        ("UserMetadata", settings.user_metadata),
        ("MaxMessageSizeInKilobytes", "1024"),
    )


def _subscription(subscription: Subscription) -> str:
    settings, found = subscription.settings, counts(subscription)
    return _elements(
        ("LockDuration", duration(settings.lock_ms)),
        ("RequiresSession", _bool(settings.requires_session)),
        ("DefaultMessageTimeToLive", duration(settings.ttl_ms)),
        ("DeadLetteringOnMessageExpiration", _bool(settings.dead_letter_expired)),
        (
            "DeadLetteringOnFilterEvaluationExceptions",
            _bool(settings.dead_letter_filter_errors),
        ),
        ("MessageCount", str(_total(found))),
        ("MaxDeliveryCount", str(settings.max_delivery_count)),
        ("EnableBatchedOperations", _bool(settings.batched)),
        ("Status", status_of(settings)),
        ("ForwardTo", settings.forward_to),
        *_times(subscription),
        ("CountDetails", _details(found)),
        ("ForwardDeadLetteredMessagesTo", settings.forward_dead_to),
        ("AutoDeleteOnIdle", duration(settings.idle_ms)),
        ("EntityAvailabilityStatus", "Available"),
        ("UserMetadata", settings.user_metadata),
    )


_MARKUP = frozenset({"CountDetails", "AuthorizationRules"})
_LEFT_OUT_WHEN_EMPTY = frozenset({"ForwardTo", "ForwardDeadLetteredMessagesTo", "UserMetadata"})


def _elements(*fields: tuple[str, str]) -> str:
    return "".join(
        text
        if name == "CountDetails"
        else f"<{name}>{text if name in _MARKUP else escape(text)}</{name}>"
        for name, text in fields
        if text or name not in _LEFT_OUT_WHEN_EMPTY
    )


def _access(queue: Queue) -> list[tuple[str, str]]:
    """What queues and topics show between their size and their idle time."""
    settings = queue.settings
    return [
        ("IsAnonymousAccessible", "false"),
        ("AuthorizationRules", "".join(map(_access_rule, settings.rules))),
        ("Status", status_of(settings)),
        *_times(queue),
        ("SupportOrdering", _bool(settings.ordered)),
        ("CountDetails", _details(counts(queue))),
    ]


def _access_rule(rule: AccessRule) -> str:
    rights = "".join(f"<AccessRights>{right}</AccessRights>" for right in rule.rights)
    fields = (
        ("ClaimType", escape(rule.claim_type)),
        ("ClaimValue", escape(rule.claim_value)),
        ("Rights", rights),
        ("CreatedTime", _time(rule.created_ms)),
        ("ModifiedTime", _time(rule.modified_ms)),
        ("KeyName", escape(rule.key_name)),
        ("PrimaryKey", escape(rule.primary_key)),
        ("SecondaryKey", escape(rule.secondary_key)),
    )
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in fields)
    return (
        f'<AuthorizationRule i:type="SharedAccessAuthorizationRule">{inner}</AuthorizationRule>'
    )


def _times(queue: Queue) -> list[tuple[str, str]]:
    return [
        ("CreatedAt", _time(queue.settings.created_ms)),
        ("UpdatedAt", _time(queue.settings.updated_ms)),
        ("AccessedAt", _time(queue.accessed_ms)),
    ]


def _window(settings: QueueSettings) -> int:
    return settings.duplicate_window_ms or settings.shown_window_ms


def _total(found: dict[str, int]) -> int:
    return sum(
        found[name] for name in ("active", "scheduled", "dead_letter", "transfer_dead_letter")
    )


def _details(found: dict[str, int]) -> str:
    parts = (
        ("ActiveMessageCount", found["active"]),
        ("DeadLetterMessageCount", found["dead_letter"]),
        ("ScheduledMessageCount", found["scheduled"]),
        ("TransferMessageCount", 0),
        ("TransferDeadLetterMessageCount", found["transfer_dead_letter"]),
    )
    inner = "".join(f"<d:{name}>{count}</d:{name}>" for name, count in parts)
    return f'<CountDetails xmlns:d="{_COUNTS}">{inner}</CountDetails>'


def counts(queue: Queue) -> dict[str, int]:
    """How many messages a queue has, by state; locked and deferred ones are active too."""
    scheduled = sum(m.state is State.SCHEDULED for m in queue.active.messages.values())
    return {
        "active": len(queue.active.messages) - scheduled,
        "scheduled": scheduled,
        "dead_letter": len(queue.dead.messages),
        "transfer_dead_letter": len(queue.transfer_dead.messages),
        "locked": len(queue.active.locks),
    }


def _bool(value: object) -> str:
    return "true" if value else "false"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


# --- reading


@dataclass(frozen=True, slots=True)
class Fields:
    """What a description says, element by element."""

    kind: str
    element: Element
    texts: dict[str, str] = field(default_factory=dict)
    rules: tuple[dict[str, str], ...] = ()  # authorization rules

    def text(self, name: str) -> str:
        """The text of an element, "" when it is not there."""
        return self.texts.get(name, "")


def read(body: bytes) -> Fields:
    """The description in a request.

    Raises:
        BrokerError: there is none.
    """
    from xml.etree import ElementTree as ET  # noqa: PLC0415 — 1 MiB that a quiet broker never needs

    try:
        # The parser knows no external entities, and the body's length is bounded.
        root = ET.fromstring(body)  # noqa: S314
    except ET.ParseError as error:
        raise _bad(f"The body is not XML: {error}.") from None
    for element in root.iter():
        name = element.tag.removeprefix(f"{{{SB}}}")
        if name in _DESCRIPTIONS:
            return _fields(_DESCRIPTIONS[name], element)
    raise _bad("The body describes no queue, topic, subscription or rule.")


def _fields(kind: str, element: Element) -> Fields:
    texts = {_name(child): (child.text or "").strip() for child in element}
    rules = element.iterfind(f"{{{SB}}}AuthorizationRules/{{{SB}}}AuthorizationRule")
    return Fields(kind, element, texts, tuple(map(_read_access_rule, rules)))


def _read_access_rule(element: Element) -> dict[str, str]:
    found = {_name(child): (child.text or "").strip() for child in element}
    rights = element.iterfind(f"{{{SB}}}Rights/{{{SB}}}AccessRights")
    return found | {"Rights": " ".join((right.text or "").strip() for right in rights)}


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _bad(what: str) -> BrokerError:
    return BrokerError(Condition.ARGUMENT, what)
