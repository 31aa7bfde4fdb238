"""Load a space; commit its state, steps, inbox, outbox and audit entry in one transaction.

All rows of a space stand in one partition of the table `spaces`, so that one entity group
transaction covers them. Rows: `state` (the space), `state_audit` (head of the audit chain),
`op!{op}`, `step!{op}!{nn}`, `in!{hash}`, `out!next`, `out!ev!{seq}`, `aud!{seq}`, `bkp!{id}`.
Refuses to know what an operation does. Source: control-plane.md 3.2 and amendments 2, 14.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from spaces import audit
from spaces.errors import DamagedError, NotFoundError
from spaces.model import Facts, OpStatus, Space
from spaces.ports import Delete, Insert, Message, Put, Replace, Write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spaces.ports import Scalar, Stored, Tables

SPACES = "spaces"
DIRECTORY = "directory"
HOSTS = "hosts"
HOST_ROW = "host"
EVENTS_QUEUE = "space-events"
_NOTHING = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A space with the versions that a commit must still find."""

    space: Space
    etag: str
    head: audit.Head
    head_etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A CloudEvent to publish: its type (`space.activated`) and data."""

    type: str
    data: Facts = field(default_factory=dict[str, "str | int | float | bool | None"])


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One step of an operation, as its row keeps it."""

    op_id: str
    number: int
    name: str
    status: OpStatus
    started_at: datetime
    ended_at: datetime | None
    attempts: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpRow:
    """One operation, as its row keeps it; while it runs, the space's state row knows more."""

    op_id: str
    space_id: str
    kind: str
    status: OpStatus
    steps: tuple[str, ...]
    started_at: datetime
    ended_at: datetime | None
    error: str | None
    params: Facts
    error_kind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """All that one transaction writes.

    `inbox` names what caused it (source, id): the same cause twice refuses the transaction.
    `next` replaces the promised message; None leaves the promise as it is, `NO_MESSAGE` clears it.
    `delivered` says that everything promised before has arrived, so that sent events are cleared.
    """

    space: Space
    entry: audit.Entry
    inbox: tuple[str, str] | None = None
    next: Message | None = None
    events: tuple[Event, ...] = ()
    op: OpRow | None = None
    steps: tuple[StepRow, ...] = ()
    rows: tuple[Write, ...] = ()
    delivered: bool = False


NO_MESSAGE = Message(queue=_NOTHING, message_id=_NOTHING, body=_NOTHING)


class Registry:
    """The rows of spaces, over the Tables port."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def load(self, space_id: str) -> Loaded | None:
        """The space and its versions in one range read, or None."""
        rows = await self._tables.query(
            SPACES, partition=space_id, key_from="state", key_below="statf"
        )
        by_key = {row.key: row for row in rows}
        if "state" not in by_key or "state_audit" not in by_key:
            return None
        state, head = by_key["state"], by_key["state_audit"]
        return Loaded(
            space=_decode(str(state.values["doc"]), Space),
            etag=state.etag,
            head=audit.Head(seq=int(str(head.values["seq"])), hash=str(head.values["hash"])),
            head_etag=head.etag,
        )

    async def require(self, space_id: str) -> Loaded:
        """The space, or `NotFoundError`."""
        loaded = await self.load(space_id)
        if loaded is None:
            raise NotFoundError(f"no space {space_id}", remedy="See: kpax space list.")
        return loaded

    async def create(self, change: Change, *, now: datetime) -> list[Message]:
        """Insert a new space with its first audit entry; answers the messages to send.

        Raises `ConflictError` when the space is there already.
        """
        space, promised, rows = _promises(change, now)
        head, text = audit.append(audit.Head(), change.entry, space_id=space.space_id, at=now)
        writes: list[Write] = [
            Insert("state", _state_values(space)),
            Insert("state_audit", {"seq": head.seq, "hash": head.hash}),
            Insert(_audit_key(head.seq), {"entry": text}),
            *rows,
            *_common(change, now),
        ]
        await self._tables.commit(SPACES, space.space_id, writes)
        return promised

    async def commit(self, loaded: Loaded, change: Change, *, now: datetime) -> list[Message]:
        """Write one step of a space's life; answers the messages now promised, to be sent next.

        Nothing is applied when it raises `LostRaceError` (another version), `ConflictError` (this
        cause was applied before); on `UnknownError` read the space again.
        """
        space, promised, rows = _promises(change, now)
        head, text = audit.append(loaded.head, change.entry, space_id=space.space_id, at=now)
        space, cleared = _clear_delivered(space, loaded.space, delivered=change.delivered)
        writes: list[Write] = [
            Replace("state", _state_values(space), loaded.etag),
            Replace("state_audit", {"seq": head.seq, "hash": head.hash}, loaded.head_etag),
            Insert(_audit_key(head.seq), {"entry": text}),
            *rows,
            *cleared,
            *_common(change, now),
        ]
        await self._tables.commit(SPACES, space.space_id, writes)
        return promised

    async def find(self, id_or_name: str) -> Loaded:
        """A space by its id, by the name it holds, or by the name it held last.

        A space that failed has given its name back and is still asked for by it.
        Raises `NotFoundError` where there is none.
        """
        known = re.fullmatch(r"[a-z][a-z0-9-]{1,40}", id_or_name) is not None
        if known and id_or_name.startswith("s-"):
            loaded = await self.load(id_or_name)
            if loaded is not None:
                return loaded
        row = await self._tables.get(HOSTS, id_or_name, HOST_ROW) if known else None
        if row is not None:
            return await self.require(str(row.values["space_id"]))
        earlier = await self._once_named(id_or_name) if known else []
        if not earlier:
            raise NotFoundError(f"no space {id_or_name[:64]}", remedy="See: kpax space list.")
        return max(earlier, key=lambda loaded: loaded.space.created_at)

    async def _once_named(self, name: str) -> list[Loaded]:
        rows = await self._tables.query(DIRECTORY)
        found = [await self.load(row.key) for row in rows if row.values.get("name") == name]
        return [loaded for loaded in found if loaded is not None]

    async def promised(self, space_id: str) -> tuple[Message | None, list[Message]]:
        """What the outbox says: the next message of the operation, and events not yet cleared."""
        rows = await self._tables.query(
            SPACES, partition=space_id, key_from="out!", key_below='out"'
        )
        following: Message | None = None
        events: list[Message] = []
        for row in rows:
            message = _message_of(row)
            if row.key == "out!next":
                following = message if message.queue else None
            else:
                events.append(message)
        return following, events

    async def has_seen(self, space_id: str, source: str, cause_id: str) -> bool:
        """True when this cause was applied to this space."""
        key = inbox_key(source, cause_id)
        return await self._tables.get(SPACES, space_id, key) is not None

    async def operation(self, space_id: str, op_id: str) -> tuple[OpRow, list[StepRow]] | None:
        """An operation's row and those of its finished steps, or None."""
        row = await self._tables.get(SPACES, space_id, f"op!{op_id}")
        if row is None:
            return None
        steps = await self._tables.query(
            SPACES, partition=space_id, key_from=f"step!{op_id}!", key_below=f'step!{op_id}"'
        )
        decoded = [_decode(str(step.values["doc"]), StepRow) for step in steps]
        return _decode(str(row.values["doc"]), OpRow), decoded

    async def operations(self, space_id: str) -> list[OpRow]:
        """All operations of a space, oldest first."""
        rows = await self._tables.query(
            SPACES, partition=space_id, key_from="op!", key_below='op"'
        )
        return [_decode(str(row.values["doc"]), OpRow) for row in rows]

    async def audit_entries(self, space_id: str) -> list[str]:
        """The canonical texts of a space's audit entries, oldest first."""
        rows = await self._tables.query(
            SPACES, partition=space_id, key_from="aud!", key_below='aud"'
        )
        return [str(row.values["entry"]) for row in rows]

    async def audit_chain(self, space_id: str) -> tuple[list[str], audit.Head | None]:
        """A space's audit entries and the head they must end at; no head where its row is gone.

        Head first: an entry written in between is then one too many, and the chain is read again.
        """
        while True:
            head = await self._audit_head(space_id)
            entries = await self.audit_entries(space_id)
            if await self._audit_head(space_id) == head:
                return entries, head

    async def _audit_head(self, space_id: str) -> audit.Head | None:
        row = await self._tables.get(SPACES, space_id, "state_audit")
        if row is None or not str(row.values.get("seq")).isdigit():
            return None
        return audit.Head(seq=int(str(row.values["seq"])), hash=str(row.values.get("hash")))

    async def steps(self, space_id: str) -> list[StepRow]:
        """The rows of all ended steps of a space, in the order of their operations."""
        rows = await self._tables.query(
            SPACES, partition=space_id, key_from="step!", key_below='step"'
        )
        return [_decode(str(row.values["doc"]), StepRow) for row in rows]

    async def id_of(self, id_or_name: str) -> str:
        """A space's id, also where its state cannot be read any more; raises `NotFoundError`."""
        if id_or_name.startswith("s-") and id_or_name in await self.ids():
            return id_or_name
        return (await self.find(id_or_name)).space.space_id

    async def states(self) -> list[Space]:
        """Every space as its state row has it, in one scan over all partitions."""
        rows = await self._tables.query(SPACES, key_from="state", key_below="state!")
        return [_decode(str(row.values["doc"]), Space) for row in rows]

    async def ids(self, *, cluster: str | None = None) -> list[str]:
        """Ids of all spaces, or of those of one cluster, from the directory."""
        rows = await self._tables.query(DIRECTORY, partition=cluster)
        return [row.key for row in rows]


def inbox_key(source: str, cause_id: str) -> str:
    """The row key of a cause; foreign text never stands in a key (control-plane.md am. 2)."""
    raw = hashlib.sha256(f"{source}\x00{cause_id}".encode()).digest()
    return "in!" + base64.b32encode(raw).decode().rstrip("=").lower()


def _promises(change: Change, now: datetime) -> tuple[Space, list[Message], list[Write]]:
    """Give the events their numbers; answers the space, the messages to send, the outbox rows."""
    space = change.space
    rows: list[Write] = []
    messages: list[Message] = []
    for event in change.events:
        space = replace(space, event_seq=space.event_seq + 1)
        message = _cloud_event(space, event, now)
        messages.append(message)
        rows.append(Put(f"out!ev!{space.event_seq:012}", _message_values(message)))
    if change.next is not None:
        rows.append(Put("out!next", _message_values(change.next)))
        if change.next.queue:
            messages.append(change.next)
    return space, messages, rows


def _cloud_event(space: Space, event: Event, now: datetime) -> Message:
    message_id = f"{space.space_id}-ev-{space.event_seq:012}"
    body = {
        "specversion": "1.0",
        "id": message_id,
        "source": "/kpax/spaces",
        "type": event.type,
        "time": now.isoformat(),
        "subject": space.space_id,
        "datacontenttype": "application/json",
        "data": {
            "sequence": space.event_seq,
            # By these billing knows which of its subscriptions is meant.
            "order_id": space.order_id,
            "subscription": space.subscription,
            **event.data,
        },
    }
    return Message(
        queue=EVENTS_QUEUE, message_id=message_id, body=msgspec.json.encode(body).decode()
    )


def _clear_delivered(
    space: Space, before: Space, *, delivered: bool
) -> tuple[Space, list[Write]]:
    """Remove the event rows of earlier commits once the arrival of a message proves them sent.

    The numbers are exact, because rows come and go in the same transactions as `events_cleared`:
    deleting a missing row would refuse the whole transaction.
    """
    if not delivered:
        return space, []
    gone = range(before.events_cleared + 1, before.event_seq + 1)
    cleared: list[Write] = [Delete(f"out!ev!{seq:012}") for seq in gone]
    return replace(space, events_cleared=before.event_seq), cleared


def _common(change: Change, now: datetime) -> list[Write]:
    writes: list[Write] = []
    if change.inbox is not None:
        source, cause_id = change.inbox
        writes.append(
            Insert(
                inbox_key(source, cause_id),
                {"source": source, "cause_id": cause_id[:1024], "at": now},
            )
        )
    if change.op is not None:
        doc = {"doc": _encode(change.op), "status": change.op.status.value}
        writes.append(Put(f"op!{change.op.op_id}", doc))
    writes.extend(
        Put(f"step!{step.op_id}!{step.number:02}", {"doc": _encode(step)})
        for step in change.steps
    )
    writes.extend(change.rows)
    return writes


def _audit_key(seq: int) -> str:
    return f"aud!{seq:012}"


def _state_values(space: Space) -> Mapping[str, Scalar]:
    return {
        "doc": _encode(space),
        "status": space.status.value,
        "name": space.name,
        "cluster": space.cluster,
    }


def _message_values(message: Message) -> Mapping[str, Scalar]:
    values: dict[str, Scalar] = {
        "queue": message.queue,
        "message_id": message.message_id,
        "body": message.body,
    }
    if message.due_at is not None:
        values["due_at"] = message.due_at
    return values


def _message_of(row: Stored) -> Message:
    due = row.values.get("due_at")
    return Message(
        queue=str(row.values["queue"]),
        message_id=str(row.values["message_id"]),
        body=str(row.values["body"]),
        due_at=due if isinstance(due, datetime) else None,
    )


def _encode(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _decode[T](text: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise DamagedError(f"a row is no {kind.__name__} any more: {error}") from error
