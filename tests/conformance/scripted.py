"""A server that answers what it is told to: for answers that no well-behaved part would give."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, once the request was read; `cut` breaks the connection, `hang` says nothing."""

    status: int = 200
    body: object = None
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    cut: bool = False
    hang: bool = False


type Respond = Callable[[str, str, dict[str, str], bytes], Reply]


@dataclass(slots=True)
class Scripted:
    """Answers in the order given, the last one for ever, or as `respond` says; keeps the requests."""

    url: str = ""
    respond: Respond | None = None
    replies: list[Reply] = field(default_factory=list[Reply])
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    bodies: list[bytes] = field(default_factory=list[bytes])
    peers: list[object] = field(default_factory=list[object])

    def will(self, *replies: Reply) -> None:
        """What is answered from now on."""
        self.replies = list(replies)
        for kept in (self.asked, self.headers, self.bodies, self.peers):
            kept.clear()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Read the request, keep it, answer it."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.method, str(request.rel_url)))
        self.headers.append(headers)
        self.bodies.append(body)
        assert request.transport is not None
        self.peers.append(request.transport.get_extra_info("peername"))
        if self.respond is not None:
            reply = self.respond(request.method, str(request.rel_url), headers, body)
        else:
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply.hang:
            await asyncio.Event().wait()
        if reply.cut:
            request.transport.abort()
        return _response(reply)


def _response(reply: Reply) -> web.Response:
    if reply.text is not None:
        return web.Response(
            status=reply.status,
            text=reply.text,
            content_type="text/html",
            headers=reply.headers,
        )
    if reply.body is None:
        return web.Response(status=reply.status, headers=reply.headers)
    return web.Response(
        status=reply.status,
        text=json.dumps(reply.body),
        content_type="application/json",
        headers=reply.headers,
    )


@contextlib.asynccontextmanager
async def scripted() -> AsyncGenerator[Scripted]:
    """Listens on a free port of this machine while the block runs."""
    script = Scripted()
    runner = web.ServerRunner(web.Server(script.answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield script
    finally:
        await runner.cleanup()
