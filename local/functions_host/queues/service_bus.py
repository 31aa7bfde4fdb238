"""The bus port on the unmodified Service Bus SDK: one connection per receiver.

The SDK's own retries are off: the listener opens a new receiver instead, which also outlives a
restart of the broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.amqp import AmqpMessageBodyType
from azure.servicebus.exceptions import (
    MessageAlreadySettled,
    MessageLockLostError,
    MessageNotFoundError,
    OperationTimeoutError,
    SessionLockLostError,
)

from local.functions_host.queues.port import (
    SUBSCRIPTIONS,
    BusError,
    Delivery,
    LockLostError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from azure.servicebus import ServiceBusReceivedMessage
    from azure.servicebus.aio import ServiceBusReceiver, ServiceBusSender

_DEAD_LETTERS = "/$deadletterqueue"
# How long the SDK holds the socket per look at it. A message that its keep-alive task happens to
# read is noticed only after this: with the default of 0.2 s one message in fifty is that late.
# Shorter looks cost idle time of the processor (12 links: 0.05 s 1 % of a core, 0.02 s 3 %).
_SOCKET_S = 0.05


class ServiceBus:
    """One namespace, named by its connection string."""

    def __init__(self, connection_string: str) -> None:
        # Without a context the SDK builds one per link, plain connections too: 20 to 70 ms of
        # reading certificates each, on the loop that all functions share.
        self._senders: dict[str, ServiceBusSender] = {}
        self._sending: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._client = ServiceBusClient.from_connection_string(
            connection_string, retry_total=0, ssl_context=ssl.create_default_context()
        )

    async def open(self, queue: str, *, prefetch: int = 0) -> SdkReceiver:
        """See `Bus.open`."""
        is_dead = queue.lower().endswith(_DEAD_LETTERS)
        receiver = self._receiver(
            queue[: -len(_DEAD_LETTERS)] if is_dead else queue,
            sub_queue=ServiceBusSubQueue.DEAD_LETTER if is_dead else None,
            prefetch_count=prefetch,
            socket_timeout=_SOCKET_S,
        )
        await _opened(receiver)
        return SdkReceiver(receiver)

    async def open_session(
        self, queue: str, *, wait_s: float, prefetch: int = 0
    ) -> SdkSessionReceiver | None:
        """See `Bus.open_session`."""
        receiver = self._receiver(
            queue,
            session_id=NEXT_AVAILABLE_SESSION,
            max_wait_time=wait_s,
            prefetch_count=prefetch,
            socket_timeout=_SOCKET_S,
        )
        try:
            await _opened(receiver)
        except _NoSessionError:
            return None
        return SdkSessionReceiver(receiver)

    async def send(
        self, entity: str, body: bytes, *, content_type: str, is_topic: bool
    ) -> None:
        """See `Bus.send`. A link that was lost meanwhile is opened anew, once."""
        message = ServiceBusMessage(body, content_type=content_type)
        async with self._sending[entity]:
            for last in (False, True):
                fresh = entity not in self._senders
                try:
                    with _as_bus_errors():
                        sender = await self._sender(entity, is_topic=is_topic)
                        await sender.send_messages(message)
                except BusError:
                    await self._forget(entity)
                    if last or fresh:
                        raise
                else:
                    return

    async def close(self) -> None:
        """See `Bus.close`."""
        for entity in list(self._senders):
            await self._forget(entity)
        await self._client.close()

    def _receiver(self, entity: str, **options: Any) -> ServiceBusReceiver:  # noqa: ANN401 — of the SDK
        topic, is_subscription, name = _parted(entity)
        if is_subscription:
            return self._client.get_subscription_receiver(topic, name, **options)
        return self._client.get_queue_receiver(entity, **options)

    async def _sender(self, entity: str, *, is_topic: bool) -> ServiceBusSender:
        if entity not in self._senders:
            opened = (
                self._client.get_topic_sender if is_topic else self._client.get_queue_sender
            )
            self._senders[entity] = opened(entity)
            await self._senders[entity].__aenter__()
        return self._senders[entity]

    async def _forget(self, entity: str) -> None:
        sender = self._senders.pop(entity, None)
        if sender is not None:
            with contextlib.suppress(AzureError, OSError, ValueError, RuntimeError):
                await sender.close()


def _parted(entity: str) -> tuple[str, bool, str]:
    """A topic and its subscription, where that is what an entity is."""
    at = entity.lower().find(SUBSCRIPTIONS)
    return entity[:at], at > 0, entity[at + len(SUBSCRIPTIONS) :]


class _NoSessionError(Exception):
    """Nobody sent to a session that is free."""


async def _opened(receiver: ServiceBusReceiver) -> None:
    """Open the link, or leave nothing of it."""
    try:
        with _as_bus_errors():
            try:
                await receiver.__aenter__()
            except OperationTimeoutError as error:
                raise _NoSessionError from error
    except BaseException:
        with contextlib.suppress(Exception):
            await receiver.close()
        raise


class SdkReceiver:
    """One open link."""

    def __init__(self, receiver: ServiceBusReceiver) -> None:
        self._receiver = receiver

    async def receive(self, wait_s: float) -> Delivery | None:
        """See `Receiver.receive`."""
        found = await self.receive_many(1, wait_s)
        return found[0] if found else None

    async def receive_many(self, count: int, wait_s: float) -> list[Delivery]:
        """See `Receiver.receive_many`."""
        with _as_bus_errors():
            found = await self._receiver.receive_messages(
                max_message_count=count, max_wait_time=wait_s
            )
        return [_delivery(one, self._locked_until(one)) for one in found]

    async def complete(self, delivery: Delivery) -> None:
        """See `Receiver.complete`."""
        with _as_bus_errors():
            await self._receiver.complete_message(delivery.raw)

    async def abandon(self, delivery: Delivery) -> None:
        """See `Receiver.abandon`."""
        with _as_bus_errors():
            await self._receiver.abandon_message(delivery.raw)

    async def renew(self, delivery: Delivery) -> datetime:
        """See `Receiver.renew`."""
        with _as_bus_errors():
            return await self._receiver.renew_message_lock(delivery.raw)

    async def close(self) -> None:
        """See `Receiver.close`."""
        with contextlib.suppress(AzureError, OSError, ValueError, RuntimeError):
            await self._receiver.close()

    def _locked_until(self, message: ServiceBusReceivedMessage) -> datetime | None:
        return message.locked_until_utc


class SdkSessionReceiver(SdkReceiver):
    """One open link that holds a session."""

    @property
    def session_id(self) -> str:
        """See `SessionReceiver.session_id`."""
        return self._receiver.session.session_id

    @property
    def locked_until(self) -> datetime:
        """See `SessionReceiver.locked_until`."""
        until = self._receiver.session.locked_until_utc
        if until is None:
            raise BusError("a session came without a lock")
        return until

    async def renew_session(self) -> datetime:
        """See `SessionReceiver.renew_session`."""
        with _as_bus_errors():
            return await self._receiver.session.renew_lock()

    def _locked_until(self, message: ServiceBusReceivedMessage) -> datetime | None:
        del message  # its lock is the session's
        return self._receiver.session.locked_until_utc


@contextlib.contextmanager
def _as_bus_errors() -> Iterator[None]:
    try:
        yield
    except (
        MessageLockLostError,
        SessionLockLostError,
        MessageAlreadySettled,
        MessageNotFoundError,
    ) as error:
        raise LockLostError(str(error)) from error
    # Beside its own errors the SDK lets through what a dying socket or a half-closed link makes
    # of its internals: ValueError, AttributeError and the like.
    except (AzureError, OSError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise BusError(f"{type(error).__name__}: {error}") from error


def _delivery(message: ServiceBusReceivedMessage, locked_until: datetime | None) -> Delivery:
    if locked_until is None:
        raise BusError("a message came without a lock")
    return Delivery(
        body=_body(message),
        message_id=_text(message.message_id),
        sequence_number=message.sequence_number or 0,
        # The wire counts from 0, functions from 1.
        delivery_count=(message.delivery_count or 0) + 1,
        lock_token=str(message.lock_token),
        locked_until=locked_until,
        properties={
            str(_plain(key)): _plain(value)
            for key, value in (message.application_properties or {}).items()
        },
        content_type=_text(message.content_type),
        correlation_id=_text(message.correlation_id),
        subject=_text(message.subject),
        to=_text(message.to),
        reply_to=_text(message.reply_to),
        session_id=_text(message.session_id),
        reply_to_session_id=_text(message.reply_to_session_id),
        partition_key=_text(message.partition_key),
        dead_letter_source=_text(message.dead_letter_source),
        enqueued_at=message.enqueued_time_utc,
        expires_at=message.expires_at_utc,
        raw=message,
    )


def _body(message: ServiceBusReceivedMessage) -> bytes:
    if message.body_type == AmqpMessageBodyType.DATA:
        return b"".join(message.body)
    value = (
        message.body if message.body_type == AmqpMessageBodyType.VALUE else list(message.body)
    )
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return json.dumps(_plain(value), default=str).encode()


def _text(value: Any) -> str | None:  # noqa: ANN401 — str, bytes, uuid or None, as the sender chose
    return None if value is None else str(_plain(value))


def _plain(value: Any) -> Any:  # noqa: ANN401 — any AMQP type
    match value:
        case bytes():
            return value.decode("utf-8", "replace")
        case dict():
            return {str(_plain(key)): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case str() | int() | float() | bool() | None:
            return value
        case _:
            return str(value)
