"""What the fleet page shows, and that nothing a customer writes becomes markup."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from console import views, web
from spaces.model import OpStatus, Status
from spaces.registry import OpRow, StepRow
from spaces.views import operation_view, space_view
from tests.builders import a_last_backup, a_running, a_space
from tests.fakes import START

XSS = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{7*7}}", "&lt;b&gt;")


def a_row(space: object, **over: object) -> views.Row:
    shown = space_view(space, url="http://acme.france.localhost:1", **over)  # pyright: ignore[reportArgumentType]
    return views.fleet([shown], now=START + timedelta(hours=3)).rows[0]


def test_an_empty_fleet_says_what_to_do() -> None:
    page = views.fleet([], now=START)
    assert page.sentence == "No space yet."
    assert "kpax order create" in web.PAGES.render("fleet_part.html", {"fleet": page})


def test_a_space_is_counted_in_its_cluster_and_zones() -> None:
    shown = space_view(a_space(), url="u")
    page = views.fleet([shown], now=START)
    france = page.cards[0]
    assert (france.title, france.active, france.total) == ("France", 1, 1)
    assert [zone.instances for zone in france.zones] == [1, 1, 0]
    assert len(page.cards) == 6


def test_a_running_operation_shows_its_steps_and_quickens_the_poll() -> None:
    op = a_running(at=1)
    row = OpRow(
        op_id=op.op_id,
        space_id="s-1",
        kind="provision",
        status=OpStatus.RUNNING,
        steps=op.steps,
        started_at=START,
        ended_at=None,
        error=None,
        params={},
    )
    shown = space_view(a_space(op=op), url="u", operation=operation_view(row, [], op))
    page = views.fleet([shown], now=START)
    assert page.poll_ms == views.BUSY_MS
    assert [step.status for step in page.rows[0].steps] == [
        "notStarted",
        "running",
        "notStarted",
    ]


def test_an_operation_that_ended_while_it_was_read_has_no_running_step() -> None:
    op = a_running(at=0)
    row = OpRow(
        op_id=op.op_id,
        space_id="s-1",
        kind="provision",
        status=OpStatus.SUCCEEDED,
        steps=op.steps[:1],
        started_at=START,
        ended_at=START,
        error=None,
        params={},
    )
    last = StepRow(
        op_id=op.op_id,
        name=op.steps[0],
        number=0,
        status=OpStatus.SUCCEEDED,
        started_at=START,
        ended_at=START,
        attempts=1,
        detail="",
    )
    assert [step.status for step in operation_view(row, [last], op).steps] == ["succeeded"]


def test_a_backup_tells_its_age_and_whether_it_was_proved() -> None:
    row = a_row(a_space(last_backup=a_last_backup()))
    assert (row.backup, row.verified) == ("3 h ago", True)
    unproved = a_row(a_space(last_backup=replace(a_last_backup(), verified_at=None)))
    assert unproved.verified is False


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_a_shape_and_a_word(status: Status) -> None:
    row = a_row(a_space(status=status))
    assert row.shape
    assert row.status == status.value


@pytest.mark.parametrize("text", XSS)
def test_no_text_becomes_markup(text: str) -> None:
    space = a_space(failure=text, status=Status.FAILED, release=text, desired=text)
    page = views.fleet([space_view(space, url=text)], now=START)
    html = web.PAGES.render("fleet.html", {"fleet": page})
    assert text not in html or "<" not in text
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert " style=" not in html


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "just now"), (90, "1 min ago"), (7200, "2 h ago"), (86400 * 3, "3 days ago")],
)
def test_ages_are_said_as_people_say_them(seconds: int, words: str) -> None:
    assert views.ago(START, START + timedelta(seconds=seconds)) == words
    assert views.ago(START + timedelta(seconds=5), START) == "just now"
