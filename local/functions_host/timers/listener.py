"""The loop of one timer: wait, fire, remember.

One invocation at a time; a failing function does not stop its schedule.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from local.functions_host.timers.status import (
    Beginning,
    Firing,
    Status,
    StoreError,
    after,
    begin,
)
from local.functions_host.worker.library import Attempt
from local.functions_host.worker.typed_data import timer_data

if TYPE_CHECKING:
    from local.functions_host.functions import Function, TimerTrigger
    from local.functions_host.invocations import Invoker
    from local.functions_host.timers.status import StatusStore
    from local.functions_host.worker.library import Result
    from local.functions_host.worker.protos import TypedData

log = logging.getLogger("functions_host.timers")

_LONGEST_NAP_S = 30.0  # a laptop that slept, or a clock that was set, is noticed after this
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


class Clock(Protocol):
    """Time as a timer sees it; tests bring their own."""

    def now(self) -> datetime:
        """The present moment, UTC."""
        ...

    async def sleep_until(self, moment: datetime) -> None:
        """Return when `moment` has come."""
        ...


class WallClock:
    """The clock on the wall."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)

    async def sleep_until(self, moment: datetime) -> None:
        """See `Clock.sleep_until`."""
        while (left_s := (moment - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 — time sets no event
            await asyncio.sleep(min(left_s, _LONGEST_NAP_S))


class TimerListener:
    """Fires one function. `ready` is set once it waits for its time."""

    def __init__(
        self,
        function: Function,
        trigger: TimerTrigger,
        *,
        store: StatusStore | None,
        invoker: Invoker,
        clock: Clock,
    ) -> None:
        self._function = function
        self._trigger = trigger
        self._store = store if trigger.monitor else None
        self._invoker = invoker
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._run: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()
        self.status: Status | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._loop(), name=f"timer {self._function.name}")
        self._task.add_done_callback(self._gone)

    def halt(self) -> None:
        """Fire no more; a running function goes on, and its status is still stored."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()

    async def closed(self, grace_s: float) -> None:
        """Wait until the last run, if any, has been recorded, at most `grace_s`."""
        if self._task is not None:
            await asyncio.wait({self._task})
        if self._run is not None:
            await asyncio.wait({self._run}, timeout=grace_s)

    def data(self, *, past_due: bool = False) -> TypedData:
        """What the function receives when it is fired now."""
        known = self.status
        now = self._clock.now()
        return timer_data(
            past_due=past_due,
            last=known.last if known else None,
            following=known.following if known else self._trigger.schedule.next_after(now),
            updated=known.updated if known else None,
        )

    async def _loop(self) -> None:
        beginning = await self._begin()
        self.status = beginning.status
        if beginning.changed:
            await self._store_status(beginning.status)
        self.ready.set()
        if beginning.firing is not Firing.NOT:
            is_past_due = beginning.firing is Firing.PAST_DUE
            await self._fire(
                self._clock.now(), past_due=is_past_due, reason=beginning.firing.value
            )
        while True:
            due_at = self._due(self.status)
            await self._clock.sleep_until(due_at)
            await self._fire(due_at, past_due=False, reason="schedule")

    def _due(self, status: Status) -> datetime:
        """The next time from now on: what fell into a long run is skipped, not made up for."""
        now = self._clock.now()
        if status.following > now:
            return status.following
        return self._trigger.schedule.next_after(now)

    async def _begin(self) -> Beginning:
        known = await self._known()
        return begin(
            self._trigger.schedule,
            known,
            now=self._clock.now(),
            run_on_startup=self._trigger.run_on_startup,
        )

    async def _known(self) -> Status | None:
        """The stored status; waits for the store to answer, as nothing may fire without it."""
        if self._store is None:
            return None
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                text = await self._store.read(self._function.name)
                return None if text is None else Status.from_json(text)
            except ValueError:
                log.warning("timer.status_unreadable", extra={"function": self._function.name})
                return None
            except StoreError as error:
                if pause_s == _FIRST_PAUSE_S:
                    fields = {"function": self._function.name, "error": str(error)}
                    log.warning("timer.storage_awaited", extra=fields)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _fire(self, due_at: datetime, *, past_due: bool, reason: str) -> None:
        # Shielded, so that stopping the loop lets the run end and be recorded.
        self._run = asyncio.create_task(
            self._run_once(due_at, past_due=past_due, reason=reason)
        )
        await asyncio.shield(self._run)

    async def _run_once(self, due_at: datetime, *, past_due: bool, reason: str) -> None:
        fired_at = self._clock.now()
        await self._invoke(past_due=past_due, reason=f"timer {reason}")
        self.status = after(self._trigger.schedule, due_at=due_at, fired_at=fired_at)
        await self._store_status(self.status)

    async def _invoke(self, *, past_due: bool, reason: str) -> None:
        """Call the function, and again as its retry policy says, until it succeeds.

        The run lasts as long as its retries do. A stopping host makes no further one; the run then
        counts as made, as one that failed does.
        """
        policy = self._function.retry
        failure: Result | None = None
        for retry in itertools.count():
            attempt = policy and Attempt(
                retry=retry, max_count=policy.max_count, failure=failure
            )
            failure = await self._invoker.invoke(
                self._function, self.data(past_due=past_due), reason=reason, attempt=attempt
            )
            if failure.ok or policy is None or not policy.allows(retry + 1):
                return
            delay_s = policy.delay_s(retry + 1)
            fields = {"function": self._function.name, "retry": retry + 1, "delay_s": delay_s}
            log.info("timer.retry_awaited", extra=fields)
            if not await self._waited(delay_s):
                return

    async def _waited(self, delay_s: float) -> bool:
        """False when the host stops meanwhile."""
        until = self._clock.now() + timedelta(seconds=delay_s)
        nap = asyncio.ensure_future(self._clock.sleep_until(until))
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({nap, stop}, return_when=asyncio.FIRST_COMPLETED)
        nap.cancel()
        stop.cancel()
        return not self._stop.is_set()

    async def _store_status(self, status: Status) -> None:
        if self._store is None:
            return
        try:
            await self._store.write(self._function.name, status.to_json())
        except StoreError as error:
            fields = {"function": self._function.name, "error": str(error)}
            log.warning("timer.status_not_stored", extra=fields)

    def _gone(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("timer.stopped", exc_info=error, extra={"function": self._function.name})
