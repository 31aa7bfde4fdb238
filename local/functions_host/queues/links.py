"""What listeners of every kind have in common: slots that serve one link after another, and logs.

A slot is a task. When its link breaks it waits a little and opens another, so that a broker may
come later, go away and come back.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from local.functions_host.queues.port import BusError, LockLostError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

    from local.functions_host.functions import Function, QueueTrigger
    from local.functions_host.queues.port import Delivery, Receiver

log = logging.getLogger("functions_host.queues")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
_CLOSE_S = 5.0


class Slots(ABC):
    """`count` slots for one function; each calls `_serve` again and again until the host stops.

    `ready` is set while the broker is known to answer.
    """

    def __init__(self, function: Function, trigger: QueueTrigger, *, count: int) -> None:
        self._function = function
        self._trigger = trigger
        self._count = count
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.ready = asyncio.Event()

    def start(self) -> None:
        """Begin to listen; returns at once."""
        for _ in range(self._count):
            self._add()

    def halt(self) -> None:
        """Take no further message; running functions go on, and settle when they end."""
        self._stop.set()

    async def closed(self, grace_s: float) -> None:
        """Wait until every slot has settled and closed its link, at most `grace_s`."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace_s)
        for task in self._tasks:
            task.cancel()

    @abstractmethod
    async def _serve(self) -> None:
        """Open a link and use it up. May raise BusError."""

    @property
    def queue(self) -> str:
        """The queue it listens to."""
        return self._trigger.queue

    @property
    def _stopping(self) -> bool:
        return self._stop.is_set()

    async def unless_stopping[T](self, waiting: Coroutine[Any, Any, T]) -> T | None:
        """What `waiting` comes to, or None when the host stops first."""
        task = asyncio.ensure_future(waiting)
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
        await asyncio.wait({task})
        return None if task.cancelled() else task.result()

    def _add(self) -> None:
        task = asyncio.create_task(self._slot(), name=f"receiver of {self._trigger.queue}")
        self._tasks.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            slot_failed(self._function, self._trigger, error)
            if not self._stopping:
                self._add()

    async def _slot(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping:
            try:
                await self._serve()
                pause_s = FIRST_PAUSE_S
            except BusError as error:
                if self.ready.is_set() or pause_s == FIRST_PAUSE_S:
                    receiver_lost(self._function, self._trigger, error)
                self.ready.clear()
                await self.unless_stopping(asyncio.sleep(pause_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


async def settle(
    receiver: Receiver,
    function: Function,
    trigger: QueueTrigger,
    deliveries: Sequence[Delivery],
    *,
    ok: bool,
) -> None:
    """Complete what succeeded, where the trigger says so; abandon what failed, whatever it says."""
    if ok and not trigger.auto_complete:
        return
    for delivery in deliveries:
        try:
            await (receiver.complete(delivery) if ok else receiver.abandon(delivery))
        except LockLostError as error:
            lock_lost(function, trigger, delivery, error)


def trace_of(delivery: Delivery) -> str | None:
    """The sender's trace; the SDKs write it under one of two names."""
    found = delivery.properties.get("traceparent") or delivery.properties.get("Diagnostic-Id")
    return None if found is None else str(found)


def receiver_lost(function: Function, trigger: QueueTrigger, error: Exception) -> None:
    """Say that a link broke, or could not be opened."""
    fields = {"queue": trigger.queue, "function": function.name, "error": str(error)}
    log.warning("queue.receiver_lost", extra=fields)


def lock_lost(
    function: Function, trigger: QueueTrigger, delivery: Delivery, error: Exception
) -> None:
    """Say that a message will come again although its function ran."""
    fields = {
        "queue": trigger.queue,
        "function": function.name,
        "message_id": delivery.message_id,
        "error": str(error),
    }
    log.warning("queue.lock_lost", extra=fields)


def slot_failed(function: Function, trigger: QueueTrigger, error: BaseException) -> None:
    """Say that the host itself failed; the slot is replaced."""
    fields = {"queue": trigger.queue, "function": function.name}
    log.error("queue.slot_failed", exc_info=error, extra=fields)


async def closed(receiver: Receiver) -> None:
    """Close a link, also while this task is being cancelled, and never for long."""
    try:
        async with asyncio.timeout(_CLOSE_S):
            await receiver.close()
    except TimeoutError:
        log.warning("queue.close_timed_out")
