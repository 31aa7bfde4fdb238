"""Triggers of queues with sessions: several sessions at once, one message at a time in each.

A slot takes the next session that is free, works it off in order, and lets it go when nothing
came for `sessionIdleTimeout`. The session's lock is renewed from the moment it was taken, for
`maxAutoLockRenewalDuration` at the longest. A message that fails comes back as the first of its
session and holds up the others until it is a dead letter.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

from local.functions_host.queues.links import Slots, closed, log, settle, trace_of
from local.functions_host.queues.port import BusError, LockLostError
from local.functions_host.worker.typed_data import message_data

if TYPE_CHECKING:
    from local.functions_host.functions import Function, QueueTrigger
    from local.functions_host.invocations import Invoker
    from local.functions_host.queues.port import Bus, Delivery, SessionReceiver
    from local.functions_host.settings import HostSettings
    from local.functions_host.worker.library import Result

_ACCEPT_S = 60.0
# The first wait is short: its end tells, where there is no session, that the broker answers.
_FIRST_ACCEPT_S = 1.0
_SHORTEST_NAP_S = 0.05


class SessionListener(Slots):
    """Receives for one function, one message at a time per session."""

    def __init__(
        self,
        function: Function,
        trigger: QueueTrigger,
        *,
        bus: Bus,
        invoker: Invoker,
        settings: HostSettings,
    ) -> None:
        super().__init__(function, trigger, count=settings.max_sessions)
        self._bus = bus
        self._invoker = invoker
        self._prefetch = settings.prefetch
        self._idle_s = settings.session_idle_s
        self._max_renewal_s = settings.max_renewal_s

    async def _serve(self) -> None:
        session = await accepted(self, self._bus, prefetch=self._prefetch)
        if session is None:
            return
        self.ready.set()
        try:
            await self._work_off(session)
        except LockLostError as error:
            session_lost(self._function, self._trigger, error)
        finally:
            await closed(session)

    async def _work_off(self, session: SessionReceiver) -> None:
        lock = SessionLock(session, max_renewal_s=self._max_renewal_s)
        idle_at = monotonic() + self._idle_s
        while not self._stopping:
            left_s = idle_at - monotonic()
            if left_s <= 0:
                return
            wait_s = max(_SHORTEST_NAP_S, min(left_s, lock.due_in_s))
            delivery = await self.unless_stopping(session.receive(wait_s))
            if delivery is None:
                await lock.renew_if_due()
                continue
            await self._serve_one(session, lock, delivery)
            idle_at = monotonic() + self._idle_s

    async def _serve_one(
        self, session: SessionReceiver, lock: SessionLock, delivery: Delivery
    ) -> None:
        data, metadata = message_data(delivery)
        run = asyncio.create_task(
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
        result = await self._keeping(lock, run)
        await settle(session, self._function, self._trigger, [delivery], ok=result.ok)

    async def _keeping(self, lock: SessionLock, run: asyncio.Task[Result]) -> Result:
        """The result of `run`; the lock is renewed meanwhile. A lost lock does not stop a function."""
        while True:
            await asyncio.wait({run}, timeout=max(_SHORTEST_NAP_S, lock.due_in_s))
            if run.done():
                return run.result()
            try:
                await lock.renew_if_due()
            except (LockLostError, BusError) as error:
                session_lost(self._function, self._trigger, error)
                return await run


class SessionLock:
    """Knows when the lock of a session has to be renewed: at half its time."""

    def __init__(self, session: SessionReceiver, *, max_renewal_s: float) -> None:
        self._session = session
        self._renewed_until = monotonic() + max_renewal_s
        self._due_at = self._half_time(session.locked_until)

    @property
    def due_in_s(self) -> float:
        """Seconds until it is to be renewed; infinite once enough was renewed."""
        if self._due_at >= self._renewed_until:
            return float("inf")
        return max(0.0, self._due_at - monotonic())

    async def renew_if_due(self) -> None:
        """Raises LockLostError and BusError."""
        if self.due_in_s == 0:
            self._due_at = self._half_time(await self._session.renew_session())

    @staticmethod
    def _half_time(locked_until: datetime) -> float:
        return monotonic() + (locked_until - datetime.now(UTC)).total_seconds() / 2


async def accepted(slots: Slots, bus: Bus, *, prefetch: int) -> SessionReceiver | None:
    """The next session for a slot; None when none came in time or the host stops."""
    wait_s = _ACCEPT_S if slots.ready.is_set() else _FIRST_ACCEPT_S
    session = await slots.unless_stopping(
        bus.open_session(slots.queue, wait_s=wait_s, prefetch=prefetch)
    )
    slots.ready.set()
    return session


def session_lost(function: Function, trigger: QueueTrigger, error: Exception) -> None:
    """Say that a session was taken away; another slot or host goes on with it."""
    fields = {"queue": trigger.queue, "function": function.name, "error": str(error)}
    log.warning("queue.session_lost", extra=fields)
