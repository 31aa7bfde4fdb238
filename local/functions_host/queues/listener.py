"""One queue's trigger: as many messages at a time as allowed, each on a link of its own.

A slot is a task with its own receiver: receive, run, renew the lock meanwhile, settle, receive.
Sharing a receiver would be simpler and is slow: settling while the same link waits for a message
costs the SDK 300 to 400 ms. Links cost about half a second to open and a little to keep, so a
few wait at all times, more are opened when all of them are busy, and closed again when idle.
A message is locked only when a slot is free to run it: nothing is prefetched, whatever
`prefetchCount` says, as messages fetched for a busy slot would wait behind it beside idle ones.

Success completes the message, failure abandons it: it comes back at once, until the queue's
maximum delivery count moves it to the dead letters. Back-off is the function's own business.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

from local.functions_host.queues.links import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    closed,
    lock_lost,
    receiver_lost,
    settle,
    slot_failed,
    trace_of,
)
from local.functions_host.queues.port import BusError, LockLostError
from local.functions_host.worker.typed_data import message_data

if TYPE_CHECKING:
    from local.functions_host.functions import Function, QueueTrigger
    from local.functions_host.invocations import Invoker
    from local.functions_host.queues.port import Bus, Delivery, Receiver
    from local.functions_host.settings import HostSettings
    from local.functions_host.worker.library import Result

_WAITING_SLOTS = 4  # receivers kept open for the next messages
_RECEIVE_S = 60.0


class QueueListener:
    """Receives for one function. `ready` is set while at least one receiver is open."""

    def __init__(
        self,
        function: Function,
        trigger: QueueTrigger,
        *,
        bus: Bus,
        invoker: Invoker,
        settings: HostSettings,
    ) -> None:
        self._function = function
        self._trigger = trigger
        self._bus = bus
        self._invoker = invoker
        self._concurrency = settings.max_concurrent_calls
        self._max_renewal_s = settings.max_renewal_s
        self._slots: set[asyncio.Task[None]] = set()
        self._interruptible: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.ready = asyncio.Event()

    def start(self) -> None:
        """Begin to listen; returns at once."""
        self._grow(min(_WAITING_SLOTS, self._concurrency))

    def halt(self) -> None:
        """Take no further message; running functions go on, and settle when they end."""
        self._stopping = True
        for slot in self._interruptible:
            slot.cancel()

    async def closed(self, grace_s: float) -> None:
        """Wait until every slot has settled and closed its link, at most `grace_s`."""
        if self._slots:
            await asyncio.wait(set(self._slots), timeout=grace_s)
        for slot in self._slots:
            slot.cancel()

    def _grow(self, count: int) -> None:
        for _ in range(count):
            slot = asyncio.create_task(self._slot(), name=f"receiver of {self._trigger.queue}")
            self._slots.add(slot)
            # From the start: a slot that opens its link stands in wait for messages already.
            self._interruptible.add(slot)
            slot.add_done_callback(self._gone)

    def _gone(self, slot: asyncio.Task[None]) -> None:
        self._slots.discard(slot)
        self._interruptible.discard(slot)
        if not slot.cancelled() and (error := slot.exception()) is not None:
            slot_failed(self._function, self._trigger, error)
            if not self._stopping:
                self._grow(1)

    async def _slot(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping:
            try:
                receiver = await self._bus.open(self._trigger.queue)
            except BusError as error:
                self._lost(error, pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            if await self._is_done(receiver):
                return
            await asyncio.sleep(pause_s)

    async def _is_done(self, receiver: Receiver) -> bool:
        """Use the receiver up; False when the link broke and a new one is needed."""
        try:
            self.ready.set()
            await self._receive_all(receiver)
        except BusError as error:
            self._lost(error, FIRST_PAUSE_S)
            return False
        else:
            return True
        finally:
            await closed(receiver)

    def _lost(self, error: BusError, pause_s: float) -> None:
        if self.ready.is_set() or pause_s == FIRST_PAUSE_S:
            receiver_lost(self._function, self._trigger, error)
        self.ready.clear()

    async def _receive_all(self, receiver: Receiver) -> None:
        """Serve messages until the host stops, the link breaks, or this slot is one too many."""
        me = asyncio.current_task()
        assert me is not None  # noqa: S101 — a slot is a task by construction
        while not self._stopping:
            self._interruptible.add(me)
            delivery = await receiver.receive(_RECEIVE_S)
            if delivery is None:
                if len(self._interruptible) > _WAITING_SLOTS:
                    self._interruptible.discard(
                        me
                    )  # at once: others decide in this very moment
                    return
                continue
            self._interruptible.discard(me)
            if not self._interruptible:
                self._grow(min(_WAITING_SLOTS, self._concurrency - len(self._slots)))
            await self._serve(receiver, delivery)

    async def _serve(self, receiver: Receiver, delivery: Delivery) -> None:
        data, metadata = message_data(delivery)
        run = asyncio.create_task(
            self._invoker.invoke(
                self._function,
                data,
                metadata,
                reason=f"message {delivery.message_id} of {self._trigger.queue}",
                trace_parent=trace_of(delivery),
                trace_state=str(delivery.properties.get("tracestate") or ""),
            )
        )
        await self._keep_lock(receiver, delivery, run)
        result = await run
        await settle(receiver, self._function, self._trigger, [delivery], ok=result.ok)

    async def _keep_lock(
        self, receiver: Receiver, delivery: Delivery, run: asyncio.Task[Result]
    ) -> None:
        """Renew at half-time until the function ends, the lock is lost or enough was renewed."""
        until = monotonic() + self._max_renewal_s
        locked_until = delivery.locked_until
        while True:
            left_s = (locked_until - datetime.now(UTC)).total_seconds()
            await asyncio.wait({run}, timeout=max(0.05, min(left_s / 2, until - monotonic())))
            if run.done() or monotonic() >= until:
                return
            try:
                locked_until = await receiver.renew(delivery)
            except (LockLostError, BusError) as error:
                lock_lost(self._function, self._trigger, delivery, error)
                return
