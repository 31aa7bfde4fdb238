"""What a space is: frozen values, no I/O.

Only `dataclasses.replace` changes a value; only `spaces.registry` stores one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import NewType

SpaceId = NewType("SpaceId", str)
OrderId = NewType("OrderId", str)
OpId = NewType("OpId", str)
BackupId = NewType("BackupId", str)

type Facts = dict[str, str | int | float | bool | None]


class Status(StrEnum):
    """Stable statuses; whatever moves is an operation on one of them (control-plane.md 3.3)."""

    REQUESTED = "requested"
    WARM = "warm"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"
    DELETED = "deleted"
    ERASED = "erased"
    FAILED = "failed"


class Tier(StrEnum):
    """What the customer bought; the wire says `plan`."""

    STARTER = "starter"
    STANDARD = "standard"
    PREMIUM = "premium"


ZONES: dict[Tier, tuple[str, ...]] = {
    Tier.STARTER: ("1", "2"),
    Tier.STANDARD: ("1", "2"),
    Tier.PREMIUM: ("1", "2", "3"),
}


class OpKind(StrEnum):
    """Changes of a space; the steps of each stand in `spaces.saga.outline`."""

    PROVISION = "provision"
    RESIZE = "resize"
    CONFIGURE = "configure"
    ROTATE_SECRETS = "rotate_secrets"
    SUSPEND = "suspend"
    RESUME = "resume"
    BACKUP = "backup"
    RESTORE = "restore"
    CANCEL = "cancel"
    DELETE = "delete"
    ERASE = "erase"
    QUARANTINE = "quarantine"
    RELEASE = "release"


class OpStatus(StrEnum):
    """How an operation stands; the wire writes them in camel case (`wire`)."""

    NOT_STARTED = "not_started"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    NEEDS_OPERATOR = "needs_operator"

    @property
    def wire(self) -> str:
        """The word of the HTTP contract: `notStarted`, `needsOperator`."""
        head, *rest = self.value.split("_")
        return head + "".join(word.capitalize() for word in rest)

    @property
    def is_final(self) -> bool:
        """True when nothing more happens without a person."""
        return self not in {OpStatus.NOT_STARTED, OpStatus.RUNNING}


class Phase(StrEnum):
    """Which way an operation goes through its steps."""

    DO = "do"
    UNDO = "undo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A wish that a running operation ends: whose, why, and when it was said."""

    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The operation that occupies a space's one slot, and the step it stands at.

    `steps` is frozen when the operation starts. `facts` is what finished steps found out and later
    ones need. `step_deadline_at` ends the step's budget; a retry keeps it. `error_kind` is the
    problem slug of what failed; `attempt_s` how long an attempt of this step may be silent.
    `extended` says that the step got its one extension, because nobody looked at its deadline.
    `stop` asks that it ends after the running step and is undone; `stuck` says why it waits for an
    operator: it keeps the space's slot, so that nothing else is built on what is half done. `turn`
    counts what operators did to it: a step that is done again is a new one to every old message.
    `adopting` asks that the step is only looked at, and taken as done where its effect stands.
    `halted_at` is since when a pause of the space, its cluster or the fleet holds it.
    """

    op_id: OpId
    kind: OpKind
    steps: tuple[str, ...]
    at: int = 0
    attempt: int = 1
    phase: Phase = Phase.DO
    params: Facts = field(default_factory=dict[str, "str | int | float | bool | None"])
    facts: Facts = field(default_factory=dict[str, "str | int | float | bool | None"])
    error: str | None = None
    error_kind: str | None = None
    attempt_s: float = 0.0
    extended: bool = False
    started_at: datetime
    step_started_at: datetime
    step_deadline_at: datetime
    next_poke_at: datetime
    detail: str = ""
    stop: Stop | None = None
    stuck: str | None = None
    turn: int = 0
    adopting: bool = False
    halted_at: datetime | None = None

    @property
    def step(self) -> str:
        """The step it stands at."""
        return self.steps[self.at]

    @property
    def ticket(self) -> str:
        """Names this step in this attempt: a message with another ticket is old."""
        turn = f"{self.turn}." if self.turn else ""
        return f"{self.op_id}:{self.phase}-{self.step}:{turn}{self.attempt}"

    def awaits(self, ticket: str) -> bool:
        """True when a message with this ticket is the one that moves it; a stuck one awaits none."""
        return self.stuck is None and self.ticket == ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingState:
    """The full state of a subscription, as the billing system last told it (control-plane.md 3.7).

    The fields from `paid` to `country_sequence` come from all its events, late ones too, so that
    no order of arrival matters (`spaces.desire.merged`): whether it was ever paid (an announcement
    is not), whether it was deleted, the sequences of the last event that cancelled it and of the
    last that reactivated it, when the last cancellation said that it ends, and the sequences of the
    last dispute, request for erasure and change of country (-1: none). `as_of` is when billing was
    asked itself; None where an event told it.
    """

    sequence: int
    status: str
    plan: str
    quantity: int
    currency: str
    country: str
    period_end: datetime
    grace_days: int
    legal_hold: bool
    customer_ref: str
    paid: bool = False
    deleted: bool = False
    cancelled_sequence: int = -1
    reactivated_sequence: int = -1
    ends_at: datetime | None = None
    disputed_sequence: int = -1
    erasure_sequence: int = -1
    country_sequence: int = -1
    as_of: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Terminal wins: a later reactivation leads away from a cancellation, none from a deletion."""
        return self.deleted or self.cancelled_sequence > self.reactivated_sequence


class Wish(StrEnum):
    """What a space is to be; the planner leads it there, one operation at a time."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """An operator's word over billing's: what the space is to be, why, whose, and until when.

    `until` None: until it is lifted. A hold keeps a space active though billing wants it suspended.
    """

    wish: Wish
    reason: str
    actor: str
    at: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A flag that somebody set on a space: quarantine, pause, deletion lock."""

    reason: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """An operation that was needed and failed: `tries` times in a row, for the same `cause`.

    It is not started again before `until` (None: not by itself); another wish is another cause.
    """

    kind: OpKind
    cause: str
    tries: int
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What is left of an erased space: how its data became unreadable, and how that was shown.

    `never_had_data` where there was nothing to erase; `proof` is the text of the failed restore.
    """

    at: datetime
    never_had_data: bool
    keys_destroyed: tuple[str, ...] = ()
    backups_destroyed: int = 0
    proof: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastBackup:
    """The newest finished backup; `verified_at` only after a restore proved it."""

    backup_id: BackupId
    completed_at: datetime
    verified_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the deployment stack's outputs say: where the parts of this incarnation are."""

    resource_group: str
    database_host: str
    database_admin_user: str
    blob_endpoint: str
    storage_account: str
    vault_uri: str
    scale_set: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """One customer's instance, as its `state` row keeps it.

    `desired` is what it is to be (`spaces.desire`: billing's word, or an operator's over it); the
    planner compares it with `status`. `plan_due` is the time in the row of `dues`, when the planner
    looks again although nothing happens: an override ends, a period, a grace, a retention is over.
    `held` is the pause of its cluster or the fleet, as far as it was told. `database` and
    `container` name the data in force: a restore changes them by writing the next
    `config_revision`. `op_seq` and `event_seq` count operations and events for ever.
    """

    space_id: SpaceId
    name: str
    status: Status
    tier: Tier
    cluster: str
    azure_region: str
    backup_region: str
    customer_ref: str
    order_id: OrderId
    created_at: datetime
    route_request: str
    decision: str
    release: str
    incarnation: int = 1
    config_revision: int = 1
    database: str = "app"
    container: str = "attachments"
    activated_at: datetime | None = None
    subscription: str | None = None
    billing: BillingState | None = None
    desired: str | None = None
    resources: Resources | None = None
    last_backup: LastBackup | None = None
    failure: str | None = None
    op: Running | None = None
    op_seq: int = 0
    event_seq: int = 0
    events_cleared: int = 0
    # What an operator, or the end of a contract, said of it.
    override: Override | None = None
    quarantined: Mark | None = None
    paused: Mark | None = None
    held: Mark | None = None
    deletion_lock: Mark | None = None
    plan_due: datetime | None = None
    # The end of its life: cancel sets the first three, delete and erase the others.
    cancelled_at: datetime | None = None
    grace_until: datetime | None = None
    final_backup: BackupId | None = None
    deleted_at: datetime | None = None
    retain_until: datetime | None = None
    tombstone: Tombstone | None = None
    # What its application is told beside names (`configure`), and which secrets are in force.
    app_settings: tuple[tuple[str, str], ...] = ()
    secret_revision: int = 1
    setback: Setback | None = None
    # Billing's word that the tier answers: an operator's plan stands until billing's next one.
    sized_for: int | None = None

    @property
    def had_data(self) -> bool:
        """True when a customer may have stored something: it was active once."""
        return self.activated_at is not None

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones its instances stand in, one each."""
        return ZONES[self.tier]

    def next_op_id(self) -> OpId:
        """The id that the next operation gets; it embeds the space's id (control-plane.md am. 14)."""
        return OpId(f"op-{self.space_id}-{self.op_seq + 1:04}")


def space_of_op(op_id: str) -> SpaceId | None:
    """The space whose operation this is, read out of the id; None for a malformed id."""
    body, _, number = op_id.removeprefix("op-").rpartition("-")
    if not op_id.startswith("op-") or not number.isdigit() or not body.startswith("s-"):
        return None
    return SpaceId(body)


__all__ = [
    "ZONES",
    "BackupId",
    "BillingState",
    "Facts",
    "LastBackup",
    "Mark",
    "OpId",
    "OpKind",
    "OpStatus",
    "OrderId",
    "Override",
    "Phase",
    "Resources",
    "Running",
    "Setback",
    "Space",
    "SpaceId",
    "Status",
    "Stop",
    "Tier",
    "Tombstone",
    "Wish",
    "replace",
    "space_of_op",
]
