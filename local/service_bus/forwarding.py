"""What leaves a queue by itself: forwarded messages, forwarded dead letters, a topic's copies.

A message that leaves is taken out at once and put where it goes at the end of the turn, before the
commit (`Router.move`): it is in one place or the other whenever the broker dies, never in both or
none. Sources: "Chaining Service Bus entities with autoforwarding" (four hops, what becomes of a
message whose destination cannot take it) and "Overview of Service Bus dead-letter queues". The two
disagree on where such a message lies: "dead-letter queue" today, "transfer dead-letter queue" in
editions before 2023, as in the count of that name. Here it is the latter.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.service_bus.core import Queue
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.message import with_reason
from local.service_bus.model import Message, Place, Travel
from local.service_bus.sas import path_of
from local.service_bus.topics import Topic

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HOPS = 4
TOO_MANY_HOPS = "MaxTransferHopCountExceeded"


@dataclass(frozen=True, slots=True)
class Move:
    """A message on its way out of a queue."""

    source: Queue
    message: Message
    raw: bytes


class Router:
    """The ways between the queues of a namespace."""

    def __init__(self, find: Callable[[str], Queue | None]) -> None:
        self._find = find
        self._moves: deque[Move] = deque()

    def connect(self, queue: Queue) -> None:
        """Have a queue pass on what its settings say; again after each change of them."""
        settings = queue.settings
        if isinstance(queue, Topic):
            queue.active.pass_on_to(lambda m, raw: self._moves.append(Move(queue, m, raw)))
            return
        forwards = bool(settings.forward_to) and settings.can_receive
        for box, is_passed_on in (
            (queue.active, forwards),
            (queue.dead, bool(settings.forward_dead_to)),
        ):
            box.pass_on_to(
                (lambda m, raw: self._moves.append(Move(queue, m, raw)))
                if is_passed_on
                else None
            )

    def move(self) -> None:
        """Put everything where it goes; what is forwarded on from there goes on too."""
        while self._moves:
            move = self._moves.popleft()
            if isinstance(move.source, Topic):
                move.source.publish(move.raw, move.message)
            else:
                self._forward(move)

    def _forward(self, move: Move) -> None:
        source, message, raw = move.source, move.message, move.raw
        old = message.travel or Travel(message.sequence)
        if message.is_dead:
            raw = with_reason(raw, message.reason, message.description)
        travel = Travel(
            old.origin, old.hops + 1, source.name if message.is_dead else old.source
        )
        address = (
            source.settings.forward_dead_to if message.is_dead else source.settings.forward_to
        )
        if travel.hops > MAX_HOPS:
            why = "The maximum number of allowed hops when forwarding between queues was exceeded."
            source.bury(raw, TOO_MANY_HOPS, why, travel=old, place=Place.TRANSFER_DEAD)
            return
        try:
            self._destination(address).take_over(raw, travel)
        except BrokerError as refusal:
            reason, why = _reason(refusal), refusal.description
            source.bury(raw, reason, why, travel=old, place=Place.TRANSFER_DEAD)

    def _destination(self, address: str) -> Queue:
        found = self._find(path_of(address))
        if found is None:
            raise BrokerError(
                Condition.NOT_FOUND, f"The destination '{address}' does not exist."
            )
        return found


def _reason(refusal: BrokerError) -> str:
    """What the dead letter says; only the last of these is in the service's documentation."""
    return {
        Condition.NOT_FOUND: "MessagingEntityNotFound",
        Condition.DISABLED: "MessagingEntityDisabled",
        Condition.FULL: "QuotaExceeded",
        Condition.NOT_ALLOWED: "Session ID is null.",
    }.get(refusal.condition, "TransferFailed")
