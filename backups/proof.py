"""Whether a database holds exactly the rows of a snapshot: both read in full, neither trusted.

A restore brings a table's rows back in the order in which they stood, so that the text of the
whole table, as COPY writes it, is the same byte for byte.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backups.database.catalog import OWN_SCHEMA
from backups.database.chains import Texts, joined
from backups.database.model import DatabasePart
from backups.database.programs import Running, folder, reaching
from backups.database.sessions import Session
from backups.database.statements import Kind, classified, statements, without_token
from backups.store.keys import Keys
from backups.store.packs import Reader

if TYPE_CHECKING:
    from pathlib import Path

    from backups.database.model import Table


@dataclass(frozen=True, slots=True)
class Stored:
    """A database as a snapshot holds it."""

    part: DatabasePart
    reader: Reader
    keys: Keys

    def texts(self) -> Texts:
        """Reads frames, and compares each with its digest."""
        return Texts(self.reader, self.keys.digest_key)


def differences(dsn: str, stored: Stored, programs: Path | None) -> list[str]:
    """What is not as the snapshot says, in words without a value of the customer's.

    Raises `DamagedError`. Where definitions differ, rows are not compared. Rows of
    extensions are left out: they come with them.
    """
    part = stored.part
    with closing(Session(dsn)) as session:
        session.rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        wrong = _of_definitions(session, dsn, stored, programs)
        if wrong:
            return wrong
        for table in part.tables:
            if not table.extension:
                wrong += _of_table(session, table, stored)
        wrong += _of_sequences(session, part)
        wrong += _of_large_objects(session, part)
        session.rows("COMMIT")
    return wrong


def _of_definitions(
    session: Session, dsn: str, stored: Stored, programs: Path | None
) -> list[str]:
    """Statements of pg_dump that are in one and not in the other, whatever their order."""
    schema = stored.part.schema
    if schema is None:
        return []
    coding = "latin-1" if stored.part.encoding == "SQL_ASCII" else "utf-8"
    texts = stored.texts()
    wrong: list[str] = []
    for section, frames in (("pre-data", schema.before), ("post-data", schema.after)):
        told = b"".join(joined(texts, frames, "definitions of the database"))
        expected = _statements(told.decode(coding))
        found = _statements(_dumped(session, dsn, section, stored, programs).decode(coding))
        wrong += [f"missing: {_head(text)}" for text in expected - found]
        wrong += [f"too much: {_head(text)}" for text in found - expected]
    return wrong


def _dumped(
    session: Session, dsn: str, section: str, stored: Stored, programs: Path | None
) -> bytes:
    program = reaching(dsn)
    argv = [
        str(folder(programs, server=session.version) / "pg_dump"),
        f"--dbname={program.dbname}",
        f"--section={section}",
        f"--encoding={'SQL_ASCII' if stored.part.encoding == 'SQL_ASCII' else 'UTF8'}",
        f"--exclude-schema={OWN_SCHEMA}",
        "--no-password",
    ]
    return b"".join(without_token(Running(argv, program).output()))


def _statements(script: str) -> Counter[str]:
    found = (classified(text) for text in statements(script))
    return Counter(one.text for one in found if one.kind is not Kind.SETTING)


def _head(statement: str) -> str:
    """The beginning of a statement: what it makes, and its name."""
    return " ".join(statement.split("(", 1)[0].split())[:80]


def _of_large_objects(session: Session, part: DatabasePart) -> list[str]:
    listed = part.large_object_list
    expected = listed.rows if listed is not None else 0
    (count,) = session.one("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata")
    return [] if count == expected else [f"{count} large objects, not {expected}"]


def _of_table(session: Session, table: Table, stored: Stored) -> list[str]:
    texts, encoding = stored.texts(), stored.part.encoding
    hasher = stored.keys.hasher()
    for segment in table.segments:
        for frame in segment.frames:
            hasher.update(texts.plain(frame, affects=f"table {table.name}"))
    found = _Hashing(stored.keys)
    columns = ", ".join(table.columns)
    rows = session.copy_out(
        f"COPY (SELECT {columns} FROM ONLY {table.name}) TO STDOUT (ENCODING '{encoding}')",  # noqa: S608 — names are quoted
        found,
    )
    if rows != table.rows:
        return [f"table {table.name} has {rows} rows, not {table.rows}"]
    if hasher.digest() != found.hasher.digest():
        return [f"table {table.name} has other rows"]
    return []


def _of_sequences(session: Session, part: DatabasePart) -> list[str]:
    wrong: list[str] = []
    for state in part.sequences:
        sql = f"SELECT last_value, is_called FROM {state.name}"  # noqa: S608 — names are quoted
        value, is_called = session.one(sql)
        if (value, is_called) != (state.value, state.is_called):
            wrong.append(f"sequence {state.name} is not where it was")
    return wrong


class _Hashing:
    """Takes rows, and keeps only their hash."""

    def __init__(self, keys: Keys) -> None:
        self.hasher = keys.hasher()

    def write(self, data: bytes, /) -> int:
        """Take a row."""
        self.hasher.update(data)
        return len(data)
