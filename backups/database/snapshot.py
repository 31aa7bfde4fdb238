"""One snapshot, seen by several sessions, in which no table can change its shape or its file.

Every table is locked before the first read and to the end: with a snapshot open, a table that
somebody truncates and refills, or rewrites, reads as half or as empty (backups.md, amendment 3).
The lock comes before the snapshot, so the list of tables is read outside and looked at again
inside. A further session takes its locks without waiting: were it to queue behind somebody who
waits for us, nobody would ever move.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from backups.database import catalog, continuity
from backups.database.catalog import LARGE_OBJECTS
from backups.database.sessions import MovedError, Session
from spaces.errors import InvalidError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from backups.database.catalog import Relation

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class OpenSnapshot:
    """An open snapshot: its id, its tables, and sessions in it. Use as a context manager."""

    def __init__(self, lead: Session, dsn: str, key: bytes) -> None:
        """`lead` becomes the first session of it.

        Raises `MovedError` or `LockedError` where a new try may do better.
        """
        self._dsn = dsn
        self._lock = threading.Lock()
        self.lead = lead
        self.sessions = [self.lead]
        try:
            self.may_mark = continuity.prepare(self.lead)
            self.relations = self._locked(key)
            self.id = str(self.lead.one("SELECT pg_export_snapshot()")[0])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def reads_large_objects(self) -> bool:
        """Whether the role may read large objects by blocks, which only few may."""
        return self._reads_large_objects

    def further(self) -> Session:
        """One more session in the same snapshot, with the same locks."""
        session = Session(self._dsn)
        with self._lock:
            self.sessions.append(session)
        session.rows(_BEGIN)
        try:
            session.rows(f"SET TRANSACTION SNAPSHOT '{self.id}'")
        except InvalidError as error:  # it ends with the session that gave it away
            raise TransientError(f"the database went away: {error}") from error
        session.rows(self._lock_statement([r.name for r in self.relations], " NOWAIT"))
        return session

    def cancel(self) -> None:
        """End whatever the sessions are doing."""
        for session in self.sessions:
            session.cancel()

    def close(self) -> None:
        """Give up the snapshot and the locks."""
        for session in self.sessions:
            session.close()

    def _locked(self, key: bytes) -> list[Relation]:
        lead = self.lead
        listed = {(relation.oid, relation.name) for relation in catalog.relations(lead)}
        self._reads_large_objects = bool(
            lead.one(f"SELECT has_table_privilege('{LARGE_OBJECTS}', 'select')")[0]
        )
        lead.rows(_BEGIN)
        names = [name for _, name in sorted(listed)]
        lead.rows(self._lock_statement(names, ""))
        seen = catalog.relations(lead)
        if {(relation.oid, relation.name) for relation in seen} != listed:
            raise MovedError("tables came or went while they were being locked")
        for relation in seen:
            if relation.node != relation.listed_node:
                raise MovedError(f"{relation.name} was rewritten while it was being locked")
        told = catalog.attributes(lead, [relation.oid for relation in seen], key)
        return [replace(relation, **told[relation.oid]) for relation in seen]

    def _lock_statement(self, names: list[str], how: str) -> str:
        locked = [f"ONLY {name}" for name in names]
        if self._reads_large_objects:
            locked.append(LARGE_OBJECTS)
        if not locked:
            return "SELECT"
        return f"LOCK TABLE {', '.join(locked)} IN ACCESS SHARE MODE{how}"


class Marking:
    """Writes the nonce beside the reading: its thread, and its answer."""

    def __init__(self, dsn: str, *, may: bool, mark: Callable[[str], str]) -> None:
        self.nonce = ""
        self._thread = threading.Thread(target=self._run, args=(dsn, mark), name="nonce")
        self._may = may
        if may:
            self._thread.start()

    def wait(self) -> str:
        """The nonce; empty where it could not be written."""
        if self._may:
            self._thread.join()
        return self.nonce

    def _run(self, dsn: str, mark: Callable[[str], str]) -> None:
        self.nonce = mark(dsn)
