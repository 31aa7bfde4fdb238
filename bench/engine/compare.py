"""Whether a restored state is the one that was backed up: every row of every table, every file."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bench.engine.server import Server

_TABLES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = 'public' ORDER BY 1
"""
_SUMS = """count(*), coalesce(sum(hash_record_extended(t, 1)), 0),
coalesce(bit_xor(hash_record_extended(t, 2)), 0)"""
_SCHEMA = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT table_name, column_name, data_type || is_nullable || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public'
ORDER BY 1, 2, 3
"""

Rows = dict[str, tuple[int, int, int]]


def rows(server: Server, database: str) -> tuple[Rows, list[tuple[str, ...]]]:
    """For each table the number of rows and two sums of their hashes; columns and constraints."""
    found: Rows = {}
    for (name,) in server.sql(database, _TABLES):
        # The names come quoted from the catalogue.
        query = f"SELECT {_SUMS} FROM {name} t"  # noqa: S608
        ((count, total, mixed),) = server.sql(database, query)
        found[name] = (int(count), int(total), int(mixed))
    return found, server.sql(database, _SCHEMA)


def require_same_rows(server: Server, database: str, other: str, *, who: str) -> None:
    """Raises `RuntimeError` where they differ."""
    wanted, found = rows(server, database), rows(server, other)
    if not wanted[0] or wanted != found:
        raise RuntimeError(f"{who} restored other rows: {wanted[0]} became {found[0]}")


def require_same_files(folder: Path, other: Path, *, who: str) -> None:
    """Contents and names by `diff -r`, settings too; times and modes of the files by `find`.

    Raises `RuntimeError` where they differ.
    """
    done = subprocess.run(
        ["diff", "-r", "--no-dereference", str(folder), str(other)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or _listed(folder / "files") != _listed(other / "files"):
        raise RuntimeError(f"{who} restored other files: {done.stdout[:500]}")


def _listed(folder: Path) -> list[str]:
    form = "%P %y %s %m %TY-%Tm-%Td %TH:%TM:%TS\\n"
    done = subprocess.run(
        ["find", ".", "-type", "f", "-printf", form],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(done.stdout.splitlines())
