"""What the audit finds, and a run that is cut short by its time box."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backups.database import plan, segments
from backups.database.capture import OutOfTimeError
from backups.database.snapshot import OpenSnapshot
from spaces.errors import KpaxError
from tests.backups.database.stories import FILL, Story
from tests.backups.histories.vault import DAY

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("small_segments")]


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
