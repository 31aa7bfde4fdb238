"""What the system catalogues say of a database: relations, attributes, types, sequences, roles.

Everything is asked in the snapshot. Left out are the system's own schemas, `kpax_backup`, and what
belongs to an extension, but for tables that the extension declared as configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from backups.database.model import Sequence
from backups.store.keys import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backups.database.sessions import Session

OWN_SCHEMA = "kpax_backup"
_HEAP = 2  # oid of the access method `heap`

_TABLES = f"""
SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relam,
    coalesce(pg_relation_filenode(c.oid), 0), c.relfilenode,
    pg_relation_size(c.oid), coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0),
    coalesce(e.extname, ''),
    coalesce(e.extcondition[array_position(e.extconfig, c.oid)], ''),
    ARRAY(WITH RECURSIVE above(oid) AS (
            SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid
            UNION SELECT i.inhparent FROM above JOIN pg_catalog.pg_inherits i
                ON i.inhrelid = above.oid)
        SELECT format('%I.%I', pn.nspname, pc.relname) FROM above
        JOIN pg_catalog.pg_class pc ON pc.oid = above.oid
        JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace ORDER BY above.oid)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass
    AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '{OWN_SCHEMA}')
    AND (d.objid IS NULL OR c.oid = ANY (e.extconfig))
ORDER BY c.oid
"""  # noqa: S608 - a constant of ours

_ATTRIBUTES = """
SELECT a.attrelid, a.attnum, quote_ident(a.attname), a.atttypid, a.atttypmod, a.attgenerated::text,
    a.attlen
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

# Every type that the attributes are made of, at any depth, but for the server's own base types.
_TYPES = """
WITH RECURSIVE used(oid) AS (
    SELECT DISTINCT a.atttypid FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT part.oid FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
    CROSS JOIN LATERAL (
        SELECT t.typelem WHERE t.typelem <> 0
        UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0
        UNION ALL SELECT m.atttypid FROM pg_catalog.pg_attribute m WHERE m.attrelid = t.typrelid
            AND t.typrelid <> 0 AND m.attnum > 0 AND NOT m.attisdropped
        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
        UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid
    ) AS part(oid)
)
SELECT t.oid, t.typtype::text, t.typnamespace = 'pg_catalog'::regnamespace
        AND (t.typname ~ '^_?reg' OR t.typname IN ('aclitem', '_aclitem')),
    ARRAY[t.typelem, t.typbasetype, coalesce(r.rngsubtype, 0), coalesce(v.rngtypid, 0)]
        || ARRAY(SELECT m.atttypid FROM pg_catalog.pg_attribute m WHERE m.attrelid = t.typrelid
            AND t.typrelid <> 0 AND m.attnum > 0 AND NOT m.attisdropped ORDER BY m.attnum),
    CASE WHEN t.oid >= 16384 THEN concat_ws('/', t.typlen, t.typtypmod, t.typdelim, o.oid,
        o.prosrc, o.probin, e.extversion,
        (SELECT string_agg(concat_ws(' ', l.oid, quote_literal(l.enumlabel)), ','
            ORDER BY l.enumsortorder) FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid),
        (SELECT string_agg(concat_ws(' ', m.attnum, m.atttypid, m.atttypmod, m.attisdropped), ','
            ORDER BY m.attnum) FROM pg_catalog.pg_attribute m WHERE m.attrelid = t.typrelid
            AND t.typrelid <> 0 AND m.attnum > 0)) END
FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
LEFT JOIN pg_catalog.pg_range v ON v.rngmultitypid = t.oid
LEFT JOIN pg_catalog.pg_proc o ON o.oid = t.typoutput
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::regclass
    AND d.objid = t.oid AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
ORDER BY t.oid
"""

_SEQUENCES = f"""
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass
    AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
WHERE c.relkind = 'S' AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', '{OWN_SCHEMA}')
    AND (d.objid IS NULL OR c.oid = ANY (e.extconfig))
ORDER BY 1
"""  # noqa: S608 - a constant of ours

_ROLES = """
SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.oid = 10 OR r.oid IN (
    SELECT d.refobjid FROM pg_catalog.pg_shdepend d
    WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass
        AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
ORDER BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """An attribute that has a value of its own; `oid` is its type's."""

    number: int
    name: str
    oid: int
    modifier: int
    is_long: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table as the snapshot's catalogue knows it; sizes are the file's, in bytes."""

    oid: int
    name: str
    is_root: bool
    is_heap: bool
    node: int
    listed_node: int
    heap_bytes: int
    toast_bytes: int
    extension: str
    condition: str
    parents: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    fingerprint: bytes = b""
    skips: bool = True

    @property
    def has_rows(self) -> bool:
        """A partitioned table has none of its own."""
        return not self.is_root

    @property
    def by_blocks(self) -> bool:
        """Whether it is read by ranges of blocks."""
        return self.is_heap and not self.extension

    def blocks(self, block_bytes: int) -> int:
        """How many blocks its heap has."""
        return -(-self.heap_bytes // block_bytes)


@dataclass(slots=True)
class _Type:
    parts: list[int] = field(default_factory=list[int])
    definition: str = ""
    is_told_by_catalogue: bool = False


def relations(session: Session) -> list[Relation]:
    """All tables, without their columns."""
    return [
        Relation(
            oid=oid,
            name=name,
            is_root=kind == "p",
            is_heap=method == _HEAP,
            node=node,
            listed_node=listed,
            heap_bytes=heap or 0,
            toast_bytes=toast,
            extension=extension,
            condition=condition,
            parents=tuple(parents),
        )
        for oid, name, kind, method, node, listed, heap, toast, extension, condition, parents in (
            session.rows(_TABLES)
        )
    ]


def attributes(session: Session, oids: list[int], key: bytes) -> dict[int, dict[str, Any]]:
    """Columns, fingerprint and whether rows may be skipped, for each table."""
    found: dict[int, list[tuple[Any, ...]]] = {oid: [] for oid in oids}
    for oid, *told in session.rows(_ATTRIBUTES, (oids,)):
        found[oid].append(tuple(told))
    types = _types(session, oids)
    return {oid: _described(rows, types, key) for oid, rows in found.items()}


def _types(session: Session, oids: list[int]) -> dict[int, _Type]:
    return {
        oid: _Type(
            parts=[part for part in parts if part],
            definition=f"{kind}:{definition}" if definition else "",
            is_told_by_catalogue=told,
        )
        for oid, kind, told, parts, definition in session.rows(_TYPES, (oids,))
    }


def _described(
    rows: list[tuple[Any, ...]], types: dict[int, _Type], key: bytes
) -> dict[str, Any]:
    made_of = _closure((type_oid for _, _, type_oid, *_ in rows), types)
    told = repr(
        (
            [(number, oid, modifier, how) for number, _, oid, modifier, how, _ in rows],
            [(oid, types[oid].definition) for oid in made_of if types[oid].definition],
        )
    )
    return {
        "columns": tuple(
            Column(number=number, name=name, oid=oid, modifier=modifier, is_long=length < 0)
            for number, name, oid, modifier, how, length in rows
            if not how
        ),
        "fingerprint": digest(key, told.encode()),
        "skips": not any(types[oid].is_told_by_catalogue for oid in made_of),
    }


def _closure(begin: Iterable[int], types: dict[int, _Type]) -> list[int]:
    """All types that some types are made of, themselves too, in order."""
    seen: set[int] = set()
    waiting = list(begin)
    while waiting:
        oid = waiting.pop()
        if oid not in seen and oid in types:
            seen.add(oid)
            waiting.extend(types[oid].parts)
    return sorted(seen)


def sequences(session: Session) -> list[Sequence]:
    """All sequences with their state, which no snapshot holds: it is never behind the rows'."""
    names = [name for (name,) in session.rows(_SEQUENCES)]
    found: list[Sequence] = []
    for at in range(0, len(names), 200):
        told = " UNION ALL ".join(
            f"SELECT {number}, last_value, is_called FROM {name}"  # noqa: S608 - quoted by the server
            for number, name in enumerate(names[at : at + 200], at)
        )
        found += [
            Sequence(names[number], value, called)
            for number, value, called in session.rows(told)
        ]
    return sorted(found, key=lambda sequence: sequence.name)


def roles(session: Session) -> list[str]:
    """The roles that own something here or may use it."""
    return [name for (name,) in session.rows(_ROLES)]


def extensions(session: Session) -> dict[str, str]:
    """Extensions and their versions."""
    return dict(
        session.rows("SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY 1")
    )


def locale(session: Session) -> tuple[str, dict[str, str]]:
    """The database's name, and what a new one must be made with to sort alike."""
    (told,) = session.one(
        "SELECT to_jsonb(d) FROM pg_catalog.pg_database d WHERE datname = current_database()"
    )
    kept = ("datcollate", "datctype", "datlocprovider", "datlocale", "daticulocale")
    return str(told["datname"]), {name: str(told[name]) for name in kept if told.get(name)}


LARGE_OBJECTS = "pg_catalog.pg_largeobject"
LARGE_OBJECT_LIST = "pg_catalog.pg_largeobject_metadata"


def large_objects(session: Session, *, readable: bool) -> list[Relation]:
    """The list of large objects and their bytes as if they were tables; nothing if there are none.

    Where the role may not read the bytes as a table, they are one without blocks.
    """
    if not session.one(f"SELECT EXISTS (SELECT FROM {LARGE_OBJECT_LIST})")[0]:  # noqa: S608 - a constant of ours
        return []
    oid, node, size = session.one(
        "SELECT c.oid, pg_relation_filenode(c.oid), pg_relation_size(c.oid)"
        " FROM pg_catalog.pg_class c WHERE c.oid = 'pg_catalog.pg_largeobject'::regclass"
    )
    bytes_of_them = Relation(
        oid=oid,
        name=LARGE_OBJECTS,
        is_root=False,
        is_heap=readable,
        node=node,
        listed_node=node,
        heap_bytes=size,
        toast_bytes=0,
        extension="",
        condition="",
        parents=(),
    )
    return [replace(bytes_of_them, oid=0, name=LARGE_OBJECT_LIST, is_heap=False), bytes_of_them]
