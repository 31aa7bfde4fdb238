"""Who is due, when, and that no backup is lost to a busy space."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import yaml

from backups import dispatch, nightly
from backups.triggers import decoded
from spaces.clusters import CLUSTERS
from spaces.errors import TransientError
from spaces.messages import Poke, RunRequest, encode
from spaces.model import OpStatus, Status
from tests.builders import a_last_backup, a_space
from tests.fakes import START

if TYPE_CHECKING:
    from tests.backups.world import World

NOW = START
CLUSTER_ROWS = yaml.safe_load(
    (Path(__file__).parents[2] / "rules" / "clusters.yaml").read_text(encoding="utf-8")
)["clusters"]


def due_ids(*spaces, window_s: float = 0, jitter_s: float = 0) -> list[str]:  # noqa: ANN002
    found = dispatch.due(spaces, now=NOW, window_s=window_s, jitter_s=jitter_s)
    return [each.space_id for each in found]


def backed_up(hours: float):  # noqa: ANN201
    return a_last_backup(completed_at=NOW - timedelta(hours=hours))


@pytest.mark.parametrize("hours", [20.1, 26, 24 * 40])
def test_a_space_whose_last_backup_is_old_is_due(hours: float) -> None:
    assert due_ids(a_space(last_backup=backed_up(hours)))


@pytest.mark.parametrize("hours", [0, 1, 19.9])
def test_a_fresh_backup_is_enough_however_often_the_tick_comes(hours: float) -> None:
    assert not due_ids(a_space(last_backup=backed_up(hours)))


def test_a_new_space_is_due_at_once() -> None:
    (each,) = dispatch.due([a_space()], now=NOW, window_s=14_400, jitter_s=1800)
    assert each.due_at is None


@pytest.mark.parametrize("status", list(Status))
def test_only_spaces_with_living_data_are_backed_up(status: Status) -> None:
    assert bool(due_ids(a_space(status=status))) is (
        status in {Status.ACTIVE, Status.SUSPENDED}
    )
    assert not due_ids(a_space(status=status, resources=None))


def test_spaces_are_spread_over_the_window_and_keep_their_place() -> None:
    spaces = [a_space(space_id=f"s-{n:016}", last_backup=backed_up(26)) for n in range(400)]
    found = dispatch.due(spaces, now=NOW, window_s=3600, jitter_s=60)
    offsets = [(each.due_at - NOW).total_seconds() for each in found if each.due_at]
    assert len(offsets) == 400
    assert 0 <= min(offsets) < 60
    assert 3500 < max(offsets) <= 3660
    quarters = [sum(q <= o < q + 900 for o in offsets) for q in (0, 900, 1800, 2700)]
    assert min(quarters) > 60
    tomorrow = dispatch.due(spaces, now=NOW + timedelta(days=1), window_s=3600, jitter_s=60)
    for one, other in zip(found, tomorrow, strict=True):
        assert one.due_at is not None
        assert other.due_at is not None
        assert abs(other.due_at - one.due_at - timedelta(days=1)) <= timedelta(seconds=60)


def test_two_ticks_of_one_minute_merge_and_a_later_one_is_new() -> None:
    def message_id(seconds: float) -> str:
        at = NOW + timedelta(seconds=seconds)
        (each,) = dispatch.due([a_space()], now=at, window_s=0, jitter_s=0)
        return dispatch.message(each).message_id

    assert message_id(0) == message_id(30) != message_id(61)
    assert message_id(0).startswith(f"{a_space().space_id}:2026-11-23:run:")


def test_a_request_that_is_put_off_has_a_new_id_each_time_and_an_end() -> None:
    request = RunRequest(space_id="s-1", slot="2026-11-23:run:120")
    ids: set[str] = set()
    while (message := dispatch.put_off(request, NOW)) is not None:
        assert message.due_at == NOW + timedelta(minutes=1)
        ids.add(message.message_id)
        request = msgspec.json.decode(message.body, type=RunRequest)
    assert len(ids) == request.waits == dispatch.MOST_WAITS


def test_messages_of_the_run_queue_are_told_apart_by_their_shape() -> None:
    request = RunRequest(space_id="s-1", slot="x")
    poke = Poke(space_id="s-1", op_id="op-s-1-0001", ticket="t")
    assert decoded(encode(request).encode()) == request
    assert decoded(encode(poke).encode()) == poke
    with pytest.raises(msgspec.ValidationError):
        decoded(b'{"v": 1}')


def test_the_table_of_clusters_is_the_one_that_people_edit() -> None:
    told = {
        row["id"]: (row["country"], row["azure_region"], row["backup_region"]["azure_region"])
        for row in CLUSTER_ROWS
    }
    ours = {name: (c.country, c.azure_region, c.backup_region) for name, c in CLUSTERS.items()}
    assert ours == told
    assert all(row["backup_region"]["same_country"] for row in CLUSTER_ROWS)


# --- over the queue -----------------------------------------------------------------------------


async def test_a_night_backs_up_what_is_due_once(world: World) -> None:
    assert await nightly.send_due(world.bare, world.settings) == 1
    assert await nightly.send_due(world.bare, world.settings) == 1
    await world.settle()
    assert len(await world.rows()) == 1
    assert await nightly.send_due(world.bare, world.settings) == 0
    world.clock.advance(hours=24)
    assert await nightly.send_due(world.bare, world.settings) == 1
    await world.settle(hours=8)
    assert [row.state for row in await world.rows()] == ["verified"] * 2


async def test_a_backup_is_not_lost_to_a_busy_space(world: World) -> None:
    await world.request()
    await world.settle()
    world.data.stuck = {"app": 1}  # keeps the restore waiting for five minutes, then undoes it
    await world.restore()
    world.clock.advance(hours=24)
    await world.request("2026-11-24:run:600")
    await world.pump()
    assert len(await world.rows()) == 1
    await world.settle()
    operations = await world.registry.operations(world.first.space_id)
    assert [op.kind for op in operations] == ["backup", "restore", "backup"]
    assert operations[-1].status is OpStatus.SUCCEEDED
    waits = [m for m in world.bus.sent if ":w" in m.message_id]
    assert len(waits) >= 3


async def test_a_request_comes_twice_and_starts_one_backup(world: World) -> None:
    request = RunRequest(space_id=world.first.space_id, slot="2026-11-23:run:600")
    await nightly.start(world.bare, request)
    await nightly.start(world.bare, request)
    await world.settle()
    await nightly.start(world.bare, request)
    await world.settle()
    assert len(await world.registry.operations(world.first.space_id)) == 1


async def test_a_poke_that_was_not_sent_is_sent_when_the_request_comes_again(
    world: World,
) -> None:
    request = RunRequest(space_id=world.first.space_id, slot="2026-11-23:run:600")
    world.bus.faults.plan("send", TransientError("the broker is away"))
    with pytest.raises(TransientError):
        await nightly.start(world.bare, request)
    assert not [m for m in world.bus.sent if m.queue == dispatch.QUEUE]
    await nightly.start(world.bare, request)
    (poke,) = [m for m in world.bus.sent if m.queue == dispatch.QUEUE]
    assert isinstance(decoded(poke.body.encode()), Poke)


async def test_a_request_for_a_space_that_is_not_known_ends(world: World) -> None:
    await nightly.start(world.bare, RunRequest(space_id="s-nobody", slot="x"))
    assert world.bus.sent == []
