"""The process may die before or after any port call of a backup and of a restore.

Every call of a run is enumerated. After each death the queue's lock runs out and the message comes
again, as on the platform. Controls at the end show that the enumeration would notice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backups import api
from backups.plans import plans_of
from backups.restore import Restore
from spaces.model import OpKind, OpStatus
from spaces.saga.outcomes import Done
from tests.backups.world import FILES, ROWS, Counter, World

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from spaces.ports import Ports
    from spaces.saga.outcomes import Outcome, Work

SIDES = ("before", "after")


async def a_backup(counter: Counter) -> World:
    """A run request on the queue, and the world after it."""
    world = await World(counter).open()
    await world.request()
    await world.settle()
    return world


async def a_restore(counter: Counter, *, fails: bool = False) -> World:
    """A destroyed space, its restore, and the world after it; the backup before it is calm."""
    world = await World(counter).open()
    if fails:
        world.floor_s = 60  # the last step waits five minutes for what never comes
    calm, world.ports = world.ports, world.bare
    await world.request()
    await world.settle()
    world.ports = calm
    await world.destroy()
    if fails:
        world.data.stuck = {"app": 1}
    await world.restore()
    await world.settle()
    return world


async def calls_of(run: Callable[[Counter], Any]) -> int:
    """How many port calls a calm run makes."""
    counter = Counter()
    await run(counter)
    return counter.seen


async def one_good_backup(world: World) -> None:
    """Exactly one backup, verified; every manifest can be read; no scratch database is left."""
    rows = (await api.listing(world.bare, "acme")).items
    assert [row.state for row in rows] == ["verified"]
    space = await world.space()
    assert space.op is None
    assert space.last_backup is not None
    engine = world.places.engine(world.bare)
    (manifest,) = await engine.list(world.places.store(world.bare, space))
    assert manifest.backup_id == rows[0].backup_id == space.last_backup.backup_id
    await engine.look(world.places.store(world.bare, space), manifest)
    assert await world.databases_there() == ["app", "postgres"]
    assert (await world.bare.bus.depths(["backup-runs"]))[0].dead_letter == 0


async def test_a_backup_may_die_at_any_port_call() -> None:
    total = await calls_of(a_backup)
    assert total > 40
    for at in range(1, total + 1):
        for side in SIDES:
            counter = Counter(at=at, side=side)
            world = await a_backup(counter)
            assert counter.stopped or side == "after", at
            await one_good_backup(world)


async def restored(world: World) -> None:
    """The restored data serves, under its names, once; the old is kept; nothing else is there."""
    space = await world.space()
    assert space.op is None
    assert await world.served() == (ROWS, FILES)
    assert (space.database, space.container) == ("app_r2", "attachments-r2")
    assert space.config_revision == 2
    operations = await world.registry.operations(space.space_id)
    assert [op.status for op in operations] == [OpStatus.SUCCEEDED] * 2
    assert await world.databases_there() == ["app", "app_r2", "postgres"]
    kept = await world.bare.tables.query("spaces", key_from="keep!", key_below='keep"')
    assert len(kept) == 1


async def test_a_restore_may_die_at_any_port_call() -> None:
    total = await calls_of(a_restore)
    assert total > 60
    for at in range(1, total + 1):
        for side in SIDES:
            counter = Counter(at=at, side=side)
            world = await a_restore(counter)
            assert counter.stopped or side == "after", at
            await restored(world)


async def test_a_restore_that_is_switched_back_may_die_at_any_port_call() -> None:
    async def failing(counter: Counter) -> World:
        return await a_restore(counter, fails=True)

    total = await calls_of(failing)
    for at in range(1, total + 1):
        world = await failing(Counter(at=at, side=SIDES[at % 2]))
        space = await world.space()
        assert (space.op, space.database, space.container) == (None, "app", "attachments"), at
        assert world.serving["database"] == "app"
        assert await world.databases_there() == ["app", "postgres"], at
        assert (await world.files("")).containers() == ["attachments"]


async def test_the_old_data_serves_until_the_switch_wherever_it_dies() -> None:
    """Die, and let nobody come back: what serves is whole, the old or the new."""
    total = await calls_of(a_restore)
    for at in range(1, total + 1):
        world = await World(Counter()).open()
        await world.request()
        await world.settle()
        world.counter.seen, world.counter.at = 0, at
        await world.restore()
        while not world.counter.stopped and world.bus.next_due() is not None:
            await world.pump()
            world.clock.set(world.bus.next_due() or world.clock.now())
            await world.pump()
        assert await world.served() == (ROWS, FILES), at


# --- controls: without the property each enumeration fails --------------------------------------


async def test_control_a_load_that_keeps_an_earlier_try_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without dropping the half-filled database first, a second try cannot be right."""
    real = Restore.load

    async def keeps(self: Restore, ports: Ports, work: Work) -> Outcome:
        class Keeping:
            def __getattr__(self, name: str) -> object:
                return getattr(ports.databases, name)

            async def drop_database(self, *_: object) -> None: ...

        return await real(self, replace(ports, databases=Keeping()), work)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Restore, "load", keeps)
    assert await noticed(a_restore, restored)


async def test_control_run_names_that_repeat_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one run id for all attempts, a second attempt meets the objects of the first."""
    monkeypatch.setattr("tests.fakes.FakeIds.token", lambda self, size: "a" * size)
    assert await noticed(a_backup, one_good_backup)


async def test_control_a_switch_that_is_not_undone_is_noticed() -> None:
    async def nothing(ports: Ports, work: Work) -> Outcome:
        del ports, work
        return Done()

    world = await World().open()
    await world.request()
    await world.settle()
    restore = world.plans[OpKind.RESTORE]
    steps = tuple(
        replace(step, undo=nothing) if step.name == "switch" else step for step in restore.steps
    )
    world.plans = {**plans_of(world.places), OpKind.RESTORE: replace(restore, steps=steps)}
    world.data.stuck = {"app": 1}
    op_id = await world.restore()
    await world.settle()
    # the guard of `unload` refuses to remove what serves, and a person is asked
    assert (await world.operation(op_id)).status is OpStatus.NEEDS_OPERATOR
    assert world.serving["database"] == "app_r2"
    assert await world.served() == (ROWS, FILES)


async def noticed(run: Callable[[Counter], Any], check: Callable[[World], Any]) -> bool:
    """Whether a death at some port call ends in a world that `check` refuses; a calm run may not."""
    counter = Counter()
    await check(await run(counter))
    for at in range(1, counter.seen + 1):
        world = await run(Counter(at=at, side="after"))
        try:
            await check(world)
        except (AssertionError, ValueError):
            return True
    return False
