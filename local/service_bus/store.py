"""What survives kill -9: messages, numbers, message ids, session states, queues made at run time.

Memory is the truth while the broker runs. Changes are collected here and written by `commit`,
which the server calls once per turn of its loop and always before it writes to a socket: whatever
a client was told is on disk, and what happened in one turn shares one transaction. A message that
comes and goes within a turn is never written at all.

Locks are not kept: after a restart all messages are free. The delivery count is stored when a
message is handed out, so that one which kills its receiver and the broker still reaches its end.

The setting `KPAX_BUS_SYNC` is OFF, NORMAL (default) or FULL. All three survive the death of the
process. A power cut may cost NORMAL the last commits and OFF the file; FULL loses nothing. NORMAL
it is, because it reaches the figures (1,500 messages a second one by one, 5,000 in batches) on
two quiet cores: 0.65 to 0.95 of a store that keeps nothing, in the same run. OFF
gains a tenth on that; FULL waits for the disk each time and falls to 0.15 when others use it.
`bench/service_bus.py` measures it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from typing import TYPE_CHECKING

from local.errors import StackError
from local.service_bus.model import SEQUENCE_BITS, Message, Place, State, Travel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.service_bus.core import Queue

# Bytes of messages kept in memory; beyond it, they are read back from the file when delivered.
RESIDENT_BYTES = 8 * 1024 * 1024

_SCHEMA = """
create table if not exists queue (
    id integer primary key, name text not null unique collate nocase,
    last_sequence integer not null, settings text
);
create table if not exists message (
    key integer primary key, state integer not null, deliveries integer not null,
    is_dead integer not null, enqueued_ms integer not null, ttl_ms integer,
    scheduled_ms integer not null, session_id text, reason text, description text,
    size integer not null, raw blob not null, origin integer, hops integer, source text
);
create table if not exists seen (
    queue_id integer not null, message_id blob not null, expires_ms integer not null,
    sequence integer not null, primary key (queue_id, message_id)
) without rowid;
create table if not exists session (
    queue_id integer not null, session_id text not null, state blob not null,
    updated_ms integer not null, primary key (queue_id, session_id)
) without rowid;
"""

# What files of earlier versions lack; `is_dead` holds the number of the place.
_LATER_COLUMNS = ("origin integer", "hops integer", "source text")

_INSERT = "insert into message values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_UPDATE = (
    "update message set state=?, deliveries=?, is_dead=?, reason=?, description=? where key=?"
)


class MemoryStore:
    """Keeps nothing: the yardstick for what durability costs."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def save(self, message: Message) -> None:
        """Nothing to do."""

    def delete(self, message: Message) -> None:
        """Nothing to do."""

    def body(self, message: Message) -> bytes:
        """Never asked for: messages stay in memory."""
        raise LookupError(f"message {message.sequence} is not in memory")

    def remember(
        self, queue_id: int, message_id: bytes, expires_ms: int, sequence: int
    ) -> None:
        """Nothing to do."""

    def forget(self, queue_id: int, before_ms: int) -> None:
        """Nothing to do."""

    def session_state(self, queue_id: int, session_id: str, state: bytes | None) -> None:
        """Nothing to do."""

    def queue_id(self, name: str) -> int:
        """A number for a queue, as long as this process lives."""
        return self._ids.setdefault(name.lower(), len(self._ids) + 1)

    def keep_queue(self, queue_id: int, settings: str | None) -> None:
        """Nothing to do."""

    def drop_queue(self, queue_id: int) -> None:
        """Nothing to do."""

    def made_queues(self) -> list[tuple[str, str]]:
        """None."""
        return []

    def load(self, queue: Queue) -> None:
        """Nothing was kept."""

    def commit(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class SqliteStore:
    """One SQLite file in WAL mode, held by one process."""

    def __init__(self, path: Path, *, synchronous: str = "NORMAL") -> None:
        self._lock = _only_one(path)
        self._db = sqlite3.connect(path, isolation_level=None, cached_statements=64)
        self._db.executescript(
            "pragma journal_mode=wal; pragma wal_autocheckpoint=4000;"
            f"pragma synchronous={synchronous}; pragma cache_size=-4096;" + _SCHEMA
        )
        self._add_columns()
        self._new: dict[int, Message] = {}
        self._changed: dict[int, Message] = {}
        self._gone: set[int] = set()
        self._seen: list[tuple[int, bytes, int, int]] = []
        self._statements: list[tuple[str, tuple]] = []
        self._last: dict[int, int] = {}  # queue id: last sequence number
        self._resident = 0

    def _add_columns(self) -> None:
        known = {row[1] for row in self._db.execute("pragma table_info(message)")}
        for column in _LATER_COLUMNS:
            if column.split()[0] not in known:
                self._db.execute(f"alter table message add column {column}")

    # --- changes

    def save(self, message: Message) -> None:
        """This message is new or has changed."""
        key = message.key
        if key in self._new:
            return
        if not message.is_stored:
            self._new[key] = message
            self._last[key >> SEQUENCE_BITS] = key & ((1 << SEQUENCE_BITS) - 1)
        else:
            self._changed[key] = message

    def delete(self, message: Message) -> None:
        """This message is gone."""
        key = message.key
        if self._new.pop(key, None) is None:
            self._changed.pop(key, None)
            self._gone.add(key)
            if message.raw is not None:
                self._resident -= message.size

    def body(self, message: Message) -> bytes:
        """The bytes of a message that is not in memory."""
        row = self._db.execute("select raw from message where key=?", (message.key,)).fetchone()
        if row is None:
            raise LookupError(f"message {message.sequence} is not in the store")
        return row[0]

    def remember(
        self, queue_id: int, message_id: bytes, expires_ms: int, sequence: int
    ) -> None:
        """A message id counts as a duplicate until then."""
        self._seen.append((queue_id, message_id, expires_ms, sequence))

    def forget(self, queue_id: int, before_ms: int) -> None:
        """Message ids that expired before then are gone."""
        self._statements.append(
            ("delete from seen where queue_id=? and expires_ms<=?", (queue_id, before_ms))
        )

    def session_state(self, queue_id: int, session_id: str, state: bytes | None) -> None:
        """The state of a session; None removes it."""
        if state is None:
            sql, values = "delete from session where queue_id=? and session_id=?", ()
        else:
            sql = "insert or replace into session values (?,?,?,?)"
            values = (state, int(time.time() * 1000))
        self._statements.append((sql, (queue_id, session_id, *values)))

    def commit(self) -> None:
        """Write everything that changed since the last time; no-op when nothing did."""
        if not (
            self._new
            or self._changed
            or self._gone
            or self._last
            or self._seen
            or self._statements
        ):
            return
        execute, many = self._db.execute, self._db.executemany
        execute("begin immediate")
        if self._new:
            many(_INSERT, map(_row, self._new.values()))
        if self._changed:
            many(_UPDATE, map(_changes, self._changed.values()))
        if self._gone:
            many("delete from message where key=?", ((key,) for key in self._gone))
        if self._last:
            many(
                "update queue set last_sequence=? where id=?",
                ((last, queue_id) for queue_id, last in self._last.items()),
            )
        if self._seen:
            many("insert or replace into seen values (?,?,?,?)", self._seen)
        for sql, values in self._statements:
            execute(sql, values)
        execute("commit")
        self._settle()

    def _settle(self) -> None:
        for message in self._new.values():
            message.is_stored = True
            if self._resident + message.size > RESIDENT_BYTES:
                message.raw = None
            else:
                self._resident += message.size
        self._new.clear()
        self._changed.clear()
        self._gone.clear()
        self._last.clear()
        self._seen.clear()
        self._statements.clear()

    # --- queues

    def queue_id(self, name: str) -> int:
        """The number of a queue, given once and never to another."""
        row = self._db.execute("select id from queue where name=?", (name,)).fetchone()
        if row is None:
            sql = "insert into queue (name, last_sequence) values (?, 0) returning id"
            row = self._db.execute(sql, (name,)).fetchone()
        return row[0]

    def keep_queue(self, queue_id: int, settings: str | None) -> None:
        """The settings of a queue that was made at run time."""
        self._db.execute("update queue set settings=? where id=?", (settings, queue_id))

    def drop_queue(self, queue_id: int) -> None:
        """Forget a queue and all that was in it, for good."""
        self.commit()
        low, high = queue_id << SEQUENCE_BITS, (queue_id + 1) << SEQUENCE_BITS
        self._statements += [
            ("delete from message where key>=? and key<?", (low, high)),
            ("delete from seen where queue_id=?", (queue_id,)),
            ("delete from session where queue_id=?", (queue_id,)),
            ("update queue set settings=null where id=?", (queue_id,)),
        ]
        self.commit()

    def made_queues(self) -> list[tuple[str, str]]:
        """(name, settings) of the queues that were made at run time."""
        sql = "select name, settings from queue where settings is not null order by id"
        return self._db.execute(sql).fetchall()

    def load(self, queue: Queue) -> None:
        """Fill a queue with what was kept of it."""
        queue_id = queue.queue_id
        last = self._db.execute("select last_sequence from queue where id=?", (queue_id,))
        queue.last_sequence = last.fetchone()[0]
        seen = "select message_id, expires_ms, sequence from seen where queue_id=? order by 2"
        for row in self._db.execute(seen, (queue_id,)):
            queue.restore_seen(*row)
        for message in self._messages(queue_id):
            queue.restore(message)
        if queue.sessions is not None:
            sql = "select session_id, state, updated_ms from session where queue_id=?"
            for row in self._db.execute(sql, (queue_id,)):
                queue.sessions.restore_state(*row)

    def _messages(self, queue_id: int) -> Iterator[Message]:
        sql = (
            "select key, state, deliveries, is_dead, enqueued_ms, ttl_ms, scheduled_ms,"
            " session_id, reason, description, size, origin, hops, source from message"
            " where key>=? and key<? order by key"
        )
        bounds = (queue_id << SEQUENCE_BITS, (queue_id + 1) << SEQUENCE_BITS)
        for row in self._db.execute(sql, bounds):
            message = Message(
                key=row[0],
                raw=None,
                state=State(row[1]),
                delivery_count=row[2],
                place=Place(row[3]),
                enqueued_ms=row[4],
                ttl_ms=row[5],
                scheduled_ms=row[6],
                session_id=row[7],
                reason=row[8],
                description=row[9],
                size=row[10],
                travel=None if row[11] is None else Travel(row[11], row[12], row[13]),
            )
            message.is_stored = True
            yield message

    def close(self) -> None:
        """Write what is left and let go of the file."""
        self.commit()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file; what was not committed is lost, as when the process dies."""
        self._db.close()
        os.close(self._lock)


type Store = MemoryStore | SqliteStore


def _row(message: Message) -> tuple:
    travel = message.travel
    return (
        message.key,
        int(message.state),
        message.delivery_count + (message.lock is not None),
        int(message.place),
        message.enqueued_ms,
        message.ttl_ms,
        message.scheduled_ms,
        message.session_id,
        message.reason,
        message.description,
        message.size,
        message.raw,
        *(
            (None, None, None)
            if travel is None
            else (travel.origin, travel.hops, travel.source)
        ),
    )


def _changes(message: Message) -> tuple:
    return (
        int(message.state),
        message.delivery_count + (message.lock is not None),
        int(message.place),
        message.reason,
        message.description,
        message.key,
    )


def _only_one(path: Path) -> int:
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StackError(
            f"Another broker has {path} open.", remedy="`kpax down` stops it."
        ) from None
    return handle
