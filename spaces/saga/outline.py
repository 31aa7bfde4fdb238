"""Every kind of operation as data: its steps in order, their budgets, its queue and its events.

What a step does stands in the room that carries it; that it exists, and how long it may take,
stands here, so that any room can start an operation that another one carries. A new operation is an
outline here, a line in `spaces.lifecycle`, and a small module per step.

Budgets in seconds: each is longer than a lost message takes to be found and said again, so that
one lost message alone fails no step. Sources: control-plane.md 3.3 and 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spaces.model import OpKind, Status
from spaces.saga.outcomes import Plan, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spaces.saga.outcomes import Act

PROVISIONING = "provisioning-steps"
BACKUPS = "backup-runs"

# One attempt of a long copy: below the limit of a function call, so that we end it and not the host.
COPY_S = 480.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step without its effect: `undo` says that it has to be undone on the way back.

    `when` names the statuses in which an operation that starts has this step; None: always.
    """

    name: str
    budget_s: float
    attempt_s: float = 0.0
    undo: bool = False
    when: frozenset[Status] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """An operation without its effects; what `begin` needs to start it. See `Plan` for the events."""

    kind: OpKind
    queue: str
    steps: tuple[Stage, ...]
    started: str = ""
    succeeded: str = ""
    failed: str = ""

    def names_for(self, status: Status) -> tuple[str, ...]:
        """The steps of an operation that starts on a space of this status."""
        return tuple(
            stage.name for stage in self.steps if stage.when is None or status in stage.when
        )

    def step(self, name: str) -> Stage:
        """The step of that name; `KeyError` where this release no longer has it."""
        for stage in self.steps:
            if stage.name == name:
                return stage
        raise KeyError(f"no step {name} in {self.kind}")


def bind(
    outline: Outline,
    acts: Mapping[str, Act],
    undos: Mapping[str, Act] | None = None,
    as_told: Act | None = None,
) -> Plan:
    """The outline with its effects. Raises `ValueError` where one is missing or too many."""
    undos = undos or {}
    names = {stage.name for stage in outline.steps}
    undone = {stage.name for stage in outline.steps if stage.undo}
    if set(acts) != names or set(undos) != undone:
        raise ValueError(
            f"{outline.kind} is bound wrongly: acts {sorted(set(acts) ^ names)},"
            f" undos {sorted(set(undos) ^ undone)}"
        )
    return Plan(
        kind=outline.kind,
        queue=outline.queue,
        steps=tuple(
            Step(
                name=stage.name,
                act=acts[stage.name],
                undo=undos.get(stage.name),
                budget_s=stage.budget_s,
                attempt_s=stage.attempt_s,
            )
            for stage in outline.steps
        ),
        started=outline.started,
        succeeded=outline.succeeded,
        failed=outline.failed,
        as_told=as_told,
    )


_DEPLOY_S = 1800
_SHORT_S = 300
# Where there can be data; a space that was only requested has none.
_FILLED = frozenset({Status.ACTIVE, Status.SUSPENDED})
# Where machines run, and where everything rests but for the time of a copy.
_RUNNING = frozenset({Status.ACTIVE})
_ASLEEP = frozenset({Status.SUSPENDED, Status.CANCELLED})
_DELETED = frozenset({Status.DELETED})

OUTLINES: dict[OpKind, Outline] = {
    outline.kind: outline
    for outline in (
        Outline(
            kind=OpKind.PROVISION,
            queue=PROVISIONING,
            steps=(
                Stage(name="route", budget_s=_DEPLOY_S, undo=True),
                Stage(name="reserve", budget_s=_SHORT_S, undo=True),
                Stage(name="deploy", budget_s=_DEPLOY_S, undo=True),
                Stage(name="data", budget_s=900),
                Stage(name="start", budget_s=_SHORT_S),
                Stage(name="publish", budget_s=_SHORT_S),
                Stage(name="smoke", budget_s=_SHORT_S),
                Stage(name="activate", budget_s=_SHORT_S),
            ),
            started="space.provisioning",
            failed="space.provisioning_failed",
        ),
        Outline(
            kind=OpKind.RESIZE,
            queue=PROVISIONING,
            steps=(
                Stage(name="deploy", budget_s=_DEPLOY_S, undo=True),
                Stage(name="smoke", budget_s=_SHORT_S),
                Stage(name="settle", budget_s=_SHORT_S),
            ),
            succeeded="space.resized",
        ),
        Outline(
            kind=OpKind.CONFIGURE,
            queue=PROVISIONING,
            steps=(
                Stage(name="tell", budget_s=_SHORT_S, undo=True),
                Stage(name="restart", budget_s=_DEPLOY_S, undo=True, when=_RUNNING),
                Stage(name="smoke", budget_s=_SHORT_S, when=_RUNNING),
                Stage(name="settle", budget_s=_SHORT_S),
            ),
            succeeded="space.configured",
        ),
        Outline(
            kind=OpKind.ROTATE_SECRETS,
            queue=PROVISIONING,
            steps=(
                Stage(name="prepare", budget_s=_SHORT_S, undo=True),
                Stage(name="tell", budget_s=_SHORT_S, undo=True),
                Stage(name="restart", budget_s=_DEPLOY_S, undo=True),
                Stage(name="smoke", budget_s=_SHORT_S),
                Stage(name="retire", budget_s=_SHORT_S),
                Stage(name="settle", budget_s=_SHORT_S),
            ),
            succeeded="space.secrets_rotated",
        ),
        Outline(
            kind=OpKind.SUSPEND,
            queue=PROVISIONING,
            steps=(
                Stage(name="close", budget_s=_DEPLOY_S, undo=True),
                Stage(name="stop", budget_s=900, undo=True),
                Stage(name="stop_database", budget_s=900, undo=True),
                Stage(name="settle", budget_s=_SHORT_S),
            ),
            succeeded="space.suspended",
        ),
        Outline(
            kind=OpKind.RESUME,
            queue=PROVISIONING,
            steps=(
                Stage(name="start_database", budget_s=900, undo=True),
                Stage(name="start", budget_s=900, undo=True),
                Stage(name="open", budget_s=_DEPLOY_S, undo=True),
                Stage(name="smoke", budget_s=_SHORT_S),
                Stage(name="settle", budget_s=_SHORT_S),
            ),
            succeeded="space.resumed",
        ),
        Outline(
            kind=OpKind.QUARANTINE,
            queue=PROVISIONING,
            steps=(
                Stage(name="close", budget_s=_DEPLOY_S, undo=True),
                Stage(name="settle", budget_s=_SHORT_S),
            ),
            succeeded="space.quarantined",
        ),
        Outline(
            kind=OpKind.RELEASE,
            queue=PROVISIONING,
            steps=(
                Stage(name="open", budget_s=_DEPLOY_S, undo=True),
                Stage(name="settle", budget_s=_SHORT_S),
            ),
            succeeded="space.released",
        ),
        Outline(
            kind=OpKind.DELETE,
            # Beside the backups: it must see the final one stand before anything is removed.
            queue=BACKUPS,
            steps=(
                Stage(name="guard", budget_s=_SHORT_S),
                # What cannot be removed is given to an operator: that is its way back.
                Stage(name="remove", budget_s=_DEPLOY_S, undo=True),
                Stage(name="purge", budget_s=900),
                Stage(name="settle", budget_s=_SHORT_S),
            ),
            succeeded="space.deleted",
        ),
        Outline(
            kind=OpKind.BACKUP,
            queue=BACKUPS,
            steps=(
                Stage(name="wake", budget_s=900, undo=True, when=_ASLEEP),
                Stage(name="capture", budget_s=3600, attempt_s=COPY_S),
                Stage(name="publish", budget_s=600),
                Stage(name="verify", budget_s=3600, attempt_s=COPY_S, undo=True),
                # Undone by waking it: what is undone after it needs the database.
                Stage(name="sleep", budget_s=900, undo=True, when=_ASLEEP),
            ),
            failed="space.backup.failed",
        ),
        Outline(
            kind=OpKind.RESTORE,
            queue=BACKUPS,
            steps=(
                Stage(name="wake", budget_s=900, undo=True, when=_ASLEEP),
                Stage(name="prepare", budget_s=600),
                Stage(name="load", budget_s=3600, attempt_s=COPY_S, undo=True),
                Stage(name="check", budget_s=3600, attempt_s=COPY_S),
                Stage(name="switch", budget_s=_DEPLOY_S, undo=True),
                Stage(name="restart", budget_s=_DEPLOY_S),
                Stage(name="confirm", budget_s=_SHORT_S),
                Stage(name="sleep", budget_s=900, undo=True, when=_ASLEEP),
            ),
        ),
        Outline(
            kind=OpKind.CANCEL,
            queue=BACKUPS,
            steps=(
                Stage(name="close", budget_s=_DEPLOY_S, undo=True, when=_FILLED),
                Stage(name="stop", budget_s=900, undo=True, when=_FILLED),
                Stage(name="wake", budget_s=900, undo=True, when=_FILLED),
                Stage(name="capture", budget_s=3600, attempt_s=COPY_S, when=_FILLED),
                Stage(name="publish", budget_s=600, when=_FILLED),
                Stage(name="verify", budget_s=3600, attempt_s=COPY_S, undo=True, when=_FILLED),
                Stage(name="sleep", budget_s=900, undo=True, when=_FILLED),
                Stage(name="settle", budget_s=_SHORT_S),
            ),
            succeeded="space.cancelled",
        ),
        Outline(
            kind=OpKind.ERASE,
            queue=BACKUPS,
            steps=(
                Stage(name="guard", budget_s=_SHORT_S),
                Stage(name="destroy_keys", budget_s=900),
                # Before the bytes go: that they cannot be read is what has to be shown.
                Stage(name="prove", budget_s=_SHORT_S, when=_DELETED),
                Stage(name="destroy_backups", budget_s=_DEPLOY_S, when=_DELETED),
                Stage(name="settle", budget_s=_SHORT_S),
            ),
            succeeded="space.erased",
        ),
    )
}
