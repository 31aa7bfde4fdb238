"""`kpax order`, `kpax billing`, `kpax alarm`: order, speak as billing does, see what is wrong."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Annotated, Literal, cast
from urllib.parse import quote

import typer

from provisioning.speaking import Book, Said, changes_of, event_body, kind_of
from spaces.cli import Json, emit, failing, say, stop, table
from spaces.client import Body, Client, connect, endpoint
from spaces.errors import Exit, InvalidError, KpaxError, RefusedError
from spaces.following import Why  # noqa: TC001 — typer reads it at run time
from spaces.names import check_name

order_app = typer.Typer(no_args_is_help=True, help="Order a space.")
billing_app = typer.Typer(no_args_is_help=True, help="Send what the billing system would send.")

alarm_app = typer.Typer(no_args_is_help=True, help="What a person must look at.")

Plan = Literal["starter", "standard", "premium"]
BILLING_QUEUE = "billing-events"
BOOK = "billing.json"
ORDERED = ("plan", "country", "customer_ref")


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
    reason: Why = None,
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
                **({"reason": reason} if reason else {}),
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
    order: Annotated[
        str | None, typer.Option(help="The order that the subscription pays.")
    ] = None,
    subject: Annotated[str | None, typer.Option(help="Subscription; from the order.")] = None,
    sequence: Annotated[
        int | None, typer.Option(min=0, help="Rises per subscription; the next by default.")
    ] = None,
    event_id: Annotated[
        str | None, typer.Option(help="Id of the event; new by default.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="field=value of the snapshot; may be given often."),
    ] = None,
    plan: Annotated[Plan | None, typer.Option(help="As --set plan=…")] = None,
    status: Annotated[str | None, typer.Option(help="As --set status=…")] = None,
    no_sequence: Annotated[
        bool, typer.Option("--no-sequence", help="A hint: billing is asked for the state.")
    ] = False,
    reason: Why = None,
    as_json: Json = False,
) -> None:
    """Put a billing event on the queue, as the billing system does.

    Example: kpax billing send cancelled --order o-4mz6c2qk7d --set period_end=2026-12-01
    """
    with failing(as_json=as_json):
        kind = kind_of(event)
        given = [*(sets or ()), *([f"plan={plan}"] if plan else [])]
        changes = changes_of([*given, *([f"status={status}"] if status else [])])
        if order is None and subject is None:
            raise InvalidError(
                "it is not said whose event it is", remedy="Give --order or --subject."
            )
        if no_sequence and sequence is not None:
            raise InvalidError("--sequence and --no-sequence exclude each other")
        known = connect().get(f"/orders/{quote(order, safe='')}") if order is not None else None
        where = endpoint()
        book = Book(Path(where.home) / BOOK if where.home else None)
        whose = subject or f"sub-{order}"
        body = event_body(
            Said(
                kind=kind,
                event_id=event_id or f"evt-{uuid.uuid4()}",
                subject=whose,
                order_id=order,
                sequence=_sequence(book, whose, sequence, no_sequence=no_sequence),
                base=_base(book.known(whose), known),
                changes=changes,
                reason=reason,
            )
        )
        if where.bus_connection is None:
            raise InvalidError(
                "no Service Bus connection is known",
                remedy="Set KPAX_BUS_CONNECTION, or run the local stack: kpax up.",
            )
        book.keep(body)
        asyncio.run(_put_on_queue(where.bus_connection, body))
        sent: Body = {"queue": BILLING_QUEUE, "event": body}
        emit(sent, as_json=as_json, text=f"Sent {kind} {body['id']} for {order or whose}.")
        if not as_json and known is not None:
            say(f"Watch it: kpax space show {known['space_id']}")


def _sequence(book: Book, subject: str, given: int | None, *, no_sequence: bool) -> int | None:
    if no_sequence:
        return None
    return book.next_sequence(subject) if given is None else given


def _base(listed: Body | None, order: Body | None) -> Body:
    """The snapshot before the event: as it was said last, else as it was ordered."""
    if listed is not None:
        return cast("Body", listed["snapshot"])
    return {} if order is None else {name: order[name] for name in ORDERED}


@billing_app.command("reconcile")
def reconcile(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what differs; change nothing.")
    ] = False,
    reason: Why = None,
    as_json: Json = False,
) -> None:
    """Compare billing's list with the spaces now, as the hourly timer does.

    Example: kpax billing reconcile --dry-run
    """
    with failing(as_json=as_json):
        body = connect().post(
            "/billing/reconciliations", {"dry_run": dry_run, "reason": reason}
        )
        columns = ("kind", "about", "space_id", "outcome", "detail")
        rows = [[one[name] for name in columns] for one in _items(body)]
        whole = "" if body["complete"] else f"\nNot whole: {body['reason']}."
        head = f"{body['subscriptions']} subscriptions, {body['spaces']} spaces."
        text = "\n".join([head + whole, *([table(columns, rows)] if rows else [])])
        emit(body, as_json=as_json, text=text)


@alarm_app.command("list")
def list_alarms(
    everything: Annotated[
        bool, typer.Option("--all", help="Closed ones, and those only seen so far, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List what a person must look at.

    Example: kpax alarm list
    """
    with failing(as_json=as_json):
        body = connect().get("/alarms" + ("?all=true" if everything else ""))
        columns = ("alarm_id", "kind", "about", "space_id", "raised_at", "closed_at", "detail")
        rows = [[one[name] for name in columns] for one in _items(body)]
        emit(body, as_json=as_json, text=table(columns, rows) if rows else "No alarms.")


@alarm_app.command("close")
def close_alarm(
    alarm_id: Annotated[str, typer.Argument()],
    reason: Annotated[str, typer.Option(help="What was done about it.")],
    as_json: Json = False,
) -> None:
    """Close an alarm that was looked after.

    Example: kpax alarm close a-4mz6c2qk7d3f5h2j --reason "erased by hand, ticket 311"
    """
    with failing(as_json=as_json):
        path = f"/alarms/{quote(alarm_id, safe='')}/close"
        body = connect().post(path, {"reason": reason})
        emit(body, as_json=as_json, text=f"Closed {body['alarm_id']}: {body['kind']}.")


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


def _items(body: Body) -> list[Body]:
    return cast("list[Body]", body["items"])
