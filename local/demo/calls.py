"""The calls of the journey: each over the door that the real caller would use.

The signup flow and operators ask over HTTP, the billing system puts messages on its queue, the
customer uses the public URL, and the accident happens in the database and the container
themselves, with the credentials that the space's own vault holds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
from azure.core.credentials import AccessToken
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.keyvault.secrets.aio import SecretClient
from azure.mgmt.resource.resources.aio import ResourceManagementClient
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from azure.storage.blob.aio import BlobServiceClient

from local.app_settings import subscription_id
from local.key_vault.ca import ca_file
from local.key_vault.vaults import Vaults
from local.service_bus.connection import connection_string
from local.stack import QUEUES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local.home import Home


class StepFailed(Exception):  # noqa: N818 — the journey's word for it
    """A step of the journey did not hold; the message says what was seen instead."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody answered over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 — JSON
        """The body as JSON."""
        return json.loads(self.body)


class Api:
    """The stack's own HTTP interface, and its queue, as outside callers use them."""

    def __init__(self, home: Home, session: aiohttp.ClientSession) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{home.port('functions_host')}"
        self._session = session

    async def ask(
        self, method: str, path: str, body: object = None, *, master: bool = False
    ) -> Answer:
        """One request with a key; a new Idempotency-Key each time."""
        key = self.home.secret("master_key" if master else "function_key")
        headers = {"x-functions-key": key, "Idempotency-Key": str(uuid.uuid4())}
        async with self._session.request(
            method, self.url + path, json=body, headers=headers
        ) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.read())

    async def get(self, path: str) -> Any:  # noqa: ANN401 — JSON
        """GET below /api/v1; anything but 200 fails the step."""
        return self.expect(await self.ask("GET", f"/api/v1{path}"), 200, path)

    async def post(self, path: str, body: object, *, status: int) -> Any:  # noqa: ANN401 — JSON
        """POST below /api/v1; another status fails the step."""
        return self.expect(await self.ask("POST", f"/api/v1{path}", body), status, path)

    @staticmethod
    def expect(answer: Answer, status: int, what: str) -> Any:  # noqa: ANN401 — JSON
        """The body of an answer that must have this status."""
        if answer.status != status:
            told = answer.body[:300].decode(errors="replace")
            raise StepFailed(f"{what} answered {answer.status} instead of {status}: {told}")
        return answer.json() if answer.body else None

    async def pay(self, order: dict[str, Any], *, country: str) -> str:
        """Put the event of a paid order on the billing queue; answers its id."""
        now = datetime.now(UTC).replace(microsecond=0)
        event = {
            "specversion": "1.0",
            "id": f"evt-{uuid.uuid4()}",
            "source": "/billing",
            "type": "billing.subscription.activated",
            "time": _rfc3339(now),
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
                    "country": country,
                    "period_end": _rfc3339(now + timedelta(days=30)),
                    "grace_days": 14,
                    "legal_hold": False,
                    "customer_ref": order["customer_ref"],
                },
            },
        }
        message = ServiceBusMessage(
            json.dumps(event),
            message_id=event["id"],
            content_type="application/cloudevents+json",
        )
        async with (
            ServiceBusClient.from_connection_string(connection_string(self.home)) as client,
            client.get_queue_sender(QUEUES["billing"]) as sender,
        ):
            await sender.send_messages(message)
        return str(event["id"])

    async def watch(self, path: str) -> AsyncIterator[Any]:
        """The thing at `path`, again and again; the caller stops when it has seen enough."""
        while True:
            yield await self.get(path)
            await asyncio.sleep(0.1)


class Customer:
    """A customer's browser on its own URL: every name of the local cloud is this machine."""

    def __init__(self, home: Home, session: aiohttp.ClientSession) -> None:
        self._port = home.port("front_door")
        self._session = session

    async def ask(
        self,
        method: str,
        url: str,
        *,
        json_body: object = None,
        form: Any = None,  # noqa: ANN401
    ) -> Answer:
        """One request to a space's URL."""
        host = url.removeprefix("http://").partition("/")[0]
        here = url.replace(host, f"127.0.0.1:{self._port}", 1)
        async with self._session.request(
            method, here, headers={"Host": host}, json=json_body, data=form
        ) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.read())

    async def zones(self, url: str, *, asks: int = 8) -> set[str]:
        """The zones that answer healthy at this URL."""
        seen: set[str] = set()
        for _ in range(asks):
            answer = await self.ask("GET", f"{url}/healthz")
            if answer.status == 200:
                seen.add(str(answer.json()["zone"]))
        return seen

    async def upload(self, url: str, name: str, data: bytes) -> dict[str, Any]:
        """Attach a file; answers the document."""
        form = aiohttp.FormData()
        form.add_field("file", data, filename=name, content_type="application/octet-stream")
        answer = await self.ask("POST", f"{url}/api/documents", form=form)
        return Api.expect(answer, 201, "POST /api/documents")


class _Plain(SansIOHTTPPolicy[Any, Any]):
    def on_request(self, request: Any) -> None:  # noqa: ANN401 — azure-core's own type
        request.context.options["enforce_https"] = False


class _Token:
    """The one token that the local cloud accepts."""

    def __init__(self, home: Home) -> None:
        self._token = home.secret("token")

    async def get_token(self, *_: str, **__: Any) -> AccessToken:  # noqa: ANN401
        return AccessToken(self._token, 2**31)

    async def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> _Token:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""


async def vault_of(home: Home, space_id: str) -> str:
    """The URI of a space's own vault, found by the tags on what the Resource Manager made."""
    base = f"http://127.0.0.1:{home.port('resource_manager')}"
    async with ResourceManagementClient(
        _Token(home),  # pyright: ignore[reportArgumentType]
        subscription_id(home),
        base_url=base,
        per_call_policies=[_Plain()],
        use_env_settings=False,
    ) as client:
        wanted = f"tagName eq 'kpax-space' and tagValue eq '{space_id}'"
        async for resource in client.resources.list(filter=wanted):
            if str(resource.type).lower() == "microsoft.keyvault/vaults":
                vault = Vaults(home).get(str(resource.name))
                if vault is not None:
                    return vault.uri
    raise StepFailed(f"no vault carries the tag of space {space_id}")


async def settings_of(home: Home, space_id: str) -> dict[str, Any]:
    """What the space's application is told: the secret `settings` of its vault."""
    async with SecretClient(
        vault_url=await vault_of(home, space_id),
        credential=_Token(home),  # pyright: ignore[reportArgumentType]
        connection_verify=str(ca_file(home)),
        verify_challenge_resource=False,
        use_env_settings=False,
    ) as client:
        secret = await client.get_secret("settings")
        return json.loads(secret.value or "{}")


async def lose_everything(home: Home, space_id: str) -> tuple[int, int]:
    """The accident: drop every table, delete every blob. Answers how many of each were lost."""
    told = await settings_of(home, space_id)
    where = told["database"]
    database = await asyncpg.connect(
        host=where["host"],
        port=where["port"],
        user=where["user"],
        password=where["password"],
        database=where["name"],
    )
    try:
        tables = await database.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'kpax_backup')"
        )
        for table in tables:
            await database.execute(f"DROP TABLE IF EXISTS {table['name']} CASCADE")
    finally:
        await database.close()
    blobs = 0
    storage = told["storage"]
    async with (
        BlobServiceClient.from_connection_string(storage["connection_string"]) as service,
        service.get_container_client(storage["container"]) as container,
    ):
        async for name in container.list_blob_names():
            await container.delete_blob(name)
            blobs += 1
    return len(tables), blobs


def kill(pid: int) -> None:
    """Kill -9, as a power cut in one zone would."""
    os.kill(pid, signal.SIGKILL)


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
