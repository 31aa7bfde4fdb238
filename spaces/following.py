"""What commands share that start an operation: wait for its end, tell how it goes, exit as it ended."""

from __future__ import annotations

from typing import Annotated, cast
from urllib.parse import quote

import typer

from spaces.cli import emit, say, stop
from spaces.client import Body, Client, exit_of, wait_for_operation
from spaces.errors import Exit

Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for the end; the exit code says how it was.")
]
Timeout = Annotated[
    float, typer.Option(min=0, help="Seconds to wait; exit code 4 when they are over.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would be done; do nothing.")]
Why = Annotated[str | None, typer.Option("--reason", help="Why; kept in the audit entry.")]
Because = Annotated[
    str, typer.Option("--reason", help="Why; kept in the audit entry. Must be given.")
]


def ended(client: Client, operation: Body, timeout_s: float, *, as_json: bool) -> Body:
    """The ended operation, its progress told on stderr; exit code 4 when time is over first."""
    op_id = str(operation["operation_id"])
    last = wait_for_operation(client, op_id, timeout_s=timeout_s, progress=progress)
    if last is None:
        say(f"Not done after {timeout_s:g} s; it goes on. Look: kpax op show {op_id}")
        current = client.get(f"/operations/{quote(op_id, safe='')}")
        emit(current, as_json=as_json, text=line(current))
        stop(Exit.QUEUED)
    return last


def finish(operation: Body) -> None:
    """End with the exit code of an ended operation."""
    code = exit_of(operation)
    if code is not Exit.DONE:
        say(f"Error: {operation.get('error')}")
        stop(code)


def progress(operation: Body) -> None:
    """Say where an operation stands."""
    steps = cast("list[Body]", operation["steps"])
    at = next((step for step in steps if step["status"] == "running"), None)
    told = f"{operation['kind']} {operation['status']}"
    if at is not None:
        told += f" · {at['name']}" + (f" · {at['detail']}" if at["detail"] else "")
    say(told)


def started(operation: Body) -> str:
    """What to say of an operation that was started and is not waited for."""
    op_id = operation["operation_id"]
    return f"Started {operation['kind']} {op_id}. Watch it: kpax op show {op_id}"


def line(operation: Body) -> str:
    """An operation in one line."""
    return f"{operation['operation_id']}  {operation['kind']}: {operation['status']}"
