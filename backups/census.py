"""What exists in a database: its tables, its sequences, and how many of everything else.

Left out are the system's own schemas and what belongs to an extension: the extension brings it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backups.session import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table as the catalogue knows it: quoted name, columns with types, and the file it is in.

    `is_settled` is false while the snapshot's file is no longer the one in use: somebody rewrote
    the table after the snapshot, and its rows would read as nothing.
    """

    name: str
    columns: str
    oid: int
    file_node: int
    is_settled: bool


_OURS = """
    n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT 1 FROM pg_depend d
        WHERE d.classid = '{catalogue}'::regclass AND d.objid = {oid} AND d.deptype = 'e')
"""
_RELATIONS = (
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE "
    + _OURS.format(catalogue="pg_class", oid="c.oid")
)


async def tables(connection: Connection) -> list[Table]:
    """Every table that holds rows of its own, partitions one by one, in name order."""
    rows = await connection.fetch(
        f"""
        SELECT format('%I.%I', n.nspname, c.relname) AS name, c.oid, c.relfilenode AS file_node,
            c.relfilenode = pg_relation_filenode(c.oid) AS is_settled,
            (SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)),
                ', ' ORDER BY a.attnum)
             FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
        {_RELATIONS} AND c.relkind = 'r' AND c.relpersistence <> 't'
        ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
        """  # noqa: S608 - made of constants
    )
    return [
        Table(
            name=str(row["name"]),
            columns=str(row["columns"] or ""),
            oid=int(row["oid"]),
            file_node=int(row["file_node"]),
            is_settled=bool(row["is_settled"]),
        )
        for row in rows
    ]


async def sequences(connection: Connection) -> list[str]:
    """The quoted names of all sequences."""
    rows = await connection.fetch(
        f"SELECT format('%I.%I', n.nspname, c.relname) AS name {_RELATIONS} AND c.relkind = 'S'"
    )
    return sorted(str(row["name"]) for row in rows)


async def kinds(connection: Connection) -> dict[str, int]:
    """How many objects of each kind: what a restore must bring back beside rows."""
    rows = await connection.fetch(
        f"""
        SELECT 'relation ' || c.relkind::text AS kind, count(*) AS n {_RELATIONS}
            GROUP BY c.relkind
        UNION ALL SELECT 'constraint ' || k.contype::text, count(*) FROM pg_constraint k
            JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE {_OURS.format(catalogue="pg_class", oid="c.oid")} GROUP BY k.contype
        UNION ALL SELECT 'function', count(*) FROM pg_proc p
            JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE {_OURS.format(catalogue="pg_proc", oid="p.oid")}
        UNION ALL SELECT 'type ' || t.typtype::text, count(*) FROM pg_type t
            JOIN pg_namespace n ON n.oid = t.typnamespace
            WHERE {_OURS.format(catalogue="pg_type", oid="t.oid")} GROUP BY t.typtype
        UNION ALL SELECT 'trigger', count(*) FROM pg_trigger g
            JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE NOT g.tgisinternal AND {_OURS.format(catalogue="pg_class", oid="c.oid")}
        UNION ALL SELECT 'policy', count(*) FROM pg_policy
        UNION ALL SELECT 'extension', count(*) FROM pg_extension
        """  # noqa: S608 - made of constants
    )
    return {str(row["kind"]): int(row["n"]) for row in rows}
