"""Which blocks of which table must be read today, and which are as an earlier snapshot holds them.

Decides by counts that it asks for; reads no row. What it keeps it has proved unchanged by the rule
of `visibility`, under the guards of `continuity` and of the table's own identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backups.database import reading, segments, visibility
from backups.database.catalog import Relation
from backups.database.segments import Span
from backups.database.visibility import Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backups.database.model import DatabasePart, Segment, Table
    from backups.database.sessions import Session

AUDIT_DAYS = 7
_ASK_ALL_BELOW = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Rows to read: some blocks, or a whole table (`span` None).

    `is_audit`: the rule says that nothing changed, so other bytes than before are an alarm.
    """

    relation: Relation
    span: Span | None
    is_audit: bool = False

    @property
    def earlier(self) -> Segment | None:
        """What held these blocks last time."""
        return self.span.earlier if self.span else None


@dataclass(slots=True, kw_only=True)
class Plan:
    """One table's work: segments that are kept, and what is to be read."""

    relation: Relation
    seen: Seen | None
    kept: list[Span] = field(default_factory=list[Span])
    tasks: list[Task] = field(default_factory=list[Task])


class Past:
    """The previous part, and which of its snapshots grew into this one."""

    def __init__(self, *, part: DatabasePart | None, continued: tuple[bool, ...]) -> None:
        self.part = part
        self.continued = continued
        tables: list[Table] = []
        if part is not None:
            objects = (part.large_object_list, part.large_objects)
            tables = [*part.tables, *(table for table in objects if table)]
        self._by_oid = {table.oid: table for table in tables}
        self._by_name = {table.name: table for table in tables}

    def table(self, relation: Relation) -> Table | None:
        """The same table, or one that had its name: good as a base of deltas at least."""
        return self._by_oid.get(relation.oid) or self._by_name.get(relation.name)

    def trusts(self, relation: Relation, table: Table | None) -> bool:
        """Whether rows of this table may be taken as unchanged by the ages of rows."""
        return (
            table is not None
            and relation.by_blocks
            and relation.skips
            and table.skips
            and (table.oid, table.node, table.fingerprint)
            == (relation.oid, relation.node, relation.fingerprint)
        )

    def since(self, segment: Segment) -> int | None:
        """The oldest transaction of the snapshot that a segment is of; None: not comparable."""
        if self.part is None or not self.continued[segment.as_of]:
            return None
        return self.part.snapshots[segment.as_of].xmin

    def since_all(self, table: Table) -> int | None:
        """The same for a whole table; None where only its segments can be asked."""
        if self.part is None or not self.part.is_complete or not self.continued[0]:
            return None
        return self.part.snapshots[0].xmin


@dataclass(frozen=True, slots=True, kw_only=True)
class Today:
    """The day, as an ordinal; whether all is read; the server's block size."""

    day: int
    full: bool
    block_bytes: int

    def audits(self, relation: Relation, segment: Segment) -> bool:
        """Whether an unchanged segment is read all the same: each at least every seven days.

        Segments come up on different days of the week, so that no day pays for all.
        """
        age = self.day - segment.read_on
        its_day = (relation.oid + segment.start // segments.MOST_BLOCKS) % AUDIT_DAYS
        return self.full or age >= AUDIT_DAYS or (age != 0 and self.day % AUDIT_DAYS == its_day)


def source(relation: Relation) -> str:
    """What follows FROM."""
    return f"ONLY {relation.name} {relation.condition}".strip()


def counted(session: Session, relations: Sequence[Relation], past: Past) -> dict[int, Seen]:
    """Each table's rows, and how many are newer than the previous snapshot."""
    asked: dict[str, int | None] = {}
    for relation in relations:
        table = past.table(relation)
        trusted = table is not None and past.trusts(relation, table)
        asked[source(relation)] = past.since_all(table) if trusted and table else None
    seen = visibility.tables(session, asked)
    return {relation.oid: seen[source(relation)] for relation in relations}


def planned(
    session: Session, relation: Relation, seen: Seen | None, past: Past, today: Today
) -> Plan:
    """What to do with one table."""
    plan = Plan(relation=relation, seen=seen)
    table = past.table(relation)
    if not relation.by_blocks:
        last = table.segments[0] if table and table.segments else None
        span = Span(start=0, end=0, earlier=last) if last else None
        plan.tasks = [Task(relation=relation, span=span)]
        return plan
    each = segments.width(relation.heap_bytes, relation.toast_bytes)
    blocks = relation.blocks(today.block_bytes)
    spans = segments.planned(blocks, each, table.segments if table else [])
    if table is not None and past.trusts(relation, table):
        unchanged = _unchanged(session, plan, table, spans, past)
    else:
        unchanged = set[int]()
    for span in spans:
        if span.start not in unchanged or span.earlier is None:
            plan.tasks += _changed(session, relation, span)
        elif today.audits(relation, span.earlier):
            plan.tasks.append(Task(relation=relation, span=span, is_audit=True))
        else:
            plan.kept.append(span)
    return plan


def _unchanged(
    session: Session, plan: Plan, table: Table, spans: Sequence[Span], past: Past
) -> set[int]:
    """The spans whose rows are proved to be those of their earlier segment."""
    relation = plan.relation
    if plan.seen and past.since_all(table) is not None and plan.seen == (table.rows, 0):
        return {span.start for span in spans if span.earlier is not None}
    asked: list[tuple[Span, int]] = []
    for span in spans:
        since = past.since(span.earlier) if span.earlier else None
        if since is not None:
            asked.append((span, since))
    if len(asked) > _ASK_ALL_BELOW:
        few = [asked[index] for index in segments.sampled(len(asked))]
        if not any(map(_is_same, visibility.spans(session, f"ONLY {relation.name}", few))):
            return set()  # most have changed: to ask the rest costs more than it saves
    told = visibility.spans(session, f"ONLY {relation.name}", asked)
    return {span.start for span, seen_here in told if _is_same((span, seen_here))}


def _is_same(told: tuple[Span, Seen]) -> bool:
    span, seen = told
    return span.earlier is not None and seen == (span.earlier.rows, 0)


def _changed(session: Session, relation: Relation, span: Span) -> list[Task]:
    """A span to read, cut where its rows weigh too much."""
    uneven = span.earlier is None and segments.is_uneven(
        relation.heap_bytes, relation.toast_bytes
    )
    if (uneven and span.end - span.start > 1) or span.is_oversized:
        cut = reading.spans_by_weight(session, relation, span)
        spans = [Span(start=one.start, end=one.end, earlier=span.earlier) for one in cut]
    else:
        spans = [span]
    return [Task(relation=relation, span=one) for one in spans]
