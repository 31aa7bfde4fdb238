"""The billing system's list, in memory: what a test says is true there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from spaces.messages import Snapshot
from spaces.ports import Subscription, SubscriptionPage
from tests.fakes.faults import Faults

PAGE = 2  # small, so that tests turn pages


def a_subscription(subject: str = "sub-1", sequence: int = 1, **over: Any) -> Subscription:
    """A paid standard subscription from Germany; `over` may name `order_id` and `type` too."""
    beside = {name: over.pop(name) for name in ("order_id", "type") if name in over}
    given: dict[str, Any] = {
        "status": "active",
        "plan": "standard",
        "quantity": 1,
        "currency": "EUR",
        "country": "DE",
        "period_end": datetime(2026, 12, 23, tzinfo=UTC),
        "grace_days": 14,
        "legal_hold": False,
        "customer_ref": "c-42",
    }
    return Subscription(
        subject=subject, sequence=sequence, snapshot=Snapshot(**{**given, **over}), **beside
    )


class FakeBilling:
    def __init__(self, *subscriptions: Subscription) -> None:
        self.faults = Faults()
        self.listed: dict[str, Subscription] = {}
        self.known: dict[str, Subscription] = {}
        for one in subscriptions:
            self.tell(one)

    def tell(self, one: Subscription) -> None:
        """From now on billing knows this, and lists it."""
        self.listed[one.subject] = self.known[one.subject] = one

    def forget(self, subject: str) -> None:
        """Billing knows nothing of it any more."""
        self.listed.pop(subject, None)
        self.known.pop(subject, None)

    def leave_out(self, subject: str) -> None:
        """The list misses it, though billing knows it when asked by name."""
        self.listed.pop(subject, None)

    async def subscription(self, subject: str) -> Subscription | None:
        self.faults.before("subscription")
        found = self.known.get(subject)
        self.faults.after("subscription")
        return found

    async def page(self, cursor: str | None = None) -> SubscriptionPage:
        self.faults.before("page")
        rest = sorted(name for name in self.listed if cursor is None or name > cursor)
        items = tuple(self.listed[name] for name in rest[:PAGE])
        self.faults.after("page")
        return SubscriptionPage(
            items=items,
            next_cursor=items[-1].subject if len(rest) > PAGE else None,
            total=len(self.listed),
        )
