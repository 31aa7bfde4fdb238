"""The administration calls, keys, the homepage and CORS, over a real socket."""

from __future__ import annotations

import asyncio
import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from local.errors import StackError
from local.functions_host.web.cors import read_cors
from local.functions_host.web.keys import HOST, SYSTEM, Keys, scope_of
from tests.local.functions_host.rig import (
    FUNCTION_KEY,
    MASTER_KEY,
    SETTINGS,
    MakeApp,
    Rig,
    RunHost,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

_MASTER = {"x-functions-key": MASTER_KEY}
_APP = """
ran = []
entered = asyncio.Event()
gate = asyncio.Event()
gate.set()

@app.route("keyed", auth_level=func.AuthLevel.FUNCTION)
async def keyed(req: func.HttpRequest) -> str:
    return "in"

@app.route("other", auth_level=func.AuthLevel.FUNCTION)
async def other(req: func.HttpRequest) -> str:
    return "in"

@app.timer_trigger("timer", schedule="0 0 2 * * *")
async def nightly(timer: func.TimerRequest) -> None:
    ran.append("nightly")

@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="q")
async def eats(msg: func.ServiceBusMessage) -> None:
    ran.append(msg.get_body().decode())
    entered.set()
    await gate.wait()
"""


async def _called(
    rig: Rig, method: str, path: str, *, key: str = MASTER_KEY, **more: object
) -> tuple[int, Any]:
    headers = {"x-functions-key": key}
    async with rig.client.request(method, rig.url(path), headers=headers, **more) as answer:
        text = await answer.text()
        is_json = answer.content_type == "application/json"
        return answer.status, json.loads(text) if is_json else text


async def test_a_function_is_described_with_its_bindings(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_APP)) as rig:
        status, found = await _called(rig, "GET", "/admin/functions/Keyed")
        assert status == 200
        assert (found["name"], found["isDisabled"]) == ("keyed", False)
        assert found["invoke_url_template"] == "/keyed"
        assert found["config"]["bindings"][0]["type"] == "httpTrigger"
        assert await _called(rig, "GET", "/admin/functions/keyed/status") == (
            200,
            {"errors": None},
        )
        for method, path in (
            ("GET", "/admin/functions/none/status"),
            ("DELETE", "/admin/functions/keyed"),
            ("GET", "/admin/host/none"),
            ("GET", "/admin/none"),
        ):
            assert (await _called(rig, method, path))[0] == 404, path


async def test_disabled_functions_are_silent_but_run_for_the_administrator(
    make_app: MakeApp, run_host: RunHost
) -> None:
    off = {f"AzureWebJobs.{name}.Disabled": "true" for name in ("keyed", "nightly", "eats")}
    # Without its functions the host needs no storage.
    environ = {"ServiceBus": "bus"} | off
    async with run_host(make_app(_APP), environ=environ) as rig:
        await rig.running()
        queue = rig.bus.queues["q"]
        await queue.put(b"from the queue")
        assert (await _called(rig, "GET", "/keyed", key=FUNCTION_KEY))[0] == 404
        assert await _called(rig, "GET", "/keyed") == (200, "in")
        assert (await _called(rig, "GET", "/other", key=FUNCTION_KEY))[0] == 200
        for name in ("nightly", "eats"):
            assert (await _called(rig, "GET", f"/admin/functions/{name}"))[1]["isDisabled"]
            done = await _called(rig, "POST", f"/admin/functions/{name}", json={"input": "me"})
            assert done[0] == 202
        await until(lambda: len(rig.app.ran) == 2)
        assert set(rig.app.ran) == {"nightly", "me"}
        assert (len(queue.waiting), rig.bus.most_links, rig.store.texts) == (1, 0, {})


async def test_a_draining_host_takes_no_message_and_finishes_what_runs(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_APP)) as rig:
        queue = rig.bus.queues["q"]
        assert (await _called(rig, "GET", "/admin/host/drain/status"))[1]["state"] == "Disabled"
        rig.app.gate.clear()
        await queue.put(b"running")
        await rig.app.entered.wait()
        assert (await _called(rig, "POST", "/admin/host/drain"))[0] == 200
        await queue.put(b"late")
        assert (await _called(rig, "GET", "/admin/host/drain/status"))[1] == {
            "state": "InProgress",
            "outstandingInvocations": 1,
            "outstandingRetries": 0,
        }
        rig.app.gate.set()
        assert await rig.host._invoker.drained(5)
        status = (await _called(rig, "GET", "/admin/host/drain/status"))[1]
        assert (status["state"], status["outstandingInvocations"]) == ("Completed", 0)
        await until(lambda: rig.bus.open_links == 0)
        assert rig.app.ran == ["running"]
        assert (len(queue.completed), len(queue.waiting)) == (1, 1)
        assert (await _called(rig, "GET", "/keyed"))[0] == 200


async def test_a_restart_is_asked_for_once_and_drains_first(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_APP)) as rig:
        await rig.bus.queues["q"].put(b"x")
        await rig.bus.queues["q"].until(lambda: rig.bus.queues["q"].completed)
        assert (await _called(rig, "POST", "/admin/host/restart"))[0] == 200
        async with asyncio.timeout(10):
            await rig.recycled.wait()
        assert rig.bus.closed


async def test_keys_are_listed_set_and_deleted_and_open_what_they_are_for(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_APP)) as rig:
        status, found = await _called(rig, "GET", "/admin/host/keys")
        assert status == 200
        assert found["keys"] == [{"name": "default", "value": FUNCTION_KEY}]
        assert found["links"] == [{"rel": "self", "href": rig.url("/admin/host/keys")}]
        own = (await _called(rig, "GET", "/admin/functions/keyed/keys"))[1]["keys"]
        assert [one["name"] for one in own] == ["default"]
        assert (await _called(rig, "GET", "/keyed", key=own[0]["value"]))[0] == 200
        assert (await _called(rig, "GET", "/other", key=own[0]["value"]))[0] == 401
        status, made = await _called(rig, "POST", "/admin/host/functionkeys/partner")
        assert status == 201
        again = await _called(rig, "PUT", "/admin/host/keys/partner", json={"value": "chosen"})
        assert (again[0], again[1]["value"]) == (200, "chosen")
        for path in ("/keyed", "/other"):
            assert (await _called(rig, "GET", path, key="chosen"))[0] == 200
            assert (await _called(rig, "GET", path, key=made["value"]))[0] == 401
        assert (await _called(rig, "GET", "/admin/host/keys/partner"))[1]["value"] == "chosen"
        assert (await _called(rig, "GET", "/admin/host/keys", key="chosen"))[0] == 401
        assert (await _called(rig, "DELETE", "/admin/host/keys/partner"))[0] == 204
        assert (await _called(rig, "DELETE", "/admin/host/keys/partner"))[0] == 404
        assert (await _called(rig, "GET", "/keyed", key="chosen"))[0] == 401


async def test_the_keys_of_the_home_are_shown_and_not_changed(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_APP)) as rig:
        master = await _called(rig, "GET", "/admin/host/systemkeys/_master")
        assert master[1]["value"] == MASTER_KEY
        assert (await _called(rig, "GET", "/admin/host/systemkeys"))[1]["keys"] == []
        assert (await _called(rig, "POST", "/admin/host/systemkeys/_master"))[0] == 409
        assert (await _called(rig, "DELETE", "/admin/host/systemkeys/_master"))[0] == 400
        assert (await _called(rig, "POST", "/admin/host/keys/default"))[0] == 409
        assert (await _called(rig, "DELETE", "/admin/host/keys/default"))[0] == 409
        for body in ({"value": ""}, {"value": 3}, {}, []):
            answer = await _called(rig, "PUT", "/admin/host/keys/k", json=body)
            assert answer[0] == 400, body
        for path in ("/admin/functions/none/keys", "/admin/host/keys/none"):
            assert (await _called(rig, "GET", path))[0] == 404
        assert (await _called(rig, "PATCH", "/admin/host/keys/default"))[0] == 404


def test_added_keys_outlive_the_host_in_a_file_of_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys = Keys(function="f", master="m", file=file)
    value, _ = keys.put(HOST, "Partner", None)
    own = keys.of(scope_of("Keyed"))
    again = Keys(function="f", master="m", file=file)
    assert again.of(HOST) == {"default": "f", "partner": value}
    assert again.of(scope_of("keyed")) == own
    assert again.get(SYSTEM, "_master") == "m"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert again.delete(HOST, "partner")
    assert Keys(function="f", master="m", file=file).of(HOST) == {"default": "f"}


async def test_the_host_has_a_page_of_its_own_at_the_root(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_APP)) as rig:
        status, page = await _called(rig, "GET", "/", key="")
        assert status == 200
        assert "Functions host" in page
        assert (await _called(rig, "GET", "/none", key=""))[0] == 404


async def test_the_page_is_turned_off_by_its_setting(
    make_app: MakeApp, run_host: RunHost
) -> None:
    environ = SETTINGS | {"AzureWebJobsDisableHomepage": "True"}
    async with run_host(make_app(_APP), environ=environ) as rig:
        assert await _called(rig, "GET", "/", key="") == (204, "")


async def test_a_function_at_the_root_wins_over_the_page(
    make_app: MakeApp, run_host: RunHost
) -> None:
    app = make_app(
        '@app.route("{*rest}")\nasync def all_(req: func.HttpRequest) -> str: return "mine"'
    )
    async with run_host(app) as rig:
        assert await _called(rig, "GET", "/", key="") == (200, "mine")


_CORS = {"CORS_ALLOWED_ORIGINS": '["https://console.test"]', "CORS_SUPPORT_CREDENTIALS": "true"}


async def test_a_page_of_an_allowed_origin_may_ask_and_call(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_APP), environ=SETTINGS | _CORS) as rig:
        asks = {
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "x-functions-key",
        }
        for origin, allowed in (
            ("https://console.test", "https://console.test"),
            ("https://elsewhere.test", None),
        ):
            answer = await rig.client.options(
                rig.url("/keyed"), headers=asks | {"Origin": origin}
            )
            assert answer.status == 204
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed
            answer = await rig.client.get(
                rig.url("/keyed"), headers=_MASTER | {"Origin": origin}
            )
            assert answer.status == 200
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed
            credentials = answer.headers.get("Access-Control-Allow-Credentials")
            assert credentials == ("true" if allowed else None)


async def test_without_the_setting_no_header_is_added(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_APP)) as rig:
        headers = {"Origin": "https://console.test", "Access-Control-Request-Method": "GET"}
        answer = await rig.client.options(rig.url("/keyed"), headers=headers)
        assert answer.status == 401  # the function's own affair
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({"CORS_ALLOWED_ORIGINS": "https://a.test"}, "JSON array"),
        ({"CORS_ALLOWED_ORIGINS": "[1]"}, "JSON array"),
        (
            {"CORS_ALLOWED_ORIGINS": '["*"]', "CORS_SUPPORT_CREDENTIALS": "true"},
            "cannot be true",
        ),
    ],
)
def test_malformed_cors_settings_are_refused_by_name(
    environ: dict[str, str], word: str
) -> None:
    with pytest.raises(StackError, match=f"CORS.*{word}"):
        read_cors(environ)
