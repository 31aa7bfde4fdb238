"""Which operation may start from which status, and where it leads: the whole matrix as data.

Source: control-plane.md 3.3. What is not listed here is refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spaces.errors import RefusedError
from spaces.model import OpKind, Status

if TYPE_CHECKING:
    from spaces.model import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Where an operation may start, and the status after success and after failure (None: same)."""

    start: frozenset[Status]
    success: Status | None = None
    failure: Status | None = None


_DATA = frozenset({Status.ACTIVE, Status.SUSPENDED, Status.CANCELLED})
_LIVING = _DATA | {Status.REQUESTED}

MATRIX: dict[OpKind, Transition] = {
    OpKind.PROVISION: Transition(
        start=frozenset({Status.REQUESTED}), success=Status.ACTIVE, failure=Status.FAILED
    ),
    OpKind.RESIZE: Transition(start=frozenset({Status.ACTIVE})),
    OpKind.CONFIGURE: Transition(start=frozenset({Status.ACTIVE, Status.SUSPENDED})),
    OpKind.ROTATE_SECRETS: Transition(start=frozenset({Status.ACTIVE})),
    OpKind.SUSPEND: Transition(start=frozenset({Status.ACTIVE}), success=Status.SUSPENDED),
    OpKind.RESUME: Transition(
        start=frozenset({Status.SUSPENDED, Status.CANCELLED}), success=Status.ACTIVE
    ),
    OpKind.BACKUP: Transition(start=_DATA),
    OpKind.RESTORE: Transition(start=frozenset({Status.ACTIVE, Status.SUSPENDED})),
    OpKind.CANCEL: Transition(
        start=frozenset({Status.REQUESTED, Status.ACTIVE, Status.SUSPENDED}),
        success=Status.CANCELLED,
    ),
    OpKind.DELETE: Transition(start=frozenset({Status.CANCELLED}), success=Status.DELETED),
    # A space that never had data has nothing to delete first (control-plane.md amendment 5).
    OpKind.ERASE: Transition(
        start=frozenset({Status.DELETED, Status.CANCELLED, Status.FAILED}),
        success=Status.ERASED,
    ),
    OpKind.QUARANTINE: Transition(start=_LIVING | {Status.FAILED, Status.DELETED}),
    OpKind.RELEASE: Transition(start=_LIVING | {Status.FAILED, Status.DELETED}),
}


def may_start(space: Space, kind: OpKind) -> None:
    """Return when `kind` may start on `space` now; raise `RefusedError` with the reason otherwise."""
    where = f"space {space.space_id} · {space.name}"
    if space.op is not None:
        raise RefusedError(
            f"operation {space.op.op_id} ({space.op.kind}) is running on this space",
            where=where,
            remedy=f"Wait for it: kpax op show {space.op.op_id}.",
            slug="operation-running",
            members={"operation_id": space.op.op_id},
        )
    allowed = MATRIX[kind].start
    if space.status not in allowed:
        raise RefusedError(
            f"a {kind} cannot start from status {space.status}",
            where=where,
            remedy=f"Allowed from: {', '.join(sorted(allowed))}.",
            members={"current_status": space.status, "allowed": sorted(allowed)},
        )
