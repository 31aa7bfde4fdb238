"""The process may die before or after any port call of any operation: it ends as if it had not.

Every call of each operation's calm run is enumerated, the way back of those that have one too.
After each death the queue's lock runs out and the message comes again, as on the platform.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from provisioning.plans import PLANS
from spaces import names
from spaces.configuration import checked_app_settings
from spaces.model import OpKind, OpStatus, Space, Status, replace
from spaces.saga.outcomes import Done
from tests.life.world import CLUSTER_VAULT, Counter, World

SIDES = ("before", "after")
MANY = 80
DAY = 86_400


async def nothing_before(world: World) -> None:
    """The space was opened a moment ago."""


async def suspended(world: World) -> None:
    await world.done(OpKind.SUSPEND)


async def quarantined(world: World) -> None:
    await world.done(OpKind.QUARANTINE, reason="r", actor="a")


async def cancelled(world: World) -> None:
    await world.done(OpKind.CANCEL)
    world.clock.advance(15 * DAY)


async def deleted(world: World) -> None:
    await cancelled(world)
    await world.done(OpKind.DELETE)
    world.clock.advance(31 * DAY)


async def serving(world: World, space: Space) -> None:
    assert (space.status, world.is_awake(), await world.answers()) == ("active", True, 200)
    assert await world.kept_data()
    told = world.arm.request(world.stack).parameters
    assert (told["plan"], told["configRevision"]) == (space.tier, str(space.config_revision))


async def with_old_secrets(world: World, space: Space) -> None:
    assert space.secret_revision == 1
    roles = world.databases.servers[world.address].roles
    assert roles.get(names.login_role(replace(space, secret_revision=2)), "") == ""
    await serving(world, space)


async def resting(world: World, space: Space) -> None:
    assert (space.status, world.is_asleep(), await world.answers()) == ("suspended", True, 503)
    assert await world.kept_data()


async def premium(world: World, space: Space) -> None:
    assert (space.tier, world.zones()) == ("premium", {"1", "2", "3"})
    await serving(world, space)


async def german(world: World, space: Space) -> None:
    assert world.serving["told"]["app"]["locale"] == "de"
    assert space.config_revision == 2
    await serving(world, space)


async def rotated(world: World, space: Space) -> None:
    assert space.secret_revision == 2
    assert world.serving["told"]["database"]["user"] == names.login_role(space)
    secrets = world.bare.secrets.names(CLUSTER_VAULT)  # pyright: ignore[reportAttributeAccessIssue]
    assert names.role_secret(replace(space, secret_revision=1)) not in secrets
    assert world.databases.servers[world.address].roles["kpax_app"] == ""
    await serving(world, space)


async def closed(world: World, space: Space) -> None:
    assert space.quarantined is not None
    assert (world.is_awake(), await world.answers()) == (True, 503)


async def proved(world: World, space: Space) -> None:
    assert [row.state for row in await world.rows()] == ["verified"]
    await resting(world, space)


async def over(world: World, space: Space) -> None:
    assert (space.status, world.is_asleep()) == (Status.CANCELLED, True)
    (row,) = await world.rows()
    assert (row.backup_id, row.state) == (space.final_backup, "verified")


async def gone(world: World, space: Space) -> None:
    assert (space.status, world.arm.names()) == (Status.DELETED, [])
    assert world.arm.purged == {names.vault(world.first)}
    held = await world.host()
    assert held is not None
    assert held["lapses_at"] > world.clock.now()
    engine, store = world.places.engine(world.bare), world.places.store(world.bare, space)
    assert space.final_backup is not None
    await engine.look(store, await engine.find(store, space.final_backup))


async def unreadable(world: World, space: Space) -> None:
    assert (space.status, await world.stored()) == (Status.ERASED, {})
    assert world.bare.secrets.names(CLUSTER_VAULT) == []  # pyright: ignore[reportAttributeAccessIssue]
    assert space.tombstone is not None
    assert "data key is missing" in space.tombstone.proof
    assert (space.tombstone.backups_destroyed, space.tombstone.keys_destroyed) == (
        1,
        ("k/0001",),
    )


@dataclass(frozen=True)
class Case:
    """An operation, what comes before it, and what holds after it."""

    kind: OpKind
    check: Callable[[World, Space], Awaitable[None]]
    before: Callable[[World], Awaitable[None]] = nothing_before
    params: dict[str, str] = field(default_factory=dict[str, str])
    sick: str = ""
    """The revision under which the machines never come up: the operation is undone."""


SETTINGS = {"settings": checked_app_settings({"locale": "de"})}
GOOD = {
    "suspend": Case(OpKind.SUSPEND, resting),
    "resume": Case(OpKind.RESUME, serving, suspended),
    "resize": Case(OpKind.RESIZE, premium, params={"plan": "premium"}),
    "configure": Case(OpKind.CONFIGURE, german, params=SETTINGS),
    "rotate": Case(OpKind.ROTATE_SECRETS, rotated),
    "quarantine": Case(OpKind.QUARANTINE, closed, params={"reason": "r", "actor": "a"}),
    "release": Case(OpKind.RELEASE, serving, quarantined),
    "backup of a suspended space": Case(OpKind.BACKUP, proved, suspended),
    "cancel": Case(OpKind.CANCEL, over),
    "cancel of a suspended space": Case(OpKind.CANCEL, over, suspended),
    "delete": Case(OpKind.DELETE, gone, cancelled),
    "erase": Case(OpKind.ERASE, unreadable, deleted),
}
UNDONE = {
    "configure": Case(OpKind.CONFIGURE, serving, params=SETTINGS, sick="2"),
    "rotate": Case(OpKind.ROTATE_SECRETS, with_old_secrets, sick="2"),
    "resume": Case(OpKind.RESUME, resting, suspended, sick="1"),
}


async def run(case: Case, counter: Counter) -> World:
    """The operation from a calm start through its deaths to its end; then what must hold."""
    world = await World(counter).open()
    counted, world.ports = world.ports, world.bare
    await case.before(world)
    world.sick = {case.sick}
    if case.sick:
        world.floor_s = 60  # the step that waits for what never comes looks a few times only
    world.ports = counted
    op_id = await world.do(case.kind, **case.params)
    await world.settle(hours=6)
    expected = OpStatus.FAILED if case.sick else OpStatus.SUCCEEDED
    row = await world.operation(op_id)
    assert row.status is expected, row
    await case.check(world, await world.space())
    await world.nothing_is_loose()
    return world


# In `make test` the single faults of tests/simworld go over the same calls.
@pytest.mark.soak
@pytest.mark.parametrize("name", GOOD)
async def test_an_operation_may_die_at_any_port_call(name: str) -> None:
    case = GOOD[name]
    calm = Counter()
    await run(case, calm)
    assert calm.seen > 8
    for at in range(1, calm.seen + 1):
        # one side of each call where there are many: the other one is in tests/simworld
        for side in SIDES if calm.seen < MANY else (SIDES[at % 2],):
            counter = Counter(at=at, side=side)
            await run(case, counter)
            assert counter.stopped or side == "after", (name, at)


@pytest.mark.parametrize("name", UNDONE)
async def test_the_way_back_may_die_at_any_port_call(name: str) -> None:
    case = UNDONE[name]
    calm = Counter()
    await run(case, calm)
    for at in range(1, calm.seen + 1):
        await run(case, Counter(at=at, side=SIDES[at % 2]))


# --- controls: without the property the enumeration fails -----------------------------------------


@pytest.mark.parametrize(
    ("name", "step"),
    [("configure", "tell"), ("resume", "start_database"), ("rotate", "prepare")],
)
async def test_control_a_step_that_is_not_undone_is_noticed(
    name: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = UNDONE[name]
    plan = PLANS[case.kind]
    broken = tuple(
        replace(one, undo=nothing) if one.name == step else one for one in plan.steps
    )
    world_plans = {**PLANS, case.kind: replace(plan, steps=broken)}
    monkeypatch.setattr("tests.life.world.PLANS", world_plans)
    with pytest.raises(AssertionError):
        await run(case, Counter())


async def nothing(*_: object) -> Done:
    """An undo that forgets."""
    return Done()
