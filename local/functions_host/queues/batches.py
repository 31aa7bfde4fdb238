"""Triggers of cardinality many: as many messages at a time as there are, one call for all of them.

One loop, never two calls at once, and no lock is renewed: a batch has to end within the lock of
its queue, as on Azure. Success completes every message, failure abandons every message. With
`minMessageBatchSize` fewer are held back, for `maxBatchWaitTime` at the longest.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from local.functions_host.queues.links import Slots, closed, settle, trace_of
from local.functions_host.queues.port import LockLostError
from local.functions_host.queues.sessions import accepted, session_lost
from local.functions_host.worker.typed_data import batch_data

if TYPE_CHECKING:
    from local.functions_host.functions import Function, QueueTrigger
    from local.functions_host.invocations import Invoker
    from local.functions_host.queues.port import Bus, Delivery, Receiver
    from local.functions_host.settings import HostSettings

_RECEIVE_S = 60.0


class BatchListener(Slots):
    """Receives for one function whose parameter is a list of messages."""

    def __init__(
        self,
        function: Function,
        trigger: QueueTrigger,
        *,
        bus: Bus,
        invoker: Invoker,
        settings: HostSettings,
    ) -> None:
        super().__init__(function, trigger, count=1)
        self._bus = bus
        self._invoker = invoker
        self._settings = settings
        self._wait_s = settings.session_idle_s if trigger.has_sessions else _RECEIVE_S

    async def _serve(self) -> None:
        receiver = await self._opened()
        if receiver is None:
            return
        self.ready.set()
        try:
            is_over = False
            while not is_over and not self._stopping:
                deliveries, is_over = await self._gathered(receiver)
                if deliveries:
                    await self._run(receiver, deliveries)
        except LockLostError as error:
            session_lost(self._function, self._trigger, error)
        finally:
            await closed(receiver)

    async def _opened(self) -> Receiver | None:
        prefetch = self._settings.prefetch
        if self._trigger.has_sessions:
            return await accepted(self, self._bus, prefetch=prefetch)
        return await self.unless_stopping(
            self._bus.open(self._trigger.queue, prefetch=prefetch)
        )

    async def _gathered(self, receiver: Receiver) -> tuple[list[Delivery], bool]:
        """The messages of one call, and whether their session has no more."""
        held: list[Delivery] = []
        deadline = 0.0
        while True:
            left_s = max(0.01, deadline - monotonic()) if held else self._wait_s
            found = await self.unless_stopping(
                receiver.receive_many(
                    self._settings.max_batch - len(held), min(left_s, self._wait_s)
                )
            )
            if found and not held:
                deadline = monotonic() + self._settings.batch_wait_s
            held += found or []
            is_over = not found and self._trigger.has_sessions and left_s >= self._wait_s
            is_enough = len(held) >= self._settings.min_batch
            if is_enough or is_over or self._stopping or monotonic() >= deadline:
                return held, is_over

    async def _run(self, receiver: Receiver, deliveries: list[Delivery]) -> None:
        data, metadata = batch_data(deliveries)
        result = await self._invoker.invoke(
            self._function,
            data,
            metadata,
            reason=f"{len(deliveries)} messages of {self._trigger.queue}",
            # One call has one trace; each message keeps its own in its properties.
            trace_parent=trace_of(deliveries[0]) if len(deliveries) == 1 else None,
        )
        await settle(receiver, self._function, self._trigger, deliveries, ok=result.ok)
