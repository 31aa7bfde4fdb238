"""Calls functions: an id, a trace, a log line and a time limit for each call.

Knows every invocation under way, so that the host can drain and the watchdog can name names.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from time import monotonic
from typing import TYPE_CHECKING

from local.functions_host import logs
from local.functions_host.worker.library import Call, Result, call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from local.functions_host.functions import Function
    from local.functions_host.worker.library import Attempt
    from local.functions_host.worker.protos import TypedData

log = logging.getLogger("functions_host.invocations")


class Invoker:
    """Runs functions; `on_timeout` hears of each one that went over its time.

    `put_out` sends what a function that ended well has put out, and may make a failure of it.
    """

    def __init__(
        self,
        *,
        timeout_s: float | None,
        on_timeout: Callable[[str], None],
        put_out: Callable[[Function, Result], Awaitable[Result]] | None = None,
    ) -> None:
        self._put_out = put_out
        self._timeout_s = timeout_s
        self._on_timeout = on_timeout
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._count = 0

    @property
    def busy(self) -> int:
        """How many invocations are under way, those that went over their time not counted."""
        return self._count

    async def invoke(
        self,
        function: Function,
        data: TypedData,
        metadata: Mapping[str, TypedData] | None = None,
        *,
        reason: str,
        trace_parent: str | None = None,
        trace_state: str = "",
        attempt: Attempt | None = None,
    ) -> Result:
        """Run `function` once. Failures, time-outs too, are results."""
        invocation = logs.Running(str(uuid.uuid4()), function.name)
        what = Call(
            invocation_id=invocation.id,
            function_id=function.id,
            parameter=function.parameter,
            data=data,
            metadata=metadata or {},
            trace_parent=_continued(trace_parent),
            trace_state=trace_state,
            attempt=attempt,
        )
        self._count += 1
        self._quiet.clear()
        logs.running[invocation.id] = invocation
        token = logs.current.set(invocation)
        try:
            result = await self._limited(what)
            if result.ok and function.outputs and self._put_out is not None:
                result = await self._put_out(function, result)
            _report(result, invocation, reason)
            return result
        finally:
            logs.current.reset(token)
            self._count -= 1
            if not self._count:
                self._quiet.set()

    async def drained(self, grace_s: float) -> bool:
        """Wait until nothing runs; False when the time is over first."""
        try:
            async with asyncio.timeout(grace_s):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    async def _limited(self, what: Call) -> Result:
        # A task of its own: a function over its time goes on until the process is replaced, and
        # whoever waits for it must not be able to cancel it half way.
        task = asyncio.create_task(call(what), name=f"invocation {what.invocation_id}")
        task.add_done_callback(lambda _: logs.running.pop(what.invocation_id, None))
        await asyncio.wait({task}, timeout=self._timeout_s)
        if task.done():
            return (
                Result(ok=False, error="CancelledError") if task.cancelled() else task.result()
            )
        invocation = logs.running[what.invocation_id]
        self._on_timeout(invocation.function)
        return Result(
            ok=False, error=f"TimeoutError: over functionTimeout ({self._timeout_s:g} s)"
        )


def _report(result: Result, invocation: logs.Running, reason: str) -> None:
    fields = {"reason": reason, "took_ms": round((monotonic() - invocation.started) * 1000, 1)}
    if result.ok:
        log.info("invocation.succeeded", extra=fields)
    else:
        log.error(
            "invocation.failed", extra=fields | {"error": result.error, "trace": result.trace}
        )


def _continued(trace_parent: str | None) -> str:
    """A W3C traceparent of the same trace with a span of our own; a new trace without a parent."""
    parts = (trace_parent or "").split("-")
    is_good = len(parts) == 4 and len(parts[1]) == 32 and set(parts[1]) - {"0"}
    trace, flags = (parts[1], parts[3]) if is_good else (secrets.token_hex(16), "01")
    return f"00-{trace}-{secrets.token_hex(8)}-{flags}"
