"""Just enough HTTP/1.1 for a handful of administration calls, in the broker's own loop.

A web framework would cost more memory than the broker has.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_HEAD, _MAX_BODY = 32_768, 262_144


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; header names in lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One answer."""

    status: int
    body: bytes = b""
    content_type: str = "application/atom+xml;type=entry;charset=utf-8"


class HttpConnection(asyncio.Protocol):
    """One client's connection, kept alive as long as it likes."""

    def __init__(self, respond: Callable[[HttpRequest], HttpResponse]) -> None:
        self._respond = respond
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._data += data
        while True:
            head, is_whole, rest = self._data.partition(b"\r\n\r\n")
            if len(head) > _MAX_HEAD:
                self._refuse(431)
                return
            if not is_whole:
                return
            try:
                method, target, headers = _parse(head)
                length = int(headers.get("content-length", "0"))
            except ValueError:
                self._refuse(400)
                return
            if not 0 <= length <= _MAX_BODY or "transfer-encoding" in headers:
                self._refuse(413)
                return
            if len(rest) < length:
                return
            self._data = rest[length:]
            url = urlsplit(target)
            path, query = unquote(url.path), parse_qs(url.query)
            self._answer(
                self._respond(HttpRequest(method, path, query, headers, rest[:length])),
                keeps_alive=headers.get("connection", "").lower() != "close",
            )

    def _refuse(self, status: int) -> None:
        self._answer(HttpResponse(status), keeps_alive=False)

    def _answer(self, response: HttpResponse, *, keeps_alive: bool) -> None:
        if self._transport is None:
            return
        phrase = HTTPStatus(response.status).phrase
        head = (
            f"HTTP/1.1 {response.status} {phrase}\r\nContent-Type: {response.content_type}\r\n"
            f"Content-Length: {len(response.body)}\r\n"
        )
        end = "\r\n" if keeps_alive else "Connection: close\r\n\r\n"
        self._transport.write((head + end).encode() + response.body)
        if not keeps_alive:
            self._data = b""
            self._transport.close()


def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(version)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return method, target, headers
