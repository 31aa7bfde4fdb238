"""What a trigger hands to a function, and what an HTTP function hands back, as the host's messages.

Pure. The fields are those the real host sends, no more: code that reads a field which is None on
Azure must find None here. Numbers travel as JSON, times in the one format the library tries first
(any other costs it up to twelve attempts per field).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from local.functions_host.worker.protos import (
    CollectionBytes,
    CollectionSInt64,
    CollectionString,
    RpcHttp,
    TypedData,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local.functions_host.queues.port import Delivery

_NEVER = "9999-12-31T23:59:59+00:00"
_SAME_SITE = {1: "Lax", 2: "Strict", 3: "None"}


@dataclass(frozen=True, slots=True)
class Response:
    """The answer of an HTTP function; `cookies` are whole Set-Cookie values."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: list[str] = field(default_factory=list)


def message_data(delivery: Delivery) -> tuple[TypedData, dict[str, TypedData]]:
    """Body and metadata of one Service Bus message. `UserProperties` tells the library it is one."""
    texts, others = _texts(delivery), _others(delivery)
    metadata = {
        name: TypedData(string=text) for name, text in texts.items() if text is not None
    }
    metadata |= {name: _json(value) for name, value in others.items()}
    return TypedData(bytes=delivery.body), metadata


def batch_data(deliveries: Sequence[Delivery]) -> tuple[TypedData, dict[str, TypedData]]:
    """Bodies and metadata of several messages. `UserPropertiesArray` says how many there are."""
    every = [_texts(one) | _others(one) for one in deliveries]
    metadata = {
        f"{name}Array": _array([fields[name] for fields in every])
        for name in every[0]
        if any(fields[name] is not None for fields in every)
    }
    metadata["MessageIdArray"] = _array([one.message_id or "" for one in deliveries])
    metadata["SequenceNumberArray"] = TypedData(
        collection_sint64=CollectionSInt64(sint64=[one.sequence_number for one in deliveries])
    )
    bodies = CollectionBytes(bytes=[one.body for one in deliveries])
    return TypedData(collection_bytes=bodies), metadata


def _array(values: list[Any]) -> TypedData:
    # The library parses a list in JSON anew for every message of the batch; texts go without.
    if all(isinstance(value, str) for value in values):
        return TypedData(collection_string=CollectionString(string=values))
    return _json(values)


def _texts(delivery: Delivery) -> dict[str, str | None]:
    return {
        "MessageId": delivery.message_id,
        "ContentType": delivery.content_type,
        "CorrelationId": delivery.correlation_id,
        "ReplyTo": delivery.reply_to,
        "To": delivery.to,
        "Subject": delivery.subject,
        "Label": delivery.subject,
        "SessionId": delivery.session_id,
        "ReplyToSessionId": delivery.reply_to_session_id,
        "PartitionKey": delivery.partition_key,
        "DeadLetterSource": delivery.dead_letter_source,
        "LockToken": delivery.lock_token,
        "EnqueuedTimeUtc": _time(delivery.enqueued_at),
        "EnqueuedTime": _time(delivery.enqueued_at),
        "ExpiresAtUtc": _time(delivery.expires_at) or _NEVER,
        "ExpiresAt": _time(delivery.expires_at) or _NEVER,
    }


def _others(delivery: Delivery) -> dict[str, Any]:
    return {
        "DeliveryCount": delivery.delivery_count,
        "SequenceNumber": delivery.sequence_number,
        "ApplicationProperties": delivery.properties,
        "UserProperties": delivery.properties,
    }


def timer_data(
    *, past_due: bool, last: datetime | None, following: datetime, updated: datetime | None
) -> TypedData:
    """The schedule information a timer function receives."""
    return _json(
        {
            "IsPastDue": past_due,
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": {
                "Last": last.isoformat() if last else "0001-01-01T00:00:00+00:00",
                "Next": following.isoformat(),
                "LastUpdated": (updated or last or following).isoformat(),
            },
        }
    )


def request_data(
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    route: Mapping[str, str],
    body: bytes,
) -> TypedData:
    """One HTTP request; an empty body is an unset value."""
    return TypedData(
        http=RpcHttp(
            method=method,
            url=url,
            headers=headers,
            query=query,
            params=route,
            body=TypedData(bytes=body) if body else TypedData(),
        )
    )


def response_of(value: TypedData | None) -> Response:
    """The answer in a function's return value: a response, plain text, or nothing (204)."""
    kind = value.WhichOneof("data") if value is not None else None
    if value is None or kind is None:
        return Response(204, {}, b"")
    if kind != "http":
        content = getattr(value, kind)
        body = content if isinstance(content, bytes) else str(content).encode()
        return Response(200, {"content-type": "text/plain; charset=utf-8"}, body)
    http = value.http
    return Response(
        status=int(http.status_code),
        headers={name.lower(): text for name, text in http.headers.items()},
        body=_body(http.body),
        cookies=[_cookie(one) for one in http.cookies or ()],
    )


def _body(data: TypedData | None) -> bytes:
    kind = data.WhichOneof("data") if data is not None else None
    if data is None or kind is None:
        return b""
    content = getattr(data, kind)
    return content if isinstance(content, bytes) else str(content).encode()


def _cookie(cookie: Any) -> str:  # noqa: ANN401 — an attribute bag
    parts = [f"{cookie.name}={_cookie_value(cookie.value)}"]
    for attribute, label in (("domain", "Domain"), ("path", "Path")):
        text = getattr(cookie, attribute)
        if text is not None and text.value:
            parts.append(f"{label}={text.value}")
    if cookie.expires is not None:
        expires = datetime.fromtimestamp(cookie.expires.value.seconds, UTC)
        parts.append(f"Expires={expires:%a, %d %b %Y %H:%M:%S} GMT")
    if cookie.max_age is not None:
        parts.append(f"Max-Age={int(cookie.max_age.value)}")
    if cookie.secure is not None and cookie.secure.value:
        parts.append("Secure")
    if cookie.http_only is not None and cookie.http_only.value:
        parts.append("HttpOnly")
    if cookie.same_site in _SAME_SITE:
        parts.append(f"SameSite={_SAME_SITE[cookie.same_site]}")
    return "; ".join(parts)


def _cookie_value(value: str) -> str:
    """As it stands where a cookie may hold it, percent-encoded where it may not."""
    return quote(value, safe="!#$%&'()*+-./:<=>?@[]^_`{|}~")


def _time(moment: datetime | None) -> str | None:
    return (
        None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
    )


def _json(value: object) -> TypedData:
    return TypedData(json=json.dumps(value, separators=(",", ":"), default=str))
