"""HTTP functions over a real socket, through the real worker library."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from local.functions_host.web import server
from tests.local.functions_host.rig import FUNCTION_KEY, MASTER_KEY, MakeApp, RunHost

_ECHO = """
@app.route("echo/{id:int?}", methods=["GET", "POST"])
async def echo(req: func.HttpRequest) -> func.HttpResponse:
    import json
    return func.HttpResponse(json.dumps({
        "method": req.method, "route": dict(req.route_params), "params": dict(req.params),
        "body": req.get_body().decode(), "tag": req.headers.get("x-tag"), "url": req.url,
    }), mimetype="application/json", status_code=203, headers={"x-answer": "yes"})

@app.route("echo/special")
def special(req: func.HttpRequest) -> str:
    return "plain text"

@app.route("named/{name}")
async def named(req: func.HttpRequest) -> str:
    return "anybody"

@app.route("named/me")
async def me(req: func.HttpRequest) -> str:
    return "me"

@app.route("cookies")
def cookies(req: func.HttpRequest) -> func.HttpResponse:
    answer = func.HttpResponse("")
    answer.headers.add("Set-Cookie", "a=1; Path=/; HttpOnly; SameSite=Strict")
    answer.headers.add("Set-Cookie", "b=2; Secure; Max-Age=60; Domain=example.test")
    return answer

@app.route("fails")
async def fails(req: func.HttpRequest) -> func.HttpResponse:
    raise ValueError("on purpose")

@app.route("bytes")
async def octets(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(bytes(range(256)) + req.get_body(), mimetype="application/octet-stream")

@app.route("trace")
async def trace(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return func.HttpResponse(context.trace_context.trace_parent + " " + context.function_name)
"""


async def test_a_request_reaches_its_function_whole(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_ECHO)) as rig:
        answer = await rig.client.post(
            rig.url("/Echo/7?a=1&b=%20x&a=2&c="), data=b"body", headers={"X-Tag": "t"}
        )
        assert answer.status == 203
        assert answer.headers["x-answer"] == "yes"
        assert answer.content_type == "application/json"
        seen = await answer.json()
        assert seen["method"] == "POST"
        assert seen["route"] == {"id": "7"}
        assert seen["params"] == {"a": "1,2", "b": " x", "c": ""}
        assert (seen["body"], seen["tag"]) == ("body", "t")
        assert seen["url"].startswith(rig.url("/Echo/7"))


async def test_literals_win_and_optional_parts_may_be_missing(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_ECHO)) as rig:
        assert await (await rig.client.get(rig.url("/echo/special"))).text() == "plain text"
        assert await (await rig.client.get(rig.url("/named/you"))).text() == "anybody"
        assert await (await rig.client.get(rig.url("/named/me"))).text() == "me"
        assert (await (await rig.client.get(rig.url("/echo"))).json())["route"] == {}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/none"), ("GET", "/echo/x"), ("DELETE", "/echo/1"), ("GET", "/echo/1/2")],
)
async def test_what_no_route_has_is_not_found_a_wrong_method_too(
    make_app: MakeApp, run_host: RunHost, method: str, path: str
) -> None:
    async with run_host(make_app(_ECHO)) as rig:
        assert (await rig.client.request(method, rig.url(path))).status == 404


async def test_every_cookie_of_an_answer_survives(make_app: MakeApp, run_host: RunHost) -> None:
    async with run_host(make_app(_ECHO)) as rig:
        answer = await rig.client.get(rig.url("/cookies"))
        assert answer.headers.getall("Set-Cookie") == [
            "a=1; Path=/; HttpOnly; SameSite=Strict",
            "b=2; Domain=example.test; Max-Age=60; Secure",
        ]


async def test_a_body_over_the_limit_is_refused_before_the_function_runs(
    make_app: MakeApp, run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LARGEST_BODY", 1000)
    async with run_host(make_app(_ECHO)) as rig:
        for size, status in ((1000, 200), (1001, 413)):
            answer = await rig.client.post(rig.url("/bytes"), data=b"x" * size)
            assert answer.status == status


async def test_a_failing_function_answers_500_and_tells_nothing(
    make_app: MakeApp, run_host: RunHost, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_host(make_app(_ECHO)) as rig:
        answer = await rig.client.get(rig.url("/fails"))
        assert (answer.status, await answer.read()) == (500, b"")
    failed = [r for r in caplog.records if r.message == "invocation.failed"]
    assert failed[0].__dict__["error"] == "ValueError: on purpose"
    assert "on purpose" in failed[0].__dict__["trace"]


async def test_bytes_pass_both_ways_unchanged(make_app: MakeApp, run_host: RunHost) -> None:
    sent = bytes(range(255, -1, -1)) * 8192
    async with run_host(make_app(_ECHO)) as rig:
        answer = await rig.client.post(rig.url("/bytes"), data=sent)
        assert await answer.read() == bytes(range(256)) + sent


async def test_a_function_continues_the_caller_s_trace(
    make_app: MakeApp, run_host: RunHost
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with run_host(make_app(_ECHO)) as rig:
        sent = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        text = await (await rig.client.get(rig.url("/trace"), headers=sent)).text()
        parent, name = text.split()
        assert parent.split("-")[1] == trace
        assert parent.split("-")[2] != "00f067aa0ba902b7"
        assert name == "trace"
        own = await (await rig.client.get(rig.url("/trace"))).text()
        assert len(own.split()[0].split("-")[1]) == 32
        assert trace not in own


_LEVELS = """
@app.route("open", auth_level=func.AuthLevel.ANONYMOUS)
async def open_(req: func.HttpRequest) -> str:
    return "in"

@app.route("keyed", auth_level=func.AuthLevel.FUNCTION)
async def keyed(req: func.HttpRequest) -> str:
    return "in"

@app.route("owner", auth_level=func.AuthLevel.ADMIN)
async def owner(req: func.HttpRequest) -> str:
    return "in"
"""


async def test_a_key_opens_its_level_and_those_below(
    make_app: MakeApp, run_host: RunHost
) -> None:
    opened = {
        None: {"open"},
        "wrong": {"open"},
        FUNCTION_KEY: {"open", "keyed"},
        MASTER_KEY: {"open", "keyed", "owner"},
    }
    async with run_host(make_app(_LEVELS)) as rig:
        for key, expected in opened.items():
            for path in ("open", "keyed", "owner"):
                status = 200 if path in expected else 401
                headers = {"x-functions-key": key} if key else {}
                answer = await rig.client.get(rig.url(f"/{path}"), headers=headers)
                assert answer.status == status, (key, path)
                answer = await rig.client.get(rig.url(f"/{path}"), params={"code": key or ""})
                assert answer.status == status, (key, path)


async def test_the_admin_calls_take_the_master_key_alone(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_LEVELS)) as rig:
        for path in ("/admin/host/status", "/admin/functions", "/admin/functions/keyed"):
            for key, status in ((FUNCTION_KEY, 401), ("", 401), (MASTER_KEY, 200)):
                headers = {"x-functions-key": key}
                assert (await rig.client.get(rig.url(path), headers=headers)).status == status
        master = {"x-functions-key": MASTER_KEY}
        assert await rig.status() | {"processUptime": 0} == {
            "id": "host-1",
            "state": "Running",
            "functionCount": 3,
            "processUptime": 0,
        }
        listed = await (
            await rig.client.get(rig.url("/admin/functions"), headers=master)
        ).json()
        assert {one["name"] for one in listed} == {"open_", "keyed", "owner"}
        assert listed[0]["config"]["bindings"][0]["type"] == "httpTrigger"
        answer = await rig.client.get(rig.url("/admin/functions/none"), headers=master)
        assert answer.status == 404


_SLOW = """
entered = asyncio.Event()
let_go = asyncio.Event()

@app.route("slow")
async def slow(req: func.HttpRequest) -> str:
    entered.set()
    await let_go.wait()
    return "finished"
"""


async def test_a_stopping_host_finishes_what_runs_and_refuses_what_comes(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_SLOW)) as rig:
        running = asyncio.create_task(rig.client.get(rig.url("/slow")))
        await rig.app.entered.wait()
        stopping = asyncio.create_task(rig.host.stop())
        await asyncio.sleep(0)
        refused = await rig.client.get(rig.url("/slow"))
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) > 0
        rig.app.let_go.set()
        assert await (await running).text() == "finished"
        await stopping
        with pytest.raises(aiohttp.ClientConnectorError):
            await rig.client.get(rig.url("/slow"))


async def test_a_caller_who_hangs_up_does_not_stop_the_function(
    make_app: MakeApp, run_host: RunHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with run_host(make_app(_SLOW)) as rig:
        running = asyncio.create_task(rig.client.get(rig.url("/slow")))
        await rig.app.entered.wait()
        running.cancel()
        await asyncio.wait({running})
        rig.app.let_go.set()
        assert await rig.host._invoker.drained(5)
    assert "invocation.succeeded" in caplog.messages


async def test_a_function_over_its_time_fails_and_the_process_is_to_be_replaced(
    make_app: MakeApp, run_host: RunHost, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_host(make_app(_SLOW, functionTimeout="00:00:00.2")) as rig:
        assert (await rig.client.get(rig.url("/slow"))).status == 500
        async with asyncio.timeout(5):
            await rig.recycled.wait()
        rig.app.let_go.set()
    because = [r.__dict__["because"] for r in caplog.records if r.message == "host.recycling"]
    assert because == ["slow went over functionTimeout"]


async def test_a_disabled_function_is_not_reached_but_listed(
    make_app: MakeApp, run_host: RunHost
) -> None:
    environ = {"AzureWebJobs.open_.Disabled": "1"}
    async with run_host(make_app(_LEVELS), environ=environ) as rig:
        assert (await rig.client.get(rig.url("/open"))).status == 404
        assert (await rig.status())["functionCount"] == 3


async def _spoken(port: int, *lines: bytes) -> bytes:
    """The status line of the answer to a request written by hand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"\r\n".join([b"POST /echo HTTP/1.1", *lines, b"Content-Length: 1", b"", b"x"])
    )
    answer = await reader.readline()
    writer.close()
    return answer


async def test_no_header_whatever_is_our_own_failure(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_ECHO)) as rig:
        port = int(rig.url("").rsplit(":", 1)[1].strip("/"))
        assert b" 203 " in await _spoken(port, b"Host: a", b"Content-Encoding: gzip")
        assert b" 203 " in await _spoken(port, b"Host: a", b"x-functions-key: \xff")
        assert b" 400 " in await _spoken(port, b"Host: \xff")
        assert b" 400 " in await _spoken(port, b"Host: a b:c")
