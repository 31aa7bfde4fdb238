"""`kpax space suspend|resume|…`: what operators do to a space by a word."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from console.cli import SpaceName, operation_text, space_app
from console.rehearsal import text_of
from spaces.cli import Json, emit, failing, stop, table
from spaces.client import Body, Client, connect, space_path
from spaces.errors import Exit, FieldError, InvalidError
from spaces.following import Because, DryRun, Timeout, Wait, Why, ended, finish, started

if TYPE_CHECKING:
    from collections.abc import Mapping

Until = Annotated[
    str | None,
    typer.Option(help="When billing's word counts again, as 2026-12-31T00:00:00Z."),
]
Confirm = Annotated[str, typer.Option(help="The space's name once more.")]
Plan = Literal["starter", "standard", "premium"]


def _reasoned(word: str, text: str, *, patience_s: float = 900) -> None:
    """The command of a verb that needs nothing but a reason."""

    @space_app.command(word, help=text)
    def verb(
        space: SpaceName,
        *,
        reason: Because,
        dry_run: DryRun = False,
        wait: Wait = False,
        timeout: Timeout = patience_s,
        as_json: Json = False,
    ) -> None:
        body = {"reason": reason}
        _do(word, space, body, dry_run=dry_run, wait=wait, timeout=timeout, as_json=as_json)


def _timed(word: str, text: str) -> None:
    """The command of a verb whose word over billing's may have an end."""

    @space_app.command(word, help=text)
    def verb(
        space: SpaceName,
        *,
        reason: Because,
        until: Until = None,
        dry_run: DryRun = False,
        wait: Wait = False,
        timeout: Timeout = 900,
        as_json: Json = False,
    ) -> None:
        body = {"reason": reason, "until": until}
        _do(word, space, body, dry_run=dry_run, wait=wait, timeout=timeout, as_json=as_json)


def _confirmed(word: str, text: str) -> None:
    """The command of a verb that cannot be taken back."""

    @space_app.command(word, help=text)
    def verb(
        space: SpaceName,
        *,
        reason: Because,
        confirm: Confirm,
        dry_run: DryRun = False,
        wait: Wait = False,
        timeout: Timeout = 1800,
        as_json: Json = False,
    ) -> None:
        body = {"reason": reason, "confirm": confirm}
        _do(word, space, body, dry_run=dry_run, wait=wait, timeout=timeout, as_json=as_json)


_timed(
    "suspend",
    """Stop a space's machines and database; its data stays, its backups go on.

    Example: kpax space suspend acme --reason "unpaid since May" --wait
    """,
)
_timed(
    "resume",
    """Start a suspended space, or a cancelled one within its grace.

    Where billing wants it otherwise it is held active for fourteen days, or until --until.

    Example: kpax space resume acme --reason "paid by transfer" --wait
    """,
)
_reasoned(
    "quarantine",
    """Close a space's address and let nothing but backups happen to it.

    Example: kpax space quarantine acme --reason "suspected intrusion, case 17" --wait
    """,
)
_reasoned(
    "release",
    """End a space's quarantine.

    Example: kpax space release acme --reason "case 17 closed" --wait
    """,
)
_reasoned(
    "rotate-secrets",
    """Give a space new secrets; the old ones fail afterwards.

    Example: kpax space rotate-secrets acme --reason "yearly rotation" --wait
    """,
)
_reasoned(
    "cancel",
    """Stop a space for good after a proved final backup; it can come back within its grace.

    One that is still being opened is stopped and what was built is removed.

    Example: kpax space cancel acme --reason "contract ended" --wait
    """,
    patience_s=1800,
)
_confirmed(
    "delete",
    """Remove all resources of a cancelled space once its grace is over; its backups stay.

    Example: kpax space delete acme --reason "grace is over" --confirm acme --dry-run
    """,
)
_confirmed(
    "erase",
    """Destroy keys and backups of a deleted space once its retention is over.

    Example: kpax space erase acme --reason "retention is over" --confirm acme
    """,
)


@space_app.command("resize")
def resize(
    space: SpaceName,
    *,
    plan: Annotated[Plan, typer.Option(help="The plan it is to have.")],
    reason: Why = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 900,
    as_json: Json = False,
) -> None:
    """Give a space the machines and limits of another plan.

    Example: kpax space resize acme --plan premium --dry-run
    """
    body = {"plan": plan, "reason": reason}
    _do("resize", space, body, dry_run=dry_run, wait=wait, timeout=timeout, as_json=as_json)


@space_app.command("configure")
def configure(
    space: SpaceName,
    *,
    settings: Annotated[
        list[str],
        typer.Option("--set", metavar="K=V", help="A setting; empty for its default."),
    ],
    reason: Why = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = 900,
    as_json: Json = False,
) -> None:
    """Change settings of a space's application; its instances restart one by one.

    Example: kpax space configure acme --set title="Acme Ltd" --set locale=fr --wait
    """
    with failing(as_json=as_json):
        body = {"settings": _pairs(settings), "reason": reason}
    _do("configure", space, body, dry_run=dry_run, wait=wait, timeout=timeout, as_json=as_json)


def _do(
    word: str,
    space: str,
    body: Mapping[str, object],
    *,
    dry_run: bool,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask for it; show what would be done, what was started, or how it ended."""
    with failing(as_json=as_json):
        asked = {key: value for key, value in body.items() if value is not None}
        if "until" in asked:
            asked["until"] = _moment(str(asked["until"]))
        client = connect()
        answer = client.post(space_path(space, word), {**asked, "dry_run": dry_run})
        if dry_run:
            emit(answer, as_json=as_json, text=_rehearsed(answer))
        elif not wait:
            emit(answer, as_json=as_json, text=started(answer))
        else:
            last = ended(client, answer, timeout, as_json=as_json)
            if word == "cancel" and last["kind"] != "cancel":
                last = _cancelled(client, space, last, timeout, as_json=as_json)
            emit(last, as_json=as_json, text=operation_text(last))
            finish(last)


def _cancelled(
    client: Client, space: str, opening: Body, timeout: float, *, as_json: bool
) -> Body:
    """The cancellation that follows a stopped opening; the opening where there is none (yet)."""
    body = client.get(space_path(space, "operations"))
    for one in cast("list[Body]", body["items"]):
        if one["kind"] == "cancel":
            return ended(client, one, timeout, as_json=as_json)
    if opening["status"] == "canceled":
        emit(opening, as_json=as_json, text=operation_text(opening))
        stop(Exit.DONE)
    return opening


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidError(
                f"--set {text[:64]!r} is no setting",
                remedy="Write it as K=V: --set title=Acme.",
                errors=(FieldError(pointer="/settings", code="malformed", message="K=V"),),
            )
        pairs[name] = value
    return pairs


def _moment(text: str) -> str:
    """A moment with its zone; raises `InvalidError` for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidError(
            f"--until {text[:40]!r} is no moment",
            remedy="Write date, time and zone: 2026-12-31T00:00:00Z.",
            errors=(FieldError(pointer="/until", code="malformed", message="RFC 3339"),),
        )
    return moment.isoformat()


def _rehearsed(body: Body) -> str:
    """A dry run for a person."""
    steps = [
        (one["name"], f"{one['budget_s']:g} s", "yes" if one["undo"] else "no")
        for one in cast("list[Body]", body["steps"])
    ]
    head = (
        f"Nothing was done. A {body['operation']} of {body['name']} ({body['space_id']}) would lead"
        f" from {body['status']} to {body['status_after']}."
    )
    parts = [head, table(("step", "at most", "undone on failure"), steps)]
    changes = cast("list[Body] | None", body["changes"])
    if changes is None:
        parts.append("It does not touch the deployment stack.")
    elif not changes:
        parts.append("The deployment stack would stay as it is.")
    else:
        rows = [(one["change"], _short(str(one["resource"])), _what(one)) for one in changes]
        parts.append(table(("change", "resource", "properties"), rows))
    return "\n\n".join(parts)


def _short(resource: str) -> str:
    """A resource's id below its resource group: type and name."""
    return re.sub(r"^/subscriptions/[^/]+/resourceGroups/([^/]+/providers/)?", "", resource)


def _what(change: Body) -> str:
    told = [
        f"{one['path']}: {text_of(one['before'])} → {text_of(one['after'])}"
        for one in cast("list[Body]", change["properties"])
    ]
    return "; ".join(told)
