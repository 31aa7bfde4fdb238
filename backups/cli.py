"""`kpax backup` and `kpax restore`: back a space up, look at its backups, bring one back."""

from __future__ import annotations

from typing import Annotated, cast
from urllib.parse import quote

import typer

from spaces.cli import Json, emit, failing, table
from spaces.client import Body, Client, connect, space_path
from spaces.errors import NotFoundError
from spaces.following import DryRun, Timeout, Wait, Why, ended, finish, line, started

backup_app = typer.Typer(no_args_is_help=True, help="Back up a space, list its backups.")

SpaceName = Annotated[str, typer.Argument(metavar="SPACE", help="Id or name of a space.")]


@backup_app.command("run")
def run(
    space: SpaceName,
    reason: Why = None,
    wait: Wait = False,
    timeout: Timeout = 600,
    as_json: Json = False,
) -> None:
    """Back a space up now.

    Example: kpax backup run acme --wait
    """
    with failing(as_json=as_json):
        client = connect()
        operation = client.post(space_path(space, "backups"), {"reason": reason})
        if not wait:
            emit(operation, as_json=as_json, text=started(operation))
            return
        last = ended(client, operation, timeout, as_json=as_json)
        backup = _backup_of(client, space, last)
        emit(backup, as_json=as_json, text=_fields(backup))
        finish(last)


@backup_app.command("list")
def list_backups(space: SpaceName, as_json: Json = False) -> None:
    """List the backups of a space, newest first, failed ones too.

    Example: kpax backup list acme
    """
    with failing(as_json=as_json):
        body = connect().get(space_path(space, "backups"))
        columns = ("backup_id", "state", "completed_at", "verified_at", "bytes_stored")
        rows = [[one[column] for column in columns] for one in _items(body)]
        headers = ("backup", "state", "completed", "verified", "bytes")
        emit(body, as_json=as_json, text=table(headers, rows))


@backup_app.command("show")
def show(
    space: SpaceName,
    backup_id: Annotated[str, typer.Argument(help="Id of a backup, or latest.")] = "latest",
    as_json: Json = False,
) -> None:
    """Show a backup: state, times, what it holds.

    Example: kpax backup show acme latest
    """
    with failing(as_json=as_json):
        path = space_path(space, "backups", quote(backup_id, safe=""))
        body = connect().get(path)
        emit(body, as_json=as_json, text=_fields(body))


def restore(
    space: SpaceName,
    at: Annotated[str, typer.Option(help="Id of a backup, or latest.")],
    reason: Why = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 600,
    as_json: Json = False,
) -> None:
    """Restore a space from a backup: database, attachments and settings of that moment.

    The new data is built and proved beside the old, then switched to. What it replaces is kept
    for seven days, so no confirmation is asked.

    Example: kpax restore acme --at latest --wait
    """
    with failing(as_json=as_json):
        client = connect()
        asked = {"backup_id": at, "dry_run": dry_run, "reason": reason}
        body = client.post(space_path(space, "restores"), asked)
        if dry_run:
            emit(body, as_json=as_json, text=_plan(body))
            return
        if not wait:
            emit(body, as_json=as_json, text=started(body))
            return
        last = ended(client, body, timeout, as_json=as_json)
        emit(last, as_json=as_json, text=line(last))
        finish(last)


def _backup_of(client: Client, space: str, operation: Body) -> Body:
    body = client.get(space_path(space, "backups"))
    for one in _items(body):
        if one["operation_id"] == operation["operation_id"]:
            return one
    raise NotFoundError(
        f"operation {operation['operation_id']} left no backup",
        remedy=f"See: kpax op show {operation['operation_id']}.",
    )


def _plan(body: Body) -> str:
    backup = cast("Body", body["backup"])
    old, new = cast("Body", body["replaces"]), cast("Body", body["replaced_by"])
    rows = [
        ("space", f"{body['name']} ({body['space_id']})"),
        ("backup", f"{backup['backup_id']}, {backup['state']}, of {backup['completed_at']}"),
        ("holds", f"{backup['rows']} rows, {backup['attachments']} attachments"),
        ("to read", f"{body['bytes_to_read']} bytes"),
        ("replaces", f"database {old['database']}, container {old['container']}"),
        ("by", f"database {new['database']}, container {new['container']}"),
        ("old data kept", f"{body['old_data_kept_days']} days"),
        ("damaged before", body["damaged_before"]),
    ]
    return "Nothing was done.\n" + table(("what", "would be"), rows)


def _fields(body: Body) -> str:
    return table(("field", "value"), list(body.items()))


def _items(body: Body) -> list[Body]:
    return cast("list[Body]", body["items"])
