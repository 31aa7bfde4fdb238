"""`kpax space suspend|resume|…` over the real HTTP layer, steps and planner; only the wire is short."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import backups.triggers
import console.triggers
from console import verb_triggers
from console.space_cli import space_app
from spaces import client, http
from spaces.model import OpKind, Status, Wish
from spaces.settings import settings
from tests.builders import some_environment
from tests.life.world import World
from tests.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spaces.model import Space

HANDLERS: dict[str, http.Handler] = {
    **verb_triggers.HANDLERS,
    "operations_get": console.triggers.get_operation,
    "spaces_operations": console.triggers.list_operations,
}
DONE, BAD, REFUSED = 0, 2, 3


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    for name, value in some_environment(KPAX_API_URL="http://nobody").items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    world = asyncio.run(World().open())
    here = Wire(world, HANDLERS)
    monkeypatch.setattr(http, "ports", lambda: world.bare)
    monkeypatch.setattr(backups.triggers, "Places", lambda _: world.places)
    monkeypatch.setattr(client.Client, "raw", here.raw)
    monkeypatch.setattr(client.time, "sleep", lambda _: None)
    yield here
    settings.cache_clear()


def kpax(*argv: str, code: int = DONE) -> Any:
    """Run `kpax space …` with --json; answers the one object on stdout."""
    result = CliRunner().invoke(space_app, [*argv, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if result.stdout.startswith("{") else None


def space_of(wire: Wire) -> Space:
    return asyncio.run(wire.world.space())


def test_suspend_and_resume_write_the_wish_and_do_it(wire: Wire) -> None:
    told = kpax("suspend", "acme", "--reason", "unpaid", "--wait")
    assert (told["kind"], told["status"]) == ("suspend", "succeeded")
    space = space_of(wire)
    assert (space.status, space.desired) == (Status.SUSPENDED, "suspended")
    assert space.override is not None
    assert (space.override.wish, space.override.reason) == (Wish.SUSPENDED, "unpaid")
    kpax("resume", "acme", "--reason", "paid", "--wait")
    space = space_of(wire)
    assert (space.status, space.override, space.desired) == (Status.ACTIVE, None, "active")


def test_a_hold_against_billing_has_an_end(wire: Wire) -> None:
    kpax("cancel", "acme", "--reason", "ended", "--wait")
    assert space_of(wire).status is Status.CANCELLED
    kpax("resume", "acme", "--reason", "back", "--until", "2027-01-01T00:00:00Z", "--wait")
    assert space_of(wire).status is Status.ACTIVE


def test_the_same_key_starts_one_operation(wire: Wire) -> None:
    body = {"reason": "twice"}
    headers = {"Idempotency-Key": "k-1"}
    path = "/spaces/acme/quarantine"
    first = json.loads(wire.raw("POST", path, body=body, headers=headers)[1])
    second = json.loads(wire.raw("POST", path, body=body, headers=headers)[1])
    assert first["operation_id"] == second["operation_id"]


def test_quarantine_lets_nothing_else_happen_until_release(wire: Wire) -> None:
    kpax("quarantine", "acme", "--reason", "case 17", "--wait")
    told = kpax("suspend", "acme", "--reason", "x", code=REFUSED)
    assert told["type"].endswith("quarantined")
    kpax("release", "acme", "--reason", "case closed", "--wait")
    assert space_of(wire).quarantined is None


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("suspend", "acme"), BAD),
        (("suspend", "acme", "--reason", ""), BAD),
        (("suspend", "acme", "--reason", "   "), BAD),
        (("suspend", "nobody", "--reason", "x"), BAD),
        (("suspend", "acme", "--reason", "x", "--until", "soon"), BAD),
        (("suspend", "acme", "--reason", "x", "--until", "2020-01-01T00:00:00Z"), BAD),
        (("resume", "acme", "--reason", "x"), REFUSED),
        (("release", "acme", "--reason", "x"), REFUSED),
        (("resize", "acme", "--plan", "huge"), BAD),
        (("resize", "acme", "--plan", "standard"), REFUSED),
        (("configure", "acme"), BAD),
        (("configure", "acme", "--set", "nothing"), BAD),
        (("configure", "acme", "--set", "color=red"), BAD),
        (("cancel", "acme"), BAD),
        (("delete", "acme", "--reason", "x"), BAD),
        (("delete", "acme", "--reason", "x", "--confirm", "other"), BAD),
        (("delete", "acme", "--reason", "x", "--confirm", "acme"), REFUSED),
        (("erase", "acme", "--reason", "x", "--confirm", "acme"), REFUSED),
        (("rotate-secrets", "acme"), BAD),
    ],
)
def test_what_is_wrong_or_not_allowed_changes_nothing(
    wire: Wire, argv: tuple[str, ...], code: int
) -> None:
    before = space_of(wire)
    kpax(*argv, code=code)
    assert space_of(wire) == before


def test_resize_and_configure_and_rotate(wire: Wire) -> None:
    kpax("resize", "acme", "--plan", "premium", "--wait")
    assert space_of(wire).tier.value == "premium"
    kpax("configure", "acme", "--set", "title=Acme Ltd", "--wait", "--reason", "renamed")
    assert dict(space_of(wire).app_settings)["title"] == "Acme Ltd"
    before = space_of(wire).secret_revision
    kpax("rotate-secrets", "acme", "--reason", "yearly", "--wait")
    assert space_of(wire).secret_revision == before + 1


def test_a_dry_run_tells_steps_and_changes_and_does_nothing(wire: Wire) -> None:
    before = space_of(wire)
    told = kpax("resize", "acme", "--plan", "premium", "--dry-run")
    assert told["dry_run"] is True
    assert (told["operation"], told["status"], told["status_after"]) == (
        "resize", "active", "active",
    )  # fmt: skip
    assert [one["name"] for one in told["steps"]] == ["deploy", "smoke", "settle"]
    assert [one["change"] for one in told["changes"]] == ["modify"]
    assert space_of(wire) == before
    said = CliRunner().invoke(space_app, ["resize", "acme", "--plan", "premium", "--dry-run"])
    assert said.stdout.startswith("Nothing was done. A resize of acme")


def test_a_dry_run_is_refused_as_the_deed_would_be(wire: Wire) -> None:
    kpax("resume", "acme", "--reason", "x", "--dry-run", code=REFUSED)
    kpax("delete", "acme", "--reason", "x", "--confirm", "no", "--dry-run", code=BAD)


def test_from_cancel_to_erase(wire: Wire) -> None:
    kpax("cancel", "acme", "--reason", "ended", "--wait")
    space = space_of(wire)
    assert space.final_backup is not None
    assert space.grace_until is not None
    kpax("delete", "acme", "--reason", "now", "--confirm", "acme", code=REFUSED)
    wire.world.clock.advance((space.grace_until - wire.world.clock.now()).total_seconds() + 1)
    told = kpax("delete", "acme", "--reason", "now", "--confirm", "acme", "--dry-run")
    assert told["status_after"] == "deleted"
    kpax("delete", "acme", "--reason", "grace over", "--confirm", "acme", "--wait")
    space = space_of(wire)
    assert space.status is Status.DELETED
    assert space.retain_until is not None
    kpax("erase", "acme", "--reason", "now", "--confirm", "acme", code=REFUSED)
    wire.world.clock.advance((space.retain_until - wire.world.clock.now()).total_seconds() + 1)
    kpax("erase", space.space_id, "--reason", "over", "--confirm", space.space_id, "--wait")
    erased = space_of(wire)
    assert erased.status is Status.ERASED
    assert erased.tombstone is not None


def test_a_deletion_that_the_planner_began_is_joined(wire: Wire) -> None:
    kpax("cancel", "acme", "--reason", "ended", "--wait")
    space = space_of(wire)
    assert space.grace_until is not None
    wire.world.clock.advance((space.grace_until - wire.world.clock.now()).total_seconds() + 1)
    begun = asyncio.run(wire.world.do(OpKind.DELETE))
    told = kpax("delete", "acme", "--reason", "now", "--confirm", "acme")
    assert (told["operation_id"], told["status"]) == (begun, "running")


def test_every_verb_has_its_command_and_its_operation() -> None:
    words = {command.name for command in space_app.registered_commands} - {"list", "show"}
    assert words == {verb.word for verb in verb_triggers.VERBS.values()}
    kinds = {verb.kind for verb in verb_triggers.VERBS.values()}
    assert kinds == set(OpKind) - {OpKind.PROVISION, OpKind.BACKUP, OpKind.RESTORE}


def test_the_reason_stands_in_the_audit_entry(wire: Wire) -> None:
    kpax("suspend", "acme", "--reason", "unpaid since May")
    space_id = space_of(wire).space_id
    entries = asyncio.run(wire.world.registry.audit_entries(space_id))
    assert json.loads(entries[-1])["d"]["reason"] == "unpaid since May"


def test_an_override_ends_by_itself(wire: Wire) -> None:
    until = (wire.world.clock.now() + timedelta(hours=1)).isoformat()
    kpax("suspend", "acme", "--reason", "for an hour", "--until", until, "--wait")
    space = space_of(wire)
    assert space.plan_due is not None
    assert space.plan_due <= wire.world.clock.now() + timedelta(hours=1)
