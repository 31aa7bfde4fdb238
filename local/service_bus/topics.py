"""Topics and their subscriptions: a topic keeps nothing but what is scheduled, it makes copies.

A subscription is a queue that nobody sends to; what it gets is decided by its rules. Source:
"Topic filters and actions" of the Service Bus documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from local.service_bus.core import SESSION_MISSING, Queue
from local.service_bus.decode import CodecError
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.filters.envelope import Envelope
from local.service_bus.filters.values import FilterError
from local.service_bus.message import examine
from local.service_bus.model import Message, QueueSettings, Travel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.service_bus.filters.rule import Rule
    from local.service_bus.model import Journal

MAX_SUBSCRIPTIONS, MAX_SQL_RULES, MAX_CORRELATION_RULES = 2_000, 2_000, 100_000
FILTER_FAILED = "FilterException"  # the service's word for it is not documented


@dataclass(frozen=True, slots=True)
class Copy:
    """What a subscription gets of a message; with an error, as a dead letter."""

    raw: bytes
    error: str | None = None


class Subscription(Queue):
    """One subscription: a queue of copies, with the rules that choose them."""

    def __init__(
        self,
        queue_id: int,
        settings: QueueSettings,
        *,
        journal: Journal,
        clock: Callable[[], int],
        topic: Topic,
    ) -> None:
        super().__init__(queue_id, settings, journal=journal, clock=clock)
        self.topic = topic
        self.rules: dict[str, Rule] = {}  # by name in lower case

    @property
    def own_name(self) -> str:
        """The name within the topic."""
        return self.name.rpartition("/")[2]

    def copies(
        self, raw: bytes, message: Message, read: Callable[[], Envelope]
    ) -> Iterator[Copy]:
        """What this subscription gets: one copy for all plain rules, one for each with an action."""
        errors: list[str] = []
        is_plain = False
        for rule in self.rules.values():
            try:
                if not rule.matches(read):
                    continue
                if rule.has_action:
                    yield Copy(rule.changed(Envelope(raw, message)))
                else:
                    is_plain = True
            except (FilterError, CodecError) as error:
                errors.append(f"Rule {rule.name}: {error}.")
        if is_plain:
            yield Copy(raw)
        if errors and self.settings.dead_letter_filter_errors:
            yield Copy(raw, " ".join(errors)[:4_096])

    def receive_copy(self, copy: Copy, message: Message) -> None:
        """Take a copy in; its life is the shorter of the topic's and its own."""
        travel = Travel(message.sequence) if message.travel is None else message.travel
        if copy.error is not None:
            self.bury(copy.raw, FILTER_FAILED, copy.error, travel=travel)
            return
        facts = examine(copy.raw)
        if self.settings.requires_session and facts.session_id is None:
            why = "Session enabled entity doesn't allow a message whose session identifier is null."
            self.bury(copy.raw, SESSION_MISSING, why, travel=travel)
            return
        lives = [ms for ms in (facts.ttl_ms, message.ttl_ms) if ms is not None]
        facts.ttl_ms = min(lives, default=None)
        self._accept(copy.raw, facts, message.enqueued_ms, 0, travel=travel)
        self.active.dispatch()


class Topic(Queue):
    """One topic."""

    def __init__(
        self,
        queue_id: int,
        settings: QueueSettings,
        *,
        journal: Journal,
        clock: Callable[[], int],
    ) -> None:
        super().__init__(queue_id, settings, journal=journal, clock=clock)
        self.subscriptions: dict[str, Subscription] = {}  # by own name in lower case

    @property
    def used_bytes(self) -> int:
        """The topic's size: what its subscriptions hold, and what is scheduled."""
        return self.bytes + sum(s.bytes for s in self.subscriptions.values())

    def publish(self, raw: bytes, message: Message) -> None:
        """Give each subscription what its rules let through."""
        read = cache(partial(Envelope, raw, message))  # once for all filters: none changes it
        for subscription in self.subscriptions.values():
            for copy in subscription.copies(raw, message, read):
                subscription.receive_copy(copy, message)

    def check_rules(self, added: Rule) -> None:
        """Refuse a rule beyond what a topic may have."""
        is_sql = added.text.correlation is None
        rules = [rule for s in self.subscriptions.values() for rule in s.rules.values()]
        limit = MAX_SQL_RULES if is_sql else MAX_CORRELATION_RULES
        if sum((rule.text.correlation is None) is is_sql for rule in rules) >= limit:
            raise BrokerError(Condition.FULL, f"A topic has at most {limit} such filters.")
