"""TLS on the administration port, for those who ask for it.

The administration client writes `https`, whatever its connection string says. A client that trusts
the stack's authority (`ca_file` in `kpax env --json`) needs nothing else; the plain ones stay
plain, on the same port. The certificate is looked for when the first such client comes: a broker
that nobody asks for TLS does not carry its libraries in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import cast


class Tls(asyncio.Protocol):
    """One TLS connection, around the protocol that speaks through it."""

    def __init__(self, inner: asyncio.Protocol, context: ssl.SSLContext) -> None:
        self._inner = inner
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._is_open = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        if self._is_open:
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Records, in pieces of any size."""
        self._incoming.write(data)
        try:
            if not self._is_open:
                self._tls.do_handshake()
                self._is_open = True
                self._inner.connection_made(cast("asyncio.BaseTransport", self))
            while plain := self._tls.read(65_536):
                self._inner.data_received(plain)
            self.close()  # the client said goodbye
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError:
            self._flush()  # the alert
            self.abort()

    def _flush(self) -> None:
        if self._transport is not None and (data := self._outgoing.read()):
            self._transport.write(data)

    # --- what the inner protocol takes for its socket

    def write(self, data: bytes) -> None:
        """Send this, sealed."""
        self._tls.write(data)
        self._flush()

    def close(self) -> None:
        """Say goodbye and close."""
        with contextlib.suppress(ssl.SSLError):  # it waits for the client's goodbye, we do not
            self._tls.unwrap()
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the socket."""
        if self._transport is not None:
            self._transport.abort()
