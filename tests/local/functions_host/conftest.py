"""Apps in temporary folders, and hosts that run them in this process with the ports in memory."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import azure_functions_runtime
import pytest
from azure_functions_runtime import handle_event
from azure_functions_runtime.functions import Registry

from local.functions_host.host import Host
from local.functions_host.web.keys import Keys
from tests.local.functions_host.fakes import FakeBus, FakeStore
from tests.local.functions_host.rig import (
    FUNCTION_KEY,
    MASTER_KEY,
    PREAMBLE,
    SETTINGS,
    MakeApp,
    Rig,
    RunHost,
    free_port,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from local.functions_host.timers.listener import Clock


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    """A folder with a function_app.py of this code (after a preamble) and a host.json."""

    def make(code: str, *, preamble: str = PREAMBLE, **host_json: object) -> Path:
        folder = tmp_path / "app"
        folder.mkdir()
        (folder / "function_app.py").write_text(preamble + textwrap.dedent(code))
        document: dict[str, Any] = {"version": "2.0", "extensions": {}, **host_json}
        document["extensions"].setdefault("http", {"routePrefix": ""})
        (folder / "host.json").write_text(json.dumps(document))
        return folder

    return make


@pytest.fixture
def fresh_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The worker library as a new process has it: no app, and none afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(handle_event, "_functions", Registry())
    monkeypatch.delitem(sys.modules, "function_app", raising=False)
    yield
    sys.modules.pop("function_app", None)
    azure_functions_runtime.stop_threadpool_executor()


@pytest.fixture
def run_host(fresh_library: None) -> RunHost:
    """Run an app: use as `async with` and a folder."""

    @asynccontextmanager
    async def run(
        app: Path,
        *,
        bus: FakeBus | None = None,
        store: FakeStore | None = None,
        clock: Clock | None = None,
        environ: dict[str, str] | None = None,
    ) -> AsyncIterator[Rig]:
        bus, store, recycled = bus or FakeBus(), store or FakeStore(), asyncio.Event()
        host = Host(
            app,
            host_id="host-1",
            keys=Keys(function=FUNCTION_KEY, master=MASTER_KEY),
            environ=SETTINGS if environ is None else environ,
            recycle=recycled.set,
            open_bus=lambda _: bus,
            open_store=lambda _connection, _host_id: store,
            clock=clock,
        )
        port = free_port()
        await host.start(port)
        async with aiohttp.ClientSession() as client:
            try:
                yield Rig(host, port, client, bus, store, recycled)
            finally:
                if host.state != "Stopping":
                    await host.stop(drain_s=2)

    return run
