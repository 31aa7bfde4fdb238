"""`kpax order` and `kpax billing`: order a space, and speak as the billing system does."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import quote

import typer

from spaces.cli import Json, emit, failing, say, stop, table
from spaces.client import Body, Client, connect, endpoint
from spaces.errors import Exit, InvalidError, KpaxError, RefusedError
from spaces.names import check_name

order_app = typer.Typer(no_args_is_help=True, help="Order a space.")
billing_app = typer.Typer(no_args_is_help=True, help="Send what the billing system would send.")

Plan = Literal["starter", "standard", "premium"]
BILLING_QUEUE = "billing-events"


@order_app.command("create")
def create(
    name: Annotated[str, typer.Option(help="Name of the space; part of its URL.")],
    country: Annotated[str, typer.Option(help="Country of the customer, ISO 3166-1 alpha-2.")],
    customer_ref: Annotated[str, typer.Option(help="The customer, as your books know it.")],
    plan: Annotated[Plan, typer.Option(help="What the customer buys.")] = "starter",
    sector: Annotated[
        str | None, typer.Option(help="Sector, where it changes the law.")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="Repeat a request under its key; new each time otherwise."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Route, then order: ask where the space may live, and order it there.

    Example: kpax order create --name acme --country DE --plan standard --customer-ref c-42
    """
    with failing(as_json=as_json):
        check_name(name)
        client = connect()
        request: Body = {"country": country}
        if sector:
            request["sector"] = sector
        token = _decision(client, request)
        order = client.post(
            "/orders",
            {
                "name": name,
                "plan": plan,
                "customer_ref": customer_ref,
                "route": request,
                "token": token,
            },
            idempotency_key=idempotency_key,
        )
        emit(order, as_json=as_json, text=_text(order))


@order_app.command("show")
def show(order_id: Annotated[str, typer.Argument()], as_json: Json = False) -> None:
    """Show an order.

    Example: kpax order show o-4mz6c2qk7d
    """
    with failing(as_json=as_json):
        order = connect().get(f"/orders/{quote(order_id, safe='')}")
        emit(order, as_json=as_json, text=_text(order))


@billing_app.command("send")
def send(
    event: Annotated[
        str, typer.Argument(help="activated, or any type as billing.invoice.paid.")
    ],
    order: Annotated[str, typer.Option(help="The order that the subscription pays.")],
    sequence: Annotated[int, typer.Option(min=0, help="Rises per subscription.")] = 1,
    event_id: Annotated[
        str | None, typer.Option(help="Id of the event; new by default.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Subscription; from the order.")] = None,
    plan: Annotated[
        Plan | None, typer.Option(help="Plan; that of the order by default.")
    ] = None,
    status: Annotated[str | None, typer.Option(help="Billing status; by the type.")] = None,
    as_json: Json = False,
) -> None:
    """Put a billing event on the queue, as the billing system does.

    Example: kpax billing send activated --order o-4mz6c2qk7d
    """
    with failing(as_json=as_json):
        kind = event if "." in event else f"billing.subscription.{event}"
        known = connect().get(f"/orders/{quote(order, safe='')}")
        body = event_body(
            known,
            kind,
            sequence=sequence,
            event_id=event_id or f"evt-{uuid.uuid4()}",
            subject=subject or f"sub-{order}",
            plan=plan,
            status=status,
        )
        connection = endpoint().bus_connection
        if connection is None:
            raise InvalidError(
                "no Service Bus connection is known",
                remedy="Set KPAX_BUS_CONNECTION, or run the local stack: kpax up.",
            )
        asyncio.run(_put_on_queue(connection, body))
        sent: Body = {"queue": BILLING_QUEUE, "event": body}
        emit(sent, as_json=as_json, text=f"Sent {kind} {body['id']} for {order}.")
        if not as_json:
            say(f"Watch it: kpax space show {known['space_id']}")


STATUS_OF = {
    "suspended": "suspended",
    "cancelled": "cancelled",
    "deleted": "deleted",
    "payment_failed": "past_due",
    "trial_ending": "trialing",
}


def event_body(
    order: Body,
    kind: str,
    *,
    sequence: int,
    event_id: str,
    subject: str,
    plan: str | None = None,
    status: str | None = None,
) -> Body:
    """A billing event on an order, with the whole state of its subscription."""
    now = datetime.now(UTC).replace(microsecond=0)
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/billing",
        "type": kind,
        "time": now.isoformat().replace("+00:00", "Z"),
        "subject": subject,
        "datacontenttype": "application/json",
        "data": {
            "sequence": sequence,
            "order_id": order["order_id"],
            "snapshot": {
                "status": status or STATUS_OF.get(kind.rsplit(".", 1)[-1], "active"),
                "plan": plan or order["plan"],
                "quantity": 1,
                "currency": "EUR",
                "country": order["country"],
                "period_end": (now + timedelta(days=30)).isoformat().replace("+00:00", "Z"),
                "grace_days": 14,
                "legal_hold": False,
                "customer_ref": order["customer_ref"],
            },
        },
    }


async def _put_on_queue(connection: str, body: Body) -> None:
    """Send as a stranger would: one message with the event's id, by the plain SDK."""
    from azure.servicebus import ServiceBusMessage  # noqa: PLC0415 - 0.3 s, only here
    from azure.servicebus.aio import ServiceBusClient  # noqa: PLC0415
    from azure.servicebus.exceptions import ServiceBusError  # noqa: PLC0415

    message = ServiceBusMessage(
        json.dumps(body),
        message_id=str(body["id"]),
        content_type="application/cloudevents+json",
    )
    try:
        async with (
            ServiceBusClient.from_connection_string(connection) as client,
            client.get_queue_sender(BILLING_QUEUE) as sender,
        ):
            await sender.send_messages(message)
    except ServiceBusError as error:
        raise KpaxError(
            "the event could not be put on the queue", where=str(error)[:200]
        ) from error


def _decision(client: Client, request: Body) -> str:
    """The token of an allowed decision; a refusal ends the command with the router's exit code."""
    answer = client.post("/route", request)
    token = answer.get("token")
    if not isinstance(token, str):
        waits = {"queued": Exit.QUEUED, "needs_review": Exit.NEEDS_PERSON}
        decision = str(answer.get("decision"))
        say(f"No order: the decision is {decision} ({answer.get('refusal')}).")
        if decision in waits:
            emit(answer, as_json=True)
            stop(waits[decision])
        raise RefusedError(f"the decision is {decision}", slug=str(answer.get("refusal")))
    return token


def _text(order: Body) -> str:
    keys = ("order_id", "space_id", "status", "name", "plan", "cluster", "url", "lapses_at")
    return table(("field", "value"), [(key, order.get(key)) for key in keys])
