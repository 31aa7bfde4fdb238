"""Capture a database: what changed is read, what did not is referred to, all of one snapshot.

The order matters: locks, snapshot, nonce, counts, rows; the caller publishes the manifest last.
Whatever is not certain is read: the skip rule is used only where `continuity` and the table's own
fingerprint say that ages compare.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backups.database import catalog, continuity, fallback, plan, visibility
from backups.database.catalog import LARGE_OBJECT_LIST, LARGE_OBJECTS
from backups.database.chains import Keeper, Texts
from backups.database.model import DatabasePart, Finding, Schema, Segment, Snapshot, Table
from backups.database.progress import Told
from backups.database.readers import Reading, weight
from backups.database.schema import Dumping
from backups.database.sessions import LockedError, MovedError, Session
from backups.database.snapshot import Marking, OpenSnapshot
from backups.store.keys import digest
from spaces.errors import KpaxError, TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backups.database.plan import Plan, Task
    from backups.store.packs import Reader, Writer

TRIES = 10
OLDEST_SERVER = 140_000
SCHEMA_DAYS = 7
_log = logging.getLogger("kpax.backups")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The database, the folder of pg_dump (None: as `programs.folder` finds it), connections.

    `opened` is told the snapshot's id while it is open, before rows are read: a reference dump of
    the same snapshot can be taken then.
    """

    dsn: str
    pg_bin: Path | None = None
    connections: int = 2
    opened: Callable[[str], None] | None = None


class OutOfTimeError(KpaxError):
    """The time box ended. `part` holds what was read; give it as `previous` of the next run."""

    def __init__(self, part: DatabasePart) -> None:
        super().__init__("the time box ended before the database was read")
        self.part = part


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run is told: see `capture`."""

    source: Source
    previous: DatabasePart | None
    full: bool
    today: int
    key: bytes
    deadline: Callable[[], bool]
    progress: Callable[[str], None]


def capture(
    source: Source,
    previous: DatabasePart | None,
    writer: Writer,
    reader: Reader | None,
    *,
    full: bool,
    today: date,
    key: bytes,
    deadline: Callable[[], bool] = lambda: False,
    progress: Callable[[str], None] = lambda _: None,
) -> DatabasePart:
    """The database now, as a part of a manifest; its frames are in `writer`.

    `reader` reads what `previous` refers to: deltas are built on it. Look at `findings` of the
    answer: each says that earlier snapshots hold other rows than they should.

    Raises:
        OutOfTimeError: `deadline` said so; what was read is in it.
        UnreachableError, TransientError, RefusedError: nothing was captured.
    """
    run = Run(
        source=source,
        previous=previous,
        full=full,
        today=today.toordinal(),
        key=key,
        deadline=deadline,
        progress=progress,
    )
    keeper = Keeper(writer, Texts(reader, key) if reader else None, key=key)
    for left in reversed(range(TRIES)):
        try:
            return _captured(run, keeper)
        except (MovedError, LockedError) as error:
            _log.info("backup.snapshot_retried", extra={"reason": str(error)})
            if not left:
                raise TransientError(
                    f"tables are changed faster than they can be locked: {error.what}"
                ) from error
    raise AssertionError("unreachable")


def _captured(run: Run, keeper: Keeper) -> DatabasePart:
    keeper.bytes_read = 0
    source = run.source
    with closing(Session(source.dsn)) as session:
        if session.version < OLDEST_SERVER:
            return fallback.capture(
                session,
                dsn=source.dsn,
                pg_bin=source.pg_bin,
                previous=run.previous,
                keeper=keeper,
            )
        with OpenSnapshot(session, source.dsn, run.key) as snapshot:
            return _Capture(run, keeper, snapshot).part()


class _Capture:
    """One try, in one snapshot."""

    def __init__(self, run: Run, keeper: Keeper, snapshot: OpenSnapshot) -> None:
        self._run = run
        self._keeper = keeper
        self._snapshot = snapshot
        self._lead = snapshot.lead
        self._now, held = continuity.look(self._lead)
        before = run.previous.snapshots if run.previous else []
        self._past = plan.Past(
            part=run.previous,
            continued=tuple(continuity.continues(self._now, held, one) for one in before),
        )
        block = int(self._lead.one("SELECT current_setting('block_size')::int")[0])
        self._today = plan.Today(day=run.today, full=run.full, block_bytes=block)
        self._done: dict[int, list[tuple[Task, Segment]]] = {}
        self._audited = 0
        self._findings: list[Finding] = []
        self._told = Told("database read", run.progress)

    def part(self) -> DatabasePart:
        """Everything, in order."""
        run, lead = self._run, self._lead
        # What is in no snapshot is read first: were it gone already, little has to be done again.
        # A sequence is never behind the rows that the snapshot sees.
        sequences = catalog.sequences(lead)
        position = "" if self._snapshot.may_mark else continuity.position(lead)
        marking = Marking(run.source.dsn, may=self._snapshot.may_mark, mark=continuity.mark)
        dumping: Dumping | None = None
        try:
            if run.source.opened:
                run.source.opened(self._snapshot.id)
            stamp, dumping = self._definitions()
            plans = self._plans()
            is_whole = self._read(plans, dumping)
            schema = self._schema(stamp, dumping)
            nonce = marking.wait()
        finally:
            marking.wait()
            if dumping:
                dumping.stop()
        now = self._marked(nonce, position)
        part = msgspec.structs.replace(
            self._assembled(now, plans, schema, is_whole=is_whole), sequences=sequences
        )
        if not is_whole:
            raise OutOfTimeError(part)
        return part

    # -- definitions -------------------------------------------------------------------------

    def _definitions(self) -> tuple[bytes, Dumping | None]:
        """The catalogues' stamp, and pg_dump at work where it differs from the earlier one."""
        earlier = self._run.previous.schema if self._run.previous else None
        trusted = (
            earlier is not None and self._past.part is not None and self._past.part.is_complete
        )
        comparable = trusted and self._past.continued[0]
        since = (
            self._run.previous.snapshots[0].xmin if comparable and self._run.previous else None
        )
        told, changed = visibility.catalogues(self._lead, since)
        stamp = digest(self._run.key, told.encode())
        if earlier and not changed and stamp == earlier.stamp and not self._is_old(earlier):
            return stamp, None
        return stamp, Dumping(
            dsn=self._run.source.dsn,
            pg_bin=self._run.source.pg_bin,
            server=self._lead.version,
            snapshot=self._snapshot.id,
            encoding=self._lead.encoding,
            keeper=self._keeper,
            earlier=[earlier.before, earlier.after] if earlier else [[], []],
        )

    def _is_old(self, schema: Schema) -> bool:
        return self._run.full or self._run.today - schema.dumped_on >= SCHEMA_DAYS

    def _schema(self, stamp: bytes, dumping: Dumping | None) -> Schema | None:
        earlier = self._run.previous.schema if self._run.previous else None
        if dumping is None:
            return earlier
        before, after = dumping.wait()
        return Schema(stamp=stamp, dumped_on=self._run.today, before=before, after=after)

    # -- rows --------------------------------------------------------------------------------

    def _plans(self) -> list[Plan]:
        relations = [relation for relation in self._snapshot.relations if relation.has_rows]
        objects = catalog.large_objects(self._lead, readable=self._snapshot.reads_large_objects)
        counts = [*relations, *(one for one in objects if one.by_blocks)]
        seen = plan.counted(self._lead, counts, self._past)
        return [
            plan.planned(self._lead, relation, seen.get(relation.oid), self._past, self._today)
            for relation in [*relations, *objects]
        ]

    def _read(self, plans: Sequence[Plan], dumping: Dumping | None) -> bool:
        """Read what is planned, then what turned out to be doubtful; False when time ran out."""
        tasks = [task for one in plans for task in one.tasks]
        if not self._pass(tasks, dumping):
            return False
        doubtful = [one for one in plans if self._findings or not self._adds_up(one)]
        again = [
            plan.Task(relation=one.relation, span=span, is_audit=True)
            for one in doubtful
            for span in one.kept
        ]
        for one in doubtful:
            one.kept = []
        if not self._pass(again, dumping):
            return False
        for one in plans:
            if not self._adds_up(one):
                raise KpaxError(
                    f"the rows read of {one.relation.name} are not those the server counts",
                    remedy="Nothing was published. Run again; if it stays so, call support.",
                )
        return True

    def _pass(self, tasks: Sequence[Task], dumping: Dumping | None) -> bool:
        largest_first = sorted(tasks, key=lambda task: -task.relation.heap_bytes)
        self._told.expect(weight(tasks))
        reading = Reading(
            self._snapshot,
            self._keeper,
            today=self._run.today,
            deadline=lambda: self._is_late(dumping),
            report=self._report,
        )
        reading.run(largest_first, connections=self._run.source.connections)
        for task, segment in reading.done:
            self._done.setdefault(task.relation.oid, []).append((task, segment))
            self._audited += task.is_audit
            if task.is_audit and not _is_same(segment, task.earlier):
                self._findings.append(_finding(task, segment))
        return not reading.is_cut_short

    def _is_late(self, dumping: Dumping | None) -> bool:
        if dumping:
            dumping.look()
        return self._run.deadline()

    def _report(self, task: Task) -> None:
        self._told.add(weight([task]))

    def _adds_up(self, one: Plan) -> bool:
        read = sum(segment.rows for segment in self._segments(one))
        return one.seen is None or read == one.seen.rows

    def _segments(self, one: Plan) -> list[Segment]:
        """A table's segments: read ones, kept ones, and after an early end the earlier ones."""
        found = [segment for _, segment in self._done.get(one.relation.oid, [])]
        found += [
            _moved(span.earlier, end=span.end, as_of=0) for span in one.kept if span.earlier
        ]
        return sorted(found, key=lambda segment: segment.start)

    def _left(self, one: Plan) -> list[Segment]:
        """What was planned and not read, as the earlier snapshots have it.

        Nothing where the table is no longer what it was: what is written down is its new identity.
        """
        if not self._past.trusts(one.relation, self._past.table(one.relation)):
            return []
        read = {id(task) for task, _ in self._done.get(one.relation.oid, [])}
        left = {
            task.earlier.start: task.earlier
            for task in one.tasks
            if id(task) not in read and task.earlier and task.relation.by_blocks
        }
        taken = {segment.start for segment in self._segments(one)}
        return [
            _moved(segment, end=segment.end, as_of=segment.as_of + 1)
            for start, segment in left.items()
            if start not in taken
        ]

    # -- the answer --------------------------------------------------------------------------

    def _marked(self, nonce: str, position: str) -> Snapshot:
        started = self._now.started
        if not nonce and position and not continuity.is_durable(self._lead, position):
            started = ""
        return Snapshot(
            xmin=self._now.xmin,
            system=self._now.system,
            timeline=self._now.timeline,
            database=self._now.database,
            server=self._now.server,
            nonce=nonce,
            started=started,
        )

    def _assembled(
        self, now: Snapshot, plans: Sequence[Plan], schema: Schema | None, *, is_whole: bool
    ) -> DatabasePart:
        lead, previous = self._lead, self._run.previous
        tables = [self._table(one, is_whole=is_whole) for one in plans]
        names = (LARGE_OBJECTS, LARGE_OBJECT_LIST)
        objects = {table.name: table for table in tables if table.name in names}
        older = previous.snapshots if previous and not is_whole else []
        database, locale = catalog.locale(lead)
        return DatabasePart(
            database=database,
            encoding=lead.encoding,
            locale=locale,
            snapshots=[now, *older],
            roles=catalog.roles(lead),
            extensions=catalog.extensions(lead),
            tables=[table for table in tables if table.name not in objects],
            sequences=[],
            large_objects=objects.get(LARGE_OBJECTS),
            large_object_list=objects.get(LARGE_OBJECT_LIST),
            schema=schema,
            is_complete=is_whole,
            bytes_read=self._keeper.bytes_read,
            audited=self._audited,
            findings=self._findings,
        )

    def _table(self, one: Plan, *, is_whole: bool) -> Table:
        relation = one.relation
        found = self._segments(one)
        if not is_whole:
            found = sorted([*found, *self._left(one)], key=lambda segment: segment.start)
        return Table(
            name=relation.name,
            oid=relation.oid,
            node=relation.node,
            fingerprint=relation.fingerprint,
            skips=relation.skips,
            columns=[column.name for column in relation.columns],
            rows=sum(segment.rows for segment in found),
            segments=found,
            parents=list(relation.parents),
            extension=relation.extension,
            condition=relation.condition,
        )


def _moved(segment: Segment, *, end: int, as_of: int) -> Segment:
    return Segment(segment.start, end, segment.rows, segment.read_on, as_of, segment.frames)


def _is_same(now: Segment, before: Segment | None) -> bool:
    return before is not None and [frame.digest for frame in now.frames] == [
        frame.digest for frame in before.frames
    ]


def _finding(task: Task, segment: Segment) -> Finding:
    since = task.earlier.read_on if task.earlier else segment.read_on
    finding = Finding(
        table=task.relation.name,
        start=segment.start,
        end=segment.end,
        since=date.fromordinal(since).isoformat(),
    )
    _log.error(
        "backup.audit_mismatch",
        extra={
            "table": finding.table,
            "start": finding.start,
            "since": finding.since,
            "see": "docs/running.md#backup.audit_mismatch",
        },
    )
    return finding
