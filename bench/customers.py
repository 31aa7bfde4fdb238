"""The outside of a running stack: who orders, who pays, who asks the URL.

The billing system's link is open before it is needed, as a billing system's is: opening one costs
half a second and would be taken for the product's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from local.demo.calls import Api, Customer
from local.service_bus.connection import connection_string
from local.stack import QUEUES

if TYPE_CHECKING:
    from local.home import Home

COUNTRIES = ("DE", "GB", "US", "CA", "ZA", "IN")
"""One for each cluster, so that an opening in turn finds no client of its cluster open."""
PATIENCE_S = 180.0
_LOOK_S = 0.02


class Customers:
    """Orders and pays over the doors that outside callers use; one for each running stack."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        session = await enter(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S))
        )
        self.api, self.browser = Api(self._home, session), Customer(self._home, session)
        client = await enter(
            ServiceBusClient.from_connection_string(connection_string(self._home))
        )
        self._billing = await enter(client.get_queue_sender(QUEUES["billing"]))
        await self._billing.create_message_batch()  # opens the link
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def order(self, name: str, *, plan: str, country: str = "DE") -> dict[str, Any]:
        """A placed order with its `country`; `url` is where the space will answer."""
        request = {"country": country, "sector": "general"}
        decided = Api.expect(
            await self.api.ask("POST", "/api/v1/route", request), 200, f"route {country}"
        )
        body = {
            "name": name,
            "plan": plan,
            "customer_ref": f"c-{name}",
            "route": request,
            "token": decided["token"],
        }
        return await self.api.post("/orders", body, status=201) | {"country": country}

    async def pay(self, *orders: dict[str, Any]) -> None:
        """Tell the queue that these are paid; returns when the broker has stored it."""
        await self._billing.send_messages([_event(order) for order in orders])

    async def answers(self, url: str) -> bool:
        """Whether the space answers healthy at its URL now."""
        with contextlib.suppress(aiohttp.ClientError):
            return (await self.browser.ask("GET", f"{url}/healthz")).status == 200
        return False

    async def until_answering(self, url: str) -> float:
        """Ask until the URL answers healthy; the moment it did (monotonic)."""
        deadline = time.monotonic() + PATIENCE_S
        while not await self.answers(url):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} does not answer after {PATIENCE_S:.0f} s")
            await asyncio.sleep(_LOOK_S)
        return time.monotonic()

    async def until_active(self, order: dict[str, Any]) -> dict[str, Any]:
        """Look until the space is active; the space."""
        deadline = time.monotonic() + PATIENCE_S
        async for space in self.api.watch(f"/spaces/{order['space_id']}"):
            if space["status"] == "active":
                return space
            if space["status"] == "failed" or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{space['name']} is {space['status']}: {space['operation'] or space['failure']}"
                )
        raise AssertionError("a watch does not end")

    async def open_space(
        self, name: str, *, plan: str = "standard", country: str = "DE"
    ) -> dict[str, Any]:
        """Order, pay, wait: an active space."""
        order = await self.order(name, plan=plan, country=country)
        await self.pay(order)
        return await self.until_active(order)

    async def operation(self, space_id: str, kind: str) -> dict[str, Any]:
        """The newest operation of this kind; it must have succeeded."""
        items = (await self.api.get(f"/spaces/{space_id}/operations"))["items"]
        found = next(item for item in items if item["kind"] == kind)
        if found["status"] != "succeeded":
            raise RuntimeError(f"{kind} of {space_id} is {found['status']}: {found['error']}")
        return await self.api.get(f"/operations/{found['operation_id']}")


def _event(order: dict[str, Any]) -> ServiceBusMessage:
    now = datetime.now(UTC).replace(microsecond=0)
    event = {
        "specversion": "1.0",
        "id": f"evt-{uuid.uuid4()}",
        "source": "/billing",
        "type": "billing.subscription.activated",
        "time": now.isoformat(),
        "subject": f"sub-{order['order_id']}",
        "datacontenttype": "application/json",
        "data": {
            "sequence": 1,
            "order_id": order["order_id"],
            "snapshot": {
                "status": "active",
                "plan": order["plan"],
                "quantity": 1,
                "currency": "EUR",
                "country": order["country"],
                "period_end": (now + timedelta(days=30)).isoformat(),
                "grace_days": 14,
                "legal_hold": False,
                "customer_ref": order["customer_ref"],
            },
        },
    }
    return ServiceBusMessage(json.dumps(event), message_id=str(event["id"]))
