"""`kpax space`, `kpax op`, `kpax queue`: look at what the system does."""

from __future__ import annotations

from typing import Annotated, cast
from urllib.parse import quote, urlencode

import msgspec
import typer

from console import story
from spaces.cli import Json, emit, failing, table
from spaces.client import Body, connect, space_path

space_app = typer.Typer(no_args_is_help=True, help="Look at spaces.")
op_app = typer.Typer(no_args_is_help=True, help="Look at operations and their steps.")
queue_app = typer.Typer(no_args_is_help=True, help="Look at queues.")

SpaceName = Annotated[str, typer.Argument(help="Id or name of a space.")]


@space_app.command("list")
def list_spaces(
    cluster: Annotated[str | None, typer.Option(help="Only this cluster.")] = None,
    status: Annotated[str | None, typer.Option(help="Only this status.")] = None,
    as_json: Json = False,
) -> None:
    """List spaces.

    Example: kpax space list --cluster france
    """
    with failing(as_json=as_json):
        asked = {"cluster": cluster, "status": status}
        query = urlencode({key: value for key, value in asked.items() if value})
        body = connect().get(f"/spaces?{query}" if query else "/spaces")
        rows = [
            (
                one["name"],
                one["space_id"],
                one["status"],
                one["cluster"],
                one["plan"],
                one["url"],
                _operation(one),
            )
            for one in _items(body)
        ]
        headers = ("name", "space", "status", "cluster", "plan", "url", "operation")
        emit(body, as_json=as_json, text=table(headers, rows))


@space_app.command("show")
def show_space(space: SpaceName, as_json: Json = False) -> None:
    """Show a space: status, URL, instances with their limits, last backup.

    Example: kpax space show acme
    """
    with failing(as_json=as_json):
        body = connect().get(space_path(space))
        emit(body, as_json=as_json, text=_space_text(body))


@op_app.command("list")
def list_operations(
    space: Annotated[
        str | None, typer.Argument(help="Id or name of a space; all without.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the operations of a space, or of all spaces, newest first.

    Example: kpax op list acme
    """
    with failing(as_json=as_json):
        body = connect().get(space_path(space, "operations") if space else "/operations")
        rows = [
            (
                one["operation_id"],
                one["space_id"],
                one["kind"],
                one["status"],
                one["started_at"],
                one["error"],
            )
            for one in _items(body)
        ]
        headers = ("operation", "space", "kind", "status", "started", "error")
        emit(body, as_json=as_json, text=table(headers, rows))


@op_app.command("show")
def show_operation(
    operation_id: Annotated[str, typer.Argument(help="Id of an operation.")],
    as_json: Json = False,
) -> None:
    """Show an operation with its steps.

    Example: kpax op show op-s-4mz6c2qk7d-0001
    """
    with failing(as_json=as_json):
        body = connect().get(f"/operations/{quote(operation_id, safe='')}")
        emit(body, as_json=as_json, text=operation_text(body))


@op_app.command("timeline")
def timeline(
    space: Annotated[
        str, typer.Argument(help="Id or name of a space, or the id of an operation.")
    ],
    as_json: Json = False,
) -> None:
    """Tell what happened to a space, line by line, oldest first.

    Example: kpax op timeline acme
    """
    with failing(as_json=as_json):
        body = connect().get(space_path(space, "timeline"))
        emit(body, as_json=as_json, text=_timeline_text(body))


@queue_app.command("list")
def list_queues(as_json: Json = False) -> None:
    """List queues with their depths, dead letters and rejected messages.

    Example: kpax queue list
    """
    with failing(as_json=as_json):
        body = connect().get("/queues")
        headers = ("queue", "active", "scheduled", "dead", "rejected")
        rows = [
            (
                one["name"],
                one["active"],
                one["scheduled"],
                one["dead_letter"],
                len(cast("list[Body]", one["rejected"])),
            )
            for one in _items(body)
        ]
        told = [
            f"  {one['name']}: {wrong['reason']} — {wrong['detail']}"
            for one in _items(body)
            for wrong in cast("list[Body]", one["rejected"])
        ]
        text = table(headers, rows)
        emit(
            body,
            as_json=as_json,
            text="\n".join([text, *(["", "Rejected:", *told] if told else [])]),
        )


def operation_text(body: Body) -> str:
    """An operation as a table of its steps."""
    rows = [
        (
            one["name"],
            one["status"],
            one["attempts"],
            one["started_at"],
            one["ended_at"],
            one["detail"],
        )
        for one in cast("list[Body]", body["steps"])
    ]
    head = f"{body['operation_id']}  {body['kind']} of {body['space_id']}: {body['status']}"
    if body.get("error"):
        head += f"\n{body['error']}"
    return (
        head + "\n" + table(("step", "status", "attempts", "started", "ended", "detail"), rows)
    )


def _space_text(body: Body) -> str:
    keys = (
        "name", "space_id", "status", "cluster", "azure_region", "zones", "url", "plan", "release",
        "customer_ref", "desired", "failure", "activated_at",
    )  # fmt: skip
    told: list[tuple[str, object]] = [(key, body.get(key)) for key in keys]
    told += [
        (key, _said(body[key]))
        for key in ("override", "quarantined", "paused", "deletion_lock")
        if body.get(key)
    ]
    told += [
        (key, body[key])
        for key in ("cancelled_at", "grace_until", "final_backup", "deleted_at", "retain_until")
        if body.get(key)
    ]
    tombstone = cast("Body | None", body.get("tombstone"))
    if tombstone:
        told += [("erased_at", tombstone["at"]), ("proof", tombstone["proof"])]
    text = table(("field", "value"), told)
    instances = cast("list[Body]", body["instances"])
    if instances:
        headers = ("instance", "zone", "state", "memory MiB", "cpus", "limited by")
        rows = [
            (
                one["name"],
                one["zone"],
                one["state"],
                one["memory_mib"],
                one["cpus"],
                one["limited_by"],
            )
            for one in instances
        ]
        text += "\n\n" + table(headers, rows)
    last = cast("Body | None", body["last_backup"])
    text += "\n\n" + (
        f"Last backup {last['backup_id']} at {last['completed_at']},"
        f" verified {last['verified_at'] or 'not yet'}"
        if last
        else "No backup yet."
    )
    operation = cast("Body | None", body["operation"])
    return text + ("\n\n" + operation_text(operation) if operation else "")


def _said(value: object) -> str:
    """What somebody said of a space, in one line."""
    mark = cast("Body", value)
    wish = f"{mark['wish']} " if mark["wish"] else ""
    until = f" until {mark['until']}" if mark["until"] else ""
    return f"{wish}by {mark['actor']} since {mark['at']}{until}: {mark['reason']}"


def _timeline_text(body: Body) -> str:
    moments = [msgspec.convert(one, type=story.Moment, strict=False) for one in _items(body)]
    lines = [story.line(one, moments[0].at) for one in moments]
    return "\n".join([f"{body['name']} ({body['space_id']})", *lines])


def _items(body: Body) -> list[Body]:
    return cast("list[Body]", body["items"])


def _operation(body: Body) -> str | None:
    operation = cast("Body | None", body["operation"])
    if operation is None:
        return None
    steps = cast("list[Body]", operation["steps"])
    now = [str(one["name"]) for one in steps if one["status"] == "running"]
    return f"{operation['kind']}: {', '.join(now) or operation['status']}"
