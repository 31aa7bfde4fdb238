"""The public side of a space, asked by aiohttp as any customer's client would ask it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from spaces.errors import UnreachableError
from spaces.ports import Answer

if TYPE_CHECKING:
    from yarl import URL

TIMEOUT_S = 5.0
MOST_BYTES = 32 * 2**20


class HttpEdge:
    """Each request on a connection of its own, so that no instance is asked out of habit.

    With `resolve` every name is taken to stand at that address; the Host header keeps the name.
    """

    def __init__(self, *, resolve: str | None = None) -> None:
        self._resolve = resolve
        self._session: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Answer:
        """One request; see the port. Redirects are answers, not orders."""
        headers = {"Content-Type": content_type} if content_type else {}
        try:
            async with self._opened().request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return Answer(
                    status=response.status,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=await _bounded(response),
                )
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error, url) from error

    async def close(self) -> None:
        """Close the session; the next request opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = _Fixed(self._resolve) if self._resolve else None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=resolver, force_close=True, use_dns_cache=False
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                trust_env=False,
            )
        return self._session


class _Fixed(AbstractResolver):
    """Says of every name that it stands at one address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=self._address,
                port=port,
                family=socket.AF_INET6 if ":" in self._address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > MOST_BYTES:
            raise UnreachableError(
                f"the answer is larger than {MOST_BYTES // 2**20} MiB", where=str(_of(response))
            )
    return bytes(body)


def _of(response: aiohttp.ClientResponse) -> URL:
    return response.url.with_query(None)


def _unreachable(error: Exception, url: str) -> UnreachableError:
    late = isinstance(error, (TimeoutError, asyncio.TimeoutError))
    how = f"no answer within {TIMEOUT_S:g} s" if late else str(error)[:200]
    return UnreachableError(f"the space does not answer: {how}", where=url.partition("?")[0])
