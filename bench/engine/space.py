"""The space that is backed up, and what a day changes in it: the same for all, by seed.

At size 1: pgbench's tables at scale 20 and 60,000 rows of text and JSON, 276 MiB as a plain dump;
8,200 text files of 90 MiB and 1,586 files of 290 MiB that no compressor makes smaller; settings.
"""

from __future__ import annotations

import io
import itertools
import json
import shutil
import subprocess
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.engine.server import Server

_MASTER = "master"
_ACCOUNTS = 100_000  # pgbench makes as many for each unit of its scale


@dataclass(frozen=True, slots=True)
class Size:
    """How large, as a share of the space described above."""

    share: float

    @property
    def scale(self) -> int:
        """Of pgbench."""
        return max(1, round(20 * self.share))

    @property
    def accounts(self) -> int:
        """Rows of the largest table."""
        return self.scale * _ACCOUNTS

    def of(self, count: int) -> int:
        """A count at this size, at least one."""
        return max(1, round(count * self.share))


class Space:
    """A database and a folder, made once; each round starts from copies of them."""

    def __init__(self, server: Server, root: Path, size: Size) -> None:
        self.size = size
        self.database = "space"
        self.folder = root / "space"
        self._server = server
        self._master = root / "master"
        self._words = _words(Random(1))  # noqa: S311 — data to measure with

    @property
    def dsn(self) -> str:
        """Of the database."""
        return self._server.dsn(self.database)

    def make(self) -> None:
        """Make the masters."""
        self._server.create(_MASTER)
        subprocess.run(
            [
                *(self._server.programs / "pgbench", "--quiet", "-i", "-I", "dtgp"),
                *("-s", str(self.size.scale), self._server.dsn(_MASTER)),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        random = Random(2)  # noqa: S311
        connection = self._server.connect(_MASTER)
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "CREATE TABLE docs (id int PRIMARY KEY, title text, body text, tags jsonb,"
                    " changed_at timestamptz)"
                )
                cursor.copy_expert(
                    "COPY docs FROM STDIN",
                    _Stream(
                        self._doc(number, random) for number in range(self.size.of(60_000))
                    ),
                )
                cursor.execute("VACUUM ANALYZE")
        finally:
            connection.close()
        self._make_files(Random(3))  # noqa: S311

    def reset(self) -> None:
        """Back to the first state: a database and a folder that nobody has seen."""
        self.remove()
        self._server.create(self.database, template=_MASTER)
        subprocess.run(["cp", "-a", self._master, self.folder], check=True)
        self.settle()

    def remove(self) -> None:
        """Drop the copies."""
        self._server.drop(self.database)
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self) -> None:
        """Drop the masters too."""
        self._server.drop(_MASTER)
        shutil.rmtree(self._master, ignore_errors=True)

    def settle(self) -> None:
        """Read all rows once, as autovacuum would have: nobody pays for another's hint bits."""
        tables = ("pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers")
        counts = [f"SELECT count(*) FROM {name}" for name in (*tables, "docs")]  # noqa: S608
        self._server.sql(self.database, *counts, "CHECKPOINT")

    def change(self, *, seed: int, is_recent: bool) -> None:
        """A day on which 1 % of the rows changed: the newest of them, or any."""
        random = Random(seed)  # noqa: S311
        connection = self._server.connect(self.database)
        try:
            with connection.cursor() as cursor:
                self._change_rows(cursor, random, is_recent=is_recent)
        finally:
            connection.close()
        self._change_files(random)
        self.settle()

    def _change_rows(self, cursor: Any, random: Random, *, is_recent: bool) -> None:  # noqa: ANN401
        size = self.size
        accounts = size.accounts
        first = int(accounts * 0.95) if is_recent else 0
        touched = random.sample(range(first + 1, accounts + 1), min(accounts // 100, 20_000))
        cursor.execute(
            "UPDATE pgbench_accounts SET abalance = abalance + 1 + aid %% 97"
            " WHERE aid = ANY (%s)",
            (touched,),
        )
        cursor.execute("SELECT id FROM docs ORDER BY id")
        ids = [number for (number,) in cursor.fetchall()]
        changed = ids[-size.of(300) :] if is_recent else random.sample(ids, size.of(600))
        for number in changed:
            cursor.execute(
                "UPDATE docs SET body = body || %s, changed_at = changed_at + interval '1 day'"
                " WHERE id = %s",
                (self._text(random, 12), number),
            )
        cursor.copy_expert(
            "COPY docs FROM STDIN",
            _Stream(self._doc(ids[-1] + 1 + n, random) for n in range(size.of(300))),
        )
        gone = random.sample(ids, size.of(60))
        cursor.execute("DELETE FROM docs WHERE id = ANY (%s)", (gone,))
        if is_recent:
            cursor.execute(
                "INSERT INTO pgbench_history SELECT 1 + n %% 10, 1, 1 + n * 7919 %% %s, n %% 5000,"
                " '2026-11-20'::timestamp + n * interval '1 second', NULL"
                " FROM generate_series(1, %s) n",
                (accounts, size.of(20_000)),
            )

    def _make_files(self, random: Random) -> None:
        files = self._master / "files"
        for number in range(self.size.of(8_200)):
            path = files / f"notes/{number % 97:02}/note-{number:05}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._text(random, random.randrange(600, 3_000)))
        for number in range(self.size.of(1_586)):
            path = files / f"attachments/{number % 53:02}/scan-{number:04}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            large = number % 200 == 7
            path.write_bytes(
                random.randbytes(9_000_000 if large else random.randrange(280_000))
            )
        settings = {"title": "acme", "locale": "en", "plan": "standard", "release": "2026.11.1"}
        (self._master / "settings.json").write_text(json.dumps(settings))

    def _change_files(self, random: Random) -> None:
        """30 edited, 15 renamed, 10 deleted, 40 new ones of 2 MB together."""
        files = self.folder / "files"
        there = sorted(path for path in files.rglob("*") if path.is_file())
        notes = [path for path in there if path.suffix == ".txt"]
        count = self.size.of
        for path in random.sample(notes, min(count(30), len(notes))):
            path.write_text(path.read_text() + self._text(random, 20))
        moved = random.sample(there, min(count(25), len(there)))
        for path in moved[: count(15)]:
            path.rename(path.with_name(f"moved-{path.name}"))
        for path in moved[count(15) :]:
            path.unlink()
        fresh = files / f"new-{random.randrange(10**9)}"
        fresh.mkdir()
        for number in range(count(40)):
            (fresh / f"{number}.bin").write_bytes(random.randbytes(random.randrange(100_000)))

    def _doc(self, number: int, random: Random) -> bytes:
        words = self._text(random, random.randrange(60, 330)).replace("\n", " ")
        tags = json.dumps({"owner": number % 911, "tags": words.split(" ", 4)[:4]})
        stamp = f"2026-{1 + number % 11:02}-{1 + number % 28:02} 10:00:00+00"
        return f"{number}\tDocument {number}\t{words}\t{tags}\t{stamp}\n".encode()

    def _text(self, random: Random, count: int) -> str:
        words, weights = self._words
        return " ".join(random.choices(words, cum_weights=weights, k=count)) + "\n"


def _words(random: Random) -> tuple[list[str], list[float]]:
    """Twenty thousand words, of which few are frequent, as in any language."""
    syllables = [a + b for a in "bcdfghklmnprstvz" for b in "aeiou"]
    words = [
        "".join(random.choices(syllables, k=random.randrange(1, 5))) for _ in range(20_000)
    ]
    return words, list(itertools.accumulate(1 / (rank + 4) for rank in range(len(words))))


class _Stream(io.RawIOBase):
    """What `COPY FROM STDIN` reads: lines, made as they are asked for."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines

    def read(self, size: int = -1, /) -> bytes:
        """About as much as asked for; nothing at the end."""
        some = bytearray()
        for line in self._lines:
            some += line
            if len(some) >= max(size - 4096, 1):
                break
        return bytes(some)
