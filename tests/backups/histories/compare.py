"""What a database holds, to be compared: by the text of pg_dump, or by its tables' own text."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2

if TYPE_CHECKING:
    from pathlib import Path

_TABLES = """
SELECT c.oid::regclass::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
    (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
     FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_'
    AND n.nspname NOT IN ('information_schema', 'kpax_backup') AND c.relispopulated
ORDER BY 2
"""


class _Text:
    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self.write = self.rows.append


@dataclass(frozen=True)
class Contents:
    """Rows of each table as text, in their order; sequences and large objects."""

    rows: dict[str, tuple[bytes, ...]]
    sequences: dict[str, tuple[int, bool]]
    large_objects: dict[int, str]

    def sorted(self) -> dict[str, list[bytes]]:
        return {name: sorted(rows) for name, rows in self.rows.items()}


def contents(dsn: str, snapshot: str | None = None) -> Contents:
    """Everything in one snapshot: a given one, or one of now."""
    connection = psycopg2.connect(dsn)
    if connection.info.parameter_status("server_encoding") != "SQL_ASCII":
        connection.set_client_encoding("UTF8")  # the other database may have another encoding
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if snapshot:
                cursor.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            cursor.execute(
                "SET row_security = off; SET TimeZone = 'UTC'; SET lc_monetary = 'C'"
            )
            cursor.execute("SET search_path = ''; SET extra_float_digits = 3")
            cursor.execute("SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'")
            cursor.execute("SET bytea_output = 'hex'; SET statement_timeout = 0")
            cursor.execute(_TABLES)
            rows = {
                name: _rows(cursor, name, columns) for _, name, columns in cursor.fetchall()
            }
            return Contents(rows, _sequences(cursor), _large_objects(cursor))
    finally:
        connection.close()


def _rows(cursor: Any, name: str, columns: str | None) -> tuple[bytes, ...]:
    text = _Text()
    cursor.copy_expert(f"COPY (SELECT {columns or ''} FROM ONLY {name}) TO STDOUT", text)  # noqa: S608 - a test
    return tuple(text.rows)


def _sequences(cursor: Any) -> dict[str, tuple[int, bool]]:
    cursor.execute(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' ORDER BY 1"
    )
    found: dict[str, tuple[int, bool]] = {}
    for (name,) in cursor.fetchall():
        cursor.execute(f"SELECT last_value, is_called FROM {name}")  # noqa: S608 - a test
        found[name] = cursor.fetchone()
    return found


def _large_objects(cursor: Any) -> dict[int, str]:
    cursor.execute(
        "SELECT oid, encode(sha256(lo_get(oid)), 'hex') FROM pg_largeobject_metadata ORDER BY 1"
    )
    return dict(cursor.fetchall())


def dump(dsn: str, programs: Path, *options: str) -> str:
    """pg_dump's text, without the schema that backups keep for themselves, and without its token."""
    done = subprocess.run(
        [
            str(programs / "pg_dump"),
            f"--dbname={dsn}",
            "--exclude-schema=kpax_backup",
            *options,
        ],
        check=True,
        capture_output=True,
        env=os.environ | {"PGOPTIONS": "-c timezone=UTC"},
    )
    lines = done.stdout.decode("utf-8", errors="surrogateescape").splitlines()
    return "\n".join(
        line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))
    )
