"""Puts the host together: the app, its listeners, the port; starts, drains and stops them.

One process, one event loop, one app. When a function goes over `functionTimeout` the process
drains and then replaces itself by `exec` (`recycle`): the same pid, a fresh interpreter, nothing
of the app left over. A supervising parent would do the same for 10 MiB and a second pid; what it
could do beyond that, start again after a crash, is not wanted: a crash ends the host, and who
started it says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from local.errors import StackError
from local.functions_host.functions import Function, QueueTrigger, TimerTrigger, declared
from local.functions_host.invocations import Invoker
from local.functions_host.notices import notices
from local.functions_host.outputs import sent
from local.functions_host.queues.batches import BatchListener
from local.functions_host.queues.listener import QueueListener
from local.functions_host.queues.sessions import SessionListener
from local.functions_host.queues.wide_sessions import WideSessionListener
from local.functions_host.settings import HostSettings, connection_string, read_host_json
from local.functions_host.timers.listener import Clock, TimerListener, WallClock
from local.functions_host.watchdog import Watchdog
from local.functions_host.web.admin import Admin
from local.functions_host.web.cors import read_cors
from local.functions_host.web.server import Site
from local.functions_host.worker import library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from local.functions_host.queues.port import Bus
    from local.functions_host.timers.status import StatusStore
    from local.functions_host.web.keys import Keys

log = logging.getLogger("functions_host")

_DRAIN_S = 30.0
_RECYCLE_DRAIN_S = 10.0
_CLOSE_S = 6.0


Listener = QueueListener | SessionListener | BatchListener | TimerListener


class Host:
    """One running app. `recycle` is called, once, when the process has to be replaced."""

    def __init__(
        self,
        app: Path,
        *,
        host_id: str,
        keys: Keys,
        environ: Mapping[str, str],
        recycle: Callable[[], None],
        open_bus: Callable[[str], Bus] | None = None,
        open_store: Callable[[str, str], StatusStore] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._app = app
        self._host_id = host_id
        self._keys = keys
        self._environ = environ
        self._recycle = recycle
        self._open_bus = open_bus or _service_bus
        self._open_store = open_store or _blob_store
        self._clock = clock or WallClock()
        self._started = time.monotonic()
        self._buses: dict[str, Bus] = {}
        self._listeners: list[Listener] = []  # of functions that are not disabled
        self._timers: dict[str, TimerListener] = {}
        self._store: StatusStore | None = None
        self._site: Site | None = None
        self._watchdog: Watchdog | None = None
        self._recycling: asyncio.Task[None] | None = None
        self._stopping = False
        self._draining = False
        self.functions: list[Function] = []

    @property
    def state(self) -> str:
        """`Initialized` until every trigger listens, then `Running`; `Stopping` at the end."""
        if self._stopping:
            return "Stopping"
        is_ready = all(one.ready.is_set() for one in self._listeners)
        return "Running" if is_ready else "Initialized"

    async def start(self, port: int) -> HostSettings:
        """Load the app, listen on everything. Brokers and stores may come up later.

        Raises:
            StackError: the app or a setting is wrong, or the port is taken; nothing listens then.
        """
        settings = read_host_json(_host_json(self._app))
        self.functions = declared(await library.load(self._app), settings, self._environ)
        self._invoker = Invoker(
            timeout_s=settings.function_timeout_s,
            on_timeout=self._timed_out,
            put_out=self._put_out,
        )
        active = [one for one in self.functions if not one.disabled]
        self._make_timers()
        admin = Admin(
            self.functions,
            timers=self._timers,
            invoker=self._invoker,
            keys=self._keys,
            host=self,
        )
        self._site = Site(
            self.functions,
            keys=self._keys,
            invoker=self._invoker,
            admin=admin.answer,
            cors=read_cors(self._environ),
            has_homepage=self._environ.get("AzureWebJobsDisableHomepage", "").lower() != "true",
        )
        await self._site.start(port)
        self._make_queues(active, settings)
        for event, fields in notices(active, settings):
            log.warning(event, extra=fields)
        self._listeners += [self._timers[f.name] for f in active if f.name in self._timers]
        for listener in self._listeners:
            listener.start()
        self._watchdog = Watchdog(
            app=self._app, limit_s=settings.function_timeout_s, on_stuck=self._recycle
        )
        self._watchdog.start(asyncio.get_running_loop())
        log.info("host.started", extra={"port": port, "functions": [f.name for f in active]})
        return settings

    async def stop(self, drain_s: float = _DRAIN_S) -> None:
        """Take nothing new, let what runs finish and settle, then close."""
        self._stopping = True
        if self._site is not None:
            self._site.draining = True
        self._halt()
        listeners = self._listeners
        if listeners or self._site is not None:
            if not await self._invoker.drained(drain_s):
                log.warning("host.drain_given_up", extra={"running": self._invoker.busy})
            await asyncio.gather(*(one.closed(_CLOSE_S) for one in listeners))
        if self._site is not None:
            await self._site.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
        for bus in self._buses.values():
            await bus.close()
        if self._store is not None:
            await self._store.close()
        log.info("host.stopped")

    def status(self) -> dict[str, Any]:
        """What `GET /admin/host/status` answers."""
        return {
            "id": self._host_id,
            "state": self.state,
            "functionCount": len(self.functions),
            "processUptime": round((time.monotonic() - self._started) * 1000),
        }

    def drain(self) -> None:
        """See `Steering.drain`."""
        if not self._draining:
            log.info("host.draining")
        self._draining = True
        self._halt()

    def drain_status(self) -> dict[str, Any]:
        """See `Steering.drain_status`."""
        busy = self._invoker.busy
        state = "Disabled" if not self._draining else "InProgress" if busy else "Completed"
        return {"state": state, "outstandingInvocations": busy, "outstandingRetries": 0}

    def restart(self) -> None:
        """See `Steering.restart`."""
        self._begin_anew(because="an administrator asked for it")

    def _halt(self) -> None:
        for one in self._listeners:
            one.halt()

    def _make_timers(self) -> None:
        """For every timer: the administrator may run a disabled one too."""
        for function in self.functions:
            if isinstance(function.trigger, TimerTrigger):
                is_kept = function.trigger.monitor and not function.disabled
                if is_kept and self._store is None:
                    where = f"Function {function.name!r}"
                    found = connection_string("AzureWebJobsStorage", self._environ, where=where)
                    self._store = self._open_store(found, self._host_id)
                self._timers[function.name] = TimerListener(
                    function,
                    function.trigger,
                    store=self._store,
                    invoker=self._invoker,
                    clock=self._clock,
                )

    def _make_queues(self, active: list[Function], settings: HostSettings) -> None:
        for function in active:
            for output in function.outputs:
                self._bus(function, output.connection)  # a wrong one is said at the start
            trigger = function.trigger
            if isinstance(trigger, QueueTrigger):
                kind = _listener(trigger, settings)
                bus = self._bus(function, trigger.connection)
                self._listeners.append(
                    kind(function, trigger, bus=bus, invoker=self._invoker, settings=settings)
                )

    async def _put_out(self, function: Function, result: library.Result) -> library.Result:
        return await sent(result, function.outputs, lambda found: self._bus(function, found))

    def _bus(self, function: Function, connection: str) -> Bus:
        if connection not in self._buses:
            try:
                self._buses[connection] = self._open_bus(connection)
            except ValueError as error:
                raise StackError(
                    f"Function {function.name!r}: its connection string cannot be read: "
                    f"{str(error).rstrip('.')}."
                ) from error
        return self._buses[connection]

    def _timed_out(self, function: str) -> None:
        # At once: what the function gives back must not be taken again by the host it ends.
        self._halt()
        self._begin_anew(because=f"{function} went over functionTimeout", level=logging.ERROR)

    def _begin_anew(self, *, because: str, level: int = logging.INFO) -> None:
        log.log(level, "host.recycling", extra={"because": because})
        if self._recycling is None and not self._stopping:
            self._recycling = asyncio.create_task(self._drain_and_recycle())

    async def _drain_and_recycle(self) -> None:
        try:
            # Time enough to give back the message of the function that went over its time.
            await self.stop(_RECYCLE_DRAIN_S)
        finally:
            self._recycle()


def _listener(
    trigger: QueueTrigger, settings: HostSettings
) -> type[BatchListener | SessionListener | QueueListener]:
    if trigger.is_batch:
        return BatchListener
    if not trigger.has_sessions:
        return QueueListener
    return WideSessionListener if settings.calls_per_session > 1 else SessionListener


def _host_json(app: Path) -> str:
    try:
        return (app / "host.json").read_text(encoding="utf-8")
    except OSError as error:
        raise StackError(f"{app / 'host.json'} cannot be read: {error.strerror}.") from error


def _service_bus(connection: str) -> Bus:
    from local.functions_host.queues.service_bus import ServiceBus  # noqa: PLC0415 — an app without queues need not load the SDK

    return ServiceBus(connection)


def _blob_store(connection: str, host_id: str) -> StatusStore:
    from local.functions_host.timers.blobs import BlobStatusStore  # noqa: PLC0415 — an app without timers need not load the SDK

    return BlobStatusStore(connection, host_id=host_id)
