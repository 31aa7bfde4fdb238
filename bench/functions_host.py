"""What the Functions host costs: HTTP beside a bare aiohttp server, and a message's wait.

`python -m bench.functions_host [--json] [--seconds 4] [--messages 200]`. All parts run on this
machine in the same minutes: trust the ratio, not the absolute numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from local.home import PROJECT, Home
from local.service_bus.connection import connection_string

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECTIONS = 8
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--seconds", type=float, default=4.0, help="per HTTP measurement")
    parser.add_argument("--messages", type=int, default=200)
    parser.add_argument("--bare", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        _serve_bare(options.bare)
        return
    with tempfile.TemporaryDirectory(prefix="kpax-bench-") as folder:
        result = asyncio.run(_measure(Path(folder), options.seconds, options.messages))
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:32} {value:>10}")


async def _measure(folder: Path, seconds: float, messages: int) -> dict[str, Any]:
    home, app = Home.open(folder / "home"), folder / "app"
    app.mkdir()
    (app / "function_app.py").write_text(_APP)
    (app / "host.json").write_bytes((PROJECT / "host.json").read_bytes())
    environ = {
        "KPAX_HOME": str(home.root),
        "KPAX_APP_DIR": str(app),
        "ServiceBus": connection_string(home),
    }
    port, bare_port = home.port("functions_host"), _free_port()
    with contextlib.ExitStack() as parts:
        parts.enter_context(_part(["-m", "local.service_bus"], environ, folder / "bus.log"))
        pid = parts.enter_context(
            _part(["-m", "local.functions_host"], environ, folder / "host.log")
        )
        parts.enter_context(
            _part(
                ["-m", "bench.functions_host", "--bare", str(bare_port)],
                {},
                folder / "bare.log",
            )
        )
        await _running(port, home.secret("master_key"))
        await _answering(bare_port)
        idle = await _idle_share(pid)
        host = await _requests(port, seconds)
        bare = await _requests(bare_port, seconds)
        waits = await _waits(connection_string(home), port, messages)
        return {
            "http_requests_per_s": round(host[0]),
            "http_p50_ms": host[1],
            "http_p99_ms": host[2],
            "bare_requests_per_s": round(bare[0]),
            "bare_p99_ms": bare[2],
            "http_share_of_bare": round(host[0] / bare[0], 2),
            "queue_wait_p50_ms": _quantile(waits, 0.5),
            "queue_wait_p99_ms": _quantile(waits, 0.99),
            "queue_wait_max_ms": round(max(waits), 1),
            "idle_cpu_percent": round(idle * 100, 1),
            "pss_mib": round(_pss_mib(pid)),
        }


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


async def _requests(port: int, seconds: float) -> tuple[float, float, float]:
    """Requests per second over a few connections, and the median and 99th percentile in ms."""
    took: list[float] = []
    await asyncio.gather(*(_client(port, 0.5, []) for _ in range(_CONNECTIONS)))
    started = time.perf_counter()
    await asyncio.gather(*(_client(port, seconds, took) for _ in range(_CONNECTIONS)))
    rate = len(took) / (time.perf_counter() - started)
    return rate, _quantile(took, 0.5), _quantile(took, 0.99)


async def _client(port: int, seconds: float, took: list[float]) -> None:
    """The cheapest client there is: it shares the processor with what it measures."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        writer.write(b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
        took.append((time.perf_counter() - started) * 1000)
    writer.close()


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


def _serve_bare(port: int) -> None:
    from aiohttp import web  # noqa: PLC0415 — only this process needs it

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/hello", hello)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


def _quantile(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 2)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
