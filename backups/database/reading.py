"""The rows of some blocks as frames of text; memory is bounded whatever a row holds.

Rows are given by COPY, one message each, so a row is held whole, and thrice. One whose text is
larger than `WIDE_BYTES` is read apart: its values come in slices, and the line that COPY would have
written is put together from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backups.database.chains import Cutter
from backups.database.segments import Span, weighed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backups.database.catalog import Column, Relation
    from backups.database.chains import Keeper
    from backups.database.model import Frame
    from backups.database.sessions import Session

WIDE_BYTES = 8 << 20
_SLICE_BYTES = 2 << 20
_LITTLE_TOAST = 64 << 10  # compressed 255 times it is no wide row
_MANY_COLUMNS = 50
_TEXT = {25, 1042, 1043}
_BYTEA = 17
_JSON = {114, 3802}
_BINARY_HEADER = b"PGCOPY\n\xff\r\n\x00"
# The order matters: the backslash first.
_ESCAPES = (
    (b"\\", b"\\\\"),
    (b"\n", b"\\n"),
    (b"\r", b"\\r"),
    (b"\t", b"\\t"),
    (b"\b", b"\\b"),
    (b"\f", b"\\f"),
    (b"\v", b"\\v"),
)


class Place(NamedTuple):
    """Where a row stands in the heap."""

    block: int
    offset: int

    @property
    def tid(self) -> str:
        """As SQL writes it."""
        return f"'({self.block},{self.offset})'::tid"


class Read(NamedTuple):
    """Rows that were read, and their text."""

    rows: int
    frames: list[Frame]


def whole(
    session: Session, relation: Relation, keeper: Keeper, earlier: Sequence[Frame]
) -> Read:
    """A table that is not read by blocks: its access method is another, or it is an extension's."""
    cutter = Cutter(keeper, earlier, f"table {relation.name}")
    source = f"FROM ONLY {relation.name} {relation.condition}"
    rows = session.copy_out(_copy(session, selected(relation.columns), source), cutter)
    return Read(rows, cutter.end())


def span(
    session: Session, relation: Relation, blocks: Span, keeper: Keeper, earlier: Sequence[Frame]
) -> Read:
    """The rows of some blocks, in the order of the heap."""
    cutter = Cutter(keeper, earlier, f"table {relation.name}")
    at, rows = Place(blocks.start, 0), 0
    for place in _wide(session, relation, blocks):
        rows += _between(session, relation, at, place.tid, cutter)
        cutter.cut()
        _row(session, relation, place, cutter.write)
        cutter.cut()
        rows += 1
        at = Place(place.block, place.offset + 1)
    rows += _between(session, relation, at, f"'({blocks.end},0)'::tid", cutter)
    return Read(rows, cutter.end())


def selected(columns: Sequence[Column]) -> str:
    """The list of a SELECT; a table may have no column at all."""
    return ", ".join(column.name for column in columns)


def large_objects(
    session: Session, blocks: Span | None, keeper: Keeper, earlier: Sequence[Frame]
) -> Read:
    """Pages of large objects: object, offset, bytes. By blocks, or through the functions for them.

    A role that may not read `pg_largeobject` reads each object in pieces, in the order of pieces.
    """
    cutter = Cutter(keeper, earlier, "large objects")
    if blocks is not None:
        source = (
            "FROM pg_catalog.pg_largeobject"
            f" WHERE ctid >= '({blocks.start},0)'::tid AND ctid < '({blocks.end},0)'::tid"
        )
        page = "pageno::bigint * (current_setting('block_size')::int / 4)"
        return Read(
            session.copy_out(_copy(session, f"loid, {page}, data", source), cutter),
            cutter.end(),
        )
    size = 1 << 20
    source = f"""FROM (WITH RECURSIVE r(loid, at, data) AS (
        SELECT oid, 0::bigint, lo_get(oid, 0, {size}) FROM pg_catalog.pg_largeobject_metadata
        UNION ALL
        SELECT loid, at + {size}, lo_get(loid, at + {size}, {size}) FROM r WHERE length(data) = {size})
        SELECT * FROM r WHERE length(data) > 0) AS t"""  # noqa: S608 - constants of ours
    return Read(
        session.copy_out(_copy(session, "loid, at, data", source), cutter), cutter.end()
    )


_OBJECT_LIST = """m.oid, pg_get_userbyid(m.lomowner), obj_description(m.oid, 'pg_largeobject'),
    CASE WHEN m.lomacl IS NOT NULL THEN ARRAY[
        format('REVOKE ALL ON LARGE OBJECT %s FROM %I', m.oid, pg_get_userbyid(m.lomowner))] END
    || ARRAY(SELECT format('GRANT %s ON LARGE OBJECT %s TO %s%s', a.privilege_type, m.oid,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
            CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM aclexplode(m.lomacl) WITH ORDINALITY AS a ORDER BY a.ordinality)"""


def large_object_list(session: Session, keeper: Keeper, earlier: Sequence[Frame]) -> Read:
    """Each large object: its owner, its comment, the statements that give its privileges."""
    cutter = Cutter(keeper, earlier, "large objects")
    source = "FROM pg_catalog.pg_largeobject_metadata AS m ORDER BY m.oid"
    return Read(session.copy_out(_copy(session, _OBJECT_LIST, source), cutter), cutter.end())


def spans_by_weight(session: Session, relation: Relation, blocks: Span) -> list[Span]:
    """Cut blocks so that what they hold out of line counts."""
    long = [f"coalesce(pg_column_size({c.name}), 0)" for c in relation.columns if c.is_long]
    weights = session.rows(
        "SET LOCAL enable_seqscan = off;"  # noqa: S608 - names that the server quoted
        f" SELECT (ctid::text::point)[0]::bigint AS b, sum(24 + {' + '.join(long) or '0'})::bigint"
        f" FROM ONLY {relation.name} WHERE {_range(blocks)} GROUP BY 1 ORDER BY 1"
    )
    return weighed(blocks.start, blocks.end, [(block, size) for block, size in weights])


def _between(
    session: Session, relation: Relation, at: Place, before: str, cutter: Cutter
) -> int:
    source = f"FROM ONLY {relation.name} WHERE ctid >= {at.tid} AND ctid < {before}"
    statement = _copy(session, selected(relation.columns), source)
    if relation.toast_bytes or len(relation.columns) > _MANY_COLUMNS:
        return session.copy_out(statement, cutter)
    # Nothing is out of line, so 2 MiB of heap is all there is: a list takes a row five times as fast.
    lines = _Lines()
    rows = session.copy_out(statement, lines)
    if lines.taken:
        cutter.write(b"".join(lines.taken))
    return rows


class _Lines:
    """Rows in a list: `write` is the list's own append."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.write = self.taken.append


def _copy(session: Session, columns: str, source: str) -> str:
    """COPY in the server's own encoding: no byte is converted."""
    return f"COPY (SELECT {columns} {source}) TO STDOUT (ENCODING '{session.encoding}')"


def _range(blocks: Span) -> str:
    return f"ctid >= '({blocks.start},0)'::tid AND ctid < '({blocks.end},0)'::tid"


# --- rows that are too wide to be held ---------------------------------------------------------


def _wide(session: Session, relation: Relation, blocks: Span) -> list[Place]:
    """Where rows stand whose text is larger than `WIDE_BYTES`.

    A bound is taken from what the row takes in storage; only where that is not enough is the text
    itself measured.
    """
    long = [column for column in relation.columns if column.is_long]
    if relation.toast_bytes < _LITTLE_TOAST or not long:
        return []
    bound = " + ".join(_bound(column) for column in long)
    exact = " + ".join(f"coalesce({_length(column)}, 0)" for column in long)
    found = session.rows(
        "SELECT ctid::text"  # noqa: S608 - names that the server quoted
        f" FROM ONLY {relation.name} WHERE {_range(blocks)} AND CASE WHEN {bound} > {WIDE_BYTES}"
        f" THEN {exact} > {WIDE_BYTES} ELSE false END"
    )
    places = (tid.strip("()").split(",") for (tid,) in found)
    return sorted(Place(int(block), int(offset)) for block, offset in places)


def _bound(column: Column) -> str:
    """At most as many bytes as the text has; an array of NULLs takes 40 times its storage."""
    if column.oid in _TEXT or column.oid == _BYTEA:
        return f"coalesce({_length(column)}, 0)"
    times = 4 if column.oid in _JSON else 40
    return (
        f"coalesce(pg_column_size({column.name})::bigint * CASE WHEN"
        f" pg_column_compression({column.name}) IS NULL THEN {times} ELSE 255 END, 0)"
    )


def _length(column: Column) -> str:
    """The bytes of a value's text, not counting what COPY escapes."""
    if column.oid in _TEXT:
        return f"octet_length({column.name})::bigint"
    if column.oid == _BYTEA:
        return f"octet_length({column.name})::bigint * 2"
    return f"octet_length(format('%s', {column.name}))::bigint"


def _row(
    session: Session, relation: Relation, place: Place, write: Callable[[bytes], None]
) -> None:
    """The line that COPY writes for one row, value by value, slice by slice."""
    told = ", ".join(f"{column.name} IS NULL" for column in relation.columns)
    empty = session.one(f"SELECT {told} FROM ONLY {relation.name} WHERE ctid = {place.tid}")  # noqa: S608 - names that the server quoted
    for number, (column, is_null) in enumerate(zip(relation.columns, empty, strict=True)):
        if number:
            write(b"\t")
        if is_null:
            write(b"\\N")
        else:
            _value(session, relation, column, place, write)
    write(b"\n")


def _value(
    session: Session,
    relation: Relation,
    column: Column,
    place: Place,
    write: Callable[[bytes], None],
) -> None:
    raw = column.oid == _BYTEA
    # The value is made once, in the inner query; `format` writes it as COPY does.
    value = (
        f"{column.name} || ''::bytea"
        if raw
        else f"convert_to(format('%s', {column.name}), getdatabaseencoding())"
    )
    if raw:
        write(b"\\\\x")
    slices = _Slices(_hex if raw else _escaped, write)
    session.copy_out(
        f"COPY (SELECT substring(v FROM 1 + i * {_SLICE_BYTES} FOR {_SLICE_BYTES})"  # noqa: S608 - names that the server quoted
        f" FROM (SELECT {value} AS v FROM ONLY {relation.name} WHERE ctid = {place.tid} OFFSET 0) AS s,"
        f" generate_series(0, (octet_length(v) - 1) / {_SLICE_BYTES}) AS i)"
        " TO STDOUT (FORMAT binary)",
        slices,
    )


class _Slices:
    """Takes a binary COPY of one column, one row per message."""

    def __init__(self, told: Callable[[bytes], bytes], write: Callable[[bytes], None]) -> None:
        self._told = told
        self._write = write

    def write(self, data: bytes) -> None:
        if data.startswith(_BINARY_HEADER):
            data = data[len(_BINARY_HEADER) + 8 :]
        if data[:2] == b"\x00\x01":
            self._write(self._told(data[6:]))


def _hex(data: bytes) -> bytes:
    return data.hex().encode()


def _escaped(data: bytes) -> bytes:
    for plain, told in _ESCAPES:
        data = data.replace(plain, told)
    return data
