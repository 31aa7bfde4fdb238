"""The host's HTTP port: finds the function for a request, checks the key, runs it.

As on Azure a path or a method that no route has is 404, a missing or insufficient key 401, a
function that fails 500 without a body; a disabled function is there for the master key alone, and
`/` shows the host's own page where no function answers. `/admin` belongs to `admin.py`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from aiohttp import web

from local.errors import StackError
from local.functions_host.functions import Function, HttpTrigger, Level
from local.functions_host.worker.typed_data import request_data, response_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader
    from aiohttp.web_protocol import RequestHandler

    from local.functions_host.invocations import Invoker
    from local.functions_host.web.cors import Cors
    from local.functions_host.web.keys import Keys

    Admin = Callable[[web.BaseRequest, Level], Awaitable[web.Response]]

log = logging.getLogger("functions_host.web")

_LARGEST_BODY = 100 * 1024 * 1024
_RETRY_AFTER_S = "2"
# Set by the server itself; a copy from the function would contradict it.
_OWN_HEADERS = ("content-length", "transfer-encoding", "connection", "date")
_HOMEPAGE = Path(__file__).parent / "homepage.html"


class Site:
    """The listening port and its routes."""

    def __init__(
        self,
        functions: list[Function],
        *,
        keys: Keys,
        invoker: Invoker,
        admin: Admin,
        cors: Cors,
        has_homepage: bool,
    ) -> None:
        self._keys = keys
        self._invoker = invoker
        self._admin = admin
        self._cors = cors
        self._has_homepage = has_homepage
        self._routes = sorted(
            ((one.trigger, one) for one in functions if isinstance(one.trigger, HttpTrigger)),
            key=lambda pair: (pair[0].template.precedence, pair[1].disabled),
        )
        self._runner: web.ServerRunner | None = None
        self.draining = False

    async def start(self, port: int) -> None:
        """Listen on 127.0.0.1.

        Raises:
            StackError: the port is taken.
        """
        # A body reaches the app as it was sent, compressed or not, as on Azure.
        server = web.Server(
            self._answer, request_factory=_request, access_log=None, auto_decompress=False
        )
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", port).start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise StackError(
                f"Port {port} is taken by another program.", remedy="`ss -ltnp` names it."
            ) from error

    async def stop(self) -> None:
        """Close the port and its connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = self._cors.preflight(request)
        if asked is not None:
            return web.Response(status=204, headers=asked)
        try:
            answer = await self._dispatch(request)
        except web.HTTPRequestEntityTooLarge:
            answer = web.Response(status=413)
        except _NoAddressError:
            answer = web.Response(status=400)
        answer.headers.update(self._cors.headers(request))
        return answer

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path.split("/")[1].lower() == "admin":
            return await self._admin(request, self._keys.level_of(request))
        found = self._find(request.method, path)
        if found is None:
            return self._homepage() if path == "/" else web.Response(status=404)
        function, trigger, values = found
        level = self._keys.level_of(request, function.name)
        if function.disabled and level < Level.ADMIN:
            return web.Response(status=404)
        if self.draining:
            return web.Response(status=503, headers={"Retry-After": _RETRY_AFTER_S})
        if level < trigger.level:
            return web.Response(status=401)
        return await self._run(function, request, values, await request.read())

    def _homepage(self) -> web.Response:
        if not self._has_homepage:
            return web.Response(status=204)
        return web.Response(body=_HOMEPAGE.read_bytes(), content_type="text/html")

    def _find(
        self, method: str, path: str
    ) -> tuple[Function, HttpTrigger, dict[str, str]] | None:
        for trigger, function in self._routes:
            if method in trigger.methods:
                values = trigger.template.match(path)
                if values is not None:
                    return function, trigger, values
        return None

    async def _run(
        self,
        function: Function,
        request: web.BaseRequest,
        values: Mapping[str, str],
        body: bytes,
    ) -> web.Response:
        data = request_data(
            method=request.method,
            url=_address(request),
            headers=_joined((name.lower(), text) for name, text in request.headers.items()),
            query=_joined(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True)),
            route=values,
            body=body,
        )
        result = await self._invoker.invoke(
            function,
            data,
            reason=f"{request.method} {request.rel_url.raw_path}",
            trace_parent=request.headers.get("traceparent"),
            trace_state=request.headers.get("tracestate", ""),
        )
        if not result.ok:
            return web.Response(status=500)
        answer = response_of(result.value)
        response = web.Response(status=answer.status, body=answer.body)
        for name, text in answer.headers.items():
            if name not in _OWN_HEADERS:
                response.headers[name] = text
        for cookie in answer.cookies:
            response.headers.add("Set-Cookie", cookie)
        return response


class _NoAddressError(ValueError):
    """The `Host` of a request is no host."""


def _address(request: web.BaseRequest) -> str:
    try:
        return str(request.url)
    except ValueError as error:
        raise _NoAddressError from error


def _joined(pairs: object) -> dict[str, str]:
    """Repeated names share one comma-separated value, as the real host passes them on."""
    values: dict[str, str] = {}
    for name, text in pairs:  # type: ignore[attr-defined]
        values[name] = f"{values[name]},{text}" if name in values else text
    return values


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    return web.BaseRequest(
        message,
        payload,
        protocol,
        writer,
        task,
        asyncio.get_running_loop(),
        client_max_size=_LARGEST_BODY,
    )
