"""The matrix of statuses and operations, and the conditions beside the status."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from scripts import lifecycle as page
from spaces.lifecycle import MATRIX, QUARANTINE_ALLOWS, may_start, refusal
from spaces.model import BackupId, Mark, OpKind, Status
from spaces.saga.outline import OUTLINES
from tests.builders import a_billing_state, a_running, a_space
from tests.fakes import START

if TYPE_CHECKING:
    from spaces.model import Space

PAST, FUTURE = START - timedelta(days=1), START + timedelta(days=1)
MARK = Mark(reason="a reason", actor="ops", at=START)

# What may start from where, written down a second time, by hand.
ALLOWED = {
    OpKind.PROVISION: {"requested": "active"},
    OpKind.RESIZE: {"active": "active"},
    OpKind.CONFIGURE: {"active": "active", "suspended": "suspended"},
    OpKind.ROTATE_SECRETS: {"active": "active"},
    OpKind.SUSPEND: {"active": "suspended"},
    OpKind.RESUME: {"suspended": "active", "cancelled": "active"},
    OpKind.BACKUP: {"active": "active", "suspended": "suspended", "cancelled": "cancelled"},
    OpKind.RESTORE: {"active": "active", "suspended": "suspended"},
    OpKind.CANCEL: dict.fromkeys(("requested", "active", "suspended", "failed"), "cancelled"),
    OpKind.DELETE: {"cancelled": "deleted"},
    OpKind.ERASE: dict.fromkeys(("deleted", "cancelled", "failed"), "erased"),
    OpKind.QUARANTINE: {
        one: one
        for one in ("requested", "active", "suspended", "cancelled", "failed", "deleted")
    },
    OpKind.RELEASE: {
        one: one
        for one in ("requested", "active", "suspended", "cancelled", "failed", "deleted")
    },
}


def ripe(status: Status, kind: OpKind) -> Space:
    """A space of this status of which every condition of this operation holds."""
    given: dict[str, Any] = {"status": status}
    opened = status not in {Status.REQUESTED, Status.FAILED, Status.WARM}
    given["activated_at"] = PAST if opened else None
    if kind is OpKind.ERASE and status is Status.CANCELLED:
        given["activated_at"] = None
    if kind is OpKind.RELEASE:
        given["quarantined"] = MARK
    if status is Status.CANCELLED:
        given["grace_until"] = FUTURE if kind is OpKind.RESUME else PAST
        given["final_backup"] = BackupId("b-20261122T100000Z")
    if status is Status.DELETED:
        given["retain_until"] = PAST
    return a_space(**given)


@pytest.mark.parametrize("kind", list(OpKind))
@pytest.mark.parametrize("status", list(Status))
def test_every_pair_is_allowed_with_its_target_or_refused_with_a_reason(
    kind: OpKind, status: Status
) -> None:
    target = ALLOWED[kind].get(status)
    refused = refusal(ripe(status, kind), kind, START)
    if target is not None:
        assert refused is None
        assert (MATRIX[kind].success or status) == target
        return
    assert refused is not None
    assert refused.members["current_status"] == status
    assert (refused.problem_status, int(refused.exit)) == (409, 3)
    assert str(status) in str(refused)


@pytest.mark.parametrize(
    ("kind", "status", "change", "said"),
    [
        (OpKind.RESUME, Status.CANCELLED, {"grace_until": PAST}, "its grace ended"),
        (OpKind.RESUME, Status.CANCELLED, {"activated_at": None}, "never had data"),
        (OpKind.DELETE, Status.CANCELLED, {"grace_until": FUTURE}, "its grace lasts"),
        (OpKind.DELETE, Status.CANCELLED, {"grace_until": None}, "cancel it first"),
        (OpKind.DELETE, Status.CANCELLED, {"final_backup": None}, "final backup"),
        (OpKind.DELETE, Status.CANCELLED, {"deletion_lock": MARK}, "locked by ops: a reason"),
        (
            OpKind.DELETE,
            Status.CANCELLED,
            {"billing": a_billing_state(legal_hold=True)},
            "legal hold",
        ),
        (OpKind.ERASE, Status.DELETED, {"retain_until": FUTURE}, "are retained until"),
        (OpKind.ERASE, Status.DELETED, {"deletion_lock": MARK}, "locked by ops"),
        (OpKind.ERASE, Status.CANCELLED, {"activated_at": PAST}, "it had data"),
        (OpKind.ERASE, Status.FAILED, {"activated_at": PAST}, "it had data"),
        (OpKind.RELEASE, Status.ACTIVE, {"quarantined": None}, "not in quarantine"),
        (OpKind.QUARANTINE, Status.ACTIVE, {"quarantined": MARK}, "in quarantine already"),
        (OpKind.SUSPEND, Status.ACTIVE, {"paused": MARK}, "paused by ops: a reason"),
        (OpKind.SUSPEND, Status.ACTIVE, {"held": MARK}, "its cluster or the fleet is paused"),
    ],
)
def test_a_condition_that_does_not_hold_is_named(
    kind: OpKind, status: Status, change: dict[str, Any], said: str
) -> None:
    space = ripe(status, kind)
    assert refusal(space, kind, START) is None
    refused = refusal(replace(space, **change), kind, START)
    assert refused is not None
    assert said in str(refused)
    assert refused.problem_status == 409


@pytest.mark.parametrize("kind", list(OpKind))
def test_in_quarantine_only_release_and_backup_start(kind: OpKind) -> None:
    for status in sorted(MATRIX[kind].start):
        space = replace(ripe(status, kind), quarantined=MARK)
        assert (refusal(space, kind, START) is None) == (kind in QUARANTINE_ALLOWS)


def test_one_operation_at_a_time_and_a_stuck_one_is_one() -> None:
    running = refusal(a_space(op=a_running()), OpKind.BACKUP, START)
    assert running is not None
    assert running.problem_slug == "operation-running"
    stuck = refusal(a_space(op=a_running(stuck="broken")), OpKind.BACKUP, START)
    assert stuck is not None
    assert stuck.problem_slug == "needs-operator"
    assert "broken" in str(stuck)


def test_what_may_start_does_and_what_may_not_raises_the_refusal() -> None:
    may_start(ripe(Status.ACTIVE, OpKind.BACKUP), OpKind.BACKUP, START)
    with pytest.raises(Exception, match="cannot start from status erased"):
        may_start(a_space(status=Status.ERASED), OpKind.BACKUP, START)


def test_every_operation_has_a_row_and_steps() -> None:
    assert set(MATRIX) == set(OpKind) == set(OUTLINES)
    for kind, rule in MATRIX.items():
        assert set(rule.guards) <= rule.start, kind
        for status in rule.start:
            assert OUTLINES[kind].names_for(status), (kind, status)


def test_the_page_is_drawn_from_the_table() -> None:
    assert page.main(["--check"]) == 0, "run python -m scripts.lifecycle"
    resume = next(line for line in page.page().splitlines() if "**resume**" in line)
    cells = [cell.strip() for cell in resume.split("|")[2:-2]]
    assert cells == ["", "", "", "active", "active *", "", "", ""]
