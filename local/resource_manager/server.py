"""The wire: who calls, which fault meets the call, which handler answers it.

Paths are taken apart without case, as clients spell `resourcegroups` in two ways. Handlers raise
`ArmError`; only here does it become an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import re
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.errors import StackError
from local.resource_manager import local_calls
from local.resource_manager.answers import error_answer, json_answer
from local.resource_manager.budget import budgeted
from local.resource_manager.call import Call
from local.resource_manager.errors import ArmError, TemplateError, bad_request
from local.resource_manager.ids import parse_path
from local.resource_manager.providers.versions import check_version
from local.resource_manager.routing import handler_of
from local.resource_manager.tenant import answer as tenant_answer
from local.resource_manager.tenant import asked_version, is_tenants
from local.resource_manager.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from local.home import Home
    from local.resource_manager.service import Service

log = logging.getLogger("local.resource_manager")
_MAX_BODY = 4 * 1024 * 1024  # documented for templates
_MAX_DEPTH = 100
_DOUBLED = re.compile("/{2,}")
# How clients ask for the operations of a group's deployment: as before there were namespaces.
_OLD = re.compile("^(/subscriptions/[^/]+/resourcegroups/[^/]+)(/deployments/)", re.IGNORECASE)


class Server:
    """Listens on the home's port, and serves one `Service`."""

    def __init__(self, home: Home, service: Service) -> None:
        self._home = home
        self._service = service
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = contextlib.ExitStack()
        self._throttle = Throttle.from_environment()

    async def start(self) -> None:
        """Recover what was running, then listen.

        Raises:
            StackError: another process serves this home; nothing was touched.
        """
        alone = self._held.enter_context(self._home.locked("resource_manager", wait=False))
        if not alone:
            raise StackError("Another Resource Manager serves this home.")
        await self._service.start()
        app = web.Application(middlewares=[self._guard], client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await self._listen()

    async def stop(self) -> None:
        """Stop listening; operations stay to be resumed, space processes go on."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._service.stop()
        self._held.close()

    async def _listen(self) -> None:
        if self._runner is None:
            raise RuntimeError("the server was not started")
        port = self._home.port("resource_manager")
        self._site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await self._site.start()

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except ArmError as error:
            return error_answer(error)
        except web.HTTPRequestEntityTooLarge:
            return error_answer(
                ArmError("RequestContentTooLarge", "The request is over 4 MiB.", status=413)
            )
        except web.HTTPException:
            raise
        except RecursionError:
            return error_answer(TemplateError("The template is nested too deeply"))
        except Exception:
            log.exception("request.broke %s %s", request.method, request.path)
            return error_answer(
                ArmError("InternalServerError", "See the Resource Manager's log.", status=500)
            )

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/healthz":
            return json_answer({"status": "ok"})
        principal = self._principal(request)
        if request.path.startswith("/_local/"):
            self._refuse_stranger(principal)
            return await local_calls.answer(self._service, request)
        fault = self._service.faults.request(request.method, request.path)
        if fault is None or fault["kind"] == "operation":
            return await self._answer(request, principal, fault)
        kind = fault["kind"]
        if kind == "answer":
            return _faulty(fault)
        if kind == "refuse":
            await self._refuse_for(float(fault.get("for_s", 1)))
        elif kind == "lose":
            await self._answer(request, principal, None)
        return self._cut(request)

    async def _answer(
        self, request: web.Request, principal: str, end_as: dict[str, Any] | None
    ) -> web.StreamResponse:
        if is_tenants(request.path):
            return await tenant_answer(self._service, request)
        # Clients put an empty parent resource between two slashes; the service does not mind.
        spelled = _DOUBLED.sub("/", request.path)
        path = parse_path(_OLD.sub(r"\1/providers/Microsoft.Resources\2", spelled))
        call = Call(
            request=request,
            path=path,
            principal=principal,
            query={key.lower(): value for key, value in request.query.items()},
            body=await _body(request),
            end_as=end_as,
        )
        if path.id.subscription.lower() != self._service.cloud.subscription.lower():
            raise ArmError(
                "SubscriptionNotFound",
                f"The subscription '{path.id.subscription}' could not be found.",
                status=404,
            )
        left = self._throttle.take(request.method, path.id.subscription, principal)
        check_version(path.type, asked_version(call.query))
        with budgeted():
            answer = await handler_of(self._service, call)(call)
        answer.headers.update(left)
        return answer

    def _refuse_stranger(self, principal: str) -> None:
        """What stops or starts the stack's own processes is for the stack's own commands."""
        identities = self._service.cloud.identities
        if principal not in {identities.principal(name) for name in identities.NAMES}:
            raise ArmError(
                "AuthorizationFailed", "This needs the stack's own token.", status=403
            )

    def _principal(self, request: web.Request) -> str:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        identities = self._service.cloud.identities
        for name in identities.NAMES:
            known = identities.token(name).encode()
            if scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), known):
                return identities.principal(name)
        if scheme.lower() == "bearer" and given.strip():
            return identities.stranger(given.strip())
        raise ArmError(
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.",
            status=401,
        )

    def _cut(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    async def _refuse_for(self, seconds: float) -> None:
        if self._site is not None:
            await self._site.stop()

        async def come_back() -> None:
            await asyncio.sleep(seconds)
            while True:
                try:
                    return await self._listen()
                except OSError as error:  # somebody else took the port meanwhile
                    log.error("server.not_listening %s", error)  # noqa: TRY400 — the reason says it all
                    await asyncio.sleep(0.1)

        task = asyncio.create_task(come_back())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _body(request: web.Request) -> Any:  # noqa: ANN401 — JSON
    raw = await request.read()
    if not raw:
        return None
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"The request content was invalid JSON: {error}") from error
    if _too_deep(found):
        raise bad_request(f"The request content is nested deeper than {_MAX_DEPTH} levels.")
    return found


def _too_deep(value: Any) -> bool:  # noqa: ANN401 — JSON
    level = [value]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list):
                below += one
        if not below:
            return False
        level = below
    return True


def _faulty(fault: dict[str, Any]) -> web.Response:
    status, headers = int(fault.get("status", 500)), dict(fault.get("headers", {}))
    if "text" in fault:
        return web.Response(
            status=status, text=fault["text"], content_type="text/html", headers=headers
        )
    error = ArmError(
        fault.get("code", "InternalServerError"),
        fault.get("message", "Asked for by the fault file."),
        status=status,
    )
    return json_answer(error.body(), status=status, headers=headers)
