"""Request and answer messages, as `$cbs` and `$management` exchange them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.service_bus import codec
from local.service_bus.decode import decode, slices
from local.service_bus.message import sections

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROPERTIES, _APPLICATION_PROPERTIES, _VALUE = 0x73, 0x74, 0x77


@dataclass(slots=True)
class Request:
    """A request: its id as the bytes it came in, its properties and its body."""

    message_id: bytes = codec.NULL
    properties: dict[Any, Any] = field(default_factory=dict)
    body: Any = None


def read_request(raw: bytes) -> Request:
    """The request in a message.

    Raises:
        CodecError: the bytes are not a message.
    """
    request = Request()
    for code, start, _ in sections(raw):
        if code == _PROPERTIES:
            fields = slices(raw, start)
            request.message_id = fields[0] if fields else codec.NULL
        elif code == _APPLICATION_PROPERTIES:
            properties, _end = decode(raw, start)
            if isinstance(properties, dict):
                request.properties = {text(k): text(v) for k, v in properties.items()}
        elif code == _VALUE:
            request.body, _end = decode(raw, start)
    return request


def text(value: Any) -> Any:  # noqa: ANN401 — any AMQP value
    """Bytes as text: the SDK sends some of its words as binary."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def answer(request: Request, properties: Sequence[bytes], body: bytes) -> bytes:
    """The message that answers a request: its id becomes the correlation id."""
    fields = [codec.NULL] * 5 + [request.message_id]
    return b"".join(
        (
            codec.composite(_PROPERTIES, fields),
            codec.described(_APPLICATION_PROPERTIES, codec.map_(properties)),
            codec.described(_VALUE, body),
        )
    )
