"""The administration calls under `/admin`; all but `host/ping` take the master key.

`GET host/status`, `GET|POST host/ping`, `GET|POST host/drain`, `GET host/drain/status`,
`POST host/restart`; `GET functions`, `GET functions/{name}`, `GET functions/{name}/status`, and
`POST functions/{name}` `{"input": …}`: run it now, disabled or not, and answer 202 without waiting
for the end. `admin_keys.py` has the keys.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from local.functions_host.functions import (
    Function,
    HttpTrigger,
    Level,
    QueueTrigger,
    TimerTrigger,
)
from local.functions_host.queues.port import Delivery
from local.functions_host.web.admin_keys import answer_keys, key_scope
from local.functions_host.worker.typed_data import batch_data, message_data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.functions_host.invocations import Invoker
    from local.functions_host.timers.listener import TimerListener
    from local.functions_host.web.keys import Keys


class Steering(Protocol):
    """What an administrator may do to the host as a whole."""

    def status(self) -> dict[str, Any]:
        """How it is."""
        ...

    def drain(self) -> None:
        """Fire nothing further of its own accord: no message, no timer. HTTP goes on."""
        ...

    def drain_status(self) -> dict[str, Any]:
        """Whether that is asked, and what still runs."""
        ...

    def restart(self) -> None:
        """Let what runs finish, then begin anew; returns at once."""
        ...


class Admin:
    """Answers requests below `/admin`."""

    def __init__(
        self,
        functions: list[Function],
        *,
        timers: Mapping[str, TimerListener],
        invoker: Invoker,
        keys: Keys,
        host: Steering,
    ) -> None:
        self._functions = {one.name.lower(): one for one in functions}
        self._timers = timers
        self._invoker = invoker
        self._keys = keys
        self._host = host
        self._runs: set[asyncio.Task[Any]] = set()

    async def answer(self, request: web.BaseRequest, level: Level) -> web.Response:
        """The answer to one request whose key opens `level`."""
        parts = [part for part in request.rel_url.path.lower().split("/") if part][1:]
        if level < Level.ADMIN or parts == ["host", "ping"]:
            return web.Response(status=200 if parts == ["host", "ping"] else 401)
        about_keys = key_scope(parts, self._functions)
        if about_keys is not None:
            return await answer_keys(self._keys, request, *about_keys)
        match parts:
            case ["host", *rest]:
                return self._of_host(request.method, rest)
            case ["functions"] if request.method == "GET":
                return web.json_response([_described(one) for one in self._functions.values()])
            case ["functions", name, *rest] if name in self._functions:
                return await self._of_function(self._functions[name], request, rest)
            case _:
                return web.Response(status=404)

    def _of_host(self, method: str, parts: list[str]) -> web.Response:
        match method, parts:
            case "GET", ["status"]:
                return web.json_response(self._host.status())
            case "GET", ["drain", "status"]:
                return web.json_response(self._host.drain_status())
            case "GET" | "POST", ["drain"]:
                self._host.drain()
            case "POST", ["restart"]:
                self._host.restart()
            case _:
                return web.Response(status=404)
        return web.Response(status=200)

    async def _of_function(
        self, function: Function, request: web.BaseRequest, parts: list[str]
    ) -> web.Response:
        match request.method, parts:
            case "GET", []:
                return web.json_response(_described(function))
            case "GET", ["status"]:
                # A function with an error ends the start of the host: none is left to be told.
                return web.json_response({"errors": None})
            case "POST", []:
                return await self._run(function, request)
            case _:
                return web.Response(status=404)

    async def _run(self, function: Function, request: web.BaseRequest) -> web.Response:
        if self._host.status()["state"] == "Stopping":
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
