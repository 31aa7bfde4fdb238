"""The administration calls under `/admin`, as far as the project uses them; all take the master key.

`GET host/status`, `GET host/ping` (no key), `GET functions`, `GET functions/{name}`,
`POST functions/{name}` `{"input": …}`: run it now, answer 202 without waiting for the end.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.functions_host.functions import (
    Function,
    HttpTrigger,
    Level,
    QueueTrigger,
    TimerTrigger,
)
from local.functions_host.queues.port import Delivery
from local.functions_host.worker.typed_data import batch_data, message_data

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from local.functions_host.invocations import Invoker
    from local.functions_host.timers.listener import TimerListener


class Admin:
    """Answers requests below `/admin`."""

    def __init__(
        self,
        functions: list[Function],
        *,
        timers: Mapping[str, TimerListener],
        invoker: Invoker,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._functions = {one.name.lower(): one for one in functions}
        self._timers = timers
        self._invoker = invoker
        self._status = status
        self._runs: set[asyncio.Task[Any]] = set()

    async def answer(self, request: web.BaseRequest, level: Level) -> web.Response:
        """The answer to one request whose key opens `level`."""
        parts = [part for part in request.rel_url.path.lower().split("/") if part][1:]
        if level < Level.ADMIN or parts == ["host", "ping"]:
            return web.Response(status=200 if parts == ["host", "ping"] else 401)
        match request.method, parts:
            case "GET", ["host", "status"]:
                return web.json_response(self._status())
            case "GET", ["functions"]:
                return web.json_response([_described(one) for one in self._functions.values()])
            case "GET" | "POST", ["functions", name] if name in self._functions:
                function = self._functions[name]
                if request.method == "POST":
                    return await self._run(function, request)
                return web.json_response(_described(function))
            case _:
                return web.Response(status=404)

    async def _run(self, function: Function, request: web.BaseRequest) -> web.Response:
        if self._status()["state"] == "Stopping":
            return web.Response(status=503, headers={"Retry-After": "1"})
        try:
            given = json.loads(await request.read())["input"]
        except (ValueError, TypeError, KeyError):
            return web.Response(status=400, text='The body must be {"input": "…"}.')
        match function.trigger:
            case HttpTrigger():
                return web.Response(
                    status=400, text="An HTTP function is run by its own route."
                )
            case TimerTrigger():
                call = self._invoker.invoke(
                    function, self._timers[function.name].data(), reason="admin call"
                )
            case QueueTrigger():
                text = given if isinstance(given, str) else json.dumps(given)
                message = _unsent(text.encode())
                data, metadata = (
                    batch_data([message])
                    if function.trigger.is_batch
                    else message_data(message)
                )
                call = self._invoker.invoke(function, data, metadata, reason="admin call")
        task = asyncio.create_task(call)
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)
        return web.Response(status=202)


def _unsent(body: bytes) -> Delivery:
    """A message that was never on a queue: nothing to lock, nothing to settle."""
    now = datetime.now(UTC)
    return Delivery(
        body=body,
        message_id=uuid.uuid4().hex,
        sequence_number=0,
        delivery_count=1,
        lock_token=str(uuid.UUID(int=0)),
        locked_until=now + timedelta(minutes=1),
        enqueued_at=now,
    )


def _described(function: Function) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": function.name,
        "href": f"/admin/functions/{function.name}",
        "config": {"name": function.name, "bindings": list(function.bindings)},
        "isDisabled": function.disabled,
        "language": "python",
    }
    if isinstance(function.trigger, HttpTrigger):
        described["invoke_url_template"] = f"/{function.trigger.route}"
    return described
