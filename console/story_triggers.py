"""The doors to a space's story: its timeline, and whether its audit chain holds."""

from __future__ import annotations

import asyncio

import azure.functions as func
import msgspec

from console import story
from spaces.http import Reply, Request, endpoint
from spaces.model import space_of_op
from spaces.registry import Registry

blueprint = func.Blueprint()

AT_ONCE = 8


class ChainList(msgspec.Struct, frozen=True, kw_only=True):
    """The chains that were looked at, in the order of their ids."""

    items: list[story.Chain]


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a space, oldest first."""

    space_id: str
    name: str
    items: list[story.Moment]


@endpoint(
    blueprint,
    "GET",
    "/audit",
    name="audit_verify",
    action="audit.read",
    summary="Read the audit chains of one space or of all, and say where one is broken",
    response=ChainList,
    query=("space",),
    problems=("not-found",),
)
async def verify(request: Request) -> Reply:
    """Every chain, hashed anew."""
    registry, gate = Registry(request.ports.tables), asyncio.Semaphore(AT_ONCE)
    asked = request.query.get("space")
    ids = [await registry.id_of(asked)] if asked else sorted(await registry.ids())

    async def one(space_id: str) -> story.Chain:
        async with gate:
            entries, head = await registry.audit_chain(space_id)
        return await asyncio.to_thread(story.chain, space_id, entries, head)

    return Reply(body=ChainList(items=list(await asyncio.gather(*map(one, ids)))))


@endpoint(
    blueprint,
    "GET",
    "/spaces/{space_id}/timeline",
    name="spaces_timeline",
    action="space.read",
    summary="What happened to a space, step by step, oldest first",
    response=Timeline,
    query=("operation",),
    problems=("not-found",),
)
async def timeline(request: Request) -> Reply:
    """The story of one space; an operation's id is good for its space."""
    registry = Registry(request.ports.tables)
    asked = request.params["space_id"]
    space_id = space_of_op(asked)
    op_id = asked if space_id is not None else request.query.get("operation")
    loaded = await (registry.require(space_id) if space_id else registry.find(asked))
    space = loaded.space
    entries, steps = await asyncio.gather(
        registry.audit_entries(space.space_id), registry.steps(space.space_id)
    )
    items = story.told(entries, steps, op_id=op_id)
    return Reply(body=Timeline(space_id=space.space_id, name=space.name, items=items))
