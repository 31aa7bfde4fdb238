"""A database, a folder and a store of a test, and the command that works on them.

Nothing here looks into the engine: what is held is what `python -m backups.local` promises.
"""

# ruff: noqa: S608 - statements with numbers of a test
from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backups.local.__main__ import main
from tests.backups.histories.compare import Contents, contents

if TYPE_CHECKING:
    from random import Random

    from tests.backups.histories.cluster import Cluster

ROOT = Path(__file__).parents[3]
SETTINGS = b'{"title": "acme", "locale": "en"}'


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command gave: exit code, its object, its talk."""

    exit: int
    shown: Any
    said: str

    @property
    def named(self) -> set[str]:
        """Objects that it calls damaged."""
        if "findings" in self.shown:
            return {found["object"] for found in self.shown["findings"]}
        if "damage" in self.shown:
            return {found["object"] for found in self.shown["damage"]}
        return {str(self.shown["object"])} if "object" in self.shown else set()


@dataclass(frozen=True, slots=True)
class State:
    """What a snapshot has to give back."""

    database: Contents
    files: dict[str, tuple[int, int, bytes]]


class Place:
    """The places of one test below `root`."""

    def __init__(self, root: Path, cluster: Cluster, database: str) -> None:
        self.root = root
        self.cluster = cluster
        self.database = database
        self.files = root / "files"
        self.store = root / "store"
        self.key = root / "key"
        self.settings = root / "settings.json"
        self.settings.write_bytes(SETTINGS)
        self.files.mkdir()
        assert self.call("keygen").exit == 0

    # -- the command ------------------------------------------------------------------------

    def arguments(self, verb: str, *options: object, key: Path | None = None) -> list[str]:
        store = () if verb == "keygen" else ("--store", self.store)
        given = (verb, "--key-file", key or self.key, *store, "--json", *options)
        return [str(one) for one in given]

    def call(self, verb: str, *options: object, key: Path | None = None) -> Answer:
        """Run a command in this process, which saves its start."""
        out, said = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(said):
            code = main(self.arguments(verb, *options, key=key))
        return Answer(code, json.loads(out.getvalue()), said.getvalue())

    def started(self, verb: str, *options: object) -> subprocess.Popen[bytes]:
        """Start a command as a process of its own, which may be killed with all that it starts."""
        return subprocess.Popen(
            [sys.executable, "-m", "backups.local", *self.arguments(verb, *options)],
            cwd=ROOT,
            env=os.environ | {"KPAX_PG_BIN": str(self.cluster.programs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def backup_options(self) -> tuple[object, ...]:
        dsn = self.cluster.dsn(self.database)
        return ("--dsn", dsn, "--files", self.files, "--settings", self.settings)

    def back_up(self, *more: object) -> Answer:
        return self.call("backup", *self.backup_options(), *more)

    def listed(self) -> list[str]:
        answer = self.call("list")
        assert answer.exit == 0, answer.said
        return [one["backup_id"] for one in answer.shown["items"]]

    # -- states -----------------------------------------------------------------------------

    def state(self) -> State:
        return State(contents(self.cluster.dsn(self.database)), seen(self.files))

    def restored(self, at: str, *more: object) -> tuple[Answer, State | None]:
        """A restore into empty places, and what is in them when it succeeded."""
        target, files = f"{self.database}_back", self.root / "back"
        settings = self.root / "back.json"
        dsn = self.cluster.create(target)
        try:
            places = ("--dsn", dsn, "--files", files, "--settings", settings)
            answer = self.call("restore", "--at", at, *places, *more)
            if answer.exit:
                return answer, None
            assert settings.read_bytes() == SETTINGS
            return answer, State(contents(dsn), seen(files))
        finally:
            self.cluster.drop(target)
            shutil.rmtree(files, ignore_errors=True)
            settings.unlink(missing_ok=True)

    def objects(self) -> list[str]:
        """Names of all objects in the store."""
        return sorted(
            str(path.relative_to(self.store))
            for path in self.store.rglob("*")
            if path.is_file()
        )

    # -- contents ---------------------------------------------------------------------------

    def fill(self, random: Random, *, rows: int = 3000, files: int = 40) -> None:
        self.cluster.sql(
            self.database,
            "CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL, note text)",
            "CREATE TABLE invoice (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
            " customer int REFERENCES customer, amount numeric(12, 2), lines jsonb)",
            "INSERT INTO customer (name, note) SELECT 'customer ' || n, repeat(md5(n::text), 9)"
            f" FROM generate_series(1, {rows // 4}) n",
            "INSERT INTO invoice (customer, amount, lines) SELECT 1 + n % (SELECT count(*)"
            " FROM customer), n / 7.0, jsonb_build_array(n, md5(n::text))"
            f" FROM generate_series(1, {rows}) n",
            "SELECT lo_from_bytea(4711, 'a large object')",
        )
        for number in range(files):
            path = self.files / f"folder {number % 5}" / f"file-{number}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(random.randbytes(random.randrange(30_000)))

    def change(self, random: Random) -> None:
        """A day: some rows, some files."""
        low = random.randrange(2000)
        self.cluster.sql(
            self.database,
            f"UPDATE invoice SET amount = amount + 1 WHERE id BETWEEN {low} AND {low + 40}",
            f"DELETE FROM invoice WHERE id = {low + 50}",
            "INSERT INTO customer (name) SELECT 'new ' || n FROM generate_series(1, 20) n",
        )
        there = sorted(path for path in self.files.rglob("*") if path.is_file())
        for path in random.sample(there, 3):
            path.write_bytes(random.randbytes(random.randrange(1, 30_000)))
        (self.files / f"new-{random.randrange(10**9)}").write_bytes(random.randbytes(20_000))


def seen(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and bytes of every file below."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes(),
        )
        for path in folder.rglob("*")
        if path.is_file()
    }
