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


MATRIX: dict[OpKind, Transition] = {
    OpKind.PROVISION: Transition(
        start=frozenset({Status.REQUESTED}), success=Status.ACTIVE, failure=Status.FAILED
    ),
    OpKind.BACKUP: Transition(
        start=frozenset({Status.ACTIVE, Status.SUSPENDED, Status.CANCELLED})
    ),
    OpKind.RESTORE: Transition(start=frozenset({Status.ACTIVE, Status.SUSPENDED})),
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
