"""The wire between a command and the endpoints, without a socket: the real HTTP layer answers."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import azure.functions as func

from spaces import http

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.backups.world import World


class Wire:
    """Answers the client's requests by the endpoints; each look at an operation lets time pass."""

    def __init__(self, world: World, handlers: Mapping[str, http.Handler]) -> None:
        self.world = world
        self.handlers = handlers
        self.stands_still = False

    def raw(
        self,
        method: str,
        path: str,
        *,
        body: object | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        if path.startswith("/operations/") and not self.stands_still:
            asyncio.run(self._pass())
        for operation in http.OPERATIONS:
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.path)
            found = re.fullmatch(pattern, path)
            if found and operation.method == method and operation.name in self.handlers:
                request = func.HttpRequest(
                    method=method,
                    url=path,
                    headers={
                        "x-functions-key": "api-key-of-nobody",
                        "content-type": "application/json",
                        **(headers or {}),
                    },
                    params={},
                    route_params=found.groupdict(),
                    body=json.dumps(body).encode() if body is not None else b"",
                )
                answer = asyncio.run(
                    http._serve(operation, self.handlers[operation.name], request)
                )
                return answer.status_code, answer.get_body()
        return 404, b"{}"

    async def _pass(self) -> None:
        await self.world.pump()
        due = self.world.bus.next_due()
        if due is not None:
            self.world.clock.set(due)
