"""The host as a process: start, refusal, drain, recycling, crash."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest

from local.home import Home
from tests.local.functions_host.processes import host_process
from tests.local.functions_host.rig import MakeApp, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.stack

_APP = """
import os, sys, threading
count = 0

@app.route("count")
async def count_up(req: func.HttpRequest) -> str:
    global count
    count += 1
    return f"{os.getpid()} {count} {os.getcwd()}"

@app.route("keyed", auth_level=func.AuthLevel.FUNCTION)
async def keyed(req: func.HttpRequest) -> str:
    return "in"

@app.route("sleep/{seconds}")
async def sleep(req: func.HttpRequest) -> str:
    await asyncio.sleep(float(req.route_params["seconds"]))
    return "slept"

@app.route("block/{seconds}")
async def block(req: func.HttpRequest) -> str:
    time.sleep(float(req.route_params["seconds"]))
    return "blocked"

@app.route("hang")
def hang(req: func.HttpRequest) -> str:
    threading.Event().wait()
    return "never"

@app.route("die")
def die(req: func.HttpRequest) -> str:
    os._exit(9)
"""


async def test_a_started_host_runs_takes_its_keys_from_the_home_and_ends_on_sigterm(
    make_app: MakeApp, tmp_path: Path
) -> None:
    app = make_app(_APP)
    async with host_process(app, tmp_path / "home") as host:
        status = await host.running()
        assert status["functionCount"] == 6
        key = host.home.secret("function_key")
        assert (await host.client.get(host.url("/keyed"))).status == 401
        answer = await host.client.get(host.url("/keyed"), params={"code": key})
        assert answer.status == 200
        pid, _, folder = (await (await host.client.get(host.url("/count"))).text()).split()
        assert (int(pid), folder) == (host.pid, str(app))
        host.process.send_signal(signal.SIGTERM)
        assert await host.ended() == 0
        assert key not in host.log.read_text(encoding="utf-8")


async def test_the_id_of_the_host_outlives_its_process(
    make_app: MakeApp, tmp_path: Path
) -> None:
    app, ids = make_app(_APP), []
    for _ in range(2):
        async with host_process(app, tmp_path / "home") as host:
            ids.append((await host.running())["id"])
    assert ids[0] == ids[1]


async def test_sigterm_lets_a_running_request_finish(make_app: MakeApp, tmp_path: Path) -> None:
    async with host_process(make_app(_APP), tmp_path / "home") as host:
        await host.running()
        running = asyncio.create_task(host.client.get(host.url("/sleep/0.6")))
        async with aiohttp.ClientSession() as other:
            await other.get(host.url("/count"))
        host.process.send_signal(signal.SIGTERM)
        assert await (await running).text() == "slept"
        assert await host.ended() == 0


_TIMER = '@app.timer_trigger("t", schedule="%NIGHT%")\ndef nightly(t: func.TimerRequest) -> None: ...'
_QUEUE = (
    '@app.service_bus_queue_trigger("m", connection="Bus", queue_name="q")\n'
    "def eater(m: func.ServiceBusMessage) -> None: ..."
)
_BATCH = (
    '@app.service_bus_queue_trigger("m", connection="B", queue_name="q", '
    "cardinality=func.Cardinality.MANY)\ndef batch(m: list[func.ServiceBusMessage]) -> None: ..."
)


def _retried(delay: str, *, strategy: str = "fixed_delay") -> str:
    decorator, function = _TIMER.replace("%NIGHT%", "0 0 2 * * *").split("\n")
    policy = f'strategy="{strategy}", max_retry_count="3", delay_interval="{delay}"'
    return f"{decorator}\n@app.retry({policy})\n{function}"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import nothing_of_this_name", ["nothing_of_this_name", "(function_app.py, line 7)"]),
        ("import sys; sys.exit(3)", ["ends the process", "3"]),
        ("def broken(:", ["SyntaxError"]),
        (_QUEUE.replace("m: func", "other: func"), ["eater", "other"]),
        (_QUEUE + "\n" + _QUEUE, ["eater", "unique"]),
        (_retried("soon"), ["nightly", "retry policy", "'soon'"]),
        (_retried("00:00:01", strategy="linear"), ["nightly", "retry policy", "'linear'"]),
        (_BATCH, ["batch"]),
        (_TIMER, ["nightly", "NIGHT"]),
        (_QUEUE, ["eater", "Bus"]),
        (_TIMER.replace("%NIGHT%", "0 0 2 * * *"), ["nightly", "AzureWebJobsStorage"]),
    ],
)
async def test_an_app_that_cannot_start_ends_the_host_with_the_reason(
    make_app: MakeApp, tmp_path: Path, code: str, words: list[str]
) -> None:
    async with host_process(make_app(code), tmp_path / "home") as host:
        assert await host.ended() != 0
        said = host.log.read_text(encoding="utf-8").splitlines()[-1]
        assert said.startswith("functions_host: ")
        for word in words:
            assert word in said
        assert not said.endswith("..")


async def test_a_taken_port_ends_the_host_with_its_number(
    make_app: MakeApp, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    port = Home.open(tmp_path / "home").port("functions_host")
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()
        async with host_process(make_app(_APP), tmp_path / "home") as host:
            assert await host.ended() == 1
            said = host.log.read_text(encoding="utf-8")
            assert said.startswith(f"functions_host: Port {port} is taken")


@pytest.mark.parametrize("path", ["/sleep/1000", "/hang", "/block/1000"])
async def test_a_function_over_its_time_costs_a_fresh_interpreter_under_the_same_pid(
    make_app: MakeApp, tmp_path: Path, path: str
) -> None:
    app = make_app(_APP, functionTimeout="00:00:00.4")
    async with host_process(app, tmp_path / "home") as host:
        await host.running()
        for expected in ("1", "2"):
            text = await (await host.client.get(host.url("/count"))).text()
            assert text.split()[:2] == [str(host.pid), expected]
        try:
            assert (await host.client.get(host.url(path))).status == 500
        except aiohttp.ClientError:
            assert path == "/block/1000"  # nobody is left to answer
        await until(lambda: host.events().count("host.started") == 2)
        await host.running()
        text = await (await host.client.get(host.url("/count"))).text()
        assert text.split()[:2] == [str(host.pid), "1"]
        host.process.send_signal(signal.SIGTERM)
        assert await host.ended() == 0


async def test_a_function_that_blocks_the_loop_is_named_with_its_line(
    make_app: MakeApp, tmp_path: Path
) -> None:
    async with host_process(make_app(_APP), tmp_path / "home") as host:
        await host.running()
        assert (await host.client.get(host.url("/block/0.7"))).status == 200
        line = await host.logged("loop.blocked")
        assert line["functions"] == ["block"]
        assert line["where"].startswith("function_app.py:")
        assert line["where"].endswith("in block")
        assert line["lag_ms"] >= 300


async def test_a_crash_ends_the_host_and_nothing_starts_it_again(
    make_app: MakeApp, tmp_path: Path
) -> None:
    async with host_process(make_app(_APP), tmp_path / "home") as host:
        await host.running()
        with pytest.raises(aiohttp.ClientError):
            await host.client.get(host.url("/die"))
        assert await host.ended() == 9
        assert await host.status() is None


async def test_a_small_app_needs_little_memory(make_app: MakeApp, tmp_path: Path) -> None:
    async with host_process(make_app(_APP), tmp_path / "home") as host:
        await host.running()
        with open(f"/proc/{host.pid}/smaps_rollup", encoding="ascii") as file:  # noqa: PTH123, ASYNC230 — the kernel answers at once
            pss_kib = next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        assert pss_kib < 60 * 1024
        assert len(os.listdir(f"/proc/{host.pid}/task")) <= 4  # noqa: PTH208 — likewise
