"""The doors for people and their tools: spaces, operations and queues, read-only, and the page."""

from __future__ import annotations

import asyncio
from datetime import datetime

import azure.functions as func
import msgspec

from console import fleet, measure
from spaces import operations
from spaces.http import Reply, Request, endpoint
from spaces.registry import Registry
from spaces.views import OperationView, SpaceView, space_view
from spaces.wiring import ports

blueprint = func.Blueprint()


class SpaceList(msgspec.Struct, frozen=True, kw_only=True):
    """Spaces, oldest first within a cluster."""

    items: list[SpaceView]


class OperationList(msgspec.Struct, frozen=True, kw_only=True):
    """Operations of a space, newest first."""

    items: list[OperationView]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that Service Bus gave up, with the reason it gives."""

    reason: str | None
    description: str | None
    message_id: str | None


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A message that we could not accept, with our reason; `message_id` is null where it had none."""

    reason: str
    detail: str
    message_id: str | None
    at: datetime


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """One queue: what stands in it, what died in it, what was rejected from it."""

    name: str
    active: int
    scheduled: int
    dead_letter: int
    dead_letters: list[DeadLetter]
    rejected: list[Rejected]


class QueueList(msgspec.Struct, frozen=True, kw_only=True):
    """Every queue of the app."""

    items: list[QueueView]


@blueprint.function_name("console_measure")
@blueprint.timer_trigger(arg_name="timer", schedule="30 * * * * *")
async def on_measure(timer: func.TimerRequest) -> None:
    """Measure the queues, and what is under way."""
    del timer
    await measure.measure(ports())


@endpoint(
    blueprint,
    "GET",
    "/spaces",
    name="spaces_list",
    action="space.list",
    summary="All spaces, or those of one cluster or status",
    response=SpaceList,
    query=("cluster", "status"),
)
async def list_spaces(request: Request) -> Reply:
    """Spaces with their running operations."""
    spaces = await fleet.spaces(
        request.ports, cluster=request.query.get("cluster"), status=request.query.get("status")
    )
    views = await asyncio.gather(
        *(fleet.view(request.ports, request.settings, s) for s in spaces)
    )
    return Reply(body=SpaceList(items=list(views)))


@endpoint(
    blueprint,
    "GET",
    "/spaces/{space_id}",
    name="spaces_get",
    action="space.read",
    summary="A space by id or name, with its instances and limits",
    response=SpaceView,
    problems=("not-found",),
)
async def get_space(request: Request) -> Reply:
    """One space."""
    loaded = await Registry(request.ports.tables).find(request.params["space_id"])
    space = loaded.space
    instances, operation = await asyncio.gather(
        fleet.instances(request.ports, space), operations.running(request.ports, space)
    )
    url = request.settings.url_of(space.name, space.cluster)
    return Reply(body=space_view(space, url=url, instances=instances, operation=operation))


@endpoint(
    blueprint,
    "GET",
    "/spaces/{space_id}/operations",
    name="spaces_operations",
    action="space.read",
    summary="All operations of a space, newest first",
    response=OperationList,
    problems=("not-found",),
)
async def list_operations(request: Request) -> Reply:
    """The operations of one space."""
    loaded = await Registry(request.ports.tables).find(request.params["space_id"])
    return Reply(
        body=OperationList(items=await operations.of_space(request.ports, loaded.space))
    )


@endpoint(
    blueprint,
    "GET",
    "/operations",
    name="operations_list",
    action="space.read",
    summary="The operations of all spaces, newest first",
    response=OperationList,
)
async def list_all_operations(request: Request) -> Reply:
    """The operations of every space."""
    spaces = await fleet.spaces(request.ports)
    found = await asyncio.gather(*(operations.of_space(request.ports, one) for one in spaces))
    items = [one for of_space in found for one in of_space]
    return Reply(body=OperationList(items=sorted(items, key=_started, reverse=True)))


@endpoint(
    blueprint,
    "GET",
    "/operations/{operation_id}",
    name="operations_get",
    action="space.read",
    summary="An operation with its steps; 200 for failed ones too",
    response=OperationView,
    problems=("not-found",),
)
async def get_operation(request: Request) -> Reply:
    """One operation."""
    return Reply(body=await operations.show(request.ports, request.params["operation_id"]))


@endpoint(
    blueprint,
    "GET",
    "/queues",
    name="queues_list",
    action="queue.read",
    summary="Queues with their depths, dead letters and rejected messages",
    response=QueueList,
)
async def list_queues(request: Request) -> Reply:
    """Every queue."""
    depths = await request.ports.bus.depths(fleet.queues())
    items = [
        QueueView(
            name=depth.name,
            active=depth.active,
            scheduled=depth.scheduled,
            dead_letter=depth.dead_letter,
            dead_letters=[
                DeadLetter(
                    reason=one.dead_letter_reason,
                    description=one.dead_letter_description,
                    message_id=one.message_id,
                )
                for one in (
                    await request.ports.bus.dead_letters(depth.name)
                    if depth.dead_letter
                    else []
                )
            ],
            rejected=[
                msgspec.convert(one, type=Rejected)
                for one in await fleet.rejected(request.ports, depth.name)
            ],
        )
        for depth in depths
    ]
    return Reply(body=QueueList(items=items))


def _started(operation: OperationView) -> tuple[datetime, str]:
    return operation.started_at, operation.operation_id
