"""The billing system, asked from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from spaces.messages import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A subscription as the billing system lists it.

    `sequence` is the version of this state and rises as in its events. `order_id` where billing
    knows which order it pays; `type` is the event that led here, where billing says it.
    """

    subject: str
    sequence: int
    snapshot: Snapshot
    order_id: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionPage:
    """A part of the list; `next_cursor` leads to the next one, None where this was the last.

    `total` is how many the whole list has, where billing says it.
    """

    items: tuple[Subscription, ...]
    next_cursor: str | None = None
    total: int | None = None


class Billing(Protocol):
    """The billing system, the side that answers questions. Nothing here changes anything there.

    Every method raises `UnreachableError` or `TransientError` where there is no whole answer,
    `ThrottledError`, `DeniedError`, and `DamagedError` for an answer that is not what was agreed: an
    answer cut short is never an answer.
    """

    async def subscription(self, subject: str) -> Subscription | None:
        """One subscription; None only where billing says that it knows none of this name."""
        ...

    async def page(self, cursor: str | None = None) -> SubscriptionPage:
        """The first page of all subscriptions, ended ones too, or the one behind `cursor`."""
        ...
