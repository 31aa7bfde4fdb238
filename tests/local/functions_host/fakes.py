"""The host's ports in memory: a bus with peek-lock queues, a status store, a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
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
    sessions: dict[str, tuple[FakeSessionReceiver, datetime]] = field(default_factory=dict)
    session_renewals: int = 0
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

    def free_session(self) -> str:
        """A session with a message that nobody holds, or "": the one that waited longest."""
        self.free_expired()
        for session, (holder, until) in list(self.sessions.items()):
            if until <= datetime.now(UTC):
                holder.lose()
                del self.sessions[session]
        names = (message.get("session_id") or "" for message in self.waiting)
        return next((name for name in names if name and name not in self.sessions), "")

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
        self.prefetched: list[int] = []
        self.sent: list[tuple[str, bytes, str, bool]] = []
        self._numbers = itertools.count(1)

    async def open(self, queue: str, *, prefetch: int = 0) -> FakeReceiver:
        await asyncio.sleep(0)
        if self.down:
            raise BusError("the broker is down")
        self.prefetched.append(prefetch)
        self.opened()
        return FakeReceiver(self, self.queues[queue], self._numbers)

    async def open_session(
        self, queue: str, *, wait_s: float, prefetch: int = 0
    ) -> FakeSessionReceiver | None:
        await asyncio.sleep(0)
        if self.down:
            raise BusError("the broker is down")
        self.prefetched.append(prefetch)
        found = self.queues[queue]
        try:
            async with asyncio.timeout(wait_s), found.changed:
                await found.changed.wait_for(lambda: self.down or found.free_session())
                if self.down:
                    raise BusError("the broker is down")
                receiver = FakeSessionReceiver(self, found, self._numbers, found.free_session())
        except TimeoutError:
            return None
        self.opened()
        return receiver

    def opened(self) -> None:
        self.open_links += 1
        self.most_links = max(self.most_links, self.open_links)

    async def send(
        self, entity: str, body: bytes, *, content_type: str, is_topic: bool
    ) -> None:
        if self.down or entity == "broken":
            raise BusError("the broker is down")
        self.sent.append((entity, body, content_type, is_topic))

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
        found = await self.receive_many(1, wait_s)
        return found[0] if found else None

    async def receive_many(self, count: int, wait_s: float) -> list[Delivery]:
        queue = self._queue
        try:
            async with asyncio.timeout(wait_s), queue.changed:
                await queue.changed.wait_for(self._has_news)
                self._check()
                found = self._mine()[:count]
                for message in found:
                    queue.waiting.remove(message)
                deliveries = [self._locked(message) for message in found]
                queue.changed.notify_all()
        except TimeoutError:
            return []
        return deliveries

    def _mine(self) -> list[dict[str, Any]]:
        return list(self._queue.waiting)

    def _lock_end(self) -> datetime:
        self._queue.wake_after(self._queue.lock_s)
        return datetime.now(UTC) + timedelta(seconds=self._queue.lock_s)

    def _locked(self, message: dict[str, Any]) -> Delivery:
        token, until = str(uuid.uuid4()), self._lock_end()
        self._queue.locked[token] = (message, until)
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
        return self._bus.down or bool(self._mine())

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


class FakeSessionReceiver(FakeReceiver):
    """See `SessionReceiver`."""

    def __init__(
        self, bus: FakeBus, queue: FakeQueue, numbers: Iterator[int], session_id: str
    ) -> None:
        super().__init__(bus, queue, numbers)
        self.session_id = session_id
        self._mine_locked: set[str] = set()
        self._is_lost = False
        queue.sessions[session_id] = (self, self._lock_end())

    @property
    def locked_until(self) -> datetime:
        return self._queue.sessions[self.session_id][1]

    async def renew_session(self) -> datetime:
        self._check()
        self._queue.session_renewals += 1
        until = self._lock_end()
        self._queue.sessions[self.session_id] = (self, until)
        for token in self._mine_locked & set(self._queue.locked):
            self._queue.locked[token] = (self._queue.locked[token][0], until)
        return until

    async def close(self) -> None:
        """What was locked and not settled comes back, uncounted."""
        if not self._is_lost:
            self._queue.sessions.pop(self.session_id, None)
            for token in self._mine_locked & set(self._queue.locked):
                self._queue.waiting.appendleft(self._queue.locked.pop(token)[0])
        await super().close()
        await self._queue.told()

    def lose(self) -> None:
        self._is_lost = True

    def _mine(self) -> list[dict[str, Any]]:
        return [one for one in self._queue.waiting if one.get("session_id") == self.session_id]

    def _has_news(self) -> bool:
        self._queue.free_session()  # looks at the ends of locks
        return self._is_lost or super()._has_news()

    def _locked(self, message: dict[str, Any]) -> Delivery:
        delivery = super()._locked(message)
        until = self.locked_until
        self._queue.locked[delivery.lock_token] = (message, until)
        self._mine_locked.add(delivery.lock_token)
        return replace(delivery, locked_until=until)

    def _check(self) -> None:
        super()._check()
        self._queue.free_session()
        if self._is_lost:
            raise LockLostError(self.session_id)


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
