"""Speak as the billing system does: build its events, and keep its list where one is kept.

For operators and for trying things out; nothing of the running system comes here. The list is a file
of the form that `KPAX_BILLING_FILE` names, so that who speaks can also be asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from provisioning.billing import TYPES
from spaces.client import Body
from spaces.desire import WISHES
from spaces.errors import FieldError, InvalidError
from spaces.model import Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

# What an event of a type says of the status, where the type alone says it; else it stays as it was.
STATUS_OF = {
    "created": "active",
    "activated": "active",
    "resumed": "active",
    "reactivated": "active",
    "paid": "active",
    "trial_ending": "trialing",
    "payment_failed": "past_due",
    "suspended": "suspended",
    "cancelled": "cancelled",
    "deleted": "deleted",
}


def _one_of(name: str, words: Sequence[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in words:
            raise ValueError(f"{name} is one of {', '.join(sorted(words))}")
        return text

    return check


def _moment(text: str) -> str:
    at = datetime.fromisoformat(text)
    return _wire(at if at.tzinfo else at.replace(tzinfo=UTC))


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**31:
        raise ValueError("a number from 0 to 2147483647")
    return number


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("true or false")
    return text == "true"


FIELDS: dict[str, Callable[[str], object]] = {
    "status": _one_of("status", list(WISHES)),
    "plan": _one_of("plan", list(Tier)),
    "quantity": _count,
    "currency": str,
    "country": str,
    "period_end": _moment,
    "grace_days": _count,
    "legal_hold": _flag,
    "customer_ref": str,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What to say: `base` is the snapshot as it was, `changes` what is different now."""

    kind: str
    event_id: str
    subject: str
    order_id: str | None
    sequence: int | None
    base: Body
    changes: Body = field(default_factory=dict[str, object])
    reason: str | None = None


def kind_of(word: str) -> str:
    """The type that a word names: all of it, or its end (`activated`, `invoice.paid`).

    Raises `InvalidError` with the known types.
    """
    found = [kind for kind in TYPES if kind == word or kind.endswith("." + word)]
    if len(found) != 1:
        known = ", ".join(sorted(kind.rpartition(".")[2] for kind in TYPES))
        raise InvalidError(f"no event type is called {word[:60]!r}", remedy=f"Known: {known}.")
    return found[0]


def changes_of(texts: Sequence[str]) -> Body:
    """`field=value` texts as snapshot values; `InvalidError` names the known fields."""
    changes: Body = {}
    wrong: list[FieldError] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in FIELDS:
            known = ", ".join(FIELDS)
            wrong.append(
                FieldError(
                    pointer=f"/{name}", code="unknown", message=f"field=value; known: {known}"
                )
            )
            continue
        try:
            changes[name] = FIELDS[name](value)
        except ValueError as error:
            wrong.append(FieldError(pointer=f"/{name}", code="invalid", message=str(error)))
    if wrong:
        raise InvalidError(
            f"--set {wrong[0].pointer.removeprefix('/')}: {wrong[0].message}",
            errors=tuple(wrong),
        )
    return changes


def event_body(said: Said) -> Body:
    """A billing event with the whole state of its subscription; without one where it is a hint."""
    now = datetime.now(UTC).replace(microsecond=0)
    data: Body = {}
    if said.sequence is not None:
        data = {"sequence": said.sequence, "snapshot": _snapshot(said, now)}
    if said.order_id is not None:
        data["order_id"] = said.order_id
    if said.reason:
        data["reason"] = said.reason
    return {
        "specversion": "1.0",
        "id": said.event_id,
        "source": "/billing",
        "type": said.kind,
        "time": _wire(now),
        "subject": said.subject,
        "datacontenttype": "application/json",
        "data": data,
    }


def _snapshot(said: Said, now: datetime) -> Body:
    """The state after the event: what was, what the type says, and what is set by hand."""
    base = {name: value for name, value in said.base.items() if name in FIELDS}
    period_end = str(base.get("period_end", ""))
    if not period_end or datetime.fromisoformat(period_end) <= now:
        base["period_end"] = _wire(now + timedelta(days=30))
    given: Body = {
        "status": "active",
        "plan": Tier.STARTER.value,
        "quantity": 1,
        "currency": "EUR",
        "country": "DE",
        "period_end": "",
        "grace_days": 14,
        "legal_hold": False,
        "customer_ref": said.subject[:200],
    }
    status = STATUS_OF.get(said.kind.rpartition(".")[2])
    told: Body = {} if status is None else {"status": status}
    return {**given, **base, **told, **said.changes}


def _wire(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Book:
    """The list of subscriptions in a file; without a file it knows nothing and keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def known(self, subject: str) -> Body | None:
        """What was said last of a subscription, or None."""
        return self._read().get(subject)

    def next_sequence(self, subject: str) -> int:
        """One more than was said last; 1 for the first."""
        known = self.known(subject)
        return 1 if known is None else cast("int", known["sequence"]) + 1

    def keep(self, body: Body) -> None:
        """Keep what an event says, unless a later state is there already."""
        data = cast("Body", body["data"])
        if self._path is None or "sequence" not in data:
            return
        subject, sequence = str(body["subject"]), cast("int", data["sequence"])
        with self._locked():
            listed = self._read()
            known = listed.get(subject)
            if known is not None and cast("int", known["sequence"]) >= sequence:
                return
            order_id = data.get("order_id") or (known or {}).get("order_id")
            listed[subject] = {
                "subject": subject,
                "sequence": sequence,
                "snapshot": data["snapshot"],
                "type": body["type"],
                **({"order_id": order_id} if order_id else {}),
            }
            whole = json.dumps({"items": list(listed.values())}, indent=1)
            beside = self._path.with_name(self._path.name + ".new")
            beside.write_text(whole)
            beside.replace(self._path)

    def _read(self) -> dict[str, Body]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            found = cast("Body", json.loads(self._path.read_bytes()))
            items = cast("list[Body]", found["items"])
            return {str(one["subject"]): one for one in items}
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidError(
                f"{self._path} is no list of subscriptions", remedy="Mend it, or delete it."
            ) from error

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        assert self._path is not None  # noqa: S101 - keep() has looked
        beside = self._path.with_name(self._path.name + ".lock")
        handle = os.open(beside, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
