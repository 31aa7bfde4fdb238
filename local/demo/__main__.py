"""Tell the journey, step by step, with what was really called and how long it took.

Exit code 0 only if every step held. Example: python -m local.demo
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import secrets
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from local.demo.calls import Api, Customer, StepFailed, kill, lose_everything
from local.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "iris", "jade")
CUSTOMERS = (("DE", "general", "standard"), ("KE", "general", "starter"), ("RU", "general", ""))
PROVISIONED_WITHIN_S = 120
BACKED_UP_WITHIN_S = 120


@dataclass(frozen=True, slots=True)
class Written:
    """What the customer put into the space: it must come back as it was."""

    reading: dict[str, Any]
    document: dict[str, Any]
    data: bytes


class Teller:
    """Says each step as it happens, and keeps the time."""

    def __init__(self) -> None:
        self._began = self._step = time.monotonic()
        self._bold = (lambda text: f"\033[1m{text}\033[0m") if sys.stdout.isatty() else str
        self._faint = (lambda text: f"\033[2m{text}\033[0m") if sys.stdout.isatty() else str

    def step(self, title: str) -> None:
        """A new step begins."""
        self._step = time.monotonic()
        print(f"\n{self._bold(title)}", flush=True)

    def called(self, what: str) -> None:
        """What is really called."""
        print(f"  {self._faint('→ ' + what)}", flush=True)

    def seen(self, what: str) -> None:
        """What came of it, with the seconds since the step began."""
        took = time.monotonic() - self._step
        print(f"  {took:5.1f} s  {what}", flush=True)

    def total(self) -> float:
        """Seconds since the journey began."""
        return time.monotonic() - self._began


async def journey(home: Home, tell: Teller) -> None:
    """The whole path; raises `StepFailed` where it does not hold."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        api, customer = Api(home, session), Customer(home, session)
        await _healthy(api, tell)
        orders = await _routed_and_ordered(api, tell)
        spaces = await _paid(api, tell, orders)
        await _answering(customer, tell, spaces)
        space = spaces[0]
        written = await _written(customer, tell, space)
        backup_id = await _backed_up(api, tell, spaces)
        await _destroyed(home, customer, tell, space)
        await _restored(api, tell, space, backup_id)
        await _as_before(customer, tell, space, written)
        await _zone_lost(api, customer, home, tell, space)
        await _table(api, home, tell, spaces)


async def _healthy(api: Api, tell: Teller) -> None:
    tell.step("1. The stack is healthy")
    tell.called(f"GET {api.url}/admin/host/status")
    status = Api.expect(await api.ask("GET", "/admin/host/status", master=True), 200, "status")
    tell.seen(f"the Functions host is {status['state']}")


async def _routed_and_ordered(api: Api, tell: Teller) -> list[tuple[dict[str, Any], str]]:
    tell.step("2. Where may three customers live? Lawful first, then near")
    orders: list[tuple[dict[str, Any], str]] = []
    for country, sector, plan in CUSTOMERS:
        request = {"country": country, "sector": sector}
        tell.called(f"POST /api/v1/route {request}")
        answer = await api.ask("POST", "/api/v1/route", request)
        told = answer.json()
        if told.get("decision") != "allowed":
            reasons = "; ".join(str(rule.get("id")) for rule in told.get("rules", []))
            tell.seen(f"{country}: {told['decision']} ({told['refusal']}), by rule {reasons}")
            if plan:
                raise StepFailed(f"{country} should be allowed")
            continue
        if not plan:
            raise StepFailed(f"{country} should be refused by law, not go to {told['cluster']}")
        tell.seen(f"{country}: {told['cluster']} ({told['azure_region']})")
        name = f"{secrets.choice(WORDS)}-{country.lower()}-{secrets.token_hex(2)}"
        body = {
            "name": name,
            "plan": plan,
            "customer_ref": f"c-{secrets.token_hex(3)}",
            "route": request,
            "token": told["token"],
        }
        tell.called(f"POST /api/v1/orders name={name} plan={plan}")
        order = await api.post("/orders", body, status=201)
        tell.seen(f"order {order['order_id']}: {order['status']}")
        orders.append((order, country))
    return orders


async def _paid(
    api: Api, tell: Teller, orders: list[tuple[dict[str, Any], str]]
) -> list[dict[str, Any]]:
    tell.step("3. The billing system says that both are paid; the steps tick")
    for order, country in orders:
        event = await api.pay(order, country=country)
        tell.called(f"queue billing-events: billing.subscription.activated {event}")
    return list(await asyncio.gather(*(_until_active(api, tell, order) for order, _ in orders)))


async def _until_active(api: Api, tell: Teller, order: dict[str, Any]) -> dict[str, Any]:
    shown = ""
    deadline = time.monotonic() + PROVISIONED_WITHIN_S
    async for space in api.watch(f"/spaces/{order['space_id']}"):
        operation = space["operation"]
        step = _running_step(operation) if operation else space["status"]
        if step != shown:
            tell.seen(f"{space['name']:<16} {step}")
            shown = step
        if space["status"] == "active":
            return space
        if space["status"] == "failed" or time.monotonic() > deadline:
            raise StepFailed(
                f"{space['name']} is {space['status']}: {space['failure'] or step}"
            )
    raise AssertionError("a watch does not end")


def _running_step(operation: dict[str, Any]) -> str:
    running = [step["name"] for step in operation["steps"] if step["status"] == "running"]
    return f"{operation['kind']}: {running[0] if running else operation['status']}"


async def _answering(customer: Customer, tell: Teller, spaces: list[dict[str, Any]]) -> None:
    tell.step("4. The URLs answer, from two zones each")
    for space in spaces:
        tell.called(f"GET {space['url']}/healthz")
        zones = await customer.zones(space["url"])
        if zones != set(space["zones"]):
            raise StepFailed(f"{space['url']} answers from zones {sorted(zones)} only")
        tell.seen(f"{space['url']} answers from zones {', '.join(sorted(zones))}")


async def _written(customer: Customer, tell: Teller, space: dict[str, Any]) -> Written:
    tell.step(f"5. {space['name']} works: a reading and an attachment")
    url = space["url"]
    device_body = {"name": "Boiler 1", "serial": f"sn-{secrets.token_hex(3)}"}
    answer = await customer.ask("POST", f"{url}/api/devices", json_body=device_body)
    device = Api.expect(answer, 201, "POST /api/devices")
    reading_body = {"device_id": device["id"], "value": 71.5, "unit": "°C"}
    answer = await customer.ask("POST", f"{url}/api/readings", json_body=reading_body)
    reading = Api.expect(answer, 201, "POST /api/readings")
    data = secrets.token_bytes(300_000)
    document = await customer.upload(url, "manual.bin", data)
    tell.called(f"POST {url}/api/devices, /api/readings, /api/documents")
    if document["sha256"] != hashlib.sha256(data).hexdigest():
        raise StepFailed("the attachment was stored with another hash than it has")
    tell.seen(
        f"reading {reading['value']} {reading['unit']}, {document['name']} of 300,000 bytes"
    )
    return Written(reading, document, data)


async def _backed_up(api: Api, tell: Teller, spaces: list[dict[str, Any]]) -> str:
    tell.step("6. The daily backup, run now through the host's admin call")
    tell.called("POST /admin/functions/backup_every_night")
    answer = await api.ask(
        "POST", "/admin/functions/backup_every_night", {"input": ""}, master=True
    )
    Api.expect(answer, 202, "the admin call")
    backups = await asyncio.gather(*(_until_verified(api, one) for one in spaces))
    for space, backup in zip(spaces, backups, strict=True):
        tell.seen(f"{space['name']:<16} {backup['backup_id']}, verified by a restore")
    return str(backups[0]["backup_id"])


async def _until_verified(api: Api, space: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + BACKED_UP_WITHIN_S
    async for current in api.watch(f"/spaces/{space['space_id']}"):
        last = current["last_backup"]
        if last and last["verified_at"] and current["operation"] is None:
            return last
        if time.monotonic() > deadline:
            raise StepFailed(f"{space['name']} has no verified backup after two minutes")
    raise AssertionError("a watch does not end")


async def _destroyed(
    home: Home, customer: Customer, tell: Teller, space: dict[str, Any]
) -> None:
    tell.step(f"7. The accident: the data of {space['name']} is destroyed behind its back")
    tables, blobs = await lose_everything(home, space["space_id"])
    tell.called("DROP TABLE … CASCADE; delete of every blob")
    tell.seen(f"{tables} tables dropped, {blobs} blobs deleted")
    answer = await customer.ask("GET", f"{space['url']}/api/readings")
    if answer.status == 200 and answer.json():
        raise StepFailed("the readings are still there: nothing was destroyed")
    tell.seen(f"GET /api/readings now answers {answer.status}")


async def _restored(api: Api, tell: Teller, space: dict[str, Any], backup_id: str) -> None:
    tell.step("8. Restore: beside the old data, verified, then switched")
    path = f"/spaces/{space['space_id']}/restores"
    tell.called(f"POST /api/v1{path} backup_id={backup_id}")
    operation = await api.post(path, {"backup_id": backup_id}, status=202)
    shown = ""
    async for current in api.watch(f"/operations/{operation['operation_id']}"):
        step = _running_step(current)
        if step != shown:
            tell.seen(step)
            shown = step
        if current["status"] == "succeeded":
            return
        if current["status"] not in {"running", "notStarted"}:
            raise StepFailed(f"the restore ended {current['status']}: {current['error']}")


async def _as_before(
    customer: Customer,
    tell: Teller,
    space: dict[str, Any],
    written: Written,
) -> None:
    tell.step("9. Both are there again, byte for byte")
    url = space["url"]
    readings = Api.expect(await customer.ask("GET", f"{url}/api/readings"), 200, "readings")
    if written.reading not in readings:
        raise StepFailed(f"the reading did not come back: {readings}")
    answer = await customer.ask("GET", f"{url}/api/documents/{written.document['id']}")
    if answer.status != 200 or answer.body != written.data:
        raise StepFailed(f"the attachment came back as {len(answer.body)} other bytes")
    tell.called(f"GET {url}/api/readings, /api/documents/{written.document['id']}")
    digest = written.document["sha256"][:16]
    tell.seen(f"the reading, and all {len(written.data):,} bytes: sha256 {digest}…")


async def _zone_lost(
    api: Api, customer: Customer, home: Home, tell: Teller, space: dict[str, Any]
) -> None:
    tell.step("10. One zone's process is killed; the URL still answers")
    headers = {"Authorization": f"Bearer {home.secret('token')}"}
    base = f"http://127.0.0.1:{home.port('resource_manager')}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{base}/_local/processes", headers=headers) as answer,
    ):
        items = (await answer.json())["items"]
    victim = next(
        one
        for one in items
        if one["kind"] == "instance" and one["space_id"] == space["space_id"] and one["running"]
    )
    kill(victim["pid"])
    tell.called(f"kill -9 {victim['pid']} ({victim['name']}, zone {victim['zone']})")
    for _ in range(20):
        reply = await customer.ask("GET", f"{space['url']}/healthz")
        if reply.status != 200 or str(reply.json()["zone"]) == str(victim["zone"]):
            raise StepFailed(f"after the kill {space['url']} answered {reply.status}")
    left = sorted(await customer.zones(space["url"]))
    tell.seen(f"20 of 20 requests answered, by zone {', '.join(left)}")
    await api.get(f"/spaces/{space['space_id']}")


async def _table(api: Api, home: Home, tell: Teller, spaces: list[dict[str, Any]]) -> None:
    tell.step(f"The journey held, in {tell.total():.0f} s. Where to look:")
    key = home.secret("function_key")
    rows = [("console", f"{api.url}/console?code={key}")]
    rows += [(space["name"], space["url"]) for space in spaces]
    port = home.port("front_door")
    for name, where in rows:
        print(f"  {name:<16} {where}")
    host = spaces[0]["url"].removeprefix("http://").partition(":")[0]
    print("  A browser finds these names by itself; an old tool needs help:")
    print(f"    curl --resolve {host}:{port}:127.0.0.1 {spaces[0]['url']}/healthz")
    print("\nTry next:")
    name = spaces[0]["name"]
    for command in (
        "kpax status",
        f"kpax space show {name}",
        f"kpax backup list {name}",
        f"kpax restore {name} --at latest --dry-run",
        "kpax route --country CA --sector health",
    ):
        print(f"  .venv/bin/{command}")


def _main(out: Callable[[str], object] = print) -> int:
    argparse.ArgumentParser(prog="python -m local.demo", description=__doc__).parse_args()
    tell = Teller()
    try:
        asyncio.run(journey(Home.open(), tell))
    except StepFailed as error:
        out(f"\nThe journey did not hold: {error}")
        return 1
    except aiohttp.ClientConnectionError as error:
        out(f"\nThe stack does not answer ({error}). Start it: kpax up --detach")
        return 6
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
