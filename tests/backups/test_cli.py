"""`kpax backup` and `kpax restore` over the real HTTP layer and steps; only the wire is short."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

import backups.triggers
import console.triggers
from backups.cli import backup_app, restore
from kpax import COMMANDS
from spaces import client, http
from spaces.settings import settings
from tests.backups.world import FILES, ROWS, World
from tests.builders import some_environment
from tests.fakes import Script
from tests.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

HANDLERS: dict[str, http.Handler] = {
    "backups_list": backups.triggers.list_backups,
    "backups_get": backups.triggers.get_backup,
    "backups_create": backups.triggers.create_backup,
    "restores_create": backups.triggers.create_restore,
    "operations_get": console.triggers.get_operation,
}


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    for name, value in some_environment(KPAX_API_URL="http://nobody").items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    world = asyncio.run(World().open())
    here = Wire(world, HANDLERS)
    monkeypatch.setattr(http, "ports", lambda: world.bare)
    monkeypatch.setattr(backups.triggers, "plans", lambda: world.plans)
    monkeypatch.setattr(backups.triggers, "Places", lambda _: world.places)
    monkeypatch.setattr(client.Client, "raw", here.raw)
    monkeypatch.setattr(client.time, "sleep", lambda _: None)
    yield here
    settings.cache_clear()


def kpax(*argv: str) -> Any:
    """Run a command of this room; answers typer's result."""
    app = backup_app
    arguments = list(argv[1:])
    if argv[0] == "restore":
        app = typer.Typer()
        app.command()(restore)
    return CliRunner().invoke(app, arguments)


def body(result: Any) -> Any:
    """The one JSON object on stdout."""
    return json.loads(result.stdout)


def test_a_backup_without_wait_prints_the_operation(wire: Wire) -> None:
    result = kpax("backup", "run", "acme", "--json")
    assert result.exit_code == 0
    assert set(body(result)) >= {"operation_id", "space_id", "kind", "status", "steps", "error"}
    assert (body(result)["kind"], body(result)["status"]) == ("backup", "running")
    assert [step["name"] for step in body(result)["steps"]] == ["capture", "publish", "verify"]
    assert result.stderr == ""


def test_a_backup_with_wait_prints_the_backup_and_talks_on_stderr(wire: Wire) -> None:
    result = kpax("backup", "run", "acme", "--wait", "--json")
    assert result.exit_code == 0, result.output
    told = body(result)
    assert told["state"] == "verified"
    assert told["bytes_stored"] > 0
    assert told["completed_at"]
    assert told["backup_id"].startswith("bkp-")
    assert "backup succeeded" in result.stderr
    listed = body(kpax("backup", "list", "acme", "--json"))
    assert listed == {"items": [told]}
    assert body(kpax("backup", "show", wire.world.first.space_id, "--json")) == told


def test_a_restore_with_wait_prints_the_ended_operation(wire: Wire) -> None:
    kpax("backup", "run", "acme", "--wait")
    asyncio.run(wire.world.destroy())
    result = kpax("restore", "acme", "--at", "latest", "--wait", "--json")
    assert result.exit_code == 0, result.output
    assert (body(result)["kind"], body(result)["status"]) == ("restore", "succeeded")
    assert asyncio.run(wire.world.served()) == (ROWS, FILES)


def test_a_dry_run_prints_the_plan(wire: Wire) -> None:
    kpax("backup", "run", "acme", "--wait")
    result = kpax("restore", "acme", "--at", "latest", "--dry-run", "--json")
    assert result.exit_code == 0
    assert body(result)["dry_run"] is True
    assert body(result)["replaces"] == {"database": "app", "container": "attachments"}
    text = kpax("restore", "acme", "--at", "latest", "--dry-run").stdout
    assert "Nothing was done." in text


@pytest.mark.parametrize("part", ["-database", "-files-", "-contents", "k/0001", "s/bkp"])
def test_one_flipped_byte_ends_with_seven_and_names_the_object(wire: Wire, part: str) -> None:
    kpax("backup", "run", "acme", "--wait")
    world = wire.world
    name = next(name for name in asyncio.run(world.stored()) if part in name)
    world.vaulted.flip(world.first.space_id, name, 45)
    result = kpax("restore", "acme", "--at", "latest", "--wait", "--json")
    assert result.exit_code == 7, result.output
    assert body(result)["error_kind"] == "damaged"
    assert name in body(result)["error"]
    assert name in result.stderr
    assert asyncio.run(world.served()) == (ROWS, FILES)
    if part in {"k/0001", "s/bkp"}:
        planned = kpax("restore", "acme", "--at", "latest", "--dry-run", "--json")
        assert planned.exit_code == 7
        assert name in body(planned)["title"]


def test_a_lost_regional_key_ends_a_backup_with_one(wire: Wire) -> None:
    wire.world.bare.keys.forget("https://kv-kx-france.vault.azure.net/", "backup-kek")  # pyright: ignore[reportAttributeAccessIssue]
    result = kpax("backup", "run", "acme", "--wait", "--json")
    assert result.exit_code == 1
    assert body(result)["state"] == "failed"


def test_time_that_is_over_ends_with_four(wire: Wire) -> None:
    wire.stands_still = True
    result = kpax("backup", "run", "acme", "--wait", "--timeout", "0", "--json")
    assert result.exit_code == 4
    assert body(result)["status"] == "running"


def test_an_operator_is_needed_ends_with_five(wire: Wire) -> None:
    kpax("backup", "run", "acme", "--wait")
    world = wire.world
    world.floor_s = 60
    world.data.stuck = {"app": 1}
    name = f"{world.first.space_id}-1"

    puts = world.arm.put_stack

    async def breaks(request: Any) -> Any:
        """The stack works once, for the switch, and not for the way back."""
        if str(request.parameters["configRevision"]) == "3":
            world.arm.scripts[name] = Script(failure=("Conflict", "no"))
        return await puts(request)

    world.arm.put_stack = breaks  # pyright: ignore[reportAttributeAccessIssue]
    result = kpax("restore", "acme", "--at", "latest", "--wait", "--json")
    assert result.exit_code == 5, result.output
    assert body(result)["status"] == "needsOperator"


@pytest.mark.parametrize(
    ("argv", "code", "slug"),
    [
        (("backup", "run", "nobody", "--json"), 2, "not-found"),
        (("backup", "list", "nobody", "--json"), 2, "not-found"),
        (("backup", "show", "acme", "--json"), 2, "not-found"),
        (("restore", "nobody", "--at", "latest", "--json"), 2, "not-found"),
        (("restore", "acme", "--at", "latest", "--json"), 2, "not-found"),
        (("restore", "acme", "--at", "bkp-1", "--dry-run", "--json"), 2, "not-found"),
    ],
)
def test_what_is_not_known_ends_with_two(
    wire: Wire, argv: tuple[str, ...], code: int, slug: str
) -> None:
    result = kpax(*argv)
    assert result.exit_code == code
    assert body(result)["type"].endswith(slug)


def test_a_busy_space_refuses_with_three(wire: Wire) -> None:
    kpax("backup", "run", "acme")
    result = kpax("backup", "run", "acme", "--json")
    assert result.exit_code == 3
    assert body(result)["type"].endswith("operation-running")
    assert "kpax op show" in body(result)["detail"]
    text = kpax("backup", "run", "acme")
    assert text.exit_code == 3
    assert text.stdout == ""
    assert "is running on this space" in text.stderr


def test_a_restore_must_say_which_backup(wire: Wire) -> None:
    assert kpax("restore", "acme").exit_code == 2


def test_without_a_stack_the_command_that_starts_one_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KPAX_API_URL", raising=False)
    monkeypatch.setattr(client, "_resolvers", [])
    result = kpax("backup", "list", "acme")
    assert result.exit_code == 6
    assert "kpax up" in result.stderr


@pytest.mark.parametrize("verb", ["run", "list", "show"])
def test_every_command_shows_an_example(verb: str) -> None:
    assert "Example: kpax" in kpax("backup", verb, "--help").stdout
    assert "Example: kpax restore" in kpax("restore", "--help").stdout
    assert COMMANDS["restore"].target == "backups.cli:restore"
