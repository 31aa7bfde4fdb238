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


def _action(word: str, text: str) -> None:
    """The command of an action that needs nothing but a reason."""

    @op_app.command(word, help=text)
    def act(
        operation: Operation,
        *,
        reason: Because,
        dry_run: DryRun = False,
        wait: Wait = False,
        timeout: Timeout = 600,
        as_json: Json = False,
    ) -> None:
        with failing(as_json=as_json):
            body = _act(operation, word, _say(reason, dry_run=dry_run))
            _told(body, dry_run=dry_run, wait=wait, timeout_s=timeout, as_json=as_json)


_action(
    "skip",
    """Go on without the step at which an operation waits for an operator.

    Example: kpax op skip op-s-4mz6c2qk7d-0001 --reason "the stack is removed by hand"
    """,
)
_action(
    "rollback",
    """Undo what an operation did; one that runs ends its step first.

    Example: kpax op rollback op-s-4mz6c2qk7d-0001 --reason "the image is broken" --dry-run
    """,
)
_action(
    "abort",
    """End an operation: its step ends, then everything is undone. It ends as canceled.

    One that waits for an operator on its way back ends at once; what stands is looked after.

    Example: kpax op abort op-s-4mz6c2qk7d-0001 --reason "ordered twice" --wait
    """,
)
_action(
    "adopt",
    """Take what stands as the effect of the step that failed, once a look shows it.

    Example: kpax op adopt op-s-4mz6c2qk7d-0001 --reason "deployed by hand" --wait
    """,
)
_action(
    "replay",
    """Send again what an operation promised: its next message, its events.

    Example: kpax op replay op-s-4mz6c2qk7d-0001 --reason "the broker was restored"
    """,
)

Space = Annotated[str, typer.Argument(metavar="SPACE", help="Id or name of a space.")]
Cluster = Annotated[str, typer.Argument(metavar="CLUSTER", help="A cluster: france, uk, ...")]


def _scopes(app: typer.Typer, word: str, verb: str, *, whys: tuple[str, str, str]) -> None:
    """The commands of `pause` or `unpause` for a space, a cluster and the fleet."""
    of_space, of_cluster, of_fleet = whys

    @app.command(
        "space",
        help=f"""{verb.format("one space")}.

        Example: kpax {word} space acme --reason "{of_space}"
        """,
    )
    def one_space(
        space: Space, reason: Because, dry_run: DryRun = False, as_json: Json = False
    ) -> None:
        _paused(space_path(space, word), reason, dry_run=dry_run, as_json=as_json)

    @app.command(
        "cluster",
        help=f"""{verb.format("every space of a cluster")}.

        Example: kpax {word} cluster france --reason "{of_cluster}"
        """,
    )
    def one_cluster(
        cluster: Cluster, reason: Because, dry_run: DryRun = False, as_json: Json = False
    ) -> None:
        path = f"/clusters/{quote(cluster, safe='')}/{word}"
        _paused(path, reason, dry_run=dry_run, as_json=as_json)

    @app.command(
        "fleet",
        help=f"""{verb.format("every space")}.

        Example: kpax {word} fleet --reason "{of_fleet}"
        """,
    )
    def the_fleet(reason: Because, dry_run: DryRun = False, as_json: Json = False) -> None:
        _paused(f"/fleet/{word}", reason, dry_run=dry_run, as_json=as_json)


_scopes(
    pause_app,
    "pause",
    "Hold {}",
    whys=(
        "its database is looked at",
        "the region is out of service",
        "a defect in the release",
    ),
)
_scopes(
    unpause_app,
    "unpause",
    "Let {} go on",
    whys=("it is well again", "the region is back", "the release is mended"),
)


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
