"""Rows back into tables: the texts of frames through COPY, each table by one session, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.errors import DamagedError, KpaxError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backups.database.chains import Texts
    from backups.database.model import DatabasePart, Frame, Table
    from backups.database.model import Sequence as State
    from backups.database.progress import Told
    from backups.database.sessions import Session

_SETVALS = 200
# Some at a time: each takes a lock, and locks are few.
_MAKE_OBJECTS = """
DO $$
DECLARE
    one record;
    statement text;
BEGIN
    FOR one IN SELECT *, row_number() OVER (ORDER BY id) AS n FROM pg_temp.objects LOOP
        PERFORM lo_create(one.id);
        FOREACH statement IN ARRAY coalesce(one.granted, '{}') LOOP
            EXECUTE statement;
        END LOOP;
        IF one.comment IS NOT NULL THEN
            EXECUTE format('COMMENT ON LARGE OBJECT %s IS %L', one.id, one.comment);
        END IF;
        EXECUTE format('ALTER LARGE OBJECT %s OWNER TO %I', one.id, one.owner);
        IF one.n % 500 = 0 THEN
            COMMIT;
        END IF;
    END LOOP;
END $$
"""


class Loader:
    """Loads relations of one part. `damage` collects what was skipped, where that was asked for."""

    def __init__(
        self, part: DatabasePart, texts: Texts, told: Told, *, skip_damaged: bool
    ) -> None:
        self._part = part
        self._texts = texts
        self._told = told
        self._skips = skip_damaged
        self.damage: list[DamagedError] = []

    def table(self, session: Session, table: Table) -> None:
        """All rows of a table. Raises where there are not as many as were captured."""
        columns = f"({', '.join(table.columns)})" if table.columns else ""
        # In a table that this transaction emptied, rows can be written as old ones: nothing has to
        # be written twice. What an extension brought stays; the rest comes on top.
        fresh = not table.extension
        session.rows("BEGIN")
        if fresh:
            session.rows(f"TRUNCATE ONLY {table.name}")
        freeze = "FREEZE true, " if fresh else ""
        rows = session.copy_in(
            f"COPY {table.name} {columns} FROM STDIN ({freeze}ENCODING '{self._part.encoding}')",
            Feed(self._pieces(table)),
        )
        session.rows("COMMIT")
        self._compare(table, rows)

    def large_objects(self, session: Session, listed: Table, table: Table | None) -> None:
        """Large objects: made, given their owners and privileges, then their bytes."""
        session.rows(
            "CREATE TEMPORARY TABLE objects (id oid, owner text, comment text, granted text[])"
        )
        rows = session.copy_in(
            f"COPY pg_temp.objects FROM STDIN (ENCODING '{self._part.encoding}')",
            Feed(self._pieces(listed)),
        )
        self._compare(listed, rows)
        session.rows(_MAKE_OBJECTS)
        session.rows("DROP TABLE pg_temp.objects")
        if table is not None:
            self._bytes(session, table)

    def _bytes(self, session: Session, table: Table) -> None:
        session.rows("BEGIN")
        session.rows(
            "CREATE TEMPORARY TABLE pages (loid oid, at bigint, data bytea) ON COMMIT DROP"
        )
        rows = session.copy_in(
            f"COPY pg_temp.pages FROM STDIN (ENCODING '{self._part.encoding}')",
            Feed(self._pieces(table)),
        )
        session.rows("SELECT count(lo_put(loid, at, data)) FROM pg_temp.pages")
        session.rows("COMMIT")
        self._compare(table, rows)

    def sequences(self, session: Session, states: Sequence[State]) -> None:
        """Where each sequence stood."""
        for at in range(0, len(states), _SETVALS):
            some = states[at : at + _SETVALS]
            told = ", ".join(["setval(%s::regclass, %s, %s)"] * len(some))
            values = [
                value for state in some for value in (state.name, state.value, state.is_called)
            ]
            session.rows(f"SELECT {told}", values)

    def _pieces(self, table: Table) -> Iterator[bytes]:
        for segment in table.segments:
            if self._skips:
                yield from self._whole_or_nothing(table, segment.frames)
                continue
            for frame in segment.frames:
                yield self._texts.plain(frame, affects=f"table {table.name}")
                self._told.add(frame.size)

    def _whole_or_nothing(self, table: Table, frames: Sequence[Frame]) -> Iterator[bytes]:
        """A segment's text; none of it where one of its frames is damaged: a row may span two.

        The frames are read twice, so that none has to be held while the others are looked at.
        """
        found = len(self.damage)
        for frame in frames if len(frames) > 1 else ():
            self._read(table, frame)
        if len(self.damage) > found:
            return
        for frame in frames:
            data = self._read(table, frame)
            if data is not None:
                yield data
                self._told.add(frame.size)

    def _read(self, table: Table, frame: Frame) -> bytes | None:
        try:
            return self._texts.plain(frame, affects=f"table {table.name}")
        except DamagedError as error:
            self.damage.append(error)
            return None

    def _compare(self, table: Table, rows: int) -> None:
        if rows != table.rows and not self.damage:
            raise KpaxError(
                f"{table.name} holds {rows} rows after the restore and {table.rows} were captured"
            )


class Feed:
    """Pieces of bytes as a file to read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, n: int) -> bytes:
        """At most `n` bytes; none at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        data, self._rest = self._rest[:n], self._rest[n:]
        return bytes(data)
