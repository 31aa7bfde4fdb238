"""The bus port on the unmodified Service Bus SDK: one connection per receiver, no prefetch.

Without prefetch a message is locked only when a slot is free to run it. The SDK's own retries are
off: the listener opens a new receiver instead, which also outlives a restart of the broker.
"""

from __future__ import annotations

import contextlib
import json
import ssl
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from azure.servicebus import ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.amqp import AmqpMessageBodyType
from azure.servicebus.exceptions import (
    MessageAlreadySettled,
    MessageLockLostError,
    MessageNotFoundError,
)

from local.functions_host.queues.port import BusError, Delivery, LockLostError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from azure.servicebus import ServiceBusReceivedMessage
    from azure.servicebus.aio import ServiceBusReceiver

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
        self._client = ServiceBusClient.from_connection_string(
            connection_string, retry_total=0, ssl_context=ssl.create_default_context()
        )

    async def open(self, queue: str) -> SdkReceiver:
        """See `Bus.open`."""
        name, is_dead = queue, queue.lower().endswith(_DEAD_LETTERS)
        if is_dead:
            name = queue[: -len(_DEAD_LETTERS)]
        receiver = self._client.get_queue_receiver(
            name,
            sub_queue=ServiceBusSubQueue.DEAD_LETTER if is_dead else None,
            prefetch_count=0,
            socket_timeout=_SOCKET_S,
        )
        try:
            with _as_bus_errors():
                await receiver.__aenter__()
        except BaseException:
            with contextlib.suppress(Exception):
                await receiver.close()
            raise
        return SdkReceiver(receiver)

    async def close(self) -> None:
        """See `Bus.close`."""
        await self._client.close()


class SdkReceiver:
    """One open link."""

    def __init__(self, receiver: ServiceBusReceiver) -> None:
        self._receiver = receiver

    async def receive(self, wait_s: float) -> Delivery | None:
        """See `Receiver.receive`."""
        with _as_bus_errors():
            found = await self._receiver.receive_messages(
                max_message_count=1, max_wait_time=wait_s
            )
        return _delivery(found[0]) if found else None

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


@contextlib.contextmanager
def _as_bus_errors() -> Iterator[None]:
    try:
        yield
    except (MessageLockLostError, MessageAlreadySettled, MessageNotFoundError) as error:
        raise LockLostError(str(error)) from error
    # Beside its own errors the SDK lets through what a dying socket or a half-closed link makes
    # of its internals: ValueError, AttributeError and the like.
    except (AzureError, OSError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise BusError(f"{type(error).__name__}: {error}") from error


def _delivery(message: ServiceBusReceivedMessage) -> Delivery:
    locked_until = message.locked_until_utc
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
