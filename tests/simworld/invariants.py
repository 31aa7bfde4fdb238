"""What must hold of the estate, whatever happens: the invariants 1 to 10 and 14 of the design.

Some hold at each moment, some when nothing more happens: each says which. They read the estate and
its history, never the app's own opinion, where the two could differ. Source: control-plane.md 4.3.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from backups.catalogue import FAILED, VERIFIED, BackupRow
from backups.manifest import manifest_name
from geo_router import router, tables
from spaces import audit
from spaces.clusters import CLUSTERS
from spaces.desire import desired
from spaces.model import OpKind, Space, Status, Wish
from spaces.ports import Delete, Insert
from spaces.registry import OpRow
from spaces.saga.decide import EXTENSION
from spaces.saga.outline import OUTLINES
from tests.simworld.arm import outputs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spaces.ports import Stored, Write
    from tests.simworld.estate import Estate

STUCK = timedelta(minutes=2)
BACKED_UP = timedelta(hours=26)
# Statuses in which a space has a stack of its own; cancelled ones have one until they are deleted.
STANDING = frozenset({Status.ACTIVE, Status.SUSPENDED, Status.CANCELLED})
# The one event that tells of each status.
TOLD = {
    Status.ACTIVE: {"space.activated", "space.resumed"},
    Status.SUSPENDED: {"space.suspended"},
    Status.CANCELLED: {"space.cancelled"},
    Status.DELETED: {"space.deleted"},
    Status.ERASED: {"space.erased"},
    Status.FAILED: {"space.provisioning_failed"},
}


class BrokenError(AssertionError):
    """An invariant does not hold; `number` names it."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"invariant {number}: {what}")
        self.number = number


@dataclass(frozen=True, slots=True)
class Rule:
    """One invariant, or a part of it, and when it must hold."""

    number: int
    always: bool
    check: Callable[[Rules], None]


RULES: list[Rule] = []


def _rule(number: int, *, always: bool) -> Callable[[Callable[[Rules], None]], Any]:
    def keep(check: Callable[[Rules], None]) -> Callable[[Rules], None]:
        RULES.append(Rule(number, always, check))
        return check

    return keep


class Rules:
    """The invariants over one estate, with what was seen of each space before.

    `alarms` are errors that the app logged, by space; `unswept_since` is set while the app was down
    and its sweeper has not run again; `newest` is what billing said last, by subscription.
    """

    def __init__(self, estate: Estate) -> None:
        self.estate = estate
        self.spaces: dict[str, Space] = {}
        self.alarms: dict[str, set[str]] = {}
        self.unswept = self.had_outage = False
        self.newest: dict[str, int] = {}
        self.leaks: list[str] = []
        self.halted: set[str] = set()
        for row in estate.tables.rows("spaces"):
            if row.key == "state":
                self.spaces[row.partition] = _space(row)

    def committed(self, space_id: str, writes: Sequence[Write]) -> None:
        """A transaction on a space's rows was applied: compare with what was."""
        keys = {write.key: write for write in writes}
        if "state" not in keys or isinstance(keys["state"], Delete):
            return
        row = self.row("spaces", space_id, "state")
        assert row is not None
        before, space = self.spaces.get(space_id), _space(row)
        self.spaces[space_id] = space
        if before is not None:
            _forward(before, space)
        self._one_entry(space_id, keys)
        if before is not None:
            self._told(before, space, keys)
        if space.op is not None and space.op.halted_at is not None:
            self.halted.add(space.op.op_id)
        if space.status is Status.DELETED and (before is None or before.status != space.status):
            self._final_backup(space)
        self.of_space(space)

    def of_space(self, space: Space) -> None:
        """What holds of one space at each moment."""
        if not space.order_id or (not space.customer_ref and space.status != Status.ERASED):
            raise BrokenError(1, f"{space.space_id} has no order or no owner")
        if space.resources is not None:
            mine = outputs_of(f"{space.space_id}-{space.incarnation}")["resourceGroup"]
            if space.resources.resource_group != mine:
                raise BrokenError(
                    2, f"{space.space_id} points to {space.resources.resource_group}"
                )
        _in_its_place(space)

    def always(self) -> None:
        """All that must hold at each moment."""
        for rule in RULES:
            if rule.always:
                rule.check(self)

    def at_rest(self) -> None:
        """All that must hold when nothing more happens."""
        self.leaks = [*self._left_over()]
        for space in self.spaces.values():
            self.of_space(space)
        for rule in RULES:
            rule.check(self)

    # --- looking

    def row(self, table: str, partition: str, key: str) -> Stored | None:
        """One row as it is."""
        return self.estate.tables.row(table, partition, key)

    def rows(self, table: str, prefix: str = "", partition: str | None = None) -> list[Stored]:
        """Rows of a table, or of one partition of it."""
        tables = self.estate.tables
        found = (
            tables.rows(table) if partition is None else tables.in_partition(table, partition)
        )
        return [row for row in found if row.key.startswith(prefix)]

    def events(self) -> list[dict[str, Any]]:
        """Every event of a space that was ever published, copies too."""
        found = [json.loads(message.body) for message in self.estate.bus.published]
        return [event for event in found if event["source"] == "/kpax/spaces"]

    def backups(self, space_id: str) -> list[BackupRow]:
        """The rows of a space's backups."""
        return [
            msgspec.json.decode(str(row.values["doc"]), type=BackupRow)
            for row in self.rows("spaces", "bkp!", space_id)
        ]

    def operations(self, space_id: str) -> list[OpRow]:
        """The rows of a space's operations."""
        return [
            msgspec.json.decode(str(row.values["doc"]), type=OpRow)
            for row in self.rows("spaces", "op!", space_id)
        ]

    def kept(self, space: Space) -> list[dict[str, Any]]:
        """What restores put aside."""
        found = self.rows("spaces", "keep!", space.space_id)
        return [json.loads(str(row.values["doc"])) for row in found]

    def blob(self, space: Space, name: str) -> bool:
        """Whether this object of a space's backups is there."""
        account = self.estate.accounts.backups.get(space.cluster)
        there = account._containers.get(space.space_id, {}) if account is not None else {}
        return name in there

    # --- of one transaction

    def _one_entry(self, space_id: str, keys: dict[str, Write]) -> None:
        added = [key for key in keys if key.startswith("aud!")]
        head = self.row("spaces", space_id, "state_audit")
        seq = int(str(head.values["seq"])) if head is not None else 0
        if added != [f"aud!{seq:012}"] or not isinstance(keys[added[0]], Insert):
            raise BrokenError(10, f"{space_id} changed with the audit entries {added}")
        entries = self.rows("spaces", "aud!", space_id)
        if len(entries) != seq:
            raise BrokenError(10, f"{space_id} has {len(entries)} entries, its head says {seq}")

    def _told(self, before: Space, space: Space, keys: dict[str, Write]) -> None:
        added = [write for key, write in keys.items() if key.startswith("out!ev!")]
        added = [write for write in added if not isinstance(write, Delete)]
        if len(added) != space.event_seq - before.event_seq:
            raise BrokenError(10, f"{space.space_id} counts events that are not in its outbox")
        if space.status is before.status or space.status not in TOLD:
            return
        types = [json.loads(str(write.values["body"]))["type"] for write in added]
        if len([one for one in types if one in TOLD[space.status]]) != 1:
            raise BrokenError(10, f"{space.space_id} became {space.status}, told by {types}")

    def _final_backup(self, space: Space) -> None:
        if not space.had_data:
            return
        found = [
            one for one in self.backups(space.space_id) if one.backup_id == space.final_backup
        ]
        if not found or found[0].state != VERIFIED:
            raise BrokenError(7, f"{space.space_id} was deleted without a verified backup")
        if not self.blob(space, manifest_name(found[0].backup_id)):
            raise BrokenError(7, f"the final backup of {space.space_id} is not there")

    # --- what may stand on the platform

    def _left_over(self) -> Iterable[str]:
        """Everything that belongs to nobody."""
        estate, owners = self.estate, dict[str, Space]()
        for space in self.spaces.values():
            owners[f"{space.space_id}-{space.incarnation}"] = space
        stacks = estate.arm.names()
        strays = {row.key for row in self.rows("strays")}
        for name in stacks:
            space = owners.get(name)
            lives = space is not None and (space.op is not None or space.status in STANDING)
            if not lives and name not in strays:
                yield f"stack {name}"
        living = {name: outputs_of(name) for name in stacks}
        hosts = {str(where["databaseHost"]): name for name, where in living.items()}
        yield from (f"server {host}" for host in estate.databases.servers if host not in hosts)
        accounts = {str(where["storageAccount"]): name for name, where in living.items()}
        yield from (f"account {one}" for one in estate.accounts.spaces if one not in accounts)
        for host, name in hosts.items():
            if name in owners:
                yield from self._data_left_over(owners[name], host, living[name])
        for space in self.spaces.values():
            if space.status is Status.ERASED and space.op is None:
                account = estate.accounts.backups.get(space.cluster)
                objects = account._containers.get(space.space_id, {}) if account else {}
                yield from (f"object {space.space_id}/{name}" for name in sorted(objects))

    def _data_left_over(
        self, space: Space, host: str, where: dict[str, object]
    ) -> Iterable[str]:
        if space.op is not None:
            return
        kept = self.kept(space)
        server = self.estate.databases.servers.get(host)
        known = {space.database, *(str(one["database"]) for one in kept)}
        if server is not None:
            yield from (f"database {host}/{one}" for one in server.owners if one not in known)
        account = self.estate.accounts.spaces.get(str(where["storageAccount"]))
        known = {space.container, *(str(one["container"]) for one in kept)}
        if account is not None:
            yield from (f"container {one}" for one in account.containers() if one not in known)


def _space(row: Stored) -> Space:
    return msgspec.json.decode(str(row.values["doc"]), type=Space)


def _forward(before: Space, space: Space) -> None:
    """Numbers never fall, and an operation is never replaced by another one."""
    for name in ("op_seq", "event_seq", "incarnation", "events_cleared"):
        if getattr(space, name) < getattr(before, name):
            raise BrokenError(3, f"{name} of {space.space_id} fell")
    if before.op is not None and space.op is not None:
        if before.op.op_id != space.op.op_id:
            raise BrokenError(3, f"{space.op.op_id} began beside {before.op.op_id}")
        if _place(space) < _place(before):
            raise BrokenError(3, f"{space.op.op_id} went back to {space.op.step}")
    elif before.op is None and space.op is not None and space.op_seq != before.op_seq + 1:
        raise BrokenError(3, f"{space.op.op_id} came back")
    known, now = before.billing, space.billing
    if known is not None and (now is None or now.sequence < known.sequence):
        raise BrokenError(3, f"billing of {space.space_id} went back")


def _place(space: Space) -> tuple[int, int, int]:
    """How far an operation is: way, step, attempt; an operator may send it back."""
    op = space.op
    assert op is not None
    if op.phase == "do":
        return (0, op.at, op.attempt)
    return (1, len(op.steps) - op.at, op.attempt)


def _in_its_place(space: Space) -> None:
    """Where a space and its backups are, against what the rules allow its customer."""
    home = CLUSTERS[space.cluster]
    if (space.azure_region, space.backup_region) != (home.azure_region, home.backup_region):
        raise BrokenError(5, f"{space.space_id} is outside of its cluster")
    if space.status is Status.ERASED:
        return  # who it was is forgotten
    if space.cluster not in _allowed(space.route_request):
        raise BrokenError(5, f"{space.space_id} may not be in {space.cluster}")


@cache
def _allowed(request: str) -> frozenset[str]:
    answer = router.settle(tables.load(), json.loads(request), today="2026-11-24").answer
    return frozenset([str(answer["cluster"])])


# --- 1: one owner, one order ---------------------------------------------------------------------


@_rule(1, always=True)
def one_order_each(rules: Rules) -> None:
    orders = [str(row.values["space_id"]) for row in rules.rows("orders")]
    if len(set(orders)) < len(orders):
        raise BrokenError(1, f"two orders asked for one space: {orders}")
    owners = [space.order_id for space in rules.spaces.values()]
    if len(set(owners)) < len(owners):
        raise BrokenError(1, f"an order has two spaces: {owners}")


@_rule(1, always=False)
def every_paid_order_comes_to_an_end(rules: Rules) -> None:
    now = rules.estate.clock.now()
    refunded = {
        event["subject"]
        for event in rules.events()
        if event["type"] in {"space.provisioning_failed", "space.cancelled"}
    }
    for space in rules.spaces.values():
        if space.billing is None or not space.billing.paid or _is_held(space):
            continue
        if desired(space, now) is Wish.SUSPENDED:
            continue  # paid once, suspended before it was opened: it waits
        if space.activated_at is None and space.space_id not in refunded:
            raise BrokenError(1, f"{space.space_id} is paid, {space.status} and nobody is told")


# --- 2: every resource has one owner -------------------------------------------------------------


@_rule(2, always=False)
def nothing_is_left_over(rules: Rules) -> None:
    left = [*rules._left_over()]
    if left:
        raise BrokenError(2, f"left over: {', '.join(left)}")


@_rule(2, always=False)
def what_must_stand_stands(rules: Rules) -> None:
    for space in rules.spaces.values():
        standing = space.status in STANDING and space.had_data and space.op is None
        if standing and f"{space.space_id}-{space.incarnation}" not in rules.estate.arm.names():
            raise BrokenError(2, f"{space.space_id} is {space.status} and has no stack")


# --- 3: one operation, one deployment ------------------------------------------------------------


@_rule(3, always=True)
def one_deployment_each(rules: Rules) -> None:
    running = [name.rpartition("-")[0] for name in rules.estate.arm.running()]
    if len(set(running)) < len(running):
        raise BrokenError(3, f"two deployments at once: {running}")


@_rule(3, always=False)
def every_operation_is_accounted_for(rules: Rules) -> None:
    for space in rules.spaces.values():
        found = rules.operations(space.space_id)
        numbers = [int(row.op_id.rpartition("-")[2]) for row in found]
        if numbers != list(range(1, space.op_seq + 1)):
            raise BrokenError(3, f"{space.space_id} counts {space.op_seq}, has {numbers}")
        open_ones = [row.op_id for row in found if not row.status.is_final]
        mine = [space.op.op_id] if space.op is not None and space.op.stuck is None else []
        if open_ones != mine:
            raise BrokenError(3, f"{space.space_id} works on {mine}, its rows say {open_ones}")


# --- 4: one name, one space ----------------------------------------------------------------------


@_rule(4, always=True)
def no_two_routes_of_one_name(rules: Rules) -> None:
    arm = rules.estate.arm
    names = [str(arm.request(name).parameters["hostName"]) for name in arm.names()]
    if len(set(names)) < len(names):
        raise BrokenError(4, f"two stacks of one host name: {names}")


@_rule(4, always=True)
def a_name_in_use_is_kept(rules: Rules) -> None:
    for space in rules.spaces.values():
        if space.status not in STANDING or not space.had_data:
            continue
        row = rules.row("hosts", space.name, "host")
        if row is None or row.values["space_id"] != space.space_id:
            raise BrokenError(4, f"the name {space.name} of {space.space_id} is not its own")


# --- 5: residency --------------------------------------------------------------------------------


@_rule(5, always=True)
def everything_is_where_it_may_be(rules: Rules) -> None:
    for name in rules.estate.arm.names():
        request = rules.estate.arm.request(name)
        space = rules.spaces.get(str(request.parameters["spaceId"]))
        if space is not None and request.location != space.azure_region:
            raise BrokenError(5, f"stack {name} is in {request.location}")
    for cluster, account in rules.estate.accounts.backups.items():
        for container in account.containers():
            space = rules.spaces.get(container)
            if space is not None and space.cluster != cluster:
                raise BrokenError(5, f"backups of {container} lie in {cluster}")


# --- 6: billing and space agree ------------------------------------------------------------------


@_rule(6, always=False)
def spaces_are_as_they_are_paid(rules: Rules) -> None:
    now = rules.estate.clock.now()
    for space in rules.spaces.values():
        if _is_held(space) or space.status is Status.FAILED:
            continue
        told = rules.newest.get(space.subscription or "")
        if told is not None and (space.billing is None or space.billing.sequence != told):
            raise BrokenError(6, f"{space.space_id} does not know what billing said last")
        wish = desired(space, now)
        if wish is not None and space.status not in _MEETS[wish] and not _is_over(space):
            raise BrokenError(6, f"{space.space_id} is {space.status}, billing says {wish}")
        if space.status is Status.ACTIVE:
            _as_it_is_built(rules, space)


def _as_it_is_built(rules: Rules, space: Space) -> None:
    name = f"{space.space_id}-{space.incarnation}"
    if name not in rules.estate.arm.names():
        return  # the second invariant's matter
    told = rules.estate.arm.request(name).parameters
    if told["plan"] != space.tier.value:
        raise BrokenError(6, f"{space.space_id} is {space.tier}, its stack is {told['plan']}")
    billing = space.billing
    if billing is None or billing.plan == space.tier or OpKind.RESIZE not in _carried():
        return
    answered = space.sized_for  # an operator's plan, until billing's next
    excused = answered is not None and answered >= billing.sequence
    if not excused and space.setback is None:
        raise BrokenError(6, f"{space.space_id} is {space.tier}, billing says {billing.plan}")


_MEETS = {
    Wish.ACTIVE: {Status.ACTIVE},
    Wish.SUSPENDED: {Status.SUSPENDED, Status.REQUESTED},
    Wish.CANCELLED: {Status.CANCELLED, Status.DELETED, Status.ERASED},
}


def _is_over(space: Space) -> bool:
    """Nothing leads back from there; an announced subscription opens nothing yet."""
    announced = space.status is Status.REQUESTED and not (space.billing and space.billing.paid)
    return announced or space.status in {Status.DELETED, Status.ERASED}


def _is_held(space: Space) -> bool:
    """A person has to act first, or has said that nothing may happen."""
    stuck = space.op is not None and space.op.stuck is not None
    paused = space.paused is not None or space.held is not None
    return stuck or paused or space.quarantined is not None


# --- 7: backups outlive everything ---------------------------------------------------------------


@_rule(7, always=False)
def good_backups_are_there(rules: Rules) -> None:
    now = rules.estate.clock.now()
    for space in rules.spaces.values():
        erasing = space.op is not None and space.op.kind is OpKind.ERASE
        if space.status is Status.ERASED or erasing:
            continue
        for row in rules.backups(space.space_id):
            kept = row.state != FAILED and (row.expires_at is None or row.expires_at > now)
            if kept and not rules.blob(space, manifest_name(row.backup_id)):
                raise BrokenError(7, f"backup {row.backup_id} of {space.space_id} is not there")


@_rule(7, always=False)
def erased_means_erased(rules: Rules) -> None:
    for space in rules.spaces.values():
        if space.status is not Status.ERASED:
            continue
        stone = space.tombstone
        if stone is None or (space.had_data and (stone.never_had_data or not stone.proof)):
            raise BrokenError(7, f"{space.space_id} is erased without proof")


# --- 8: a backup a day ---------------------------------------------------------------------------


@_rule(8, always=False)
def active_spaces_are_backed_up(rules: Rules) -> None:
    now = rules.estate.clock.now()
    for space in rules.spaces.values():
        if space.status is not Status.ACTIVE or space.activated_at is None or _is_held(space):
            continue
        good = [
            row.completed_at for row in rules.backups(space.space_id) if row.state == VERIFIED
        ]
        newest = max([at for at in good if at is not None], default=space.activated_at)
        if now - newest > BACKED_UP and not _alarm(rules, space, newest):
            raise BrokenError(8, f"{space.space_id} has no backup since {newest} and no alarm")


def _alarm(rules: Rules, space: Space, since: datetime) -> bool:
    told = {"space.backup.failed", "space.backup.missed", "space.operation.needs_operator"}
    return bool(rules.alarms.get(space.space_id)) or any(
        event["subject"] == space.space_id
        and event["type"] in told
        and datetime.fromisoformat(event["time"]) >= since
        for event in rules.events()
    )


# --- 9: nothing is stuck in silence --------------------------------------------------------------


@_rule(9, always=True)
def nothing_passes_its_deadline_in_silence(rules: Rules) -> None:
    if rules.unswept:
        return
    now = rules.estate.clock.now()
    for space in rules.spaces.values():
        op = space.op
        if op is None or op.stuck is not None or op.halted_at is not None or _is_held(space):
            continue
        step = OUTLINES[op.kind].step(op.step)
        longest = timedelta(seconds=step.budget_s) + EXTENSION * op.extended
        own = min(op.step_deadline_at, op.step_started_at + longest + EXTENSION)
        if op.op_id in rules.halted:  # its time stood still for a while
            own = op.step_deadline_at
        if now > max(own, op.next_poke_at) + timedelta(seconds=step.attempt_s) + STUCK:
            raise BrokenError(9, f"{op.op_id} stands at {op.step} since {op.step_started_at}")


@_rule(9, always=False)
def what_was_lost_came_again_in_time(rules: Rules) -> None:
    """A step whose deadline nobody saw gets more time: only an outage may be the reason."""
    for row in rules.rows("spaces", "aud!"):
        if '"operation.extended"' in str(row.values["entry"]) and not rules.had_outage:
            raise BrokenError(9, f"nobody looked at {row.partition}, and no outage explains it")


# --- 10: one entry, one event --------------------------------------------------------------------


@_rule(10, always=False)
def the_audit_chain_holds(rules: Rules) -> None:
    for space_id in rules.spaces:
        entries = [str(row.values["entry"]) for row in rules.rows("spaces", "aud!", space_id)]
        head = rules.row("spaces", space_id, "state_audit")
        assert head is not None
        at = audit.Head(seq=int(str(head.values["seq"])), hash=str(head.values["hash"]))
        if audit.first_break(entries, at) is not None:
            raise BrokenError(10, f"the audit chain of {space_id} is broken")


@_rule(10, always=False)
def every_event_was_published(rules: Rules) -> None:
    told: dict[str, dict[int, Any]] = {}
    for event in rules.events():
        numbers = told.setdefault(event["subject"], {})
        number = event["data"]["sequence"]
        if numbers.setdefault(number, event) != event:
            raise BrokenError(
                10, f"event {number} of {event['subject']} was told twice, otherwise"
            )
    for space in rules.spaces.values():
        numbers = set(told.get(space.space_id, {}))
        if numbers != set(range(1, space.event_seq + 1)):
            missing = sorted(set(range(1, space.event_seq + 1)) ^ numbers)
            raise BrokenError(10, f"events {missing} of {space.space_id} were never published")


# --- 14: what is counted is there ----------------------------------------------------------------


@_rule(14, always=False)
def names_and_watches_equal_a_recount(rules: Rules) -> None:
    # A reservation lapses by itself: what counts is what was confirmed.
    confirmed = [row for row in rules.rows("hosts") if row.values["confirmed"]]
    holders = {str(row.values["space_id"]) for row in confirmed}
    for space_id in holders:
        space = rules.spaces.get(space_id)
        if (
            space is not None
            and space.status in {Status.FAILED, Status.ERASED}
            and not space.op
        ):
            raise BrokenError(14, f"{space_id} is {space.status} and still holds its name")
    watched = {row.key for row in rules.rows("activeops")}
    working = {one.space_id for one in rules.spaces.values() if one.op and not one.op.stuck}
    stuck = {one.space_id for one in rules.spaces.values() if one.op and one.op.stuck}
    if not working <= watched <= working | stuck:
        raise BrokenError(14, f"watched {sorted(watched)}, working {sorted(working)}")


@cache
def _carried() -> frozenset[OpKind]:
    """The kinds that some room carries out today."""
    from backups.plans import plans  # noqa: PLC0415 - needs the settings
    from provisioning.plans import PLANS  # noqa: PLC0415

    return frozenset({*PLANS, *plans()})
