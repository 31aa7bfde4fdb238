"""Each way in which rows were once captured wrong, as a test; and each guard shown to be needed.

A `mutant` is the engine without one guard: the test that holds the guard must see it fail, so that
a guard cannot go missing unseen. Segments are four blocks long here, so that small tables have many.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from backups.database import continuity, plan, segments, visibility
from backups.database import sessions as wire
from backups.database.capture import OutOfTimeError
from backups.database.model import Snapshot
from backups.database.sessions import Session
from backups.database.snapshot import OpenSnapshot
from spaces.errors import KpaxError, RefusedError
from tests.backups.histories.cluster import Cluster
from tests.backups.histories.compare import contents, dump
from tests.backups.histories.mutants import skipping_names, unlocked, without
from tests.backups.histories.vault import DAY, Vault

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.stack

TICK = "SELECT pg_current_xact_id()"  # one transaction more
# Half of each block stays free, so that a changed row stays in its block.
FILL = (
    "CREATE TABLE t WITH (fillfactor = 50) AS SELECT g AS id, md5(g::text) AS v, 0 AS n, -1 AS m"
    " FROM generate_series(1, 5000) g"
)
type Mutant = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MOST_BLOCKS", 4)


class Story:
    """A database that changes between captures, and what its snapshots restore to."""

    def __init__(self, cluster: Cluster, vault: Vault, database: str) -> None:
        self.cluster = cluster
        self.vault = vault
        self.database = database

    @property
    def dsn(self) -> str:
        return self.cluster.dsn(self.database)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.cluster.sql(self.database, *statements)

    def capture(self, **more: Any) -> Any:
        return self.vault.capture(self.dsn, **more)

    def differs(self, expected: Any = None) -> bool:
        """Whether the newest snapshot restores to other rows than the database's, or those given."""
        name = f"{self.database}_back"
        self.cluster.drop(name)
        try:
            self.cluster.create(name)
            self.vault.restore(self.cluster.dsn(name))
            found = contents(self.cluster.dsn(name))
            return found.sorted() != (expected or contents(self.dsn)).sorted()
        finally:
            self.cluster.drop(name)


@pytest.fixture
def story(cluster: Cluster, vault: Vault, database: str) -> Story:
    return Story(cluster, vault, database)


def with_and_without(
    monkeypatch: pytest.MonkeyPatch, mutant: Mutant, told: Callable[[], bool]
) -> None:
    """The story ends well, and without the guard it does not."""
    assert not told(), "wrong rows with the guard in place"
    with monkeypatch.context() as patch:
        mutant(patch)
        assert told(), "the mutant was not noticed"


# --- is it the same database ------------------------------------------------------------------


def always_continues(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(continuity, "continues", lambda _now, _held, _before: True)


def without_nonce(patch: pytest.MonkeyPatch) -> None:
    real = continuity.continues

    def careless(now: Any, held: Any, before: Any) -> bool:
        return real(now, held | {before.nonce}, before)

    patch.setattr(continuity, "continues", careless)


def without_database(patch: pytest.MonkeyPatch) -> None:
    real = continuity.look

    def careless(session: Any) -> Any:
        now, held = real(session)
        return _with(now, database=1), held

    patch.setattr(continuity, "look", careless)


def _with(snapshot_: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(snapshot_, **changes)


def test_a_database_made_from_a_template_is_read_anew(
    cluster: Cluster, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """It has its template's file nodes and its nonce, and rows changed by older transactions.

    The changes come before the source's snapshot, so that their transactions are older than it.
    """
    runs = iter(range(9))

    def told() -> bool:
        source, copy = (f"{database}_{name}{next(runs)}" for name in ("a", "b"))
        vault = Vault(tmp_path / source, pg_bin=cluster.programs)
        cluster.create(source)
        cluster.sql(source, FILL, "VACUUM t")
        vault.capture(cluster.dsn(source))
        cluster.create(copy, f'TEMPLATE "{source}"')
        cluster.sql(copy, "UPDATE t SET n = n + 1, v = 'changed' WHERE id % 10 = 0", "VACUUM t")
        vault.capture(cluster.dsn(source))
        vault.parts[-1] = _nonce_of(vault.parts[0], vault.parts[-1])
        vault.capture(cluster.dsn(copy))
        wrong = Story(cluster, vault, copy).differs()
        for name in (source, copy):
            cluster.drop(name)
        return wrong

    with_and_without(monkeypatch, without_database, told)


def _nonce_of(first: Any, second: Any) -> Any:
    """The worst case: the copy holds the nonce that is looked for."""
    nonce = first.snapshots[0].nonce
    return _with(second, snapshots=[_with(second.snapshots[0], nonce=nonce)])


def test_a_cold_copy_of_the_data_folder_is_read_anew(
    cluster: Cluster, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the same system id, timeline, database and file nodes: only the nonce tells."""

    def told() -> bool:
        number = len(list(cluster.data.parent.iterdir()))
        first = Cluster(cluster.home, f"first{number}").initialised().start()
        second: Cluster | None = None
        vault = Vault(tmp_path / f"store{number}", pg_bin=cluster.programs)
        try:
            first.create("d")
            first.sql("d", FILL, "VACUUM t")
            vault.capture(first.dsn("d"))
            first.stop()
            second = first.copied(f"second{number}")
            first.start()
            second.start()
            # Both go on; the copy's change is by an older transaction than the source's snapshot.
            second.sql("d", "UPDATE t SET v = 'copy' WHERE id % 10 = 0", *[TICK] * 50)
            first.sql("d", *["UPDATE t SET n = n + 1 WHERE id = 7"] * 20, "VACUUM t")
            vault.capture(first.dsn("d"))
            vault.capture(second.dsn("d"))
            return Story(second, vault, "d").differs()
        finally:
            first.delete()
            if second:
                second.delete()

    with_and_without(monkeypatch, without_nonce, told)


def a_snapshot(**changes: Any) -> Any:
    told: dict[str, Any] = {
        "xmin": 5000,
        "system": "s",
        "timeline": "00000001",
        "database": 5,
        "server": "180003 18.3",
        "nonce": "n1",
        "started": "yesterday",
    }
    return Snapshot(**(told | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"system": "t"},
        {"timeline": "00000002"},
        {"timeline": ""},
        {"database": 6},
        {"server": "180004 18.4"},
        {"xmin": 4999},
        {"xmin": 5000 + (1 << 30)},
    ],
)
def test_whatever_identifies_a_database_must_be_the_same(changes: dict[str, Any]) -> None:
    held = frozenset({"n1"})
    assert continuity.continues(a_snapshot(), held, a_snapshot())
    assert continuity.continues(a_snapshot(xmin=4999 + (1 << 30)), held, a_snapshot())
    assert not continuity.continues(a_snapshot(**changes), held, a_snapshot())


def test_the_nonce_decides_and_without_one_the_server_process() -> None:
    now = a_snapshot(started="today")
    assert continuity.continues(now, frozenset({"n1", "n2"}), a_snapshot())
    assert not continuity.continues(now, frozenset({"n2"}), a_snapshot())
    bare = a_snapshot(nonce="")
    assert not continuity.continues(now, frozenset({"n1"}), bare)
    assert continuity.continues(a_snapshot(), frozenset(), bare)
    assert not continuity.continues(a_snapshot(), frozenset(), a_snapshot(nonce="", started=""))


def test_a_role_that_may_not_write_skips_only_while_the_server_runs_on(
    tmp_path: Any, cluster: Cluster
) -> None:
    server = Cluster(cluster.home, "readonly").initialised().start()
    try:
        server.create("d")
        server.sql("d", FILL, "CREATE ROLE looker LOGIN", "GRANT pg_read_all_data TO looker")
        vault = Vault(tmp_path / "store", pg_bin=cluster.programs)
        first = vault.capture(server.dsn("d", "looker"))
        assert (first.snapshots[0].nonce, bool(first.snapshots[0].started)) == ("", True)
        assert vault.capture(server.dsn("d", "looker")).bytes_read == 0
        assert "kpax_backup" not in dump(server.dsn("d"), server.programs, "--schema-only")
        server.stop()
        server.start()
        assert vault.capture(server.dsn("d", "looker")).bytes_read == first.bytes_read
    finally:
        server.delete()


def test_a_database_that_forbids_the_nonce_is_captured_all_the_same(story: Story) -> None:
    story.sql(
        FILL,
        "CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'no changes here'; END $$",
        "CREATE EVENT TRIGGER forbids ON ddl_command_start EXECUTE FUNCTION no()",
    )
    part = story.capture()
    assert (part.snapshots[0].nonce, part.rows()) == ("", {"public.t": 5000})
    assert story.capture().bytes_read == 0  # the server process is the same
    story.sql("DROP EVENT TRIGGER forbids")


def test_the_nonce_is_no_part_of_what_is_captured(story: Story) -> None:
    story.sql(FILL)
    before = dump(story.dsn, story.cluster.programs)
    part = story.capture()
    assert dump(story.dsn, story.cluster.programs) == before
    assert "kpax_backup" not in repr(part.tables)
    assert story.sql("SELECT nonces FROM kpax_backup.continuity") == [
        ([part.snapshots[0].nonce],)
    ]


def test_two_runs_at_once_are_both_good_to_build_on(story: Story, tmp_path: Any) -> None:
    story.sql(FILL)
    vaults = [Vault(tmp_path / name, pg_bin=story.cluster.programs) for name in ("a", "b")]
    threads = [threading.Thread(target=vault.capture, args=(story.dsn,)) for vault in vaults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for vault in vaults:
        assert len(vault.parts) == 1
        nonce = vault.parts[0].snapshots[0].nonce
        assert nonce in story.sql("SELECT nonces FROM kpax_backup.continuity")[0][0]
        vault.capture(story.dsn)
        assert vault.stored[-1] < 2000


def test_runs_that_end_before_their_manifest_cost_no_full_read(story: Story) -> None:
    story.sql(FILL)
    published = story.capture()
    for _ in range(5):
        story.capture(previous=published)
    assert story.capture(previous=published).bytes_read == 0


# --- is the row newer ---------------------------------------------------------------------------


def test_deleted_rows_are_noticed_by_their_number(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(patch: pytest.MonkeyPatch) -> None:
        real = visibility.tables

        def careless(session: Any, asked: Any) -> Any:
            seen = real(session, asked)
            return {
                name: one._replace(rows=5000) if name == "ONLY public.t" else one
                for name, one in seen.items()
            }

        patch.setattr(visibility, "tables", careless)

    def told() -> bool:
        story.vault.parts.clear()
        story.sql("DROP TABLE IF EXISTS t", FILL)
        story.capture()
        story.sql("DELETE FROM t WHERE id % 100 = 0", "VACUUM t")
        try:
            story.capture()
        except KpaxError:
            return True
        return story.differs()

    with_and_without(monkeypatch, blind, told)


def test_ages_are_compared_in_one_statement(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A threshold taken on another connection is off by what was committed between."""
    held: list[Session] = []

    def elsewhere(patch: pytest.MonkeyPatch) -> None:
        def careless(xmin: int | str) -> str:
            if isinstance(xmin, str):
                return f"age(xmin) <= {numbers[-1]}"
            numbers.append(held[0].one(f"SELECT age({visibility.xid(xmin)})")[0])
            return f"age(xmin) <= {numbers[-1]}"

        numbers: list[int] = [0]
        patch.setattr(visibility, "newer", careless)

    def told() -> bool:
        story.vault.parts.clear()
        story.sql("DROP TABLE IF EXISTS t", FILL)
        story.capture()
        with closing(Session(story.dsn)) as early:
            held[:] = [early]
            early.rows("BEGIN")
            early.rows("SELECT age('3'::xid)")
            story.sql("UPDATE t SET n = n + 1 WHERE id = 4321", *[TICK] * 5)
            story.capture()
        return story.differs()

    with_and_without(monkeypatch, elsewhere, told)


@pytest.mark.parametrize("ends", ["COMMIT", "ROLLBACK"])
def test_transactions_that_run_through_a_capture_are_seen_when_they_end(
    story: Story, ends: str
) -> None:
    story.sql(FILL)
    with closing(story.cluster.connect(story.database)) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; UPDATE t SET n = 1 WHERE id <= 50; SAVEPOINT a")
        cursor.execute(
            "UPDATE t SET n = 2 WHERE id BETWEEN 100 AND 150; RELEASE a; SAVEPOINT b"
        )
        cursor.execute("DELETE FROM t WHERE id > 4900; ROLLBACK TO b; INSERT INTO t VALUES (0)")
        story.capture()
        story.sql("UPDATE t SET n = 9 WHERE id = 2500")
        story.capture()
        assert not story.differs()
        cursor.execute(ends)
    story.capture()
    assert not story.differs()


def test_a_prepared_transaction_is_seen_when_it_is_committed(story: Story) -> None:
    story.sql(FILL, "BEGIN", "UPDATE t SET n = 1 WHERE id < 9", "PREPARE TRANSACTION 'p'")
    story.capture()
    story.sql("UPDATE t SET n = 3 WHERE id = 3000")
    story.capture()
    story.sql("COMMIT PREPARED 'p'")
    story.capture()
    assert not story.differs()


# --- is it the same table ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["VACUUM FULL t", "CLUSTER t USING by_v"])
def test_a_rewritten_table_is_read_anew(
    story: Story, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its rows keep their transactions and move to other blocks."""
    monkeypatch.setattr(plan, "_ASK_ALL_BELOW", 1000)

    def told() -> bool:
        story.vault.parts.clear()
        # Four empty blocks at the start: when they go, each segment holds as many rows as before.
        story.sql("DROP TABLE IF EXISTS t", FILL, "DELETE FROM t WHERE ctid < '(4,0)'")
        story.sql("CREATE INDEX by_v ON t (v, id)")
        story.capture()
        story.sql(how, "UPDATE t SET n = 1 WHERE id = 4000")
        story.capture()
        return story.differs()

    with_and_without(monkeypatch, without(node=0), told)


@pytest.mark.parametrize(
    "how",
    [
        ("ALTER TABLE t DROP COLUMN n", "ALTER TABLE t ADD COLUMN n integer DEFAULT 5"),
        ("ALTER TYPE colour RENAME VALUE 'red' TO 'rouge'",),
        ("ALTER TYPE pair ADD ATTRIBUTE z integer CASCADE",),
        ("ALTER TYPE pair DROP ATTRIBUTE b CASCADE",),
    ],
)
def test_a_change_of_types_that_touches_no_row_is_noticed(
    story: Story, monkeypatch: pytest.MonkeyPatch, how: tuple[str, ...]
) -> None:
    def told() -> bool:
        story.vault.parts.clear()
        story.sql(
            "DROP TABLE IF EXISTS t",
            "DROP TYPE IF EXISTS colour, pair CASCADE",
            "CREATE TYPE colour AS ENUM ('red', 'green')",
            "CREATE TYPE pair AS (a integer, b text)",
            FILL,
            "ALTER TABLE t ADD k colour DEFAULT 'red', ADD p pair[] DEFAULT '{\"(1,x)\"}'",
        )
        story.capture()
        story.sql(*how)
        try:
            story.capture()
            return story.differs()
        except KpaxError:
            return True

    with_and_without(monkeypatch, without(fingerprint=b""), told)


def test_what_the_catalogue_names_is_never_skipped(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renaming a table changes the text of a `regclass`, also inside an array of a domain."""

    def told() -> bool:
        story.vault.parts.clear()
        story.sql(
            "DROP TABLE IF EXISTS t, named, renamed",
            "DROP DOMAIN IF EXISTS of_table",
            "CREATE TABLE named (a int)",
            "CREATE DOMAIN of_table AS regclass[]",
            "CREATE TABLE t AS SELECT ARRAY['named'::regclass]::of_table AS r",
        )
        story.capture()
        story.sql("ALTER TABLE named RENAME TO renamed")
        story.capture()
        try:
            return story.differs()
        except KpaxError:
            return True

    with_and_without(monkeypatch, skipping_names, told)


def test_a_renamed_table_is_the_same_table(story: Story) -> None:
    story.sql(FILL, "CREATE TABLE u (a int)", "INSERT INTO u VALUES (1)")
    story.capture()
    story.sql("ALTER TABLE t RENAME TO s", "ALTER TABLE u RENAME TO t")
    story.sql("ALTER TABLE t RENAME COLUMN a TO b")
    part = story.capture()
    assert part.bytes_read < 10_000  # definitions only
    assert not story.differs()


def test_a_table_that_takes_the_name_of_another_is_read(story: Story) -> None:
    story.sql(FILL)
    story.capture()
    story.sql("DROP TABLE t", FILL.replace("0 AS n", "1 AS n"))
    story.capture()
    assert not story.differs()


# --- locks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        ("ALTER TABLE t ALTER COLUMN n TYPE bigint USING n + 1",),
        ("BEGIN", "TRUNCATE t", "COPY t (n) FROM PROGRAM 'seq 2000' (FREEZE)", "COMMIT"),
    ],
)
def test_a_table_cannot_be_refilled_behind_an_open_snapshot(
    story: Story, monkeypatch: pytest.MonkeyPatch, how: tuple[str, ...]
) -> None:
    """With frozen rows it would be seen half or twice, and rewritten it would be empty."""

    def told() -> bool:
        story.vault.parts.clear()
        story.sql("DROP TABLE IF EXISTS t", FILL)
        seen: list[Any] = []
        threads: list[threading.Thread] = []

        def opened(name: str) -> None:
            seen.append(contents(story.dsn, name))
            if not threads:
                threads.append(threading.Thread(target=story.sql, args=how))
                threads[0].start()
                _until_waiting_or_done(story, threads[0])

        try:
            story.capture(opened=opened)
        except KpaxError:
            return True
        finally:
            for thread in threads:
                thread.join()
        return story.differs(seen[-1])

    with_and_without(monkeypatch, unlocked, told)


def _until_waiting_or_done(story: Story, thread: threading.Thread) -> None:
    """Until the thread's statement waits for our lock, or is through."""
    asked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    until = time.monotonic() + 20
    while thread.is_alive() and not story.sql(asked)[0][0]:
        assert time.monotonic() < until
        thread.join(0.005)


def test_a_writer_that_queues_for_an_exclusive_lock_stops_nobody(story: Story) -> None:
    """Another session of ours would queue behind it, and it waits for us: a new try is made."""
    story.sql(FILL.replace("5000", "80000"))
    threads: list[threading.Thread] = []

    def opened(_: str) -> None:
        if not threads:
            threads.append(
                threading.Thread(
                    target=story.sql, args=("ALTER TABLE t ADD extra int DEFAULT 3",)
                )
            )
            threads[0].start()
            _until_waiting_or_done(story, threads[0])

    began = time.monotonic()
    story.capture(opened=opened, connections=3)
    threads[0].join()
    assert time.monotonic() - began < 20
    assert not story.differs()


# --- sessions ------------------------------------------------------------------------------------


def test_a_role_that_sees_half_the_rows_is_refused(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.sql(
        FILL,
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY half ON t USING (id % 2 = 0)",
        "DO $$ BEGIN CREATE ROLE half LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT SELECT ON t TO half",
    )
    dsn = story.cluster.dsn(story.database, "half")
    with pytest.raises(RefusedError, match="row-level security"):
        story.vault.capture(dsn)
    monkeypatch.setitem(wire.PINNED, "row_security", "on")
    monkeypatch.setattr("backups.database.capture.Dumping", _NoDump)
    assert story.vault.capture(dsn).rows() == {"public.t": 2500}  # what the pin is for


class _NoDump:
    def __init__(self, **_: Any) -> None: ...

    def look(self) -> None: ...

    def stop(self) -> None: ...

    def wait(self) -> tuple[list[Any], list[Any]]:
        return [], []


def test_settings_of_database_and_role_change_no_text(story: Story) -> None:
    for setting in (
        "DateStyle TO 'SQL, DMY'",
        "IntervalStyle TO 'sql_standard'",
        "TimeZone TO 'Asia/Kolkata'",
        "extra_float_digits TO -15",
        "bytea_output TO 'escape'",
        "search_path TO public",
        "lc_monetary TO 'C.UTF-8'",
        "standard_conforming_strings TO off",
        "statement_timeout TO '50ms'",
        "default_transaction_read_only TO on",
    ):
        name = setting.split(" TO ")[0]
        story.cluster.sql("postgres", f'ALTER DATABASE "{story.database}" SET {setting}')
        assert name
    story.cluster.sql(
        story.database,
        "SET default_transaction_read_only = off",
        """CREATE TABLE t AS SELECT now() AS a, '1 day 2 h'::interval AS b, 1/3.0::float8 AS c,
            decode('00ff', 'hex') AS d, 12::money AS e, 'a\\b'::text AS f, current_date AS g""",
    )
    part = story.capture()
    assert part.snapshots[0].nonce == ""  # the database says that it is read-only
    assert not story.differs()


# --- audit ---------------------------------------------------------------------------------------


def inject(story: Story) -> None:
    """Change rows in their places; `stale_capture` then looks away."""
    story.sql("UPDATE t SET v = 'stale' WHERE id % 500 = 0", "VACUUM t")


def stale_capture(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture that takes changed rows as unchanged."""
    with monkeypatch.context() as patch:
        patch.setattr(
            plan, "_unchanged", lambda _s, _p, _t, spans, _past: {s.start for s in spans}
        )
        patch.setattr("backups.database.capture._Capture._adds_up", lambda _self, _one: True)
        story.capture()


def test_the_audit_finds_every_stale_segment_and_stores_the_rows_anew(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.sql(FILL, FILL.replace("TABLE t", "TABLE u"))
    story.capture()
    inject(story)
    stale_capture(story, monkeypatch)
    assert story.differs()
    found = story.capture(full=True)
    stale = story.sql(
        "SELECT count(DISTINCT ((ctid::text::point)[0]::int) / 4) FROM t WHERE v = 'stale'"
    )[0][0]
    assert len({finding.start for finding in found.findings}) >= stale
    assert {finding.table for finding in found.findings} == {"public.t"}
    assert found.findings[0].since == DAY.isoformat()
    assert not story.differs()
    assert story.capture(full=True).findings == []


def test_one_finding_makes_everything_be_read(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment whose turn it is is found wrong: then no other is believed either."""
    story.sql(FILL)
    story.capture()
    inject(story)
    stale_capture(story, monkeypatch)
    for days in range(1, 8):
        found = story.capture(day=DAY + timedelta(days=days))
        if found.findings:
            break
    assert found.findings
    assert not story.differs()


def test_every_segment_is_read_within_seven_days_and_no_day_reads_all(story: Story) -> None:
    story.sql(FILL.replace("5000", "20000"))
    first = story.capture()
    count = len(first.tables[0].segments)
    audited = [story.capture(day=DAY + timedelta(days=n)).audited for n in range(1, 8)]
    assert sum(audited) >= count
    assert max(audited) <= count // 3
    part = story.vault.parts[-1]
    assert min(s.read_on for s in part.tables[0].segments) >= DAY.toordinal() + 1
    assert not story.differs()


def test_rows_that_do_not_add_up_are_no_snapshot(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that is lost from the plan: the whole table's own count tells."""
    story.sql(FILL)
    real = segments.planned
    monkeypatch.setattr(
        segments, "planned", lambda blocks, each, earlier: real(blocks, each, earlier)[1:]
    )
    with pytest.raises(KpaxError, match=r"rows read of public\.t"):
        story.capture()


# --- the time box --------------------------------------------------------------------------------


def test_what_an_interrupted_run_read_is_not_read_again(story: Story) -> None:
    story.sql(FILL.replace("5000", "40000"), FILL.replace("TABLE t", "TABLE u"))
    looks = iter([False] * 20)
    with pytest.raises(OutOfTimeError) as stopped:
        story.capture(deadline=lambda: next(looks, True), connections=1)
    part = stopped.value.part
    assert not part.is_complete
    assert sum(len(table.segments) for table in part.tables) == 20
    whole = story.capture(previous=part)
    assert whole.is_complete
    assert len(whole.snapshots) == 1
    read = sum(len(t.segments) for t in whole.tables) - 20
    assert read > 0
    assert not story.differs()


def test_an_interrupted_day_mixes_two_snapshots_and_loses_nothing(story: Story) -> None:
    story.sql(FILL.replace("5000", "40000"))
    story.capture()
    story.sql("UPDATE t SET n = 1 WHERE id % 10 = 0")
    looks = iter([False] * 12)
    with pytest.raises(OutOfTimeError) as stopped:
        story.capture(deadline=lambda: next(looks, True), connections=1)
    part = stopped.value.part
    assert len(part.snapshots) == 2
    story.sql("UPDATE t SET n = 2 WHERE id IN (11, 39999)", "DELETE FROM t WHERE id = 20000")
    story.capture(previous=part)
    assert not story.differs()


def test_an_interrupted_day_believes_nothing_of_a_table_that_changed_its_shape(
    story: Story,
) -> None:
    """What was left unread is of the earlier shape, and the table's new one is written down."""
    story.sql(FILL.replace("5000", "20000"))
    story.capture()
    story.sql("ALTER TABLE t ADD COLUMN late integer DEFAULT 3")
    looks = iter([False] * 12)
    with pytest.raises(OutOfTimeError) as stopped:
        story.capture(deadline=lambda: next(looks, True), connections=1)
    story.capture(previous=stopped.value.part)
    assert not story.differs()


def test_tables_and_sequences_that_come_and_go_only_cost_a_new_try(story: Story) -> None:
    story.sql(FILL, "CREATE TABLE fleeting (a int)", "CREATE SEQUENCE passing")
    real, done = OpenSnapshot._lock_statement, list[str]()

    def meddling(self: Any, names: list[str], how: str) -> str:
        if not done:
            done.append("dropped")
            story.sql("DROP TABLE fleeting", "CREATE TABLE late AS SELECT 1 AS one")
        elif len(done) == 1:
            done.append("made")
            story.sql("CREATE TABLE later AS SELECT 2 AS two", "DROP SEQUENCE passing")
        return real(self, names, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenSnapshot, "_lock_statement", meddling)
        part = story.capture()
    assert sorted(part.rows()) == ["public.late", "public.later", "public.t"]
    assert not story.differs()
