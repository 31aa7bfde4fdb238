"""The story of a space out of its audit chain and its steps' rows, and whether the chain holds. Pure.

Each change of a space has one entry, so that the entries in order are all that ever happened to it;
the row of a step adds what it said and how long it took.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, cast

import msgspec

from spaces import audit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spaces.registry import StepRow

# Keys of an entry's detail that the line tells in words of its own.
_TOLD = frozenset({"step", "attempt", "phase", "kind", "reason"})
# The cause of what came by the API is a hash; a billing event's is its id.
_HASH = re.compile(r"[0-9a-f]{64}")


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the audit chain of a space holds; `first_broken` is null where it does."""

    space_id: str
    ok: bool
    entries: int
    first_broken: int | None


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a space. `seconds` is how long an ended step took."""

    seq: int
    at: datetime
    actor: str
    act: str
    kind: str | None
    operation_id: str | None
    step: str | None
    attempt: int | None
    seconds: float | None
    reason: str | None
    detail: str


def chain(space_id: str, entries: Sequence[str], head: audit.Head | None) -> Chain:
    """The verdict on a space's chain."""
    broken = audit.first_break(entries, head)
    return Chain(
        space_id=space_id, ok=broken is None, entries=len(entries), first_broken=broken
    )


def told(
    entries: Iterable[str], steps: Iterable[StepRow], *, op_id: str | None = None
) -> list[Moment]:
    """What happened, oldest first; of one operation where `op_id` names it.

    An entry that cannot be read is left out: whether the chain holds is another question, and one
    broken row must not hide the story of the others.
    """
    rows = {(row.op_id, row.name, row.attempts): row for row in steps}
    moments = [_moment(text, rows) for text in entries]
    return [
        one
        for one in moments
        if one is not None and (op_id is None or one.operation_id == op_id)
    ]


def line(moment: Moment, started: datetime) -> str:
    """A moment for a person: when, since when, who, what, how long, what it said."""
    at = f"{moment.at:%Y-%m-%d %H:%M:%S}"
    since = f"+{(moment.at - started).total_seconds():.1f} s"
    what = moment.act.removeprefix("operation.")
    if moment.kind is not None:
        what = f"{moment.kind} {what}"
    if moment.step is not None:
        attempt = f" (attempt {moment.attempt})" if (moment.attempt or 1) > 1 else ""
        what = f"{moment.step} {_PAST.get(what, what)}{attempt}"
    took = f" in {moment.seconds:.1f} s" if moment.seconds is not None else ""
    said = f": {moment.detail}" if moment.detail else ""
    why = f" · because: {moment.reason}" if moment.reason else ""
    return f"{at}  {since:>10}  {moment.actor:<14}  {what}{took}{said}{why}"


_PAST = {"advanced": "ended", "succeeded": "ended, operation succeeded"}


def _moment(text: str, rows: dict[tuple[str, str, int], StepRow]) -> Moment | None:
    try:
        entry = cast("dict[str, object]", json.loads(text))
        at = datetime.fromisoformat(str(entry["t"]))
        seq, act, actor = int(str(entry["seq"])), str(entry["act"]), str(entry["actor"])
        detail = cast("dict[str, object]", entry["d"])
        obj = str(entry["obj"])
        attempt = int(str(detail["attempt"])) if "attempt" in detail else None
    except (ValueError, KeyError, TypeError):
        return None
    op_id = obj if obj.startswith("op-") else None
    step = str(detail["step"]) if "step" in detail else None
    row = rows.get((op_id, step, attempt)) if op_id and step and attempt else None
    if act == "operation.retried":
        row = None  # the row is that of the attempt which ended the step
    rest = {
        key: value
        for key, value in detail.items()
        if key not in _TOLD and value != "" and not _HASH.fullmatch(str(value))
    }
    return Moment(
        seq=seq,
        at=at,
        actor=actor,
        act=act,
        kind=str(detail["kind"]) if "kind" in detail else None,
        operation_id=op_id,
        step=step,
        attempt=attempt,
        seconds=_seconds(row),
        reason=str(detail["reason"]) if detail.get("reason") else None,
        detail=row.detail
        if row
        else ", ".join(f"{key} {value}" for key, value in rest.items()),
    )


def _seconds(row: StepRow | None) -> float | None:
    if row is None or row.ended_at is None:
        return None
    return round((row.ended_at - row.started_at).total_seconds(), 3)
