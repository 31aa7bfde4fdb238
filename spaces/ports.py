"""The doors to the world, as few methods as the callers use.

Every adapter in `spaces/adapters/` and every fake in `tests/fakes/` implements one of these
protocols, and one conformance suite runs on both. Each method says what may be repeated and which
errors of `spaces.errors` it raises; anything else that a library raises is a defect of the adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from spaces.errors import DamagedError
from spaces.messages import Snapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

MOST_WRITES = 100

type Scalar = str | int | bool | float | datetime | bytes


def instant(value: Scalar) -> datetime:
    """A stored time as a time; anything else is damage of the row."""
    if not isinstance(value, datetime):
        raise DamagedError(f"a row holds {type(value).__name__} where a time belongs")
    return value


# --- tables ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One entity as it was read: its values without the keys, and the ETag of that version."""

    partition: str
    key: str
    etag: str
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Insert:
    """Create the row; a row there already refuses the whole transaction (`ConflictError`)."""

    key: str
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Replace:
    """Overwrite exactly the version `etag`; another version refuses it all (`LostRaceError`)."""

    key: str
    values: Mapping[str, Scalar]
    etag: str


@dataclass(frozen=True, slots=True)
class Put:
    """Insert or overwrite. Only beside an `Insert` or a `Replace` that guards the transaction."""

    key: str
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the row. With `etag`, exactly that version; without, whatever is there, or nothing."""

    key: str
    etag: str | None = None


type Write = Insert | Replace | Put | Delete


def check_writes(writes: Sequence[Write]) -> None:
    """Raise `ValueError` for what is no transaction: its size, a key twice, an unguarded `Put`."""
    if not 1 <= len(writes) <= MOST_WRITES:
        raise ValueError(f"a transaction has 1 to {MOST_WRITES} writes, not {len(writes)}")
    if len({write.key for write in writes}) != len(writes):
        raise ValueError("a transaction writes each key once")
    if any(isinstance(write, Put) for write in writes) and not any(
        isinstance(write, (Insert, Replace)) for write in writes
    ):
        raise ValueError("a Put stands beside an Insert or a Replace that guards it")


class Tables(Protocol):
    """Azure Table Storage: partitions, conditional writes, entity group transactions."""

    async def get(self, table: str, partition: str, key: str) -> Stored | None:
        """One row, or None where there is none. Raises `TransientError`, `ThrottledError`."""
        ...

    async def query(
        self,
        table: str,
        *,
        partition: str | None = None,
        key_from: str | None = None,
        key_below: str | None = None,
        limit: int | None = None,
    ) -> list[Stored]:
        """Rows in key order, `key_from <= key < key_below`; all partitions where none is given.

        Follows continuation tokens to the end or to `limit`.
        """
        ...

    async def commit(self, table: str, partition: str, writes: Sequence[Write]) -> None:
        """Apply all writes or none; what `check_writes` refuses is a `ValueError`.

        Raises `ConflictError`, `LostRaceError`, `ThrottledError`; `UnknownError` where the answer
        was lost and the rows must be read to know. A `Delete` of a missing row without an ETag
        counts as done.
        """
        ...


# --- service bus ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message to send: `body` is JSON text; `due_at` schedules it; ids of one queue merge."""

    queue: str
    message_id: str
    body: str
    due_at: datetime | None = None
    properties: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message seen by peeking."""

    message_id: str | None
    body: bytes
    enqueued_at: datetime | None
    delivery_count: int
    dead_letter_reason: str | None = None
    dead_letter_description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """Counts of one queue at this moment."""

    name: str
    active: int
    scheduled: int
    dead_letter: int


class Bus(Protocol):
    """Azure Service Bus queues, the sending and looking side; the Functions host receives."""

    async def send(self, messages: Sequence[Message]) -> None:
        """Send all; returns when the broker has stored each one.

        In the order given as far as queues go: what stands behind a message of another queue is
        sent when that one is stored, so that its arrival proves the other.

        May be repeated: a message id known within the queue's duplicate window is dropped by the
        broker. Raises `TransientError` (nothing sent, or unknown: repeat) and `ThrottledError`.
        """
        ...

    async def dead_letters(self, queue: str, *, limit: int = 50) -> list[Waiting]:
        """The first dead letters of a queue, peeked: nothing is locked or removed."""
        ...

    async def depths(self, queues: Sequence[str]) -> list[QueueDepth]:
        """How many messages stand in each queue, in the order asked."""
        ...

    async def oldest(self, queue: str) -> datetime | None:
        """Since when the oldest message waits that could be worked on now; None where none does.

        Peeked, so that nothing is locked; scheduled and put-off messages do not count.
        """
        ...


# --- blobs ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobInfo:
    """A blob as listed: name, size in bytes, ETag, MD5-free metadata and content type."""

    name: str
    size: int
    etag: str
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


class Blobs(Protocol):
    """Blob containers of one storage account."""

    async def ensure_container(self, container: str) -> None:
        """Make the container unless it is there. Repeatable."""
        ...

    async def delete_container(self, container: str) -> None:
        """Remove the container and all it holds; a missing one counts as done."""
        ...

    async def create(
        self,
        container: str,
        name: str,
        data: bytes | Path,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Store under a name that must be free (`If-None-Match: *`); answers the ETag.

        A file is streamed. Raises `ConflictError` when the name is taken by other bytes; the same
        bytes there already (a lost answer) count as done.
        """
        ...

    async def read(self, container: str, name: str) -> bytes:
        """The whole blob. Raises `NotFoundError`."""
        ...

    async def download(self, container: str, name: str, path: Path) -> None:
        """Stream the blob into a file. Raises `NotFoundError`."""
        ...

    async def info(self, container: str, name: str) -> BlobInfo | None:
        """What a listing would say of this blob, or None."""
        ...

    def list(self, container: str, *, prefix: str = "") -> AsyncIterator[BlobInfo]:
        """Blobs in name order; nothing where the container is missing."""
        ...

    async def delete(self, container: str, name: str) -> None:
        """Remove the blob; a missing one counts as done.

        Raises `ConflictError` where a policy keeps it (immutability, a legal hold).
        """
        ...


class Accounts(Protocol):
    """Opens the storage accounts of the estate: one per space, one for backups per cluster."""

    async def of_space(
        self, resource_group: str, account: str, endpoint: str, *, key: int = 1
    ) -> Blobs:
        """The account of a space, by its ARM names and blob endpoint.

        `key` names the one of its two keys that is in force, where keys are used at all.
        """
        ...

    async def connection_of_space(
        self, resource_group: str, account: str, endpoint: str, *, key: int = 1
    ) -> dict[str, str]:
        """How a space's own application reaches its account: the `storage` part of its settings.

        `{"account_url"}` where identities are used, `{"connection_string"}` where keys are.
        """
        ...

    async def renew_key(self, resource_group: str, account: str, *, key: int) -> None:
        """Give the account a new key of this number: what the old one opened, it opens no more.

        Nothing where identities are used. Repeatable, with another key each time.
        """
        ...

    def backup_of(self, cluster: str) -> Blobs:
        """The backup account of a cluster; it stands outside every space's stack."""
        ...


# --- resource manager -----------------------------------------------------------------------


class StackState(StrEnum):
    """What a deployment stack is doing, in the three words that matter, and absence."""

    ABSENT = "absent"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A deployment stack as the Resource Manager shows it.

    `code` and `message` tell the innermost error of a failed one; `retry_after_s` is what the
    server asked for, where it did; `outputs` are plain values by name.
    """

    name: str
    state: StackState
    outputs: Mapping[str, object] = field(default_factory=dict[str, object])
    parameters: Mapping[str, object] = field(default_factory=dict[str, object])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    code: str | None = None
    message: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackRequest:
    """All that a stack PUT needs: computed name, location of its record, template, parameters."""

    name: str
    location: str
    template: Mapping[str, object]
    parameters: Mapping[str, object]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One machine of a space's scale set, with the limits that hold it where the platform tells."""

    name: str
    zone: str
    state: str
    memory_mib: int | None = None
    cpus: float | None = None
    limited_by: str | None = None


class Power(StrEnum):
    """Whether something runs. Neither of the last two is ON or OFF."""

    ON = "on"
    OFF = "off"
    CHANGING = "changing"
    """It is being started, stopped or changed: look again."""
    PARTLY = "partly"
    """Nothing is under way, and not all of it is as the rest: say again what you want."""


class PartKind(StrEnum):
    """What of a space can be stopped and started."""

    MACHINES = "machines"
    DATABASE = "database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A scale set or a database server, by its computed names."""

    kind: PartKind
    resource_group: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a deployment would do to one resource.

    `change` is create, modify, delete, detach or no_change; `paths` are the properties that would
    change, with the values before and after.
    """

    resource: str
    change: str
    paths: tuple[tuple[str, object, object], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What the PUT of a stack would change; RUNNING while the server still compares."""

    state: StackState
    differences: tuple[Difference, ...] = ()
    code: str | None = None
    message: str | None = None
    retry_after_s: float | None = None


class Arm(Protocol):
    """Azure Resource Manager: deployment stacks at subscription scope. Nothing here waits."""

    async def put_stack(self, request: StackRequest) -> Stack:
        """Start (or repeat) the PUT of a stack under its computed name; answers at once.

        Raises `ConflictError` (another operation on that stack runs: look by name), `DeniedError`,
        `InvalidError` (the template or a parameter is wrong), `QuotaError`, `ThrottledError`,
        `TransientError` (nothing was sent), `UnknownError` (look by name).
        """
        ...

    async def get_stack(self, name: str) -> Stack:
        """The stack by name; `StackState.ABSENT` only when the server says that there is none."""
        ...

    async def delete_stack(self, name: str) -> Stack:
        """Start the deletion of a stack and all it manages; a missing one is ABSENT."""
        ...

    async def list_stacks(self) -> list[Stack]:
        """All stacks of the subscription, in name order, without outputs and parameters."""
        ...

    async def what_if_stack(self, request: StackRequest, *, asked: str) -> Foresight:
        """What `put_stack` of this request would change: begins the comparison, or looks at it.

        `asked` names this question: the same word looks at the same comparison, a new word makes a
        new one. What it leaves behind ends by itself within a day. Raises as `put_stack` does.
        """
        ...

    async def instances(self, resource_group: str, scale_set: str) -> list[Instance]:
        """The machines of a scale set, in name order."""
        ...

    async def power(self, part: Part) -> Power:
        """Whether it runs. Raises `NotFoundError`, where there is no such thing."""
        ...

    async def set_power(self, part: Part, *, on: bool) -> None:
        """Begin to start or to stop it; returns at once, and may be repeated. Look before.

        A stopped one keeps its data and stays stopped. Raises `ConflictError` while something else
        is under way there, `NotFoundError`.
        """
        ...

    async def purge_vault(self, name: str, location: str) -> bool:
        """Remove what a deleted vault left behind; True once nothing is left of it. Repeatable.

        Raises `InvalidError` where the vault's own protection forbids it.
        """
        ...


# --- database, vault, edge ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How to reach a PostgreSQL server as its administrator. `address` is `host` or `host:port`."""

    address: str
    user: str
    password: str = field(repr=False)


class Databases(Protocol):
    """Databases and roles on a space's PostgreSQL server. Every method may be repeated."""

    async def ensure_role(self, server: Server, role: str, password: str) -> None:
        """A login role with this password and no other right."""
        ...

    async def ensure_database(self, server: Server, database: str, *, owner: str) -> None:
        """A database owned by `owner`, closed to the public."""
        ...

    async def drop_database(self, server: Server, database: str) -> None:
        """Drop it with its connections; a missing one counts as done."""
        ...

    async def databases(self, server: Server) -> list[str]:
        """Names of the databases there, templates left out."""
        ...

    async def ensure_login(
        self, server: Server, role: str, password: str, *, acts_as: str
    ) -> None:
        """A login role with this password, whose sessions act as the role `acts_as`.

        What it makes belongs to that role, as if that one had logged in. The same role twice: its
        sessions are its own. Raises `NotFoundError` where `acts_as` is missing.
        """
        ...

    async def retire_login(self, server: Server, role: str) -> None:
        """Nobody logs in as this role any more, and who did is put out; its rights stay."""
        ...

    async def accepts(self, server: Server, database: str, role: str, password: str) -> bool:
        """Whether somebody can log in to this database as that, tried for real.

        Raises `TransientError` where the server does not answer.
        """
        ...


class Secrets(Protocol):
    """Key Vaults, by vault URI."""

    async def get(self, vault: str, name: str) -> str | None:
        """The newest version's value, or None where there is no such secret."""
        ...

    async def create(self, vault: str, name: str, value: str) -> str:
        """Create-only: an existing secret stays. Answers the value in force."""
        ...

    async def put_version(self, vault: str, name: str, value: str) -> None:
        """A new version that is the current one from now on."""
        ...

    async def disable_old(self, vault: str, name: str) -> None:
        """Every version but the newest can be read no more; none where there is no such secret."""
        ...

    async def delete(self, vault: str, name: str) -> bool:
        """Delete a secret and purge it; a missing one counts as done.

        False where the vault's protection keeps it, deleted, until its retention ends.
        """
        ...


class Keys(Protocol):
    """The regional key that wraps data keys; its private half never leaves the vault."""

    async def wrap(self, vault: str, key: str, data: bytes) -> tuple[str, bytes]:
        """Wrap `data`; answers the key's versioned id, and the wrapped bytes."""
        ...

    async def unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        """Unwrap by the versioned key id. Raises `WrongKeyError`, `NotFoundError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer of a space: status, headers in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Edge(Protocol):
    """The public URL of a space, asked as its customer would ask it."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Answer:
        """One request, five seconds at most. Raises `UnreachableError` where nobody answers."""
        ...


# --- billing --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A subscription as the billing system lists it.

    `sequence` is the version of this state and rises as in its events. `order_id` where billing
    knows which order it pays; `type` is the event that led here, where billing says it.
    """

    subject: str
    sequence: int
    snapshot: Snapshot
    order_id: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionPage:
    """A part of the list; `next_cursor` leads to the next one, None where this was the last.

    `total` is how many the whole list has, where billing says it.
    """

    items: tuple[Subscription, ...]
    next_cursor: str | None = None
    total: int | None = None


class Billing(Protocol):
    """The billing system, the side that answers questions. Nothing here changes anything there.

    Every method raises `UnreachableError` or `TransientError` where there is no whole answer,
    `ThrottledError`, `DeniedError`, and `DamagedError` for an answer that is not what was agreed: an
    answer cut short is never an answer.
    """

    async def subscription(self, subject: str) -> Subscription | None:
        """One subscription; None only where billing says that it knows none of this name."""
        ...

    async def page(self, cursor: str | None = None) -> SubscriptionPage:
        """The first page of all subscriptions, ended ones too, or the one behind `cursor`."""
        ...


# --- clock and chance -----------------------------------------------------------------------


class Clock(Protocol):
    """The time of day."""

    def now(self) -> datetime:
        """Aware, UTC."""
        ...


class Ids(Protocol):
    """Chance, so that tests can hold it still."""

    def token(self, size: int) -> str:
        """`size` characters out of `a-z2-7`, unguessable."""
        ...

    def secret(self) -> str:
        """A password of 32 random bytes, urlsafe text without characters that need quoting."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All doors together, as `spaces.wiring` opens them; `billing` None: there is nobody to ask."""

    tables: Tables
    bus: Bus
    accounts: Accounts
    arm: Arm
    databases: Databases
    secrets: Secrets
    keys: Keys
    edge: Edge
    clock: Clock
    ids: Ids
    billing: Billing | None = None
