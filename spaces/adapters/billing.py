"""The billing system, asked over HTTP or read from a file.

Both speak one form (docs/contracts/billing-list.json): `{"items": [...], "next_cursor"?, "total"?}`
for the list, one item for a subscription. Whatever else comes is no answer: an answer that was cut
short, a proxy's page, a redirect.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from spaces.errors import (
    DamagedError,
    DeniedError,
    InvalidError,
    ThrottledError,
    TransientError,
    UnreachableError,
)
from spaces.messages import ListedSubscription, SubscriptionList
from spaces.ports import Subscription, SubscriptionPage

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 20.0
CONNECT_S = 5.0
MOST_BYTES = 32 * 2**20
PAGE = 500
RETRY_AFTER_S = 30.0


class HttpBilling:
    """`GET {url}/subscriptions` and `GET {url}/subscriptions/{subject}`, with a bearer token."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    async def subscription(self, subject: str) -> Subscription | None:
        """One subscription; see the port. A 404 counts only where billing itself says it, in JSON."""
        where = f"{self._url}/subscriptions/{quote(subject, safe='')}"
        raw = await self._get(where, may_be_missing=True)
        return None if raw is None else _subscription(_decoded(raw, ListedSubscription, where))

    async def page(self, cursor: str | None = None) -> SubscriptionPage:
        """One page; see the port."""
        asked = {"limit": str(PAGE), **({"cursor": cursor} if cursor is not None else {})}
        where = f"{self._url}/subscriptions?{urlencode(asked)}"
        raw = await self._get(where, may_be_missing=False)
        return _page(_decoded(raw or b"", SubscriptionList, where))

    async def close(self) -> None:
        """Close the session; the next request opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _get(self, where: str, *, may_be_missing: bool) -> bytes | None:
        try:
            async with self._opened().get(where, allow_redirects=False) as response:
                body = await _bounded(response)
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error, where) from error
        if response.status == 404 and may_be_missing and "json" in response.content_type:
            return None
        _check(response, where)
        return body

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Accept": "application/json"}
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            self._session = aiohttp.ClientSession(
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S, connect=CONNECT_S),
                trust_env=False,
            )
        return self._session


class FileBilling:
    """The same list in a file, read at each question. A missing file is no empty list."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def subscription(self, subject: str) -> Subscription | None:
        """One subscription; see the port."""
        found = [one for one in await self._items() if one.subject == subject]
        return max(found, key=lambda one: one.sequence, default=None)

    async def page(self, cursor: str | None = None) -> SubscriptionPage:
        """One page in the order of the subjects, so that a file may grow between two pages."""
        items = sorted(await self._items(), key=lambda one: one.subject)
        rest = [one for one in items if cursor is None or one.subject > cursor]
        shown, more = rest[:PAGE], len(rest) > PAGE
        return SubscriptionPage(
            items=tuple(shown),
            next_cursor=shown[-1].subject if more else None,
            total=len(items),
        )

    async def close(self) -> None:
        """Nothing is held."""

    async def _items(self) -> list[Subscription]:
        try:
            raw = await asyncio.to_thread(self._path.read_bytes)
        except OSError as error:
            raise UnreachableError(
                "the billing list cannot be read", where=str(self._path)
            ) from error
        listed = _decoded(raw, SubscriptionList, str(self._path))
        return [_subscription(one) for one in listed.items]


def _page(listed: SubscriptionList) -> SubscriptionPage:
    return SubscriptionPage(
        items=tuple(_subscription(one) for one in listed.items),
        next_cursor=listed.next_cursor,
        total=listed.total,
    )


def _subscription(one: ListedSubscription) -> Subscription:
    return Subscription(
        subject=one.subject,
        sequence=one.sequence,
        snapshot=one.snapshot,
        order_id=one.order_id,
        type=one.type,
    )


def _decoded[T](raw: bytes, kind: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise DamagedError(
            f"billing's answer is not what was agreed: {str(error)[:200]}", where=where
        ) from error


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > MOST_BYTES:
            raise DamagedError(f"billing's answer is larger than {MOST_BYTES // 2**20} MiB")
    return bytes(body)


def _check(response: aiohttp.ClientResponse, where: str) -> None:
    match response.status:
        case 200:
            return
        case 401 | 403:
            raise DeniedError(
                f"billing refuses our token (status {response.status})",
                where=where,
                remedy="See the setting KPAX_BILLING_TOKEN.",
            )
        case 429:
            raise ThrottledError(
                "billing asks to come back later",
                retry_after_s=_retry_after_s(response),
                where=where,
            )
        case 400 | 414 | 422:
            raise InvalidError(
                f"billing refuses the question (status {response.status})", where=where
            )
        case status if status == 408 or status >= 500:
            raise TransientError(f"billing cannot answer now (status {status})", where=where)
        case status:
            raise DamagedError(
                f"billing's answer is not what was agreed: status {status}", where=where
            )


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    told = response.headers.get("Retry-After", "")
    return min(float(told), 3_600.0) if told.isascii() and told.isdigit() else RETRY_AFTER_S


def _unreachable(error: Exception, where: str) -> UnreachableError:
    late = isinstance(error, (TimeoutError, asyncio.TimeoutError))
    how = f"no answer within {TIMEOUT_S:g} s" if late else str(error)[:200]
    return UnreachableError(f"billing does not answer: {how}", where=where)
