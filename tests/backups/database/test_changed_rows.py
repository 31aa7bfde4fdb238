"""Is the row newer, is it the same table: each way in which a change was once missed."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from backups.database import plan, visibility
from backups.database.sessions import Session
from spaces.errors import KpaxError
from tests.backups.database.stories import FILL, TICK, Story, with_and_without
from tests.backups.histories.mutants import skipping_names, without

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("small_segments")]


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
