"""Exit codes, and what is visible after a failure, with a real database and folder."""

# ruff: noqa: S608 - statements with numbers of a test
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING

import pytest

from local.home import Home, is_free
from tests.backups.histories.compare import contents
from tests.backups.proof.place import ROOT, seen

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backups.proof.place import Place

pytestmark = pytest.mark.stack


def test_an_absent_and_an_empty_store_list_nothing(place: Place) -> None:
    assert place.call("list").shown == {"items": []}
    place.store.mkdir()
    assert place.call("list").shown == {"items": []}


def test_a_wrong_key_is_told_apart_from_damage(place: Place) -> None:
    place.fill(Random(1))  # noqa: S311 - a test's dice
    assert place.back_up().exit == 0
    other = place.root / "other.key"
    place.call("keygen", key=other)
    dsn = place.cluster.create(f"{place.database}_other")
    assert place.call("verify", "--full", key=other).exit == 8
    assert place.call("list", key=other).exit == 8
    assert place.call("restore", "--dsn", dsn, key=other).exit == 8
    before = place.objects()
    assert place.call("backup", *place.backup_options(), key=other).exit == 8
    assert place.objects() == before
    place.cluster.drop(f"{place.database}_other")


@pytest.mark.parametrize("how", ["no such database", "no such server", "no such role"])
def test_a_database_that_cannot_be_reached_leaves_nothing_visible(
    place: Place, tmp_path: Path, how: str
) -> None:
    place.fill(Random(1), rows=100)  # noqa: S311 - a test's dice
    closed = Home.open(tmp_path / "home").port("closed")
    assert is_free(closed)
    dsn = {
        "no such database": place.cluster.dsn("nothing"),
        "no such server": f"postgresql://postgres@127.0.0.1:{closed}/postgres",
        "no such role": place.cluster.dsn(place.database, "nobody"),
    }[how]
    answer = place.call("backup", "--dsn", dsn, "--files", place.files)
    assert answer.exit == 6, answer.said
    assert place.listed() == []


def test_a_connection_cut_in_the_middle_leaves_nothing_listed(place: Place) -> None:
    place.fill(Random(1))  # noqa: S311 - a test's dice
    place.cluster.sql(
        place.database,
        "CREATE TABLE wide (id int, data text)",
        "INSERT INTO wide SELECT n, repeat(md5(n::text), 60) FROM generate_series(1, 100000) n",
    )
    query = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        f" WHERE datname = '{place.database}' AND query LIKE 'COPY%'"
    )
    with (
        closing(place.cluster.connect("postgres")) as connection,
        connection.cursor() as cursor,
    ):
        process = place.started("backup", *place.backup_options())
        cut = 0
        while not cut:
            assert process.poll() is None, "no COPY was seen"
            cursor.execute(query)
            ((cut,),) = cursor.fetchall()
    said = process.communicate(timeout=30)
    assert process.returncode == 6, said
    assert place.listed() == []
    assert place.back_up().exit == 0
    assert place.restored("latest")[1] == place.state()


def test_a_folder_that_is_gone_makes_the_run_partial_and_is_named(place: Place) -> None:
    place.fill(Random(1))  # noqa: S311 - a test's dice
    complete = place.back_up().shown["backup_id"]
    state = place.state()
    shutil.move(place.files, place.root / "moved")
    answer = place.back_up()
    assert (answer.exit, answer.shown["state"]) == (1, "partial")
    assert str(place.files) in answer.said
    shutil.move(place.root / "moved", place.files)
    assert place.restored("latest")[1] == state
    assert place.call("list").shown["items"][-1]["state"] == "partial"
    assert place.listed()[0] == complete


@pytest.mark.parametrize("what", ["database", "files"])
def test_a_target_that_is_not_empty_is_refused_and_stays_as_it_was(
    place: Place, what: str
) -> None:
    place.fill(Random(1))  # noqa: S311 - a test's dice
    assert place.back_up().exit == 0
    target = f"{place.database}_full"
    dsn, files = place.cluster.create(target), place.root / "target"
    if what == "database":
        place.cluster.sql(target, "CREATE TABLE mine (id int)")
    else:
        files.mkdir()
        (files / "mine").write_text("mine")
    rows, there = contents(dsn), seen(files)
    assert place.call("restore", "--dsn", dsn, "--files", files).exit == 3
    assert contents(dsn) == rows
    assert seen(files) == there
    place.cluster.drop(target)


def test_the_lease_of_a_killed_run_is_taken_over_at_once(place: Place) -> None:
    place.fill(Random(1))  # noqa: S311 - a test's dice
    (place.files / "large").write_bytes(os.urandom(60 << 20))
    process = place.started("backup", *place.backup_options())
    while not (place.store / "lock").exists():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    began = time.monotonic()
    assert place.back_up().exit == 0
    assert time.monotonic() - began < 20


def test_of_two_runs_at_once_one_succeeds_and_all_that_is_listed_restores(place: Place) -> None:
    place.fill(Random(1))  # noqa: S311 - a test's dice
    (place.files / "large").write_bytes(os.urandom(20 << 20))
    runs = [place.started("backup", *place.backup_options()) for _ in range(2)]
    codes = []
    for process in runs:
        process.communicate(timeout=60)
        codes.append(process.returncode)
    assert 0 in codes
    assert set(codes) <= {0, 3}
    for backup_id in place.listed():
        assert place.restored(backup_id)[1] == place.state()
    assert place.call("verify", "--full").exit == 0


def test_one_file_restores_rows_and_files_without_the_project(place: Place) -> None:
    """Its database.sql is standard SQL: psql alone makes the same rows of it."""
    random = Random(1)  # noqa: S311 - a test's dice
    place.fill(random)
    place.back_up()
    place.change(random)
    assert place.back_up().exit == 0
    out = place.root / "out"
    script = ROOT / "restore_standalone.py"
    options = ["--store", place.store, "--key-file", place.key, "--at", "latest", "--out", out]
    done = subprocess.run(
        [sys.executable, "-I", script, *map(str, options)],
        cwd="/",
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert seen(out / "files") == seen(place.files)
    target = f"{place.database}_alone"
    dsn = place.cluster.create(target)
    subprocess.run(
        [
            *(place.cluster.programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1"),
            *("-d", dsn, "-o", "/dev/null", "-f", out / "database.sql"),
        ],
        check=True,
        capture_output=True,
    )
    assert contents(dsn) == place.state().database
    place.cluster.drop(target)
