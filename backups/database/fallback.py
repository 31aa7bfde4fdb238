"""Servers without range scans over row addresses (before 14): an archive of pg_dump, as chunks.

Each day the whole archive is read; chunks whose bytes were there before are not stored again.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from backups.database import catalog, plan, programs, visibility
from backups.database.catalog import OWN_SCHEMA
from backups.database.loading import Feed
from backups.database.model import DatabasePart
from backups.database.sessions import LOCK_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backups.database.chains import Keeper
    from backups.database.model import Frame
    from backups.database.sessions import Session

_CHUNK = 1 << 20
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


def capture(
    session: Session,
    *,
    dsn: str,
    pg_bin: Path | None,
    previous: DatabasePart | None,
    keeper: Keeper,
) -> DatabasePart:
    """The whole database as one archive, and the rows that the same snapshot counts."""
    session.rows(_BEGIN)
    relations = [r for r in catalog.relations(session) if r.has_rows]
    snapshot = str(session.one("SELECT pg_export_snapshot()")[0])
    earlier = {frame.digest: frame for frame in (previous.dump or [] if previous else [])}
    seen = visibility.tables(session, {plan.source(r): None for r in relations})
    frames = [
        keeper.keep(chunk, 0, _known(keeper, earlier, chunk), "dump of the database")
        for chunk in _chunks(_archive(dsn, pg_bin, snapshot, session.version))
    ]
    database, locale = catalog.locale(session)
    return DatabasePart(
        database=database,
        encoding=session.encoding,
        locale=locale,
        snapshots=[],
        roles=catalog.roles(session),
        extensions=catalog.extensions(session),
        tables=[],
        sequences=[],
        dump=frames,
        dump_rows={r.name: seen[plan.source(r)].rows for r in relations},
        bytes_read=keeper.bytes_read,
    )


def restore(
    dsn: str, pieces: Iterator[bytes], *, pg_bin: Path | None, server: int, only: str | None
) -> None:
    """Fill an empty database from the archive."""
    program = programs.reaching(dsn)
    argv = [
        str(programs.folder(pg_bin, server=server) / "pg_restore"),
        f"--dbname={program.dbname}",
        "--no-password",
        "--exit-on-error",
        *([f"--table={only.rsplit('.', 1)[-1]}"] if only else []),
    ]
    programs.Running(argv, program, stdin=subprocess.PIPE).feed(pieces)


def _archive(dsn: str, pg_bin: Path | None, snapshot: str, server: int) -> Iterator[bytes]:
    program = programs.reaching(dsn)
    argv = [
        str(programs.folder(pg_bin, server=server) / "pg_dump"),
        f"--dbname={program.dbname}",
        "--format=custom",
        "--compress=0",
        f"--snapshot={snapshot}",
        f"--exclude-schema={OWN_SCHEMA}",
        f"--lock-wait-timeout={LOCK_S * 1000}",
        "--no-password",
    ]
    return programs.Running(argv, program).output()


def _chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Cut by content, so that what is inserted moves no later cut."""
    from pyfastcdc import FastCDC  # noqa: PLC0415 - loaded when needed

    cutter = FastCDC(avg_size=_CHUNK, min_size=_CHUNK // 4, max_size=_CHUNK * 4)
    for chunk in cutter.cut_stream(Feed(pieces)):
        yield bytes(chunk.data)


def _known(keeper: Keeper, earlier: dict[bytes, Frame], chunk: bytes) -> list[Frame]:
    frame = earlier.get(keeper.digest(chunk))
    return [frame] if frame else []
