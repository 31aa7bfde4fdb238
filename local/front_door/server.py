"""The front door itself: takes a request, finds the space by its name, passes it through.

Bodies are streamed both ways. A request is tried at another instance when nothing of it can have
been carried out: the connection was refused, or it broke before an answer and the request is one
that may be repeated and none of its body was used. What an instance gets is marked as coming
from here; marks that a client sent are taken off.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from local.front_door import pages
from local.front_door.health import Health
from local.front_door.routes import Routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multidict import MultiMapping

    from local.front_door.routes import Origin, Route
    from local.home import Home

log = logging.getLogger("local.front_door")

_CONNECT_S = 1.0
_ORIGIN_S = 60.0  # an origin's first byte, and each next one
_CHUNK_BYTES = 64 * 1024
_ROUNDS = 2
_REPEATABLE = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}
_HOP_BY_HOP = {
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_SELF = {"127.0.0.1", "localhost"}


class FrontDoor:
    """Listens on one port for all spaces of a home."""

    def __init__(self, home: Home) -> None:
        self._port = home.port("front_door")
        self._id = home.secret("front_door_id")
        self._routes = Routes(home)
        self._health = Health(self._routes)
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self._runner = web.ServerRunner(
            web.Server(self._answer, access_log=None), shutdown_timeout=2.0
        )

    async def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        self._kept = _session(force_close=False)
        # What may not be sent twice gets a connection of its own: a kept one may be dead
        # already, which shows only after the request was sent.
        self._fresh = _session(force_close=True)
        await self._health.start()
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def stop(self) -> None:
        """Finish what runs, then close."""
        await self._runner.cleanup()
        await self._health.stop()
        for session in (self._kept, self._fresh):
            if session:
                await session.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        host = _hostname(request.headers.get("Host", ""))
        if host in _SELF and request.path == "/healthz":
            return web.json_response({"routes": len(self._routes.table())})
        route = self._routes.find(host)
        if route is None:
            return pages.no_such_space(host)
        if not route.enabled:
            return pages.suspended()
        if not str(request.rel_url).startswith("/"):
            return pages.bad_request()  # `*`, or something that would name another host
        return await self._forward(request, route)

    async def _forward(self, request: web.BaseRequest, route: Route) -> web.StreamResponse:
        body = _Body(request)
        broke: set[Origin] = set()
        # All that were thought healthy may be gone while another has come up unseen, as in a
        # restart of one after the other: then all are asked, and those that answer have a turn.
        for _ in range(_ROUNDS):
            candidates = [o for o in await self._health.candidates(route) if o not in broke]
            if not candidates:
                break
            for origin in candidates:
                try:
                    return await self._pass_on(request, origin, body)
                except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                    self._health.failed(origin)
                except TimeoutError:
                    return pages.gateway_timeout()
                except aiohttp.ClientError as error:
                    self._health.failed(origin)
                    broke.add(origin)
                    log.info("origin.broke %s %s", origin.instance, type(error).__name__)
                    if body.used or request.method not in _REPEATABLE:
                        return pages.bad_gateway()
        return pages.no_healthy_instance()

    async def _pass_on(
        self, request: web.BaseRequest, origin: Origin, body: _Body
    ) -> web.StreamResponse:
        session = self._kept if request.method in _REPEATABLE else self._fresh
        assert session is not None  # noqa: S101 — started
        async with session.request(
            request.method,
            URL(f"http://{origin.address}{request.rel_url}", encoded=True),
            headers=self._sent_headers(request),
            data=body.stream() if request.body_exists else None,
            allow_redirects=False,
        ) as answer:
            back = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in _end_to_end(answer.headers):
                back.headers.add(name, value)
            try:
                await back.prepare(request)
                if request.method != "HEAD":
                    async for data in answer.content.iter_chunked(_CHUNK_BYTES):
                        await back.write(data)
                await back.write_eof()
            except (aiohttp.ClientError, TimeoutError) as error:
                # Half an answer is out. Ending the connection is all that tells the client.
                log.info("answer.broke %s %s", origin.instance, type(error).__name__)
                if request.transport:
                    request.transport.abort()
            return back

    def _sent_headers(self, request: web.BaseRequest) -> CIMultiDict[str]:
        headers = CIMultiDict(_end_to_end(request.headers))
        client = request.remote or ""
        earlier = headers.get("X-Forwarded-For")
        headers["X-Forwarded-For"] = f"{earlier}, {client}" if earlier else client
        headers["X-Forwarded-Host"] = request.headers.get("Host", "")
        headers["X-Forwarded-Proto"] = "http"
        headers["X-Azure-ClientIP"] = client
        headers["X-Azure-FDID"] = self._id
        return headers


class _Body:
    """A request's body, which can be read once; knows whether that has begun."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self.used = False

    async def stream(self) -> AsyncIterator[bytes]:
        if self._request.headers.get("Expect", "").lower() == "100-continue":
            transport = self._request.transport
            if transport is not None and not self.used:
                transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for data in self._request.content.iter_chunked(_CHUNK_BYTES):
            self.used = True
            yield data


def _session(*, force_close: bool) -> aiohttp.ClientSession:
    connector = (
        aiohttp.TCPConnector(force_close=True, limit=0)
        if force_close
        else aiohttp.TCPConnector(keepalive_timeout=5.0, limit=0)
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_ORIGIN_S),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def _end_to_end(headers: MultiMapping[str]) -> list[tuple[str, str]]:
    """Headers that go on: not those of one connection, named ones included."""
    named = {
        name.strip().lower()
        for value in headers.getall("Connection", [])
        for name in value.split(",")
    }
    return [
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _HOP_BY_HOP | named
    ]


def _hostname(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host.partition("]")[0].strip("[]")
    return host.partition(":")[0].lower().rstrip(".")
