"""The audit chain of a space: each entry carries the hash of the one before.

Entry and head are written in the same transaction as the change they tell of. Hash =
SHA-256(0x00 ‖ canonical JSON); source: access-and-security.md 2.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

EMPTY = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest entry's number and hash; number 0 before the first entry."""

    seq: int = 0
    hash: str = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Who did what to which object; `detail` holds ids and words, never personal data or secrets."""

    act: str
    actor: str
    obj: str
    detail: dict[str, str | int | bool | None]


def append(head: Head, entry: Entry, *, space_id: str, at: datetime) -> tuple[Head, str]:
    """The next head, and the entry as the canonical JSON text that its hash covers."""
    text = json.dumps(
        {
            "v": 1,
            "seq": head.seq + 1,
            "t": at.isoformat(),
            "space": space_id,
            "actor": entry.actor,
            "act": entry.act,
            "obj": entry.obj,
            "d": entry.detail,
            "prev": head.hash,
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return Head(seq=head.seq + 1, hash=digest(text)), text


def digest(text: str) -> str:
    """The hash of an entry's canonical text, in hex."""
    return hashlib.sha256(b"\x00" + text.encode()).hexdigest()


def first_break(entries: Sequence[str], head: Head | None) -> int | None:
    """The number of the first entry that is not what was written, or None where the chain holds.

    An entry is known by the hash that the next one carries, the last by the head's. Where two do not
    fit, the first was changed if the second is what its own successor says, else the second. A
    missing entry counts at its own number, what is cut off at the end (a missing `head` too) at
    the number after the last that is there.
    """
    previous = Head()
    for number, text in enumerate(entries, start=1):
        links, here = _links(text), Head(seq=number, hash=digest(text))
        if links != (number, previous.hash):
            in_place = links is not None and links[0] == number > 1
            behind = entries[number] if number < len(entries) else None
            stands = (
                head == here if behind is None else _links(behind) == (number + 1, here.hash)
            )
            return number - 1 if in_place and stands else number
        previous = here
    if previous == head:
        return None
    return (
        previous.seq if head is not None and head.seq == previous.seq > 0 else previous.seq + 1
    )


def _links(text: str) -> tuple[object, object] | None:
    """An entry's own number and the hash it carries of the one before; None for what is no entry."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    entry = cast("dict[str, object]", value)
    return entry.get("seq"), entry.get("prev")
