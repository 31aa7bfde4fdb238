"""A space's story, and the verdict on its audit chain, also where rows were changed by hand."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from console import story, story_triggers
from spaces import audit
from spaces.http import ANONYMOUS, Request
from spaces.model import OpStatus
from spaces.ports import Delete, Replace
from spaces.registry import SPACES, Registry, StepRow
from tests.builders import a_billing_event, some_settings
from tests.fakes import START
from tests.provisioning.world import World

if TYPE_CHECKING:
    from spaces.ports import Scalar, Tables

OP = "op-s-1-0001"


def an_entry(act: str, **detail: str | int | None) -> audit.Entry:
    return audit.Entry(act=act, actor="control-plane", obj=OP, detail=dict(detail))


def texts_of(*entries: audit.Entry) -> list[str]:
    head, texts = audit.Head(), list[str]()
    for number, entry in enumerate(entries):
        at = START + timedelta(seconds=number)
        head, text = audit.append(head, entry, space_id="s-1", at=at)
        texts.append(text)
    return texts


def test_a_step_tells_how_long_it_took_and_what_it_said() -> None:
    texts = texts_of(
        an_entry("operation.started", kind="provision", source="/billing", cause="e-1"),
        an_entry("operation.retried", step="deploy", attempt=1, phase="do"),
        an_entry("operation.advanced", step="deploy", attempt=2, phase="do"),
    )
    row = StepRow(
        op_id=OP,
        number=0,
        name="deploy",
        status=OpStatus.SUCCEEDED,
        started_at=START,
        ended_at=START + timedelta(seconds=2.5),
        attempts=2,
        detail="rg-kx-s-1-1",
    )
    moments = story.told(texts, [row])
    assert [one.seconds for one in moments] == [None, None, 2.5]
    lines = [story.line(one, START) for one in moments]
    assert "provision started: cause e-1, source /billing" in lines[0]
    assert "deploy retried" in lines[1]
    assert "+2.0 s" in lines[2]
    assert "deploy ended (attempt 2) in 2.5 s: rg-kx-s-1-1" in lines[2]


def test_the_reason_of_a_person_is_told() -> None:
    [moment] = story.told(texts_of(an_entry("operation.skipped", reason="known")), [])
    assert story.line(moment, START).endswith("skipped · because: known")


def test_one_operation_is_picked_out_and_broken_entries_hide_nothing() -> None:
    texts = texts_of(an_entry("operation.started", kind="backup"))
    other = audit.Entry(act="billing.applied", actor="billing", obj="s-1", detail={})
    mixed = [*texts, "no json", "[]", '{"seq": 1}', *texts_of(other)]
    assert len(story.told(mixed, [])) == 2
    assert [one.act for one in story.told(mixed, [], op_id=OP)] == ["operation.started"]


async def an_opened_world() -> tuple[World, str]:
    world = World()
    order = await world.order()
    await world.send(a_billing_event(order_id=order.order_id))
    await world.settle()
    return world, order.space_id


async def asked(world: World, space: str | None = None) -> list[story.Chain]:
    reply = await story_triggers.verify(
        a_request(world, query={"space": space} if space else {})
    )
    assert isinstance(reply.body, story_triggers.ChainList)
    return reply.body.items


async def timeline_of(world: World, asked_for: str) -> story_triggers.Timeline:
    reply = await story_triggers.timeline(a_request(world, params={"space_id": asked_for}))
    assert isinstance(reply.body, story_triggers.Timeline)
    return reply.body


def a_request(
    world: World, *, query: dict[str, str] | None = None, params: dict[str, str] | None = None
) -> Request:
    return Request(
        request_id="r",
        principal=ANONYMOUS,
        params=params or {},
        query=query or {},
        headers={},
        body=None,
        raw=b"",
        ports=world.bare,
        settings=some_settings(),
    )


async def change(tables: Tables, space_id: str, key: str, **values: Scalar) -> None:
    row = await tables.get(SPACES, space_id, key)
    assert row is not None
    await tables.commit(SPACES, space_id, [Replace(key, {**row.values, **values}, row.etag)])


async def test_a_space_that_was_opened_has_a_chain_that_holds() -> None:
    world, space_id = await an_opened_world()
    [one] = await asked(world)
    assert (one.space_id, one.ok, one.first_broken) == (space_id, True, None)
    assert one.entries == (await Registry(world.bare.tables).require(space_id)).head.seq
    assert await asked(world, "acme") == [one]


@pytest.mark.parametrize("number", [1, 4, -1])
async def test_a_changed_entry_is_named(number: int) -> None:
    world, space_id = await an_opened_world()
    if number < 0:
        number = (await Registry(world.bare.tables).require(space_id)).head.seq
    key = f"aud!{number:012}"
    row = await world.bare.tables.get(SPACES, space_id, key)
    assert row is not None
    entry = json.loads(str(row.values["entry"])) | {"actor": "somebody"}
    changed = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    await change(world.bare.tables, space_id, key, entry=changed)
    [one] = await asked(world, space_id)
    assert (one.ok, one.first_broken) == (False, number)


async def test_a_missing_entry_is_named() -> None:
    world, space_id = await an_opened_world()
    await world.bare.tables.commit(SPACES, space_id, [Delete(f"aud!{3:012}")])
    [one] = await asked(world)
    assert (one.ok, one.first_broken) == (False, 3)


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '{"seq":2,"prev":7}'])
async def test_an_entry_that_is_none_is_named(text: str) -> None:
    world, space_id = await an_opened_world()
    await change(world.bare.tables, space_id, f"aud!{2:012}", entry=text)
    assert [one.first_broken for one in await asked(world)] == [2]


@pytest.mark.parametrize(
    ("values", "behind"), [({"hash": "0" * 64}, 0), ({"seq": 1}, 1), ({"seq": "x"}, 1)]
)
async def test_a_head_that_does_not_fit_shows_at_the_end(
    values: dict[str, Scalar], behind: int
) -> None:
    """Whether the last entry or the head's hash was changed, nobody can tell."""
    world, space_id = await an_opened_world()
    await change(world.bare.tables, space_id, "state_audit", **values)
    [one] = await asked(world, space_id)
    assert one.first_broken == one.entries + behind


async def test_without_its_state_and_head_a_space_is_still_looked_at() -> None:
    world, space_id = await an_opened_world()
    gone = [Delete("state"), Delete("state_audit")]
    await world.bare.tables.commit(SPACES, space_id, gone)
    [one] = await asked(world, space_id)
    assert (one.ok, one.first_broken) == (False, one.entries + 1)


async def test_the_timeline_tells_every_step_of_an_opening() -> None:
    world, space_id = await an_opened_world()
    told = await timeline_of(world, "acme")
    acts = [(one.act, one.step) for one in told.items]
    assert acts[0] == ("space.requested", None)
    ended = [step for act, step in acts if act == "operation.advanced"]
    assert ended == ["route", "reserve", "deploy", "data", "start", "publish", "smoke"]
    assert acts[-1] == ("operation.succeeded", "activate")
    op_id = told.items[1].operation_id
    assert op_id is not None
    of_op = await timeline_of(world, op_id)
    assert of_op.space_id == space_id
    assert len(of_op.items) == len(told.items) - 1
