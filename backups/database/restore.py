"""A database from a part of a manifest: definitions, rows, what follows rows. Into an empty one.

Order: roles that are missing, definitions, rows and large objects, sequences; then indexes, keys
and whatever else pg_dump puts after rows; privileges when all is in place; at last what runs by
itself. Tables and indexes are spread over `jobs` sessions, each table's rows over none: they come
back in the order in which they stood.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import msgspec

from backups.database import fallback, roles, work
from backups.database.chains import Texts, joined
from backups.database.loading import Loader
from backups.database.progress import Told
from backups.database.sessions import LockedError, Session
from backups.database.statements import Kind, Statement, classified, statements
from spaces.errors import InvalidError, NotFoundError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backups.database.model import DatabasePart, Frame, Table
    from backups.store.packs import Reader
    from spaces.errors import DamagedError

_TRIES = 10
_BATCH_BYTES = 256 << 10
_BATCH_STATEMENTS = 300  # more in one transaction might run out of locks
_LOADING = {"synchronous_commit": "off", "lock_timeout": "0", "maintenance_work_mem": "128MB"}

_PLACE = re.compile(r"SET (default_tablespace|default_table_access_method) =")
_OURS = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'kpax_backup')"
_HOLDS = f"""
SELECT 'table or view ' || c.relname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {_OURS}
UNION ALL SELECT 'function ' || p.proname FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE {_OURS}
UNION ALL SELECT 'type ' || t.typname FROM pg_catalog.pg_type t
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE {_OURS}
UNION ALL SELECT 'schema ' || n.nspname FROM pg_catalog.pg_namespace n
    WHERE {_OURS} AND n.nspname <> 'public'
UNION ALL SELECT 'extension ' || e.extname FROM pg_catalog.pg_extension e
    WHERE e.extname <> 'plpgsql'
UNION ALL SELECT 'large object ' || l.oid FROM pg_catalog.pg_largeobject_metadata l
LIMIT 1
"""  # noqa: S608 - a constant of ours


def require_empty(target_dsn: str) -> None:
    """Raises `RefusedError` where a database holds anything."""
    with closing(Session(target_dsn)) as session:
        _require_empty(session)


def restore(
    target_dsn: str,
    part: DatabasePart,
    reader: Reader,
    *,
    key: bytes,
    pg_bin: Path | None = None,
    jobs: int = 2,
    only_table: str | None = None,
    skip_damaged: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> list[DamagedError]:
    """Fill an empty database; answers the damage that was skipped, where that was asked for.

    With `only_table` all definitions come, and of the rows those of one table, with its partitions
    and children; foreign keys are left out.

    Raises:
        RefusedError: the target is not empty.
        DamagedError: something stored is not what it was; nothing is skipped unasked.
    """
    texts = Texts(reader, key)
    with ExitStack() as stack:
        lead = stack.enter_context(closing(Session(target_dsn, settings=_LOADING)))
        _require_empty(lead)
        lead.rows("DROP SCHEMA IF EXISTS kpax_backup CASCADE")
        if part.dump is not None:
            pieces = joined(texts, part.dump, "dump of the database")
            fallback.restore(
                target_dsn, pieces, pg_bin=pg_bin, server=lead.version, only=only_table
            )
            return []
        sessions = [lead] + [
            stack.enter_context(closing(Session(target_dsn, settings=_LOADING)))
            for _ in range(jobs - 1)
        ]
        told = Told("database restored", progress)
        loader = Loader(part, texts, told, skip_damaged=skip_damaged)
        _Restore(part, texts, loader, sessions, only_table).run(told)
        return loader.damage


class _Restore:
    """One restore; the first session leads."""

    def __init__(
        self,
        part: DatabasePart,
        texts: Texts,
        loader: Loader,
        sessions: list[Session],
        only_table: str | None,
    ) -> None:
        if part.schema is None:
            raise InvalidError("this snapshot of a database holds no definitions")
        self._part = part
        self._texts = texts
        self._loader = loader
        self._sessions = sessions
        self._tables = _chosen(part, only_table)
        self._is_whole = only_table is None
        self._before = part.schema.before
        self._after = part.schema.after

    def run(self, told: Told) -> None:
        """Everything, in order."""
        lead = self._sessions[0]
        roles.ensure(lead, self._part.roles)
        grants: list[Statement] = []
        self._in_batches(lead, self._definitions(grants))
        after = list(self._placed(self._after))
        told.expect(sum(s.size for table in self._tables for s in table.segments))
        self._rows_and_indexes(after)
        self._loader.sequences(lead, self._part.sequences)
        self._rest(lead, after, grants)

    def _definitions(self, grants: list[Statement]) -> Iterator[str]:
        """What comes before the rows; privileges are put aside: an owner may have taken its own."""
        for statement in self._placed(self._before):
            if statement.kind is Kind.GRANT:
                grants.append(statement)
            else:
                yield statement.text

    def _rows_and_indexes(self, after: Sequence[Statement]) -> None:
        """Rows, largest table first; a table's indexes as soon as its rows are there."""
        indexes: dict[str, list[Statement]] = {}
        for statement in after:
            if statement.kind is Kind.INDEX:
                indexes.setdefault(statement.table, []).append(statement)
        # Their indexes lock what hangs below them too, and that is being filled.
        above = {parent for table in self._part.tables for parent in table.parents}
        jobs: list[work.Job] = []
        for table in sorted(
            self._tables, key=lambda table: -sum(segment.size for segment in table.segments)
        ):
            then = _steps(indexes.pop(table.name, [])) if table.name not in above else []
            jobs.append(work.Job(lambda s, t=table: self._loader.table(s, t), then))
        listed, objects = self._part.large_object_list, self._part.large_objects
        if listed is not None and self._is_whole:
            jobs.append(work.Job(lambda s: self._loader.large_objects(s, listed, objects)))
        work.run(self._sessions, jobs)
        left = [work.Job(one) for left in indexes.values() for one in _steps(left)]
        work.run(self._sessions, left)

    def _rest(
        self, lead: Session, after: Sequence[Statement], grants: Sequence[Statement]
    ) -> None:
        of = {kind: [s for s in after if s.kind is kind] for kind in Kind}
        self._in_batches(lead, (s.text for s in of[Kind.ATTACH]))
        if self._is_whole:
            spread = self._sessions
            # A key of a partitioned table locks partitions too: two at once could wait for each other.
            if any(table.parents for table in self._part.tables):
                spread = [lead]
            work.run(spread, [work.Job(one) for one in _steps(of[Kind.FOREIGN_KEY])])
        # Without foreign keys nothing can be said of them.
        said = of[Kind.KEY_COMMENT] if self._is_whole else []
        self._in_batches(lead, (s.text for s in [*of[Kind.OTHER], *said]))
        self._in_batches(lead, (s.text for s in [*grants, *of[Kind.GRANT]]))
        if self._is_whole:
            for statement in of[Kind.LAST]:
                lead.rows(statement.text)

    def _placed(self, frames: Sequence[Frame]) -> Iterator[Statement]:
        """Statements without the script's settings, which every session has already.

        But for two that change on the way: each statement brings its own along.
        """
        places: dict[str, str] = {}
        for text in self._statements(frames):
            statement = classified(text)
            if statement.kind is not Kind.SETTING:
                told = "".join(f"{setting};\n" for setting in places.values())
                yield msgspec.structs.replace(statement, text=told + text)
            elif found := _PLACE.match(text):
                places[found[1]] = text

    def _statements(self, frames: Sequence[Frame]) -> Iterator[str]:
        coding = "latin-1" if self._part.encoding == "SQL_ASCII" else "utf-8"
        script = b"".join(joined(self._texts, frames, "definitions of the database"))
        return statements(script.decode(coding))

    def _in_batches(self, session: Session, texts: Iterator[str]) -> None:
        waiting: list[str] = []
        for text in texts:
            waiting.append(text)
            if len(waiting) >= _BATCH_STATEMENTS or sum(map(len, waiting)) > _BATCH_BYTES:
                session.rows("\n;\n".join(waiting))
                waiting = []
        if waiting:
            session.rows("\n;\n".join(waiting))


def _steps(found: Sequence[Statement]) -> list[work.Step]:
    # What lets others read the table goes first: it can be done by two at once.
    ordered = sorted(found, key=lambda statement: statement.text.startswith("ALTER"))
    return [lambda session, text=statement.text: _done(session, text) for statement in ordered]


def _done(session: Session, text: str) -> None:
    """Two statements may wait for each other's tables: the server ends one, and it is done again."""
    for left in reversed(range(_TRIES)):
        try:
            session.rows(text)
        except LockedError:
            if not left:
                raise
        else:
            return


def _chosen(part: DatabasePart, only: str | None) -> list[Table]:
    """The tables whose rows come: all, or one with what hangs below it."""
    if only is None:
        return part.tables
    roots = {
        name
        for name in [table.name for table in part.tables]
        + [parent for table in part.tables for parent in table.parents]
        if only in {name, name.removeprefix("public."), name.replace('"', "")}
    }
    chosen = [
        table for table in part.tables if table.name in roots or roots & set(table.parents)
    ]
    if not chosen:
        raise NotFoundError(f"the snapshot holds no table {only}")
    return chosen


def _require_empty(session: Session) -> None:
    for (held,) in session.rows(_HOLDS):
        raise RefusedError(
            f"the target database is not empty: it holds {held}",
            remedy="Restore into a new database.",
        )
