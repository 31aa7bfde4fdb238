"""What an administration request asks of a queue, topic or subscription, checked and bounded.

What is accepted is honoured, or shown where one process on one machine has nothing to honour
(partitions, express). Bounds: Service Bus quotas and REST reference; what the service answers to
partitions, express and forwarding together: recordings in the tests of the Python SDK.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from typing import TYPE_CHECKING

from local.service_bus.errors import BrokerError, Condition
from local.service_bus.model import AccessRule, QueueSettings, Right
from local.service_bus.namespace import SUBSCRIPTIONS

if TYPE_CHECKING:
    from local.service_bus.atom import Fields

FOREVER = "P10675199DT2H48M5.4775807S"
MIB = 1024 * 1024
STATUS = {
    "Active": (True, True),
    "Disabled": (False, False),
    "SendDisabled": (False, True),
    "ReceiveDisabled": (True, False),
}
_STATUS_OF = {
    "queue": set(STATUS),
    "topic": {"Active", "Disabled", "SendDisabled"},
    "subscription": {"Active", "Disabled", "ReceiveDisabled"},
}
_FOREVER_MS = 10_675_199 * 86_400_000
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_PARTITIONS = 16
_MAX_RULES, _MAX_KEY = 12, 256

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._~/-]{0,258}[A-Za-z0-9_])?")
_SHORT_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._~-]{0,48}[A-Za-z0-9_])?")
_DURATION = re.compile(
    r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?"
)


def check_name(name: str) -> None:
    """Refuse what is no name of a queue or topic."""
    if not _NAME.fullmatch(name) or "//" in name or "$" in name:
        raise _bad(f"'{name}' is no name for a queue: letters, digits and . _ ~ / - inside.")


def check_short_name(name: str) -> None:
    """Refuse what is no name of a subscription or rule."""
    if not _SHORT_NAME.fullmatch(name):
        raise _bad(f"'{name}' is no name: up to 50 letters, digits and . _ ~ - inside.")


def duration(ms: int | None) -> str:
    """A length of time as the protocol writes it; None is forever."""
    if ms is None:
        return FOREVER
    days, rest = divmod(ms, _DAY_MS)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"P{days}DT{seconds}S" if days else f"PT{seconds}S"


def status_of(settings: QueueSettings) -> str:
    """The word for what can be done."""
    can = (settings.can_send, settings.can_receive)
    return next(word for word, meaning in STATUS.items() if meaning == can)


def read_settings(
    name: str, asked: Fields, *, kind: str, old: QueueSettings | None, now: int
) -> QueueSettings:
    """The settings that a request asks for; with `old`, as a change of these.

    Raises:
        BrokerError: a setting is not possible, or not together with another.
    """
    _refuse_unknown(asked)
    window_ms = _bounded(
        asked, "DuplicateDetectionHistoryTimeWindow", 10 * _MINUTE_MS, 20_000, 7 * _DAY_MS
    )
    has_window = _flag(asked, "RequiresDuplicateDetection", default=False)
    partitioned = _flag(asked, "EnablePartitioning", default=False)
    can_send, can_receive = _status(asked, kind)
    settings = QueueSettings(
        name=name if old is None else old.name,
        lock_ms=_bounded(asked, "LockDuration", _MINUTE_MS, 1, 5 * _MINUTE_MS),
        max_delivery_count=_number(asked, "MaxDeliveryCount", 10, 1, 2_000),
        duplicate_window_ms=window_ms if has_window else 0,
        shown_window_ms=window_ms,
        requires_session=_flag(asked, "RequiresSession", default=False),
        ttl_ms=_ttl(asked),
        dead_letter_expired=_flag(asked, "DeadLetteringOnMessageExpiration", default=False),
        dead_letter_filter_errors=_flag(
            asked, "DeadLetteringOnFilterEvaluationExceptions", default=True
        ),
        max_bytes=_size(asked, is_multiplied=partitioned and old is None) * MIB,
        can_send=can_send,
        can_receive=can_receive,
        batched=_flag(asked, "EnableBatchedOperations", default=True),
        user_metadata=asked.text("UserMetadata"),
        forward_to=asked.text("ForwardTo"),
        forward_dead_to=asked.text("ForwardDeadLetteredMessagesTo"),
        idle_ms=_idle(asked),
        partitioned=partitioned,
        express=_flag(asked, "EnableExpress", default=False),
        ordered=_flag(asked, "SupportOrdering", default=not partitioned),
        rules=_access_rules(asked, old, now),
        created_ms=now if old is None else old.created_ms,
        updated_ms=now,
    )
    _check_together(settings)
    if old is not None:
        _refuse_change(old, settings)
    return settings


def _refuse_unknown(asked: Fields) -> None:
    if _flag(asked, "IsAnonymousAccessible", default=False):
        raise BrokerError(Condition.NOT_IMPLEMENTED, "Not implemented: IsAnonymousAccessible.")
    if asked.text("MaxMessageSizeInKilobytes") not in {"", "0", "1024"}:
        raise _bad("MaxMessageSizeInKilobytes can be 1024 and nothing else.")


def _check_together(settings: QueueSettings) -> None:
    if len(settings.user_metadata) > 1_024:
        raise _bad("UserMetadata is longer than 1024 characters.")
    if settings.express and settings.duplicate_window_ms:
        raise _bad("EnableExpress and RequiresDuplicateDetection cannot be enabled together.")


def _refuse_change(old: QueueSettings, new: QueueSettings) -> None:
    for name, before, after in (
        ("RequiresSession", old.requires_session, new.requires_session),
        (
            "RequiresDuplicateDetection",
            bool(old.duplicate_window_ms),
            bool(new.duplicate_window_ms),
        ),
        ("EnablePartitioning", old.partitioned, new.partitioned),
    ):
        if before is not after:
            raise _bad(
                f"The value for the {name} property of an existing entity cannot be changed."
            )


def _status(asked: Fields, kind: str) -> tuple[bool, bool]:
    word = asked.text("Status") or "Active"
    if word not in _STATUS_OF[kind]:
        raise _bad(f"The status {word!r} is not known for a {kind}.")
    return STATUS[word]


def _access_rules(asked: Fields, old: QueueSettings | None, now: int) -> tuple[AccessRule, ...]:
    found: list[AccessRule] = []
    made = {} if old is None else {rule.key_name: rule.created_ms for rule in old.rules}
    for written in asked.rules:
        name, rights = written.get("KeyName", ""), tuple(written.get("Rights", "").split())
        if not name or len(name) > _MAX_KEY or not set(rights) <= set(Right):
            raise _bad("An authorization rule needs a KeyName, and Listen, Send or Manage.")
        if not rights or (Right.MANAGE in rights and len(set(rights)) < len(Right)):
            raise _bad("Manage permission should also include Send and Listen.")
        keys = [written.get(key) or _new_key() for key in ("PrimaryKey", "SecondaryKey")]
        if any(len(key) > _MAX_KEY for key in keys):
            raise _bad(f"A key has at most {_MAX_KEY} characters.")
        found.append(
            AccessRule(
                key_name=name,
                rights=rights,
                primary_key=keys[0],
                secondary_key=keys[1],
                claim_type=written.get("ClaimType") or "SharedAccessKey",
                claim_value=written.get("ClaimValue") or "None",
                created_ms=made.get(name, now),
                modified_ms=now,
            )
        )
    if len(found) > _MAX_RULES or len({rule.key_name for rule in found}) < len(found):
        raise _bad(f"At most {_MAX_RULES} authorization rules, each of its own name.")
    return tuple(found)


def _new_key() -> str:
    return b64encode(os.urandom(32)).decode()


def _flag(asked: Fields, name: str, *, default: bool) -> bool:
    text = asked.text(name).lower()
    if text not in {"", "true", "false"}:
        raise _bad(f"{name} must be true or false.")
    return text == "true" if text else default


def _number(asked: Fields, name: str, default: int, low: int, high: int) -> int:
    text = asked.text(name) or str(default)
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise _bad(f"{name} must be between {low} and {high}.")
    return int(text)


def _size(asked: Fields, *, is_multiplied: bool) -> int:
    size = _number(asked, "MaxSizeInMegabytes", 1_024, 1_024, 81_920)
    if size % 1_024:
        raise _bad("MaxSizeInMegabytes must be a multiple of 1024.")
    if not is_multiplied:
        return size
    if size * _PARTITIONS > 81_920:
        raise _bad("MaxSizeInMegabytes must be at most 5120 for each of the 16 partitions.")
    return size * _PARTITIONS


def _bounded(asked: Fields, name: str, default: int, low: int, high: int) -> int:
    ms = _milliseconds(asked, name)
    if ms is None:
        return default
    if not low <= ms <= high:
        raise _bad(f"{name} must be between {duration(low)} and {duration(high)}.")
    return ms


def _ttl(asked: Fields) -> int | None:
    ms = _milliseconds(asked, "DefaultMessageTimeToLive")
    if ms is not None and ms < 1_000:
        raise _bad("DefaultMessageTimeToLive must be at least one second.")
    return None if ms is None or ms >= _FOREVER_MS else ms


def _idle(asked: Fields) -> int | None:
    ms = _milliseconds(asked, "AutoDeleteOnIdle")
    if ms is not None and ms < 5 * _MINUTE_MS:
        raise _bad("AutoDeleteOnIdle must be at least five minutes.")
    return None if ms is None or ms >= _FOREVER_MS else ms


def _milliseconds(asked: Fields, name: str) -> int | None:
    text = asked.text(name)
    if not text:
        return None
    match = _DURATION.fullmatch(text)
    if match is None or text in {"P", "PT"} or len(text) > 60:
        raise _bad(f"{name}: {text!r} is no ISO 8601 duration.")
    weeks, days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    whole_days = weeks * 7 + days
    return round(whole_days * _DAY_MS + (hours * 60 + minutes) * _MINUTE_MS + seconds * 1000)


def _bad(what: str) -> BrokerError:
    return BrokerError(Condition.ARGUMENT, what)


def subscription_path(topic: str, name: str) -> str:
    """A subscription's path."""
    return f"{topic}{SUBSCRIPTIONS}{name}"
