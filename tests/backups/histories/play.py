"""Plays a history and holds each of its snapshots against what it must hold.

The subject is whatever takes and restores snapshots: the engine itself, or a command. While a
snapshot is read, writers write, and somebody waits for a lock that excludes it. What the snapshot
must hold is read in the same exported snapshot.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

from tests.backups.histories.author import TICK, Author
from tests.backups.histories.compare import Contents, contents, dump
from tests.backups.histories.vault import DAY

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from tests.backups.histories.cluster import Cluster

_names = count()


class Subject(Protocol):
    """Takes snapshots of a database and restores them.

    `opened` is to be called with the exported snapshot's id before rows are read; `chance` are
    random numbers of the history, for a subject that does more than it must. What `back_up`
    answers is given to `restore`.
    """

    def back_up(
        self, dsn: str, *, day: date, full: bool, opened: Callable[[str], None], chance: Random
    ) -> Any: ...

    def restore(self, taken: Any, dsn: str) -> None: ...

    def findings(self, taken: Any) -> int: ...


@dataclass(slots=True)
class Told:
    """What was done so far: printed when a snapshot turns out to be wrong."""

    seed: int
    lines: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([f"history {self.seed}", *self.lines[-60:]])


class WrongSnapshotError(AssertionError):
    """A snapshot restores to something else than it saw."""


@dataclass(slots=True)
class _Held:
    """A transaction that is open for a while."""

    connection: Any
    prepared: str = ""


class History:
    """One history on one server. `database` changes when it goes on in a copy."""

    def __init__(
        self, seed: int, cluster: Cluster, subject: Subject, *, copies: bool = False
    ) -> None:
        self.random = Random(seed)  # noqa: S311 - a test's dice
        self.told = Told(seed)
        self.cluster = cluster
        self.subject = subject
        self.author = Author(self.random)
        self.database = f"history_{seed}_{next(_names)}"
        self.day = DAY
        self._copies = copies
        self._home = cluster
        self._held: list[_Held] = []
        self._databases = [self.database]

    def play(self, snapshots: int) -> int:
        """Play it; answers how many snapshots were compared. Raises `WrongSnapshotError`."""
        try:
            latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            self.cluster.create(self.database, latin if self.random.random() < 0.2 else "")
            self._run(self.author.beginning())
            for number in range(snapshots):
                if number:
                    self._live()
                self._snapshot(number, is_last=number == snapshots - 1)
            return snapshots
        finally:
            self._end()

    # -- between snapshots --------------------------------------------------------------------

    def _live(self) -> None:
        chance = self.random.random()
        if chance < 0.25:
            self._hold()
        if self.random.random() < 0.3:
            self._let_go()
        self._run(self.author.between())
        if chance > 0.92:
            self._clone()
        elif chance > 0.75 and self._copies:
            self._copy()
        self.day += timedelta(days=self.random.choice([0, 1, 1, 3]))

    def _hold(self) -> None:
        """Begin a transaction that stays open, or is prepared."""
        connection = self.cluster.connect(self.database)
        held = _Held(connection)
        self._held.append(held)
        rows = [one for one in self.author.rows() if one not in {"COMMIT", "ROLLBACK", "BEGIN"}]
        self._run(["BEGIN", "SET LOCAL lock_timeout = '100ms'", *rows], connection)
        # Barred by another, it was rolled back.
        is_open = connection.get_transaction_status() == TRANSACTION_STATUS_INTRANS
        if self.random.random() < 0.3 and is_open:
            held.prepared = f"p{self.told.seed}_{next(_names)}"
            self._run([f"PREPARE TRANSACTION '{held.prepared}'"], connection)

    def _let_go(self) -> None:
        while self._held:
            held = self._held.pop()
            end = self.random.choice(["COMMIT", "ROLLBACK"])
            told = [f"{end} PREPARED '{held.prepared}'"] if held.prepared else [end]
            self._run(told, held.connection)
            held.connection.close()

    def _clone(self) -> None:
        """Go on in a copy that was made from this database as a template."""
        self._let_go()
        copy = f"{self.database.rsplit('_', 1)[0]}_{next(_names)}"
        self.told.lines.append(f"-- go on in {copy}")
        self.cluster.create(copy, f'TEMPLATE "{self.database}"')
        old, self.database = self.database, copy
        self._databases.append(copy)
        # Both go on, and the copy's changes are by older transactions than the next snapshot.
        self._run([*self.author.rows(), *[TICK] * 5])
        self.cluster.drop(old)

    def _copy(self) -> None:
        """Go on in a cold copy of the server, taken before the newest snapshot of its source.

        Some copies are promoted, as one of a point in time is, and have a timeline of their own.
        """
        self._let_go()
        source, name = self.cluster, f"copy{next(_names)}"
        promoted = self.random.random() < 0.4
        self.told.lines.append(f"-- a cold copy{', promoted' if promoted else ''}")
        source.stop()
        copy = source.copied(name)
        source.start()
        self._run([*self.author.rows(), *[TICK] * 3])
        self._snapshot(-1, is_last=False)
        self._let_go()
        source.stop()
        if promoted:
            (copy.data / "standby.signal").touch()
        self.cluster = copy.start()
        if source is not self._home:
            source.delete()
        if promoted:
            copy.sql("postgres", "SELECT pg_promote()")
        self.told.lines.append("-- go on in the copy")
        # By older transactions than the snapshot of the source.
        self._run([*self.author.rows(), *[TICK] * 30])

    # -- a snapshot ---------------------------------------------------------------------------

    def _snapshot(self, number: int, *, is_last: bool) -> None:
        full = self.random.random() < 0.1
        self.told.lines.append(
            f"-- snapshot {number}, day {self.day}{', full' if full else ''}"
        )
        writers = _Writers(self)
        seen: list[Contents] = []
        schema: list[str] = []

        def opened(name: str) -> None:
            seen.append(contents(self._dsn, name))
            if is_last and not writers.threads:
                schema.append(self._schema(f"--snapshot={name}"))
            writers.start()

        try:
            taken = self.subject.back_up(
                self._dsn, day=self.day, full=full, opened=opened, chance=self.random
            )
        finally:
            writers.join()
        after = contents(self._dsn).sequences
        self._compare(taken, seen[-1], after, schema if len(seen) == 1 else [])
        if self.subject.findings(taken):
            raise WrongSnapshotError(f"an audit found stale rows\n{self.told}")

    def _compare(
        self,
        taken: Any,
        seen: Contents,
        after: dict[str, tuple[int, bool]],
        schema: list[str],
    ) -> None:
        target = f"{self.database}_back"
        self.cluster.drop(target)
        self.cluster.create(target)
        try:
            self.subject.restore(taken, self.cluster.dsn(target))
            back = contents(self.cluster.dsn(target))
            wrong = [
                name
                for name in seen.rows.keys() | back.rows.keys()
                if name != "public.sums" and seen.rows.get(name) != back.rows.get(name)
            ]
            if wrong or seen.large_objects != back.large_objects:
                raise WrongSnapshotError(f"{wrong or 'large objects'} differ\n{self.told}")
            for name, value in back.sequences.items():
                if value not in {seen.sequences[name], after.get(name)}:
                    self._between(name, value, seen.sequences[name], after.get(name))
            if schema and self._schema_of(target) != schema[0]:
                raise WrongSnapshotError(f"definitions differ\n{self.told}")
        finally:
            self.cluster.drop(target)

    def _between(self, name: str, value: Any, low: Any, high: Any) -> None:
        """A sequence is in no snapshot: while writers use it, it may stand anywhere between."""
        if high is None or not min(low[0], high[0]) <= value[0] <= max(low[0], high[0]):
            raise WrongSnapshotError(f"sequence {name} is {value}: {low}, {high}\n{self.told}")

    def _schema(self, *options: str) -> str:
        return dump(
            self._dsn, self.cluster.programs, "--schema-only", "--encoding=UTF8", *options
        )

    def _schema_of(self, database: str) -> str:
        return dump(
            self.cluster.dsn(database),
            self.cluster.programs,
            "--schema-only",
            "--encoding=UTF8",
        )

    # -- statements ---------------------------------------------------------------------------

    @property
    def _dsn(self) -> str:
        return self.cluster.dsn(self.database)

    def _run(self, statements: list[str], connection: Any = None) -> None:
        """Each by itself. One that a held transaction bars is given up, with its transaction."""
        if connection is None:
            with (
                closing(self.cluster.connect(self.database)) as fresh,
                fresh.cursor() as cursor,
            ):
                cursor.execute("SET lock_timeout = '100ms'")
                self._each(statements, cursor)
        else:
            with connection.cursor() as cursor:
                self._each(statements, cursor)

    def _each(self, statements: list[str], cursor: Any) -> None:
        for statement in statements:
            try:
                cursor.execute(statement)
                self.told.lines.append(f"{statement};")
            except psycopg2.errors.LockNotAvailable:
                # What bars it ends, and it is done after all: the author counts on it.
                self.told.lines.append(f"-- barred: {statement}")
                if not cursor.connection.get_transaction_status():
                    self._let_go()
                    cursor.execute(statement)
                    continue
                cursor.execute("ROLLBACK")
                return
            except psycopg2.errors.InFailedSqlTransaction:
                cursor.execute("ROLLBACK")
                return
            except psycopg2.Error as error:
                raise AssertionError(f"{statement}: {error}\n{self.told}") from error

    def _end(self) -> None:
        for held in self._held:
            with suppress(psycopg2.Error):
                held.connection.close()
            if held.prepared:
                with suppress(psycopg2.Error):
                    self.cluster.sql(self.database, f"ROLLBACK PREPARED '{held.prepared}'")
        if self.cluster is not self._home:
            self.cluster.delete()
            self._home.start()
        for name in self._databases:
            self._home.drop(name)


class _Writers:
    """Sessions that write while a snapshot is read, and one that waits for an exclusive lock."""

    def __init__(self, history: History) -> None:
        author = history.author
        self._dsn = history.cluster.dsn(history.database)
        self._scripts = [author.transactions(6) for _ in range(2)]
        if history.random.random() < 0.3:
            self._scripts.append(author.exclusive())
        self.threads: list[threading.Thread] = []
        history.told.lines += [
            f"-- beside: {one}" for script in self._scripts for one in script
        ]

    def start(self) -> None:
        if not self.threads:
            self.threads = [
                threading.Thread(target=self._write, args=(script,)) for script in self._scripts
            ]
            for thread in self.threads:
                thread.start()
            # A moment's start: rows change between the snapshot and the first read.
            until = time.monotonic() + 0.02
            for thread in self.threads:
                thread.join(max(0.0, until - time.monotonic()))

    def join(self) -> None:
        for thread in self.threads:
            thread.join()

    def _write(self, script: list[str]) -> None:
        with closing(psycopg2.connect(self._dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '1s'")
                for statement in script:
                    try:
                        cursor.execute(statement)
                    except psycopg2.Error:
                        # Two writers may bar each other, or a held transaction one of them.
                        with suppress(psycopg2.Error):
                            cursor.execute("ROLLBACK")
