"""The doors of provisioning: the billing queue, the step queue, the sweeper, orders over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import azure.functions as func
import msgspec

from provisioning import orders, orphans
from provisioning.admit import ATTEMPT, FIRST_SEEN, ORIGINAL_ID, Incoming, admit
from provisioning.plans import PLANS
from spaces.http import Reply, Request, endpoint
from spaces.messages import Poke
from spaces.saga import dead
from spaces.saga.runner import advance
from spaces.saga.sweep import sweep
from spaces.settings import settings
from spaces.wiring import ports

blueprint = func.Blueprint()


@blueprint.function_name("provisioning_on_billing_event")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="billing-events", connection="ServiceBus"
)
async def on_billing_event(message: func.ServiceBusMessage) -> None:
    """A billing event: desired state, and the start of an operation where there is none."""
    properties = cast("dict[str, object]", message.application_properties or {})
    # A copy that was put off tells whose it is; one of a message without id tells that too.
    original = properties.get(ORIGINAL_ID, message.message_id)
    attempt = str(properties.get(ATTEMPT, ""))
    incoming = Incoming(
        body=message.get_body(),
        message_id=str(original) if original else None,
        sequence_number=message.sequence_number or 0,
        first_seen=first_seen(properties.get(FIRST_SEEN), _enqueued(message)),
        attempt=int(attempt) if attempt.isascii() and attempt.isdigit() else 0,
    )
    await admit(ports(), settings(), incoming)


@blueprint.function_name("provisioning_on_step")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="provisioning-steps", connection="ServiceBus"
)
async def on_step(message: func.ServiceBusMessage) -> None:
    """A poke: move one space by one step."""
    poke = msgspec.json.decode(message.get_body(), type=Poke)
    await advance(
        ports(),
        PLANS,
        poke,
        message_id=message.message_id or "",
        floor_s=settings().poll_floor_s,
    )


@blueprint.function_name("provisioning_on_dead_step")
@blueprint.service_bus_queue_trigger(
    arg_name="message",
    queue_name="provisioning-steps/$DeadLetterQueue",
    connection="ServiceBus",
)
async def on_dead_step(message: func.ServiceBusMessage) -> None:
    """A poke that nobody could work on: its operation waits for an operator."""
    await dead.bury(ports(), dead.read(message, "provisioning-steps"))


@blueprint.function_name("provisioning_on_dead_billing_event")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name="billing-events/$DeadLetterQueue", connection="ServiceBus"
)
async def on_dead_billing_event(message: func.ServiceBusMessage) -> None:
    """A billing event that nobody could work on: kept as rejected, with the queue's reason."""
    await dead.bury(ports(), dead.read(message, "billing-events"))


@blueprint.function_name("provisioning_sweep")
@blueprint.timer_trigger(arg_name="timer", schedule="%KPAX_SWEEP_SCHEDULE%")
async def on_sweep(timer: func.TimerRequest) -> None:
    """Say lost messages again; of every room, since the watch list is one."""
    del timer
    await sweep(ports(), grace_s=settings().sweep_grace_s)


@blueprint.function_name("provisioning_stray_stacks")
@blueprint.timer_trigger(arg_name="timer", schedule="45 */15 * * * *")
async def on_stray_stacks(timer: func.TimerRequest) -> None:
    """Compare all stacks with all spaces, and remove what stands for nobody."""
    del timer
    await orphans.compare(ports())


@endpoint(
    blueprint,
    "POST",
    "/orders",
    name="orders_create",
    action="order.create",
    summary="Order a space with a signed decision of /route",
    body=orders.OrderRequest,
    response=orders.OrderView,
    status=201,
    idempotent=True,
    problems=("validation-failed", "name-taken", "decision-invalid"),
)
async def create_order(request: Request) -> Reply:
    """Accept an order."""
    view = await orders.place(
        request.ports,
        request.settings,
        cast("orders.OrderRequest", request.body),
        caller=request.principal.subject,
        key=request.idempotency_key,
    )
    location = f"/api/v1/orders/{view.order_id}"
    return Reply(body=view, status=201, headers={"Location": location})


@endpoint(
    blueprint,
    "GET",
    "/orders/{order_id}",
    name="orders_get",
    action="order.read",
    summary="An order and its status",
    response=orders.OrderView,
    problems=("not-found",),
)
async def get_order(request: Request) -> Reply:
    """One order."""
    order_id = request.params["order_id"]
    return Reply(body=await orders.view(request.ports, request.settings, order_id))


def first_seen(told: object, enqueued: datetime) -> datetime:
    """When the first copy came, as our own later copies tell; a stranger's word counts for nothing."""
    try:
        at = datetime.fromisoformat(str(told))
    except ValueError:
        return enqueued
    return min(at, enqueued) if at.tzinfo else enqueued


def _enqueued(message: func.ServiceBusMessage) -> datetime:
    at = message.enqueued_time_utc
    if at is None:
        return datetime.now(UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
