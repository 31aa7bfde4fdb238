"""Other servers: one too old for segments, one of another main version, and damage on the way back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from backups.database import capture as capturing
from backups.database import programs
from backups.database.sessions import Session
from spaces.errors import DamagedError, InvalidError
from tests.backups.histories.cluster import Cluster
from tests.backups.histories.compare import contents, dump
from tests.backups.histories.vault import Vault

pytestmark = pytest.mark.stack

FILL = "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 60000) g"


def test_a_server_without_range_scans_is_dumped_and_only_new_chunks_are_stored(
    cluster: Cluster, vault: Vault, database: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capturing, "OLDEST_SERVER", 990_000)
    cluster.sql(database, FILL, "CREATE INDEX ON t (id)", "SELECT lo_from_bytea(77, 'x')")
    first = vault.capture(cluster.dsn(database))
    assert (first.rows(), first.tables) == ({"public.t": 60000}, [])
    cluster.sql(database, "UPDATE t SET v = 'new' WHERE id = 30000")
    vault.capture(cluster.dsn(database))
    assert vault.stored[-1] < vault.stored[0]
    vault.restore(cluster.dsn(target))
    assert dump(cluster.dsn(target), cluster.programs) == dump(
        cluster.dsn(database), cluster.programs
    )


def test_a_snapshot_after_a_dump_of_an_older_server_is_read_whole(
    cluster: Cluster, vault: Vault, database: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day after the server was upgraded."""
    cluster.sql(database, FILL)
    with monkeypatch.context() as patch:
        patch.setattr(capturing, "OLDEST_SERVER", 990_000)
        vault.capture(cluster.dsn(database))
    part = vault.capture(cluster.dsn(database))
    assert part.dump is None
    vault.restore(cluster.dsn(target))
    assert contents(cluster.dsn(target)).rows == contents(cluster.dsn(database)).rows


def test_programs_that_are_older_than_the_server_are_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.4'\n")
    old.chmod(0o755)
    monkeypatch.delenv("KPAX_PG_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert programs.folder(server=130_004) == tmp_path
    assert programs.folder(server=180_001) != tmp_path
    with pytest.raises(InvalidError, match="as new as the server"):
        programs.folder(server=990_001)
    assert programs.folder(Path("/named"), server=990_001) == Path("/named")


def test_a_password_is_in_no_argument_of_a_program() -> None:
    program = programs.reaching("postgresql://me:pa55-word@127.0.0.1:5433/app?sslmode=disable")
    assert "pa55-word" not in program.dbname
    assert program.environment["PGPASSWORD"] == "pa55-word"
    assert "port=5433" in program.dbname


def damaged_pack(vault: Vault) -> None:
    """Flip a bit in the middle of the largest pack."""
    pack = max((vault.root / "p").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)


def test_damage_is_named_and_nothing_is_skipped_unasked(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    cluster.sql(database, FILL, "CREATE TABLE u AS SELECT 1 AS one")
    vault.capture(cluster.dsn(database))
    damaged_pack(vault)
    with pytest.raises(DamagedError, match=r"p/r1.*public\.t"):
        vault.restore(cluster.dsn(target))
    cluster.drop(target)
    cluster.create(target)
    (found,) = vault.restore(cluster.dsn(target), skip_damaged=True)
    assert "public.t" in str(found)
    back = contents(cluster.dsn(target)).rows
    assert back["public.u"] == (b"1\n",)
    whole = contents(cluster.dsn(database)).rows["public.t"]
    assert 0 < len(back["public.t"]) < len(whole)
    assert set(back["public.t"]) < set(whole)


def test_a_damaged_base_costs_a_delta_and_no_backup(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    cluster.sql(database, FILL)
    vault.capture(cluster.dsn(database))
    damaged_pack(vault)
    cluster.sql(database, "UPDATE t SET v = 'x' WHERE id % 50 = 0")
    vault.capture(cluster.dsn(database))
    vault.restore(cluster.dsn(target))
    assert contents(cluster.dsn(target)).sorted() == contents(cluster.dsn(database)).sorted()


def test_what_a_restore_writes_is_pinned_whatever_the_target_says(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    cluster.sql(database, "CREATE TABLE t AS SELECT now() AS a, '\\x00'::bytea AS b")
    vault.capture(cluster.dsn(database))
    for setting in ("DateStyle TO 'SQL, DMY'", "search_path TO public", "row_security TO on"):
        cluster.sql("postgres", f'ALTER DATABASE "{target}" SET {setting}')
    vault.restore(cluster.dsn(target))
    assert contents(cluster.dsn(target)).rows == contents(cluster.dsn(database)).rows


def test_a_connection_that_is_cut_ends_the_run(
    cluster: Cluster, vault: Vault, database: str
) -> None:
    cluster.sql(database, FILL.replace("60000", "600000"))
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'kpax-backup'"
    )
    with pytest.raises(Exception, match="went away"):
        vault.capture(cluster.dsn(database), opened=lambda _: cluster.sql("postgres", cut))
    assert vault.parts == []
    with closing(Session(cluster.dsn(database))) as session:
        assert session.one("SELECT 1") == (1,)


def test_a_plain_owner_can_capture_and_restore_large_objects_too(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    """No superuser, as on a managed server: it may not read the table of large objects."""
    cluster.sql(
        "postgres",
        "DO $$ BEGIN CREATE ROLE owner LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        f'ALTER DATABASE "{database}" OWNER TO owner',
        f'ALTER DATABASE "{target}" OWNER TO owner',
    )
    connection = cluster.connect(database, "owner")
    with closing(connection), connection.cursor() as cursor:
        cursor.execute(FILL)
        cursor.execute("CREATE EXTENSION citext; CREATE TABLE c (a citext); CREATE SEQUENCE s")
        cursor.execute("SELECT lo_from_bytea(77, decode(repeat('00ff5c0a', 800000), 'hex'))")
        cursor.execute("SELECT lo_from_bytea(78, 'small'), lo_create(79), nextval('s')")
        cursor.execute("GRANT SELECT ON LARGE OBJECT 78 TO PUBLIC")
        cursor.execute("COMMENT ON LARGE OBJECT 79 IS E'two\\nlines'")
    first = vault.capture(cluster.dsn(database, "owner"))
    assert first.snapshots[0].nonce
    again = vault.capture(cluster.dsn(database, "owner"))
    assert again.bytes_read < first.bytes_read
    vault.restore(cluster.dsn(target, "owner"))
    assert dump(cluster.dsn(target), cluster.programs) == dump(
        cluster.dsn(database), cluster.programs
    )


def test_large_objects_are_skipped_and_stored_like_rows(
    cluster: Cluster, vault: Vault, database: str, target: str
) -> None:
    cluster.sql(
        database,
        "SELECT lo_from_bytea(g, convert_to(repeat(md5(g::text), 9000), 'UTF8'))"
        " FROM generate_series(101, 140) g",
    )
    first = vault.capture(cluster.dsn(database))
    assert vault.capture(cluster.dsn(database)).bytes_read < 10_000
    cluster.sql(database, "SELECT lo_put(139, 100, 'changed'), lo_unlink(101)")
    assert vault.capture(cluster.dsn(database)).bytes_read < first.bytes_read
    vault.restore(cluster.dsn(target))
    back, now = contents(cluster.dsn(target)), contents(cluster.dsn(database))
    assert back.large_objects == now.large_objects
    assert len(back.large_objects) == 39


def test_a_promoted_copy_is_read_whole(cluster: Cluster, tmp_path: Path) -> None:
    """It has the nonce, and a timeline of its own: what its source did since is not in it."""
    source = Cluster(cluster.home, "source", wal_level="replica").initialised().start()
    vault = Vault(tmp_path / "store", pg_bin=cluster.programs)
    other: Cluster | None = None
    try:
        source.create("d")
        source.sql("d", FILL)
        first = vault.capture(source.dsn("d"))
        source.stop()
        other = source.copied("promoted")
        signal = other.data / "standby.signal"
        signal.touch()
        other.start()
        other.sql("postgres", "SELECT pg_promote()")
        part = vault.capture(other.dsn("d"))
        assert part.snapshots[0].timeline == "00000002"
        assert part.bytes_read >= first.bytes_read - 4096
    finally:
        source.delete()
        if other:
            other.delete()
