"""`kpax op retry|skip|rollback|abort|adopt|replay`, `kpax pause`, `kpax unpause`."""

from __future__ import annotations

from typing import Annotated, cast
from urllib.parse import quote

import typer

from console.cli import op_app, operation_text
from spaces import following
from spaces.cli import Json, emit, failing, table
from spaces.client import Body, connect, space_path
from spaces.errors import FieldError, InvalidError
from spaces.following import Because, DryRun, Timeout, Wait  # noqa: TC001 — typer reads them

pause_app = typer.Typer(
    no_args_is_help=True,
    help="Hold a space, a cluster or the fleet: nothing starts, work waits.",
)
unpause_app = typer.Typer(
    no_args_is_help=True, help="Let a space, a cluster or the fleet go on."
)

Operation = Annotated[
    str, typer.Argument(metavar="OPERATION", help="Id of an operation: kpax op list.")
]


@op_app.command("retry")
def retry(
    operation: Operation,
    *,
    reason: Because,
    step: Annotated[
        str | None, typer.Option("--from", help="An earlier step: it and all after it again.")
    ] = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 600,
    as_json: Json = False,
) -> None:
    """Do the step again at which an operation waits for an operator.

    Example: kpax op retry op-s-4mz6c2qk7d-0001 --reason "the quota is raised" --wait
    """
    more: Body = {} if step is None else {"step": step}
    with failing(as_json=as_json):
        body = _act(operation, "retry", _say(reason, dry_run=dry_run, **more))
        _told(body, dry_run=dry_run, wait=wait, timeout_s=timeout, as_json=as_json)


@op_app.command("skip")
def skip(
    operation: Operation,
    *,
    reason: Because,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 600,
    as_json: Json = False,
) -> None:
    """Go on without the step at which an operation waits for an operator.

    Example: kpax op skip op-s-4mz6c2qk7d-0001 --reason "the stack is removed by hand"
    """
    with failing(as_json=as_json):
        body = _act(operation, "skip", _say(reason, dry_run=dry_run))
        _told(body, dry_run=dry_run, wait=wait, timeout_s=timeout, as_json=as_json)


@op_app.command("rollback")
def rollback(
    operation: Operation,
    *,
    reason: Because,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 600,
    as_json: Json = False,
) -> None:
    """Undo what an operation did; one that runs ends its step first.

    Example: kpax op rollback op-s-4mz6c2qk7d-0001 --reason "the image is broken" --dry-run
    """
    with failing(as_json=as_json):
        body = _act(operation, "rollback", _say(reason, dry_run=dry_run))
        _told(body, dry_run=dry_run, wait=wait, timeout_s=timeout, as_json=as_json)


@op_app.command("abort")
def abort(
    operation: Operation,
    *,
    reason: Because,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 600,
    as_json: Json = False,
) -> None:
    """End an operation: its step ends, then everything is undone. It ends as canceled.

    One that waits for an operator on its way back ends at once; what stands is looked after.

    Example: kpax op abort op-s-4mz6c2qk7d-0001 --reason "ordered twice" --wait
    """
    with failing(as_json=as_json):
        body = _act(operation, "abort", _say(reason, dry_run=dry_run))
        _told(body, dry_run=dry_run, wait=wait, timeout_s=timeout, as_json=as_json)


@op_app.command("adopt")
def adopt(
    operation: Operation,
    *,
    reason: Because,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 600,
    as_json: Json = False,
) -> None:
    """Take what stands as the effect of the step that failed, once a look shows it.

    Example: kpax op adopt op-s-4mz6c2qk7d-0001 --reason "deployed by hand" --wait
    """
    with failing(as_json=as_json):
        body = _act(operation, "adopt", _say(reason, dry_run=dry_run))
        _told(body, dry_run=dry_run, wait=wait, timeout_s=timeout, as_json=as_json)


@op_app.command("replay")
def replay(
    operation: Operation,
    *,
    reason: Because,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 600,
    as_json: Json = False,
) -> None:
    """Send again what an operation promised: its next message, its events.

    Example: kpax op replay op-s-4mz6c2qk7d-0001 --reason "the broker was restored"
    """
    with failing(as_json=as_json):
        body = _act(operation, "replay", _say(reason, dry_run=dry_run))
        _told(body, dry_run=dry_run, wait=wait, timeout_s=timeout, as_json=as_json)


Space = Annotated[str, typer.Argument(metavar="SPACE", help="Id or name of a space.")]
Cluster = Annotated[str, typer.Argument(metavar="CLUSTER", help="A cluster: france, uk, ...")]


@pause_app.command("space")
def pause_space(
    space: Space, reason: Because, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Hold one space.

    Example: kpax pause space acme --reason "its database is looked at"
    """
    _paused(space_path(space, "pause"), reason, dry_run=dry_run, as_json=as_json)


@pause_app.command("cluster")
def pause_cluster(
    cluster: Cluster, reason: Because, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Hold every space of a cluster.

    Example: kpax pause cluster france --reason "the region is out of service"
    """
    path = f"/clusters/{quote(cluster, safe='')}/pause"
    _paused(path, reason, dry_run=dry_run, as_json=as_json)


@pause_app.command("fleet")
def pause_fleet(reason: Because, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Hold every space.

    Example: kpax pause fleet --reason "a defect in the release"
    """
    _paused("/fleet/pause", reason, dry_run=dry_run, as_json=as_json)


@pause_app.command("list")
def list_pauses(as_json: Json = False) -> None:
    """List the pauses that stand.

    Example: kpax pause list
    """
    with failing(as_json=as_json):
        body = connect().get("/pauses")
        rows = [
            (one["scope"], one["id"], one["actor"], one["at"], one["reason"], one["operations"])
            for one in cast("list[Body]", body["items"])
        ]
        headers = ("paused", "id", "by", "since", "reason", "operations")
        emit(body, as_json=as_json, text=table(headers, rows))


@unpause_app.command("space")
def unpause_space(
    space: Space, reason: Because, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Let one space go on.

    Example: kpax unpause space acme --reason "it is well again"
    """
    _paused(space_path(space, "unpause"), reason, dry_run=dry_run, as_json=as_json)


@unpause_app.command("cluster")
def unpause_cluster(
    cluster: Cluster, reason: Because, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Let every space of a cluster go on.

    Example: kpax unpause cluster france --reason "the region is back"
    """
    path = f"/clusters/{quote(cluster, safe='')}/unpause"
    _paused(path, reason, dry_run=dry_run, as_json=as_json)


@unpause_app.command("fleet")
def unpause_fleet(reason: Because, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Let every space go on.

    Example: kpax unpause fleet --reason "the release is mended"
    """
    _paused("/fleet/unpause", reason, dry_run=dry_run, as_json=as_json)


def _paused(path: str, reason: str, *, dry_run: bool, as_json: bool) -> None:
    with failing(as_json=as_json):
        told = _say(reason, dry_run=dry_run)
        body = connect().post(path, told)
        emit(body, as_json=as_json, text=_pause_text(body))


def _say(reason: str, *, dry_run: bool, **more: object) -> Body:
    """The request; a reason that is empty is refused here already."""
    if not reason.strip():
        raise InvalidError(
            "a reason is needed",
            where="--reason",
            remedy="Say in a few words why: it stands in the audit chain.",
            errors=(FieldError(pointer="/reason", code="required", message="is empty"),),
        )
    return {"reason": reason, "dry_run": dry_run, **more}


def _act(operation: str, action: str, told: Body) -> Body:
    return connect().post(f"/operations/{quote(operation, safe='')}/{action}", told)


def _told(body: Body, *, dry_run: bool, wait: bool, timeout_s: float, as_json: bool) -> None:
    """Print what came of it; with `wait` when the operation has ended, and by its exit code."""
    if dry_run:
        emit(body, as_json=as_json, text=_foreseen_text(body))
        return
    if not wait:
        emit(body, as_json=as_json, text=operation_text(body))
        return
    ended = following.ended(connect(), body, timeout_s, as_json=as_json)
    emit(ended, as_json=as_json, text=operation_text(ended))
    following.finish(ended)


def _foreseen_text(body: Body) -> str:
    steps = ", ".join(cast("list[str]", body["steps"])) or "nothing"
    lines = [
        f"{body['operation_id']} ({body['kind']}) stands at step {body['stands_at']}",
        *([f"It waits: {body['waits_because']}"] if body["waits_because"] else []),
        f"It would end as {body['ends']}."
        if body["ends"]
        else f"It would {'undo' if body['undoes'] else 'do'}: {steps}.",
    ]
    return "\n".join(lines)


def _pause_text(body: Body) -> str:
    name = f" {body['id']}" if body["id"] else ""
    would = "would be " if body["dry_run"] else "is "
    state = "paused" if body["paused"] else "let go"
    held = ", ".join(cast("list[str]", body["operations"])) or "none"
    return f"{body['scope']}{name} {would}{state}; operations there: {held}"
