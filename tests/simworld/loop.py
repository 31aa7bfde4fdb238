"""An event loop without threads, sockets or a wall clock: it runs what is ready, and no more.

Only the scheduler moves time. Whatever would leave the process (a socket, an executor, a child) is
an `EscapeError`, so that nothing goes around the ports unseen.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# More turns without a port call than any handler makes: an endless loop.
MOST_TURNS = 1_000_000


class EscapeError(RuntimeError):
    """Something wanted to leave the process beside the ports."""


class Loop(asyncio.AbstractEventLoop):
    """Ready callbacks in order, timers by `now`; driven by `run_ready`."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._made = 0
        self.broken: list[dict[str, Any]] = []

    def run_ready(self) -> None:
        """Run until everybody waits for a port or for time."""
        self._fire()
        asyncio._set_running_loop(self)
        try:
            for _ in range(MOST_TURNS):
                if not self._ready:
                    return
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
            raise AssertionError("a handler never comes to a port")
        finally:
            asyncio._set_running_loop(None)

    def finish(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run what waits for nothing, and answer its result: a look at the bare fakes."""
        task = self.create_task(work)
        self.run_ready()
        assert task.done(), "it waits for something"
        return task.result()

    def next_timer(self) -> float | None:
        """When the next timer fires."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _fire(self) -> None:
        now = self._now()
        while (at := self.next_timer()) is not None and at <= now:
            self._ready.append(heapq.heappop(self._timers)[2])

    # --- what asyncio asks of a loop

    def time(self) -> float:
        return self._now()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked for by `TimerHandle.cancel`; cancelled ones are skipped when their time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Any = None, **_: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(
            coro, loop=self, name=name or "work", context=context or contextvars.copy_context()
        )

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.broken.append(context)

    async def shutdown_asyncgens(self) -> None:
        """Asked for nowhere here."""


def _closed(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise EscapeError(f"{name} leads out of the process: only ports do")

    return refuse


# All that a loop can do, and this one does not: what the base class leaves open is closed.
for _name in set(vars(asyncio.AbstractEventLoop)) - set(vars(Loop)):
    if not _name.startswith("__"):
        setattr(Loop, _name, _closed(_name))
