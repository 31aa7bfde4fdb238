"""What a new socket meets: its first bytes tell which protocol it speaks, and who goes on with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable


class Front(asyncio.Protocol):
    """Looks at the first bytes and hands over; `choose` says None until it has seen enough."""

    def __init__(self, choose: Callable[[bytes], asyncio.Protocol | None]) -> None:
        self._choose = choose
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """The first bytes, in one piece or several."""
        self._data += data
        chosen = self._choose(self._data)
        if chosen is not None and self._transport is not None:
            hand_over(self._transport, chosen, self._data)


def hand_over(transport: asyncio.Transport, protocol: asyncio.Protocol, data: bytes) -> None:
    """Let this protocol go on, with what has come already."""
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if data:
        protocol.data_received(data)
