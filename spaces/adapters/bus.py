"""Service Bus by azure-servicebus: one client, one sender per queue, open for the process's life.

Opening a link costs half a second, sending over an open one about a millisecond. A sender is not
safe under concurrent calls, so each has a lock; a broken one is thrown away and opened anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.servicebus import (
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusSubQueue,
    exceptions,
)
from azure.servicebus.aio import ServiceBusClient

from spaces import errors, telemetry
from spaces.adapters.wire import RAISED, classify
from spaces.ports import Message, QueueDepth, Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from datetime import datetime

    from azure.core.credentials_async import AsyncTokenCredential
    from azure.servicebus import ServiceBusReceivedMessage
    from azure.servicebus.aio import ServiceBusReceiver, ServiceBusSender

    from spaces.adapters.wire import Wire

SEND_TIMEOUT_S = 10.0
"""All attempts together; a function that sends must end well before its message's lock does."""
BUSY_S = 10.0
"""What the service asks for when it is busy; its answer carries no number."""
_PEEK_AT_ONCE = 50
_CLOSE_S = 2.0

type _Link = ServiceBusSender | ServiceBusReceiver


class AzureBus:
    """The queues of one namespace, by connection string or by namespace and identity."""

    def __init__(
        self,
        wire: Wire,
        *,
        connection: str | None = None,
        namespace: str | None = None,
        admin: str | None = None,
        credential: AsyncTokenCredential | None = None,
    ) -> None:
        self._wire = wire
        self._connection = connection
        self._namespace = namespace
        self._admin_url = admin
        self._credential = credential
        self._client_now: ServiceBusClient | None = None
        self._admin_now: Any = None
        self._senders: dict[str, ServiceBusSender] = {}
        self._peekers: dict[str, ServiceBusReceiver] = {}
        self._lookers: dict[str, ServiceBusReceiver] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def send(self, messages: Sequence[Message]) -> None:
        """Send all; see the port. Messages of one queue go in one batch, in the order given.

        One queue after the other: were a poke stored before its events, the step it starts could
        take their rows for delivered.
        """
        by_queue: dict[str, list[Message]] = {}
        for message in messages:
            by_queue.setdefault(message.queue, []).append(message)
        for queue, group in by_queue.items():
            await self._send(queue, group)

    async def dead_letters(self, queue: str, *, limit: int = 50) -> list[Waiting]:
        """The first dead letters; see the port."""
        found: list[ServiceBusReceivedMessage] = []
        async with self._link(self._peekers, queue, self._open_peeker) as receiver:
            at = 1
            while len(found) < limit:
                page = await receiver.peek_messages(
                    min(_PEEK_AT_ONCE, limit - len(found)),
                    sequence_number=at,
                    timeout=SEND_TIMEOUT_S,
                )
                if not page:
                    break
                found += page
                at = (page[-1].sequence_number or 0) + 1
        return [_waiting(message) for message in found]

    async def depths(self, queues: Sequence[str]) -> list[QueueDepth]:
        """Counts of each queue; see the port."""
        return list(await asyncio.gather(*(self._depth(queue) for queue in queues)))

    async def oldest(self, queue: str) -> datetime | None:
        """When the oldest active message came; see the port. Pages over what is not active."""
        async with self._link(self._lookers, queue, self._open_looker) as receiver:
            at = 1
            while page := await receiver.peek_messages(
                _PEEK_AT_ONCE, sequence_number=at, timeout=SEND_TIMEOUT_S
            ):
                for message in page:
                    if message.state is ServiceBusMessageState.ACTIVE:
                        return message.enqueued_time_utc
                at = (page[-1].sequence_number or 0) + 1
        return None

    async def close(self) -> None:
        """Close links and connections."""
        links = [*self._senders.values(), *self._peekers.values(), *self._lookers.values()]
        self._senders.clear()
        self._peekers.clear()
        self._lookers.clear()
        await asyncio.gather(*(_close(link) for link in links))
        client, self._client_now = self._client_now, None
        admin, self._admin_now = self._admin_now, None
        if client is not None:
            await _close(client)
        if admin is not None:
            await admin.close()

    async def _send(self, queue: str, messages: list[Message]) -> None:
        outgoing = [_outgoing(message) for message in messages]
        async with self._link(self._senders, queue, self._open_sender) as sender:
            if len(outgoing) == 1:
                await sender.send_messages(outgoing[0], timeout=SEND_TIMEOUT_S)
            else:
                await self._send_batches(sender, outgoing)
        telemetry.count(telemetry.BUS_MESSAGES, len(messages))

    async def _send_batches(
        self, sender: ServiceBusSender, outgoing: list[ServiceBusMessage]
    ) -> None:
        batch = await sender.create_message_batch()
        for message in outgoing:
            try:
                batch.add_message(message)
            except exceptions.MessageSizeExceededError:
                if not len(batch):
                    raise
                await sender.send_messages(batch, timeout=SEND_TIMEOUT_S)
                batch = await sender.create_message_batch()
                batch.add_message(message)
        await sender.send_messages(batch, timeout=SEND_TIMEOUT_S)

    @contextlib.asynccontextmanager
    async def _link[L: (ServiceBusSender, ServiceBusReceiver)](
        self, links: dict[str, L], queue: str, make: Callable[[str], L]
    ) -> AsyncGenerator[L]:
        """The open link of a queue, for one caller at a time; thrown away when it fails."""
        async with self._locks[f"{make.__name__} {queue}"]:
            if queue not in links:
                links[queue] = make(queue)
            link = links[queue]
            try:
                yield link
            except BaseException as error:
                # also when cancelled: half a frame may be on the wire
                if links.get(queue) is link:
                    del links[queue]
                    await _close(link)
                if isinstance(error, (*RAISED, ValueError)):
                    raise _meaning(error, queue) from error
                raise

    def _open_sender(self, queue: str) -> ServiceBusSender:
        return self._client().get_queue_sender(queue)

    def _open_peeker(self, queue: str) -> ServiceBusReceiver:
        return self._client().get_queue_receiver(
            queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER, prefetch_count=0
        )

    def _open_looker(self, queue: str) -> ServiceBusReceiver:
        return self._client().get_queue_receiver(queue, prefetch_count=0)

    def _client(self) -> ServiceBusClient:
        if self._client_now is None:
            options: dict[str, Any] = {"retry_total": 2, "retry_backoff_factor": 0.2}
            if self._connection is not None:
                self._client_now = ServiceBusClient.from_connection_string(
                    self._connection, **options
                )
            else:
                self._client_now = ServiceBusClient(
                    str(self._namespace), _given(self._credential), **options
                )
        return self._client_now

    async def _depth(self, queue: str) -> QueueDepth:
        try:
            now = await self._admin().get_queue_runtime_properties(queue)
        except RAISED as error:
            raise _meaning(error, queue) from error
        return QueueDepth(
            name=queue,
            active=now.active_message_count or 0,
            scheduled=now.scheduled_message_count or 0,
            dead_letter=now.dead_letter_message_count or 0,
        )

    def _admin(self) -> Any:  # noqa: ANN401 — imported late: 0.1 s that only the console needs
        if self._admin_now is None:
            from azure.servicebus.aio.management import (  # noqa: PLC0415
                ServiceBusAdministrationClient,
            )

            transport: Any = self._wire.transport()
            options: dict[str, Any] = {"retry_total": 0}
            if self._admin_url is not None:
                options["transport"] = _Plain(transport)
                self._admin_now = ServiceBusAdministrationClient.from_connection_string(
                    _at(str(self._connection), self._admin_url), **options
                )
            elif self._connection is not None:
                self._admin_now = ServiceBusAdministrationClient.from_connection_string(
                    self._connection, transport=transport, **options
                )
            else:
                self._admin_now = ServiceBusAdministrationClient(
                    str(self._namespace),
                    _given(self._credential),
                    transport=transport,
                    **options,
                )
        return self._admin_now


class _Plain:
    """A transport that speaks http where the administration client, which cannot, writes https."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401 — azure-core's transport
        self._inner = inner

    async def send(self, request: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        request.url = request.url.replace("https://", "http://", 1)
        return await self._inner.send(request, **kwargs)

    async def open(self) -> None:
        """Nothing: the session is shared."""

    async def close(self) -> None:
        """Nothing: the session outlives this client."""

    async def sleep(self, duration: float) -> None:
        """Wait between attempts."""
        await asyncio.sleep(duration)

    async def __aenter__(self) -> _Plain:
        return self

    async def __aexit__(self, *details: object) -> None:
        """Nothing: the session outlives this client."""


def _at(connection: str, url: str) -> str:
    """The connection string with the administration's host and port in the place of the queues'."""
    parts = [part for part in connection.split(";") if part]
    kept = [part for part in parts if not part.lower().startswith("endpoint=")]
    return ";".join([f"Endpoint=sb://{urlsplit(url).netloc}", *kept])


def _given(credential: AsyncTokenCredential | None) -> AsyncTokenCredential:
    if credential is None:
        raise errors.InvalidError(
            "no credential for the Service Bus namespace", where="application settings"
        )
    return credential


async def _close(link: Any) -> None:  # noqa: ANN401 — sender, receiver or client
    # what cannot be closed in time is broken already; its socket goes with it
    with contextlib.suppress(AzureError, OSError, TimeoutError, ValueError):
        async with asyncio.timeout(_CLOSE_S):
            await link.close()


def _outgoing(message: Message) -> ServiceBusMessage:
    due_at = message.due_at.astimezone(UTC) if message.due_at is not None else None
    return ServiceBusMessage(
        message.body,
        message_id=message.message_id,
        content_type="application/json",
        application_properties={**message.properties},
        scheduled_enqueue_time_utc=due_at,
    )


def _waiting(message: ServiceBusReceivedMessage) -> Waiting:
    return Waiting(
        message_id=str(message.message_id) if message.message_id is not None else None,
        body=_body(message),
        enqueued_at=message.enqueued_time_utc,
        delivery_count=message.delivery_count or 0,
        dead_letter_reason=message.dead_letter_reason,
        dead_letter_description=message.dead_letter_error_description,
    )


def _body(message: ServiceBusReceivedMessage) -> bytes:
    body: Any = message.body
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    try:
        return b"".join(body)
    except TypeError:  # an AMQP value that is no bytes: somebody else's sender wrote it
        return str(message).encode()


def _meaning(error: Exception, queue: str) -> errors.KpaxError:  # noqa: PLR0911 — a table
    where = f"queue {queue}"
    lines = str(error).splitlines() or [type(error).__name__]
    what = f"the bus refused: {lines[0][:200]}"
    match error:
        case exceptions.MessagingEntityNotFoundError() | ResourceNotFoundError():
            return errors.NotFoundError(what, where=where, remedy="Queues: infra/queues.json.")
        case exceptions.ServiceBusServerBusyError() | exceptions.ServiceBusQuotaExceededError():
            return errors.ThrottledError(what, where=where, retry_after_s=BUSY_S)
        case exceptions.MessageSizeExceededError():
            return errors.InvalidError(what, where=where)
        case exceptions.ServiceBusAuthenticationError():
            return errors.DeniedError(what, where=where)
        case exceptions.ServiceBusAuthorizationError():
            return errors.DeniedError(what, where=where)
        case exceptions.ServiceBusError() | ValueError():
            return errors.TransientError(what, where=where, remedy="Sending again is safe.")
        case _:
            return classify(error, "the bus does not answer", where=where)
