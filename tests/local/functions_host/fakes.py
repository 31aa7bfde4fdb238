"""The host's ports in memory: a bus with peek-lock queues, a status store, a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local.functions_host.queues.port import BusError, Delivery, LockLostError
from local.functions_host.timers.status import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class FakeQueue:
    """One queue: what waits, what is locked until when, what is dead."""

    lock_s: float = 30.0
    max_delivery_count: int = 5
    waiting: deque[dict[str, Any]] = field(default_factory=deque)
    locked: dict[str, tuple[dict[str, Any], datetime]] = field(default_factory=dict)
    dead: list[dict[str, Any]] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    renewals: int = 0
    wakers: set[asyncio.Task[None]] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def put(self, body: bytes, **fields: object) -> str:
        message_id = fields.pop("message_id", None) or uuid.uuid4().hex
        async with self.changed:
            self.waiting.append({"body": body, "message_id": message_id, "count": 0, **fields})
            self.changed.notify_all()
        return message_id

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until `holds()` is true; looks again after every change."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: bool(holds()))

    async def told(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def wake_after(self, wait_s: float) -> None:
        """Have waiting receivers look again once a lock has run out."""

        async def wake() -> None:
            await asyncio.sleep(wait_s + 0.005)
            await self.told()

        task = asyncio.create_task(wake())
        self.wakers.add(task)
        task.add_done_callback(self.wakers.discard)

    def free_expired(self) -> None:
        for token, (message, until) in list(self.locked.items()):
            if until <= datetime.now(UTC):
                del self.locked[token]
                self._back(message)

    def take(self, token: str) -> dict[str, Any]:
        self.free_expired()
        if token not in self.locked:
            raise LockLostError(token)
        return self.locked.pop(token)[0]

    def give_back(self, message: dict[str, Any]) -> None:
        self._back(message)

    def _back(self, message: dict[str, Any]) -> None:
        message["count"] += 1
        if message["count"] >= self.max_delivery_count:
            self.dead.append(message)
        else:
            self.waiting.appendleft(message)


class FakeBus:
    """See `Bus`. `down` refuses links, `open_links` counts those that are open."""

    def __init__(self) -> None:
        self.queues: dict[str, FakeQueue] = defaultdict(FakeQueue)
        self.down = False
        self.open_links = 0
        self.most_links = 0
        self.closed = False
        self._numbers = itertools.count(1)

    async def open(self, queue: str) -> FakeReceiver:
        await asyncio.sleep(0)
        if self.down:
            raise BusError("the broker is down")
        self.open_links += 1
        self.most_links = max(self.most_links, self.open_links)
        return FakeReceiver(self, self.queues[queue], self._numbers)

    async def close(self) -> None:
        self.closed = True


class FakeReceiver:
    """See `Receiver`."""

    def __init__(self, bus: FakeBus, queue: FakeQueue, numbers: Iterator[int]) -> None:
        self._bus = bus
        self._queue = queue
        self._numbers = numbers
        self._is_open = True

    async def receive(self, wait_s: float) -> Delivery | None:
        queue = self._queue
        try:
            async with asyncio.timeout(wait_s), queue.changed:
                await queue.changed.wait_for(self._has_news)
                self._check()
                message = queue.waiting.popleft()
                token = str(uuid.uuid4())
                until = datetime.now(UTC) + timedelta(seconds=queue.lock_s)
                queue.locked[token] = (message, until)
                queue.wake_after(queue.lock_s)
                queue.changed.notify_all()
        except TimeoutError:
            return None
        known = {k: v for k, v in message.items() if k != "count"}
        return Delivery(
            **known,
            sequence_number=next(self._numbers),
            delivery_count=message["count"] + 1,
            lock_token=token,
            locked_until=until,
        )

    def _has_news(self) -> bool:
        self._queue.free_expired()
        return self._bus.down or bool(self._queue.waiting)

    async def complete(self, delivery: Delivery) -> None:
        self._check()
        message = self._queue.take(delivery.lock_token)
        self._queue.completed.append(message["message_id"])
        await self._queue.told()

    async def abandon(self, delivery: Delivery) -> None:
        self._check()
        self._queue.give_back(self._queue.take(delivery.lock_token))
        await self._queue.told()

    async def renew(self, delivery: Delivery) -> datetime:
        self._check()
        message = self._queue.take(delivery.lock_token)
        until = datetime.now(UTC) + timedelta(seconds=self._queue.lock_s)
        self._queue.locked[delivery.lock_token] = (message, until)
        self._queue.renewals += 1
        return until

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._bus.open_links -= 1

    def _check(self) -> None:
        if self._bus.down:
            raise BusError("the broker is down")


class FakeStore:
    """See `StatusStore`."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.down = False
        self.written = asyncio.Condition()

    async def read(self, function: str) -> str | None:
        if self.down:
            raise StoreError("the store is down")
        return self.texts.get(function)

    async def write(self, function: str, text: str) -> None:
        if self.down:
            raise StoreError("the store is down")
        async with self.written:
            self.texts[function] = text
            self.written.notify_all()

    async def close(self) -> None:
        pass


class FakeClock:
    """Stands still until `advance` moves it; sleepers whose time has come wake."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._sleepers: list[tuple[datetime, asyncio.Event]] = []
        self.asleep = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    async def sleep_until(self, moment: datetime) -> None:
        if moment <= self._now:
            return
        wake = asyncio.Event()
        self._sleepers.append((moment, wake))
        self.asleep.set()
        await wake.wait()

    def advance(self, to: datetime) -> None:
        self._now = to
        due = [wake for moment, wake in self._sleepers if moment <= to]
        self._sleepers = [(moment, wake) for moment, wake in self._sleepers if moment > to]
        if not self._sleepers:
            self.asleep.clear()
        for wake in due:
            wake.set()
