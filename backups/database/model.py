"""What a manifest holds of a database: its part, decoded and encoded by msgspec.

Frames of text lie in packs; everything here says which frames make which table. The text of a
table is PostgreSQL's COPY text in the server's encoding, read with the settings of
`sessions.PINNED`; rows stand in the order of the heap. docs/backup-format.md describes the bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backups.store.packs import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAIN_LIMIT = 7
"""Pieces that one frame may need: a whole one, and deltas each against the one before."""


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """Some bytes of text: size and digest of the plain bytes, and the pieces that give them.

    `chain[0]` stands alone, each later piece is against the bytes of the one before. `cap` is how
    long this chain may grow; the first chains are given different ones, so that not all segments
    are stored whole again on one day.
    """

    size: int
    digest: bytes
    cap: int
    chain: list[Piece]


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """The rows of the blocks `start` to before `end`, in their order.

    `read_on` is the day (proleptic ordinal) on which the rows themselves were last read, `as_of`
    the index of the snapshot in which these rows were seen to be current.
    """

    start: int
    end: int
    rows: int
    read_on: int
    as_of: int
    frames: list[Frame]

    @property
    def size(self) -> int:
        """Bytes of text."""
        return sum(frame.size for frame in self.frames)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What tells whether a later look is at the same database, a little later.

    `xmin` is the oldest transaction id (64 bit) that was running: older ones had ended. `nonce`
    was written into the database after this snapshot; empty where the role may not write, and
    then `started` (of the server process) must stay the same. Empty both: never trusted.
    """

    xmin: int
    system: str
    timeline: str
    database: int
    server: str
    nonce: str
    started: str


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A relation with rows of its own. `columns` are quoted names; generated ones are not read.

    `node` is the file it lies in, `fingerprint` a digest of its attributes and of every type they
    are made of. `skips` is false where the text of a row can change although no row does.
    `parents` are all tables above it, of which it is a partition or a child. `condition` belongs
    to a table of an extension: only rows that the extension did not bring are kept, and restored
    on top of them.
    """

    name: str
    oid: int
    node: int
    fingerprint: bytes
    skips: bool
    columns: list[str]
    rows: int
    segments: list[Segment]
    parents: list[str] = []
    extension: str = ""
    condition: str = ""


class Sequence(msgspec.Struct, frozen=True, array_like=True):
    """A sequence and the state that `setval` gives back."""

    name: str
    value: int
    is_called: bool


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """Definitions, as pg_dump wrote them: what comes before the rows, and what after them.

    `stamp` is a digest of how many rows each system catalogue has: where it is the same and no row
    is newer than the snapshot, the definitions are.
    """

    stamp: bytes
    dumped_on: int
    before: list[Frame]
    after: list[Frame]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """An audit read found other bytes than the skip rule promised: earlier snapshots are wrong.

    The rows are stored anew in the same run. `since` is the day on which they were last read.
    """

    table: str
    start: int
    end: int
    since: str


class DatabasePart(msgspec.Struct, frozen=True, kw_only=True):
    """A database in one snapshot. `snapshots[0]` is its own; others only in an incomplete part.

    `large_object_list` names large objects with owner, comment and the statements of their
    privileges, `large_objects` has their bytes: object, offset, bytes.
    `roles` are those that own or may use something; `dump` takes the place of tables and schema
    where the server is too old for segments: then it is an archive of pg_dump.
    """

    database: str
    encoding: str
    locale: dict[str, str]
    snapshots: list[Snapshot]
    roles: list[str]
    extensions: dict[str, str]
    tables: list[Table]
    sequences: list[Sequence]
    large_objects: Table | None = None
    large_object_list: Table | None = None
    schema: Schema | None = None
    dump: list[Frame] | None = None
    dump_rows: dict[str, int] = {}
    is_complete: bool = True
    bytes_read: int = 0
    audited: int = 0
    findings: list[Finding] = []

    def rows(self) -> dict[str, int]:
        """How many rows each table holds, by its qualified name."""
        return {table.name: table.rows for table in self.tables} or dict(self.dump_rows)


def references(part: DatabasePart) -> Iterator[Piece]:
    """Every piece that a restore of this part reads."""
    for _, frame in named_frames(part):
        yield from frame.chain


def named_frames(part: DatabasePart) -> Iterator[tuple[str, Frame]]:
    """Every frame, with the words that say whose it is."""
    objects = [table for table in (part.large_object_list, part.large_objects) if table]
    for table in [*part.tables, *objects]:
        for segment in table.segments:
            for frame in segment.frames:
                yield f"table {table.name}", frame
    if part.schema:
        for frame in part.schema.before + part.schema.after:
            yield "definitions of the database", frame
    for frame in part.dump or []:
        yield "dump of the database", frame
