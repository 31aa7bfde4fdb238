"""What the Functions host costs: HTTP beside a bare aiohttp server, and a message's wait.

All parts run on this machine in the same minutes: trust the ratio, not the absolute numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from bench import kit
from bench.kit import Figure
from bench.load import Load, load
from local import processes
from local.home import PROJECT, Home
from local.service_bus.connection import connection_string

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROUNDS, _SECONDS, _MESSAGES = 5, 1.5, 200
_QUEUE = "provisioning-steps"
_APP = f"""
import json, time
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
waits = []

@app.route("hello")
async def hello(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("hello")

@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="{_QUEUE}")
async def work(msg: func.ServiceBusMessage) -> None:
    waits.append((time.time() - float(msg.get_body())) * 1000)

@app.route("waits")
async def take(req: func.HttpRequest) -> str:
    taken = json.dumps(waits)
    waits.clear()
    return taken
"""


def measure() -> list[Figure]:
    """A host with a tiny app, a broker and a bare server on a throw-away home."""
    with tempfile.TemporaryDirectory(prefix="kpax-bench-") as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Figure]:
    home, app = Home.open(folder / "home"), folder / "app"
    app.mkdir()
    (app / "function_app.py").write_text(_APP)
    (app / "host.json").write_bytes((PROJECT / "host.json").read_bytes())
    environ = {
        "KPAX_HOME": str(home.root),
        "KPAX_APP_DIR": str(app),
        "ServiceBus": connection_string(home),
    }
    port, bare_port = home.port("functions_host"), home.port("bare")
    with contextlib.ExitStack() as parts:
        parts.enter_context(_part(["-m", "local.service_bus"], environ, folder / "bus.log"))
        pid = parts.enter_context(
            _part(["-m", "local.functions_host"], environ, folder / "host.log")
        )
        parts.enter_context(
            _part(["-m", "bench.bare_http", str(bare_port)], {}, folder / "bare.log")
        )
        await _running(port, home.secret("master_key"))
        await _answering(bare_port)
        idle = await _idle_share(pid)
        hosts, bares = [], []
        for _ in range(_ROUNDS):
            hosts.append(await load(port, "GET", "/hello", seconds=_SECONDS))
            bares.append(await load(bare_port, "GET", "/hello", seconds=_SECONDS))
        waits = await _waits(connection_string(home), port, _MESSAGES)
        return _figures(hosts, bares, waits, idle, processes.pss_mib(pid))


def _figures(
    hosts: list[Load], bares: list[Load], waits: list[float], idle: float, memory: float
) -> list[Figure]:
    host, bare = (kit.median([one.per_s for one in many]) for many in (hosts, bares))
    return [
        Figure(
            "HTTP requests",
            host,
            "1/s",
            note=kit.spread([one.per_s for one in hosts], "1/s"),
        ),
        Figure("… p50", kit.median([one.p50_ms for one in hosts]), "ms"),
        Figure("… p99", kit.median([one.p99_ms for one in hosts]), "ms"),
        Figure("a bare server (baseline)", bare, "1/s"),
        Figure("… p99", kit.median([one.p99_ms for one in bares]), "ms"),
        Figure(
            "host, to the bare server",
            kit.median([one.per_s / two.per_s for one, two in zip(hosts, bares, strict=True)]),
            "times",
            note="in turn, median of the pairs",
        ),
        Figure(
            "a message's wait for its function, p50",
            kit.median(waits),
            "ms",
            note=f"{len(waits)} messages, one at a time, from before the send",
        ),
        Figure("… p99", kit.quantile(waits, 0.99), "ms"),
        Figure("… longest", max(waits), "ms"),
        Figure("idle, of one core", 100 * idle, "%"),
        Figure("memory with a tiny app, PSS", memory, "MiB"),
    ]


@contextlib.contextmanager
def _part(arguments: list[str], environ: dict[str, str], log: Path) -> Iterator[int]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=PROJECT, env=os.environ | environ, stderr=file
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


async def _waits(connection: str, port: int, messages: int) -> list[float]:
    """Milliseconds from before `send` to the first line of the function, one message at a time."""
    waits: list[float] = []
    client = ServiceBusClient.from_connection_string(connection)
    async with client, client.get_queue_sender(_QUEUE) as sender:
        await sender.send_messages(ServiceBusMessage(repr(time.time())))
        await _taken(port, 1)  # the first send opens the link
        for _ in range(messages):
            await sender.send_messages(ServiceBusMessage(repr(time.time())))
            waits += await _taken(port, 1)
    return waits


async def _taken(port: int, count: int) -> list[float]:
    taken: list[float] = []
    while len(taken) < count:
        await asyncio.sleep(0.02)
        taken += json.loads(await asyncio.to_thread(_get, port, "/waits"))
    return taken


async def _running(port: int, key: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            answer = await asyncio.to_thread(_get, port, "/admin/host/status", key)
            if json.loads(answer)["state"] == "Running":
                return
        await asyncio.sleep(0.05)
    raise SystemExit("The host does not run.")


async def _answering(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(_get, port, "/hello")
            return
        await asyncio.sleep(0.05)


async def _idle_share(pid: int, seconds: float = 4.0) -> float:
    """The share of one core that the host takes while nothing happens."""
    await asyncio.sleep(2)
    before = _cpu_s(pid)
    await asyncio.sleep(seconds)
    return (_cpu_s(pid) - before) / seconds


def _get(port: int, path: str, key: str = "") -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"x-functions-key": key}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 — likewise
        return answer.read()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
