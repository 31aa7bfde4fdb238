"""What others do while a snapshot is open, and what a session is set to."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from backups.database import sessions as wire
from spaces.errors import KpaxError, RefusedError
from tests.backups.database.stories import FILL, Story, with_and_without
from tests.backups.histories.compare import contents
from tests.backups.histories.mutants import unlocked

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("small_segments")]


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
