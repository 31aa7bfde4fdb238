"""Sessions with several messages at a time: `maxConcurrentCallsPerSession` over 1.

One task does all of the link's work in turns, since the SDK cannot settle while it waits for a
message: it takes as many messages as may run, settles those that are done, renews the session's
lock. While functions run it looks for the next message in short waits. What order is left is
that in which messages begin.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from local.functions_host.queues.links import settle, trace_of
from local.functions_host.queues.port import BusError, LockLostError
from local.functions_host.queues.sessions import SessionListener, SessionLock
from local.functions_host.worker.typed_data import message_data

if TYPE_CHECKING:
    from local.functions_host.functions import Function, QueueTrigger
    from local.functions_host.invocations import Invoker
    from local.functions_host.queues.port import Bus, Delivery, SessionReceiver
    from local.functions_host.settings import HostSettings
    from local.functions_host.worker.library import Result

_LOOK_S = 0.1


class WideSessionListener(SessionListener):
    """Receives for one function, up to `calls_per_session` messages at a time per session."""

    def __init__(
        self,
        function: Function,
        trigger: QueueTrigger,
        *,
        bus: Bus,
        invoker: Invoker,
        settings: HostSettings,
    ) -> None:
        super().__init__(function, trigger, bus=bus, invoker=invoker, settings=settings)
        self._most = settings.calls_per_session

    async def _work_off(self, session: SessionReceiver) -> None:
        running: dict[asyncio.Task[Result], Delivery] = {}
        try:
            await self._take_turns(session, running)
        except (LockLostError, BusError):
            # The functions go on; their messages will come again.
            if running:
                await asyncio.wait(running)
            raise

    async def _take_turns(
        self, session: SessionReceiver, running: dict[asyncio.Task[Result], Delivery]
    ) -> None:
        lock = SessionLock(session, max_renewal_s=self._max_renewal_s)
        idle_at = monotonic() + self._idle_s
        while running or not self._stopping:
            if running:
                idle_at = monotonic() + self._idle_s
            elif monotonic() >= idle_at:
                return
            if len(running) < self._most and not self._stopping:
                wait_s = _LOOK_S if running else min(idle_at - monotonic(), lock.due_in_s)
                delivery = await self.unless_stopping(session.receive(max(_LOOK_S, wait_s)))
                if delivery is not None:
                    running[self._begun(session, delivery)] = delivery
            else:
                await asyncio.wait(
                    running,
                    timeout=max(_LOOK_S, min(lock.due_in_s, 60.0)),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            await lock.renew_if_due()
            for run in [one for one in running if one.done()]:
                delivery = running.pop(run)
                ok = run.result().ok
                await settle(session, self._function, self._trigger, [delivery], ok=ok)

    def _begun(self, session: SessionReceiver, delivery: Delivery) -> asyncio.Task[Result]:
        data, metadata = message_data(delivery)
        return asyncio.create_task(
            self._invoker.invoke(
                self._function,
                data,
                metadata,
                reason=f"message {delivery.message_id} of session {session.session_id} "
                f"of {self._trigger.queue}",
                trace_parent=trace_of(delivery),
                trace_state=str(delivery.properties.get("tracestate") or ""),
            )
        )
