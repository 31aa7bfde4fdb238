"""What PostgreSQL's programs are given, and what their failures mean; stand-ins play them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backups.dumps import PostgresData
from backups.engine import Base
from spaces.errors import InvalidError, KpaxError, TransientError
from spaces.ports import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BASE = Base(
    server=Server(address="127.0.0.1:5433", user="kpax_admin", password="pa55-word"),
    database="app_r7",
)


async def a_dump(pieces: int = 3) -> AsyncIterator[bytes]:
    for _ in range(pieces):
        yield bytes(1 << 20)


def program(folder: Path, text: str) -> PostgresData:
    path = folder / "pg_restore"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return PostgresData(folder)


async def test_the_password_is_in_no_argument(tmp_path: Path) -> None:
    told = tmp_path / "told"
    data = program(tmp_path, f'echo "$@" > {told}; env >> {told}; cat > {tmp_path}/dump')
    await data.load(BASE, a_dump())
    argv, *environment = told.read_text().splitlines()
    assert "pa55-word" not in argv
    assert "--dbname=app_r7" in argv
    assert "PGPASSWORD=pa55-word" in environment
    assert "PGPORT=5433" in environment
    assert (tmp_path / "dump").stat().st_size == 3 << 20


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("pg_restore: error: connection to server failed: Connection refused", TransientError),
        ("pg_restore: error: server closed the connection unexpectedly", TransientError),
        ("pg_restore: error: FATAL: the database system is shutting down", TransientError),
        ('pg_restore: error: could not execute query: ERROR: role "x" is gone', InvalidError),
        ('pg_restore: error: ERROR: table "closed_connections" is odd', InvalidError),
        ("", TransientError),
    ],
)
async def test_a_failure_says_whether_trying_again_helps(
    tmp_path: Path, words: str, kind: type[KpaxError]
) -> None:
    data = program(tmp_path, f"cat > /dev/null; echo '{words}' >&2; exit 1")
    with pytest.raises(kind):
        await data.load(BASE, a_dump())


async def test_a_program_that_ends_early_says_why_and_rows_stay_out_of_it(
    tmp_path: Path,
) -> None:
    words = "pg_restore: error: COPY failed for table t\\nDETAIL: Key (mail)=(a@b.example)"
    data = program(tmp_path, f"printf '{words}' >&2; exit 3")
    with pytest.raises(InvalidError, match="COPY failed") as found:
        await data.load(BASE, a_dump(pieces=40))
    assert "a@b.example" not in str(found.value)
    assert found.value.problem_slug == "dump-refused"


async def test_a_program_does_not_outlive_a_dump_that_breaks(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    data = program(tmp_path, f"echo $$ > {pid}; exec cat > /dev/null")

    async def broken() -> AsyncIterator[bytes]:
        yield b"begin"
        while not pid.exists() or not pid.read_text().strip():
            yield b"more"
        raise TransientError("the store is gone")

    with pytest.raises(TransientError, match="the store is gone"):
        await data.load(BASE, broken())
    gone = Path("/proc") / pid.read_text().strip()
    assert not gone.exists()
