"""Messages in sessions: one receiver per session at a time, in order, under one lock.

A message's lock is the session's: it is extended and lost with it. A session exists while it
has messages, a holder or a state.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

from local.service_bus.box import Box
from local.service_bus.errors import BrokerError, Condition
from local.service_bus.model import Consumer, Lock, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.service_bus.core import Queue


class SessionHolder(Consumer, Protocol):
    """A receiving link that holds a session, or waits for one."""

    name: str  # as the client calls its link

    def granted(self, session: Session) -> None:
        """The session waited for is there."""
        ...

    def lost(self) -> None:
        """The session's lock has ended."""
        ...


class Session:
    """One session of a queue."""

    __slots__ = (
        "count",
        "holder",
        "inflight",
        "ready",
        "session_id",
        "state",
        "until_ms",
        "updated_ms",
    )

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.ready: list[int] = []  # heap of keys
        self.inflight: dict[bytes, Lock] = {}  # by token
        self.holder: SessionHolder | None = None
        self.until_ms = 0
        self.state: bytes | None = None
        self.updated_ms = 0
        self.count = 0  # messages, in any state


class SessionBox(Box):
    """The active messages of a queue that requires sessions."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(queue, is_dead=False)
        self.sessions: dict[str, Session] = {}
        self._touched: dict[str, Session] = {}  # to be looked at in `dispatch`
        self._free: OrderedDict[str, Session] = OrderedDict()  # with messages, held by nobody
        self._waiting: OrderedDict[Consumer, SessionHolder] = OrderedDict()
        self._held: dict[Consumer, Session] = {}
        self._session_ends: list[tuple[int, str]] = []  # heap

    def pass_on_to(self, outlet: Callable[[Message, bytes], None] | None) -> None:
        """From now on messages go there, those of all sessions first; None: they wait again."""
        self._touched.update(self.sessions)
        super().pass_on_to(outlet)

    # --- accepting

    def accept(self, session_id: str, holder: SessionHolder) -> Session:
        """Lock this session for a holder; a session without messages may be locked.

        Raises:
            BrokerError: somebody else holds it.
        """
        session = self._session(session_id)
        if session.holder is not None and session.until_ms <= self._queue.clock():
            self._lose(session)
            session = self._session(session_id)
        if session.holder is not None:
            raise BrokerError(
                Condition.SESSION_TAKEN,
                f"The requested session '{session_id}' cannot be accepted. "
                "It may be locked by another receiver.",
            )
        self._hold(session, holder)
        return session

    def accept_next(self, holder: SessionHolder) -> None:
        """Lock the session that has waited longest, now or later; `granted` tells when."""
        self._waiting[holder] = holder
        self._grant()
        self.dispatch()

    def stop_waiting(self, holder: SessionHolder) -> None:
        """This holder does not wait any more."""
        self._waiting.pop(holder, None)

    def _hold(self, session: Session, holder: SessionHolder) -> None:
        session.holder = holder
        self._held[holder] = session
        self._free.pop(session.session_id, None)
        self._extend(session)

    def _extend(self, session: Session) -> None:
        session.until_ms = self._queue.clock() + self._queue.settings.lock_ms
        for lock in session.inflight.values():
            lock.until_ms = session.until_ms
        heapq.heappush(self._session_ends, (session.until_ms, session.session_id))
        if len(self._session_ends) > 2 * len(self._held) + 64:
            self._session_ends = [(s.until_ms, s.session_id) for s in self._held.values()]
            heapq.heapify(self._session_ends)

    def held_session(self, session_id: str, by: str | None = None) -> Session:
        """The session, when somebody holds its lock: the link of that name, if one is given.

        Raises:
            BrokerError: nobody does, or another link.
        """
        session = self.sessions.get(session_id)
        if session is not None and session.holder and session.until_ms <= self._queue.clock():
            self._lose(session)
            session = None
        if session is None or session.holder is None or by not in {None, session.holder.name}:
            raise BrokerError(
                Condition.SESSION_LOCK_LOST,
                f"The session lock of '{session_id}' was lost. Request a new session receiver.",
            )
        return session

    def renew_session(self, session_id: str, by: str | None = None) -> int:
        """Extend a session's lock; says until when."""
        session = self.held_session(session_id, by)
        self._extend(session)
        return session.until_ms

    def set_state(self, session_id: str, state: bytes | None, by: str | None = None) -> None:
        """Keep a session's state; it outlives receivers and restarts."""
        self.held_session(session_id, by)
        self.restore_state(session_id, state, self._queue.clock())
        self._queue.journal.session_state(self._queue.queue_id, session_id, state)

    def restore_state(self, session_id: str, state: bytes | None, updated_ms: int) -> None:
        """The state of a session, as the journal has it."""
        session = self._session(session_id)
        session.state, session.updated_ms = state, updated_ms

    def listed(self, since_ms: int | None) -> list[str]:
        """Sessions with messages or a state; with `since_ms`, whose state changed after it."""
        if since_ms is None:
            return [
                s.session_id for s in self.sessions.values() if s.count or s.state is not None
            ]
        return [s.session_id for s in self.sessions.values() if s.updated_ms > since_ms]

    # --- the box's rules, session by session

    def _session(self, session_id: str) -> Session:
        return self.sessions.setdefault(session_id, Session(session_id))

    def _of(self, message: Message) -> Session:
        return self._session(message.session_id or "")

    def put(self, message: Message) -> None:
        """Take a message into its session."""
        self._of(message).count += 1
        super().put(message)

    def take(self, message: Message) -> None:
        """Let a message go, with its lock."""
        super().take(message)
        session = self._of(message)
        session.count -= 1
        self._tidy(session)

    def _tidy(self, session: Session) -> None:
        if not session.count and session.holder is None and session.state is None:
            self.sessions.pop(session.session_id, None)
            self._free.pop(session.session_id, None)
            self._touched.pop(session.session_id, None)

    def _sweep_ready(self) -> None:
        """Nothing: each session has a heap of its own, emptied with its messages."""

    def _offer(self, message: Message) -> None:
        session = self._of(message)
        heapq.heappush(session.ready, message.key)
        self._touched[session.session_id] = session

    def hungry(self, consumer: Consumer) -> None:
        """This consumer has credit and may be given messages of its session."""
        if (session := self._held.get(consumer)) is not None:
            self._touched[session.session_id] = session
            self.dispatch()

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a session, or holds one."""
        return bool(self._waiting or self._held)

    def leave(self, consumer: Consumer) -> None:
        """The holder is gone: the session is free, what it had is not counted as failed."""
        self._waiting.pop(consumer, None)
        if (session := self._held.pop(consumer, None)) is not None:
            session.holder = None
            for lock in list(session.inflight.values()):
                self._give_back(lock.message)
            self._touched[session.session_id] = session
            self._tidy(session)
        self.dispatch()

    def dispatch(self) -> None:
        """Hand messages to the holders of their sessions, and free sessions to who waits."""
        while self._touched:
            _, session = self._touched.popitem()
            if self.outlet is not None:
                self._pass_on(session.ready, self.outlet)
                continue
            if session.holder is None:
                if session.ready:
                    self._free[session.session_id] = session
                    self._grant()
                continue
            self._serve(session, session.holder)

    def _serve(self, session: Session, holder: SessionHolder) -> None:
        if session.until_ms <= self._queue.clock():
            self._lose(session)
            return
        while session.ready and holder.credit > 0 and not holder.paused:
            message = self._next(session.ready)
            if message is None:
                return
            self._give(message, holder)

    def _grant(self) -> None:
        while self._waiting and self._free:
            _, session = self._free.popitem(last=False)
            message = self._next(session.ready)
            if message is None:
                continue
            heapq.heappush(session.ready, message.key)
            _, holder = self._waiting.popitem(last=False)
            self._hold(session, holder)
            holder.granted(session)
            self._touched[session.session_id] = session

    # --- locks

    def _lock_end(self, message: Message) -> int:
        return self._of(message).until_ms

    def _lock(self, message: Message) -> None:
        super()._lock(message)
        if message.lock is not None:
            self._of(message).inflight[message.lock.token] = message.lock

    def _arm(self, lock: Lock) -> None:
        """Nothing: the session's lock has the timer."""

    def _unlock(self, message: Message) -> None:
        if message.lock is not None:
            self._of(message).inflight.pop(message.lock.token, None)
        super()._unlock(message)

    def _lose(self, session: Session) -> None:
        holder, session.holder = session.holder, None
        if holder is not None:
            self._held.pop(holder, None)
        for lock in list(session.inflight.values()):
            self.fail(lock.message)
        self._touched[session.session_id] = session
        self._tidy(session)
        if holder is not None:
            holder.lost()

    def tick(self, now: int) -> None:
        """Whatever is due by now, lost sessions first."""
        while self._session_ends and self._session_ends[0][0] <= now:
            until_ms, session_id = heapq.heappop(self._session_ends)
            session = self.sessions.get(session_id)
            if session is not None and session.holder and session.until_ms == until_ms:
                self._lose(session)
        super().tick(now)

    def due(self) -> Iterator[int]:
        """When something is to be done next."""
        yield from super().due()
        if self._session_ends:
            yield self._session_ends[0][0]
